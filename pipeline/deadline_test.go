package pipeline_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// heard is what somebody who waits for verdicts sees: every record of
// risk.decisions, with the moment at which it could be read.
type heard struct {
	t    *testing.T
	conn *broker.Conn

	mu   sync.Mutex
	of   map[string][]answered
	n    int
	grew chan struct{} // closed at the next record
}

// answered is one decision as it was heard.
type answered struct {
	payment.Decision
	at        time.Time
	partition int
	offset    int64
	text      string
}

// listen hears the decisions of some partitions from their beginning until the test ends.
func (g *liveGate) listen(partitions ...int) *heard {
	h := &heard{t: g.t, conn: g.conn, of: map[string][]answered{}, grew: make(chan struct{})}
	ctx, stop := context.WithCancel(context.Background())
	var listening sync.WaitGroup
	for _, p := range partitions {
		listening.Go(func() { h.follow(ctx, g.config.Topics.Decisions, p) })
	}
	g.t.Cleanup(func() { stop(); listening.Wait() })
	return h
}

func (h *heard) follow(ctx context.Context, topic string, partition int) {
	var buffer broker.FetchBuffer
	for next := int64(0); ctx.Err() == nil; {
		got, err := h.conn.Fetch(ctx, broker.FetchRequest{Topic: topic, Partition: partition, Offset: next}, &buffer)
		at := time.Now()
		if err != nil {
			if ctx.Err() == nil {
				h.t.Errorf("listen to %s/%d: %v", topic, partition, err)
			}
			return
		}
		for _, r := range got.Records {
			a := answered{at: at, partition: partition, offset: r.Offset, text: string(r.Value)}
			if err := json.Unmarshal(r.Value, &a.Decision); err != nil {
				h.t.Errorf("%s/%d/%d: %v", topic, partition, r.Offset, err)
				return
			}
			a.Evidence.Clear()
			h.mu.Lock()
			h.of[a.TransactionID] = append(h.of[a.TransactionID], a)
			h.n++
			h.mu.Unlock()
		}
		if len(got.Records) > 0 {
			h.mu.Lock()
			close(h.grew)
			h.grew = make(chan struct{})
			h.mu.Unlock()
		}
		next = got.Next
	}
}

// until waits until something is true of what was heard.
func (h *heard) until(within time.Duration, what string, done func(of map[string][]answered) bool) {
	h.t.Helper()
	timeout := time.After(within)
	for {
		h.mu.Lock()
		ok, grew, n := done(h.of), h.grew, h.n
		h.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-grew:
		case <-timeout:
			h.t.Fatalf("not within %v: %s; %d decisions were heard", within, what, n)
		}
	}
}

// decided waits for the first decision of each of some payments.
func (h *heard) decided(ids ...string) {
	h.t.Helper()
	h.until(20*time.Second, fmt.Sprintf("the decisions of %d payments", len(ids)), func(of map[string][]answered) bool {
		return !slices.ContainsFunc(ids, func(id string) bool { return len(of[id]) == 0 })
	})
}

// get returns what was heard of a payment.
func (h *heard) get(id string) []answered {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.of[id])
}

// share counts how many of some payments were heard of before their decide_by, how
// many got a default, and how many came late without being marked. Those that were
// under way while the test itself stood still are not counted.
func (h *heard) share(ids []string, pulse *pulse) (s share) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		all := h.of[id]
		if s.sent++; len(all) == 0 {
			s.unanswered++
			continue
		}
		first := all[0]
		isDefault := first.Source == payment.SourceDefaultDeadline
		if first.DecidedAt > first.DecideBy && !isDefault {
			s.unmarked++
		}
		late := first.at.Sub(first.DecideBy.Std())
		if pulse.stoodStill(first.EventTime.Std(), first.DecideBy.Std()) {
			if s.passed++; late > 0 {
				s.passedLate++
			}
			continue
		}
		if isDefault {
			s.defaults++
		}
		if late > 0 {
			s.late, s.worst = s.late+1, max(s.worst, late)
		}
		for _, what := range first.Degraded {
			if s.degraded == nil {
				s.degraded = map[string]int{}
			}
			s.degraded[what]++
		}
	}
	return s
}

// share is how many of some payments were answered how.
type share struct {
	sent, unanswered int
	passed           int // under way while the test stood still; not in those below
	passedLate       int // of them
	late, defaults   int
	unmarked         int // of all: decided after decide_by, and not said to be a default
	worst            time.Duration
	degraded         map[string]int
}

// inTime is the share of those that count, in percent.
func (s share) inTime() float64 {
	counted := s.sent - s.passed - s.unanswered
	if counted == 0 { // the machine stood still all the time, and nobody can tell
		return 100
	}
	return 100 * float64(counted-s.late) / float64(counted)
}

func (s share) String() string {
	return fmt.Sprintf("%.2f %% of %d in time (the worst %v late; and all but %d of %d while the machine stood still), %d defaults, degraded %v",
		s.inTime(), s.sent-s.passed, s.worst.Round(time.Millisecond), s.passedLate, s.passed, s.defaults, s.degraded)
}

// atLeast fails the test where fewer percent were answered in time.
func (s share) atLeast(t *testing.T, percent float64) {
	t.Helper()
	if s.unanswered > 0 || s.inTime() < percent {
		t.Errorf("of %d payments %d were not answered, and %.2f %% of the others in time; want %v %%", s.sent, s.unanswered, s.inTime(), percent)
	}
	if s.unmarked > 0 {
		t.Errorf("%d verdicts were made after decide_by and are not marked as defaults", s.unmarked)
	}
}

// pulse knows when the test's own process stood still, because the machine had no
// time for it. Nobody can tell then who was late.
type pulse struct {
	mu   sync.Mutex
	gaps [][2]time.Time
}

// longGap is how late a tick must be. Goroutines that compute leave each other room
// after a quarter of it.
const longGap = 40 * time.Millisecond

func feelPulse(t *testing.T) *pulse {
	p, ctx := &pulse{}, t.Context()
	go func() {
		const beat = 5 * time.Millisecond
		tick := time.NewTicker(beat)
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

// decideWithin is the deadline of the payments of a flow.
const decideWithin = 300 * time.Millisecond

// flow sends payments at a pace, in the background, until it is stopped.
type flow struct {
	stop func() []string // and the ids of what was sent
}

// flow sends payments of a partition, so many a second; change makes each from its number.
func (g *liveGate) flow(partition, perSecond int, prefix string, change func(i int) []string) *flow {
	ctx, cancel := context.WithCancel(context.Background())
	var sent []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		began := time.Now()
		for ctx.Err() == nil {
			<-tick.C
			var some []broker.Message
			for due := int(time.Since(began).Seconds() * float64(perSecond)); len(sent) < due; {
				id := fmt.Sprint(prefix, len(sent))
				changes := []string{`"amount":`, fmt.Sprintf(`"decide_by":%q,"order_id":%q,"amount":`, time.Now().Add(decideWithin).UTC().Format(time.RFC3339Nano), id)}
				if change != nil {
					changes = append(changes, change(len(sent))...)
				}
				some = append(some, broker.Message{Key: []byte("u-1"), Value: []byte(paid(id, changes...))})
				sent = append(sent, id)
			}
			if len(some) == 0 {
				continue
			}
			if err := g.conn.Produce(context.Background(), g.config.Topics.Transactions, partition, some); err != nil {
				g.t.Error(err)
				return
			}
		}
	}()
	f := &flow{}
	f.stop = sync.OnceValue(func() []string { cancel(); <-done; return sent })
	g.t.Cleanup(func() { f.stop() })
	return f
}

// rulesIn writes a ruleset of these files.
func rulesIn(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// lateRules give payments up to 500 CNY the default approve, and others hold; the
// real verdict is block from 400 to 500 CNY, and approve else. So a default is
// right below 400, and wrong from there on.
func lateRules(t *testing.T) string {
	return rulesIn(t, map[string]string{
		"policy.yaml": "decide_within: {payment: 300ms}\nwhen_late: {payment: {approve_up_to: CNY(500), else: hold}}\n",
		"features/payer.yaml": "features:\n  - {entity: payer, name: events, windows: [1h], value: count}\n" +
			"  - {entity: payee, name: amount, windows: [1h], value: sum}\n",
		"rules/dear.yaml": "rules:\n  - {id: dear, description: Dear ones, owner: test, when: 'amount >= CNY(400) and amount <= CNY(500)', verdict: block, reason: DEAR}\n" +
			"  - {id: odd, description: Odd ones, owner: test, when: 'amount == CNY(350)', verdict: hold, reason: ODD}\n",
	})
}

// envNumber is a number from the environment, or another one.
func envNumber(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// A partition is far behind: its payments are answered with defaults first, and
// get their real verdict where it differs, once. A fresh payment on another
// partition notices nothing of it.
//
// SLUICE_TEST_BACKLOG is the number of old payments, 100000 by default.
func TestABacklogOnOnePartitionDelaysNobodyOnAnother(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some ten seconds")
	}
	settleBacklog(t, startLive(t, lateConfig(t)), envNumber(t, "SLUICE_TEST_BACKLOG", 100_000))
}

// The same where the backlog is longer than what the ledger has at hand: which
// payments were given a default is read from the topic again.
func TestABacklogLongerThanTheLedgerHasAtHandIsCorrected(t *testing.T) {
	for _, store := range []string{"embedded", "redis"} {
		t.Run(store, func(t *testing.T) {
			g := startLive(t, func(c *pipeline.Config) {
				lateConfig(t)(c)
				if store == "redis" {
					useRedis(t, c)
					c.Redis.Timeout = 30 * time.Millisecond // so that it is away now and then
				}
			})
			g.prepare = func(s *pipeline.Service) { s.Gate().Ledger.KeepAtHand(5000) } // more than what is in flight
			settleBacklog(t, g, 30_000)
		})
	}
}

func lateConfig(t *testing.T) func(*pipeline.Config) {
	return func(c *pipeline.Config) { c.Rules, c.Evidence = lateRules(t), "none" }
}

// settleBacklog lets so many old payments wait on partition 0 while the gate is
// stopped, starts it again, and sends fresh ones to partition 1 until all old ones
// are settled.
func settleBacklog(t *testing.T, g *liveGate, size int) {
	t.Helper()
	g.send(g.config.Topics.Transactions, 1, paid("first", "1250", "1"))
	g.decisions(1)
	g.stop()
	end := time.Now().Add(-10 * time.Minute)
	amountOf := func(i int) int { return 30_000 + i%5*6_000 } // 300, 360, 420, 480, 540 CNY
	for from := 0; from < size; from += 5000 {
		var some []broker.Message
		for i := from; i < min(from+5000, size); i++ {
			at := end.Add(-time.Duration(size-i) * 2 * time.Millisecond)
			some = append(some, broker.Message{Time: at.UnixMilli(), Value: fmt.Appendf(nil,
				`{"v":1,"transaction_id":"o-%d","type":"payment","channel":"qr","event_time":%q,"amount":{"value":%d,"currency":"CNY"},"order_id":"o-%d","payer":{"account_id":"u-%d"},"payee":{"account_id":"m-%d"}}`,
				i, at.UTC().Format(time.RFC3339Nano), amountOf(i), i, i%5000, i%300)})
		}
		if err := g.conn.Produce(g.within(time.Minute), g.config.Topics.Transactions, 0, some); err != nil {
			t.Fatal(err)
		}
	}
	g.start()
	for !g.service.Ready() {
		time.Sleep(time.Millisecond) // it tells nobody
	}
	began := time.Now()
	h := g.listen(1)
	pulse := feelPulse(t)
	fresh := g.flow(1, 100, "f-", nil)
	for g.committed(0) < int64(size) {
		time.Sleep(20 * time.Millisecond) // Kafka tells nobody
		if time.Since(began) > time.Minute+time.Duration(size)*200*time.Microsecond {
			t.Fatalf("%d of %d old payments are committed after %v", g.committed(0), size, time.Since(began))
		}
	}
	took := time.Since(began)
	ids := fresh.stop()
	h.decided(ids...)
	s := h.share(ids, pulse)
	t.Logf("%d old payments were settled in %v; fresh ones meanwhile: %v", size, took.Round(time.Millisecond), s)
	s.atLeast(t, 99)

	g.checkBacklog(size, amountOf)
}

// checkBacklog holds what was said of old payments against what must be said of them.
func (g *liveGate) checkBacklog(size int, amountOf func(i int) int) {
	t := g.t
	t.Helper()
	first := make([]string, size)
	defaults, corrections, wrong, repeats := make([]int, size), make([]int, size), 0, 0
	if _, err := g.conn.ReadRange(g.within(time.Minute), g.config.Topics.Decisions, 0, 0, g.end(g.config.Topics.Decisions, 0), func(r broker.Record) error {
		var d struct {
			ID       string `json:"transaction_id"`
			Revision int
			Verdict  string
			Source   string
			Corrects string
		}
		if err := json.Unmarshal(r.Value, &d); err != nil {
			return err
		}
		var i int
		if _, err := fmt.Sscanf(d.ID, "o-%d", &i); err != nil {
			return err
		}
		wantDefault, wantReal := "approve", "approve"
		if amount := amountOf(i); amount > 50_000 {
			wantDefault = "hold"
		} else if amount >= 40_000 {
			wantReal = "block"
		}
		switch {
		case d.Revision == 1 && defaults[i] == 1 && string(r.Value) == first[i]:
			repeats++
		case d.Revision == 1 && d.Source == "default_deadline" && d.Verdict == wantDefault && corrections[i] == 0:
			defaults[i]++
			first[i] = string(r.Value)
		case d.Revision == 2 && d.Source == "rules" && d.Corrects == "default_deadline" && d.Verdict == wantReal && wantReal != wantDefault && defaults[i] == 1:
			corrections[i]++
		default:
			if wrong++; wrong < 10 {
				t.Errorf("after %d defaults and %d corrections: %s", defaults[i], corrections[i], r.Value)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for i := range size {
		want := 0
		if amountOf(i) >= 40_000 {
			want = 1
		}
		if defaults[i] != 1 || corrections[i] != want {
			if wrong++; wrong < 10 {
				t.Errorf("payment %d of %d fen: %d defaults, %d corrections", i, amountOf(i), defaults[i], corrections[i])
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d are wrong", wrong)
	}
	generations, away := g.gathered("sluice_group_generations_total{}"), g.gathered("sluice_breaker_open_total{}")
	if repeats > 0 {
		t.Logf("%d defaults were said again, with the same bytes, in %v generations; the store was away %v times", repeats, generations, away)
	}
	if repeats > 0 && generations == 1 && away == 0 {
		t.Error("nothing had happened that makes a gate say something again")
	}
}

// end is the end of a partition.
func (g *liveGate) end(topic string, partition int) int64 {
	g.t.Helper()
	_, end, err := g.conn.Offsets(g.within(10*time.Second), topic, partition)
	if err != nil {
		g.t.Fatal(err)
	}
	return end
}

// slowRules take a hundred milliseconds and more for a payment on the web, and no
// time for others.
func slowRules(t *testing.T) string {
	var b strings.Builder
	b.WriteString("rules:\n")
	for i := range 6000 {
		fmt.Fprintf(&b, "  - {id: slow-%d, description: Slow, owner: test, applies_to: {channel: [web]}, when: 'attributes.note matches \"^(a|ab|abc.{1,9}x)*(b|bc|c[a-z]*%dy)*Z$\"', verdict: hold, reason: SLOW}\n", i, i)
	}
	return rulesIn(t, map[string]string{
		"policy.yaml":        "decide_within: {payment: 300ms}\nwhen_late: {payment: {approve_up_to: CNY(500), else: hold}}\n",
		"features/all.yaml":  "features:\n  - {entity: payer, name: events, windows: [1h], value: count}\n",
		"rules/slow.yaml":    b.String(),
		"rules/counted.yaml": "rules:\n  - {id: many, description: Many, owner: test, when: 'payer.events_1h >= 1000000', verdict: block, reason: MANY}\n",
	})
}

// onTheWeb makes a payment one that slow rules look at.
func onTheWeb() []string {
	return []string{`"channel":"qr"`, `"channel":"web"`, `"amount":`, `"attributes":{"note":"` + strings.Repeat("abcabcab", 120) + `!"},"amount":`}
}

// Rules that take longer than the payments come: each payment gets its default in
// time, or its verdict; the partition beside it notices nothing; and when nothing
// more comes, each payment is counted.
func TestSlowRulesHoldUpNobodysAnswer(t *testing.T) {
	// Rules that compute keep whole processors, and on a busy machine the system gives
	// these to others for long.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
	g := startLive(t, func(c *pipeline.Config) { c.Rules, c.Evidence = slowRules(t), "none" })
	g.send(g.config.Topics.Transactions, 0, paid("first-0", append(onTheWeb(), "1250", "1")...))
	g.send(g.config.Topics.Transactions, 1, paid("first-1", "1250", "1"))
	g.decisions(2)
	g.commits(0, 1)
	h, pulse := g.listen(0, 1), feelPulse(t)
	slow := g.flow(0, 30, "s-", func(int) []string { return onTheWeb() })
	quick := g.flow(1, 50, "q-", nil)
	h.until(60*time.Second, "50 payments on the web", func(of map[string][]answered) bool { return len(of["s-49"]) > 0 })
	slowIDs, quickIDs := slow.stop(), quick.stop()
	h.decided(append(slices.Clone(slowIDs), quickIDs...)...)
	s, q := h.share(slowIDs, pulse), h.share(quickIDs, pulse)
	t.Logf("slow: %v; beside them: %v", s, q)
	s.atLeast(t, 95) // rules that compute leave a busy machine no processor
	q.atLeast(t, 99)
	if all := g.gathered("sluice_defaults_total{cause=rules}") + g.gathered("sluice_defaults_total{cause=lane}"); int(all) < len(slowIDs)/3 {
		t.Errorf("%v payments were given a default because rules are slow; the test proves little", all)
	}
	for began := time.Now(); g.committed(0) < int64(len(slowIDs)+1); time.Sleep(20 * time.Millisecond) { // Kafka tells nobody
		if time.Since(began) > 90*time.Second {
			t.Fatalf("%d of %d payments are committed", g.committed(0), len(slowIDs)+1)
		}
	}
	g.send(g.config.Topics.Transactions, 1, paid("last"))
	h.decided("last")
	for _, id := range slowIDs {
		if all := h.get(id); len(all) != 1 {
			t.Errorf("%s has %d decisions, and its default was right: %s", id, len(all), all[len(all)-1].text)
		}
	}
}

// The broker takes payments and refuses for a second what the gate says. Nobody can
// be answered meanwhile; then all are, those whose time was up with a default or
// with a verdict that was made in time, and from then on all in time.
func TestABrokerThatRefusesForASecondDelaysNoLonger(t *testing.T) {
	var refusing atomic.Bool
	topics := pipeline.DefaultConfig().Topics
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	cluster.ControlKey(kmsg.Produce.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		req := r.(*kmsg.ProduceRequest)
		if !refusing.Load() || req.Topics[0].Topic != topics.Decisions {
			return nil, nil, false
		}
		return refuseProduce(req), nil, true
	})
	g := startLiveOn(t, cluster.ListenAddrs()[0], lateConfig(t))
	g.send(topics.Transactions, 0, paid("first", "1250", "1"))
	h, pulse := g.listen(0), feelPulse(t)
	h.decided("first")
	before := g.flow(0, 100, "b-", nil)
	h.until(20*time.Second, "payments before", func(of map[string][]answered) bool { return len(of["b-50"]) > 0 })
	refusing.Store(true)
	time.Sleep(time.Second) // what the broker refuses is the passing of time
	refusing.Store(false)
	ids := before.stop()
	h.decided(ids...)
	s := h.share(ids, pulse)
	t.Logf("while it refused: %v", s)
	if s.unmarked > 0 || s.defaults == 0 {
		t.Errorf("%d verdicts were made after decide_by and are no defaults; %d are", s.unmarked, s.defaults)
	}
	if s.worst > 5*time.Second {
		t.Errorf("the worst came %v late", s.worst)
	}
	after := g.flow(0, 100, "a-", nil)
	h.until(20*time.Second, "payments after", func(of map[string][]answered) bool { return len(of["a-100"]) > 0 })
	ids = after.stop()
	h.decided(ids...)
	s = h.share(ids, pulse)
	t.Logf("after it: %v", s)
	s.atLeast(t, 99)
}

// What a payment gets whose time is up is in the policy: by amount, and by what the
// caller can do. The real verdict follows as the next revision where it is another
// one; and one that comes again, at once or later, in whichever partition, gets the
// same bytes.
func TestADefaultIsWhatThePolicySaysAndIsCorrectedOnce(t *testing.T) {
	g := startLive(t, lateConfig(t))
	tooLate := func(id string, fen int, more string) string {
		at := time.Now().Add(-5 * time.Second).UTC()
		return fmt.Sprintf(`{"v":1,"transaction_id":%q,"type":"payment","channel":"transit","event_time":%q,"decide_by":%q,"order_id":%q,"amount":{"value":%d,"currency":"CNY"},"payer":{"account_id":"u-1"},"payee":{"account_id":"m-1"}%s}`,
			id, at.Format(time.RFC3339Nano), at.Add(300*time.Millisecond).Format(time.RFC3339Nano), id, fen, more)
	}
	const onlyYes = `,"accepts":[]`
	want := map[string][]string{}
	var records []string
	for _, c := range []struct {
		id   string
		fen  int
		more string
		want []string
	}{
		{"up to the ceiling, fine", 30_000, "", []string{"approve default_deadline"}},
		{"up to the ceiling, bad", 45_000, "", []string{"approve default_deadline", "block rules corrects default_deadline"}},
		{"above the ceiling, fine", 50_001, "", []string{"hold default_deadline", "approve rules corrects default_deadline"}},
		{"above the ceiling, for a turnstile", 60_000, onlyYes, []string{"approve default_deadline"}},
		{"up to the ceiling, odd", 35_000, "", []string{"approve default_deadline", "hold rules corrects default_deadline"}},
		{"up to the ceiling, odd, for a turnstile", 35_000, onlyYes, []string{"approve default_deadline"}},
		{"up to the ceiling, odd, for a shop", 35_000, onlyYes, []string{"approve default_deadline", "block rules corrects default_deadline"}},
		{"above the ceiling, for a shop", 60_000, onlyYes, []string{"block default_deadline", "approve rules corrects default_deadline"}},
	} {
		r := tooLate(c.id, c.fen, c.more)
		if strings.HasSuffix(c.id, "for a shop") {
			r = strings.Replace(r, `"transit"`, `"web"`, 1)
		}
		records, want[c.id] = append(records, r), c.want
	}
	h := g.listen(0, 1)
	g.send(g.config.Topics.Transactions, 0, slices.Concat(records, records)...)
	g.commits(0, int64(2*len(records)))
	g.send(g.config.Topics.Transactions, 0, records...)
	g.send(g.config.Topics.Transactions, 1, records...)
	g.send(g.config.Topics.Transactions, 0, paid("end-0"))
	g.send(g.config.Topics.Transactions, 1, paid("end-1"))
	h.decided("end-0", "end-1")
	g.commits(0, int64(3*len(records)+1))
	g.commits(1, int64(len(records)+1))
	for id, want := range want {
		var got []string
		said := map[int]string{} // by revision
		for _, a := range h.get(id) {
			if before := said[a.Revision]; before != "" {
				if a.text != before {
					t.Errorf("%s: revision %d was\n%s\nand then\n%s", id, a.Revision, before, a.text)
				}
				continue
			}
			said[a.Revision] = a.text
			words := fmt.Sprint(a.Verdict, " ", a.Source)
			if a.Corrects != "" {
				words += " corrects " + string(a.Corrects)
			}
			if got = append(got, words); a.Revision != len(got) {
				t.Errorf("%s: revision %d is the %dth", id, a.Revision, len(got))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
	}
}

// One payment comes in two partitions while the lanes of both are held up by slow
// rules: what is said of it first is said once, in whatever partition it is heard.
func TestAPaymentInTwoStuckLanesHasOneDefault(t *testing.T) {
	g := startLive(t, func(c *pipeline.Config) { c.Rules, c.Evidence = slowRules(t), "none" })
	g.send(g.config.Topics.Transactions, 0, paid("first", "1250", "1"))
	h := g.listen(0, 1)
	h.decided("first")
	var ids, records []string
	for i := range 8 {
		id := fmt.Sprint("t-", i)
		ids, records = append(ids, id), append(records, paid(id, append(onTheWeb(), `"amount":`, `"order_id":"`+id+`","amount":`)...))
	}
	g.send(g.config.Topics.Transactions, 0, records...)
	g.send(g.config.Topics.Transactions, 1, records...)
	h.until(60*time.Second, "every payment in both partitions", func(of map[string][]answered) bool {
		return !slices.ContainsFunc(ids, func(id string) bool {
			var in [2]bool
			for _, a := range of[id] {
				in[a.partition] = true
			}
			return !in[0] || !in[1]
		})
	})
	defaults := 0
	for _, id := range ids {
		all := h.get(id)
		for _, a := range all {
			if a.Revision == 1 && a.text != all[0].text {
				t.Errorf("two first revisions of %s differ:\n%s\n%s", id, all[0].text, a.text)
			}
		}
		if all[0].Source == payment.SourceDefaultDeadline {
			defaults++
		}
	}
	if defaults == 0 {
		t.Error("no payment was given a default; the test proves nothing")
	}
}

// gathered is a metric of the present run by name and labels, as
// sluice_defaults_total{cause=rules}.
func (g *liveGate) gathered(name string) float64 {
	g.t.Helper()
	families, err := g.metrics.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, f := range families {
		for _, metric := range f.Metric {
			var labels []string
			for _, l := range metric.Label {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			if f.GetName()+"{"+strings.Join(labels, ",")+"}" == name {
				return metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
	}
	g.t.Fatalf("there is no metric %s", name)
	return 0
}
