package pipeline_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/traffic"
	"github.com/sluice-risk/sluice/pipeline/window"
	"github.com/sluice-risk/sluice/rules"
)

const demoRuleset = "../deploy/rulesets/demo"

// TestLiveAndReplayDecideAlike sends one stream of records, with redeliveries and
// records that must be refused among them, through a live gate and through a
// replay: the canonical decisions are equal byte for byte.
func TestLiveAndReplayDecideAlike(t *testing.T) {
	records := demoRecords(10_000)
	replayed := verdicts(replayedDecisions(t, records))
	for _, store := range []string{"embedded", "redis"} {
		t.Run(store, func(t *testing.T) {
			lived := verdicts(liveDecisions(t, records, store == "redis"))
			if len(lived) != len(replayed) {
				t.Errorf("%d decisions live, %d in the replay", len(lived), len(replayed))
			}
			for i := range min(len(lived), len(replayed)) {
				if live, replay := canonical(lived[i]), canonical(replayed[i]); !bytes.Equal(live, replay) {
					t.Fatalf("decision %d\nlive   %s\nreplay %s", i, live, replay)
				}
			}
		})
	}
}

// verdicts are the decisions of revision 1. When a hold expires is a matter of
// the member's clock live, and of the file's time in a replay.
func verdicts(decisions [][]byte) [][]byte {
	return slices.DeleteFunc(decisions, func(d []byte) bool { return !bytes.Contains(d, []byte(`,"revision":1,`)) })
}

// demoRecords are the first n records of the demo traffic. Of a hundred
// transactions one comes again later, one is followed by another that is refused
// for its currency, and one is confirmed as fraud before it has come. Each
// transaction has one decision record.
func demoRecords(n int) []traffic.Event {
	g := traffic.New(traffic.Config{Seed: 3, Rate: 2, People: 300, FraudShare: 0.1, OutcomeSpeed: 2000,
		Patient: payment.TimeOf(time.Now()).Add(time.Hour)}) // a replay has no deadlines
	currency, id := regexp.MustCompile(`"currency":"..."`), regexp.MustCompile(`"transaction_id":"(.)([^"]*)"`)
	var all []traffic.Event
	var again []byte
	for transactions := 0; len(all) < n; {
		e := g.Next()
		if e.Kind != payment.RecordTransaction {
			all = append(all, e)
			continue
		}
		early := e
		switch transactions++; transactions % 100 {
		case 25:
			again = e.Value
		case 50:
			all = append(all, e)
			e.Value = id.ReplaceAll(currency.ReplaceAll(e.Value, []byte(`"currency":"XQX"`)), []byte(`"transaction_id":"X$2"`))
		case 75:
			early.Kind = payment.RecordOutcome
			early.Value = fmt.Appendf(nil, `{"v":1,"transaction_id":"%s%s","outcome":"fraud_confirmed","event_time":"%s"}`,
				id.FindSubmatch(e.Value)[1], id.FindSubmatch(e.Value)[2], e.Time)
			all = append(all, early)
		case 99:
			all = append(all, e)
			e.Value = again
		}
		all = append(all, e)
	}
	return all
}

// canonical takes out of a decision what depends on the run: when it was
// received and decided, and where its transaction stands in logs.
func canonical(decision []byte) []byte {
	return regexp.MustCompile(`,"(received|decided)_at":"[^"]*"|"positions":\{[^}]*\}`).ReplaceAll(decision, nil)
}

func replayedDecisions(t *testing.T, records []traffic.Event) (decisions [][]byte) {
	t.Helper()
	rs, err := rules.Load(demoRuleset)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "decisions.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	config := pipeline.DefaultConfig()
	replay := pipeline.Replay{Rules: rs, Evidence: pipeline.EvidenceAll, Limits: config.Limits(), Windows: config.Windows, Decisions: out,
		Decided: func(d []byte) { decisions = append(decisions, bytes.Clone(d)) }}
	var file bytes.Buffer
	for _, e := range records {
		file.Write(e.Value)
		file.WriteByte('\n')
	}
	found, err := replay.Run(t.Context(), &file)
	if err != nil {
		t.Fatal(err)
	}
	if n := int64(len(decisions) / 110); found.Refused[payment.ReasonUnknownCurrency] < n || found.Outcomes[window.OutcomeParked] < n || len(found.Refused) != 1 {
		t.Errorf("refused %v, outcomes %v: not the stream that is meant", found.Refused, found.Outcomes)
	}
	for _, verdict := range []string{"approve", "hold", "block"} {
		if found.Verdicts[verdict] < 10 {
			t.Errorf("verdicts are %v: the stream says too little", found.Verdicts)
		}
	}
	t.Logf("%d decisions, %v, outcomes %v", len(decisions), found.Verdicts, found.Outcomes)
	written, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(written, append(bytes.Join(decisions, []byte{'\n'}), '\n')) {
		t.Error("the file of decisions is not what Decided was given")
	}
	return decisions
}

// liveDecisions sends the records to a service through one partition. Kinds of
// records have topics of their own, which nothing orders among each other, so
// that every run of one kind is settled before the next is sent.
func liveDecisions(t *testing.T, records []traffic.Event, redis bool) (decisions [][]byte) {
	t.Helper()
	kafka, err := broker.StartEmbedded(broker.EmbeddedConfig{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer kafka.Close()
	config := pipeline.DefaultConfig()
	config.Kafka.Brokers = []string{kafka.Addr()}
	config.Topics.Create, config.Topics.Partitions, config.Topics.Replication = true, 1, 1
	config.Store, config.Rules, config.Evidence = "pebble:"+filepath.Join(t.TempDir(), "store"), demoRuleset, "all"
	if redis {
		useRedis(t, &config)
	}
	config.Windows.OutcomesWait = 100 * 365 * 24 * time.Hour // the records are old, and none may be given up
	metrics := prometheus.NewRegistry()
	service, err := pipeline.NewService(t.Context(), config, metrics, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	running, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- service.Run(running) }()
	defer func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()

	conn, err := broker.Open(broker.Config{Brokers: config.Kafka.Brokers})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.EnsureTopics(ctx, []broker.Topic{{Name: config.Topics.Transactions, Partitions: 1}, {Name: config.Topics.Outcomes, Partitions: 1},
		{Name: config.Topics.Decisions, Partitions: 1}}, true); err != nil {
		t.Fatal(err)
	}
	var at payment.Time // of a file: the highest event time so far
	var next int64      // where to read on in the decisions
	var buffer broker.FetchBuffer
	outcomes := 0
	for len(records) > 0 {
		kind := records[0].Kind
		var messages []broker.Message
		for ; len(records) > 0 && records[0].Kind == kind; records = records[1:] {
			at = max(at, records[0].Time)
			messages = append(messages, broker.Message{Key: []byte(records[0].Key), Value: records[0].Value, Time: int64(at / 1e6)})
		}
		topic := config.Topics.Transactions
		if kind == payment.RecordOutcome {
			topic = config.Topics.Outcomes
		}
		if err := conn.Produce(ctx, topic, 0, messages); err != nil {
			t.Fatal(err)
		}
		if kind == payment.RecordOutcome {
			outcomes += len(messages)
			awaitOutcomes(ctx, t, metrics, outcomes)
			continue
		}
		for missing := len(messages); missing > 0; {
			got, err := conn.Fetch(ctx, broker.FetchRequest{Topic: config.Topics.Decisions, Offset: next}, &buffer)
			if err != nil {
				t.Fatalf("after %d decisions: %v", len(decisions), err)
			}
			for _, r := range got.Records {
				decisions = append(decisions, bytes.Clone(r.Value))
			}
			next, missing = got.Next, missing-len(got.Records)
		}
	}
	return decisions
}

// awaitOutcomes waits until the service has counted n outcomes in all, of which
// it tells in its metrics only.
func awaitOutcomes(ctx context.Context, t *testing.T, metrics *prometheus.Registry, n int) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		families, err := metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if f.GetName() == "sluice_outcomes_total" {
					got += int(math.Round(m.GetCounter().GetValue()))
				}
			}
		}
		if got == n {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(fmt.Errorf("%d of %d outcomes were taken: %w", got, n, ctx.Err()))
		case <-tick.C:
		}
	}
}
