package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/sluice-risk/sluice/benchmarks/storm/oracle"
	"github.com/sluice-risk/sluice/benchmarks/storm/parts"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// gate is a group with topics of its own: what its members are told, and what is
// seen of it from outside.
type gate struct {
	name   string
	o      *options
	dir    string // of its ruleset and its members
	conn   *broker.Conn
	client *kafka.Client
}

// newGate makes the topics and the ruleset.
func newGate(ctx context.Context, name string, o *options, dir string, k *parts.Kafka) (*gate, error) {
	g := &gate{name: name, o: o, dir: filepath.Join(dir, name)}
	g.client = &kafka.Client{Addr: kafka.TCP(k.Direct()...), Timeout: 5 * time.Second}
	var err error
	if g.conn, err = broker.Open(broker.Config{Brokers: k.Direct(), ClientID: "storm"}); err != nil {
		return nil, err
	}
	for file, content := range oracle.Ruleset(o.unit) {
		file = filepath.Join(g.dir, "rules", file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
			return nil, err
		}
	}
	for n := 0; n < brokers; { // who begins before all are there gets fewer copies
		if n, err = g.conn.Brokers(ctx); err == nil && n < brokers {
			err = sleep(ctx, 100*time.Millisecond)
		}
		if err != nil {
			return nil, fmt.Errorf("%d of %d brokers are there: %w", n, brokers, err)
		}
	}
	var topics []broker.Topic
	for _, t := range topicNames() {
		topic := broker.Topic{Name: g.topic(t), Partitions: o.partitions, Replication: 3}
		switch t {
		case "transactions", "decisions": // when they were there is what is measured
			topic.Configs = map[string]string{"message.timestamp.type": "LogAppendTime"}
		case "controls":
			topic.Partitions = 1
		}
		topics = append(topics, topic)
	}
	return g, g.conn.EnsureTopics(ctx, topics, true)
}

// topicNames are those of the topics, as settings call them.
func topicNames() []string {
	return []string{"transactions", "outcomes", "reviews", "controls", "decisions", "notices", "alerts", "dead_letters"}
}

func (g *gate) topic(name string) string { return g.name + "." + name }

func (g *gate) close() { g.conn.Close() }

// member prepares a member that reaches brokers and store by these addresses. It
// does not start it.
func (g *gate) member(number int, program string, brokers []string, store string) (*parts.Process, error) {
	p := &parts.Process{Name: fmt.Sprintf("%s-%d", g.name, number)}
	p.Dir = filepath.Join(g.dir, fmt.Sprintf("member-%d", number))
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "SLUICE_") {
			p.Env = append(p.Env, kv)
		}
	}
	for _, t := range topicNames() {
		p.Env = append(p.Env, "SLUICE_TOPICS_"+strings.ToUpper(t)+"="+g.topic(t))
	}
	p.Env = append(p.Env, "SLUICE_REDIS_PREFIX="+g.name, "SLUICE_KAFKA_SESSION_TIMEOUT="+g.o.session.String(), "SLUICE_KAFKA_CLIENT_ID="+p.Name)
	p.Command = []string{program, "run", "--brokers", strings.Join(brokers, ","), "--group", g.name, "--store", store,
		"--rules", filepath.Join(g.dir, "rules"), "--http", "", "--evidence", "all"}
	return p, os.MkdirAll(p.Dir, 0o755)
}

// progress is how far the group is with its input.
type progress struct{ read, committed int64 } // records that are there, and those that are settled

func (p progress) lag() int64 { return p.read - p.committed }

// progress asks how far the group is with the topics of transactions and outcomes.
func (g *gate) progress(ctx context.Context) (p progress, err error) {
	for _, name := range []string{"transactions", "outcomes"} {
		topic := g.topic(name)
		ranges, err := g.conn.TopicOffsets(ctx, topic)
		if err != nil {
			return p, err
		}
		asked := make([]int, len(ranges))
		for i, r := range ranges {
			asked[i] = i
			p.read += r.End
		}
		res, err := g.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: g.name, Topics: map[string][]int{topic: asked}})
		if err == nil {
			err = res.Error
		}
		if err != nil {
			return p, err
		}
		for _, part := range res.Topics[topic] {
			if part.Error != nil {
				return p, part.Error
			}
			p.committed += max(0, part.CommittedOffset)
		}
	}
	return p, nil
}

// settled waits until all that stands in the input topics is committed: answered,
// and durable in every log.
func (g *gate) settled(ctx context.Context, within time.Duration) (took time.Duration, err error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	last := progress{}
	for {
		p, err := g.progress(ctx)
		if err == nil {
			if last = p; p.lag() == 0 {
				return time.Since(began), nil
			}
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%d of %d records are not settled after %v (%w)", last.lag(), last.read, within, errors.Join(err, ctx.Err()))
		case <-time.After(100 * time.Millisecond): // Kafka tells nobody of a commit
		}
	}
}

// audit holds the gate's topics against these logs.
func (g *gate) audit(ctx context.Context, key window.Key, logs oracle.Logs, losses []oracle.Loss) (*oracle.Report, error) {
	o := oracle.Gate{Each: oracle.Kafka(g.conn), Transactions: g.topic("transactions"), Outcomes: g.topic("outcomes"), Decisions: g.topic("decisions"),
		DeadLetters: g.topic("dead_letters"), Key: key, Logs: logs, Features: oracle.Features(g.o.unit), Losses: losses}
	return o.Audit(ctx)
}
