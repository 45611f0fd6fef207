package pipeline_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// liveGate is a gate on an embedded broker, as the sandbox has it: it can be
// stopped and started again, with other settings.
type liveGate struct {
	t       *testing.T
	config  pipeline.Config
	conn    *broker.Conn
	metrics *prometheus.Registry    // of the present run
	service *pipeline.Service       // of the present run
	prepare func(*pipeline.Service) // before it runs; may be nil
	stop    func()                  // and wait until it has drained
}

// startLive starts a gate with a small ruleset on an embedded broker of its own;
// change may alter its settings.
func startLive(t *testing.T, change func(*pipeline.Config)) *liveGate {
	t.Helper()
	kafka, err := broker.StartEmbedded(broker.EmbeddedConfig{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kafka.Close() })
	return startLiveOn(t, kafka.Addr(), change)
}

func startLiveOn(t *testing.T, kafka string, change func(*pipeline.Config)) *liveGate {
	t.Helper()
	var err error
	g := &liveGate{t: t, config: pipeline.DefaultConfig()}
	g.config.Kafka.Brokers, g.config.Kafka.SessionTimeout = []string{kafka}, time.Second
	g.config.Topics.Create, g.config.Topics.Partitions, g.config.Topics.Replication = true, 2, 1
	g.config.Sandbox = true       // one broker is enough
	g.config.Reload.Watch = false // a test says when
	g.config.Store, g.config.Rules, g.config.Evidence = "pebble:"+t.TempDir(), countingRules(t, "hold", 1000), "all"
	if change != nil {
		change(&g.config)
	}
	if g.conn, err = broker.Open(broker.Config{Brokers: g.config.Kafka.Brokers}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.conn.Close)
	g.start()
	t.Cleanup(func() { g.stop() })
	return g
}

// countingRules is a ruleset that counts the payments of a payer and which of
// them have settled, and gives a verdict from the nth one on. It lets duplicate
// payments pass, since tests send the same payment under many ids.
func countingRules(t *testing.T, verdict string, from int) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"policy.yaml": "duplicates: {verdict: approve}\ndecide_within: {payment: 5m}\n", // on a busy machine, too, it is the rules that decide
		"features/payer.yaml": `features:
  - {entity: payer, name: events, windows: [1h], value: count}
  - {entity: payer, name: settled, windows: [1h], value: count, where: 'status == "settled"'}
`,
		"rules/many.yaml": fmt.Sprintf(`rules:
  - {id: many, description: Many payments, owner: test, when: 'payer.events_1h >= %d', verdict: %s, reason: MANY}
`, from, verdict),
	} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (g *liveGate) start() {
	g.t.Helper()
	g.metrics = prometheus.NewRegistry()
	service, err := pipeline.NewService(g.t.Context(), g.config, g.metrics, slog.New(slog.NewTextHandler(g.t.Output(), nil)))
	if err != nil {
		g.t.Fatal(err)
	}
	g.service = service
	if g.prepare != nil {
		g.prepare(service)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- service.Run(ctx) }()
	stopped := false
	g.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			g.t.Error(err)
		}
	}
}

// restart drains the gate and starts it with other settings.
func (g *liveGate) restart(change func(*pipeline.Config)) {
	g.t.Helper()
	g.stop()
	if change != nil {
		change(&g.config)
	}
	g.start()
}

func (g *liveGate) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	g.t.Cleanup(cancel)
	return ctx
}

// send produces records to one partition of a topic, with the key u-1.
func (g *liveGate) send(topic string, partition int, records ...string) {
	g.t.Helper()
	var messages []broker.Message
	for _, r := range records {
		messages = append(messages, broker.Message{Key: []byte("u-1"), Value: []byte(r)})
	}
	if err := g.conn.Produce(g.within(20*time.Second), topic, partition, messages); err != nil {
		g.t.Fatal(err)
	}
}

// committed is what the group has committed of a partition of transactions, -1
// for nothing.
func (g *liveGate) committed(partition int) int64 {
	g.t.Helper()
	client := &kafka.Client{Addr: kafka.TCP(g.config.Kafka.Brokers...), Timeout: 10 * time.Second}
	topic := g.config.Topics.Transactions
	res, err := client.OffsetFetch(g.within(10*time.Second), &kafka.OffsetFetchRequest{GroupID: g.config.Kafka.Group, Topics: map[string][]int{topic: {partition}}})
	if err == nil {
		err = res.Error
	}
	if err != nil {
		g.t.Fatal(err)
	}
	if len(res.Topics[topic]) == 0 {
		return -1 // the group has never been
	}
	if err := res.Topics[topic][0].Error; err != nil {
		g.t.Fatal(err)
	}
	return res.Topics[topic][0].CommittedOffset
}

// commits waits until an offset is committed.
func (g *liveGate) commits(partition int, offset int64) {
	g.t.Helper()
	for began := time.Now(); g.committed(partition) != offset; time.Sleep(5 * time.Millisecond) { // Kafka tells nobody
		if time.Since(began) > 20*time.Second {
			g.t.Fatalf("%d is committed, not %d", g.committed(partition), offset)
		}
	}
}

// said is a record that the gate has published.
type said struct {
	partition  int
	offset     int64
	key, value string
	headers    map[string]string
}

// read waits until a topic holds n records and returns them all, by partition
// and offset.
func (g *liveGate) read(topic string, n int) (all []said) {
	g.t.Helper()
	ctx := g.within(20 * time.Second)
	for {
		all = all[:0]
		ranges, err := g.conn.TopicOffsets(ctx, topic)
		if err != nil {
			g.t.Fatalf("%s has %d of %d records: %v", topic, len(all), n, err)
		}
		for p, r := range ranges {
			if _, err := g.conn.ReadRange(ctx, topic, p, r.First, r.End, func(r broker.Record) error {
				s := said{partition: p, offset: r.Offset, key: string(r.Key), value: string(r.Value), headers: map[string]string{}}
				for _, h := range r.Headers {
					s.headers[h.Key] = string(h.Value)
				}
				all = append(all, s)
				return nil
			}); err != nil {
				g.t.Fatalf("%s has %d of %d records: %v", topic, len(all), n, err)
			}
		}
		if len(all) >= n {
			return all
		}
		time.Sleep(5 * time.Millisecond) // a read of several partitions cannot be waited for
	}
}

// decisions waits for n decisions and returns all, by transaction, in order.
func (g *liveGate) decisions(n int) map[string][]said {
	g.t.Helper()
	by := map[string][]said{}
	for _, s := range g.read(g.config.Topics.Decisions, n) {
		by[s.headers["transaction_id"]] = append(by[s.headers["transaction_id"]], s)
	}
	return by
}

// decoded reads a decision.
func (g *liveGate) decoded(s said) payment.Decision {
	g.t.Helper()
	var d payment.Decision
	if err := json.Unmarshal([]byte(s.value), &d); err != nil {
		g.t.Fatal(err)
	}
	return d
}

// feature is a feature of a decision's evidence, "" if absent.
func (g *liveGate) feature(s said, name string) string {
	g.t.Helper()
	for _, f := range g.decoded(s).Evidence.Features {
		if f.Name == name {
			return string(f.Value.AppendJSON(nil))
		}
	}
	return ""
}

// paid is a small payment of u-1, made now; each change replaces a part of it.
func paid(id string, changes ...string) string {
	r := fmt.Sprintf(`{"v":1,"transaction_id":%q,"type":"payment","channel":"qr","event_time":%q,"amount":{"value":1250,"currency":"CNY"},"payer":{"account_id":"u-1","country":"CN"},"payee":{"account_id":"m-1"},"instrument":{"kind":"card","token":"c-1"},"device":{"id":"d-1","ip":"203.0.113.7","lat":31.2}}`,
		id, time.Now().UTC().Format(time.RFC3339Nano))
	for i := 0; i < len(changes); i += 2 {
		changed := strings.Replace(r, changes[i], changes[i+1], 1)
		if changed == r {
			panic("nothing to replace: " + changes[i])
		}
		r = changed
	}
	return r
}

// became is an outcome of a transaction.
func became(id, outcome string) string {
	return fmt.Sprintf(`{"v":1,"transaction_id":%q,"outcome":%q,"event_time":%q,"payer":{"account_id":"u-1"}}`, id, outcome, time.Now().UTC().Format(time.RFC3339Nano))
}
