package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// holdsTopics are the topics of one test, on a broker of its own.
type holdsTopics struct {
	t      *testing.T
	addr   string
	conn   *broker.Conn
	topics Topics
	group  string
}

const holdsPartitions = 2

func newHoldsTopics(t *testing.T) *holdsTopics {
	t.Helper()
	server, err := broker.StartEmbedded(broker.EmbeddedConfig{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	conn, err := broker.Open(broker.Config{Brokers: []string{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	h := &holdsTopics{t: t, addr: server.Addr(), conn: conn, topics: DefaultConfig().Topics, group: "sluice"}
	h.topics.Partitions, h.topics.Replication = holdsPartitions, 1
	if err := conn.EnsureTopics(h.ctx(), h.topics.needed(), true); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *holdsTopics) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	h.t.Cleanup(cancel)
	return ctx
}

func (h *holdsTopics) send(topic string, partition int, at time.Time, values ...string) {
	h.t.Helper()
	var messages []broker.Message
	for _, v := range values {
		messages = append(messages, broker.Message{Key: []byte("u-1"), Value: []byte(v), Time: at.UnixMilli()})
	}
	if err := h.conn.Produce(h.ctx(), topic, partition, messages); err != nil {
		h.t.Fatal(err)
	}
}

// read returns what a topic holds now.
func (h *holdsTopics) read(topic string) (all []broker.Record) {
	h.t.Helper()
	ranges, err := h.conn.TopicOffsets(h.ctx(), topic)
	if err != nil {
		h.t.Fatal(err)
	}
	for p, r := range ranges {
		if _, err := h.conn.ReadRange(h.ctx(), topic, p, r.First, r.End, func(r broker.Record) error {
			c := broker.Record{Partition: p, Offset: r.Offset, Value: slices.Clone(r.Value)}
			for _, header := range r.Headers {
				c.Headers = append(c.Headers, broker.Header{Key: header.Key, Value: slices.Clone(header.Value)})
			}
			all = append(all, c)
			return nil
		}); err != nil {
			h.t.Fatal(err)
		}
	}
	return all
}

// chains are the revisions on the topic, by transaction, in order.
func (h *holdsTopics) chains() map[string][]payment.Decision {
	h.t.Helper()
	all := map[string][]payment.Decision{}
	for _, r := range h.read(h.topics.Decisions) {
		var d payment.Decision
		if err := json.Unmarshal(r.Value, &d); err != nil {
			h.t.Fatal(err)
		}
		all[d.TransactionID] = append(all[d.TransactionID], d)
	}
	return all
}

// ends waits until a transaction has a revision and returns its chain in words.
func (h *holdsTopics) ends(id string, revision int) string {
	h.t.Helper()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) { // Kafka tells nobody
		chain := h.chains()[id]
		if len(chain) >= revision {
			return chainWords(chain)
		}
		if time.Since(began) > 20*time.Second {
			h.t.Fatalf("%s has %s, want revision %d", id, chainWords(chain), revision)
		}
	}
}

func chainWords(chain []payment.Decision) string {
	var words []string
	for _, d := range chain {
		words = append(words, fmt.Sprintf("%d %s %s", d.Revision, d.Verdict, d.Source))
	}
	return strings.Join(words, ", ")
}

// letters waits for n dead letters and returns their reasons with what they are about.
func (h *holdsTopics) letters(n int) (all []string) {
	h.t.Helper()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) { // Kafka tells nobody
		all = all[:0]
		for _, r := range h.read(h.topics.DeadLetters) {
			headers := map[string]string{}
			for _, header := range r.Headers {
				headers[header.Key] = string(header.Value)
			}
			all = append(all, fmt.Sprintf("%s %s/%s/%s", headers["reason"], headers["topic"], headers["partition"], headers["offset"]))
		}
		slices.Sort(all)
		if len(all) >= n {
			return all
		}
		if time.Since(began) > 20*time.Second {
			h.t.Fatalf("%d dead letters, want %d: %v", len(all), n, all)
		}
	}
}

// holdsMember is a member without lanes: it decides what a test tells it to, and
// does the work about holds. It implements reviser.
type holdsMember struct {
	*holdsTopics
	desk       *holdDesk
	shift      *holdShift
	index      *ledger.Index
	metrics    *prometheus.Registry
	mu         sync.Mutex
	publishers map[int32]*broker.Publisher
	alerts     map[string]int // by code and summary
	standing   map[payment.AlertCode]string
	stop       func()
	crash      func(partition int32) error // before a revision is published
}

// member starts a member that owns some partitions: of risk.decisions, and those
// with the same numbers of all other topics.
func (h *holdsTopics) member(owned ...int32) *holdsMember {
	h.t.Helper()
	m := h.newMember()
	m.take(owned...)
	return m
}

func (h *holdsTopics) newMember() *holdsMember {
	m := &holdsMember{holdsTopics: h, publishers: map[int32]*broker.Publisher{}, alerts: map[string]int{}, standing: map[payment.AlertCode]string{}, metrics: prometheus.NewRegistry(), stop: func() {}}
	m.index = ledger.New(1<<20, func(window.TxHash) (window.Mark, bool) { return window.Mark{}, false })
	key := window.Key{}
	m.desk = &holdDesk{
		key:   func() window.Key { return window.Key{} },
		holds: ledger.NewHolds(key, ledger.HoldsOptions{First: m.index.Find, WarnAfter: .8}),
		decided: func(id string) (payment.Verdict, bool) {
			mark, known := m.index.Find(key.Tx(id))
			return mark.Verdict, known
		},
		conn: h.conn, topics: &h.topics, group: h.group, limits: payment.DefaultLimits(), config: DefaultHoldsConfig(), wait: 24 * time.Hour,
		now:     func() payment.Time { return payment.TimeOf(time.Now()) },
		time:    func(r *broker.Record) payment.Time { return payment.Time(r.Time * 1e6) },
		lost:    func(_ string, _ int, _ int64, _ error) (int64, bool) { return 0, false },
		refused: func(*payment.Refusal) {},
		raise: func(code payment.AlertCode, summary string, _ int) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.alerts[code.String()+": "+summary]++
			m.standing[code] = summary
		},
		resolve: func(code payment.AlertCode, _ int) {
			m.mu.Lock()
			defer m.mu.Unlock()
			delete(m.standing, code)
		},
		metrics: newHoldMetrics(m.metrics), log: slog.New(slog.NewTextHandler(h.t.Output(), nil)),
	}
	m.metrics.MustRegister(newHoldCollector(m.desk))
	return m
}

// dies lets a member fail before it publishes, when crash says so.
func (m *holdsMember) dies(crash func(partition int32) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crash = crash
}

// take begins a generation with some partitions, after the decisions up to the
// fence are read, as a lane does.
func (m *holdsMember) take(owned ...int32) {
	m.t.Helper()
	ctx := m.ctx()
	g := &broker.Generation{}
	var history []topicRange
	for p := range int32(holdsPartitions) {
		_, to, err := m.conn.Offsets(ctx, m.topics.Decisions, int(p))
		if err != nil {
			m.t.Fatal(err)
		}
		if slices.Contains(owned, p) {
			publisher, fence, err := m.conn.Fence(ctx, fmt.Sprint("holds/", p), m.topics.Decisions, int(p))
			if err != nil {
				m.t.Fatal(err)
			}
			m.publishers[p], to = publisher, fence
			for _, topic := range []string{m.topics.Reviews, m.topics.Outcomes} {
				committed, err := m.conn.Committed(ctx, m.group, topic)
				if err != nil {
					m.t.Fatal(err)
				}
				g.Assigned = append(g.Assigned, committed[p])
			}
		}
		if _, err := m.conn.ReadRange(ctx, m.topics.Decisions, int(p), broker.FirstOffset, to, func(r broker.Record) error {
			mark, revision, err := ledger.MarkOf(window.Key{}, p, r.Offset, r.Value)
			if revision == 1 {
				m.index.Add(mark, nil)
			}
			return err
		}); err != nil {
			m.t.Fatal(err)
		}
		history = append(history, topicRange{Partition: p, From: broker.FirstOffset, To: to})
	}
	shift, err := m.desk.shift(ctx, g, owned, history, m)
	if err != nil {
		m.t.Fatal(err)
	}
	m.shift = shift
	life, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		if err := shift.run(life, life); err != nil && life.Err() == nil {
			m.t.Log("the shift ended: ", err)
		}
	})
	for p := range int32(holdsPartitions) {
		if !slices.Contains(owned, p) {
			work.Go(func() { m.follow(life, p, history[p].To) })
		}
	}
	m.stop = func() {
		cancel()
		work.Wait()
		m.stop = func() {}
	}
	m.t.Cleanup(func() { m.stop() })
}

// follow tells of the decisions of a partition that another member owns.
func (m *holdsMember) follow(ctx context.Context, partition int32, from int64) {
	_, err := m.conn.ReadRange(ctx, m.topics.Decisions, int(partition), from, math.MaxInt64, func(r broker.Record) error {
		return m.saw(partition, r.Offset, r.Value)
	})
	if err != nil && ctx.Err() == nil {
		m.t.Error(err)
	}
}

func (m *holdsMember) saw(partition int32, offset int64, value []byte) error {
	if err := m.desk.holds.Saw(partition, offset, value); err != nil {
		return err
	}
	mark, revision, err := ledger.MarkOf(window.Key{}, partition, offset, value)
	if revision == 1 && err == nil {
		m.index.Add(mark, nil)
	}
	return err
}

// Revise implements reviser.
func (m *holdsMember) Revise(ctx context.Context, partition int32, next func() []*payment.Decision) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.crash != nil {
		if err := m.crash(partition); err != nil {
			return err
		}
	}
	return m.publish(ctx, partition, next()...)
}

func (m *holdsMember) publish(ctx context.Context, partition int32, decisions ...*payment.Decision) error {
	var batch broker.Batch
	var values [][]byte
	for _, d := range decisions {
		values = append(values, d.Append(nil))
		batch.Add(time.Now().UnixMilli(), []byte(d.Transaction.Payer), values[len(values)-1], nil)
	}
	if len(values) == 0 {
		return nil
	}
	base, err := m.publishers[partition].Publish(ctx, &batch)
	if err != nil {
		return err
	}
	for i, v := range values {
		if err := m.saw(partition, base+int64(i), v); err != nil {
			return err
		}
	}
	return nil
}

// decide publishes revision 1 of payments.
func (m *holdsMember) decide(partition int32, decisions ...*payment.Decision) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.publish(m.ctx(), partition, decisions...); err != nil {
		m.t.Fatal(err)
	}
}

// commit commits what is settled of a partition.
func (m *holdsMember) commit(topic string, partition int) int64 {
	m.t.Helper()
	at, ok := m.shift.settledUpTo(topic, partition)
	if !ok {
		return -1
	}
	client := &kafka.Client{Addr: kafka.TCP(m.addr), Timeout: 10 * time.Second}
	res, err := client.OffsetCommit(m.ctx(), &kafka.OffsetCommitRequest{GroupID: m.group, GenerationID: -1, // nobody is in the group
		Topics: map[string][]kafka.OffsetCommit{topic: {{Partition: partition, Offset: at}}}})
	if err == nil {
		err = res.Topics[topic][0].Error
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return at
}

// settles waits until everything up to an offset is used or refused, and commits it.
func (m *holdsMember) settles(topic string, partition int, offset int64) {
	m.t.Helper()
	for began := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		if at, _ := m.shift.settledUpTo(topic, partition); at >= offset {
			m.commit(topic, partition)
			return
		} else if time.Since(began) > 20*time.Second {
			m.t.Fatalf("%s/%d is settled up to %d, want %d", topic, partition, at, offset)
		}
	}
}

// alerted is how often something was alerted, by a part of its words.
func (m *holdsMember) alerted(part string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for words, times := range m.alerts {
		if strings.Contains(words, part) {
			n += times
		}
	}
	return n
}

// onHold is a payment on hold from now on.
func onHold(id string, lasts time.Duration, needs ...string) *payment.Decision {
	now := payment.TimeOf(time.Now())
	return &payment.Decision{TransactionID: id, Revision: 1, Verdict: payment.Hold, Source: payment.SourceRules, EventTime: now, DecidedAt: now,
		Reasons: []payment.DecisionReason{{Code: "MANY"}}, Transaction: payment.Summary{Payer: "u-1"},
		Hold: payment.HoldTerms{Needs: needs, ExpiresAt: now.Add(lasts), OnExpiry: payment.Block}}
}

func approved(id string) *payment.Decision {
	d := onHold(id, 0)
	d.Verdict, d.Hold, d.Final = payment.Approve, payment.HoldTerms{}, true
	return d
}

func reviewOf(transaction, kind, id string) string {
	return fmt.Sprintf(`{"review_id":%q,"transaction_id":%q,"review":%q,"event_time":%q,"reviewer":"reviewer-7"}`, id, transaction, kind, time.Now().Add(-time.Minute).UTC().Format(time.RFC3339))
}

func stepUpOf(transaction, kind, id string) string {
	return fmt.Sprintf(`{"outcome_id":%q,"transaction_id":%q,"outcome":%q,"event_time":%q}`, id, transaction, kind, time.Now().Add(-time.Minute).UTC().Format(time.RFC3339))
}

// Pending implements reviser.
func (m *holdsMember) Pending(int32) bool { return false }
