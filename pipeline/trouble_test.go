package pipeline_test

import (
	"context"
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
	"github.com/sluice-risk/sluice/rules"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Identifiers that hold escapes do not lie in their record: they must live until
// their decision is published, while the next batch is decoded already.
func TestADecisionIsHeadedByItsOwnPayment(t *testing.T) {
	const n = 4000
	g := startLive(t, nil)
	var records []string
	for i := range n {
		records = append(records, paid("x", `"transaction_id":"x"`, fmt.Sprintf(`"transaction_id":"a\/%06d"`, i), `"account_id":"u-1"`, fmt.Sprintf(`"account_id":"p\/%06d"`, i)))
	}
	g.send(g.config.Topics.Transactions, 0, records...)
	for id, all := range g.decisions(n) {
		d := g.decoded(all[0])
		if d.TransactionID != id || all[0].key != d.Transaction.Payer || id[2:] != all[0].key[2:] {
			t.Fatalf("header %q, key %q: decision of %q by %q", id, all[0].key, d.TransactionID, d.Transaction.Payer)
		}
	}
}

// A gate that has lost its fence while nothing came answers the next payment
// without waiting for another one.
func TestALostFenceIsNoticedOnAQuietPartition(t *testing.T) {
	g := startLive(t, nil)
	g.send(g.config.Topics.Transactions, 0, paid("t-1"))
	g.decisions(1)
	if _, _, err := g.conn.Fence(g.within(10*time.Second), g.config.Kafka.Group+"/0", g.config.Topics.Decisions, 0); err != nil {
		t.Fatal(err)
	}
	g.send(g.config.Topics.Transactions, 0, paid("t-2"))
	if got := g.decisions(2); len(got["t-2"]) != 1 {
		t.Fatalf("decisions: %v", got)
	}
}

// A gate whose dead letters are refused ends each time behind the decisions that it
// had published; started again, it decides none twice, and says none again.
func TestAGateThatFailsBehindItsDecisionsSaysNothingTwice(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	config := pipeline.DefaultConfig()
	config.Kafka.Brokers, config.Kafka.SessionTimeout = cluster.ListenAddrs(), time.Second
	config.Topics.Create, config.Topics.Partitions, config.Topics.Replication = true, 2, 1
	config.Store, config.Rules = "pebble:"+t.TempDir(), countingRules(t, "hold", 1000)
	refuse := true
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		req := request.(*kmsg.ProduceRequest)
		if !refuse || req.Topics[0].Topic != config.Topics.DeadLetters {
			return nil, nil, false
		}
		response := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range req.Topics {
			answer := kmsg.NewProduceResponseTopic()
			answer.Topic = topic.Topic
			for _, p := range topic.Partitions {
				partition := kmsg.NewProduceResponseTopicPartition()
				partition.Partition, partition.ErrorCode = p.Partition, kerr.TopicAuthorizationFailed.Code
				answer.Partitions = append(answer.Partitions, partition)
			}
			response.Topics = append(response.Topics, answer)
		}
		return response, nil, true
	})
	g := &liveGate{t: t, config: config}
	if g.conn, err = broker.Open(broker.Config{Brokers: config.Kafka.Brokers}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.conn.Close)
	run := func(ctx context.Context) error {
		service, err := pipeline.NewService(t.Context(), config, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(t.Output(), nil)))
		if err != nil {
			t.Fatal(err)
		}
		return service.Run(ctx)
	}
	var topics []broker.Topic
	for _, name := range []string{config.Topics.Transactions, config.Topics.Outcomes, config.Topics.Decisions, config.Topics.DeadLetters} {
		topics = append(topics, broker.Topic{Name: name, Partitions: 2, Replication: 1})
	}
	if err := g.conn.EnsureTopics(t.Context(), topics, true); err != nil {
		t.Fatal(err)
	}
	same := paid("t-1")
	g.send(config.Topics.Transactions, 0, same, "poison")
	g.send(config.Topics.Transactions, 1, same, "poison", paid("t-2"))
	for range 3 { // each time a lane publishes, fails at the dead letter, and the gate ends
		if err := run(t.Context()); err == nil {
			t.Fatal("the gate went on although dead letters were refused")
		}
	}
	refuse = false
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	g.read(config.Topics.DeadLetters, 2)
	g.commits(0, 2)
	g.commits(1, 3) // all that there is to say has been said
	all := g.decisions(3)
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, s := range all["t-1"] {
		if s.value != all["t-1"][0].value {
			t.Errorf("two decisions of one payment differ:\n%s\n%s", all["t-1"][0].value, s.value)
		}
	}
	if len(all["t-1"]) != 2 || len(all["t-2"]) != 1 {
		t.Errorf("each of three records has one answer, and no owner of its partition says it again: %v", all)
	}
}

// A record that is too large to be a dead letter, because it came compressed, is
// cut and says so; it does not stop its partition.
func TestARecordTooLargeForDeadLettersIsCut(t *testing.T) {
	g := startLive(t, nil)
	w := &kafka.Writer{Addr: kafka.TCP(g.config.Kafka.Brokers...), Topic: g.config.Topics.Transactions, Compression: kafka.Gzip, BatchTimeout: time.Millisecond, BatchBytes: 10 << 20}
	huge := strings.Repeat("x", 3<<20)
	g.send(g.config.Topics.Transactions, 0, paid("t-1"))
	g.decisions(1)
	if err := errors.Join(w.WriteMessages(t.Context(), kafka.Message{Value: []byte(huge)}), w.Close()); err != nil {
		t.Fatal(err)
	}
	for p := range 2 {
		g.send(g.config.Topics.Transactions, p, paid(fmt.Sprint("after-", p)))
	}
	g.decisions(3)
	letter := g.read(g.config.Topics.DeadLetters, 1)[0]
	if h := letter.headers; h["reason"] != string(payment.ReasonTooLarge) || h["truncated"] != "true" || h["value_bytes"] != fmt.Sprint(len(huge)) ||
		letter.value == "" || !strings.HasPrefix(huge, letter.value) {
		t.Fatalf("dead letter of %d bytes with headers %v", len(letter.value), h)
	}
}

// A payment that comes again after the ledger's topic has lost its decision
// cannot be answered, and is not decided again; those behind it are.
func TestARedeliveryWhoseDecisionIsGoneStopsNothing(t *testing.T) {
	g := startLive(t, func(c *pipeline.Config) { c.Ledger.RecentBytes = 0 })
	first := paid("t-1")
	g.send(g.config.Topics.Transactions, 0, first, paid("t-2"))
	g.decisions(2)
	g.commits(0, 2)
	client, err := kgo.NewClient(kgo.SeedBrokers(g.config.Kafka.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	topic := kmsg.NewDeleteRecordsRequestTopic()
	partition := kmsg.NewDeleteRecordsRequestTopicPartition()
	topic.Topic, partition.Offset = g.config.Topics.Decisions, -1
	topic.Partitions = append(topic.Partitions, partition)
	request := kmsg.NewPtrDeleteRecordsRequest()
	request.TimeoutMillis, request.Topics = 5000, append(request.Topics, topic)
	if _, err := request.RequestWith(g.within(10*time.Second), client); err != nil {
		t.Fatal(err)
	}
	g.send(g.config.Topics.Transactions, 0, first, paid("t-3"))
	if all := g.decisions(1); len(all["t-3"]) != 1 || len(all["t-1"]) != 0 {
		t.Fatalf("decided: %v", all)
	}
	if letter := g.read(g.config.Topics.DeadLetters, 1)[0]; letter.value != first || letter.headers["reason"] != string(payment.ReasonOlderThanLedger) {
		t.Fatalf("dead letter %v", letter)
	}
}

// A journal that was put back to an earlier state, or one that was lost, does
// not know what was decided since; the topic does.
func TestAnEarlierStateOfTheJournalDecidesNothingTwice(t *testing.T) {
	for _, c := range []struct {
		name string
		turn func(g *liveGate, store, copied string) // between the runs
	}{
		{"put back", func(g *liveGate, store, copied string) {
			if err := errors.Join(os.RemoveAll(store), os.Rename(copied, store)); err != nil {
				g.t.Fatal(err)
			}
		}},
		{"lost", func(g *liveGate, store, _ string) {
			if err := os.RemoveAll(store); err != nil {
				g.t.Fatal(err)
			}
		}},
		{"in memory", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := startLive(t, func(config *pipeline.Config) {
				if c.turn == nil {
					config.Store = pipeline.MemoryStore
				}
			})
			store := strings.TrimPrefix(g.config.Store, "pebble:")
			copied := filepath.Join(t.TempDir(), "store")
			g.send(g.config.Topics.Transactions, 0, paid("t-1"))
			g.decisions(1)
			g.stop()
			if c.turn != nil {
				if err := os.CopyFS(copied, os.DirFS(store)); err != nil {
					t.Fatal(err)
				}
			}
			g.start()
			again := paid("t-2")
			g.send(g.config.Topics.Transactions, 0, again)
			g.decisions(2)
			g.commits(0, 2)
			g.stop()
			if c.turn != nil {
				c.turn(g, store, copied)
			}
			g.start()
			g.send(g.config.Topics.Transactions, 0, again)
			if all := g.decisions(3)["t-2"]; len(all) != 2 || all[0].value != all[1].value {
				t.Fatalf("decisions of one payment: %v", all)
			}
		})
	}
}

// A transactions topic that has grown beyond the decisions topic leaves the new
// partition undecided, and all others decided, until the other has grown too.
func TestAnAddedPartitionStopsNoOther(t *testing.T) {
	g := startLive(t, func(c *pipeline.Config) { c.Topics.Partitions = 1 })
	g.send(g.config.Topics.Transactions, 0, paid("t-1"))
	g.decisions(1)
	client := &kafka.Client{Addr: kafka.TCP(g.config.Kafka.Brokers...)}
	grow := func(topic string) {
		if _, err := client.CreatePartitions(g.within(10*time.Second), &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: topic, Count: 2}}}); err != nil {
			t.Fatal(err)
		}
	}
	grow(g.config.Topics.Transactions)
	for generations := 1.0; generations < 2; time.Sleep(20 * time.Millisecond) { // the group notices by itself
		families, err := g.metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "sluice_group_generations_total" {
				generations = f.GetMetric()[0].GetCounter().GetValue()
			}
		}
	}
	g.send(g.config.Topics.Transactions, 0, paid("t-2"))
	g.send(g.config.Topics.Transactions, 1, paid("t-3"))
	if all := g.decisions(2); len(all["t-2"]) != 1 {
		t.Fatalf("decided: %v", all)
	}
	grow(g.config.Topics.Decisions)
	if all := g.decisions(3); len(all["t-3"]) != 1 || all["t-3"][0].partition != 1 {
		t.Fatalf("decided: %v", all)
	}
}

// A record without a timestamp, or with one that is no time of Kafka's, came now.
func TestAnAbsurdTimestampIsNow(t *testing.T) {
	g := startLive(t, nil)
	for i, at := range []int64{-1, time.Now().UnixMicro(), time.Now().UnixNano()} {
		if err := g.conn.Produce(g.within(10*time.Second), g.config.Topics.Transactions, 0, []broker.Message{{Value: []byte(paid(fmt.Sprint("t-", i))), Time: at}}); err != nil {
			t.Fatal(err)
		}
	}
	for id, all := range g.decisions(3) {
		if d := g.decoded(all[0]); d.Source != payment.SourceRules {
			t.Errorf("%s: %s", id, all[0].value)
		}
	}
}

// One record of the year 9999 in a file does not make all the rest too old.
func TestAClockGoneMadSpoilsOneRecordOfAReplay(t *testing.T) {
	rs, err := rules.Load(countingRules(t, "hold", 1000))
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "decisions"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	config := pipeline.DefaultConfig()
	replay := pipeline.Replay{Rules: rs, Limits: config.Limits(), Windows: config.Windows, Decisions: out}
	mad := strings.Replace(paid("t-2"), time.Now().UTC().Format(`"event_time":"2006-`), `"event_time":"9999-`, 1)
	sum, err := replay.Run(t.Context(), strings.NewReader(paid("t-1")+"\n"+mad+"\n"+paid("t-3")+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if sum.Refused[payment.ReasonFutureTime] != 1 || len(sum.Refused) != 1 || sum.Verdicts["approve"] != 2 || sum.Verdicts["block"] != 1 {
		t.Fatalf("refused %v, verdicts %v", sum.Refused, sum.Verdicts)
	}
}
