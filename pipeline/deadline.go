package pipeline

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// A payment whose time is up gets the policy's default, marked as such; its real
// verdict follows as the next revision, if it differs. What is late when the
// front of a lane comes to it gets the default there. For everything else a
// watch stands beside the front: a timer, started with the payment's arrival,
// that looks at no store and no rule. A margin before the deadline it publishes
// the default, or the verdict if there is one that waits only for the store to
// agree. So a store call that hangs, a slow rule or a batch that takes too long
// can hold up nobody's answer.
//
// Who of the two answers is settled by the state of the answer (see batch.go):
// each moves it on by compare-and-swap, and publishes only what it has moved.
// Both publish under the lane's lock, so that who comes second sees what was said.

// overdue tells whether nobody can answer a transaction in time any more.
func (e *Engine) overdue(a *answer) bool {
	return e.pace != nil && e.gate.Now != nil && a.deadline < e.gate.Now()
}

// giveDefault answers with the default of the policy.
func (e *Engine) giveDefault(a *answer, b *Batch) {
	d := &e.decision
	e.gate.defaultOf(e.rules, a, d)
	a.why = causeBacklog
	b.write(a, d)
	a.move(deciding, judged) // or the watch has said its own meanwhile, which stands
}

// watch looks after the deadlines of what a lane has fetched and not answered.
type watch struct {
	margin time.Duration // before the deadline a default is started
	wake   chan struct{} // of capacity 1: the earliest deadline may be another one

	mu      sync.Mutex
	flights []*flight // what is watched

	// Scratch, guarded by the lane's lock.
	decision payment.Decision
	telling  []*answer
	asked    []*answer
	hashes   []window.TxHash
	bytes    [][]byte
	claims   *ledger.Claims
}

func newWatch(margin time.Duration) *watch {
	return &watch{margin: margin, wake: make(chan struct{}, 1)}
}

// due is when the default of an answer is to be started: a margin before its
// deadline, or half of what is left when it comes if that is less. One that comes
// too late is left to the front for so long.
func (w *watch) due(a *answer, now payment.Time) payment.Time {
	if a.deadline < now {
		return now.Add(w.margin)
	}
	return a.deadline.Add(-min(w.margin, time.Duration(a.deadline-now)/2))
}

// add begins to watch a flight.
func (w *watch) add(f *flight, now payment.Time) {
	f.came, f.due = now, farAhead
	f.dues = f.dues[:0]
	for i := range f.batch.answers {
		due := farAhead
		if a := &f.batch.answers[i]; a.usable {
			due = w.due(a, now)
		}
		f.dues = append(f.dues, due)
		f.due = min(f.due, due)
	}
	w.mu.Lock()
	earliest := w.earliest()
	w.flights = append(w.flights, f)
	w.mu.Unlock()
	if f.due < earliest {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// answeredByWatch tells whether the watch has answered every record of a flight
// that the front has not begun. One that could not be used is not the watch's.
func (f *flight) answeredByWatch() bool {
	for i := range f.batch.answers {
		if !f.batch.answers[i].wasTold() {
			return false
		}
	}
	return true
}

// remove ends the watching of a flight. The caller holds the lane's lock, so the
// watch is not at it.
func (w *watch) remove(f *flight) {
	w.mu.Lock()
	w.flights = slices.DeleteFunc(w.flights, func(other *flight) bool { return other == f })
	w.mu.Unlock()
}

func (w *watch) earliest() payment.Time {
	due := farAhead
	for _, f := range w.flights {
		due = min(due, f.due)
	}
	return due
}

// keepDeadlines runs the watch of a lane until ctx ends.
func (l *lane) keepDeadlines(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		l.watch.mu.Lock()
		due := l.watch.earliest()
		l.watch.mu.Unlock()
		left := time.Hour
		if due != farAhead {
			left = time.Duration(due - l.gate.Now())
		}
		timer.Reset(max(0, min(left, time.Hour)))
		select {
		case <-ctx.Done():
			return nil
		case <-l.watch.wake:
		case <-timer.C:
			if err := l.tell(ctx); err != nil {
				return err
			}
		}
	}
}

// tellAgain is how soon the watch looks again at an answer that somebody else was
// about to give.
const tellAgain = 5 * time.Millisecond

// tell answers everything that is due.
func (l *lane) tell(ctx context.Context) error {
	w, came := l.watch, time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	w.mu.Lock()
	flights := slices.Clone(w.flights)
	w.mu.Unlock()
	now := l.gate.Now()
	held := l.heldUp(now, flights)
	if time.Since(came) > paused/4 {
		held = causeBroker // what was published before took so long
	}
	rs := l.gate.ruleset()
	w.telling, w.claims = w.telling[:0], ledger.NewClaims()
	for _, f := range flights {
		if f.due > now {
			continue
		}
		next := farAhead
		for i := range f.batch.answers[:len(f.dues)] {
			a := &f.batch.answers[i]
			switch {
			case f.dues[i] > now:
				next = min(next, f.dues[i])
			case l.prepare(rs, a):
				f.dues[i] = farAhead
				if a.toldWhy = held; a.deadline < f.came {
					a.toldWhy = causeBacklog
				}
			case a.state.Load() < taken:
				next = min(next, now.Add(tellAgain))
			default:
				f.dues[i] = farAhead
			}
		}
		w.mu.Lock()
		f.due = next
		w.mu.Unlock()
	}
	if err := l.publishTold(ctx); err != nil {
		return err
	}
	l.dropTold(flights)
	return nil
}

// prepare takes an answer over from the front, if it can, and writes what it will say.
func (l *lane) prepare(rs rulesetOf, a *answer) bool {
	w := l.watch
	switch a.state.Load() {
	case open:
		known, found, by := l.gate.claimAtHand(a, w.claims)
		switch {
		case found:
			stored, ok := l.gate.Ledger.Recent(a.hash)
			if !ok && !a.heard || known.Fingerprint != ledger.Fingerprint(l.gate.Store.Key(), &a.summary) || !a.move(open, forestalled) {
				return false
			}
			a.told, a.toldAt, a.toldNew = stored, known, false
		case by != nil:
			return false // claimed by a batch, which has its own watch
		case !a.move(open, forestalled):
			l.gate.Ledger.Unclaim(a.hash, w.claims)
			return false
		default:
			w.write(l.gate, rs, a)
		}
	case deciding:
		if _, stored := l.overtaken(a); stored != nil {
			return false // the front will see it too
		}
		if !a.move(deciding, forestalled) {
			return l.prepare(rs, a) // it has just been judged
		}
		w.write(l.gate, rs, a)
	case judged:
		if a.madeTooLate() {
			if !a.move(judged, forestalled) {
				return false
			}
			w.write(l.gate, rs, a)
			break
		}
		if !a.move(judged, hastened) {
			return false
		}
		a.told, a.toldAt, a.toldNew = a.bytes, a.mark, true
	default:
		return false
	}
	w.telling = append(w.telling, a)
	return true
}

// claimAtHand claims a transaction without asking a store that may hang. Of one
// that may have been decided long ago it says nothing.
func (g *Gate) claimAtHand(a *answer, c *ledger.Claims) (m window.Mark, found bool, by *ledger.Claims) {
	if g.Ledger.Complete(a.tx.EventTime) {
		return g.Ledger.ClaimAtHand(a.hash, c)
	}
	if g.Shared == nil {
		return g.Ledger.Claim(a.hash, c) // the journal's index is in this process
	}
	return m, false, c
}

// write writes the default of an answer.
func (w *watch) write(g *Gate, rs rulesetOf, a *answer) {
	d := &w.decision
	g.defaultOf(rs, a, d)
	a.told = d.Append(nil)
	a.toldAt = window.Mark{Tx: a.hash, Fingerprint: ledger.Fingerprint(g.Store.Key(), &a.summary), Verdict: d.Verdict, Latest: d.Verdict, Default: true, EventTime: a.tx.EventTime}
	a.toldNew = true
}

// rulesetOf is what makes defaults.
type rulesetOf interface {
	Default(tx *payment.Transaction, d *payment.Decision)
}

// defaultOf makes the default decision of a transaction. It holds nothing that
// depends on who makes it, and when: two members that meet one payment in two
// partitions while their store is away say the same, byte for byte.
func (g *Gate) defaultOf(rs rulesetOf, a *answer, d *payment.Decision) {
	d.Reset()
	rs.Default(&a.tx, d)
	g.describe(a, d)
	d.ReceivedAt, d.DecidedAt, d.DecideBy = 0, 0, a.tx.DecideBy
	g.Watchdog.Saw(d)
}

// publishTold publishes what the watch has taken over.
func (l *lane) publishTold(ctx context.Context) error {
	w := l.watch
	if len(w.telling) == 0 {
		l.gate.Ledger.Settle(w.claims, nil, nil)
		return nil
	}
	l.agree(ctx, w.telling)
	for _, a := range w.telling {
		to := &a.toldAt
		if !a.toldNew && a.heard {
			continue
		}
		if !a.toldNew {
			to = nil // it stands elsewhere
		}
		if err := l.add(ctx, said{a: a, decision: a.told, verdict: a.toldAt.Verdict, revision: 1, at: to}); err != nil {
			return err
		}
	}
	if err := l.flush(ctx); err != nil {
		return err
	}
	for _, a := range w.telling {
		if !a.toldNew {
			if !a.heard {
				l.gate.Metrics.repeated()
			}
			continue
		}
		l.gate.Ledger.Add(a.toldAt, a.told)
		l.gate.Metrics.told(a)
		l.gate.Notices.Decided(&a.tx, a.toldAt.Verdict, a.told)
		l.measure(a)
	}
	l.gate.Ledger.Settle(w.claims, nil, nil)
	return nil
}

// agree lets defaults be the first decisions of their transactions, among all
// members who share a store. Where another one was first, that is what is said. It
// waits for a store no longer than a call may take, and for one that is away not at
// all: only then two members can say different things of one payment that came to
// both. The caller holds the lane's lock.
func (l *lane) agree(ctx context.Context, answers []*answer) {
	w := l.watch
	if l.gate.Shared == nil {
		return
	}
	w.asked, w.hashes, w.bytes = w.asked[:0], w.hashes[:0], w.bytes[:0]
	for _, a := range answers {
		if a.toldNew {
			w.asked, w.hashes, w.bytes = append(w.asked, a), append(w.hashes, a.hash), append(w.bytes, a.told)
		}
	}
	winners, err := l.gate.Shared.First(ctx, w.hashes, w.bytes)
	if err != nil {
		l.folder.standFrom(l.end.Load()) // the store hears of it when it is back
		return
	}
	for i, a := range w.asked {
		if winners == nil || winners[i] == nil {
			continue
		}
		m, _, err := ledger.MarkOf(l.gate.Store.Key(), int32(l.partition), -1, winners[i])
		if err == nil && m.Fingerprint == a.toldAt.Fingerprint {
			a.told, a.toldAt = winners[i], m
		}
	}
}

// cause is what made a default necessary.
type cause string

// The causes of a default.
const (
	causeBacklog cause = "backlog" // its time was up when it was read
	causeStore   cause = "store"   // the lane waited for its store
	causeRules   cause = "rules"   // the rules took too long
	causeBroker  cause = "broker"  // an earlier batch was not acknowledged
	causePaused  cause = "paused"  // the process stood still
	causeLane    cause = "lane"    // the lane was busy with what came before
)

// paused is how late the watch must be for the process to have stood still.
const paused = 100 * time.Millisecond

// heldUp says what holds up the front of the lane at this moment.
func (l *lane) heldUp(now payment.Time, flights []*flight) cause {
	for _, f := range flights {
		if f.due < now.Add(-paused) {
			return causePaused
		}
	}
	switch l.engine.stage.Load() {
	case stageStore, stageLookUp:
		return causeStore
	case stageRules:
		return causeRules
	}
	return causeLane
}

// The stages of Engine.decide, for the watch.
const (
	stageNone uint32 = iota
	stageLookUp
	stageStore
	stageRules
)

func (e *Engine) at(stage uint32) { e.stage.Store(stage) }
