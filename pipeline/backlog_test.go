package pipeline_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Thirty minutes of payments wait in partitions of very different length, and
// fresh ones come in meanwhile: those that are past their deadline get a default
// and then their real verdict, by windows of event time; fresh ones are answered
// in time, and say that they were decided behind.
func TestABacklogChangesNoValue(t *testing.T) {
	for _, c := range []struct {
		store   string
		members int
	}{{"embedded", 1}, {"redis", 1}, {"redis", 3}} {
		t.Run(fmt.Sprintf("%s, %d members", c.store, c.members), func(t *testing.T) {
			kafka, err := broker.StartEmbedded(broker.EmbeddedConfig{Addr: "127.0.0.1:0"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = kafka.Close() })
			b := &backlog{t: t, config: pipeline.DefaultConfig()}
			b.config.Kafka.Brokers, b.config.Kafka.SessionTimeout = []string{kafka.Addr()}, 2*time.Second
			b.config.Topics.Create, b.config.Topics.Partitions, b.config.Topics.Replication = true, backlogPartitions, 1
			b.config.Store, b.config.Rules, b.config.Evidence = "pebble:"+t.TempDir(), backlogRules(t), "all"
			if c.store == "redis" {
				useRedis(t, &b.config)
			}
			b.run(c.members)
		})
	}
}

const (
	backlogPartitions = 8
	backlogOld        = 24_000 // payments of the outage
	backlogFresh      = 400
)

var backlogWindows = []time.Duration{time.Minute, 10 * time.Minute, time.Hour}

type backlog struct {
	t      *testing.T
	config pipeline.Config
	conn   *broker.Conn

	mu   sync.Mutex
	sent map[string]backlogPayment
}

type backlogPayment struct {
	time         payment.Time
	amount       int64
	payer, payee string
	fresh        bool
	answerable   bool
}

func backlogRules(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"policy.yaml": "decide_within: {payment: 2s}\nwhen_late: {payment: hold}\n", // every default is corrected, so that its values are seen
		"features/all.yaml": `features:
  - {entity: payee, name: payments, windows: [1m, 10m, 1h], value: count}
  - {entity: payee, name: amount, windows: [1m, 10m, 1h], value: sum}
  - {entity: payee, name: payers, windows: [1m, 10m, 1h], value: distinct(payer)}
  - {entity: payer, name: payments, windows: [1m, 10m, 1h], value: count}
  - {entity: payer, name: amount, windows: [1m, 10m, 1h], value: sum}
`,
		"rules/none.yaml": "rules:\n  - {id: never, description: Never, owner: test, when: 'payee.payments_1h < 0', verdict: block, reason: NEVER}\n",
	} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (b *backlog) run(members int) {
	t := b.t
	var err error
	if b.conn, err = broker.Open(broker.Config{Brokers: b.config.Kafka.Brokers}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.conn.Close)
	b.sent = map[string]backlogPayment{}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	start := func() *pipeline.Service {
		service, err := pipeline.NewService(ctx, b.config, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})))
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			if err := service.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		return service
	}
	// The first member makes the topics; then it pauses like the rest.
	start()
	b.await(func() bool { _, err := b.conn.Partitions(ctx, b.config.Topics.Transactions); return err == nil })
	stop()
	running.Wait()
	b.sendOld()
	ctx, stop = context.WithCancel(t.Context())
	defer func() { stop(); running.Wait() }()
	var services []*pipeline.Service
	for range members {
		services = append(services, start())
	}
	ready := func() bool {
		return !slices.ContainsFunc(services, func(s *pipeline.Service) bool { return !s.Ready() })
	}
	// Two partitions have no backlog: fresh payments come in there from now on.
	rng := rand.New(rand.NewPCG(7, 7))
	for i, answerable := 0, 0; answerable < backlogFresh; i++ {
		all := ready() // before all members have their partitions, nobody can answer in time
		if all {
			answerable++
		}
		now := payment.TimeOf(time.Now())
		p := backlogPayment{time: now, amount: rng.Int64N(10_000) + 1, payer: fmt.Sprint("fresh-", rng.IntN(20)), payee: fmt.Sprint("m-", rng.IntN(30)), fresh: true, answerable: all}
		b.send(6+i%2, map[string]backlogPayment{fmt.Sprint("f-", i): p})
		time.Sleep(5 * time.Millisecond) // the pace of the traffic
	}
	b.check(b.decisions())
}

// sendOld fills partitions 0 to 5 with payments of 40 to 10 minutes ago, the
// first with all of the time and each next one with less of it.
func (b *backlog) sendOld() {
	rng := rand.New(rand.NewPCG(3, 9))
	end := payment.TimeOf(time.Now()).Add(-10 * time.Minute)
	var all [6]map[string]backlogPayment
	for i := range backlogOld {
		partition := rng.IntN(len(all))
		span := 30*time.Minute - time.Duration(partition)*4*time.Minute
		p := backlogPayment{time: end.Add(-time.Duration(rng.Int64N(int64(span)))), amount: rng.Int64N(10_000) + 1,
			payer: fmt.Sprintf("u-%d-%d", partition, rng.IntN(80)), payee: fmt.Sprint("m-", rng.IntN(30))}
		if all[partition] == nil {
			all[partition] = map[string]backlogPayment{}
		}
		all[partition][fmt.Sprint("o-", i)] = p
	}
	for partition := range all {
		b.send(partition, all[partition])
	}
}

// send produces payments in the order of their event times.
func (b *backlog) send(partition int, payments map[string]backlogPayment) {
	b.t.Helper()
	var ids []string
	b.mu.Lock()
	for id, p := range payments {
		ids = append(ids, id)
		b.sent[id] = p
	}
	b.mu.Unlock()
	slices.SortFunc(ids, func(x, y string) int { return cmp.Compare(payments[x].time, payments[y].time) })
	var messages []broker.Message
	for _, id := range ids {
		p := payments[id]
		messages = append(messages, broker.Message{Key: []byte(p.payer), Time: int64(p.time / 1e6), Value: fmt.Appendf(nil,
			`{"v":1,"transaction_id":%q,"type":"payment","channel":"qr","event_time":%q,"amount":{"value":%d,"currency":"CNY"},"payer":{"account_id":%q},"payee":{"account_id":%q}}`,
			id, p.time, p.amount, p.payer, p.payee)})
	}
	for some := range slices.Chunk(messages, 1000) {
		if err := b.conn.Produce(b.t.Context(), b.config.Topics.Transactions, partition, some); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *backlog) await(done func() bool) {
	b.t.Helper()
	for began := time.Now(); !done(); time.Sleep(10 * time.Millisecond) { // Kafka tells nobody
		if time.Since(began) > 2*time.Minute {
			b.t.Fatal("waited for two minutes")
		}
	}
}

// decisions waits until all payments are decided, and the defaults of the old
// ones are corrected. It returns the latest revisions.
func (b *backlog) decisions() map[string]*payment.Decision {
	got := map[string]*payment.Decision{}
	next := make([]int64, backlogPartitions)
	b.await(func() bool {
		ranges, err := b.conn.TopicOffsets(b.t.Context(), b.config.Topics.Decisions)
		if err != nil {
			b.t.Fatal(err)
		}
		for p, r := range ranges {
			if _, err := b.conn.ReadRange(b.t.Context(), b.config.Topics.Decisions, p, next[p], r.End, func(r broker.Record) error {
				var d payment.Decision
				if err := json.Unmarshal(r.Value, &d); err != nil {
					return err
				}
				before := got[d.TransactionID]
				switch {
				case before == nil && d.Revision == 1 && !b.sent[d.TransactionID].fresh && (d.Source != payment.SourceDefaultDeadline || d.Verdict != payment.Hold):
					b.t.Errorf("%s is past its deadline and was answered with %s", d.TransactionID, r.Value)
				case before != nil && d.Revision == before.Revision+1 && d.Corrects == payment.SourceDefaultDeadline && before.Source == d.Corrects && d.Source == payment.SourceRules:
				case before != nil && d.Revision <= before.Revision:
					return nil // a repeat
				case d.Revision != 1:
					b.t.Errorf("%s follows %+v", r.Value, before)
				}
				got[d.TransactionID] = &d
				return nil
			}); err != nil && !errors.Is(err, io.EOF) {
				b.t.Fatal(err)
			}
			next[p] = r.End
		}
		for id, p := range b.sent {
			if d := got[id]; d == nil || !p.fresh && d.Revision < 2 {
				return false
			}
		}
		return true
	})
	return got
}

// check holds the values of old payments against event time.
func (b *backlog) check(got map[string]*payment.Decision) {
	t := b.t
	byEntity := map[string][]backlogPayment{}
	for _, p := range b.sent {
		byEntity["payer "+p.payer] = append(byEntity["payer "+p.payer], p)
		byEntity["payee "+p.payee] = append(byEntity["payee "+p.payee], p)
	}
	for _, list := range byEntity {
		slices.SortFunc(list, func(x, y backlogPayment) int { return cmp.Compare(x.time, y.time) })
	}
	right, wrong, behind, late := 0, 0, 0, 0
	for id, p := range b.sent {
		d := got[id]
		isBehind := slices.Contains(d.Degraded, payment.DegradedBehind)
		if p.fresh {
			if isBehind {
				behind++
			}
			if p.answerable && d.DecidedAt > d.DecideBy {
				late++
			}
			continue
		}
		if isBehind {
			t.Fatalf("%s is past its deadline and says behind", id)
		}
		values := map[string]string{}
		for _, f := range d.Evidence.Features {
			values[f.Name] = string(f.Value.AppendJSON(nil))
		}
		for _, entity := range []string{"payer", "payee"} {
			list := byEntity[entity+" "+map[string]string{"payer": p.payer, "payee": p.payee}[entity]]
			for i, name := range []string{"1m", "10m", "1h"} {
				count, sum, payers := 0, int64(0), map[string]bool{}
				for _, q := range list {
					if q.time > p.time.Add(-backlogWindows[i]) && q.time <= p.time {
						count++
						sum += q.amount
						payers[q.payer] = true
					}
				}
				want := map[string]int64{"payments": int64(count), "amount": sum}
				if entity == "payee" {
					want["payers"] = int64(len(payers))
				}
				for feature, v := range want {
					if values[fmt.Sprintf("%s.%s_%s", entity, feature, name)] == fmt.Sprint(v) {
						right++
					} else {
						wrong++
					}
				}
			}
		}
	}
	t.Logf("%d of %d values of late payments are those of event time; %d fresh payments said behind and %d were late", right, right+wrong, behind, late)
	if wrong*1000 > right+wrong {
		t.Errorf("%d of %d values differ from event time", wrong, right+wrong)
	}
	if late > 0 || behind == 0 {
		t.Errorf("%d fresh payments were answered late, and %d were marked behind", late, behind)
	}
}

// useRedis lets a gate use the real Redis of the tests, under a prefix of its own.
func useRedis(t *testing.T, c *pipeline.Config) {
	t.Helper()
	addr := os.Getenv("SLUICE_TEST_REDIS")
	if addr == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("SLUICE_TEST_REDIS names no Redis")
		}
		t.Skip("SLUICE_TEST_REDIS names no Redis; make test starts one")
	}
	c.Store, c.Redis.Prefix = "redis://"+addr, fmt.Sprintf("test-%d", time.Now().UnixNano())
	c.Redis.Timeout = 5 * time.Second // a busy machine is no failure
}
