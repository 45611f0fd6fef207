package traffic

import (
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Generator makes the stream of its Config. It never ends. One generator serves
// one goroutine.
type Generator struct {
	cfg    Config
	rng    *rand.Rand // of what happens, not of who there is
	people []person
	market *market
	money  [len(regions)]struct {
		payment.Currency
		worth float64 // of one minor unit, in fen
	}

	arrival  payment.Time        // of the next genuine payment, to the nanosecond
	planned  queue[*plan]        // transactions to come, about maxPlanned at most
	outcomes queue[outcome]      // outcomes to come, at most maxOutcomes
	tx       payment.Transaction // scratch: the one being made
	result   payment.Outcome     // scratch, too
	decides  time.Duration       // what decide_by leaves
	room     []byte              // where records are written; never written twice
	idPrefix string              // of transaction ids: tells generators apart
	made     int64               // transactions so far
	early    int                 // planned transactions that came on top of the arrivals: as many arrivals are left out
	frauds   int64               // fraudulent transactions made, or planned for soon
	awaited  Label               // the fraud that waits for a genuine payment to start from
	patience int                 // arrivals that it still waits
	sold     [1024]sale          // a ring of recent online purchases, for refunds
	sales    int                 // how many were ever put there
	gang     fraudster           // who took over an account last
	skimming []skimmer           // terminals that copy cards now
}

// plan is a transaction to come.
type plan struct {
	tx      payment.Transaction
	decides time.Duration
	label   Label
	counted bool          // in Generator.frauds
	refund  time.Duration // after it the purchase is returned by an abuser; 0: it is kept
}

// New returns a generator that begins at cfg.Start.
func New(cfg Config) *Generator {
	cfg = cfg.withDefaults()
	who := rand.New(rand.NewPCG(cfg.Seed, 1))
	g := &Generator{
		cfg:     cfg,
		rng:     rand.New(rand.NewPCG(cfg.Seed, uint64(cfg.Start))),
		market:  newMarket(who, cfg.Merchants),
		people:  newPeople(who, cfg.People, cfg.Start),
		arrival: cfg.Start,
	}
	for i := range regions {
		c, _ := payment.ParseCurrency(regions[i].currency)
		g.money[i].Currency = c
		g.money[i].worth = rates[regions[i].currency] * 100 / math.Pow10(c.Digits())
	}
	run := strconv.FormatUint(1_000_000+g.rng.Uint64N(1_000_000), 10)
	g.idPrefix = "4200" + run[1:]
	return g
}

// never is later than all that a Generator makes.
const never = payment.Time(math.MaxInt64)

// Next returns the next record. Event times never go back.
func (g *Generator) Next() Event {
	for {
		planned, outcome := g.planned.next(never), g.outcomes.next(never)
		switch {
		case outcome <= g.arrival && outcome <= planned:
			return g.emitOutcome()
		case planned <= g.arrival:
			at, p := g.planned.pop()
			g.early++
			g.tx, g.decides = p.tx, p.decides
			if p.label != Genuine && !p.counted {
				g.frauds++
			}
			e := g.emit(at, p.label)
			if p.refund != 0 {
				g.plan(at, p.refund, g.refundOf(sale{g.tx, true}), RefundAbuse)
			}
			return e
		}
		at := g.arrival
		g.arrival += 1 + payment.Time(g.rng.ExpFloat64()/g.cfg.Rate*1e9)
		if g.early > 0 { // so that the rate is the rate of all transactions
			g.early--
			continue
		}
		g.playFraud(at)
		p := g.genuine(at)
		e := g.emit(at, Genuine)
		g.follow(at, p)
		return e
	}
}

// emit completes the transaction in g.tx, which takes place now, and writes it.
func (g *Generator) emit(now payment.Time, label Label) Event {
	now -= now % 1e6 // payment services send milliseconds
	t := &g.tx
	g.made++
	t.ID = g.newID(now)
	t.EventTime = now
	if t.DecideBy = 0; g.decides != 0 {
		t.DecideBy = now.Add(g.decides)
	}
	if now < g.cfg.Patient {
		t.DecideBy = g.cfg.Patient.Add(time.Minute)
	}
	g.expect(now, label)
	return Event{Time: now, Kind: payment.RecordTransaction, Key: t.Payer.AccountID, Value: g.write(t), Label: label}
}

// newID returns 28 digits: the platform's, the day, and a number.
func (g *Generator) newID(now payment.Time) string {
	var id [28]byte
	var date [40]byte
	d := now.AppendRFC3339(date[:0])
	copy(id[:], g.idPrefix)
	copy(id[10:], d[0:4])
	copy(id[14:], d[5:7])
	copy(id[16:], d[8:10])
	for i, n := len(id)-1, g.made; i >= 18; i-- {
		id[i] = byte('0' + n%10)
		n /= 10
	}
	return string(id[:])
}

// write appends the record to a block of its own memory: one allocation serves
// a hundred records.
func (g *Generator) write(record interface{ Append([]byte) []byte }) []byte {
	const block, most = 64 << 10, 2 << 10
	if cap(g.room)-len(g.room) < most {
		g.room = make([]byte, 0, block)
	}
	v := record.Append(g.room[len(g.room):])
	if n := len(g.room) + len(v); n <= cap(g.room) {
		g.room = g.room[:n]
	}
	return v[:len(v):len(v)]
}

// maxPlanned bounds the transactions to come: beyond it no fraud begins and
// nobody tries again.
const maxPlanned = 1 << 16

// plan puts a transaction delay after now.
func (g *Generator) plan(now payment.Time, delay time.Duration, p *plan, label Label) {
	p.label = label
	if label != Genuine && delay < time.Hour {
		p.counted = true
		g.frauds++
	}
	g.planned.push(now.Add(max(delay, time.Millisecond)), p)
}
