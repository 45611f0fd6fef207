// Package pipeline is the way of a transaction from Kafka to its verdict.
//
// This file is the whole of it: decode → look up earlier decisions → append and
// fold windows → evaluate → decide → remember. The live path, the sandbox, the
// replay and the tests call the same Decide. What stands around it — fetching,
// publishing, committing — is in lane.go, and why nothing is lost or said twice
// is argued in DESIGN.md.
package pipeline

import (
	"fmt"
	"hash/fnv"
	"log/slog"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
	"github.com/sluice-risk/sluice/rules"
)

// Gate is what all lanes of a process share: rules, windows, ledger.
type Gate struct {
	Rules    *rules.Ruleset
	Store    window.Store
	Ledger   *ledger.Index
	Limits   payment.Limits
	Evidence Evidence
	// Now is the member's clock. Without it, as in a replay, time is what the
	// records say and nothing else.
	Now func() payment.Time
	// Earlier reads the bytes of a decision that the ledger has only by its place.
	Earlier func(window.Mark) ([]byte, error)
	Metrics *Metrics
	Log     *slog.Logger
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
	decoder   payment.Decoder
	evaluator *rules.Evaluator
	features  []string // full names, by slot
	entities  []window.Entity
	decision  payment.Decision
	tx        *payment.Transaction // the one whose identifiers hash gives to the rules
	hash      func(window.Kind) uint64
}

// NewEngine returns an engine for one lane.
func (g *Gate) NewEngine() *Engine {
	e := &Engine{gate: g, decoder: payment.Decoder{Limits: g.Limits, Batch: true}, evaluator: g.Rules.NewEvaluator(), entities: g.Store.Entities()}
	for _, f := range g.Rules.Features() {
		e.features = append(e.features, f.FullName())
	}
	key := g.Store.Key()
	e.hash = func(k window.Kind) uint64 { return key.RefOf(k, e.tx) }
	return e
}

// Decide takes records of one partition through all steps up to the bytes that
// are to be published, in b. It stops before a transaction that another lane is
// deciding at this moment: then n is less than len(records), and wait is closed
// when the other has settled it. On an error nothing of b may be published.
func (e *Engine) Decide(records []broker.Record, b *Batch) (n int, wait <-chan struct{}, err error) {
	b.reset(len(records))
	e.decoder.Release()
	for n = range records {
		a := b.add(records[n].Key)
		e.decode(&records[n], a)
		if wait = e.lookUp(a, b); wait != nil {
			b.drop()
			break
		}
	}
	if wait == nil {
		n = len(records)
	}
	if err = e.decideFresh(b); err == nil {
		err = e.repeat(b)
	}
	if err != nil {
		e.gate.Ledger.GiveUp(b.claims)
	}
	return n, wait, err
}

// decideFresh takes those that were never decided through windows and rules.
func (e *Engine) decideFresh(b *Batch) error {
	for at := 0; at < len(b.fresh); {
		step := b.fresh[at:]
		if e.gate.Store.ReadsVerdicts() {
			step = step[:1] // each must see the verdict of the one before it
		}
		if err := e.gate.Store.Append(step); err != nil {
			return fmt.Errorf("append to the entities' logs: %w", err)
		}
		for i := range step {
			e.judge(b.of[at+i], b)
		}
		if err := e.show(b.of[at:at+len(step)], b); err != nil {
			return err
		}
		at += len(step)
	}
	return nil
}

// decode reads one record. A refused one keeps what could be read of it.
func (e *Engine) decode(r *broker.Record, a *answer) {
	a.kafkaTime = payment.Time(r.Time) * 1e6
	if e.gate.Now != nil {
		a.kafkaTime = min(a.kafkaTime, e.gate.Now())
	}
	a.refusal = e.decoder.Transaction(r.Value, a.kafkaTime, &a.tx)
	a.summary = payment.SummaryOf(&a.tx)
}

// lookUp asks the ledger whether the transaction was decided before, and claims
// it if not. wait is not nil when another lane has claimed it.
func (e *Engine) lookUp(a *answer, b *Batch) (wait <-chan struct{}) {
	if !a.tx.Identified() {
		return nil
	}
	key := e.gate.Store.Key()
	a.mark = window.Mark{Tx: key.Tx(a.tx.ID), Fingerprint: ledger.Fingerprint(key, &a.summary), Invalid: a.refusal != nil}
	earlier, found, by := e.gate.Ledger.Claim(a.mark.Tx, b.claims)
	switch {
	case found:
		a.compare(earlier)
	case by == b.claims:
		a.repeatOf = b.index(a.mark.Tx)
		a.compare(b.answers[a.repeatOf].mark)
	case by != nil:
		return by.Done()
	case a.refusal == nil:
		a.decide = true
		base, based := e.gate.Rules.ToBase(a.tx.Amount)
		a.item = window.Item{Tx: &a.tx, KafkaTime: a.kafkaTime, Base: base, Based: based, Values: a.item.Values}
		b.fresh, b.of = append(b.fresh, &a.item), append(b.of, a)
	default:
		a.decide = true
		e.block(a, b)
	}
	return nil
}

// compare says what becomes of a transaction whose id was decided before.
func (a *answer) compare(earlier window.Mark) {
	same := earlier.Fingerprint == a.mark.Fingerprint
	switch {
	case a.refusal == nil && !same:
		a.refusal = &payment.Refusal{Reason: payment.ReasonIDConflict, Field: "transaction_id"}
	case same && (a.refusal == nil || earlier.Invalid):
		a.repeat, a.mark = true, earlier
	}
}

// show lets features that look at verdicts see those of a step. Where the
// decisions stand is noted later, when they are published.
func (e *Engine) show(step []*answer, b *Batch) error {
	if !e.gate.Store.ReadsVerdicts() {
		return nil
	}
	b.marks = b.marks[:0]
	for _, a := range step {
		m := a.mark
		m.Offset = -1
		b.marks = append(b.marks, m)
	}
	if err := e.gate.Store.Decided(b.marks); err != nil {
		return fmt.Errorf("note verdicts in the entities' logs: %w", err)
	}
	return nil
}

// judge evaluates the rules, forms the verdict, and writes the decision.
func (e *Engine) judge(a *answer, b *Batch) {
	it, d := &a.item, &e.decision
	e.tx = it.Tx
	d.Reset()
	in := rules.Input{Tx: it.Tx, Amount: it.Base, HasAmount: it.Based, Features: it.Values, Hash: e.hash}
	e.evaluator.Decide(&in, d)
	e.describe(a, d)
	if d.DecideBy == 0 {
		d.DecideBy = max(it.Tx.EventTime, a.kafkaTime).Add(e.gate.Rules.Policy().DecideWithin(it.Tx.Type))
	}
	if it.Late {
		d.Degraded = append(d.Degraded, payment.DegradedLate)
	}
	if e.gate.wantsEvidence(d) {
		e.attach(it, d)
	} else {
		d.Evidence.Unknown, d.Evidence.Failed = d.Evidence.Unknown[:0], d.Evidence.Failed[:0]
	}
	e.gate.Metrics.decided(e, it, d)
	b.write(a, d)
}

// block answers a payment that cannot be used but can be identified.
func (e *Engine) block(a *answer, b *Batch) {
	d := &e.decision
	d.Reset()
	d.Verdict, d.Source, d.Final = payment.Block, payment.SourceInvalid, true
	d.Reasons = append(d.Reasons, payment.DecisionReason{Code: "INVALID", Detail: a.refusal.Error()})
	d.PayerCode = "INVALID_REQUEST"
	d.Versions.Rules = e.gate.Rules.Hash()
	e.describe(a, d)
	e.gate.Metrics.verdict(d)
	b.write(a, d)
}

// describe fills in what a decision repeats of its transaction, and the times.
func (e *Engine) describe(a *answer, d *payment.Decision) {
	d.TransactionID, d.Transaction = a.tx.ID, a.summary
	d.EventTime, d.DecideBy = a.tx.EventTime, a.tx.DecideBy
	d.ReceivedAt, d.DecidedAt = a.kafkaTime, a.kafkaTime
	if e.gate.Now != nil {
		d.DecidedAt = e.gate.Now()
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
func (e *Engine) attach(it *window.Item, d *payment.Decision) {
	for i := range it.Values {
		if k := it.Values[i].Kind(); k != payment.Absent && k != payment.Ref {
			d.Evidence.Features = append(d.Evidence.Features, payment.NamedValue{Name: e.features[i], Value: it.Values[i]})
		}
	}
	if it.Late {
		return
	}
	for _, entity := range e.entities {
		if id := entity.ID(it.Tx); id != "" {
			d.Evidence.Positions = append(d.Evidence.Positions, payment.EntityPosition{Kind: entity.String(), ID: id, Position: it.Position})
		}
	}
}

// repeat gives those that were decided before their stored bytes again.
func (e *Engine) repeat(b *Batch) error {
	for i := range b.answers {
		a := &b.answers[i]
		if !a.repeat {
			continue
		}
		e.gate.Metrics.repeated()
		if a.repeatOf >= 0 {
			a.from, a.to = b.answers[a.repeatOf].from, b.answers[a.repeatOf].to
			a.mark.Verdict = b.answers[a.repeatOf].mark.Verdict
			continue
		}
		stored, ok := e.gate.Ledger.Recent(a.mark.Tx)
		if !ok {
			var err error
			if stored, err = e.gate.Earlier(a.mark); err != nil {
				return fmt.Errorf("read the decision of %d/%d again: %w", a.mark.Partition, a.mark.Offset, err)
			}
		}
		a.from = len(b.out)
		b.out = append(b.out, stored...)
		a.to = len(b.out)
	}
	return nil
}
