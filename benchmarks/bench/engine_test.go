package bench

import (
	"context"
	"testing"
	"time"
)

// BenchmarkEngine takes transactions through decode, ledger, windows, rules and
// encode; one operation is one transaction.
func BenchmarkEngine(b *testing.B) {
	for _, with := range []string{"memory", "journal"} {
		b.Run(with, func(b *testing.B) {
			dir := ""
			if with == "journal" {
				dir = b.TempDir()
			}
			benchmarkEngine(b, dir)
		})
	}
}

func benchmarkEngine(b *testing.B, dir string) {
	e, err := newBench(dir)
	if err != nil {
		b.Fatal(err)
	}
	l := newEngineLoad(1, DefaultOptions().People, 100_000, b.N)
	if _, err := e.run(l.warm, new(usage), new(usage)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	var settling time.Duration
	for records := l.measure; len(records) > 0; {
		n := min(batchSize, len(records))
		if _, _, err := e.engine.Decide(b.Context(), records[:n], &e.batch); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		if err := e.gate.Settle(context.Background(), &e.batch); err != nil {
			b.Fatal(err)
		}
		settling += time.Since(began)
		records = records[n:]
	}
	b.ReportMetric(float64(settling.Nanoseconds())/float64(b.N), "settle-ns/op")
	b.StopTimer()
	if err := e.gate.Store.Close(); err != nil {
		b.Fatal(err)
	}
}

// TestEngineAllocatesLittle holds the number of allocations of a transaction,
// from its bytes to its decision, over 100,000 warm ones.
func TestEngineAllocatesLittle(t *testing.T) {
	const most = 4.0
	l := newEngineLoad(1, DefaultOptions().People, 100_000, 100_000)
	for name, dir := range map[string]string{"memory": "", "journal": t.TempDir()} {
		c, err := engineCost(l, dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %.2f allocations to decide, %.2f to settle; %.2f µs and %.2f µs", name, c.DecideAllocs, c.SettleAllocs, c.Decide, c.Settle)
		if c.DecideAllocs+c.SettleAllocs > most {
			t.Errorf("%s: %.2f allocations a transaction, of at most %v", name, c.DecideAllocs+c.SettleAllocs, most)
		}
		if c.Held == 0 || c.Held > 0.2 {
			t.Errorf("%s: %.1f %% of the transactions are held or blocked: the rules are not at work", name, 100*c.Held)
		}
	}
}
