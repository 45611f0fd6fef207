package traffic

import (
	"bytes"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// take returns the next n events.
func take(g *Generator, n int) []Event {
	events := make([]Event, n)
	for i := range events {
		events[i] = g.Next()
	}
	return events
}

func TestSameSeedSameStream(t *testing.T) {
	a, b := take(New(Config{Seed: 7, OutcomeSpeed: 100}), 50_000), New(Config{Seed: 7, OutcomeSpeed: 100})
	for i := range a {
		e := b.Next()
		if !bytes.Equal(a[i].Value, e.Value) || a[i].Time != e.Time || a[i].Key != e.Key || a[i].Kind != e.Kind || a[i].Label != e.Label {
			t.Fatalf("record %d differs:\n%s\n%s", i, a[i].Value, e.Value)
		}
	}
}

func TestAnotherSeedAnotherStream(t *testing.T) {
	a, b := New(Config{Seed: 7}), New(Config{Seed: 8})
	same := 0
	for range 1000 {
		if bytes.Equal(a.Next().Value, b.Next().Value) {
			same++
		}
	}
	if same > 0 {
		t.Errorf("%d of 1000 records are the same under two seeds", same)
	}
}

func TestLaterStartHasTheSamePeopleAndNewTransactions(t *testing.T) {
	a, b := New(Config{Seed: 7, People: 500}), New(Config{Seed: 7, People: 500, Start: defaultStart.Add(time.Hour)})
	for i := range a.people {
		if p, q := &a.people[i], &b.people[i]; p.account != q.account || p.cards != q.cards || p.devices != q.devices || p.usual != q.usual {
			t.Fatalf("person %d is %v and %v", i, *p, *q)
		}
	}
	ids := map[string]bool{}
	for _, r := range transactions(t, take(a, 10_000)) {
		ids[r.tx.ID] = true
	}
	for _, r := range transactions(t, take(b, 10_000)) {
		if ids[r.tx.ID] {
			t.Fatalf("both made transaction %s", r.tx.ID)
		}
	}
}

func TestEveryRecordIsAccepted(t *testing.T) {
	d := payment.Decoder{Limits: payment.DefaultLimits()}
	g := New(Config{Seed: 1, OutcomeSpeed: 2000})
	ids := map[string]bool{}
	var tx payment.Transaction
	var o payment.Outcome
	var last payment.Time
	for i := range 100_000 {
		e := g.Next()
		if e.Time < last {
			t.Fatalf("record %d goes back from %s to %s", i, last, e.Time)
		}
		last = e.Time
		if kind := d.Kind(e.Value); kind != e.Kind {
			t.Fatalf("record %d is of kind %d, called %d: %s", i, kind, e.Kind, e.Value)
		}
		switch e.Kind {
		case payment.RecordTransaction:
			if r := d.Transaction(e.Value, e.Time, &tx); r != nil {
				t.Fatalf("record %d refused: %v: %s", i, r, e.Value)
			}
			if tx.EventTime != e.Time || tx.Payer.AccountID != e.Key {
				t.Fatalf("record %d is at %s of %s, called %s of %s", i, tx.EventTime, tx.Payer.AccountID, e.Time, e.Key)
			}
			if ids[tx.ID] {
				t.Fatalf("record %d repeats transaction id %s", i, tx.ID)
			}
			if tx.Amount.Value < 1 {
				t.Fatalf("record %d moves nothing: %s", i, e.Value)
			}
			ids[string([]byte(tx.ID))] = true
		case payment.RecordOutcome:
			if r := d.Outcome(e.Value, e.Time, &o); r != nil {
				t.Fatalf("record %d refused: %v: %s", i, r, e.Value)
			}
			if !ids[o.TransactionID] {
				t.Fatalf("record %d is the outcome of no earlier transaction: %s", i, e.Value)
			}
			if o.EventTime != e.Time || o.PayerID != e.Key {
				t.Fatalf("record %d is at %s of %s, called %s of %s", i, o.EventTime, o.PayerID, e.Time, e.Key)
			}
		}
	}
}

func TestRateIsThatOfAllTransactions(t *testing.T) {
	for _, rate := range []float64{0.2, 50, 20_000} {
		g := New(Config{Seed: 3, Rate: rate})
		n, last := 0, payment.Time(0)
		for n < 100_000 {
			e := g.Next()
			if e.Kind == payment.RecordTransaction {
				n++
			}
			last = e.Time
		}
		got := float64(n) / (float64(last-defaultStart) / 1e9)
		if got < 0.97*rate || got > 1.03*rate {
			t.Errorf("rate %g gave %.4g transactions a second", rate, got)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("2,000,000 records")
	}
	for rate, n := range map[float64]int{50: 2_000_000, 200_000: 2_000_000} {
		g := New(Config{Seed: 5, Rate: rate, People: 20_000})
		most, planned, settled := 0, 0, 0
		for range n {
			e := g.Next()
			most, planned = max(most, g.outcomes.len()), max(planned, g.planned.len())
			if e.Kind == payment.RecordOutcome {
				settled++
			}
		}
		t.Logf("rate %g: at most %d outcomes and %d transactions to come", rate, most, planned)
		if most > maxOutcomes {
			t.Errorf("rate %g: %d outcomes to come, bound %d", rate, most, maxOutcomes)
		}
		if planned > maxPlanned+1000 { // what was under way when the bound was met goes on
			t.Errorf("rate %g: %d transactions to come, bound about %d", rate, planned, maxPlanned)
		}
		if rate == 50 && settled < 900_000 {
			t.Errorf("rate %g: only %d outcomes came", rate, settled)
		}
	}
}

func TestSmallestWorldGoesOn(t *testing.T) {
	g := New(Config{People: 1, Merchants: 1, Rate: 0.001, FraudShare: 5})
	for range 20_000 {
		g.Next()
	}
}

func TestNegativeFraudShareMeansNone(t *testing.T) {
	for _, e := range take(New(Config{FraudShare: -1}), 50_000) {
		if e.Label != Genuine {
			t.Fatalf("%s: %s", e.Label, e.Value)
		}
	}
}

func BenchmarkNext(b *testing.B) {
	g := New(Config{Seed: 1, Rate: 2000, People: 100_000})
	b.ReportAllocs()
	transactions, size := 0, 0
	for range b.N {
		e := g.Next()
		size += len(e.Value)
		if e.Kind == payment.RecordTransaction {
			transactions++
		}
	}
	b.ReportMetric(float64(transactions)/b.Elapsed().Seconds(), "transactions/s")
	b.ReportMetric(float64(size)/float64(b.N), "B/record")
}
