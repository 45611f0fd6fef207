package sortedsets

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

var kinds = []string{"payer", "card", "device", "ip", "payee"}

// open opens features over a real Redis under a prefix of their own, which is
// emptied when the test ends.
func open(t testing.TB, c Config) *Features {
	t.Helper()
	c.Addr = os.Getenv("SLUICE_TEST_REDIS")
	if c.Addr == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("SLUICE_TEST_REDIS is not set: no Redis to test against")
		}
		t.Skip("SLUICE_TEST_REDIS is not set: see .ci/services")
	}
	c.Prefix = fmt.Sprintf("test-%08x:", rand.Uint32())
	c.Entities, c.Windows = kinds, []time.Duration{time.Minute, 10 * time.Minute, time.Hour}
	f, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Clear(context.Background()); err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// history is n transactions in the order of their times, some at the same one.
// IPs and payees are shared by many; some transactions name no card.
func history(rng *rand.Rand, n, people int, pause int64) []Transaction {
	txs := make([]Transaction, n)
	now := int64(1_767_571_200_000)
	for i := range txs {
		now += rng.Int64N(2*pause + 1)
		p := rng.IntN(people)
		card := fmt.Sprint("c-", p)
		if p%7 == 0 {
			card = ""
		}
		txs[i] = Transaction{ID: fmt.Sprintf("%020d", i), Time: now, Amount: rng.Int64N(1_000_000), Entities: []string{
			fmt.Sprint("u-", p), card, fmt.Sprint("d-", p), fmt.Sprint("10.0.0.", p/4), fmt.Sprint("m-", rng.IntN(people/10)),
		}}
	}
	return txs
}

// oracle keeps every event of every entity.
type oracle map[string][]Transaction

func (o oracle) observe(tx *Transaction, windows []int64) []Value {
	var values []Value
	for kind, id := range tx.Entities {
		own := make([]Value, len(windows))
		if id != "" {
			key := kinds[kind] + ":" + id
			o[key] = append(o[key], *tx)
			for w, length := range windows {
				for _, e := range o[key] {
					if e.Time > tx.Time-length && e.Time <= tx.Time {
						own[w].Count++
						own[w].Sum += e.Amount
					}
				}
			}
		}
		values = append(values, own...)
	}
	return values
}

func TestEveryValueIsExactAsOfItsTransaction(t *testing.T) {
	for _, reading := range []Reading{Ranged, Counted} {
		for _, batch := range []int{1, 7, 200} {
			t.Run(fmt.Sprintf("%v/batch=%d", reading, batch), func(t *testing.T) {
				f := open(t, Config{Reading: reading, Connections: 3})
				txs := history(rand.New(rand.NewPCG(1, uint64(batch))), 4000, 100, 1500)
				all := oracle{}
				values := make([]Value, len(txs)*f.Width())
				for from := 0; from < len(txs); from += batch {
					to := min(from+batch, len(txs))
					if err := f.Observe(t.Context(), txs[from:to], values[from*f.Width():to*f.Width()]); err != nil {
						t.Fatal(err)
					}
				}
				evicted := false
				for i := range txs {
					want, got := all.observe(&txs[i], f.windows), values[i*f.Width():(i+1)*f.Width()]
					for j := range want {
						if got[j] != want[j] {
							t.Fatalf("transaction %d, value %d: got %v, want %v", i, j, got[j], want[j])
						}
					}
					evicted = evicted || want[2].Count < int64(len(all["payer:"+txs[i].Entities[0]]))
				}
				if !evicted {
					t.Fatal("nothing ever left the longest window: the test proves too little")
				}
			})
		}
	}
}

// BenchmarkReading compares the ways to read: 20,000 people who pay every half
// an hour, an hour of it before the clock starts. Run it with -benchtime=20000x.
func BenchmarkReading(b *testing.B) {
	for _, c := range []Config{
		{Reading: Ranged, Connections: 1, Protocol: 3},
		{Reading: Ranged, Connections: 2, Protocol: 3},
		{Reading: Ranged, Connections: 4, Protocol: 3},
		{Reading: Ranged, Connections: 8, Protocol: 3},
		{Reading: Ranged, Connections: 4, Protocol: 2},
		{Reading: Counted, Connections: 4, Protocol: 3},
	} {
		for _, batch := range []int{200, 500} {
			b.Run(fmt.Sprintf("%v/connections=%d/protocol=%d/batch=%d", c.Reading, c.Connections, c.Protocol, batch), func(b *testing.B) {
				const warm = 40_000
				f := open(b, c)
				txs := history(rand.New(rand.NewPCG(1, 1)), warm+b.N, 20_000, 100)
				values := make([]Value, batch*f.Width())
				observe := func(txs []Transaction) {
					for len(txs) > 0 {
						n := min(batch, len(txs))
						if err := f.Observe(b.Context(), txs[:n], values[:n*f.Width()]); err != nil {
							b.Fatal(err)
						}
						txs = txs[n:]
					}
				}
				observe(txs[:warm])
				b.ResetTimer()
				observe(txs[warm:])
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tx/s")
			})
		}
	}
}
