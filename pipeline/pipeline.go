// Package pipeline is the way of a transaction from Kafka to its verdict.
//
// This file is the whole of it: decode → look up earlier decisions → append and
// fold windows → evaluate → decide → remember. The live path, the sandbox, the
// replay and the tests call the same Decide. What stands around it — fetching,
// publishing, committing — is in lane.go, and why nothing is lost or said twice
// is argued in DESIGN.md.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
	"github.com/sluice-risk/sluice/rules"
)

// Gate is what all lanes of a process share: rules, windows, ledger.
type Gate struct {
	// inForce guards Rules, and that the store has their features: it is held for
	// reading over a micro-batch, and for writing by Use.
	inForce  sync.RWMutex
	Rules    *rules.Ruleset
	Controls Controls                      // what people change at run time
	newest   atomic.Pointer[rules.Ruleset] // Rules, for those who must not wait for inForce; nil: as it was at the start
	Store    window.Store
	Shared   Shared // the store, where several members use it; nil else
	Ledger   *ledger.Index
	Holds    *ledger.Holds // what may get a later revision; nil in a replay, which has its own
	Limits   payment.Limits
	Evidence Evidence
	// Now is the member's clock. Without it, as in a replay, time is what the
	// records say and nothing else.
	Now   func() payment.Time
	clock *clock // what Now reads; nil where that needs no looking after
	// Earlier reads the bytes of a decision that the ledger has only by its place;
	// errForgotten where nobody has them any more.
	Earlier func(context.Context, window.Mark) ([]byte, error)
	Metrics *Metrics
	Log     *slog.Logger
	// How people are told; nil tells nobody.
	Alerts   *Alerts
	Watchdog *Watchdog
	Notices  *Notices

	outages outageMarks
	judged  func(*rules.Ruleset, *answer, *rules.Input) // of a replay that explains; nil else
}

// Evidence says which decisions carry the values that they rest on.
type Evidence uint8

// The choices of evidence. With EvidenceHeld, one approval in a hundred carries
// it too, chosen by its transaction id.
const (
	EvidenceHeld Evidence = iota
	EvidenceAll
	EvidenceNone
)

// ParseEvidence reads all, held or none.
func ParseEvidence(name string) (Evidence, error) {
	switch name {
	case "held", "":
		return EvidenceHeld, nil
	case "all":
		return EvidenceAll, nil
	case "none":
		return EvidenceNone, nil
	}
	return 0, fmt.Errorf("evidence %q: must be all, held or none", name)
}

// Engine decides micro-batches for one lane. It owns what the steps reuse.
type Engine struct {
	gate      *Gate
	stage     atomic.Uint32 // where decide is, for the watch to say what held it up
	pace      *pace         // of backlogs; nil in a replay
	partition int           // as pace counts them
	rules     *rules.Ruleset
	counters  ruleMetrics
	evaluator *rules.Evaluator
	overrides *rules.Overrides // of the present micro-batch
	features  []string         // full names, by slot
	since     []payment.Time   // by slot: from when on its logs are whole; notAsked: not asked for in this batch
	entities  []window.Entity
	decision  payment.Decision
	repeats   rules.Duplicate      // scratch of duplicate
	together  map[entityKey]bool   // scratch of apart
	tx        *payment.Transaction // the one whose identifiers hash gives to the rules
	hash      func(window.Kind) uint64
}

// NewEngine returns an engine for one lane.
func (g *Gate) NewEngine() *Engine {
	e := &Engine{gate: g}
	key := g.Store.Key()
	e.hash = func(k window.Kind) uint64 { return key.RefOf(k, e.tx) }
	return e
}

// use makes the engine ready for the ruleset in force, if it is not.
func (e *Engine) use() {
	e.overrides = e.gate.Controls.Overrides()
	if e.rules == e.gate.Rules {
		return
	}
	e.rules, e.evaluator, e.entities = e.gate.Rules, e.gate.Rules.NewEvaluator(), e.gate.Store.Entities()
	e.counters = e.gate.Metrics.ofRules(e.rules)
	e.features, e.since = e.features[:0], e.since[:0]
	for _, f := range e.rules.Features() {
		e.features = append(e.features, f.FullName())
		e.since = append(e.since, notAsked)
	}
}

const notAsked payment.Time = math.MinInt64

// sinceOf is the event time from which on the logs of a feature's entities are
// whole; a store is asked once in a micro-batch.
func (e *Engine) sinceOf(slot int) payment.Time {
	if e.since[slot] == notAsked {
		e.since[slot] = e.gate.Store.Since(e.rules.Features()[slot].Entity)
	}
	return e.since[slot]
}

// ruleset is the one in force, without waiting for anybody.
func (g *Gate) ruleset() *rules.Ruleset {
	if rs := g.newest.Load(); rs != nil {
		return rs
	}
	return g.Rules
}

// Decide takes records of one partition through all steps up to the bytes that
// are to be published, in b. It stops before a transaction that another lane is
// deciding at this moment: then n is less than len(records), and wait is closed
// when the other has settled it. On an error nothing of b may be published.
// Its claims stand then, since nobody may decide its transactions before it is
// known what became of them: Ledger.Clear ends them.
func (e *Engine) Decide(ctx context.Context, records []broker.Record, b *Batch) (n int, wait <-chan struct{}, err error) {
	e.gate.Decode(records, b)
	return e.decide(ctx, b, 0)
}

// decide is Decide for a batch that was decoded, from one of its answers on.
func (e *Engine) decide(ctx context.Context, b *Batch, from int) (n int, wait <-chan struct{}, err error) {
	e.gate.inForce.RLock()
	defer e.gate.inForce.RUnlock()
	e.use()
	for i := range e.since {
		e.since[i] = notAsked
	}
	b.part(from)
	e.at(stageLookUp)
	for i := from; i < len(b.answers); i++ {
		b.marks = append(b.marks, b.answers[i].mark)
	}
	e.gate.Ledger.LookAhead(b.marks)
	for n = from; n < len(b.answers) && wait == nil; {
		if wait, err = e.lookUp(ctx, &b.answers[n], b); err != nil {
			return n, nil, err
		}
		if wait == nil {
			n++
		}
	}
	if err = e.decideFresh(ctx, b); err == nil {
		err = e.repeat(ctx, b, b.answers[from:n])
	}
	e.at(stageNone)
	return n, wait, err
}

// decideFresh takes those that were never decided through windows and rules, and
// those that the journal had lost through windows.
func (e *Engine) decideFresh(ctx context.Context, b *Batch) error {
	for at := 0; at < len(b.fresh); {
		n, err := e.decideNow(ctx, b, at)
		if err != nil {
			return err
		}
		at += n
	}
	return e.first(ctx, b.invalid, b)
}

// decideNow decides those of b.fresh from a place on, and returns how many they were.
func (e *Engine) decideNow(ctx context.Context, b *Batch, at int) (n int, err error) {
	n = len(b.fresh) - at
	if e.gate.Store.ReadsVerdicts() { // of one entity each must see the verdict on the one before it
		clear(e.together)
		for n = 0; at+n < len(b.fresh) && e.apart(b.fresh[at+n].Tx); n++ {
		}
	}
	items := b.fresh[at : at+n]
	e.at(stageStore)
	err = e.gate.Store.Append(ctx, items)
	if errors.Is(err, window.ErrAway) {
		e.gate.Store.Peek(items)
		b.deferred = true
		return n, e.judgeAll(ctx, b.of[at:at+n], b, true)
	}
	if err != nil {
		return n, fmt.Errorf("append to the entities' logs: %w", err)
	}
	if e.pace != nil { // a partition whose payments are answered in time is not waited for
		e.pace.noted(e.partition, farAhead, true)
	}
	return n, e.judgeAll(ctx, b.of[at:at+n], b, false)
}

// apart tells whether a transaction shares no entity with those it was asked of
// before, and adds it to them.
func (e *Engine) apart(tx *payment.Transaction) bool {
	key := e.gate.Store.Key()
	var own [16]entityKey
	keys := own[:0]
	for _, of := range e.entities {
		if k := (entityKey{of, key.EntityKey(of, tx)}); k.key != 0 {
			if e.together[k] {
				return false
			}
			keys = append(keys, k)
		}
	}
	if e.together == nil {
		e.together = map[entityKey]bool{}
	}
	for _, k := range keys {
		e.together[k] = true
	}
	return true
}

// entityKey is an entity by its kind and key.
type entityKey struct {
	of  window.Entity
	key uint64
}

// judgeAll decides those whose windows have been read; away tells that they were
// only seen in memory.
func (e *Engine) judgeAll(ctx context.Context, step []*answer, b *Batch, away bool) error {
	e.at(stageRules)
	for _, a := range step {
		if a.decide || a.corrects != "" {
			e.judge(a, b, away)
		}
	}
	if away {
		e.tellBlocks(step, b)
		b.unagreed = b.unagreed || e.gate.Shared != nil
		return nil // the folder notes the rest when the store is back
	}
	e.at(stageStore)
	if err := e.first(ctx, step, b); err != nil {
		return err
	}
	e.tellBlocks(step, b)
	return e.show(ctx, step, b)
}

// first lets each decision be the first of its transaction, among all members.
// Where another one was there before, that one is the answer. Without a word from
// the store a decision stands all the same: behind the fence nobody else writes
// there, and the store hears of it later.
func (e *Engine) first(ctx context.Context, step []*answer, b *Batch) error {
	if e.gate.Shared == nil {
		return nil
	}
	hashes, decisions, asked := b.hashes[:0], b.decisions[:0], b.asked[:0]
	for _, a := range step {
		switch {
		case !a.decide || a.state.Load() != judged:
		case a.madeTooLate():
			b.unagreed = true // the default is said instead
		default:
			hashes, decisions, asked = append(hashes, a.mark.Tx), append(decisions, a.bytes), append(asked, a)
		}
	}
	b.hashes, b.decisions, b.asked = hashes, decisions, asked
	if len(hashes) == 0 {
		return nil
	}
	winners, err := e.gate.Shared.First(ctx, hashes, decisions)
	if errors.Is(err, window.ErrAway) {
		b.unagreed = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("ask the store who was first: %w", err)
	}
	for i, a := range asked {
		if a.agreed = true; winners[i] == nil {
			continue
		}
		if !a.move(judged, taken) {
			b.unagreed = true // time was up, and the watch has said what was decided here
			continue
		}
		if err := e.giveWay(a, winners[i], b); err != nil {
			return err
		}
	}
	return nil
}

// giveWay answers with a decision that another member made before.
func (e *Engine) giveWay(a *answer, decision []byte, b *Batch) error {
	earlier, _, err := ledger.MarkOf(e.gate.Store.Key(), a.mark.Partition, -1, decision)
	if err != nil {
		return fmt.Errorf("the store's decision of a transaction: %w", err)
	}
	e.gate.Metrics.repeated()
	if earlier.Default {
		b.deferred = true // its real verdict is made where it stands, and here if that is the only place
	}
	if own := a.mark; earlier.Fingerprint != own.Fingerprint {
		a.refusal = &payment.Refusal{Reason: payment.ReasonIDConflict, Field: "transaction_id"}
		a.decide, a.bytes = false, nil
		return nil
	}
	if !earlier.Invalid && a.refusal != nil && (a.refusal.Reason == payment.ReasonOlderThanLedger || a.refusal.Reason == payment.ReasonFutureTime) {
		a.refusal = nil
	}
	a.mark = earlier
	b.copyIn(a, decision)
	return nil
}

// kafkaTime is a record's timestamp, cut back to the member's clock where it is
// ahead; a record without one came now.
func (g *Gate) kafkaTime(r *broker.Record) payment.Time {
	const latest = math.MaxInt64 / int64(time.Millisecond)
	t := payment.Time(min(r.Time, latest)) * 1e6
	if g.Now == nil {
		return t
	}
	if now := g.Now(); t <= 0 || t > now {
		return now
	}
	return t
}

// justWritten tells the clock of records that came while a lane had read all
// there was.
func (g *Gate) justWritten(records []broker.Record) {
	if g.clock == nil {
		return
	}
	for i := range records {
		g.clock.fresh(payment.Time(min(records[i].Time, math.MaxInt64/int64(time.Millisecond))) * 1e6)
	}
}

// lookUp asks the ledger whether the transaction was decided before, and claims
// it if not. wait is not nil when another lane has claimed it.
func (e *Engine) lookUp(ctx context.Context, a *answer, b *Batch) (wait <-chan struct{}, err error) {
	if !a.tx.Identified() {
		return nil, nil
	}
	a.mark.Fingerprint, a.mark.Invalid, a.mark.EventTime = ledger.Fingerprint(e.gate.Store.Key(), &a.summary), a.refusal != nil, a.tx.EventTime
	earlier, found, by := e.gate.Ledger.Claim(a.mark.Tx, b.claims)
	switch {
	case found && a.again && earlier.Invalid && !earlier.Revised && a.refusal == nil:
		a.mark.Partition, a.mark.Offset = earlier.Partition, earlier.Offset
		a.corrects = payment.SourceInvalid
		e.take(a, b)
	case found:
		a.compare(earlier)
		if !a.repeat || earlier.Invalid {
			break
		}
		if earlier.Default && !earlier.Revised {
			b.deferred = true // there, or here, its folder makes the real verdict
			break
		}
		held, err := e.gate.Store.Holds(ctx, a.mark.Tx)
		if errors.Is(err, window.ErrAway) {
			b.deferred, held, err = true, true, nil
		}
		if err != nil {
			return nil, fmt.Errorf("look for a transaction in the logs: %w", err)
		}
		if !held {
			e.take(a, b) // its decision is known, and the logs had lost its entry: windows count it now
		}
	case by == b.claims:
		if a.repeatOf = b.index(a.mark.Tx); a.repeatOf >= 0 {
			a.compare(b.answers[a.repeatOf].mark)
		}
	case by != nil:
		return by.Done(), nil
	case e.gate.uncertain(a):
		e.gate.Ledger.Unclaim(a.mark.Tx, b.claims)
		b.deferred, b.unanswered = true, true
	case a.refusal != nil:
		a.decide = true
		a.state.Store(deciding)
		e.block(a, b)
		b.invalid = append(b.invalid, a)
	case !a.move(open, deciding): // the watch has answered it, and the ledger has forgotten that already
		e.gate.Ledger.Unclaim(a.mark.Tx, b.claims)
		a.repeat, b.deferred = true, true
	case e.overdue(a):
		a.decide, b.deferred = true, true
		e.giveDefault(a, b)
		b.invalid = append(b.invalid, a)
	default:
		a.decide = true
		e.take(a, b)
	}
	return nil, nil
}

// uncertain tells that nobody can say now whether a transaction was decided
// before: it is old, and the store that would know is away.
func (g *Gate) uncertain(a *answer) bool {
	return g.Shared != nil && !g.Ledger.Complete(a.tx.EventTime) && g.Store.Health().Away
}

// take puts a transaction among those that windows are to count.
func (e *Engine) take(a *answer, b *Batch) {
	base, based := e.rules.ToBase(a.tx.Amount)
	a.item = window.Item{Tx: &a.tx, KafkaTime: a.kafkaTime, Base: base, Based: based, Values: a.item.Values, Positions: a.item.Positions, Approximate: a.item.Approximate}
	b.fresh, b.of = append(b.fresh, &a.item), append(b.of, a)
}

// compare says what becomes of a transaction whose id was decided before.
func (a *answer) compare(earlier window.Mark) {
	same := earlier.Fingerprint == a.mark.Fingerprint
	if a.refusal != nil && !earlier.Invalid && (a.refusal.Reason == payment.ReasonOlderThanLedger || a.refusal.Reason == payment.ReasonFutureTime) {
		a.refusal = nil // it was not too old, or too early, when it was decided
	}
	switch {
	case a.refusal == nil && !same:
		a.refusal = &payment.Refusal{Reason: payment.ReasonIDConflict, Field: "transaction_id"}
	case same && (a.refusal == nil || earlier.Invalid):
		a.repeat, a.mark = true, earlier
	}
}

// show lets features that look at verdicts see those of a step. Where the
// decisions stand is noted later, when they are published; of those that the
// journal had lost it is known.
func (e *Engine) show(ctx context.Context, step []*answer, b *Batch) error {
	b.marks = b.marks[:0]
	for _, a := range step {
		m := a.mark
		if a.decide {
			m.Offset = -1
		}
		if a.repeat && !a.item.Late || a.decide && e.gate.Store.ReadsVerdicts() {
			b.marks = append(b.marks, m)
		}
	}
	if len(b.marks) == 0 {
		return nil
	}
	err := e.gate.Store.Decided(ctx, b.marks)
	if errors.Is(err, window.ErrAway) {
		b.deferred, err = true, nil
	}
	if err != nil {
		return fmt.Errorf("note verdicts in the entities' logs: %w", err)
	}
	return nil
}

// judge evaluates the rules, forms the verdict, and writes the decision; away
// tells that the windows were only seen in memory.
func (e *Engine) judge(a *answer, b *Batch, away bool) {
	it, d := &a.item, &e.decision
	e.tx = it.Tx
	d.Reset()
	in := rules.Input{Tx: it.Tx, Amount: it.Base, HasAmount: it.Based, Features: it.Values, Since: e.sinceOf, Late: it.Late, Duplicate: e.duplicate(a, b), Hash: e.hash, Overrides: e.overrides}
	if away {
		in.Without = it.Without
	}
	e.evaluator.Decide(&in, d)
	if e.gate.judged != nil {
		seen := in // so that in itself stays on the stack
		e.gate.judged(e.rules, a, &seen)
	}
	e.gate.describe(a, d)
	if away {
		if it.Stale {
			d.Degraded = append(d.Degraded, payment.DegradedStale)
		}
		if slices.Contains(it.Without, true) {
			d.Degraded = append(d.Degraded, payment.DegradedNoFeatures)
		}
		if e.gate.Shared != nil {
			d.Degraded = append(d.Degraded, payment.DegradedUnshared)
		}
	}
	if it.Late {
		d.Degraded = append(d.Degraded, payment.DegradedLate)
	}
	if e.pace != nil && a.corrects == "" && e.pace.Behind() {
		d.Degraded = append(d.Degraded, payment.DegradedBehind)
	}
	if e.gate.wantsEvidence(d) {
		e.attach(it, d, away)
	} else {
		d.Evidence.Clear()
	}
	e.gate.Metrics.ruled(e, it, d)
	if a.corrects != "" {
		b.correct(a, d)
		return
	}
	e.gate.Watchdog.Saw(d)
	b.write(a, d)
	if !a.move(deciding, judged) {
		a.corrects = payment.SourceDefaultDeadline // the watch has given the default meanwhile
	}
}

// block answers a payment that cannot be used but can be identified.
func (e *Engine) block(a *answer, b *Batch) {
	d := &e.decision
	d.Reset()
	d.Verdict, d.Source, d.Final = payment.Block, payment.SourceInvalid, true
	d.Reasons = append(d.Reasons, payment.DecisionReason{Code: "INVALID", Detail: a.refusal.Error()})
	d.PayerCode = "INVALID_REQUEST"
	d.Versions.Rules = e.rules.Hash()
	e.gate.describe(a, d)
	d.DecideBy = a.tx.DecideBy
	e.gate.Watchdog.Saw(d)
	b.write(a, d)
	a.state.Store(judged)
}

// describe fills in what a decision repeats of its transaction, and the times.
func (g *Gate) describe(a *answer, d *payment.Decision) {
	d.TransactionID, d.Transaction = a.tx.ID, a.summary
	d.EventTime, d.DecideBy = a.tx.EventTime, a.deadline
	d.ReceivedAt, d.DecidedAt = a.kafkaTime, a.kafkaTime
	if g.Now != nil {
		d.DecidedAt = g.Now()
	}
}

// wantsEvidence samples approvals by a hash of the id that is the same on every
// member and in every replay.
func (g *Gate) wantsEvidence(d *payment.Decision) bool {
	switch g.Evidence {
	case EvidenceAll:
		return true
	case EvidenceNone:
		return false
	}
	if d.Verdict != payment.Approve {
		return true
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(d.TransactionID))
	return h.Sum32()%100 == 0
}

// attach adds the features that are present and the positions that they were read at.
func (e *Engine) attach(it *window.Item, d *payment.Decision, away bool) {
	for i := range it.Values {
		if k := it.Values[i].Kind(); k != payment.Absent && k != payment.Ref {
			d.Evidence.Features = append(d.Evidence.Features, payment.NamedValue{Name: e.features[i], Value: it.Values[i]})
		}
	}
	if it.Late || away {
		return
	}
	for _, a := range it.Approximate {
		d.Evidence.Approximate = append(d.Evidence.Approximate, payment.ApproximateValue{Feature: e.features[a.Slot], Method: a.Method, Error: a.Error, Resolution: a.Resolution})
	}
	for i, entity := range e.entities {
		if id := entity.ID(it.Tx); id != "" {
			d.Evidence.Positions = append(d.Evidence.Positions, payment.EntityPosition{Kind: entity.String(), ID: id, Position: it.Positions[i]})
		}
	}
}

// errForgotten says that the topic no longer holds a decision.
var errForgotten = errors.New("the ledger's topic no longer holds the decision")

// repeat gives those of a part that were decided before their stored bytes again.
func (e *Engine) repeat(ctx context.Context, b *Batch, part []answer) error {
	for i := range part {
		a := &part[i]
		if !a.repeat || a.heard || a.wasTold() {
			continue
		}
		e.gate.Metrics.repeated()
		if a.repeatOf >= 0 {
			a.bytes, a.mark.Verdict = b.answers[a.repeatOf].bytes, b.answers[a.repeatOf].mark.Verdict
			continue
		}
		stored, ok := e.gate.Ledger.Recent(a.mark.Tx)
		if !ok {
			var err error
			stored, err = e.gate.Earlier(ctx, a.mark)
			if errors.Is(err, errForgotten) { // it was decided, and nobody can say how: never decide it twice
				a.refusal = &payment.Refusal{Reason: payment.ReasonOlderThanLedger, Field: "transaction_id"}
				continue
			}
			if err != nil {
				return fmt.Errorf("read the decision of %d/%d again: %w", a.mark.Partition, a.mark.Offset, err)
			}
		}
		b.copyIn(a, stored)
	}
	return nil
}
