package oracle_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/benchmarks/storm/load"
	"github.com/sluice-risk/sluice/benchmarks/storm/oracle"
	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/traffic"
	"github.com/sluice-risk/sluice/pipeline/window"
)

const unit = time.Second

// played is what a real gate has made of some payments: its topics, and the bytes
// of its journal.
type played struct {
	topics map[string][]broker.Record
	config pipeline.Config
	store  string
	key    window.Key
	losses []oracle.Loss
}

// play lets a gate with an embedded store on an embedded broker decide payments
// that come again, that cannot be used, and that contradict others.
func play(t *testing.T) *played {
	t.Helper()
	kafka, err := broker.StartEmbedded(broker.EmbeddedConfig{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = kafka.Close() }()
	ruleset := fstest.MapFS{}
	for name, content := range oracle.Ruleset(unit) {
		ruleset[name] = &fstest.MapFile{Data: []byte(content)}
	}
	p := &played{topics: map[string][]broker.Record{}, config: pipeline.DefaultConfig(), store: filepath.Join(t.TempDir(), "store")}
	c := &p.config
	c.Kafka.Brokers, c.Kafka.SessionTimeout = []string{kafka.Addr()}, time.Second
	c.Topics.Create, c.Topics.Partitions, c.Topics.Replication = true, 2, 1
	c.Store, c.RulesFS, c.Evidence = "pebble:"+p.store, []fs.FS{ruleset}, "all"
	conn, err := broker.Open(broker.Config{Brokers: c.Kafka.Brokers})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	within, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var topics []broker.Topic
	for _, name := range []string{c.Topics.Transactions, c.Topics.Outcomes, c.Topics.Decisions, c.Topics.DeadLetters} {
		topics = append(topics, broker.Topic{Name: name, Partitions: 2, Replication: 1})
	}
	if err := conn.EnsureTopics(within, topics, true); err != nil {
		t.Fatal(err)
	}
	service, err := pipeline.NewService(t.Context(), *c, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- service.Run(ctx) }()

	rng := rand.New(rand.NewPCG(1, 1))
	stream := traffic.New(traffic.Config{Seed: 1, Start: payment.TimeOf(time.Now().Add(-time.Minute)), Rate: 20, People: 60, OutcomeSpeed: 1e6})
	var transactions, outcomes [2][]broker.Message
	for sent := 0; sent < 600; {
		e := stream.Next()
		m, home := broker.Message{Key: []byte(e.Key), Value: e.Value}, load.Home(e.Key, 2)
		if e.Kind == payment.RecordOutcome {
			outcomes[home] = append(outcomes[home], m)
			continue
		}
		sent++
		m.Value = load.AnswerBy(m.Value, payment.TimeOf(time.Now().Add(time.Hour)))
		switch rng.IntN(20) {
		case 0:
			m.Value = load.Spoil(rng, m.Value)
		case 1:
			transactions[1-home] = append(transactions[1-home], m)
		case 2:
			transactions[home] = append(transactions[home], m)
			m.Value = load.Contradict(m.Value)
		case 3: // the same payment under another id
			transactions[home] = append(transactions[home], m)
			m.Value = bytes.Replace(m.Value, []byte(`"transaction_id":"`), []byte(`"transaction_id":"2-`), 1)
		}
		transactions[home] = append(transactions[home], m)
	}
	identified := 0
	for partition := range 2 {
		err := errors.Join(conn.Produce(within, c.Topics.Transactions, partition, transactions[partition]), conn.Produce(within, c.Topics.Outcomes, partition, outcomes[partition]))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range transactions[partition] {
			var tx payment.Transaction
			decoder := payment.Decoder{Limits: payment.DefaultLimits()}
			if _ = decoder.Transaction(m.Value, payment.TimeOf(time.Now()), &tx); tx.Identified() {
				identified++
			}
		}
	}
	each := oracle.Kafka(conn)
	count := func(topic string) (n int) {
		if err := each(within, topic, func(broker.Record) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	conflicts := 0
	for ; count(c.Topics.Decisions)+conflicts < identified; time.Sleep(20 * time.Millisecond) { // Kafka tells nobody
		conflicts = 0
		err := each(within, c.Topics.DeadLetters, func(r broker.Record) error {
			for _, h := range r.Headers {
				if h.Key == "reason" && string(h.Value) == string(payment.ReasonIDConflict) {
					conflicts++
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{c.Topics.Transactions, c.Topics.Outcomes, c.Topics.Decisions, c.Topics.DeadLetters} {
		err := each(within, topic, func(r broker.Record) error {
			headers := make([]broker.Header, len(r.Headers))
			for i, h := range r.Headers {
				headers[i] = broker.Header{Key: h.Key, Value: bytes.Clone(h.Value)}
			}
			r.Key, r.Value, r.Headers = bytes.Clone(r.Key), bytes.Clone(r.Value), headers
			p.topics[topic] = append(p.topics[topic], r)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	store, err := window.Open(window.Options{Dir: p.store, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	p.key = store.Key()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *played) audit(t *testing.T) *oracle.Report {
	t.Helper()
	logs, err := oracle.ReadJournal(p.store)
	if err != nil {
		t.Fatal(err)
	}
	c := &p.config.Topics
	g := oracle.Gate{Transactions: c.Transactions, Outcomes: c.Outcomes, Decisions: c.Decisions, DeadLetters: c.DeadLetters, Key: p.key, Logs: logs,
		Features: oracle.Features(unit), Losses: p.losses,
		Each: func(_ context.Context, topic string, visit func(broker.Record) error) error {
			for _, r := range p.topics[topic] {
				if err := visit(r); err != nil {
					return err
				}
			}
			return nil
		}}
	r, err := g.Audit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// copied is the same with topics and a journal of its own.
func (p *played) copied(t *testing.T) *played {
	t.Helper()
	c := *p
	c.topics, c.store = maps.Clone(p.topics), filepath.Join(t.TempDir(), "store")
	for topic := range c.topics {
		c.topics[topic] = slices.Clone(c.topics[topic])
	}
	if err := os.CopyFS(c.store, os.DirFS(p.store)); err != nil {
		t.Fatal(err)
	}
	return &c
}

// find is the place of the nth decision that holds some text.
func (p *played) find(t *testing.T, n int, text string) int {
	t.Helper()
	for i, r := range p.topics[p.config.Topics.Decisions] {
		if bytes.Contains(r.Value, []byte(text)) {
			if n--; n < 0 {
				return i
			}
		}
	}
	t.Fatalf("no decision has %q", text)
	return 0
}

// revised turns a decision by rules into a default, and puts the decision behind
// it as revision 2; change may alter that.
func (p *played) revised(t *testing.T, change func(d *payment.Decision, r *broker.Record)) {
	t.Helper()
	all := p.topics[p.config.Topics.Decisions]
	i := p.find(t, 3, `"source":"rules"`)
	for n := 3; p.twice(all[i]); n++ {
		i = p.find(t, n, `"source":"rules"`)
	}
	var d payment.Decision
	if err := json.Unmarshal(all[i].Value, &d); err != nil {
		t.Fatal(err)
	}
	first, second := d, d
	first.Source, first.Evidence, first.Reasons = payment.SourceDefaultDeadline, payment.Evidence{}, nil
	second.Revision, second.Corrects = 2, payment.SourceDefaultDeadline
	records := [2]broker.Record{all[i], all[i]}
	records[1].Headers = slices.Clone(records[1].Headers)
	for j := range records[1].Headers {
		if records[1].Headers[j].Key == "revision" {
			records[1].Headers[j].Value = []byte("2")
		}
	}
	change(&second, &records[1])
	records[0].Value, records[1].Value = first.Append(nil), second.Append(nil)
	p.topics[p.config.Topics.Decisions] = slices.Replace(all, i, i+1, records[:]...)
}

func (p *played) twice(r broker.Record) bool {
	n := 0
	for _, other := range p.topics[p.config.Topics.Decisions] {
		if bytes.Equal(r.Value, other.Value) {
			n++
		}
	}
	return n > 1
}

// journal changes the bytes of the journal's only segment.
func (p *played) journal(t *testing.T, change func(data []byte) []byte) {
	t.Helper()
	name := filepath.Join(p.store, "journal-00000001")
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, change(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The audit of what a gate really said finds nothing, and looks at all of it.
func TestAuditOfASoundGateFindsNothing(t *testing.T) {
	r := play(t).audit(t)
	for _, c := range oracle.Checks() {
		if f := r.Findings[c]; f.Count > 0 {
			t.Errorf("%d %s: %s", f.Count, c, strings.Join(f.Examples, "\n"))
		}
	}
	if r.Transactions < 500 || r.Invalid == 0 || r.Conflicts == 0 || r.Repeats == 0 || r.DeadLetters < r.Refused+r.Conflicts || r.Compared < 20_000 || r.Own < 1000 || len(r.Answers) != r.Transactions || r.Duplicates < 10 {
		t.Errorf("%d duplicates, %d transactions, %d invalid, %d conflicts, %d repeats, %d dead letters of %d, %d values, %d positions, %d answers: it proves little",
			r.Duplicates, r.Transactions, r.Invalid, r.Conflicts, r.Repeats, r.DeadLetters, r.Refused+r.Conflicts, r.Compared, r.Own, len(r.Answers))
	}
}

// Whatever is broken on purpose is found, by the check that is there for it.
func TestAuditFindsWhatIsBroken(t *testing.T) {
	whole := play(t)
	decisions, letters := whole.config.Topics.Decisions, whole.config.Topics.DeadLetters
	drop := func(topic string, i int) func(*testing.T, *played) {
		return func(_ *testing.T, p *played) { p.topics[topic] = slices.Delete(p.topics[topic], i, i+1) }
	}
	alone := 0
	for whole.twice(whole.topics[decisions][alone]) {
		alone++
	}
	edit := func(old, instead string) func(*testing.T, *played) {
		return func(t *testing.T, p *played) {
			i := p.find(t, 5, old)
			for n := 5; p.twice(p.topics[decisions][i]); n++ {
				i = p.find(t, n, old)
			}
			p.topics[decisions][i].Value = bytes.Replace(p.topics[decisions][i].Value, []byte(old), []byte(instead), 1)
		}
	}
	for _, c := range []struct {
		name   string
		breaks func(*testing.T, *played)
		check  oracle.Check
	}{
		{"a decision is dropped", drop(decisions, alone), oracle.Undecided},
		{"a decision stands in another partition only", func(_ *testing.T, p *played) { p.topics[decisions][alone].Partition ^= 1 }, oracle.Undecided},
		{"a decision comes again with another byte", func(_ *testing.T, p *played) {
			r := p.topics[decisions][alone]
			r.Value = bytes.Replace(r.Value, []byte(`"decided_at":"2`), []byte(`"decided_at":"3`), 1)
			p.topics[decisions] = append(p.topics[decisions], r)
		}, oracle.Contradicted},
		{"a value is another one", edit(`"payer.events_60s":1,`, `"payer.events_60s":2,`), oracle.Wrong},
		{"a value is not said", edit(`"payer.events_60s":1,`, ``), oracle.Wrong},
		{"a position is not said", edit(`"positions":{"payer:`, `"positions":{"prayer:`), oracle.Wrong},
		{"the journal lacks its last entries", func(t *testing.T, p *played) {
			p.journal(t, func(data []byte) []byte { return data[:len(data)/2/32*32] })
		}, oracle.Missing},
		{"an entry has another time", func(t *testing.T, p *played) {
			p.journal(t, func(data []byte) []byte { return rewrite(t, data, func(e []byte) { e[8]++ }) })
		}, oracle.Doubled},
		{"an entry is of a transaction that nobody sent", func(t *testing.T, p *played) {
			p.journal(t, func(data []byte) []byte { return appendChanged(t, data, func(e []byte) { e[20]++ }) })
		}, oracle.Doubled},
		{"an entry stands there again in other bytes", func(t *testing.T, p *played) {
			p.journal(t, func(data []byte) []byte { return appendChanged(t, data, func(e []byte) { e[32]++ }) })
		}, oracle.Doubled},
		{"a dead letter is dropped", drop(letters, 0), oracle.Letters},
		{"a dead letter has another byte", func(_ *testing.T, p *played) {
			for i, r := range p.topics[letters] {
				if len(r.Value) > 0 {
					p.topics[letters][i].Value = append(bytes.Clone(r.Value[:len(r.Value)-1]), ' ')
					return
				}
			}
		}, oracle.Letters},
		{"a payment that could be used is in dead letters", func(_ *testing.T, p *played) {
			r := p.topics[letters][0]
			r.Headers = slices.Clone(r.Headers)
			for i := range r.Headers {
				if r.Headers[i].Key == "offset" {
					r.Headers[i].Value = []byte("0")
				}
			}
			p.topics[letters] = append(p.topics[letters], r)
		}, oracle.Letters},
		{"revision 2 without revision 1", func(t *testing.T, p *played) {
			p.revised(t, func(*payment.Decision, *broker.Record) {})
			i := p.find(t, 0, `"source":"default_deadline"`)
			p.topics[decisions] = slices.Delete(p.topics[decisions], i, i+1)
		}, oracle.Disordered},
		{"revision 2 in another partition", func(t *testing.T, p *played) {
			p.revised(t, func(_ *payment.Decision, r *broker.Record) { r.Partition ^= 1 })
		}, oracle.Disordered},
		{"revision 2 does not say what it corrects", func(t *testing.T, p *played) {
			p.revised(t, func(d *payment.Decision, _ *broker.Record) { d.Corrects = "" })
		}, oracle.Disordered},
		{"revision 2 has a wrong value", func(t *testing.T, p *played) {
			p.revised(t, func(d *payment.Decision, _ *broker.Record) {
				d.Evidence.Features = d.Evidence.Features[1:]
			})
		}, oracle.Wrong},
		{"two revisions 2 that differ", func(t *testing.T, p *played) {
			p.revised(t, func(*payment.Decision, *broker.Record) {})
			r := p.topics[decisions][p.find(t, 0, `"revision":2,`)]
			r.Value = bytes.Replace(r.Value, []byte(`"decided_at":"2`), []byte(`"decided_at":"3`), 1)
			p.topics[decisions] = append(p.topics[decisions], r)
		}, oracle.Disordered},
		{"a duplicate payment is taken for none", edit(`"DUPLICATE_PAYMENT"`, `"DUPLICATE"`), oracle.Repeated},
		{"a duplicate payment names another one", edit(`"DUPLICATE_PAYMENT","detail":"`, `"DUPLICATE_PAYMENT","detail":"x`), oracle.Repeated},
		{"a decision of nobody's payment", edit(`"transaction_id":"`, `"transaction_id":"x`), oracle.Foreign},
		{"a payment that could be used is called invalid", edit(`"source":"rules"`, `"source":"invalid"`), oracle.Foreign},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := whole.copied(t)
			c.breaks(t, p)
			r := p.audit(t)
			if r.Findings[c.check].Count == 0 {
				t.Errorf("it is not among the %s; found: %v", c.check, r.Findings)
			}
		})
	}
	t.Run("a correction is sound", func(t *testing.T) {
		p := whole.copied(t)
		p.revised(t, func(*payment.Decision, *broker.Record) {})
		if r := p.audit(t); r.Bad() > 0 || r.Corrections != 1 || r.Sources[payment.SourceDefaultDeadline] != 1 {
			t.Errorf("%d corrections, sources %v, findings %v", r.Corrections, r.Sources, r.Findings)
		}
	})
}

// What a store has lost is told apart from what is wrong: a decision of before may
// name positions that mean something else now.
func TestAuditListsLostPositions(t *testing.T) {
	p := play(t).copied(t)
	i := p.find(t, 5, `"payer.events_60s":1,`)
	p.topics[p.config.Topics.Decisions][i].Value = bytes.Replace(p.topics[p.config.Topics.Decisions][i].Value, []byte(`"payer.events_60s":1,`), []byte(`"payer.events_60s":2,`), 1)
	if r := p.audit(t); r.Findings[oracle.Wrong].Count+r.Findings[oracle.Contradicted].Count == 0 {
		t.Fatal("a wrong value is not found")
	}
	p.losses = []oracle.Loss{{At: payment.TimeOf(time.Now()), End: func(string) oracle.At { return 0 }}}
	r := p.audit(t)
	if r.Findings[oracle.Wrong].Count > 0 || len(r.Lost) < r.Transactions {
		t.Errorf("everything was lost: %d values are wrong, and %d positions were lost", r.Findings[oracle.Wrong].Count, len(r.Lost))
	}
	p.losses[0].At = 1 // before the first decision
	if r := p.audit(t); r.Findings[oracle.Wrong].Count+r.Findings[oracle.Contradicted].Count == 0 || len(r.Lost) > 0 {
		t.Errorf("nothing was lost since: %d positions were, and no value is wrong", len(r.Lost))
	}
}
