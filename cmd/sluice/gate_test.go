package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/sluice-risk/sluice/pipeline/broker"
)

// gate is one consumer group with topics of its own on a real Kafka, and what
// `sluice run` must be told of it.
type gate struct {
	t      testing.TB
	addr   string // where the test itself connects
	conn   *broker.Conn
	client *kafka.Client
	name   string // of the group, and the beginning of the topics' names
	dir    string // the store
	rules  string // the ruleset's folder
	file   string // the configuration
}

const partitions = 4

// newGate makes the topics of the contract and a configuration file. more is
// YAML that is added to the file.
func newGate(t testing.TB, ruleset string, more string) *gate {
	t.Helper()
	g := bareGate(t, ruleset, more)
	var topics []broker.Topic
	for _, name := range g.topics() {
		topics = append(topics, broker.Topic{Name: name, Partitions: partitions, Replication: 1})
	}
	if err := g.conn.EnsureTopics(g.within(30*time.Second), topics, true); err != nil {
		t.Fatal(err)
	}
	return g
}

// bareGate is a gate whose topics do not exist yet.
func bareGate(t testing.TB, ruleset string, more string) *gate {
	t.Helper()
	addr := fromEnv(t, "SLUICE_TEST_KAFKA")
	name := fmt.Sprintf("%s.%d", strings.NewReplacer("/", ".", " ", "_").Replace(t.Name()), time.Now().UnixNano())
	g := &gate{t: t, addr: addr, name: name, dir: filepath.Join(t.TempDir(), "store"), rules: ruleset, file: filepath.Join(t.TempDir(), "sluice.yaml")}
	g.conn = connect(t, addr)
	g.client = &kafka.Client{Addr: kafka.TCP(addr), Timeout: 10 * time.Second}
	topics := g.topics()
	config := fmt.Sprintf(`kafka:
  brokers: [%q]
  group: %s
  session_timeout: 1s
topics:
  partitions: %d
  replication: 1
  transactions: %s
  outcomes: %s
  decisions: %s
  dead_letters: %s
  controls: %s
  reviews: %s
  notices: %s
  alerts: %s
store: pebble:%s
rules: %s
http: 127.0.0.1:0
`, addr, name, partitions, topics[0], topics[1], topics[2], topics[3], topics[4], topics[5], topics[6], topics[7], g.dir, ruleset)
	write(t, g.file, config+more)
	return g
}

// topics are transactions, outcomes, decisions, dead letters, controls, reviews, notices, alerts.
func (g *gate) topics() [8]string {
	return [8]string{g.transactions(), g.outcomes(), g.decisions(), g.deadLetters(), g.controls(), g.reviews(), g.notices(), g.alerts()}
}
func (g *gate) transactions() string { return g.name + ".transactions" }
func (g *gate) outcomes() string     { return g.name + ".outcomes" }
func (g *gate) decisions() string    { return g.name + ".decisions" }
func (g *gate) deadLetters() string  { return g.name + ".dead-letters" }
func (g *gate) controls() string     { return g.name + ".controls" }
func (g *gate) reviews() string      { return g.name + ".reviews" }
func (g *gate) notices() string      { return g.name + ".notices" }
func (g *gate) alerts() string       { return g.name + ".alerts" }

// run starts `sluice run` on the gate.
func (g *gate) run(args ...string) *process {
	g.t.Helper()
	return start(g.t, nil, append([]string{"run", "--config", g.file}, args...)...)
}

func (g *gate) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	g.t.Cleanup(cancel)
	return ctx
}

// send produces to a partition of a topic.
func (g *gate) send(topic string, partition int, messages ...broker.Message) {
	g.t.Helper()
	if err := g.conn.Produce(g.within(30*time.Second), topic, partition, messages); err != nil {
		g.t.Fatal(err)
	}
}

// all reads every record of a topic as it is now, by partition.
func (g *gate) all(topic string) [][]broker.Record {
	g.t.Helper()
	ctx := g.within(60 * time.Second)
	ranges, err := g.conn.TopicOffsets(ctx, topic)
	if err != nil {
		g.t.Fatal(err)
	}
	all := make([][]broker.Record, len(ranges))
	for p, r := range ranges {
		if _, err := g.conn.ReadRange(ctx, topic, p, r.First, r.End, func(r broker.Record) error {
			all[p] = append(all[p], copyOf(r))
			return nil
		}); err != nil {
			g.t.Fatal(err)
		}
	}
	return all
}

// read returns records of a partition from an offset on, once there are n of them.
func (g *gate) read(topic string, partition int, from int64, n int) []broker.Record {
	g.t.Helper()
	return readRecords(g.t, g.conn, topic, partition, from, n)
}

func readRecords(t testing.TB, conn *broker.Conn, topic string, partition int, from int64, n int) (got []broker.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var buffer broker.FetchBuffer
	for next := from; len(got) < n; {
		f, err := conn.Fetch(ctx, broker.FetchRequest{Topic: topic, Partition: partition, Offset: next}, &buffer)
		if err != nil {
			t.Fatalf("%s/%d: %d of %d records from offset %d on came: %v", topic, partition, len(got), n, from, err)
		}
		for _, r := range f.Records {
			got = append(got, copyOf(r))
		}
		next = f.Next
	}
	return got
}

// committed returns what the group has committed of a topic, by partition; -1
// where nothing.
func (g *gate) committed(topic string) (offsets [partitions]int64, err error) {
	asked := []int{0, 1, 2, 3}
	for p := range offsets {
		offsets[p] = -1
	}
	res, err := g.client.OffsetFetch(g.within(10*time.Second), &kafka.OffsetFetchRequest{GroupID: g.name, Topics: map[string][]int{topic: asked}})
	if err == nil {
		err = res.Error
	}
	if err != nil {
		return offsets, err
	}
	for _, p := range res.Topics[topic] {
		if p.Error != nil {
			return offsets, p.Error
		}
		offsets[p.Partition] = p.CommittedOffset
	}
	return offsets, nil
}

// ends returns the end of each partition of a topic.
func (g *gate) ends(topic string) (ends [partitions]int64) {
	g.t.Helper()
	ranges, err := g.conn.TopicOffsets(g.within(30*time.Second), topic)
	if err != nil {
		g.t.Fatal(err)
	}
	for p, r := range ranges {
		ends[p] = r.End
	}
	return ends
}

// total is the sum of the ends of a topic's partitions.
func (g *gate) total(topic string) (sum int64) {
	g.t.Helper()
	for _, end := range g.ends(topic) {
		sum += end
	}
	return sum
}

// settled waits until everything that stands in the input topics is committed.
func (g *gate) settled(within time.Duration) {
	g.t.Helper()
	deadline := time.Now().Add(within)
	for _, topic := range []string{g.transactions(), g.outcomes()} {
		ends := g.ends(topic)
		for {
			got, err := g.committed(topic)
			if err != nil {
				g.t.Fatal(err)
			}
			done := true
			for p := range ends {
				done = done && max(got[p], 0) >= ends[p]
			}
			if done {
				break
			}
			if time.Now().After(deadline) {
				g.t.Fatalf("%s: committed %v of %v after %v", topic, got, ends, within)
			}
			time.Sleep(20 * time.Millisecond) // Kafka tells nobody of a commit
		}
	}
}

func connect(t testing.TB, addr string) *broker.Conn {
	t.Helper()
	conn, err := broker.Open(broker.Config{Brokers: strings.Split(addr, ",")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// get asks the HTTP side of a process, whose address is in its log.
func get(t testing.TB, url string) (status int, body string) {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// copyOf is a record with bytes of its own; nil stays nil.
func copyOf(r broker.Record) broker.Record {
	clone := func(b []byte) []byte {
		if b == nil {
			return nil
		}
		return append([]byte{}, b...)
	}
	c := r
	c.Key, c.Value, c.Headers = clone(r.Key), clone(r.Value), nil
	for _, h := range r.Headers {
		c.Headers = append(c.Headers, broker.Header{Key: h.Key, Value: clone(h.Value)})
	}
	return c
}

func header(r broker.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

func write(t testing.TB, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readText(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
