package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
	"github.com/sluice-risk/sluice/rules"
)

// What a lane was publishing when it failed may stand on the topic: until the
// topic has been read, no other lane may decide it.
func TestNobodyDecidesWhatAFailedLaneMayHavePublished(t *testing.T) {
	topics := DefaultConfig().Topics
	kafka, err := broker.StartEmbedded(broker.EmbeddedConfig{Addr: "127.0.0.1:0", Topics: []broker.Topic{{Name: topics.Decisions, Partitions: 1, Replication: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = kafka.Close() }()
	conn, err := broker.Open(broker.Config{Brokers: []string{kafka.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	publisher, _, err := conn.Fence(t.Context(), "test/0", topics.Decisions, 0)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rules.LoadFS(fstest.MapFS{"rules/a.yaml": {Data: []byte("rules:\n  - {id: a, description: A, owner: test, when: 'amount > CNY(1)', verdict: hold}\n")}})
	if err != nil {
		t.Fatal(err)
	}
	store, err := window.Open(window.Options{Features: rs.Features()})
	if err != nil {
		t.Fatal(err)
	}
	gate := &Gate{Rules: rs, Store: store, Ledger: ledger.New(1<<20, store.Earlier), Limits: payment.DefaultLimits(),
		Metrics: NewMetrics(prometheus.NewRegistry()), Log: slog.New(slog.DiscardHandler), Now: func() payment.Time { return payment.TimeOf(time.Now()) }}
	l := &lane{gate: gate, conn: conn, topics: &topics, publisher: publisher, engine: gate.NewEngine(), cursor: newCursor(0, 0), folder: newFolder(nil, 1), watch: newWatch(0)}
	record := `{"transaction_id":"t-1","type":"payment","event_time":"` + payment.TimeOf(time.Now()).String() + `","amount":{"value":500,"currency":"CNY"},"payer":{"account_id":"u"}}`
	records := []broker.Record{{Time: time.Now().UnixMilli(), Value: []byte(record)}}
	var b Batch
	if n, wait, err := l.engine.Decide(t.Context(), records, &b); n != 1 || wait != nil || err != nil {
		t.Fatalf("decided %d, %v", n, err)
	}
	cut, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.publish(cut, records, &b, b.answers); !errors.Is(err, context.Canceled) {
		t.Fatalf("publishing was cut off, and says %v", err)
	}
	var other Batch
	n, wait, err := gate.NewEngine().Decide(t.Context(), records, &other)
	if n != 0 || wait == nil || err != nil {
		t.Fatalf("another lane decided %d payments of a failed one (%v)", n, err)
	}
	select {
	case <-wait:
		t.Fatal("the claim ended while lanes may still work")
	default:
	}
	gate.Ledger.Clear()
	<-wait
}
