package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// fireWithin is the deadline of every payment.
const fireWithin = 300 * time.Millisecond

// fireGate is a gate under fire. The broker stamps each decision when it has it, so
// that nobody need listen to know whether it was in time.
type fireGate struct {
	*gate
	p     *process
	url   string
	pulse *pulse

	mu   sync.Mutex
	sent []firePayment
}

// newPayee begins the name of a payee that nobody has seen.
const newPayee = "new-"

// firePayment is a payment that was sent.
type firePayment struct {
	id, payer, payee string
	at               time.Time
}

// fireRules count payments of payers and payees; one rule blocks, one holds where
// the payments of a payee cannot be known.
func fireRules(t testing.TB) string {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "policy.yaml"), "decide_within: {payment: 300ms}\nwhen_late: {payment: {approve_up_to: CNY(500), else: hold}}\n")
	write(t, filepath.Join(dir, "features/all.yaml"), `features:
  - {entity: payer, name: events, windows: [1h], value: count}
  - {entity: payee, name: events, windows: [1h], value: count}
`)
	write(t, filepath.Join(dir, "rules/all.yaml"), `rules:
  - {id: dear, description: Dear ones, owner: test, when: 'amount >= CNY(400) and amount <= CNY(500)', verdict: block, reason: DEAR}
  - {id: blind, description: A payee of whom nothing is known, owner: test, when: 'payee.events_1h >= 1000000', without_features: hit, verdict: hold, reason: BLIND}
`)
	return dir
}

func newFireGate(t testing.TB, more string) *fireGate {
	t.Helper()
	g := &fireGate{gate: bareGate(t, fireRules(t), more)}
	var topics []broker.Topic
	for _, name := range g.topics() {
		topic := broker.Topic{Name: name, Partitions: partitions, Replication: 1}
		if name == g.decisions() {
			topic.Configs = map[string]string{"message.timestamp.type": "LogAppendTime"}
		}
		topics = append(topics, topic)
	}
	if err := g.conn.EnsureTopics(g.within(30*time.Second), topics, true); err != nil {
		t.Fatal(err)
	}
	return g
}

// begin starts the process, and waits until it decides.
func (g *fireGate) begin(args ...string) {
	g.t.Helper()
	g.p = g.run(append([]string{"--evidence", "all"}, args...)...)
	line := g.p.says("msg=listening")
	g.url = "http://" + line[strings.Index(line, "http=")+len("http="):]
	g.p.says("msg=deciding")
}

// metric is a metric of the process by its whole name.
func (g *fireGate) metric(name string) float64 {
	g.t.Helper()
	_, body := get(g.t, g.url+"/metrics")
	for _, line := range strings.Split(body, "\n") {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			f, err := strconv.ParseFloat(value, 64)
			if err != nil {
				g.t.Fatal(err)
			}
			return f
		}
	}
	g.t.Fatalf("there is no metric %s", name)
	return 0
}

// becomes waits until a metric has a value.
func (g *fireGate) becomes(name string, want float64) {
	g.t.Helper()
	for began := time.Now(); g.metric(name) != want; time.Sleep(10 * time.Millisecond) { // a metric tells nobody
		if time.Since(began) > 30*time.Second {
			g.t.Fatalf("%s is %v after 30 s, not %v", name, g.metric(name), want)
		}
	}
}

// record is a payment as it is sent now.
func (p *firePayment) record(fen int, more string) []byte {
	return fmt.Appendf(nil, `{"v":1,"transaction_id":%q,"type":"payment","channel":"qr","event_time":%q,"decide_by":%q,"order_id":%q,"amount":{"value":%d,"currency":"CNY"},"payer":{"account_id":%q},"payee":{"account_id":%q}%s}`,
		p.id, p.at.UTC().Format(time.RFC3339Nano), p.at.Add(fireWithin).UTC().Format(time.RFC3339Nano), p.id, fen, p.payer, p.payee, more)
}

// pay sends payments to a partition.
func (g *fireGate) pay(partition int, all ...firePayment) {
	g.t.Helper()
	var messages []broker.Message
	for _, p := range all {
		messages = append(messages, broker.Message{Key: []byte(p.payer), Value: p.record(1250, "")})
	}
	g.mu.Lock()
	g.sent = append(g.sent, all...)
	g.mu.Unlock()
	g.send(g.transactions(), partition, messages...)
}

const firePayers = 20

// traffic sends so many payments a second to all partitions until it is stopped,
// and then returns them. One in twenty names a payee that nobody has seen.
func (g *fireGate) traffic(perSecond int, prefix string) (stop func() []firePayment) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	var all []firePayment
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for began := time.Now(); ctx.Err() == nil; {
			<-tick.C
			var some [partitions][]firePayment
			for due := int(time.Since(began).Seconds() * float64(perSecond)); len(all) < due; {
				i := len(all)
				p := firePayment{id: fmt.Sprint(prefix, "-", i), payer: fmt.Sprint("u-", i%firePayers), payee: fmt.Sprint("m-", i%7), at: time.Now()}
				if i%20 == 19 {
					p.payee = newPayee + p.id
				}
				all = append(all, p)
				some[i%partitions] = append(some[i%partitions], p)
			}
			for partition, of := range some {
				if len(of) > 0 {
					g.pay(partition, of...)
				}
			}
		}
	}()
	stop = sync.OnceValue(func() []firePayment { cancel(); <-done; return all })
	g.t.Cleanup(func() { stop() })
	return stop
}

// verdict is what was said of a payment, in the order of its partition.
type verdict struct {
	payment.Decision
	at        time.Time // when the broker had it
	partition int
	text      []byte
}

// verdicts reads all that was said.
func (g *fireGate) verdicts() map[string][]verdict {
	g.t.Helper()
	all := map[string][]verdict{}
	for partition, records := range g.all(g.decisions()) {
		for _, r := range records {
			v := verdict{at: time.UnixMilli(r.Time), partition: partition, text: r.Value}
			if err := json.Unmarshal(r.Value, &v.Decision); err != nil {
				g.t.Fatal(err)
			}
			all[v.TransactionID] = append(all[v.TransactionID], v)
		}
	}
	return all
}

// fireShare is how payments were answered.
type fireShare struct {
	counted, late, defaults, unanswered, unmarked int
	passed, passedLate                            int // under way while the machine stood still; not counted
	worst                                         time.Duration
	degraded                                      map[string]int
	blind, blindApproved                          int // of those to a payee that nobody has seen, without its features: held, and not
}

func (g *fireGate) share(sent []firePayment, of map[string][]verdict) (s fireShare) {
	s.degraded = map[string]int{}
	for _, p := range sent {
		all := of[p.id]
		if len(all) == 0 {
			s.unanswered++
			continue
		}
		first, by := all[0], p.at.Add(fireWithin)
		isDefault := first.Source == payment.SourceDefaultDeadline
		if !isDefault && first.DecidedAt.Std().After(by) {
			s.unmarked++
		}
		if strings.HasPrefix(p.payee, newPayee) && slices.Contains(first.Degraded, payment.DegradedNoFeatures) {
			if first.Verdict == payment.Hold && first.Reasons[0].Code == "BLIND" {
				s.blind++
			} else {
				s.blindApproved++
			}
		}
		for _, what := range first.Degraded {
			s.degraded[what]++
		}
		late := first.at.Sub(by.Truncate(time.Millisecond))
		if g.pulse.stoodStill(p.at, by) {
			if s.passed++; late > 0 {
				s.passedLate++
			}
			continue
		}
		s.counted++
		if isDefault {
			s.defaults++
		}
		if late > 0 {
			s.late, s.worst = s.late+1, max(s.worst, late)
		}
	}
	return s
}

func (s fireShare) inTime() float64 {
	if s.counted == 0 { // the machine stood still all the time, and nobody can tell
		return 100
	}
	return 100 * float64(s.counted-s.late) / float64(s.counted)
}

func (s fireShare) String() string {
	return fmt.Sprintf("%.2f %% of %d in time (the worst %v late; and all but %d of %d while the machine stood still), %d defaults, degraded %v", s.inTime(), s.counted, s.worst, s.passedLate, s.passed, s.defaults, s.degraded)
}

func (s fireShare) atLeast(t testing.TB, percent float64) {
	t.Helper()
	if s.unanswered > 0 || s.unmarked > 0 || s.inTime() < percent {
		t.Errorf("%d were not answered, %d verdicts were made after decide_by and are no defaults, %.2f %% were in time; want %v %%", s.unanswered, s.unmarked, s.inTime(), percent)
	}
}

// chainsAreWhole checks what must hold of every payment, whatever had happened: one
// first revision in bytes, and at most one correction, of a default, behind it.
func chainsAreWhole(t testing.TB, sent []firePayment, of map[string][]verdict) {
	t.Helper()
	for _, p := range sent {
		all := of[p.id]
		corrections := 0
		for _, v := range all {
			switch {
			case v.Revision == 1 && !bytes.Equal(v.text, all[0].text):
				t.Errorf("%s was decided\n%s\nand\n%s", p.id, all[0].text, v.text)
			case v.Revision == 2 && v.Corrects == payment.SourceDefaultDeadline && all[0].Source == payment.SourceDefaultDeadline:
				corrections++
			case v.Revision > 1:
				t.Errorf("%s: %s", p.id, v.text)
			}
		}
		if len(all) == 0 || corrections > 1 {
			t.Errorf("%s has %d decisions and %d corrections", p.id, len(all), corrections)
		}
	}
}

// logsAreWhole waits until each payment stands in the log of its payer and in that
// of its payee, as `sluice log` prints them, and fails the test if one stands there
// as two.
func (g *fireGate) logsAreWhole(t testing.TB) {
	t.Helper()
	config, err := pipeline.LoadConfig(g.file, nil)
	if err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) { // a store that has lost something is filled in the background
		missing, again := 0, 0
		for kind, ids := range g.paidBy() {
			of := window.Entity{First: kind}
			logs, err := openLogs(t.Context(), &config, of, false)
			if err != nil {
				t.Fatal(err)
			}
			for id, n := range ids {
				seen, entries := g.inLog(t, logs, of, id)
				missing, again = missing+n-seen, again+entries-seen
			}
			if err := logs.Close(); err != nil {
				t.Error(err)
			}
		}
		if missing == 0 {
			if again > 0 { // the bytes of a command that had no answer; the first entry counts
				t.Logf("%d entries stand in a log again", again)
			}
			return
		}
		if time.Since(began) > 15*time.Second {
			t.Fatalf("the logs lack %d payments", missing)
		}
	}
}

// paidBy counts what was sent, by payer and payee.
func (g *fireGate) paidBy() map[window.Kind]map[string]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	of := map[window.Kind]map[string]int{window.Payer: {}, window.Payee: {}}
	for _, p := range g.sent {
		of[window.Payer][p.payer]++
		of[window.Payee][p.payee]++
	}
	return of
}

// inLog counts the payments in a log, and their entries.
func (g *fireGate) inLog(t testing.TB, logs window.Store, of window.Entity, id string) (payments, entries int) {
	t.Helper()
	tx := &payment.Transaction{}
	if err := identify(tx, of.First, id); err != nil {
		t.Fatal(err)
	}
	seen := map[any]bool{}
	if err := logs.Log(t.Context(), of, logs.Key().EntityKey(of, tx), func(e window.LogEntry) bool {
		for _, f := range e.Words.Facts {
			if f.Name == "transaction" && e.Words.Kind == "transaction" {
				seen[f.Value] = true
				entries++
			}
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return len(seen), entries
}

// valuesAreExact pays once more by every payer: each counts all that it has paid. A
// busy machine may let the store be away for a moment, and then again.
func (g *fireGate) valuesAreExact(t testing.TB, prefix string) {
	t.Helper()
	for round := range 10 {
		if g.countAgain(t, fmt.Sprint(prefix, "-probe-", round, "-")) == 0 {
			return
		}
	}
	t.Error("in ten rounds there is none in which all payments are answered with what they need")
}

// countAgain pays by every payer, and returns how many were answered without all
// that they need.
func (g *fireGate) countAgain(t testing.TB, prefix string) (without int) {
	t.Helper()
	paid := g.paidBy()[window.Payer]
	var probes []firePayment
	for i := range firePayers {
		p := firePayment{id: fmt.Sprint(prefix, i), payer: fmt.Sprint("u-", i), payee: "m-probe", at: time.Now()}
		probes = append(probes, p)
		g.pay(i%partitions, p)
	}
	g.settled(20 * time.Second)
	of := g.verdicts()
	for _, p := range probes {
		v := of[p.id][0]
		if v.Source == payment.SourceDefaultDeadline || len(v.Degraded) > 0 {
			without++
			continue
		}
		got := ""
		for _, f := range v.Evidence.Features {
			if f.Name == "payer.events_1h" {
				got = string(f.Value.AppendJSON(nil))
			}
		}
		if want := fmt.Sprint(paid[p.payer] + 1); got != want {
			t.Errorf("%s counts %s payments of %s, and it made %s", p.id, got, p.payer, want)
		}
	}
	return without
}

// pulse knows when the test's own process stood still, because the machine had no
// time for it. Nobody can tell then who was late.
type pulse struct {
	mu   sync.Mutex
	gaps [][2]time.Time
}

// longGap is how late a beat must be.
const longGap = 40 * time.Millisecond

func feelPulse(t testing.TB) *pulse {
	p, ctx := &pulse{}, t.Context()
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for last := time.Now(); ctx.Err() == nil; {
			<-tick.C
			now := time.Now()
			if now.Sub(last) > longGap {
				p.mu.Lock()
				p.gaps = append(p.gaps, [2]time.Time{last, now})
				p.mu.Unlock()
			}
			last = now
		}
	}()
	return p
}

// stoodStill tells whether the test stood still at some time between two.
func (p *pulse) stoodStill(from, to time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.gaps, func(gap [2]time.Time) bool { return gap[0].Before(to) && gap[1].After(from) })
}

// envSeconds is a time from the environment in seconds, or another one.
func envSeconds(t testing.TB, name string, otherwise time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return time.Duration(n * float64(time.Second))
}

// replaceLine replaces the line of a text that begins so.
func replaceLine(text, begins, by string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		if strings.HasPrefix(lines[i], begins) {
			lines[i] = by
		}
	}
	return strings.Join(lines, "\n")
}
