package traffic

import (
	"math"
	"strconv"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// scene is one kind of genuine transaction.
type scene struct {
	channel string
	share   float64 // of genuine transactions, in percent
	play    func(*Generator, payment.Time, *person, string)
}

// scenes add up to 100.
var scenes = [...]scene{
	{"qr", 27, (*Generator).shop},
	{"in_app", 15, (*Generator).online},
	{"transit", 12, (*Generator).ride},
	{"mini_program", 10, (*Generator).online},
	{"web", 9, (*Generator).online},
	{"pos", 9, (*Generator).shop},
	{"in_app", 5, (*Generator).sendMoney},
	{"face", 4, (*Generator).shop},
	{"bill", 4, (*Generator).payBill},
	{"in_app", 2.5, (*Generator).topUp},
	{"in_app", 1.5, (*Generator).withdraw},
	{"in_app", 1, (*Generator).returnGoods},
}

// genuine makes a genuine transaction in g.tx and returns who pays.
func (g *Generator) genuine(now payment.Time) *person {
	p := g.somebody(now)
	u, i := g.rng.Float64()*100, 0
	for i < len(scenes)-1 && u >= scenes[i].share {
		u -= scenes[i].share
		i++
	}
	g.begin(p)
	scenes[i].play(g, now, p, scenes[i].channel)
	if p.account == g.tx.Payer.AccountID { // a return may be somebody else's
		p.transactions++
	}
	return p
}

// begin resets g.tx to what every transaction of a person carries.
func (g *Generator) begin(p *person) {
	t := &g.tx
	*t = payment.Transaction{Channel: "in_app", Type: payment.TypePayment}
	t.Payer.AccountID, t.Payer.Country = p.account, regions[p.home].country
	t.Payer.Email, t.Payer.Phone = p.email, p.phone
	t.Locale = regions[p.home].locale
	g.decides = 300 * time.Millisecond
	if g.rng.IntN(10) == 0 {
		g.decides = 0
	}
}

// pay sets an amount, given in fen, in the money of a region; always more than nothing.
func (g *Generator) pay(fen float64, region uint8) {
	m := &g.money[region]
	g.tx.Amount = payment.Money{Value: max(1, int64(fen/m.worth)), Currency: m.Currency}
}

// payRound is pay with an amount that people choose: a multiple of ten yuan or its like.
func (g *Generator) payRound(fen float64, region uint8) {
	g.pay(fen, region)
	v := &g.tx.Amount.Value
	step := int64(1000)
	if g.tx.Amount.Currency.Digits() == 0 {
		step = 100
	}
	*v = max(step, (*v+step/2)/step*step)
}

// spend returns what the person pays a seller of a category, in fen.
func (g *Generator) spend(p *person, category uint8) float64 {
	return p.usual * categories[category].factor * math.Exp(0.4*g.rng.NormFloat64())
}

func (g *Generator) payTo(m *merchant) {
	t := &g.tx
	t.Payee.AccountID, t.Payee.MerchantID = m.account, m.account
	t.Payee.MCC, t.Payee.Country = categories[m.category].mcc, regions[m.region].country
}

// use sets the instrument: a card, mostly the first, or the wallet.
func (g *Generator) use(p *person, byCard float64) {
	if g.rng.Float64() < byCard {
		which := 0
		if g.rng.Float64() < 0.2 {
			which = 1
		}
		g.charge(&p.cards[which])
		return
	}
	g.tx.Instrument.Kind, g.tx.Instrument.Token = "balance", p.balance
}

func (g *Generator) charge(c *card) {
	i := &g.tx.Instrument
	i.Kind, i.Token, i.BIN, i.Bank = "card", c.token, c.bank.bin, c.bank.name
}

// hold sets the device that the person holds, mostly the first, with its address.
func (g *Generator) hold(p *person) {
	d := &g.tx.Device
	if d.ID = p.devices[0]; g.rng.Float64() < 0.12 {
		d.ID = p.devices[1]
	}
	if g.rng.Float64() < 0.0003 { // a new one
		p.devices[0] = newToken(g.rng, "d-")
	}
	d.Country = regions[p.place].country
	switch {
	case p.place != p.home:
		d.IP = mobileAddress(g.rng, p.place)
	case g.rng.Float64() < 0.6:
		d.IP = p.homeIP
	default:
		d.IP = p.mobileIP
	}
	g.tx.AuthMethods = p.auth
}

// stand sets where the person is.
func (g *Generator) stand(p *person, now payment.Time) {
	d := &g.tx.Device
	d.Country = regions[p.place].country
	d.Lat, d.Lon = g.locate(p, now)
	d.Located = true
}

// canWait says that the payer is looking at a page that can ask for more.
func (g *Generator) canWait() {
	g.tx.Accepts = payment.AcceptsStated | payment.AcceptsHold | payment.AcceptsStepUp
}

func (g *Generator) order() {
	g.tx.OrderID = "A-" + g.idPrefix[4:] + strconv.FormatInt(g.made, 10)
}

func (g *Generator) at(m *merchant, terminal int) {
	g.tx.Terminal.ID, g.tx.Terminal.Country = m.terminals[terminal], regions[m.region].country
}

// shop is a payment in a shop, where the person is.
func (g *Generator) shop(now payment.Time, p *person, channel string) {
	m := g.market.choose(g.rng, g.market.shops[p.place], p.index)
	g.tx.Channel = channel
	g.payTo(m)
	g.at(m, g.rng.IntN(len(m.terminals)))
	g.pay(g.spend(p, m.category), m.region)
	switch channel {
	case "pos": // the card, not the phone
		g.use(p, 1)
		g.tx.Device.Country = regions[p.place].country
	case "qr":
		g.use(p, p.byCard)
		g.hold(p)
	default: // the shop's camera
		g.use(p, p.byCard)
		g.tx.AuthMethods = authMethods[2]
	}
	if g.rng.Float64() < 0.6 {
		g.stand(p, now)
	}
}

// online is a purchase on a page or in an app, seldom from abroad.
func (g *Generator) online(now payment.Time, p *person, channel string) {
	where := p.home
	if g.rng.Float64() < 0.06 {
		where = somewhereElse(g.rng, p.home)
	}
	m := g.market.choose(g.rng, g.market.online[where], p.index)
	g.tx.Channel = channel
	g.payTo(m)
	g.pay(g.spend(p, m.category), m.region)
	g.use(p, p.byCard)
	g.hold(p)
	g.canWait()
	g.order()
	if channel != "web" && g.rng.Float64() < 0.5 {
		g.stand(p, now)
	}
	if g.rng.IntN(4) == 0 {
		g.tx.Attributes = baskets[g.rng.IntN(len(baskets))]
	}
}

// baskets are shared by all transactions that carry one.
var baskets = [...][]payment.Attribute{{{Name: "basket_size", Value: "1"}}, {{Name: "basket_size", Value: "2"}}, {{Name: "basket_size", Value: "3"}}}

// ride is a turnstile: little money, and no way to wait.
func (g *Generator) ride(now payment.Time, p *person, channel string) {
	m := g.market.choose(g.rng, g.market.selling[p.place][categoryTransit], p.index)
	g.tx.Channel = channel
	g.payTo(m)
	g.at(m, g.rng.IntN(len(m.terminals)))
	g.pay(float64(200+50*g.rng.IntN(13)), m.region)
	g.use(p, p.byCard/2)
	g.hold(p)
	g.tx.AuthMethods = nil
	g.tx.Accepts = payment.AcceptsStated
}

// payBill is electricity, water, gas or the telephone.
func (g *Generator) payBill(_ payment.Time, p *person, channel string) {
	kind := categoryUtility + g.rng.IntN(2)
	m := g.market.choose(g.rng, g.market.selling[p.home][kind], p.index)
	g.tx.Channel = channel
	g.payTo(m)
	g.pay(float64(5000+g.rng.IntN(30000)), m.region)
	g.use(p, p.byCard)
	g.hold(p)
	g.canWait()
	g.order()
}

// sendMoney is a transfer to one of a few friends, seldom to somebody new.
func (g *Generator) sendMoney(now payment.Time, p *person, _ string) {
	n := uint64(len(g.people))
	friend := &g.people[(p.index+1+g.rng.Uint64N(min(5, n-1)))%n]
	if g.rng.Float64() < 0.05 {
		friend = &g.people[(p.index+1+g.rng.Uint64N(n-1))%n]
	}
	g.transfer(p, friend.account, regions[friend.home].country, p.usual*2*math.Exp(0.7*g.rng.NormFloat64()))
	g.hold(p)
	if g.rng.IntN(2) == 0 {
		g.stand(p, now)
	}
}

func (g *Generator) transfer(p *person, to, country string, fen float64) {
	t := &g.tx
	t.Type = payment.TypeTransfer
	t.Payee.AccountID, t.Payee.Country = to, country
	t.Instrument.Kind, t.Instrument.Token = "balance", p.balance
	g.payRound(fen, p.home)
	g.canWait()
}

// topUp fills the wallet from a card.
func (g *Generator) topUp(_ payment.Time, p *person, _ string) {
	g.tx.Type = payment.TypeTopUp
	g.payRound(p.usual*4*math.Exp(0.5*g.rng.NormFloat64()), p.home)
	g.use(p, 1)
	g.hold(p)
	g.canWait()
}

// withdraw takes money out of the wallet.
func (g *Generator) withdraw(_ payment.Time, p *person, _ string) {
	g.tx.Type = payment.TypeWithdrawal
	g.payRound(p.usual*6*math.Exp(0.5*g.rng.NormFloat64()), p.home)
	g.use(p, 0)
	g.hold(p)
	g.canWait()
}

// sale is a purchase that can be returned.
type sale struct {
	tx   payment.Transaction
	open bool
}

// returnGoods refunds a purchase of some time ago; a shop visit if there is none.
func (g *Generator) returnGoods(now payment.Time, p *person, _ string) {
	s := &g.sold[g.sales%len(g.sold)] // the oldest
	if !s.open {
		g.shop(now, p, "qr")
		return
	}
	s.open = false
	r := g.refundOf(*s)
	g.tx, g.decides = r.tx, r.decides
}

// refundOf returns the whole amount of a purchase to its payer.
func (g *Generator) refundOf(s sale) *plan {
	r := &plan{tx: s.tx, decides: 2 * time.Second}
	r.tx.Type = payment.TypeRefund
	r.tx.OriginalTransactionID = s.tx.ID
	r.tx.Device.Located, r.tx.Device.Lat, r.tx.Device.Lon = false, 0, 0
	r.tx.Attributes = nil
	return r
}
