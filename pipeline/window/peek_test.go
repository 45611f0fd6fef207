package window

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window/disk/disktest"
)

// What memory says of payments, one after the other, is what they find when they are
// appended, also where an entity is hot, its distinct values are estimated, and
// memory is short; and that somebody has looked changes no value.
func TestMemorySaysWhatAnAppendWillSay(t *testing.T) {
	opts := Options{Features: append(memoryFeatures(), Feature{Entity: payer, Name: "last", Aggregate: Last, Field: field("payee"), Length: day},
		Feature{Entity: payer, Name: "most", Aggregate: Max, Length: 7 * day}), HotEvents: 256, ExactDistinct: 50, SegmentBytes: 64 << 10}
	for name, memory := range map[string]int64{"plenty of memory": 1 << 30, "short of memory": 64 << 10} {
		t.Run(name, func(t *testing.T) {
			opts := opts
			opts.fillDefaults()
			plain := opened(t, opts)
			opts.Memory = memory
			peeked := keyed(t, opts, plain.Key())
			rng := rand.New(rand.NewPCG(3, 3))
			at, hidden := morning, 0
			for n := range 300 {
				var looks, items, others []*Item
				for i := range 1 + rng.IntN(40) {
					at = at.Add(time.Duration(rng.ExpFloat64() * float64(20*time.Second)))
					it := paying(fmt.Sprint(n, "-", i), fmt.Sprint("u", int(rng.ExpFloat64()*4)), at, rng.Int64N(1000))
					it.Tx.Payee.AccountID = fmt.Sprint("m", rng.IntN(200))
					items, others, looks = append(items, it), append(others, onceMore(it)), append(looks, onceMore(it))
				}
				half := len(looks) / 2
				if memory < 1<<20 {
					half = 0 // what is provisional may be given up between two calls
				}
				peeked.Peek(looks[:half])
				peeked.Peek(looks[half:])
				appended(t, peeked, items...)
				appended(t, plain, others...)
				for i, it := range items {
					sameItem(t, fmt.Sprint("call ", n, ", payment ", i), others[i], it)
					if looks[i].Without != nil {
						hidden++
						continue
					}
					sameItem(t, fmt.Sprint("call ", n, ", payment ", i, ", from memory"), it, looks[i])
					if !looks[i].Stale || it.Stale {
						t.Fatalf("call %d, payment %d: stale from memory %v, appended %v", n, i, looks[i].Stale, it.Stale)
					}
				}
			}
			if peeked.Size().FoldBytes > memory+1<<20 || hidden == 0 {
				t.Errorf("memory takes %d bytes; of %d payments it knew too little", peeked.Size().FoldBytes, hidden)
			}
		})
	}
}

// An outage has no end, and payments of many go on and on: what is provisional stays
// within the memory that was given, in either store.
func TestAnOutageWithoutEndKeepsToItsMemory(t *testing.T) {
	const limit = 1 << 20
	full := disktest.New()
	embedded := opened(t, Options{Dir: t.TempDir(), Features: memoryFeatures(), Memory: limit, Files: full})
	server := startRedis(t)
	shared := wired(t, server, RedisOptions{Timeout: 300 * time.Millisecond}, Options{Features: memoryFeatures(), Memory: limit})
	at := morning
	batch := func(n int) (items []*Item) {
		for i := range 100 {
			at = at.Add(time.Millisecond)
			it := paying(fmt.Sprint(n, "-", i), fmt.Sprint("u", i), at, 1)
			it.Tx.Payee.AccountID = fmt.Sprint("m", i%7)
			items = append(items, it)
		}
		return items
	}
	first := batch(-1)
	appended(t, embedded, first...)
	for _, it := range first {
		appended(t, shared, onceMore(it))
	}
	full.Fail(func(op disktest.Op, name string) error {
		return &os.PathError{Op: string(op), Path: name, Err: syscall.ENOSPC}
	})
	server.signal(syscall.SIGSTOP)
	if err := embedded.Append(t.Context(), batch(-2)); !errors.Is(err, ErrAway) {
		t.Fatal(err)
	}
	takenAway(t, shared, batch(-2)...)
	for n := range 300 {
		items := batch(n)
		for _, s := range []Store{embedded, shared} {
			s.Peek(items)
			for i, it := range items {
				if !it.Stale || it.Without != nil || it.Values[0].Int() < 1 {
					t.Fatalf("call %d, payment %d: stale %v, without %v, counts %s", n, i, it.Stale, it.Without, asJSON(it.Values[0]))
				}
			}
			if got := s.Size().FoldBytes; got > limit+limit/4 {
				t.Fatalf("call %d: memory takes %d bytes", n, got)
			}
		}
	}
	full.Fail(nil)
}

// A cluster takes writes when all of its masters do: it is away while one of them
// hangs, and is not back before that one is.
func TestAClusterIsBackWhenAllOfItsMastersAre(t *testing.T) {
	masters := startCluster(t, 3)
	s := wired(t, nil, RedisOptions{URL: "redis://" + masters[0].addr + "," + masters[1].addr, Timeout: 500 * time.Millisecond},
		Options{Features: []Feature{countOf(payer, time.Hour)}})
	at := payment.Time(1_800_000_000e9)
	batch := func(name string) (items []*Item) {
		for i := range 50 { // of all masters
			items = append(items, paying(fmt.Sprint(name, i), fmt.Sprint("p", i), at, 1))
		}
		at++
		return items
	}
	appended(t, s, batch("a")...)
	for n, master := range masters {
		name := fmt.Sprint("b", n)
		master.signal(syscall.SIGSTOP)
		items := batch(name)
		takenAway(t, s, items...)
		s.Peek(items)
		for i, it := range items {
			if !it.Stale || it.Values[0].Int() != int64(n+2) {
				t.Fatalf("without master %d: payment %d counts %s, stale %v", n, i, asJSON(it.Values[0]), it.Stale)
			}
		}
		select {
		case <-s.Back():
			t.Fatalf("it is back without master %d", n)
		case <-time.After(time.Second): // some probes
		}
		master.signal(syscall.SIGCONT)
		isBack(t, s)
		for tries := 0; ; tries++ {
			if err := s.Append(t.Context(), items); err == nil {
				break
			} else if !errors.Is(err, ErrAway) || tries > 20 {
				t.Fatal(err)
			}
			isBack(t, s)
		}
		for i, it := range items {
			if it.Values[0].Int() != int64(n+2) {
				t.Fatalf("with master %d again: payment %d counts %s", n, i, asJSON(it.Values[0]))
			}
		}
	}
	if s.Epoch() != 1 {
		t.Errorf("the epoch is %d", s.Epoch())
	}
}

// startCluster starts a cluster of so many masters, without replicas.
func startCluster(t *testing.T, n int) (masters []*ownRedis) {
	t.Helper()
	const slots = 16384
	var buses []string
	for i := range n {
		bus := freePort(t)
		m := startRedis(t, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "60000", "--cluster-port", bus)
		buses = append(buses, bus)
		m.do("cluster", "addslotsrange", i*slots/n, (i+1)*slots/n-1)
		masters = append(masters, m)
	}
	for i, m := range masters[1:] {
		host, port, err := net.SplitHostPort(m.addr)
		if err != nil {
			t.Fatal(err)
		}
		masters[0].do("cluster", "meet", host, port, buses[i+1])
	}
	for _, m := range masters {
		client := redis.NewClient(&redis.Options{Addr: m.addr})
		until(t, "one cluster", func() bool {
			text, err := client.ClusterInfo(t.Context()).Result()
			return err == nil && infoOf(text)["cluster_state"] == "ok" && infoOf(text)["cluster_known_nodes"] == fmt.Sprint(n)
		})
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
	return masters
}

// BenchmarkPeek is a payment that is answered from memory: 5 entities, of which one
// is a payee with as many events as b's name says, whose fold is copied once.
func BenchmarkPeek(b *testing.B) {
	for _, events := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(events), func(b *testing.B) {
			var features []Feature
			for _, name := range []string{"payer", "payee", "card", "device", "ip"} {
				e, _ := ParseEntity(name)
				for _, w := range []time.Duration{time.Minute, time.Hour, 24 * time.Hour} {
					features = append(features, countOf(e, w), Feature{Entity: e, Name: fmt.Sprint("sum", w), Aggregate: Sum, Length: w})
				}
			}
			s := opened(b, Options{Features: features})
			at := morning
			pay := func(n int) *Item {
				at = at.Add(10 * time.Millisecond)
				it := paying(fmt.Sprint(n), fmt.Sprint("p", n%5000), at, 1)
				it.Tx.Payee.AccountID, it.Tx.Instrument.Kind, it.Tx.Instrument.Token = "m", "card", fmt.Sprint("c", n%5000)
				it.Tx.Device.ID, it.Tx.Device.IP = fmt.Sprint("d", n%1000), fmt.Sprint("10.0.0.", n%250)
				it.Tx.Device.Addr = mustAddr(it.Tx.Device.IP)
				return it
			}
			for n := range events {
				appended(b, s, pay(n))
			}
			began := time.Now()
			s.Peek([]*Item{pay(events)})
			b.ReportMetric(float64(time.Since(began).Microseconds()), "µs-first")
			items := make([]*Item, 0, b.N)
			for n := range b.N {
				items = append(items, pay(events+1+n))
			}
			b.ResetTimer()
			for i := range items {
				s.Peek(items[i : i+1])
			}
		})
	}
}
