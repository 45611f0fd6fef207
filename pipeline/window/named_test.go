package window

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// The cases that broke other engines, each by its name.

const day = 24 * time.Hour

var morning = payment.TimeOf(time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC))

// opened is a store that the test closes.
func opened(t testing.TB, opts Options) *Embedded {
	t.Helper()
	s, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // a test that closes it itself may
	return s
}

// paying is a payment by a payer, at the time at which Kafka gets it.
func paying(id, payer string, at payment.Time, amount int64) *Item {
	tx := &payment.Transaction{ID: id, Type: payment.TypePayment, EventTime: at}
	tx.Payer.AccountID = payer
	return &Item{Tx: tx, KafkaTime: at, Base: amount, Based: true}
}

func appended(t testing.TB, s Store, items ...*Item) *Item {
	t.Helper()
	if err := s.Append(t.Context(), items); err != nil {
		t.Fatal(err)
	}
	return items[len(items)-1]
}

func field(name string) *Field {
	for _, f := range Fields() {
		if f.Name == name {
			return &f
		}
	}
	panic("no field " + name)
}

var payer = Entity{First: Payer}

func countOf(of Entity, length time.Duration) Feature {
	return Feature{Entity: of, Name: fmt.Sprint("count_", length), Aggregate: Count, Length: length}
}

func TestAbsentAndEmptyKeysNeverMeet(t *testing.T) {
	pair, _ := ParseEntity("payer_payee")
	s := opened(t, Options{Features: []Feature{countOf(Entity{First: Payee}, day), countOf(pair, day), countOf(Entity{First: Card}, day)}})
	for i := range 3 {
		it := paying(fmt.Sprint("t", i), "u", morning, 1)
		if i == 1 {
			it.Tx.Instrument.Kind = "card" // and no token
		}
		appended(t, s, it)
		for k, v := range it.Values {
			if v.Kind() != payment.Absent {
				t.Errorf("payment %d names no payee and no card: value %d is %s", i, k, asJSON(v))
			}
		}
	}
}

func TestOneAnd23IsNot12And3(t *testing.T) {
	pair, _ := ParseEntity("payer_payee")
	s := opened(t, Options{Features: []Feature{countOf(pair, day)}})
	for i, p := range [][2]string{{"1", "23"}, {"12", "3"}, {"3", "12"}, {"23", "1"}, {"1|2", "3"}, {"1", "2|3"}, {"123", "123"}} {
		it := paying(fmt.Sprint("t", i), p[0], morning, 1)
		it.Tx.Payee.AccountID = p[1]
		if got := appended(t, s, it).Values[0].Int(); got != 1 {
			t.Errorf("the pair of %q and %q has %d payments", p[0], p[1], got)
		}
	}
}

// A payer and a payee of one name are two entities.
func TestKindsOfOneNameNeverMeet(t *testing.T) {
	s := opened(t, Options{Features: []Feature{countOf(payer, day), countOf(Entity{First: Payee}, day)}})
	appended(t, s, paying("t1", "x", morning, 1))
	it := paying("t2", "y", morning, 1)
	it.Tx.Payee.AccountID = "x"
	if got := appended(t, s, it).Values[1].Int(); got != 1 {
		t.Errorf("the payee x has %d payments, one of them made by the payer x", got)
	}
}

func TestVarianceOfABillionAndAFewIsRight(t *testing.T) {
	s := opened(t, Options{Features: []Feature{{Entity: payer, Name: "stddev", Aggregate: StdDev, Length: 10 * time.Minute}}})
	// Payments that come and go before must leave nothing behind.
	for i := range 1000 {
		appended(t, s, paying(fmt.Sprint("before", i), "u", morning.Add(-time.Hour+time.Duration(i)*time.Second), math.MaxInt64/int64(i+600)))
	}
	var it *Item
	for i, v := range []int64{4, 7, 13, 16} {
		it = appended(t, s, paying(fmt.Sprint("t", i), "u", morning, 1e9+v))
	}
	if got, want := it.Values[0].Float(), math.Sqrt(22.5); math.Abs(got-want) > 1e-15*want {
		t.Errorf("the standard deviation is %v, not %v", got, want)
	}
}

func TestALateEventSeesNothingLaterThanItself(t *testing.T) {
	s := opened(t, Options{Features: []Feature{
		countOf(payer, time.Hour),
		{Entity: payer, Name: "max", Aggregate: Max, Length: time.Hour},
		{Entity: payer, Name: "last", Aggregate: Last, Field: field("channel"), Length: time.Hour},
		{Entity: payer, Name: "failed", Aggregate: Count, Length: time.Hour, ReadsStatus: true, Where: func(e *Event) Truth { return TruthOf(e.status == payment.OutcomeTechnicalFailure) }},
	}})
	minute := func(n int) payment.Time { return morning.Add(time.Duration(n) * time.Minute) }
	for i, m := range []int{0, 10, 20, 30, 100} {
		it := paying(fmt.Sprint("t", i), "u", minute(m), int64(m))
		it.Tx.Channel = fmt.Sprint("at", m)
		appended(t, s, it)
	}
	err := s.Outcomes(t.Context(), []*OutcomeItem{{Outcome: &payment.Outcome{ID: "o", TransactionID: "t1", Kind: payment.OutcomeTechnicalFailure, EventTime: minute(40)}}})
	if err != nil {
		t.Fatal(err)
	}
	late := func(id string, m int) *Item {
		it := paying(id, "u", minute(m), 1)
		it.Tx.Channel = id
		it.KafkaTime = minute(100)
		return appended(t, s, it)
	}
	it := late("late", 25)
	if it.Values[0].Int() != 4 || it.Values[1].Int() != 20 || it.Values[2].Str() != "at20" || it.Values[3].Int() != 0 {
		t.Errorf("at minute 25: count %s, max %s, last %s, failed %s", asJSON(it.Values[0]), asJSON(it.Values[1]), asJSON(it.Values[2]), asJSON(it.Values[3]))
	}
	it = late("later", 45) // and now the failure is known, and the first late one counts
	if it.Values[0].Int() != 6 || it.Values[3].Int() != 1 {
		t.Errorf("at minute 45: count %s, failed %s", asJSON(it.Values[0]), asJSON(it.Values[3]))
	}
}

func TestAWindowLongAfterItsLastEventIsEmpty(t *testing.T) {
	var features []Feature
	for _, length := range []time.Duration{time.Minute, time.Hour, 20 * day} {
		for _, a := range []Aggregate{Count, Sum, Avg, Min, Max, StdDev, Distinct, SinceFirst, SinceLast} {
			features = append(features, Feature{Entity: payer, Name: fmt.Sprint(a, length), Aggregate: a, Length: length, Field: field("channel")})
		}
		features = append(features, Feature{Entity: payer, Name: fmt.Sprint("delayed", length), Aggregate: Sum, Length: length, Delay: time.Second})
	}
	for _, after := range []time.Duration{21 * day, 60 * day, 200 * day} { // in the ring, dropped from it, gone from the log
		s := opened(t, Options{Features: features, SegmentBytes: 2 << 10, Keep: 30 * day})
		for i := range 100 {
			it := paying(fmt.Sprint("t", i), "u", morning.Add(time.Duration(i)*time.Second), 7)
			it.Tx.Channel = fmt.Sprint(i % 5)
			appended(t, s, it)
		}
		for i := range 100 { // others go on
			appended(t, s, paying(fmt.Sprint("other", i), "o", morning.Add(after*time.Duration(i)/100), 7))
		}
		it := paying("again", "u", morning.Add(after), 9)
		it.Tx.Channel = "x"
		appended(t, s, it)
		for k, f := range features {
			want := payment.IntValue(map[Aggregate]int64{Count: 1, Sum: 9, Min: 9, Max: 9, Distinct: 1}[f.Aggregate])
			switch {
			case f.Delay > 0:
				want = payment.IntValue(0)
			case f.Aggregate == Avg:
				want = payment.FloatValue(9)
			case f.Aggregate == StdDev, f.Aggregate == SinceFirst:
				want = payment.FloatValue(0)
			case f.Aggregate == SinceLast:
				want = payment.Value{}
			}
			if it.Values[k] != want {
				t.Errorf("%v later, %s is %s, not %s", after, f.Name, asJSON(it.Values[k]), asJSON(want))
			}
		}
	}
}

func TestARedeliveredEventCountsOnce(t *testing.T) {
	for _, decided := range []bool{false, true} { // with a verdict the store leaves it to the ledger to know
		opts := Options{Dir: t.TempDir(), Features: []Feature{countOf(payer, day), {Entity: payer, Name: "sum", Aggregate: Sum, Length: day}}}
		s := opened(t, opts)
		first := appended(t, s, paying("t", "u", morning, 5))
		if decided {
			if err := s.Decided(t.Context(), []Mark{{Tx: first.Hash, Verdict: payment.Approve, Offset: 1}}); err != nil {
				t.Fatal(err)
			}
		}
		again := paying("t", "u", morning, 5)
		twice := []*Item{again, paying("t", "u", morning, 5), paying("t2", "u", morning.Add(time.Second), 5), paying("t2", "u", morning.Add(time.Second), 5)}
		appended(t, s, twice...)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = opened(t, opts)
		twice = append(twice, paying("t2", "u", morning.Add(time.Second), 5))
		appended(t, s, twice[len(twice)-1])
		for i, want := range []int64{1, 1, 2, 2, 2} {
			if got := twice[i].Values[0].Int(); got != want || twice[i].Values[1].Int() != 5*want {
				t.Errorf("decided %v: delivery %d counts %d, not %d", decided, i, got, want)
			}
		}
		if !slices.Equal(first.Positions, again.Positions) {
			t.Errorf("decided %v: its position was %v and became %v", decided, first.Positions, again.Positions)
		}
		if got := appended(t, s, paying("t3", "u", morning.Add(2*time.Second), 5)).Values[0].Int(); got != 3 {
			t.Errorf("decided %v: the next one counts %d payments, not 3", decided, got)
		}
	}
}

// What an entity's events took is given back when they have left all windows,
// and the entity itself goes when memory is short.
func TestAnIdleEntityIsFreed(t *testing.T) {
	s := opened(t, Options{Features: []Feature{countOf(payer, time.Hour)}, Lateness: time.Hour, Memory: 64 << 10})
	for i := range 2000 {
		appended(t, s, paying(fmt.Sprint("t", i), "idle", morning.Add(time.Duration(i)*time.Millisecond), 1))
	}
	full := s.Size()
	appended(t, s, paying("next", "idle", morning.Add(3*day), 1))
	if freed := s.Size(); freed.FoldBytes > full.FoldBytes/10 {
		t.Errorf("2,000 events took %d bytes, and without them the entity takes %d", full.FoldBytes, freed.FoldBytes)
	}
	for i := range 2000 {
		appended(t, s, paying(fmt.Sprint("o", i), fmt.Sprint("other", i), morning.Add(3*day+time.Duration(i)*time.Millisecond), 1))
	}
	if size := s.Size(); size.Evicted < 1000 || size.Entities > 1000 {
		t.Errorf("of 2,001 entities %d were evicted and %d are left", size.Evicted, size.Entities)
	}
	if _, ok := s.folders[0].find(s.Key().EntityKey(payer, paying("", "idle", 0, 0).Tx)); ok {
		t.Error("the entity that was idle the longest is still there")
	}
}

func TestAReloadWithAChangedWindowRecomputesIt(t *testing.T) {
	s := opened(t, Options{Features: []Feature{countOf(payer, time.Minute)}, SegmentBytes: 2 << 10})
	for i := range 100 {
		it := paying(fmt.Sprint("t", i), "u", morning.Add(time.Duration(i)*time.Minute), int64(i))
		it.Tx.Channel = fmt.Sprint(i % 2)
		it.Tx.Device.ID = "d"
		appended(t, s, it)
	}
	features := []Feature{
		countOf(payer, 50*time.Minute),
		{Entity: payer, Name: "even", Aggregate: Count, Length: 50 * time.Minute, Where: func(e *Event) Truth { return TruthOf(e.entry.text(textChannel) == "0") }},
		{Entity: payer, Name: "sum", Aggregate: Sum, Length: 10 * time.Minute, Delay: 20 * time.Minute},
		countOf(Entity{First: Device}, 30*time.Minute), // a kind that nobody looked at before
	}
	if err := s.Use(t.Context(), features); err != nil {
		t.Fatal(err)
	}
	it := paying("now", "u", morning.Add(100*time.Minute), 1)
	it.Tx.Device.ID = "d"
	appended(t, s, it)
	for k, want := range []int64{50, 24, 71 + 72 + 73 + 74 + 75 + 76 + 77 + 78 + 79 + 80, 30} {
		if got := it.Values[k].Int(); got != want {
			t.Errorf("%s is %d, not %d", features[k].Name, got, want)
		}
	}
}

// No rate, no place, no channel: the feature that reads it does without, and
// all others have their values.
func TestOneBadValueFailsOneFeatureNotThePayment(t *testing.T) {
	features := []Feature{
		countOf(payer, day),
		{Entity: payer, Name: "sum", Aggregate: Sum, Length: day},
		{Entity: payer, Name: "avg", Aggregate: Avg, Length: day},
		{Entity: payer, Name: "speed", Aggregate: SpeedKMH, Length: day},
		{Entity: payer, Name: "channels", Aggregate: Distinct, Field: field("channel"), Length: day},
		{Entity: payer, Name: "last", Aggregate: Last, Field: field("channel"), Length: day},
	}
	s := opened(t, Options{Features: features})
	good := func(id string, at payment.Time) *Item {
		it := paying(id, "u", at, 10)
		it.Tx.Channel = "web"
		it.Tx.Device.Located, it.Tx.Device.Lat, it.Tx.Device.Lon = true, 31, 121
		return it
	}
	appended(t, s, good("t1", morning))
	bad := paying("t2", "u", morning.Add(time.Hour), 0)
	bad.Based = false
	appended(t, s, bad)
	for k, want := range []payment.Value{payment.IntValue(2), payment.IntValue(10), payment.FloatValue(10), {}, payment.IntValue(1), payment.StringValue("web")} {
		if bad.Values[k] != want {
			t.Errorf("of the bad payment %s is %s, not %s", features[k].Name, asJSON(bad.Values[k]), asJSON(want))
		}
	}
	next := good("t3", morning.Add(2*time.Hour))
	next.Tx.Device.Lat = 32
	appended(t, s, next)
	speed := Distance(31, 121, 32, 121) / 2 // from the last one that had a place
	for k, want := range []payment.Value{payment.IntValue(3), payment.IntValue(20), payment.FloatValue(10), payment.FloatValue(speed), payment.IntValue(1), {}} {
		if !same(next.Values[k], want) {
			t.Errorf("of the next payment %s is %s, not %s", features[k].Name, asJSON(next.Values[k]), asJSON(want))
		}
	}
}

func TestTheOrderOfFeaturesChangesNoValue(t *testing.T) {
	all := testFeatures(t)
	h := randomScenario(5, 60)
	h.Steps = slices.DeleteFunc(h.Steps, func(s scenarioStep) bool { return len(s.Use) > 0 })
	straight, err := carryOut(t, h, plays[0], all, false)
	if err != nil {
		t.Fatal(err)
	}
	order := rand.New(rand.NewPCG(1, 1)).Perm(len(all))
	shuffled := make([]named, len(all))
	for i, from := range order {
		shuffled[i] = all[from]
	}
	// historyFeatures sorts by entity; so the places are compared by name.
	mixed, err := carryOut(t, h, plays[0], shuffled, false)
	if err != nil {
		t.Fatal(err)
	}
	whole := []string{"payer", "card", "payer_payee"}
	before, after := historyFeatures(all, whole), historyFeatures(shuffled, whole)
	compared := 0
	for i := range before {
		k := slices.IndexFunc(after, func(f named) bool { return f.FullName() == before[i].FullName() && sameField(f.Field, before[i].Field) })
		for p := range straight {
			if straight[p] == nil {
				continue
			}
			compared++
			if straight[p][i] != mixed[p][k] {
				t.Fatalf("%s of payment %d is %s, in another order %s", before[i].FullName(), p, asJSON(straight[p][i]), asJSON(mixed[p][k]))
			}
		}
	}
	if compared == 0 {
		t.Error("nothing was compared")
	}
}

func sameField(a, b *Field) bool { return a == b || a != nil && b != nil && a.Name == b.Name }

// Of equal times the later arrival is the later event, and sees the earlier.
func TestEqualTimesAreOrderedByArrival(t *testing.T) {
	s := opened(t, Options{Features: []Feature{
		countOf(payer, time.Second),
		{Entity: payer, Name: "last", Aggregate: Last, Field: field("channel"), Length: time.Second},
		countOf(payer, 1), // one nanosecond: those of this very instant
	}})
	at := morning
	for i := range 20 {
		it := paying(fmt.Sprint("t", i), "u", at, 1)
		it.Tx.Channel = fmt.Sprint("c", i)
		appended(t, s, it)
		want := payment.Value{}
		if i > 0 {
			want = payment.StringValue(fmt.Sprint("c", i-1))
		}
		if it.Values[0].Int() != int64(i+1) || it.Values[2].Int() != int64(i+1) || it.Values[1] != want {
			t.Fatalf("payment %d of one instant: %s before and with it, last %s", i, asJSON(it.Values[0]), asJSON(it.Values[1]))
		}
	}
	// A window is open on its left: the instant itself has left it.
	if got := appended(t, s, paying("edge", "u", at.Add(time.Second), 1)).Values[0].Int(); got != 1 {
		t.Errorf("a second later %d payments are within a second", got)
	}
	if got := appended(t, s, paying("before the edge", "u", at.Add(time.Second-1), 1)).Values[0].Int(); got != 21 {
		t.Errorf("a nanosecond earlier %d payments are within a second", got)
	}
}

// Time may jump by years, in one step, and back to those that are late.
func TestFarJumpsLeaveWindowsRight(t *testing.T) {
	shanghai, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		t.Fatal(err)
	}
	s := opened(t, Options{SegmentBytes: 2 << 10, Features: []Feature{
		countOf(payer, time.Hour),
		{Entity: payer, Name: "today", Aggregate: Count, Calendar: CalendarDay, Location: shanghai},
		{Entity: payer, Name: "month", Aggregate: Sum, Calendar: CalendarMonth, Location: shanghai},
		{Entity: payer, Name: "channels", Aggregate: Distinct, Field: field("channel"), Length: time.Hour},
	}})
	at := payment.TimeOf(time.Date(1999, 12, 31, 23, 0, 0, 0, shanghai))
	for i := range 40 {
		for k := range 5 {
			it := paying(fmt.Sprint("t", i, "-", k), "u", at.Add(time.Duration(k)*time.Second), 1)
			it.Tx.Channel = fmt.Sprint(k)
			appended(t, s, it)
			for n, v := range it.Values {
				if v.Int() != int64(k+1) {
					t.Fatalf("jump %d, payment %d: value %d is %s", i, k, n, asJSON(v))
				}
			}
		}
		back := paying(fmt.Sprint("late", i), "u", at.Add(-2*time.Hour), 1)
		back.KafkaTime = at
		if got := appended(t, s, back).Values[0].Int(); got != 1 {
			t.Fatalf("jump %d: two hours before it %d payments", i, got)
		}
		at = at.Add(time.Duration(i+1) * 97 * day)
	}
}

// The bound on clocks that are ahead was raised to two hours, and one producer's
// is. Nobody else is late because of it, nobody's windows become empty, and its
// own payments count at the time that they say.
func TestAClockTwoHoursAheadEmptiesNobodysWindows(t *testing.T) {
	payee := Entity{First: Payee}
	s := opened(t, Options{Lateness: 10 * time.Minute, SegmentBytes: 4 << 10, Features: []Feature{
		countOf(payer, 5*time.Minute), countOf(payee, 5*time.Minute),
		{Entity: payee, Name: "payers", Aggregate: Distinct, Field: field("payer"), Length: 5 * time.Minute},
	}})
	// A payment a second. Each hundredth is by the false clock, to the same payee.
	var own, others int64
	for i := range 1200 {
		now := morning.Add(time.Duration(i) * time.Second)
		it := paying(fmt.Sprint("t", i), fmt.Sprint("u", i%10), now, 1)
		it.Tx.Payee.AccountID = "m"
		ahead := i%100 == 99
		if ahead {
			it.Tx.Payer.AccountID = "ahead"
			it.Tx.EventTime = now.Add(2 * time.Hour)
		}
		appended(t, s, it)
		if it.Late {
			t.Fatalf("payment %d is late", i)
		}
		if ahead {
			own = min(own+1, 3)
			if got := it.Values[0].Int(); got != own {
				t.Fatalf("payment %d, whose clock is ahead, counts %d of its own, not %d", i, got, own)
			}
			continue
		}
		// Of the last 300 seconds, without those of the false clock.
		others = 0
		for k := max(0, i-299); k <= i; k++ {
			if k%100 != 99 {
				others++
			}
		}
		if got := it.Values[1].Int(); got != others {
			t.Fatalf("payment %d: the payee has %d payments within five minutes, not %d", i, got, others)
		}
		if got := it.Values[2].Int(); got != min(others, 10) {
			t.Fatalf("payment %d: the payee has %d payers", i, got)
		}
	}
}

// A partition was stuck for weeks and its payments come now, in time by their own
// Kafka time: each sees its own window, as far as the log reaches, though the
// folds of its entities have dropped such old events long since.
func TestAPaymentOfAPartitionThatWasStuckSeesItsOwnWindow(t *testing.T) {
	features := []Feature{countOf(payer, 10*day), {Entity: payer, Name: "last", Aggregate: Last, Field: field("channel"), Length: 10 * day}}
	s := opened(t, Options{Features: features, Lateness: time.Hour, SegmentBytes: 8 << 10})
	for i := range 400 { // four a day, a hundred days
		it := paying(fmt.Sprint("t", i), "u", morning.Add(time.Duration(i)*6*time.Hour), 1)
		it.Tx.Channel = fmt.Sprint("c", i)
		appended(t, s, it)
	}
	for i, back := range []int{300, 200, 301, 90} { // at just after the payment with this number
		it := paying(fmt.Sprint("stuck", i), "u", morning.Add(time.Duration(back)*6*time.Hour+1), 1)
		it.Tx.Channel = "stuck"
		want := int64(41)
		if i == 2 {
			want++ // the first one of the stuck ones
		}
		redelivered := onceMore(it)
		for k, it := range []*Item{it, redelivered} {
			if appended(t, s, it); it.Late || it.Values[0].Int() != want || it.Values[1].Str() != fmt.Sprint("c", back) {
				t.Errorf("stuck payment %d, delivery %d: late %v, counts %s, not %d, after %s", i, k, it.Late, asJSON(it.Values[0]), want, asJSON(it.Values[1]))
			}
		}
	}
	if got := appended(t, s, paying("now", "u", morning.Add(100*day), 1)).Values[0].Int(); got != 40 {
		t.Errorf("a payment of now counts %d", got)
	}
}

// A payment that is late inside the horizon sees its own window as of its own
// time, and those after it count it. One that is later enters no window, whatever
// the highest event time seen is: late is measured against its own Kafka time.
func TestLateInsideAndBeyondTheHorizon(t *testing.T) {
	s := opened(t, Options{Lateness: time.Hour, Features: []Feature{countOf(payer, 2*time.Hour)}})
	for i := range 10 {
		appended(t, s, paying(fmt.Sprint("t", i), "u", morning.Add(time.Duration(i)*10*time.Minute), 1))
	}
	now := morning.Add(90 * time.Minute)
	late := func(id string, at, kafka payment.Time) *Item {
		it := paying(id, "u", at, 1)
		it.KafkaTime = kafka
		return appended(t, s, it)
	}
	if it := late("inside", now.Add(-time.Hour), now); it.Late || it.Values[0].Int() != 5 {
		t.Errorf("exactly an hour late: late %v, counts %s, not 5", it.Late, asJSON(it.Values[0]))
	}
	beyond := late("beyond", now.Add(-time.Hour-1), now)
	if !beyond.Late || beyond.Values[0].Kind() != payment.Absent {
		t.Errorf("a nanosecond later: late %v, counts %s", beyond.Late, asJSON(beyond.Values[0]))
	}
	if held, err := s.Holds(t.Context(), beyond.Hash); err != nil || held {
		t.Errorf("one beyond the horizon stands in the logs: %v, %v", held, err)
	}
	if it := late("backlog", morning.Add(time.Minute), morning.Add(2*time.Minute)); it.Late || it.Values[0].Int() != 2 {
		t.Errorf("one from a backlog, in time by its own Kafka time: late %v, counts %s, not 2", it.Late, asJSON(it.Values[0]))
	}
	if it := late("next", now.Add(time.Minute), now.Add(time.Minute)); it.Values[0].Int() != 13 {
		t.Errorf("the next one counts %s payments, not 13: late ones count for those that come after, unless they are too late", asJSON(it.Values[0]))
	}
}
