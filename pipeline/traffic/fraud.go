package traffic

import (
	"math"
	"strconv"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// scenario is one kind of fraud. Either it starts by itself (start), or it
// starts from a genuine payment that suits it (from). Both report whether it did.
type scenario struct {
	label  Label
	weight float64 // how often it is chosen; its transactions are this times its size
	start  func(*Generator, payment.Time) bool
	from   func(*Generator, payment.Time, *person) bool
}

var scenarios = [...]scenario{
	{label: CardTesting, weight: 6, start: (*Generator).testCard},
	{label: AccountTakeover, weight: 25, start: (*Generator).takeOver},
	{label: CompromisedTerminal, weight: 20, from: (*Generator).compromise},
	{label: MuleFanIn, weight: 4, start: (*Generator).fanIn},
	{label: AmountSpike, weight: 25, from: (*Generator).spike},
	{label: ImpossibleTravel, weight: 20, from: (*Generator).fly},
	{label: DuplicateCharge, weight: 20, from: (*Generator).chargeTwice},
	{label: RefundAbuse, weight: 5, start: (*Generator).abuseRefunds},
}

// known is how many transactions a person has made before something can be
// unusual for that person.
const known = 8

// playFraud starts the next fraud when less than FraudShare of the transactions
// were fraudulent so far.
func (g *Generator) playFraud(now payment.Time) {
	if float64(g.frauds) >= g.cfg.FraudShare*float64(g.made) || g.planned.len() >= maxPlanned {
		return
	}
	if g.awaited != Genuine {
		if g.patience--; g.patience <= 0 {
			g.awaited = Genuine
		}
		return
	}
	var total float64
	for i := range scenarios {
		total += scenarios[i].weight
	}
	u, i := g.rng.Float64()*total, 0
	for i < len(scenarios)-1 && u >= scenarios[i].weight {
		u -= scenarios[i].weight
		i++
	}
	if s := &scenarios[i]; s.start != nil {
		s.start(g, now)
	} else {
		g.awaited, g.patience = s.label, 100
	}
}

// follow looks at the genuine payment in g.tx that was just made: goods may be
// returned, a terminal may copy the card, and a fraud may wait for just this.
func (g *Generator) follow(now payment.Time, p *person) {
	t := &g.tx
	if t.Type == payment.TypePayment && t.OrderID != "" {
		g.sold[g.sales%len(g.sold)] = sale{*t, true}
		g.sales++
	}
	if t.Channel == "pos" && len(g.skimming) > 0 {
		g.skim(now, p)
	}
	if g.awaited == Genuine {
		return
	}
	for i := range scenarios {
		if s := &scenarios[i]; s.label == g.awaited && s.from(g, now, p) {
			g.awaited = Genuine
			return
		}
	}
}

// victim returns a person with habits; one who is asleep if asleep is asked for
// and somebody suitable is. nil if nobody has habits yet.
func (g *Generator) victim(now payment.Time, asleep bool) *person {
	var found *person
	for range 60 {
		n := len(g.people)
		if g.rng.IntN(4) > 0 {
			n /= 5
		}
		p := &g.people[g.rng.IntN(n)]
		if p.transactions < known || now < p.arrives {
			continue
		}
		if found = p; !asleep || awake[p.hour(now)] < 0.2 {
			break
		}
	}
	return found
}

// fraudster is somebody new, with a device of no history.
type fraudster struct {
	account, device, ip string
	region              uint8
}

// newFraudster returns one who is anywhere but in a region.
func (g *Generator) newFraudster(notIn uint8) fraudster {
	networks := [...]string{"192.0.2.", "198.51.100.", "203.0.113."}
	return fraudster{
		account: "u-" + strconv.FormatUint(20_000_000+g.rng.Uint64N(70_000_000), 10),
		device:  newToken(g.rng, "d-"),
		ip:      networks[g.rng.IntN(len(networks))] + strconv.Itoa(1+g.rng.IntN(254)),
		region:  somewhereElse(g.rng, notIn),
	}
}

// as makes g.tx a transaction of the fraudster's own account.
func (g *Generator) as(f *fraudster) {
	g.begin(&person{account: f.account, home: f.region})
	g.on(f)
}

// on puts g.tx on the fraudster's device.
func (g *Generator) on(f *fraudster) {
	d := &g.tx.Device
	d.ID, d.IP, d.Country = f.device, f.ip, regions[f.region].country
	d.Located = false
	g.tx.AuthMethods = authMethods[0]
}

// take returns g.tx as a plan.
func (g *Generator) take() *plan { return &plan{tx: g.tx, decides: g.decides} }

func (g *Generator) seconds(least, most float64) time.Duration {
	return time.Duration((least + g.rng.Float64()*(most-least)) * float64(time.Second))
}

// testCard tries a stolen card with small amounts, then uses it.
func (g *Generator) testCard(now payment.Time) bool {
	owner := &g.people[g.rng.IntN(len(g.people))]
	f := g.newFraudster(owner.home)
	shop := g.market.choose(g.rng, g.market.online[f.region], owner.index)
	at := g.seconds(1, 20)
	for range 7 + g.rng.IntN(7) {
		g.as(&f)
		g.webPurchase(shop, float64(50+g.rng.IntN(400)))
		g.charge(&owner.cards[0])
		g.plan(now, at, g.take(), CardTesting)
		at += g.seconds(8, 35)
	}
	g.as(&f)
	g.webPurchase(shop, float64(150_000+g.rng.IntN(500_000)))
	g.charge(&owner.cards[0])
	g.plan(now, at+g.seconds(20, 120), g.take(), CardTesting)
	return true
}

func (g *Generator) webPurchase(m *merchant, fen float64) {
	g.tx.Channel = "web"
	g.payTo(m)
	g.pay(fen, m.region)
	g.canWait()
	g.tx.OrderID = newToken(g.rng, "A-")
}

// takeOver uses somebody's account from far away, rather at night.
func (g *Generator) takeOver(now payment.Time) bool {
	p := g.victim(now, g.rng.IntN(2) == 0)
	if p == nil {
		return false
	}
	f := g.gang // who goes through a list of accounts with one device
	if f.device == "" || f.region == p.place || g.rng.IntN(3) == 0 {
		f = g.newFraudster(p.place)
	}
	g.gang = f
	at := g.seconds(1, 60)
	for range 1 + g.rng.IntN(3) {
		g.begin(p)
		if fen := max(300_000, p.usual*(20+40*g.rng.Float64())); g.rng.IntN(3) > 0 {
			mule := g.newFraudster(f.region)
			g.transfer(p, mule.account, regions[mule.region].country, fen)
		} else {
			g.webPurchase(g.electronics(f.region), fen)
			g.charge(&p.cards[0])
		}
		g.on(&f)
		g.plan(now, at, g.take(), AccountTakeover)
		at += g.seconds(20, 180)
	}
	return true
}

func (g *Generator) electronics(region uint8) *merchant {
	return g.market.choose(g.rng, g.market.selling[region][categoryElectronics], g.rng.Uint64())
}

// skimmer is a terminal that copies cards.
type skimmer struct {
	terminal string
	until    payment.Time
	victims  []*person
}

const (
	maxSkimming = 32 // terminals at a time
	maxCopies   = 6  // cards of one terminal
)

// compromise begins to copy cards at the terminal of a genuine payment.
func (g *Generator) compromise(now payment.Time, p *person) bool {
	if g.tx.Channel != "pos" || len(g.skimming) >= maxSkimming || g.planned.len() >= maxPlanned/2 { // they stay for days
		return false
	}
	g.skimming = append(g.skimming, skimmer{terminal: g.tx.Terminal.ID, until: now.Add(2 * day), victims: []*person{p}})
	return true
}

// skim copies the card of the payment in g.tx if its terminal does that, and
// plans the use of what was copied.
func (g *Generator) skim(now payment.Time, p *person) {
	for i := range g.skimming {
		s := &g.skimming[i]
		if s.terminal == g.tx.Terminal.ID {
			s.victims = append(s.victims, p)
		}
		if len(s.victims) >= maxCopies || now > s.until {
			if len(s.victims) >= 3 {
				g.useCopies(now, s)
			}
			g.skimming = append(g.skimming[:i], g.skimming[i+1:]...)
			return
		}
	}
}

// useCopies spends copied cards days later: in shops far away, or from one
// device on the web.
func (g *Generator) useCopies(now payment.Time, s *skimmer) {
	at := g.cfg.sooner(g.between(day, 5*day))
	f := g.newFraudster(s.victims[0].home)
	clones := g.rng.IntN(2) == 0
	for i, p := range s.victims {
		if i > 0 && p == s.victims[i-1] {
			continue
		}
		fen := 40_000 + 160_000*g.rng.Float64()
		shop := g.electronics(f.region)
		if clones {
			g.begin(p)
			g.tx.Channel = "pos"
			g.payTo(shop)
			g.at(shop, g.rng.IntN(len(shop.terminals)))
			g.pay(fen, shop.region)
			g.there(f.region)
		} else {
			g.as(&f)
			g.webPurchase(shop, fen)
		}
		g.charge(&p.cards[0])
		g.plan(now, at, g.take(), CompromisedTerminal)
		at += g.seconds(60, 400)
	}
}

// there places g.tx somewhere in a region.
func (g *Generator) there(region uint8) {
	r, d := &regions[region], &g.tx.Device
	d.Country = r.country
	d.Lat = math.Round((r.lat+0.05*g.rng.NormFloat64())*1e4) / 1e4
	d.Lon = math.Round((r.lon+0.05*g.rng.NormFloat64())*1e4) / 1e4
	d.Located = true
}

// fanIn lets many who were told a story send money to one new account.
func (g *Generator) fanIn(now payment.Time) bool {
	first := &g.people[g.rng.IntN(len(g.people))]
	mule := g.newFraudster(first.home)
	mule.region = first.home // a neighbour, by the look of it
	at := g.seconds(1, 60)
	var total float64
	for range 8 + g.rng.IntN(7) {
		p := g.somebody(now)
		fen := 80_000 + 300_000*g.rng.Float64()
		total += fen
		g.begin(p)
		g.transfer(p, mule.account, regions[mule.region].country, fen)
		g.hold(p)
		g.plan(now, at, g.take(), MuleFanIn)
		at += g.seconds(20, 150)
	}
	g.as(&mule)
	g.tx.Type = payment.TypeWithdrawal
	g.tx.Instrument.Kind, g.tx.Instrument.Token = "balance", "w"+mule.account[1:]
	g.canWait()
	g.payRound(total*(0.8+0.15*g.rng.Float64()), mule.region)
	g.plan(now, at+g.seconds(60, 600), g.take(), MuleFanIn)
	return true
}

// spike lets somebody with habits pay six to twelve times as much as usual.
func (g *Generator) spike(now payment.Time, p *person) bool {
	if p.transactions < known || p.place != p.home || g.tx.Payer.AccountID != p.account {
		return false
	}
	shop := g.electronics(p.home)
	g.begin(p)
	g.webPurchase(shop, p.typical()*(6+6*g.rng.Float64()))
	g.use(p, 0.8)
	g.hold(p)
	g.plan(now, g.seconds(20, 300), g.take(), AmountSpike)
	return true
}

// fly pays far away from where the payer has just been.
func (g *Generator) fly(now payment.Time, p *person) bool {
	if !g.tx.Device.Located || g.tx.Payer.AccountID != p.account {
		return false
	}
	f := g.newFraudster(p.place)
	for distance(p.lat, p.lon, regions[f.region].lat, regions[f.region].lon) < 1500 {
		f.region = somewhereElse(g.rng, p.place)
	}
	shop := g.market.choose(g.rng, g.market.shops[f.region], g.rng.Uint64())
	g.begin(p)
	g.tx.Channel = "qr"
	g.payTo(shop)
	g.at(shop, g.rng.IntN(len(shop.terminals)))
	g.pay(p.usual*(1+2*g.rng.Float64()), f.region)
	g.use(p, 1)
	g.on(&f)
	g.there(f.region)
	g.plan(now, g.seconds(60, 480), g.take(), ImpossibleTravel)
	return true
}

// chargeTwice repeats an order under a new transaction id.
func (g *Generator) chargeTwice(now payment.Time, _ *person) bool {
	if g.tx.Type != payment.TypePayment || g.tx.OrderID == "" {
		return false
	}
	g.plan(now, g.seconds(1, 55), g.take(), DuplicateCharge)
	return true
}

// abuseRefunds lets somebody buy much and return it all at once.
func (g *Generator) abuseRefunds(now payment.Time) bool {
	p := g.victim(now, false)
	if p == nil {
		return false
	}
	at := g.seconds(1, 30)
	for range 7 + g.rng.IntN(5) {
		g.begin(p)
		g.webPurchase(g.market.choose(g.rng, g.market.online[p.home], p.index), p.usual*(0.8+g.rng.Float64()))
		g.use(p, p.byCard)
		g.hold(p)
		purchase := g.take()
		purchase.refund = g.seconds(600, 1500)
		g.plan(now, at, purchase, Genuine)
		at += g.seconds(20, 90)
	}
	return true
}
