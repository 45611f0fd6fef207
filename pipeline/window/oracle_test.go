package window

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// The oracle keeps every event in a slice and computes each value from its
// definition, with no thought of speed.
type oracle struct {
	events  []oracleEvent
	ordinal int
}

type oracleEvent struct {
	tx        payment.Transaction
	base      int64
	based     bool
	ordinal   int
	verdict   payment.Verdict
	verdictAt int
	outcomes  []oracleOutcome
}

type oracleOutcome struct {
	time    payment.Time
	kind    payment.OutcomeKind
	ordinal int
}

// status is the last outcome with event time <= t at a position before `at`.
func (e *oracleEvent) status(t payment.Time, at int) (kind payment.OutcomeKind, fraud bool) {
	var last, label payment.Time = math.MinInt64, math.MinInt64
	for _, o := range e.outcomes {
		if o.time > t || o.ordinal > at {
			continue
		}
		if o.time >= last {
			last, kind = o.time, o.kind
		}
		if (o.kind == payment.OutcomeFraudConfirmed || o.kind == payment.OutcomeFraudCleared) && o.time >= label {
			label, fraud = o.time, o.kind == payment.OutcomeFraudConfirmed
		}
	}
	return kind, fraud
}

func (o *oracle) find(id string) int {
	for i := range o.events {
		if o.events[i].tx.ID == id {
			return i
		}
	}
	return -1
}

// facts are what the test's predicates look at, written out once for the
// oracle; the store's own predicates are made from Fields.
func (o *oracle) passes(name string, e *oracleEvent, t payment.Time, at int) bool {
	kind, fraud := e.status(t, at)
	switch name {
	case "":
		return true
	case "not failed":
		return kind != payment.OutcomeTechnicalFailure
	case "fraud":
		return fraud
	case "not blocked":
		return !(e.verdict == payment.Block && e.verdictAt < at)
	case "web":
		return e.tx.Channel == "web"
	}
	panic(name)
}

type named struct {
	Feature
	where, condition string
}

func (o *oracle) value(f named, own *oracleEvent) payment.Value {
	id := f.Entity.ID(&own.tx)
	if id == "" {
		return payment.Value{}
	}
	t, at := own.tx.EventTime, own.ordinal
	high := t - payment.Time(f.Delay)
	low := high - payment.Time(f.Length)
	switch f.Calendar {
	case CalendarDay:
		local := high.Std().In(f.Location)
		low = payment.TimeOf(time.Date(local.Year(), local.Month(), local.Day(), 0, 0, 0, 0, f.Location)) - 1
	case CalendarMonth:
		local := high.Std().In(f.Location)
		low = payment.TimeOf(time.Date(local.Year(), local.Month(), 1, 0, 0, 0, 0, f.Location)) - 1
	default:
		if f.Length == 0 {
			low = math.MinInt64
		}
	}
	var in []*oracleEvent // the events of the window that pass, in time order
	for i := range o.events {
		e := &o.events[i]
		if f.Entity.ID(&e.tx) == id && e.ordinal <= at && e.tx.EventTime > low && e.tx.EventTime <= high && o.passes(f.where, e, t, at) {
			in = append(in, e)
		}
	}
	var previous *oracleEvent
	previousIn := func(ok func(*oracleEvent) bool) {
		for _, e := range in {
			if e != own && ok(e) && (previous == nil || e.tx.EventTime > previous.tx.EventTime || e.tx.EventTime == previous.tx.EventTime && e.ordinal > previous.ordinal) {
				previous = e
			}
		}
	}
	anyEvent := func(*oracleEvent) bool { return true }
	sum, squares, n := new(big.Int), new(big.Int), int64(0)
	lowest, highest := int64(math.MaxInt64), int64(math.MinInt64)
	for _, e := range in {
		if e.based {
			v := big.NewInt(e.base)
			sum.Add(sum, v)
			squares.Add(squares, new(big.Int).Mul(v, v))
			n++
			lowest, highest = min(lowest, e.base), max(highest, e.base)
		}
	}
	switch f.Aggregate {
	case Count:
		return payment.IntValue(int64(len(in)))
	case Sum:
		return payment.IntValue(sum.Int64())
	case Avg:
		if n == 0 {
			return payment.Value{}
		}
		v, _ := new(big.Rat).SetFrac(sum, big.NewInt(n)).Float64()
		return payment.FloatValue(v)
	case StdDev:
		if n < 2 {
			return payment.FloatValue(0)
		}
		d := new(big.Int).Sub(new(big.Int).Mul(squares, big.NewInt(n)), new(big.Int).Mul(sum, sum))
		v, _ := new(big.Float).SetInt(d).Float64()
		return payment.FloatValue(math.Sqrt(v) / float64(n))
	case Min, Max:
		if n == 0 {
			return payment.Value{}
		}
		if f.Aggregate == Min {
			return payment.IntValue(lowest)
		}
		return payment.IntValue(highest)
	case Distinct:
		set := map[string]bool{}
		for _, e := range in {
			if f.Field.Name == "channel" && e.tx.Channel != "" {
				set[e.tx.Channel] = true
			}
			if f.Field.Name == "payee" && e.tx.Payee.AccountID != "" {
				set[e.tx.Payee.AccountID] = true
			}
		}
		return payment.IntValue(int64(len(set)))
	case Share:
		yes := 0
		for _, e := range in {
			if o.passes(f.condition, e, t, at) {
				yes++
			}
		}
		if len(in) == 0 {
			return payment.FloatValue(0)
		}
		return payment.FloatValue(float64(yes) / float64(len(in)))
	case SinceFirst:
		first := payment.Time(math.MaxInt64)
		for _, e := range in {
			first = min(first, e.tx.EventTime)
		}
		if len(in) == 0 {
			return payment.Value{}
		}
		return payment.FloatValue(float64(t-first) / 1e9)
	case Last:
		if previousIn(anyEvent); previous == nil || previous.tx.Channel == "" {
			return payment.Value{}
		}
		return payment.StringValue(previous.tx.Channel)
	case SinceLast:
		if previousIn(anyEvent); previous == nil {
			return payment.Value{}
		}
		return payment.FloatValue(float64(t-previous.tx.EventTime) / 1e9)
	case SpeedKMH:
		previousIn(func(e *oracleEvent) bool { return e.tx.Device.Located })
		if previous == nil || !own.tx.Device.Located {
			return payment.Value{}
		}
		a, b := previous.tx.Device, own.tx.Device
		km := Distance(a.Lat, a.Lon, b.Lat, b.Lon)
		if km == 0 {
			return payment.FloatValue(0)
		}
		return payment.FloatValue(km / (float64(max(1, t-previous.tx.EventTime)) / 3600e9))
	}
	panic("unknown aggregate")
}

// testFeatures is every aggregate over plain, delayed and calendar windows, with
// and without predicates that change after the event.
func testFeatures(t testing.TB) []named {
	fields := map[string]*Field{}
	for _, f := range Fields() {
		fields[f.Name] = &f
	}
	text := func(field, want string, equal bool) Predicate {
		return func(e *Event) Truth {
			v := fields[field].Get(e)
			if v.Kind() == payment.Absent {
				return Unknown
			}
			return TruthOf((v.Str() == want) == equal)
		}
	}
	notFailed := text("status", "technical_failure", false)
	fraud := func(e *Event) Truth { v := fields["fraud"].Get(e); return TruthOf(v.Bool()) }
	notBlocked := text("verdict", "block", false)
	shanghai, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		t.Fatal(err)
	}
	var all []named
	for _, entity := range []string{"payer", "card", "payer_payee"} {
		e, _ := ParseEntity(entity)
		for i, w := range []struct {
			length, delay time.Duration
			calendar      Calendar
		}{{length: time.Minute}, {length: time.Hour}, {length: 10 * time.Minute, delay: 5 * time.Minute}, {calendar: CalendarDay}, {calendar: CalendarMonth}} {
			add := func(a Aggregate, field, where, condition string) {
				f := Feature{Entity: e, Name: fmt.Sprintf("%s_%s_%s_%d", a, where, condition, i), Aggregate: a, Length: w.length, Delay: w.delay, Calendar: w.calendar, Location: shanghai, Field: fields[field]}
				f.ReadsStatus = where == "not failed" || condition == "fraud"
				f.ReadsVerdict = where == "not blocked"
				f.Where = map[string]Predicate{"not failed": notFailed, "fraud": fraud, "not blocked": notBlocked, "web": text("channel", "web", true)}[where]
				f.Condition = map[string]Predicate{"fraud": fraud, "web": text("channel", "web", true)}[condition]
				all = append(all, named{f, where, condition})
			}
			for _, where := range []string{"", "not failed", "not blocked", "web"} {
				for _, a := range []Aggregate{Count, Sum, Avg, Min, Max, StdDev, SinceFirst, SinceLast, SpeedKMH} {
					add(a, "", where, "")
				}
				add(Distinct, "channel", where, "")
				add(Distinct, "payee", where, "")
				add(Share, "", where, "fraud")
				add(Share, "", where, "web")
				add(Last, "channel", where, "")
			}
		}
	}
	return all
}

// A seeded history of equal times, late payments, repeats, outcomes before and
// after their transactions, corrected labels and verdicts, through a store that
// is closed and opened again in between, gives at every payment exactly what the
// definitions say.
func TestEveryValueIsTheDefinitionAsOfThisPayment(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { checkHistory(t, seed, 400) })
	}
}

func checkHistory(t *testing.T, seed uint64, steps int) {
	rng := rand.New(rand.NewPCG(seed, 7))
	features := testFeatures(t)
	plain := make([]Feature, len(features))
	for i := range features {
		plain[i] = features[i].Feature
	}
	opts := Options{Features: plain, Lateness: 40 * 24 * time.Hour, SegmentBytes: 8 << 10}
	if seed%2 == 1 {
		opts.Dir = t.TempDir()
	}
	store, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	o := &oracle{}
	waiting := map[string][]oracleOutcome{}
	clock := payment.Time(1_800_000_000e9)
	kafka := clock
	var dec []payment.Transaction
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	for step := range steps {
		switch rng.IntN(10) {
		case 0:
			clock += payment.Time(time.Hour) * payment.Time(rng.IntN(30))
		case 1, 2, 3:
			clock += payment.Time(time.Second) * payment.Time(rng.IntN(200))
		}
		kafka = max(kafka, clock)
		switch r := rng.IntN(20); {
		case r < 11: // a payment, sometimes late
			tx := payment.Transaction{ID: fmt.Sprint("t", step), Type: payment.TypePayment, Channel: pick("web", "qr", "pos", ""), EventTime: clock}
			if rng.IntN(4) == 0 {
				tx.EventTime -= payment.Time(time.Second) * payment.Time(rng.IntN(7200))
			}
			tx.Payer.AccountID = pick("p1", "p2")
			tx.Payee.AccountID = pick("m1", "m2", "")
			tx.Instrument.Token, tx.Instrument.Kind = pick("c1", "c2"), pick("card", "card", "balance")
			tx.Amount = payment.Money{Value: rng.Int64N(100_000)}
			if rng.IntN(20) == 0 {
				tx.Amount.Value = math.MaxInt64/512 - rng.Int64N(1000)
			}
			if rng.IntN(3) > 0 {
				tx.Device.Located, tx.Device.Lat, tx.Device.Lon = true, float64(rng.IntN(180)-90), float64(rng.IntN(360)-180)
			}
			dec = append(dec, tx)
			e := oracleEvent{tx: tx, base: tx.Amount.Value, based: rng.IntN(10) > 0, ordinal: o.ordinal}
			o.ordinal++
			o.events = append(o.events, e)
			o.check(t, store, features, len(o.events)-1, kafka)
			for _, w := range waiting[tx.ID] {
				w.ordinal = o.ordinal
				o.ordinal++
				last := &o.events[len(o.events)-1]
				last.outcomes = append(last.outcomes, w)
			}
		case r < 13 && len(dec) > 0: // a payment comes again
			o.check(t, store, features, rng.IntN(len(o.events)), kafka)
		case r < 17: // an outcome, before or after its payment
			id, n := fmt.Sprint("t", rng.IntN(step+5)), 0
			kinds := []payment.OutcomeKind{payment.OutcomeSettled, payment.OutcomeTechnicalFailure, payment.OutcomeFraudConfirmed, payment.OutcomeFraudCleared}
			out := oracleOutcome{time: clock - payment.Time(time.Minute)*payment.Time(rng.IntN(120)), kind: kinds[rng.IntN(len(kinds))], ordinal: o.ordinal}
			items := []*OutcomeItem{{Outcome: &payment.Outcome{ID: fmt.Sprint("o", step), TransactionID: id, Kind: out.kind, EventTime: out.time}, Since: kafka}}
			items = append(items, &OutcomeItem{Outcome: items[0].Outcome, Since: kafka})
			for _, it := range items { // identical ones count once, in one call or two
				if err := store.Outcomes(t.Context(), []*OutcomeItem{it}); err != nil {
					t.Fatal(err)
				}
			}
			if items[1].Status != OutcomeRepeated {
				t.Fatalf("an identical outcome was %v", items[1].Status)
			}
			o.ordinal++
			if n = o.find(id); n >= 0 {
				o.events[n].outcomes = append(o.events[n].outcomes, out)
			} else {
				waiting[id] = append(waiting[id], out)
			}
		case r < 19 && len(o.events) > 0: // a verdict
			e := &o.events[rng.IntN(len(o.events))]
			v := payment.Verdict(1 + rng.IntN(3))
			if err := store.Decided(t.Context(), []Mark{{Tx: store.Key().Tx(e.tx.ID), Verdict: v}}); err != nil {
				t.Fatal(err)
			}
			if e.verdict == 0 {
				e.verdict, e.verdictAt = v, o.ordinal
			}
			o.ordinal++
		case opts.Dir != "":
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}
			if store, err = Open(opts); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// check sends event n to the store, as new or once more, and compares every value.
func (o *oracle) check(t *testing.T, store *Embedded, features []named, n int, kafka payment.Time) {
	t.Helper()
	own := &o.events[n]
	it := &Item{Tx: &own.tx, KafkaTime: kafka, Base: own.base, Based: own.based}
	if err := store.Append(t.Context(), []*Item{it}); err != nil {
		t.Fatal(err)
	}
	for i, f := range features {
		want := o.value(f, own)
		if got := it.Values[i]; !same(got, want) {
			gj, _ := got.MarshalJSON()
			wj, _ := want.MarshalJSON()
			t.Fatalf("payment %s of %d: %s is %s, by definition %s", own.tx.ID, len(o.events), f.FullName(), gj, wj)
		}
	}
}

func same(a, b payment.Value) bool {
	if a.Kind() == payment.Float && b.Kind() == payment.Float {
		x, y := a.Float(), b.Float()
		return x == y || math.Abs(x-y) <= 1e-12*math.Max(math.Abs(x), math.Abs(y))
	}
	return a == b
}
