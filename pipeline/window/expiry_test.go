package window

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// footprint is what a store leaves in its directory.
type footprint struct {
	segments, indexes int
	bytes             int64
}

func footprintOf(t *testing.T, dir string) (f footprint) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		f.bytes += info.Size()
		if ok, _ := filepath.Match("journal-*", e.Name()); ok {
			f.segments++
		}
		if ok, _ := filepath.Match("index-*", e.Name()); ok {
			f.indexes++
		}
	}
	return f
}

// Six hundred days pass under a steady load. Payments that never get a verdict,
// outcomes and verdicts among them: the disk, the tables and the folds take no
// more at the end than after the logs were full once, and all values are right,
// restarts in between.
func TestLogsLevelOffUnderASteadyLoad(t *testing.T) {
	card := Entity{First: Card}
	opts := Options{Dir: t.TempDir(), Keep: 10 * day, KeepMarks: 5 * day, Lateness: day, SegmentBytes: 4 << 10, SyncEvery: time.Hour, Features: []Feature{
		countOf(payer, 7*day),
		{Entity: payer, Name: "sum", Aggregate: Sum, Length: 7 * day},
		{Entity: payer, Name: "payees", Aggregate: Distinct, Field: field("payee"), Length: 7 * day},
		countOf(card, 7*day), // each idle for a long time
		{Entity: card, Name: "payees", Aggregate: Distinct, Field: field("payee"), Length: 7 * day},
		{Entity: card, Name: "not_failed", Aggregate: Count, Length: 7 * day, ReadsStatus: true,
			Where: func(e *Event) Truth { return TruthOf(e.status != payment.OutcomeTechnicalFailure) }},
	}}
	s, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	const days, perDay = 600, 12 // one payment every two hours
	var full footprint
	var fullUndecided int
	for d := range days {
		if d%37 == 36 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if s, err = Open(opts); err != nil {
				t.Fatal(err)
			}
		}
		for k := range perDay {
			n := d*perDay + k
			it := paying(fmt.Sprint("t", n), fmt.Sprint("u", k%2), morning.Add(time.Duration(n)*2*time.Hour), 3)
			it.Tx.Payee.AccountID = fmt.Sprint("m", n%5)
			it.Tx.Instrument.Kind, it.Tx.Instrument.Token = "card", fmt.Sprint("c", d%50) // comes back after fifty days
			appended(t, s, it)
			// Each payer pays every four hours: 42 in seven days.
			want := int64(min(42, n/2+1))
			if it.Values[0].Int() != want || it.Values[1].Int() != 3*want || it.Values[2].Int() != min(5, want) {
				t.Fatalf("day %d: count %s, sum %s, payees %s, not %d", d, asJSON(it.Values[0]), asJSON(it.Values[1]), asJSON(it.Values[2]), want)
			}
			if it.Values[3].Int() != int64(k+1) || it.Values[4].Int() != min(5, int64(k+1)) || it.Values[5].Int() != int64(k+1-k/3) {
				t.Fatalf("day %d, payment %d of a card that was idle: count %s, payees %s, not failed %s", d, k, asJSON(it.Values[3]), asJSON(it.Values[4]), asJSON(it.Values[5]))
			}
			if k%3 == 2 {
				out := &OutcomeItem{Outcome: &payment.Outcome{ID: it.Tx.ID, TransactionID: it.Tx.ID, Kind: payment.OutcomeTechnicalFailure, EventTime: it.Tx.EventTime}}
				if err := s.Outcomes(t.Context(), []*OutcomeItem{out}); err != nil {
					t.Fatal(err)
				}
			}
			if k%4 > 0 { // one in four never gets a verdict
				if err := s.Decided(t.Context(), []Mark{{Tx: it.Hash, Verdict: payment.Approve, Offset: int64(n)}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if d == 60 {
			indexed(t, s)
			full, fullUndecided = footprintOf(t, opts.Dir), s.undecided.Len()
		}
		if d < 60 {
			continue
		}
		indexed(t, s)
		now := footprintOf(t, opts.Dir)
		if now.segments > full.segments+4 || now.indexes > 2*full.indexes+8 || now.bytes > full.bytes*3/2 {
			t.Fatalf("on day 60 the directory had %+v, on day %d it has %+v", full, d, now)
		}
		if n := s.undecided.Len(); n > 2*fullUndecided {
			t.Fatalf("on day 60 %d transactions had no verdict, on day %d %d", fullUndecided, d, n)
		}
		if since := s.Since(payer); since > morning.Add(time.Duration(d)*day-8*day) || since < morning.Add(time.Duration(d)*day-40*day) {
			t.Fatalf("on day %d the logs reach back to %v", d, since)
		}
	}
	t.Logf("day 60: %+v, day %d: %+v, %d undecided", full, days, footprintOf(t, opts.Dir), s.undecided.Len())
}

// The logs are said to be whole from a time after which they have lost nothing,
// though late payments put earlier times into later segments.
func TestSinceIsAfterAllThatTheLogsHaveLost(t *testing.T) {
	opts := Options{Dir: t.TempDir(), Features: []Feature{countOf(payer, time.Hour)}, Keep: day, Lateness: 12 * time.Hour, SegmentBytes: 4 << 10, SyncEvery: time.Hour}
	s := opened(t, opts)
	var items []*Item
	check := func(n int) {
		t.Helper()
		lost := 0
		since := s.Since(payer)
		for _, it := range items {
			held, err := s.Holds(t.Context(), it.Hash)
			if err != nil {
				t.Fatal(err)
			}
			if !held {
				lost++
				if it.Tx.EventTime >= since {
					t.Fatalf("after %d payments one of %v is lost, and the logs are said to be whole since %v", n, it.Tx.EventTime, since)
				}
			}
		}
		if n > 500 && lost == 0 {
			t.Fatal("nothing was lost")
		}
	}
	for n := range 600 {
		it := paying(fmt.Sprint("t", n), "u", morning.Add(time.Duration(n)*15*time.Minute), 1)
		if n%3 == 0 {
			it.Tx.EventTime -= payment.Time(11 * time.Hour)
		}
		items = append(items, appended(t, s, it))
		if n%20 == 0 {
			check(n)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = opened(t, opts)
	check(600)
}

// A verdict outlives the segments that hold no payment at all, as when a member
// reads the decisions of others before its first payment.
func TestMarksWithoutPaymentsAreKeptAsLongAsMarks(t *testing.T) {
	s := opened(t, Options{Dir: t.TempDir(), Features: []Feature{countOf(payer, time.Hour)}, Keep: day, KeepMarks: 10 * day, SegmentBytes: 2 << 10})
	for n := range 200 {
		if err := s.Decided(t.Context(), []Mark{{Tx: s.Key().Tx(fmt.Sprint("d", n)), Verdict: payment.Block, Offset: int64(n)}}); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 100 {
		appended(t, s, paying(fmt.Sprint("t", n), "u", morning.Add(time.Duration(n)*time.Minute), 1))
	}
	for n := range 200 {
		if m, ok := s.Earlier(s.Key().Tx(fmt.Sprint("d", n))); !ok || m.Offset != int64(n) {
			t.Fatalf("the decision %d is forgotten after an hour", n)
		}
	}
}

// A transaction that never got a verdict and comes again when the log has
// forgotten it is a new one.
func TestAPaymentThatTheLogHasForgottenIsNew(t *testing.T) {
	s := opened(t, Options{Features: []Feature{countOf(payer, time.Hour)}, Keep: day, Lateness: time.Hour, SegmentBytes: 1 << 10})
	appended(t, s, paying("t", "u", morning, 1))
	for n := range 200 {
		appended(t, s, paying(fmt.Sprint("o", n), "other", morning.Add(time.Duration(n)*time.Hour), 1))
	}
	again := paying("t", "u", morning, 1)
	appended(t, s, again)
	if got := again.Values[0].Int(); got != 1 {
		t.Errorf("it counts %d", got)
	}
	if err := s.Decided(t.Context(), []Mark{{Tx: again.Hash, Verdict: payment.Approve, Offset: 1}}); err != nil {
		t.Fatal(err)
	}
}

// numberedFrom is a directory whose journal begins with a given segment.
func numberedFrom(t *testing.T, first uint32) string {
	t.Helper()
	dir := t.TempDir()
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("journal-%08d", first)), segmentHeader(key, first), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The numbers of entries are unique only among the segments that are kept: they
// wrap after 2^14 segments. Nothing notices.
func TestNumbersOfEntriesWrap(t *testing.T) {
	const wraps = 1 << (numberBits - segmentShift)
	for _, first := range []uint32{wraps - 20, 5*wraps - 3, 1<<20 - 7} {
		opts := Options{Dir: numberedFrom(t, first), Keep: 2 * day, Lateness: day, SegmentBytes: 2 << 10, SyncEvery: time.Hour, Features: []Feature{
			countOf(payer, day),
			{Entity: payer, Name: "last", Aggregate: Last, Field: field("channel"), Length: day},
			{Entity: payer, Name: "failed", Aggregate: Count, Length: day, ReadsStatus: true, Where: func(e *Event) Truth { return TruthOf(e.status == payment.OutcomeTechnicalFailure) }},
		}}
		s, err := Open(opts)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 600 {
			if n%50 == 49 {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if s, err = Open(opts); err != nil {
					t.Fatal(err)
				}
			}
			if n%7 == 0 {
				evictAll(s)
			}
			it := paying(fmt.Sprint("t", n), "u", morning.Add(time.Duration(n)*time.Hour), 1)
			it.Tx.Channel = fmt.Sprint("c", n)
			appended(t, s, it)
			want := payment.Value{}
			if n > 0 {
				want = payment.StringValue(fmt.Sprint("c", n-1))
			}
			failed := int64(min(23, n))
			if it.Values[0].Int() != int64(min(24, n+1)) || it.Values[1] != want || it.Values[2].Int() != failed {
				t.Fatalf("from segment %d, payment %d: count %s, last %s, failed %s", first, n, asJSON(it.Values[0]), asJSON(it.Values[1]), asJSON(it.Values[2]))
			}
			if p := it.Positions[0]; p.Segment < first || p.Segment > first+600 {
				t.Fatalf("its position is %v", p)
			}
			out := &OutcomeItem{Outcome: &payment.Outcome{ID: "o", TransactionID: it.Tx.ID, Kind: payment.OutcomeTechnicalFailure, EventTime: it.Tx.EventTime}}
			if err := s.Outcomes(t.Context(), []*OutcomeItem{out}); err != nil || out.Status != OutcomeCounted {
				t.Fatal(err, out.Status)
			}
		}
		if last := s.journal.tail().number; last < first+20 {
			t.Errorf("it is at segment %d only", last)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// entryAt finds what numberOf has numbered, and nothing else, on both sides of
// the wrap.
func TestANumberFindsItsEntryOnBothSidesOfTheWrap(t *testing.T) {
	const wraps = 1 << (numberBits - segmentShift)
	j := journal{limit: 1 << 10, breaker: newBreaker(nil, nil)}
	if err := j.begin(wraps - 2); err != nil {
		t.Fatal(err)
	}
	type placed struct {
		number  uint64
		segment uint32
		offset  uint64
		item    string
	}
	var all []placed
	for i := range 5 {
		for k := range 3 {
			it := paying(fmt.Sprint("t", i, k), "u", morning, int64(100*i+k))
			it.Hash = j.key.Tx(it.Tx.ID)
			at := len(j.tail().data)
			_, n := j.put(func(b []byte) []byte { return appendTransaction(b, j.key, it) })
			if err := j.flush(); err != nil {
				t.Fatal(err)
			}
			all = append(all, placed{n, j.tail().number, uint64(at), it.Tx.ID})
		}
		if err := j.seal(); err != nil {
			t.Fatal(err)
		}
	}
	for dropped := range 4 {
		for i, p := range all {
			e := j.at(p.number)
			if i < 3*dropped {
				if e != nil {
					t.Fatalf("entry %d is found after its segment was dropped", i)
				}
				continue
			}
			if e == nil || e.tx() != j.key.Tx(p.item) {
				t.Fatalf("entry %d is not found", i)
			}
			if segment, offset := j.position(p.number); segment != p.segment || offset != p.offset {
				t.Fatalf("entry %d is at %d/%d, not %d/%d", i, segment, offset, p.segment, p.offset)
			}
		}
		if err := j.drop(); err != nil {
			t.Fatal(err)
		}
	}
}
