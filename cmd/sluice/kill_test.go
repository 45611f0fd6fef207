package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/benchmarks/storm/load"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/traffic"
)

const (
	killPayments = 50_000
	kills        = 20
	killSeed     = 20261123
	farAway      = payment.Time(4102444800e9) // 2100-01-01
)

// The gate is killed without warning at random moments while payments flow,
// some of which come again, to the same partition or to another. Then, from the
// topics alone: every payment has exactly one verdict, whatever was repeated on
// the way; what cannot be used is in dead letters; no offset was ever committed
// before everything below it was settled; and every window is what its
// definition says.
func TestKilledGateLosesNothingAndSaysNothingTwice(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	rng := rand.New(rand.NewPCG(killSeed, 1))
	g := newGate(t, oracleRuleset(t), "windows: {outcomes_wait: 100000h, batch_size: 100}\n")
	feed := newFeed(g)
	watch := watchCommits(g)

	began := time.Now()
	busy := 0
	for n := range kills {
		feed.allow(killPayments / kills / 2)
		p := g.run("--evidence", "all")
		switch {
		case n%5 == 4: // before it decides anything: while it joins, fences, reads
			p.pause(time.Duration(rng.Int64N(int64(1500 * time.Millisecond))))
		case n%5 == 3: // at any time
			p.says("msg=deciding")
			feed.allow(killPayments / kills / 2)
			p.pause(time.Duration(rng.Int64N(int64(1200 * time.Millisecond))))
		default: // while it works
			before := g.total(g.decisions())
			p.says("msg=deciding")
			feed.allow(killPayments / kills / 2)
			for much := rng.Int64N(killPayments / kills); g.total(g.decisions()) < before+much; {
				p.pause(time.Millisecond)
			}
		}
		p.kill()
		watch.sample()
		if watch.behind() {
			busy++
		}
	}
	feed.allow(killPayments)
	last := g.run("--evidence", "all")
	feed.done(t)
	g.settled(60 * time.Second)
	t.Logf("%d kills, %d of them in the middle of work, and settled %v after the start", kills, busy, time.Since(began).Round(time.Millisecond))
	if busy < kills/2 {
		t.Errorf("only %d of %d kills came while payments were undecided: the test proves little", busy, kills)
	}

	checked := time.Now()
	topics := readTopics(g)
	topics.checkDecisions(t)
	topics.checkDeadLetters(t, g)
	watch.check(t, topics)
	topics.checkWindows(t)
	topics.checkOutcomes(t, g)
	t.Logf("checked in %v", time.Since(checked).Round(time.Millisecond))
	last.drain(10 * time.Second)
}

// pause lets a process work for a while.
func (p *process) pause(d time.Duration) {
	select {
	case <-p.exited:
		p.t.Fatal("the process ended by itself")
	case <-time.After(d):
	}
}

// feed sends payments, outcomes and what cannot be used, as far as it is allowed.
type feed struct {
	g       *gate
	allowed chan int
	ended   chan error
}

func newFeed(g *gate) *feed {
	f := &feed{g: g, allowed: make(chan int, 2*kills+1), ended: make(chan error, 1)}
	go func() { f.ended <- f.send() }()
	return f
}

// allow lets so many more transactions go.
func (f *feed) allow(n int) { f.allowed <- n }

// done waits until everything is sent.
func (f *feed) done(t testing.TB) {
	t.Helper()
	close(f.allowed)
	if err := <-f.ended; err != nil {
		t.Fatal(err)
	}
}

// send plays the traffic; Kafka's time is the event time, so that the same seed
// gives the same decisions today and next year.
func (f *feed) send() error {
	rng := rand.New(rand.NewPCG(killSeed, 2))
	stream := traffic.New(traffic.Config{Seed: killSeed, Rate: 20, People: 3000, OutcomeSpeed: 2000})
	ctx := f.g.within(5 * time.Minute)
	type again struct {
		at        int // when so many were sent
		partition int
		message   broker.Message
	}
	var later []again
	sent := 0
	for n := range f.allowed {
		for n > 0 && sent < killPayments {
			var transactions, outcomes [partitions][]broker.Message
			size := min(n, 1+rng.IntN(200), killPayments-sent)
			var now int64
			for made := 0; made < size; {
				e := stream.Next()
				now = int64(e.Time / 1e6)
				m := broker.Message{Key: []byte(e.Key), Value: e.Value, Time: now}
				home := load.Home(e.Key, partitions)
				if e.Kind == payment.RecordOutcome {
					outcomes[home] = append(outcomes[home], m)
					if rng.IntN(100) == 0 {
						outcomes[home] = append(outcomes[home], m)
					}
					continue
				}
				// None is past its deadline: so each sees what stands before it, and its position is its own.
				m.Value = load.AnswerBy(m.Value, farAway)
				made++
				sent++
				if rng.IntN(200) == 0 {
					m.Value = load.Spoil(rng, m.Value)
				}
				transactions[home] = append(transactions[home], m)
				if rng.IntN(100) == 0 { // comes again, at once or much later, half of them elsewhere
					to := home
					if rng.IntN(2) == 0 {
						to = rng.IntN(partitions)
					}
					later = append(later, again{sent + rng.IntN(4)*rng.IntN(3000), to, m})
				}
			}
			rest := later[:0]
			for _, l := range later {
				if l.at > sent && sent < killPayments {
					rest = append(rest, l)
					continue
				}
				l.message.Time = now
				transactions[l.partition] = append(transactions[l.partition], l.message)
			}
			later = rest
			for p := range partitions {
				if err := f.g.conn.Produce(ctx, f.g.transactions(), p, transactions[p]); err != nil {
					return err
				}
				if err := f.g.conn.Produce(ctx, f.g.outcomes(), p, outcomes[p]); err != nil {
					return err
				}
			}
			n -= size
		}
	}
	if sent < killPayments {
		return fmt.Errorf("%d of %d payments were sent", sent, killPayments)
	}
	return nil
}

// commits watches what the group commits while it is killed and started.
type commits struct {
	g       *gate
	samples []commitSample
	asking  sync.Mutex
	mu      sync.Mutex
	stop    chan struct{}
	stopped sync.WaitGroup
}

// commitSample is what was committed, and then how far the output topics were:
// what is settled below a committed offset must stand below these ends.
type commitSample struct{ committed, input, decisions, deadLetters [partitions]int64 }

func watchCommits(g *gate) *commits {
	w := &commits{g: g, stop: make(chan struct{})}
	w.stopped.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-w.stop:
				return
			case <-tick.C:
				w.sample()
			}
		}
	})
	g.t.Cleanup(w.end)
	return w
}

func (w *commits) end() {
	select {
	case <-w.stop:
	default:
		close(w.stop)
	}
	w.stopped.Wait()
}

// sample asks for the committed offsets first; what the group has not heard of
// yet, or a coordinator that moves, is left for the next time.
func (w *commits) sample() {
	w.asking.Lock() // samples stand in the order in which offsets were asked for
	defer w.asking.Unlock()
	var s commitSample
	var err error
	if s.committed, err = w.g.committed(w.g.transactions()); err != nil {
		return
	}
	for topic, to := range map[string]*[partitions]int64{w.g.decisions(): &s.decisions, w.g.deadLetters(): &s.deadLetters, w.g.transactions(): &s.input} {
		ranges, err := w.g.conn.TopicOffsets(w.g.within(30*time.Second), topic)
		if err != nil {
			return
		}
		for p, r := range ranges {
			to[p] = r.End
		}
	}
	w.mu.Lock()
	w.samples = append(w.samples, s)
	w.mu.Unlock()
}

// behind tells whether payments were waiting at the last sample.
func (w *commits) behind() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.samples[len(w.samples)-1]
	for p := range partitions {
		if s.committed[p] < s.input[p] {
			return true
		}
	}
	return false
}

// check holds every sample against the topics (invariant 2).
func (w *commits) check(t *testing.T, topics *topics) {
	w.end()
	moved := 0
	before := commitSample{committed: [partitions]int64{-1, -1, -1, -1}}
	for _, s := range w.samples {
		if s.committed != before.committed {
			moved++
		}
		for p := range partitions {
			if s.committed[p] < before.committed[p] {
				t.Errorf("partition %d: the committed offset went back from %d to %d", p, before.committed[p], s.committed[p])
			}
			for _, r := range topics.transactions[p][:max(0, s.committed[p])] {
				if d, ok := topics.answer[place{p, r.Offset}]; ok && d >= s.decisions[p] {
					t.Fatalf("partition %d was committed up to %d when the decision of %d was not yet published", p, s.committed[p], r.Offset)
				}
				if letter, ok := topics.letter[place{p, r.Offset}]; ok && letter.offset >= s.deadLetters[letter.partition] {
					t.Fatalf("partition %d was committed up to %d when the dead letter of %d was not yet published", p, s.committed[p], r.Offset)
				}
			}
		}
		before = s
	}
	t.Logf("%d samples of committed offsets, %d of them different", len(w.samples), moved)
	if moved < kills/2 {
		t.Errorf("offsets moved only %d times during %d starts: the test proves little", moved, kills)
	}
}

// place is a record of a topic.
type place struct {
	partition int
	offset    int64
}

// topics is everything that was said in the end.
type topics struct {
	transactions, decisions, deadLetters [][]broker.Record
	decoded                              map[string]*payment.Decision // by transaction
	answer                               map[place]int64              // of a transaction's record: the first offset of its decision in its partition
	letter                               map[place]place              // of a refused record: its first dead letter
	readable                             map[string][]byte            // transactions by id
}

func readTopics(g *gate) *topics {
	return &topics{
		transactions: g.all(g.transactions()), decisions: g.all(g.decisions()), deadLetters: g.all(g.deadLetters()),
		decoded: map[string]*payment.Decision{}, answer: map[place]int64{}, letter: map[place]place{}, readable: map[string][]byte{},
	}
}

// checkDecisions: every payment that can be identified has one revision 1, the
// same bytes wherever it stands, and one at least in the partition of each of
// its records (invariant 1).
func (o *topics) checkDecisions(t *testing.T) {
	t.Helper()
	bytesOf := map[string][]byte{}
	type in struct {
		id        string
		partition int
	}
	first := map[in]int64{}
	repeats := 0
	for p, records := range o.decisions {
		for _, r := range records {
			id := header(r, "transaction_id")
			var d payment.Decision
			if err := json.Unmarshal(r.Value, &d); err != nil {
				t.Fatalf("decision %d/%d: %v", p, r.Offset, err)
			}
			if header(r, "revision") != "1" && (d.Source == payment.SourceExpiry || d.Corrects != "") {
				continue // a hold that was over long ago, by its event time
			}
			if d.TransactionID != id || d.Revision != 1 || header(r, "revision") != "1" || header(r, "verdict") != d.Verdict.String() || string(r.Key) != d.Transaction.Payer {
				t.Fatalf("decision %d/%d: key %q and headers %v do not fit %s", p, r.Offset, r.Key, r.Headers, r.Value)
			}
			if was, ok := bytesOf[id]; !ok {
				bytesOf[id], o.decoded[id] = r.Value, &d
			} else if repeats++; !bytes.Equal(was, r.Value) {
				t.Fatalf("transaction %s has two different verdicts:\n%s\n%s", id, was, r.Value)
			}
			if _, ok := first[in{id, p}]; !ok {
				first[in{id, p}] = r.Offset
			}
		}
	}
	// The records are judged by the decoder of the contract, which has tests of
	// its own; what is said of them is held against the topics.
	decoder := payment.Decoder{Limits: payment.DefaultLimits()}
	asked := map[string]bool{}
	invalid := 0
	for p, records := range o.transactions {
		for _, r := range records {
			var tx payment.Transaction
			refusal := decoder.Transaction(r.Value, payment.Time(r.Time)*1e6, &tx)
			at := place{p, r.Offset}
			if refusal != nil {
				o.letter[at] = place{-1, -1} // to be found
			}
			if !tx.Identified() {
				continue
			}
			id := string(append([]byte(nil), tx.ID...))
			asked[id] = true
			d := o.decoded[id]
			offset, here := first[in{id, p}]
			switch {
			case d == nil:
				t.Fatalf("transaction %s (record %d/%d) has no decision", id, p, r.Offset)
			case !here:
				t.Errorf("transaction %s (record %d/%d) has no decision in its own partition", id, p, r.Offset)
			case refusal != nil && (d.Verdict != payment.Block || d.Source != payment.SourceInvalid):
				t.Errorf("transaction %s cannot be used (%v), and was decided %v by %s", id, refusal, d.Verdict, d.Source)
			case refusal == nil && d.Source != payment.SourceRules && d.Source != payment.SourceDuplicate:
				t.Errorf("transaction %s was decided by %s", id, d.Source)
			}
			o.answer[at] = offset
			if refusal != nil {
				invalid++
			} else {
				o.readable[id] = r.Value
			}
		}
	}
	for id := range o.decoded {
		if !asked[id] {
			t.Errorf("transaction %s was never sent, and has a decision", id)
		}
	}
	if invalid == 0 || repeats == 0 {
		t.Errorf("%d invalid payments and %d repeated decisions: the test proves little", invalid, repeats)
	}
	t.Logf("%d transactions, %d of them usable, one verdict each; %d decisions repeated byte for byte; %d invalid ones blocked", len(o.decoded), len(o.readable), repeats, invalid)
}

// checkDeadLetters: what was refused, and nothing else, stands in dead letters,
// byte for byte, with its place.
func (o *topics) checkDeadLetters(t *testing.T, g *gate) {
	t.Helper()
	letters := 0
	for p, records := range o.deadLetters {
		for _, r := range records {
			letters++
			partition, err := strconv.Atoi(header(r, "partition"))
			if err != nil {
				t.Fatal(err)
			}
			offset, err := strconv.ParseInt(header(r, "offset"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			at := place{partition, offset}
			known, refused := o.letter[at]
			if header(r, "topic") != g.transactions() || !refused {
				t.Fatalf("dead letter %d/%d is of %s %v, which is no refused record", p, r.Offset, header(r, "topic"), at)
			}
			from := o.transactions[partition][offset]
			if !bytes.Equal(from.Value, r.Value) || !bytes.Equal(from.Key, r.Key) {
				t.Errorf("dead letter %d/%d has other bytes than record %v", p, r.Offset, at)
			}
			if header(r, "reason") == "" {
				t.Errorf("dead letter %d/%d has no reason", p, r.Offset)
			}
			if known.partition < 0 {
				o.letter[at] = place{p, r.Offset}
			}
		}
	}
	for at, letter := range o.letter {
		if letter.partition < 0 {
			t.Errorf("record %v was refused and is in no dead letter", at)
		}
	}
	if len(o.letter) < killPayments/400 {
		t.Errorf("only %d records were refused", len(o.letter))
	}
	t.Logf("%d refused records, %d dead letters", len(o.letter), letters)
}

// checkWindows recomputes every feature of every decision.
func (o *topics) checkWindows(t *testing.T) {
	t.Helper()
	events := map[string]*oracleEvent{}
	taken := map[payment.Position]string{}
	for id, record := range o.readable {
		e, err := readEvent(record)
		if err != nil {
			t.Fatal(err)
		}
		positions := o.decoded[id].Evidence.Positions
		if len(positions) == 0 {
			t.Fatalf("transaction %s has no position", id)
		}
		e.position = positions[0].Position
		for _, p := range positions {
			if p.Position != e.position {
				t.Fatalf("transaction %s stands at %v and at %v", id, e.position, p.Position)
			}
		}
		if other, twice := taken[e.position]; twice {
			t.Fatalf("transactions %s and %s stand at the same position %v", id, other, e.position)
		}
		taken[e.position], events[id] = id, e
	}
	logs := logsOf(events)
	wrong, compared := 0, 0
	for id, e := range events {
		got := map[string]string{}
		for _, f := range o.decoded[id].Evidence.Features {
			got[f.Name] = string(f.Value.AppendJSON(nil))
		}
		for _, d := range definitions() {
			want := ""
			if entity := e.entity(d.entity); entity != "" {
				want = d.at(e, logs[d.entity+" "+entity])
			}
			compared++
			if got[d.fullName()] != want {
				if wrong++; wrong <= 10 {
					t.Errorf("transaction %s at %v: %s is %q, by definition %q", id, e.position, d.fullName(), got[d.fullName()], want)
				}
			}
		}
	}
	if wrong > 10 {
		t.Errorf("%d of %d values are wrong", wrong, compared)
	}
	t.Logf("%d values of %d payments equal their definition", compared-wrong, len(events))
}

// checkOutcomes asks, with one more payment of each payer, how many of the
// payer's transactions have settled.
func (o *topics) checkOutcomes(t *testing.T, g *gate) {
	t.Helper()
	type fate struct {
		time payment.Time
		kind payment.OutcomeKind
	}
	fates := map[string]fate{}
	decoder := payment.Decoder{Limits: payment.DefaultLimits()}
	var latest payment.Time
	for _, records := range g.all(g.outcomes()) {
		for _, r := range records {
			var out payment.Outcome
			if refusal := decoder.Outcome(r.Value, payment.Time(r.Time)*1e6, &out); refusal != nil {
				t.Fatal(refusal)
			}
			latest = max(latest, out.EventTime)
			if f := fates[out.TransactionID]; out.EventTime >= f.time {
				fates[string(append([]byte(nil), out.TransactionID...))] = fate{out.EventTime, out.Kind}
			}
		}
	}
	settled := map[string]int{}
	for id, record := range o.readable {
		e, err := readEvent(record)
		if err != nil {
			t.Fatal(err)
		}
		latest = max(latest, e.time)
		settled[e.entities["payer"]] += 0
		if fates[id].kind == payment.OutcomeSettled {
			settled[e.entities["payer"]]++
		}
	}
	before := g.ends(g.decisions())
	var probes [partitions][]broker.Message
	for payer := range settled {
		record := fmt.Sprintf(`{"v":1,"transaction_id":"probe-%s","type":"payment","event_time":%q,"amount":{"value":1,"currency":"CNY"},"payer":{"account_id":%q}}`, payer, latest, payer)
		p := load.Home(payer, partitions)
		probes[p] = append(probes[p], broker.Message{Key: []byte(payer), Value: []byte(record), Time: int64(latest/1e6) + 1})
	}
	wrong, total := 0, 0
	for p := range partitions {
		g.send(g.transactions(), p, probes[p]...)
		for _, r := range g.read(g.decisions(), p, before[p], len(probes[p])) {
			var d payment.Decision
			if err := json.Unmarshal(r.Value, &d); err != nil {
				t.Fatal(err)
			}
			for _, f := range d.Evidence.Features {
				if f.Name != "payer.settled_24h" {
					continue
				}
				want := settled[d.Transaction.Payer]
				total += want
				if f.Value.Int() != int64(want) {
					if wrong++; wrong <= 10 {
						t.Errorf("payer %s: %d transactions have settled, and %d are counted", d.Transaction.Payer, want, f.Value.Int())
					}
				}
			}
		}
	}
	if total == 0 {
		t.Error("no transaction has settled: the test proves nothing")
	}
	t.Logf("%d settled transactions of %d payers are counted once", total, len(settled))
}
