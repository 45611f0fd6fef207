package window

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// BenchmarkRedisAppend is payments a second of one member with the Redis store
// beside it: 5 entities x 3 windows x count and sum, 8 lanes, micro-batches of
// 256, entities that are in memory.
func BenchmarkRedisAppend(b *testing.B) {
	server := startRedis(b)
	var features []Feature
	for _, name := range []string{"payer", "payee", "card", "device", "ip"} {
		e, _ := ParseEntity(name)
		for _, w := range []time.Duration{time.Minute, time.Hour, 24 * time.Hour} {
			features = append(features, Feature{Entity: e, Name: fmt.Sprint("count", w), Aggregate: Count, Length: w},
				Feature{Entity: e, Name: fmt.Sprint("sum", w), Aggregate: Sum, Length: w})
		}
	}
	s, err := OpenRedis(b.Context(), RedisOptions{URL: "redis://" + server.addr, Timeout: 30 * time.Second}, Options{Features: features, Keep: 24 * time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	const lanes, batch = 8, 256
	run := func(batches int, round int) {
		var wait sync.WaitGroup
		for lane := range lanes {
			wait.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(lane), 1))
				txs := make([]payment.Transaction, batch)
				items := make([]*Item, batch)
				for i := range items {
					items[i] = &Item{}
				}
				for n := range batches {
					for i := range items {
						tx := &txs[i]
						clock := payment.Time(1_800_000_000e9) + payment.Time((round*batches+n)*batch*lanes+i*lanes+lane)*20e6
						*tx = payment.Transaction{ID: fmt.Sprint(round, "-", lane, "-", n, "-", i), Type: payment.TypePayment, EventTime: clock}
						tx.Payer.AccountID, tx.Payee.AccountID = fmt.Sprint("p", rng.IntN(20000)), fmt.Sprint("m", rng.IntN(2000))
						tx.Instrument.Kind, tx.Instrument.Token = "card", fmt.Sprint("c", rng.IntN(20000))
						tx.Device.ID = fmt.Sprint("d", rng.IntN(20000))
						tx.Device.IP = fmt.Sprint("10.0.", rng.IntN(80), ".", rng.IntN(250))
						tx.Device.Addr = mustAddr(tx.Device.IP)
						items[i].Tx, items[i].KafkaTime, items[i].Base, items[i].Based = tx, clock, 100, true
					}
					if err := s.Append(b.Context(), items); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wait.Wait()
	}
	run(20, 0) // folds are in memory then
	serverCPU := func() (seconds float64) {
		text, err := s.client.Info(b.Context(), "cpu").Result()
		if err != nil {
			b.Fatal(err)
		}
		for _, name := range []string{"used_cpu_user", "used_cpu_sys"} {
			v, err := strconv.ParseFloat(infoOf(text)[name], 64)
			if err != nil {
				b.Fatal(err)
			}
			seconds += v
		}
		return seconds
	}
	before := serverCPU()
	batches := max(1, b.N/(lanes*batch))
	b.ResetTimer()
	run(batches, 1)
	b.StopTimer()
	b.ReportMetric(float64(batches*lanes*batch)/b.Elapsed().Seconds(), "payments/s")
	b.ReportMetric((serverCPU()-before)*1e9/float64(batches*lanes*batch), "server-ns/payment")
}
