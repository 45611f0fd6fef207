package window

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// A hot entity's events, in order of time, for brute force.
type hotEvent struct {
	at      payment.Time
	amount  int64
	channel string
	payee   int
}

// rates is a stream whose rate changes between one event in a few microseconds
// and one in half an hour.
func rates(seed uint64, n int) []hotEvent {
	rng := rand.New(rand.NewPCG(seed, 5))
	events, at, gap := make([]hotEvent, n), morning, time.Millisecond
	for i := range events {
		if rng.IntN(n/25) == 0 {
			gap = time.Duration(math.Exp(rng.Float64()*math.Log(float64(30*time.Minute/(5*time.Microsecond)))) * float64(5*time.Microsecond))
		}
		at = at.Add(time.Duration(rng.Float64() * 2 * float64(gap)))
		events[i] = hotEvent{at, 1 + rng.Int64N(1e6), "qr", rng.IntN(3000)}
		switch rng.IntN(1000) {
		case 0:
			events[i].channel = "rare"
		case 1, 2, 3, 4, 5, 6, 7, 8, 9:
			events[i].channel = "web"
		}
	}
	return events
}

func (e *hotEvent) item(n int) *Item {
	it := paying(fmt.Sprint("t", n), "hot", e.at, e.amount)
	it.Tx.Channel, it.Tx.Payee.AccountID = e.channel, fmt.Sprint("m", e.payee)
	return it
}

// behind returns how many events are up to a time.
func upTo(events []hotEvent, t payment.Time) int {
	return sort.Search(len(events), func(i int) bool { return events[i].at > t })
}

// on says that the channel is one.
func on(channel string) Predicate {
	return func(e *Event) Truth { return TruthOf(e.entry.text(textChannel) == channel) }
}

// hotSpan is a window, and the slots of its features.
type hotSpan struct {
	length, delay                                                                            time.Duration
	count, sum, min, max, avg, stddev, share, web, sinceFirst, sinceWeb, last, webLast, dist int
}

func hotFeatures(spans []hotSpan) (features []Feature) {
	for i := range spans {
		s := &spans[i]
		add := func(slot *int, f Feature) {
			f.Entity, f.Length, f.Delay, f.Name = payer, s.length, s.delay, fmt.Sprint(len(features))
			*slot = len(features)
			features = append(features, f)
		}
		add(&s.count, Feature{Aggregate: Count})
		add(&s.sum, Feature{Aggregate: Sum})
		add(&s.min, Feature{Aggregate: Min})
		add(&s.max, Feature{Aggregate: Max})
		add(&s.avg, Feature{Aggregate: Avg})
		add(&s.stddev, Feature{Aggregate: StdDev})
		add(&s.share, Feature{Aggregate: Share, Condition: on("web")})
		add(&s.web, Feature{Aggregate: Count, Where: on("web")})
		add(&s.sinceFirst, Feature{Aggregate: SinceFirst, Where: on("web")})
		add(&s.sinceWeb, Feature{Aggregate: SinceLast, Where: on("web")})
		add(&s.last, Feature{Aggregate: Last, Field: field("channel")})
		add(&s.webLast, Feature{Aggregate: Last, Field: field("payee"), Where: on("rare")})
		add(&s.dist, Feature{Aggregate: Distinct, Field: field("payee")})
	}
	return features
}

func hotSpans() []hotSpan {
	return []hotSpan{{length: time.Second}, {length: time.Minute}, {length: time.Hour}, {length: day}, {length: 30 * day},
		{length: time.Hour, delay: time.Minute}, {length: day, delay: 7 * day}}
}

// slack64 is how wide a tile can be whose events are a time before the newest.
func slack64(age payment.Time) payment.Time { return max(payment.Time(finestTile), age/tileShare) }

func resolutionOf(it *Item, slot int) (off time.Duration, named bool) {
	for _, a := range it.Approximate {
		if a.Slot == slot {
			return a.Resolution, true
		}
	}
	return 0, false
}

// Of a hot entity every value is, exactly, that of a window whose edges are off
// by no more than hot.go says; the decision says so where they are off, and only
// there; and where they are not the value is exact.
func TestAHotEntitysWindowIsOffByNoMoreThanItSays(t *testing.T) {
	spans := hotSpans()
	features := hotFeatures(spans)
	inexact, exact := 0, 0
	for seed := range uint64(2) {
		s := opened(t, Options{Features: features, HotEvents: 512, ExactDistinct: 1000, Lateness: day})
		events := rates(seed, 8_000)
		for i := range events {
			it := appended(t, s, events[i].item(i))
			n, _ := s.folders[0].find(s.Key().EntityKey(payer, it.Tx))
			if fd := s.folders[0].foldOf(n); fd.events.n-fd.tiles > 512 || fd.tiles > 128*50 {
				t.Fatalf("seed %d, event %d: %d exact events and %d tiles", seed, i, fd.events.n-fd.tiles, fd.tiles)
			}
			if i%37 > 0 && i%512 > 3 {
				continue
			}
			for k := range spans {
				if checkHot(t, &spans[k], s.Key(), events[:i+1], it) {
					inexact++
				} else {
					exact++
				}
				if t.Failed() {
					t.Fatalf("seed %d, event %d", seed, i)
				}
			}
		}
	}
	if inexact < 300 || exact < 300 {
		t.Errorf("%d windows began or ended in a tile, %d did not: the test looks at too few", inexact, exact)
	}
}

// checkHot compares the features of one span with brute force, for the last of
// some events that came in order. It reports whether an edge of the window lies
// in a tile.
func checkHot(t *testing.T, s *hotSpan, key Key, events []hotEvent, it *Item) (inexact bool) {
	t.Helper()
	now := events[len(events)-1].at
	high := now.Add(-s.delay)
	low := high.Add(-s.length)
	from, to := upTo(events, low), upTo(events, high)
	earliest, ending := upTo(events, low-slack64(now-low)), to
	if s.delay > 0 {
		ending = upTo(events, high-slack64(now-high))
	}
	count, sum := int(it.Values[s.count].Int()), it.Values[s.sum].Int()
	// Which window has this count and this sum?
	seen := -1
	for end := to; end >= ending && seen < 0; end-- {
		begin := end - count
		if begin < earliest || begin > from || begin > end {
			continue
		}
		var total int64
		for _, e := range events[begin:end] {
			total += e.amount
		}
		if total == sum {
			seen, to = begin, end
		}
	}
	if seen < 0 {
		t.Errorf("window %v %v: count %d and sum %d are those of no window from %d–%d to %d–%d", s.length, s.delay, count, sum, earliest, from, ending, to)
		return false
	}
	inexact = seen != from || to != upTo(events, high)
	off, named := resolutionOf(it, s.count)
	if named != inexact || off > time.Duration(slack64(now-low)) {
		t.Errorf("window %v %v: begins at %d, not %d, ends at %d, and says it is off by %v", s.length, s.delay, seen, from, to, off)
	}
	in := events[seen:to]
	least, most, web, squares := int64(math.MaxInt64), int64(0), int64(0), 0.0
	var firstWeb, lastWeb payment.Time
	for _, e := range in {
		least, most = min(least, e.amount), max(most, e.amount)
		squares += (float64(e.amount) - float64(sum)/float64(len(in))) * (float64(e.amount) - float64(sum)/float64(len(in)))
		if e.channel == "web" {
			if web++; web == 1 {
				firstWeb = e.at
			}
		}
	}
	for _, e := range in[:max(0, len(in)-1+min(1, int(s.delay)))] { // the payment itself is not before itself
		if e.channel == "web" {
			lastWeb = e.at
		}
	}
	near := func(what string, slot int, want payment.Value) {
		t.Helper()
		got := it.Values[slot]
		if same(got, want) || got.Kind() == payment.Float && want.Kind() == payment.Float && math.Abs(got.Float()-want.Float()) <= 1e-9*math.Abs(want.Float()) {
			return
		}
		t.Errorf("window %v %v of %d events: %s is %s, not %s", s.length, s.delay, len(in), what, asJSON(got), asJSON(want))
	}
	if len(in) > 0 {
		near("min", s.min, payment.IntValue(least))
		near("max", s.max, payment.IntValue(most))
		near("avg", s.avg, payment.FloatValue(float64(sum)/float64(len(in))))
		near("stddev", s.stddev, payment.FloatValue(math.Sqrt(squares/float64(len(in)))))
		near("share", s.share, payment.FloatValue(float64(web)/float64(len(in))))
	}
	near("web", s.web, payment.IntValue(web))
	if web > 0 {
		near("since_first", s.sinceFirst, payment.FloatValue(seconds(now-firstWeb)))
		if lastWeb > 0 {
			near("since_last", s.sinceWeb, payment.FloatValue(seconds(now-lastWeb)))
		}
	}
	checkHotLast(t, s, key, events, low, high, it)
	checkHotDistinct(t, s, events, low, high, it)
	return inexact
}

// checkHotLast: an event that a feature names is the last one, unless it says
// how much of the window it does not see.
func checkHotLast(t *testing.T, s *hotSpan, key Key, events []hotEvent, low, high payment.Time, it *Item) {
	t.Helper()
	want := payment.Value{}
	for _, e := range events[upTo(events, low):min(upTo(events, high), len(events)-1)] {
		if e.channel == "rare" {
			want = payment.RefValue(key.Ref(Payee, fmt.Sprint("m", e.payee)))
		}
	}
	off, named := resolutionOf(it, s.webLast)
	if got := it.Values[s.webLast]; got != want && !(named && got.Kind() == payment.Absent) && !(named && s.delay > 0) {
		t.Errorf("window %v %v: the last rare one is %s, not %s, off by %v", s.length, s.delay, asJSON(got), asJSON(want), off)
	}
	if off > s.length {
		t.Errorf("window %v %v: the last rare one may be off by %v", s.length, s.delay, off)
	}
}

func checkHotDistinct(t *testing.T, s *hotSpan, events []hotEvent, low, high payment.Time, it *Item) {
	t.Helper()
	distinct := func(low, high payment.Time) int64 {
		set := map[int]bool{}
		for _, e := range events[upTo(events, low):upTo(events, high)] {
			set[e.payee] = true
		}
		return int64(len(set))
	}
	got := it.Values[s.dist].Int()
	off, named := resolutionOf(it, s.dist)
	if !named {
		if want := distinct(low, high); got != want {
			t.Errorf("window %v %v: %d distinct payees, not %d, and it says that is exact", s.length, s.delay, got, want)
		}
		return
	}
	fewest, most := distinct(low, high), distinct(low.Add(-off), high.Add(off))
	if float64(got) < float64(fewest)*(1-5*sketchError)-1 || float64(got) > float64(most)*(1+5*sketchError)+1 || off > s.length/32 {
		t.Errorf("window %v %v: %d distinct payees, not %d to %d; off by %v", s.length, s.delay, got, fewest, most, off)
	}
}

// keyed is an embedded store in memory under a given key, so that the sketches of
// two stores are the same.
func keyed(t *testing.T, opts Options, key Key) *Embedded {
	t.Helper()
	s := opened(t, opts)
	s.journal.key = key
	s.useGroups(newGroups(opts.Features, opts.Keep))
	return s
}

// twins are two stores with one key, of which the second loses its folds again
// and again.
func twins(t *testing.T, opts Options) (stays, evicted *Embedded) {
	t.Helper()
	opts.fillDefaults()
	stays = opened(t, opts)
	return stays, keyed(t, opts, stays.Key())
}

func sameItem(t *testing.T, what string, a, b *Item) {
	t.Helper()
	if !slices.Equal(a.Values, b.Values) || !slices.Equal(a.Approximate, b.Approximate) {
		for k := range a.Values {
			if a.Values[k] != b.Values[k] {
				t.Errorf("%s: value %d is %s, and after it was read again %s", what, k, asJSON(a.Values[k]), asJSON(b.Values[k]))
			}
		}
		t.Fatalf("%s: %v, and after it was read again %v", what, a.Approximate, b.Approximate)
	}
}

// Tiles are a function of the log: a hot entity that was evicted, and is read
// again, says the same; with payments that are late, outcomes, verdicts and
// repeats.
func TestAHotEntityThatIsReadAgainSaysTheSame(t *testing.T) {
	spans := hotSpans()
	features := hotFeatures(spans)
	status := []Feature{
		{Entity: payer, Name: "failed", Aggregate: Count, Length: day, ReadsStatus: true, Where: func(e *Event) Truth { return TruthOf(e.status == payment.OutcomeTechnicalFailure) }},
		{Entity: payer, Name: "fraud", Aggregate: Share, Length: 30 * day, Delay: time.Hour, ReadsStatus: true, Condition: func(e *Event) Truth { return TruthOf(e.fraud) }},
		{Entity: payer, Name: "blocked", Aggregate: Sum, Length: 30 * day, ReadsVerdict: true, Where: func(e *Event) Truth { return TruthOf(e.verdict == payment.Block) }},
		{Entity: payer, Name: "settled", Aggregate: SinceLast, Length: 30 * day, ReadsStatus: true, Where: func(e *Event) Truth { return TruthOf(e.status == payment.OutcomeSettled) }},
	}
	for seed := range uint64(1) {
		rng := rand.New(rand.NewPCG(seed, 8))
		stays, evicted := twins(t, Options{Features: append(slices.Clone(features), status...), HotEvents: 512, ExactDistinct: 300, Lateness: day, SegmentBytes: 256 << 10})
		events := rates(seed+10, 2_000)
		for i := range events {
			if i%211 == 0 || i > 1800 && i%17 == 0 {
				evictAll(evicted)
			}
			kafka := events[i].at
			if rng.IntN(20) == 0 { // late, some of them inside of tiles
				events[i].at = events[i].at.Add(-time.Duration(rng.Int64N(int64(day)) >> rng.IntN(20)))
			}
			tx := i
			if i > 0 && rng.IntN(100) == 0 { // repeated
				tx = i - 1 - rng.IntN(min(i, 100))
			}
			var both [2]*Item
			for k, s := range []*Embedded{stays, evicted} {
				it := events[tx].item(tx)
				it.KafkaTime = kafka
				both[k] = appended(t, s, it)
			}
			sameItem(t, fmt.Sprintf("seed %d, event %d", seed, i), both[0], both[1])
			of, kind, r := rng.IntN(i+1), payment.OutcomeKind(1+rng.IntN(12)), rng.IntN(4)
			if rng.IntN(2) == 0 {
				of = max(0, i-rng.IntN(300))
			}
			verdict, when := payment.Verdict(1+rng.IntN(3)), kafka.Add(-time.Duration(rng.Int64N(int64(time.Hour))))
			for _, s := range []*Embedded{stays, evicted} {
				var err error
				switch r {
				case 0, 1:
					err = s.Outcomes(t.Context(), []*OutcomeItem{{Outcome: &payment.Outcome{ID: fmt.Sprint(i), TransactionID: fmt.Sprint("t", of), Kind: kind, EventTime: when}}})
				case 2:
					err = s.Decided(t.Context(), []Mark{{Tx: s.Key().Tx(fmt.Sprint("t", i)), Verdict: verdict, Offset: int64(i)}})
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		if evicted.Size().Loaded < 15 {
			t.Errorf("it was read %d times", evicted.Size().Loaded)
		}
	}
}

// The same where most of the log is older than what a fold keeps.
func TestAHotEntityWithALongPastSaysTheSame(t *testing.T) {
	features := []Feature{countOf(payer, 20*time.Hour), {Entity: payer, Name: "sum", Aggregate: Sum, Length: 20 * time.Hour},
		{Entity: payer, Name: "payees", Aggregate: Distinct, Field: field("payee"), Length: 20 * time.Hour}}
	stays, evicted := twins(t, Options{Features: features, HotEvents: 64, ExactDistinct: 50, Lateness: time.Hour, SegmentBytes: 64 << 10})
	rng := rand.New(rand.NewPCG(4, 4))
	at, named := morning, 0
	for i := range 3000 {
		at = at.Add(time.Duration(rng.Int64N(int64(20 * time.Minute))))
		if i%50 == 49 {
			at = at.Add(time.Duration(rng.Int64N(int64(4 * day)))) // sometimes all that was exact is too old then
		}
		if i%29 == 0 {
			evictAll(evicted)
		}
		e := hotEvent{at, rng.Int64N(1000), "", rng.IntN(100)}
		it := appended(t, stays, e.item(i))
		sameItem(t, fmt.Sprint("event ", i), it, appended(t, evicted, e.item(i)))
		named += len(it.Approximate)
	}
	if named < 100 {
		t.Errorf("only %d values were not exact", named)
	}
}

// Late payments: what they see, and what those after them see of them, lies
// between the windows that hot.go names.
func TestLatePaymentsOfAHotEntityStayWithinTheBound(t *testing.T) {
	spans := []hotSpan{{length: time.Second}, {length: time.Minute}, {length: time.Hour}, {length: day}, {length: time.Hour, delay: time.Hour}}
	features := hotFeatures(spans)
	s := opened(t, Options{Features: features, HotEvents: 512, Lateness: day})
	rng := rand.New(rand.NewPCG(3, 3))
	inOrder := rates(21, 12_000)
	sorted := make([]payment.Time, 0, len(inOrder))
	upTo := func(t payment.Time) int64 {
		return int64(sort.Search(len(sorted), func(i int) bool { return sorted[i] > t }))
	}
	newest, checked := payment.Time(0), 0
	for i := range inOrder {
		it := inOrder[i].item(i)
		if rng.IntN(5) == 0 {
			it.Tx.EventTime = it.Tx.EventTime.Add(-time.Duration(rng.Int64N(int64(day)-1) >> rng.IntN(25)))
		}
		now := it.Tx.EventTime
		newest = max(newest, now)
		sorted = slices.Insert(sorted, int(upTo(now)), now)
		appended(t, s, it)
		for _, span := range spans {
			high := now.Add(-span.delay)
			low := high.Add(-span.length)
			least := max(0, upTo(high-slack64(newest-high))-upTo(low))
			most := upTo(high) - upTo(low-slack64(newest-low))
			got := it.Values[span.count].Int()
			if got < least || got > most {
				t.Fatalf("event %d, %v behind the newest: window %v %v has %d events, not %d to %d", i, time.Duration(newest-now), span.length, span.delay, got, least, most)
			}
			exact := upTo(high) - upTo(low)
			if _, named := resolutionOf(it, span.count); got != exact && !named {
				t.Fatalf("event %d, %v behind the newest: window %v %v has %d events, not %d, and does not say so", i, time.Duration(newest-now), span.length, span.delay, got, exact)
			}
			if got != exact {
				checked++
			}
		}
	}
	if checked < 1000 {
		t.Errorf("only %d values were not exact", checked)
	}
}

// What outcomes and verdicts have made of an event by the time it goes into a
// tile stays; what comes later changes nothing. And they take no memory then.
func TestOutcomesAfterTheirEventIsInATileChangeNothing(t *testing.T) {
	failed := Feature{Entity: payer, Name: "failed", Aggregate: Count, Length: 30 * day, ReadsStatus: true, Where: func(e *Event) Truth { return TruthOf(e.status == payment.OutcomeTechnicalFailure) }}
	s := opened(t, Options{Features: []Feature{failed}, HotEvents: 512})
	at := func(i int) payment.Time { return morning.Add(time.Duration(i) * time.Second) }
	var last *Item
	for i := range 5000 {
		last = appended(t, s, paying(fmt.Sprint("t", i), "hot", at(i), 1))
		of := i
		if i%2 == 1 {
			of = i - 1001 // in a tile long since
		}
		if of < 0 {
			continue
		}
		out := outcomeOf(fmt.Sprint("t", of), fmt.Sprint("o", i), at(i))
		if err := s.Outcomes(t.Context(), []*OutcomeItem{out}); err != nil || out.Status != OutcomeCounted {
			t.Fatal(err, out.Status)
		}
	}
	if got := last.Values[0].Int(); got != 2500 {
		t.Errorf("%d failed, not the 2,500 of which that was known before they went into a tile", got)
	}
	n, _ := s.folders[0].find(s.Key().EntityKey(payer, last.Tx))
	if fd := s.folders[0].foldOf(n); fd.outcomes.n > 512 {
		t.Errorf("%d outcomes are kept for %d exact events", fd.outcomes.n, fd.events.n-fd.tiles)
	}
}

// A million events of one entity, most of them within all its windows: what it
// takes stays bounded, and each costs what the first thousands cost.
func TestAHotEntityTakesBoundedMemory(t *testing.T) {
	features := []Feature{countOf(payer, time.Hour), countOf(payer, 30*day),
		{Entity: payer, Name: "sum", Aggregate: Sum, Length: 30 * day}, {Entity: payer, Name: "max", Aggregate: Max, Length: 30 * day},
		{Entity: payer, Name: "payees", Aggregate: Distinct, Field: field("payee"), Length: 7 * day}}
	s := opened(t, Options{Features: features, HotEvents: 512, ExactDistinct: 1000, SegmentBytes: 16 << 20})
	const total, batch = 1_000_000, 1000
	items := make([]*Item, batch)
	for i := range items {
		items[i] = paying("", "hot", 0, 1)
	}
	var early, late int64
	var first, rest time.Duration
	start := time.Now()
	for n := 0; n < total; n += batch {
		for i := range items {
			it := items[i]
			it.Tx.ID = fmt.Sprint(n + i)
			it.Tx.EventTime = morning.Add(time.Duration(n+i) * 5 * time.Second)
			it.KafkaTime = it.Tx.EventTime
			it.Tx.Payee.AccountID = fmt.Sprint((n + i) % 50_000)
		}
		appended(t, s, items...)
		switch size := s.Size().FoldBytes; {
		case n < total/5:
			early = max(early, size)
			first = time.Since(start)
		default:
			late = max(late, size)
		}
	}
	rest = time.Since(start) - first
	if late > early*5/4 || late > 3<<20 {
		t.Errorf("of the first fifth it took up to %d bytes, later %d", early, late)
	}
	const month = int64(30 * day / (5 * time.Second))
	if got := items[batch-1].Values[1].Int(); got < month || got > month+month/tileShare {
		t.Errorf("it counts %d events in 30 days, not %d", got, month)
	}
	t.Logf("%d bytes at the most; %v an event at first, then %v", max(early, late), first/(total/5), rest/(total*4/5))
}

// Distinct values are exact up to the bound, estimated beyond it, and exact again
// when there are fewer, whatever was evicted in between: which of both is a
// function of what is in the window.
func TestDistinctIsExactExactlyUpToItsBound(t *testing.T) {
	const bound = 200
	features := []Feature{
		{Entity: payer, Name: "payees", Aggregate: Distinct, Field: field("payee"), Length: time.Hour},
		{Entity: payer, Name: "web_payees", Aggregate: Distinct, Field: field("payee"), Length: 10 * time.Minute, Where: on("web")},
	}
	stays, evicted := twins(t, Options{Features: features, ExactDistinct: bound})
	rng := rand.New(rand.NewPCG(1, 9))
	var events []hotEvent
	at, estimates, backs := morning, 0, 0
	was := false
	for i := range 13000 {
		// The number of distinct payees rises above three times the bound, hovers
		// around it, and falls to a few.
		wide := int(bound * (1.6 + 1.5*math.Sin(float64(i)/600)))
		at = at.Add(time.Duration(rng.Int64N(int64(7 * time.Second))))
		e := hotEvent{at, 1, []string{"web", "qr"}[rng.IntN(2)], rng.IntN(max(1, wide))}
		events = append(events, e)
		if i%97 == 0 {
			evictAll(evicted)
		}
		it := appended(t, stays, e.item(i))
		sameItem(t, fmt.Sprint("event ", i), it, appended(t, evicted, e.item(i)))
		for k, f := range features {
			set := map[int]bool{}
			from, rounded := at.Add(-f.Length), map[int]bool{}
			for _, e := range events[upTo(events, from-payment.Time(f.Length/32)):] {
				if k == 1 && e.channel != "web" {
					continue
				}
				rounded[e.payee] = true
				if e.at > from {
					set[e.payee] = true
				}
			}
			got, want := it.Values[k].Int(), int64(len(set))
			_, named := resolutionOf(it, k)
			if named != (want > bound) {
				t.Fatalf("event %d: of %d distinct values it says %d; approximate: %v", i, want, got, named)
			}
			if !named && got != want {
				t.Fatalf("event %d: %d distinct values, not %d", i, got, want)
			}
			if named {
				if float64(got) < float64(want)*(1-5*sketchError) || float64(got) > float64(len(rounded))*(1+5*sketchError) {
					t.Fatalf("event %d: about %d distinct values, not %d to %d", i, got, want, len(rounded))
				}
				estimates++
			}
			if k == 0 {
				if was && !named {
					backs++
				}
				was = named
			}
		}
	}
	if estimates < 1000 || backs < 3 {
		t.Errorf("%d estimates, and back to exact %d times", estimates, backs)
	}
}
