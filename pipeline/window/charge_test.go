package window

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// charged is a payment of p to m.
func charged(id, order string, at payment.Time, change ...func(*payment.Transaction)) *Item {
	it := paying(id, "p", at, 100)
	cny, _ := payment.ParseCurrency("CNY")
	it.Tx.Amount = payment.Money{Value: 100, Currency: cny}
	it.Tx.Payee.AccountID, it.Tx.OrderID = "m", order
	for _, c := range change {
		c(it.Tx)
	}
	return it
}

// told is what an item was told of earlier charges, on one line.
func told(it *Item) (all string) {
	for _, e := range it.Earlier {
		order := "other order"
		if e.SameOrder {
			order = "same order"
		}
		all += fmt.Sprintf("%s %s %s; ", e.ID, order, e.Status)
	}
	return all
}

// A payment is told of the charges before its own that it may repeat, and of
// nothing else.
func TestEveryStoreTellsWhatAPaymentMayRepeat(t *testing.T) {
	usd, _ := payment.ParseCurrency("USD")
	type change = func(*payment.Transaction)
	none := change(func(*payment.Transaction) {})
	for _, c := range []struct {
		name          string
		first, second string // orders
		after         time.Duration
		change        change
		want          string
	}{
		{"the same order", "o-1", "o-1", time.Second, none, "first same order pending; "},
		{"the same order, long after", "o-1", "o-1", 60 * day, none, "first same order pending; "},
		{"another order", "o-1", "o-2", time.Second, none, ""},
		{"no order, near", "", "", time.Minute, none, "first other order pending; "},
		{"no order, one nanosecond too far", "", "", time.Minute + 1, none, ""},
		{"no order on the first", "", "o-1", time.Second, none, "first other order pending; "},
		{"no order on the second", "o-1", "", time.Second, none, "first other order pending; "},
		{"no order on the second, too far", "o-1", "", time.Hour, none, ""},
		{"later in the log, and earlier by its event time", "", "", -time.Minute, none, "first other order pending; "},
		{"earlier by its event time, and too far", "", "", -time.Minute - 1, none, ""},
		{"an amount that differs by one", "o-1", "o-1", time.Second, func(t *payment.Transaction) { t.Amount.Value++ }, ""},
		{"another currency", "o-1", "o-1", time.Second, func(t *payment.Transaction) { t.Amount.Currency = usd }, ""},
		{"another payer", "o-1", "o-1", time.Second, func(t *payment.Transaction) { t.Payer.AccountID = "q" }, ""},
		{"another payee", "o-1", "o-1", time.Second, func(t *payment.Transaction) { t.Payee.AccountID = "n" }, ""},
		{"another type", "o-1", "o-1", time.Second, func(t *payment.Transaction) { t.Type = payment.TypeTransfer }, ""},
		{"a refund", "o-1", "o-1", time.Second, func(t *payment.Transaction) { t.Type = payment.TypeRefund }, ""},
		{"another card", "o-1", "o-1", time.Second, func(t *payment.Transaction) { t.Instrument.Token = "c-2" }, "first same order pending; "},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := opened(t, Options{Features: []Feature{EarlierCharges(time.Minute)}})
			if got := told(appended(t, s, charged("first", c.first, morning))); got != "" {
				t.Errorf("the first was told of %s", got)
			}
			if got := told(appended(t, s, charged("second", c.second, morning.Add(c.after), c.change))); got != c.want {
				t.Errorf("the second was told of %q, want %q", got, c.want)
			}
		})
	}
	// Two refunds, and two payments to nobody, are no charges at all.
	for name, change := range map[string]change{
		"refunds":  func(t *payment.Transaction) { t.Type = payment.TypeRefund },
		"no payee": func(t *payment.Transaction) { t.Payee.AccountID = "" },
	} {
		s := opened(t, Options{Features: []Feature{EarlierCharges(time.Minute)}})
		if got := told(appended(t, s, charged("first", "o-1", morning, change), charged("second", "o-1", morning, change))); got != "" {
			t.Errorf("%s: the second was told of %s", name, got)
		}
	}
}

// What became of the earlier charge is told as of the payment that looks, and a
// payment that comes again, from whichever memory, is told what it was told.
func TestEveryStoreTellsOfEarlierChargesAsOfTheirPlace(t *testing.T) {
	for _, also := range []bool{false, true} { // that something else looks at charges changes nothing
		eachStore(t, func(t *testing.T, begin func() func(Options) (Store, error)) {
			features := []Feature{EarlierCharges(time.Minute)}
			if also {
				features = append(features, countOf(Entity{First: Charge}, time.Hour))
			}
			open := begin()
			s, err := open(Options{Features: features})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			want := func(it *Item, want string) {
				t.Helper()
				if got := told(it); got != want {
					t.Errorf("%s was told of %q, want %q", it.Tx.ID, got, want)
				}
			}
			a, b := charged("a", "o", morning), charged("b", "o", morning+1)
			if err := s.Append(t.Context(), []*Item{a, b}); err != nil { // in one call
				t.Fatal(err)
			}
			want(a, "")
			want(b, "a same order pending; ")
			became(t, s, "a", payment.OutcomeTechnicalFailure, morning+2)
			became(t, s, "b", payment.OutcomeCancelled, morning.Add(time.Hour))
			want(appended(t, s, charged("c", "o", morning+3)), "a same order technical_failure; b same order pending; ")
			// One that is noted first sees what stands before it, though windows are read later.
			d, e := charged("d", "o", morning+5), charged("e", "o", morning+4)
			if err := s.Note(t.Context(), []*Item{d}); err != nil {
				t.Fatal(err)
			}
			if err := s.Note(t.Context(), []*Item{e}); err != nil {
				t.Fatal(err)
			}
			if err := s.View(t.Context(), []*Item{e, d}); err != nil {
				t.Fatal(err)
			}
			before := "a same order technical_failure; b same order pending; c same order pending; "
			want(d, before)
			want(e, before+"d same order pending; ")
			// Again, as after a crash between append and publish.
			for id, says := range map[string]string{"a": "", "b": "a same order pending; ", "c": "a same order technical_failure; b same order pending; "} {
				at := map[string]payment.Time{"a": morning, "b": morning + 1, "c": morning + 3}[id]
				want(appended(t, s, charged(id, "o", at)), says)
				evictAll(s)
				again := charged(id, "o", at)
				if err := s.Note(t.Context(), []*Item{again}); err != nil {
					t.Fatal(err)
				}
				evictAll(s)
				if err := s.View(t.Context(), []*Item{again}); err != nil {
					t.Fatal(err)
				}
				want(again, says)
				evictAll(s)
			}
		})
	}
}

// A store that is opened again, and one whose folds were all given up, knows the
// charges that came before.
func TestEarlierChargesOutliveMemory(t *testing.T) {
	dir := t.TempDir()
	opts := Options{Dir: dir, Features: []Feature{EarlierCharges(time.Minute)}, SegmentBytes: 1 << 12}
	s := opened(t, opts)
	appended(t, s, charged("first", "o-1", morning))
	for i := range 200 { // beyond the segment
		appended(t, s, charged(fmt.Sprint("other-", i), "", morning, func(t *payment.Transaction) { t.Payer.AccountID = fmt.Sprint("q-", i) }))
	}
	if n := s.entities(); n != 0 {
		t.Errorf("%d folds were made for charges that came once", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = opened(t, opts)
	if got := told(appended(t, s, charged("second", "o-1", morning.Add(day)))); got != "first same order pending; " {
		t.Errorf("after a restart: %q", got)
	}
}

// A charge that a machine makes without end costs no more than the latest of it.
func TestAChargeThatIsMadeWithoutEndIsReadUpToABound(t *testing.T) {
	s := opened(t, Options{Features: []Feature{EarlierCharges(time.Minute)}})
	var last *Item
	for i := range mostEarlier + 500 {
		last = appended(t, s, charged(fmt.Sprint(i), "o", morning+payment.Time(i)))
	}
	if n := len(last.Earlier); n != mostEarlier-1 {
		t.Errorf("%d charges were read", n)
	}
}

// Of two charges that two members are given at the same instant, exactly one is
// told of the other, and it is told its id.
func TestOfTwoChargesAtOnceExactlyOneSeesTheOther(t *testing.T) {
	for name, url := range map[string]func(*testing.T) string{"redis": redisURL, "redis cluster": redisClusterURL} {
		t.Run(name, func(t *testing.T) {
			at := newOwnStore(t, url(t))
			var members [2]*Redis
			for m := range members {
				var err error
				if members[m], err = at.open(t.Context(), Options{Features: []Feature{EarlierCharges(time.Minute)}}); err != nil {
					t.Fatal(err)
				}
				defer func() { _ = members[m].Close() }()
			}
			for i := range 200 {
				var items [2]*Item
				var at sync.WaitGroup
				start := make(chan struct{})
				for m := range members {
					items[m] = charged(fmt.Sprintf("%d-%d", i, m), fmt.Sprint("o-", i), morning)
					at.Go(func() {
						<-start
						if err := members[m].Append(t.Context(), items[m:m+1]); err != nil {
							t.Error(err)
						}
					})
				}
				close(start)
				at.Wait()
				said := [2]string{told(items[0]), told(items[1])}
				if said != [2]string{"", fmt.Sprintf("%d-0 same order pending; ", i)} && said != [2]string{fmt.Sprintf("%d-1 same order pending; ", i), ""} {
					t.Fatalf("pair %d: they were told %q", i, said)
				}
			}
		})
	}
}

// became appends an outcome of a transaction.
func became(t *testing.T, s Store, tx string, kind payment.OutcomeKind, at payment.Time) {
	t.Helper()
	it := &OutcomeItem{Since: at, Outcome: &payment.Outcome{TransactionID: tx, Kind: kind, EventTime: at}}
	if err := s.Outcomes(t.Context(), []*OutcomeItem{it}); err != nil {
		t.Fatal(err)
	}
	if it.Status != OutcomeCounted {
		t.Fatalf("the outcome of %s became %d", tx, it.Status)
	}
}

// A new charge costs one APPEND and no round trip more, though nobody has looked
// whether its log is empty; and where it is not, or its beginning is gone, that is
// found out.
func TestANewChargeIsAppendedWithoutALook(t *testing.T) {
	server := startRedis(t)
	open := func() (*Redis, *trips) {
		s, err := OpenRedis(t.Context(), RedisOptions{URL: "redis://" + server.addr, SegmentBytes: 700},
			Options{Features: []Feature{EarlierCharges(time.Minute)}, Keep: day, Lateness: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		count := &trips{}
		s.client.AddHook(count)
		return s, count
	}
	a, trips := open()
	appended(t, a, charged("warm", "w", morning))
	before, began := server.calls(a.client), trips.n
	var items []*Item
	for i := range 100 {
		items = append(items, charged(fmt.Sprint("t-", i), "", morning, func(t *payment.Transaction) { t.Payer.AccountID = fmt.Sprint("p-", i) }))
	}
	appended(t, a, items...)
	calls := server.calls(a.client)
	for command, want := range map[string]int{"append": 100, "getrange": 0, "zrange": 0} {
		if got := calls[command] - before[command]; got != want {
			t.Errorf("%d %s for 100 new charges, want %d", got, command, want)
		}
	}
	if trips.n-began > 3 { // two, and the count itself
		t.Errorf("%d round trips", trips.n-began)
	}
	// Days of one charge, until the first segments of its log are gone.
	at := morning
	for i := range 60 {
		at = at.Add(4 * time.Hour)
		appended(t, a, charged(fmt.Sprint("d-", i), "o", at))
	}
	if first, err := a.client.ZScore(t.Context(), a.names.head("charge", a.Key().EntityKey(Entity{First: Charge}, items[0].Tx)), firstSegment).Result(); err == nil {
		t.Fatalf("another charge has segments: %v", first)
	}
	first, err := a.client.ZScore(t.Context(), a.names.head("charge", a.Key().EntityKey(Entity{First: Charge}, charged("", "", 0).Tx)), firstSegment).Result()
	if err != nil || first < 2 {
		t.Fatalf("the log begins with segment %v (%v): the test proves nothing", first, err)
	}
	b, _ := open()
	want := appended(t, a, charged("last", "o", at)).Earlier
	got := appended(t, b, charged("last", "o", at)).Earlier // the same, as after a crash
	if len(want) == 0 || told(&Item{Earlier: got}) != told(&Item{Earlier: want}) {
		t.Errorf("a member that comes later is told of %d charges, and the first one of %d", len(got), len(want))
	}
	if got, want := told(appended(t, b, charged("next", "o", at))), told(&Item{Earlier: want})+"last same order pending; "; got != want {
		t.Errorf("the next is told of %s\nwant %s", got, want)
	}
}

// While a store is away payments still see the charges that were peeked at before
// them, and those that memory holds; what nobody has made before is no feature that
// is missing.
func TestEveryStoreTellsOfChargesFromMemory(t *testing.T) {
	eachStore(t, func(t *testing.T, begin func() func(Options) (Store, error)) {
		s, err := begin()(Options{Features: []Feature{EarlierCharges(time.Minute), countOf(payer, time.Hour)}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		appended(t, s, charged("a", "o-1", morning))
		appended(t, s, charged("b", "o-1", morning+1)) // a second one, so that memory holds the charge
		peek := func(it *Item, want string) {
			t.Helper()
			s.Peek([]*Item{it})
			for i, q := range it.Earlier { // on Redis the ledger tells the ids of those that memory holds
				for _, id := range []string{"a", "b"} {
					if q.ID == "" && q.Tx == s.Key().Tx(id) {
						it.Earlier[i].ID = id
					}
				}
			}
			if got := told(it); got != want {
				t.Errorf("%s was told of %q, want %q", it.Tx.ID, got, want)
			}
			if it.Without != nil || !it.Stale {
				t.Errorf("%s lacks %v, and is stale: %v", it.Tx.ID, it.Without, it.Stale)
			}
		}
		peek(charged("c", "o-1", morning+2), "a same order pending; b same order pending; ")
		peek(charged("d", "o-1", morning+3), "a same order pending; b same order pending; c same order pending; ")
		other := func(t *payment.Transaction) { t.Amount.Value = 7 }
		peek(charged("e", "o-2", morning, other), "")
		peek(charged("f", "o-2", morning, other), "e same order pending; ")
		// What was only peeked at is forgotten when the store answers again.
		if got := told(appended(t, s, charged("g", "o-2", morning, other))); got != "" {
			t.Errorf("g was told of %q", got)
		}
	})
}
