package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
	"github.com/sluice-risk/sluice/rules"
)

// followed is a member that follows the decisions of others, which the test writes.
type followed struct {
	*follower
	t     *testing.T
	key   window.Key
	index *ledger.Index
}

func newFollowed(t *testing.T, partitions int) *followed {
	t.Helper()
	config := DefaultConfig()
	kafka, err := broker.StartEmbedded(broker.EmbeddedConfig{Addr: "127.0.0.1:0", Topics: []broker.Topic{{Name: config.Topics.Decisions, Partitions: partitions, Replication: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kafka.Close() })
	conn, err := broker.Open(broker.Config{Brokers: []string{kafka.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	rs, err := rules.LoadFS(fstest.MapFS{"rules/a.yaml": {Data: []byte("rules:\n  - {id: a, description: A, owner: test, when: 'amount > CNY(1)', verdict: hold}\n")}})
	if err != nil {
		t.Fatal(err)
	}
	store, err := window.Open(window.Options{Features: rs.Features()})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	gate := &Gate{Rules: rs, Store: store, Ledger: ledger.New(1<<20, store.Earlier), Holds: ledger.NewHolds(store.Key(), ledger.HoldsOptions{}), Log: log}
	s := &Service{config: config, conn: conn, gate: gate, log: log}
	return &followed{follower: &follower{s: s, next: map[int]int64{}, first: map[int]int64{}}, t: t, key: store.Key(), index: gate.Ledger}
}

// decide writes first decisions of n transactions of a partition, as another member does.
func (f *followed) decide(partition, n int) {
	f.t.Helper()
	topic := f.s.config.Topics.Decisions
	ends, err := f.s.conn.TopicOffsets(f.t.Context(), topic)
	if err != nil {
		f.t.Fatal(err)
	}
	var d payment.Decision
	for i := range n {
		d.Reset()
		d.TransactionID, d.Verdict, d.Source = id(partition, ends[partition].End+int64(i)), payment.Block, payment.SourceRules
		d.EventTime = payment.TimeOf(time.Now())
		if err := f.s.conn.Produce(f.t.Context(), topic, partition, []broker.Message{{Key: []byte("u"), Value: d.Append(nil)}}); err != nil {
			f.t.Fatal(err)
		}
	}
}

func id(partition int, offset int64) string { return fmt.Sprint(partition, "-", offset) }

// knows holds against each other which decisions of a partition the member knows, and which it should.
func (f *followed) knows(partition int, want int64) {
	f.t.Helper()
	known := int64(0)
	for f.index.Known(f.key.Tx(id(partition, known))) {
		known++
	}
	if known != want {
		f.t.Errorf("of partition %d the first %d decisions are known, want %d", partition, known, want)
	}
	if next := f.from(partition); next != want {
		f.t.Errorf("partition %d is followed from %d on, want %d", partition, next, want)
	}
}

// Nobody follows between two generations. What was decided meanwhile is known before lanes begin: in partitions of
// others up to their end, and in one that becomes ours up to where its lane goes on; each decision is read once.
func TestWhatWasDecidedBetweenGenerationsIsKnownBeforeTheNext(t *testing.T) {
	f := newFollowed(t, 3)
	for p := range 3 {
		f.decide(p, 2)
	}
	if err := f.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	for p := range 3 {
		f.knows(p, 2)
		f.decide(p, 5)
	}
	if err := f.hurry(t.Context(), map[int]*lane{0: {}}, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	f.knows(0, 2) // its lane reads the rest as it takes over
	f.knows(1, 7)
	f.knows(2, 7)
	if err := f.catchUp(t.Context(), 0, 4); err != nil {
		t.Fatal(err)
	}
	f.knows(0, 4)
	if err := f.catchUp(t.Context(), 0, 3); err != nil { // a commit of before
		t.Fatal(err)
	}
	f.knows(0, 4)
}

// A partition that cannot be read in time holds nobody up: it is followed later.
func TestWhoHurriesWaitsForNoBroker(t *testing.T) {
	f := newFollowed(t, 2)
	f.decide(1, 3)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.hurry(ctx, nil, time.Minute); err != nil {
		t.Errorf("a hurry that was cut off says %v", err)
	}
	f.knows(1, 0)
}
