package window

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

func memoryFeatures() []Feature {
	return []Feature{
		countOf(payer, time.Hour), countOf(payer, 30*day),
		{Entity: payer, Name: "sum", Aggregate: Sum, Length: 30 * day},
		{Entity: payer, Name: "payees", Aggregate: Distinct, Field: field("payee"), Length: 30 * day},
		countOf(Entity{First: Payee}, day),
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A hundred thousand payers take turns, and all but a few thousand are cold.
// The folds never take more than the limit and what one call adds, the heap is in
// proportion, and those that were evicted count on where they stood.
func TestFoldsKeepToTheirMemory(t *testing.T) {
	const limit, payers, batch = 4 << 20, 100_000, 500
	before := heap()
	s := opened(t, Options{Dir: t.TempDir(), Features: memoryFeatures(), Memory: limit, SegmentBytes: 4 << 20})
	items, marks := make([]*Item, batch), make([]Mark, batch)
	for i := range items {
		items[i] = paying("", "", 0, 1)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	seen := make([]uint8, payers)
	var most int64
	for n := 0; n < 2*payers; n += batch {
		for i := range items {
			it := items[i]
			at := n + i
			who := at % payers
			if at%10 == 0 {
				who = rng.IntN(2000) // the warm ones
			}
			seen[who]++
			it.Tx.ID, it.Tx.Payer.AccountID = fmt.Sprint(at), fmt.Sprint("u", who)
			it.Tx.Payee.AccountID = fmt.Sprint("m", at%5000)
			it.Tx.EventTime = morning.Add(time.Duration(at) * time.Millisecond)
			it.KafkaTime = it.Tx.EventTime
		}
		appended(t, s, items...)
		for i, it := range items {
			marks[i] = Mark{Tx: it.Hash, Verdict: payment.Approve, Offset: int64(n + i)}
			if i == batch-1 {
				var who int
				if _, err := fmt.Sscanf(it.Tx.Payer.AccountID, "u%d", &who); err != nil {
					t.Fatal(err)
				}
				if got := it.Values[1].Int(); got != int64(seen[who]) {
					t.Fatalf("payment %d of payer %d counts %d, not %d", n+i, who, got, seen[who])
				}
			}
		}
		if err := s.Decided(t.Context(), marks); err != nil {
			t.Fatal(err)
		}
		most = max(most, s.Size().FoldBytes)
	}
	const oneCall = batch * 2 * 1000
	if most > limit+oneCall || most < limit*3/4 {
		t.Errorf("the folds took up to %d bytes; the limit is %d", most, limit)
	}
	size, took := s.Size(), heap()-before
	if size.Evicted < payers || size.Loaded < payers/2 {
		t.Errorf("%d folds were evicted and %d loaded again", size.Evicted, size.Loaded)
	}
	// Beside the folds: the tail with its index, and the table of entities.
	if most := 2*int64(limit) + 4*(4<<20); took > most {
		t.Errorf("the heap grew by %d bytes, more than %d", took, most)
	}
	t.Logf("folds %d bytes at the most, heap %d, %d evicted, %d loaded", most, took, size.Evicted, size.Loaded)
}

// A store that is always short of memory says what one with plenty of it says.
func TestShortMemoryChangesNoValue(t *testing.T) {
	features := append(memoryFeatures(), Feature{Entity: payer, Name: "failed", Aggregate: Count, Length: 7 * day, ReadsStatus: true,
		Where: func(e *Event) Truth { return TruthOf(e.status == payment.OutcomeTechnicalFailure) }})
	opts := Options{Features: features, HotEvents: 256, ExactDistinct: 50, SegmentBytes: 64 << 10}
	opts.fillDefaults()
	plenty := opened(t, opts)
	opts.Memory = 32 << 10
	short := keyed(t, opts, plenty.Key())
	rng := rand.New(rand.NewPCG(2, 2))
	at := morning
	for n := range 400 {
		items := make([][2]*Item, 1+rng.IntN(40))
		for i := range items {
			at = at.Add(time.Duration(rng.ExpFloat64() * float64(20*time.Second)))
			who := fmt.Sprint("u", int(rng.ExpFloat64()*20))
			payee, late := fmt.Sprint("m", rng.IntN(200)), time.Duration(0)
			if rng.IntN(10) == 0 {
				late = time.Duration(rng.Int64N(int64(2 * time.Hour)))
			}
			for k := range items[i] {
				it := paying(fmt.Sprint(n, "-", i), who, at.Add(-late), rng.Int64N(2)+1)
				it.Base = int64(i)
				it.Tx.Payee.AccountID = payee
				it.KafkaTime = at
				items[i][k] = it
			}
		}
		for k, s := range []*Embedded{plenty, short} {
			var call []*Item
			for i := range items {
				call = append(call, items[i][k])
			}
			appended(t, s, call...)
			of := fmt.Sprint(max(0, n-n%7), "-0")
			if err := s.Outcomes(t.Context(), []*OutcomeItem{outcomeOf(of, fmt.Sprint(n), at)}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range items {
			sameItem(t, fmt.Sprint("call ", n, ", payment ", i), items[i][0], items[i][1])
		}
	}
	if size := short.Size(); size.Evicted < 1000 || plenty.Size().Evicted > 0 {
		t.Errorf("short of memory %d were evicted, with plenty of it %d", size.Evicted, plenty.Size().Evicted)
	}
}

// Entities come and go, in turns many small ones and a few large ones. What they
// leave behind is used by those that come after: the heap does not grow.
func TestChurnDoesNotGrowTheHeap(t *testing.T) {
	const limit = 8 << 20
	s := opened(t, Options{Dir: t.TempDir(), Features: memoryFeatures(), Memory: limit, Lateness: time.Hour, SegmentBytes: 1 << 20, Keep: 2 * day, KeepMarks: day})
	at, n := morning, 0
	items := make([]*Item, 500)
	var after []int64
	for cycle := range 6 {
		for _, shape := range []struct{ entities, events int }{{20_000, 1}, {400, 40}, {12, 1500}, {3000, 6}} {
			for k := 0; k < shape.entities*shape.events; k += len(items) {
				for i := range items {
					items[i] = paying(fmt.Sprint(n), fmt.Sprint("u", cycle, "-", shape.events, "-", (k+i)%shape.entities), at, 1)
					items[i].Tx.Payee.AccountID = fmt.Sprint("m", n%7919)
					at = at.Add(500 * time.Millisecond)
					n++
				}
				appended(t, s, items...)
				marks := make([]Mark, len(items))
				for i, it := range items {
					marks[i] = Mark{Tx: it.Hash, Offset: int64(n + i)}
				}
				if err := s.Decided(t.Context(), marks); err != nil {
					t.Fatal(err)
				}
			}
		}
		at = at.Add(20 * day)
		after = append(after, heap())
	}
	for cycle, took := range after[3:] {
		if took > after[2]*5/4 {
			t.Fatalf("after the third cycle the heap had %d bytes, after cycle %d %d: %v", after[2], cycle+4, took, after)
		}
	}
	t.Logf("the heap after each cycle: %v", after)
}
