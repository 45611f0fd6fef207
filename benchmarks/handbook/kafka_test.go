package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"golang.org/x/sync/errgroup"
)

// brokerEnv names the real broker that `make test` starts.
const brokerEnv = "SLUICE_TEST_KAFKA"

const (
	goldenDay     = payment.Time(1533686400e9) // 2018-08-08, of which golden.csv.gz has every row
	goldenDayRows = 9_740
	warmUp        = 37 * 24 * time.Hour // the longest window and its delay
	slice         = 24 * time.Hour
)

// TestGoldenDayThroughKafkaIsThePublishedOne sends 38 days through a real broker,
// four partitions, lanes and the embedded store, and holds the last day against
// the published features.
//
// The days are sent one by one, each when all of the one before is decided, its
// labels ahead of its transactions. Within a day the lanes run as they like, and
// the values are exact all the same: a customer's transactions are in order in
// one partition, and what is looked at of a terminal lies seven days back. Labels
// that are ahead of their time within the day do not act before it.
func TestGoldenDayThroughKafkaIsThePublishedOne(t *testing.T) {
	addresses := os.Getenv(brokerEnv)
	if addresses == "" && os.Getenv("CI") != "" {
		t.Fatalf("%s is not set: CI must run against a real Kafka", brokerEnv)
	}
	if addresses == "" {
		t.Skipf("%s is not set; `make test` starts a Kafka and sets it", brokerEnv)
	}
	folder := handbookData(t)
	golden, err := readPublished(folder, goldenFile, func(at payment.Time) bool { return at >= goldenDay && at < goldenDay.Add(slice) })
	if err != nil {
		t.Fatal(err)
	}
	if len(golden.rows) != goldenDayRows {
		t.Fatalf("%s has %d rows of the golden day, not %d", goldenFile, len(golden.rows), goldenDayRows)
	}

	g := startGate(t, strings.Split(addresses, ","), 4, newComparison(golden))
	began, sent := time.Now(), 0
	for day := range days(t, folder, goldenDay.Add(-warmUp), goldenDay.Add(slice)) {
		g.send(g.config.Topics.Outcomes, day.outcomes)
		g.awaitOutcomes(len(day.outcomes))
		g.send(g.config.Topics.Transactions, day.transactions)
		g.awaitDecisions(len(day.transactions))
		sent += len(day.transactions)
	}
	t.Logf("%d transactions through Kafka in %v", sent, time.Since(began).Round(time.Millisecond))
	g.everyLaneDecided()
	g.stop()
	report(t, g.comparison.problems())
}

// dayOfRecords is what happened in one slice of event time.
type dayOfRecords struct{ outcomes, transactions []broker.Message }

// days cuts the records of a time into slices. Each record's Kafka time is its
// event time.
func days(t *testing.T, folder string, from, to payment.Time) func(yield func(dayOfRecords) bool) {
	return func(yield func(dayOfRecords) bool) {
		raw, err := openTable(folder, rawFile, purchaseColumns)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		bought := func(yield func(purchase, error) bool) {
			for p, err := range raw.purchases() {
				if err == nil && p.at <= from {
					continue
				}
				if err == nil && p.at >= to || !yield(p, err) {
					return
				}
			}
		}
		var day dayOfRecords
		end := from.Add(slice)
		for r, err := range records(bought, labelDelay) {
			if err != nil {
				t.Fatal(err)
			}
			if r.at >= to { // known after the golden day
				break
			}
			for ; r.at >= end; end = end.Add(slice) {
				if !yield(day) {
					return
				}
				day = dayOfRecords{}
			}
			m := broker.Message{Key: []byte(r.key), Value: append([]byte(nil), r.value...), Time: int64(r.at / 1e6)}
			if r.kind == payment.RecordOutcome {
				day.outcomes = append(day.outcomes, m)
			} else {
				day.transactions = append(day.transactions, m)
			}
		}
		yield(day)
	}
}

// gate is a service under test, with topics of its own.
type gate struct {
	t          *testing.T
	ctx        context.Context
	config     pipeline.Config
	conn       *broker.Conn
	metrics    *prometheus.Registry
	comparison *comparison // guarded by reading until stop
	reading    sync.Mutex
	decided    chan int // how many decisions were read
	failed     context.Context
	work       *errgroup.Group
	end        context.CancelFunc
	outcomes   int // awaited so far
}

// startGate makes topics, starts the service, and compares what it publishes.
func startGate(t *testing.T, brokers []string, partitions int, c *comparison) *gate {
	t.Helper()
	g := &gate{t: t, ctx: within(t, 5*time.Minute), comparison: c, metrics: prometheus.NewRegistry(), decided: make(chan int)}
	run := fmt.Sprintf("handbook.%d.", time.Now().UnixNano())
	g.config = pipeline.DefaultConfig()
	g.config.Kafka.Brokers, g.config.Kafka.Group = brokers, run+"group"
	g.config.Topics = pipeline.Topics{Create: true, Partitions: partitions, Replication: 1,
		Transactions: run + "transactions", Outcomes: run + "outcomes", Reviews: run + "reviews", Controls: run + "controls", Decisions: run + "decisions", Notices: run + "notices", Alerts: run + "alerts",
		DeadLetters: run + "dead-letters"}
	g.config.Store = "pebble:" + filepath.Join(t.TempDir(), "store")
	g.config.Rules, g.config.Evidence = "ruleset", "all"

	var err error
	if g.conn, err = broker.Open(broker.Config{Brokers: brokers}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.conn.Close)
	var topics []broker.Topic
	for _, name := range []string{g.config.Topics.Transactions, g.config.Topics.Outcomes, g.config.Topics.Decisions} {
		// Years old by their event time: without this the broker throws them away.
		topics = append(topics, broker.Topic{Name: name, Partitions: partitions, Replication: 1, Configs: map[string]string{"retention.ms": "-1"}})
	}
	if err := g.conn.EnsureTopics(g.ctx, topics, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.deleteTopics)

	service, err := pipeline.NewService(t.Context(), g.config, g.metrics, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		t.Fatal(err)
	}
	working, end := context.WithCancel(g.ctx)
	g.end = end
	g.work, g.failed = errgroup.WithContext(working)
	g.work.Go(func() error { return service.Run(g.failed) })
	for p := range partitions {
		g.work.Go(func() error { return g.read(p) })
	}
	return g
}

// read compares the decisions of a partition as they are published.
func (g *gate) read(partition int) error {
	var buffer broker.FetchBuffer
	for next := int64(0); ; {
		got, err := g.conn.Fetch(g.failed, broker.FetchRequest{Topic: g.config.Topics.Decisions, Partition: partition, Offset: next}, &buffer)
		if g.failed.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		verdicts := 0
		g.reading.Lock()
		for i := range got.Records {
			// They come years after their deadline: first there is a default, a hold, and
			// then the real verdict, which approves.
			if d := got.Records[i].Value; !bytes.Contains(d, []byte(`"source":"default_deadline"`)) {
				g.comparison.add(d)
				verdicts++
			}
		}
		g.reading.Unlock()
		next = got.Next
		select {
		case g.decided <- verdicts:
		case <-g.failed.Done():
			return nil
		}
	}
}

func (g *gate) send(topic string, messages []broker.Message) {
	g.t.Helper()
	if err := g.conn.Produce(g.failed, topic, broker.ByKey, messages); err != nil {
		g.end()
		g.t.Fatal(err, g.work.Wait())
	}
}

// awaitDecisions waits until n more decisions are published.
func (g *gate) awaitDecisions(n int) {
	g.t.Helper()
	for n > 0 {
		select {
		case got := <-g.decided:
			n -= got
		case <-g.failed.Done():
			g.t.Fatalf("%d decisions are missing: %v", n, g.work.Wait())
		}
	}
	if n < 0 {
		g.t.Errorf("%d decisions too many", -n)
	}
}

// awaitOutcomes waits until the service has counted n more outcomes, of which it
// tells in its metrics only.
func (g *gate) awaitOutcomes(n int) {
	g.t.Helper()
	g.outcomes += n
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		counted, others := g.countOutcomes()
		switch {
		case others > 0:
			g.t.Fatalf("%d outcomes did not find their transaction, or were there before", others)
		case counted == g.outcomes:
			return
		}
		select {
		case <-tick.C:
		case got := <-g.decided:
			if got > 0 {
				g.t.Fatalf("%d decisions that nothing had asked for", got)
			}
		case <-g.failed.Done():
			g.t.Fatalf("%d of %d outcomes are counted: %v", counted, g.outcomes, g.work.Wait())
		}
	}
}

func (g *gate) countOutcomes() (counted, others int) {
	families, err := g.metrics.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "sluice_outcomes_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			n := int(math.Round(m.GetCounter().GetValue()))

			if m.GetLabel()[0].GetValue() == "counted" {
				counted += n
			} else {
				others += n
			}
		}
	}
	return counted, others
}

// everyLaneDecided makes sure that the keys did not all meet in one partition.
func (g *gate) everyLaneDecided() {
	g.t.Helper()
	offsets, err := g.conn.TopicOffsets(g.ctx, g.config.Topics.Decisions)
	if err != nil {
		g.t.Fatal(err)
	}
	for p, o := range offsets {
		if o.End == o.First {
			g.t.Errorf("partition %d has no decision", p)
		}
	}
}

// stop drains the service, which must end without an error.
func (g *gate) stop() {
	g.t.Helper()
	g.end()
	if err := g.work.Wait(); err != nil {
		g.t.Error(err)
	}
}

// deleteTopics gives the broker its disk back.
func (g *gate) deleteTopics() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	t := &g.config.Topics
	client := kafka.Client{Addr: kafka.TCP(g.config.Kafka.Brokers...)}
	if _, err := client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{t.Transactions, t.Outcomes, t.Decisions, t.DeadLetters}}); err != nil {
		g.t.Logf("the topics of this test are still there: %v", err)
	}
}
