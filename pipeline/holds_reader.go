package pipeline

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// petition is a review or a step-up on its way to a hold.
type petition struct {
	record broker.Record // with bytes of its own
	at     payment.Time  // its Kafka time
	read   payment.Time  // when it was read
	looked payment.Time  // when it was looked at last
	id     string        // of its transaction
	review *payment.Review
	stepUp *payment.Outcome // one of the two
	lone   bool             // its transaction was not known, when it was looked at last
	heard  bool             // what was published when it came is known here
}

// petitionOf reads a review, or a step-up from an outcome: nil for other
// outcomes. It has a decoder of its own, since what it decoded may wait for long.
func petitionOf(r *broker.Record, review bool, at payment.Time, limits payment.Limits) (*petition, *payment.Refusal) {
	if !review && !mayBeStepUp(r.Value) {
		return nil, nil
	}
	p := &petition{at: at}
	p.record = broker.Record{Partition: r.Partition, Offset: r.Offset, Time: r.Time, Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value)}
	decoder := payment.Decoder{Limits: limits}
	if review {
		p.review = new(payment.Review)
		refusal := decoder.Review(p.record.Value, at, p.review)
		p.id = p.review.TransactionID
		return p, refusal
	}
	p.stepUp = new(payment.Outcome)
	refusal := decoder.Outcome(p.record.Value, at, p.stepUp)
	if p.stepUp.Kind != payment.OutcomeStepUpPassed && p.stepUp.Kind != payment.OutcomeStepUpFailed {
		return nil, refusal
	}
	p.id = p.stepUp.TransactionID
	return p, refusal
}

func (p *petition) ask(h *ledger.Holds, now payment.Time) ledger.Ruling {
	if p.review != nil {
		return h.Review(p.review, p.at, now)
	}
	return h.StepUp(p.stepUp, p.at, now)
}

const (
	// petitionsMax bounds those that wait in one partition; more, and the oldest
	// whose transaction is not known is given up.
	petitionsMax = 100_000
	// petitionsPoll is how often those that wait are looked at.
	petitionsPoll = 200 * time.Millisecond
	// revisionTries is how often a revision is tried at once. More are of no use: its
	// partition is about to be another member's.
	revisionTries = 3
	// hearsay is how long it may take to hear of a decision of another member.
	hearsay = 2 * time.Second
	// earlyStepUp is how long a step-up before its transaction keeps its partition of
	// outcomes from being committed; after a restart, an earlier one is forgotten.
	earlyStepUp = 10 * time.Minute
)

// petitionReader reads one partition of risk.reviews, or the step-ups in one of
// payments.outcomes.
type petitionReader struct {
	*holdShift
	topic     string
	partition int
	from      int64
	judges    bool // this member sees to it that each record from here on is used or refused

	waiting []*petition // in the order of the partition
	buffer  broker.FetchBuffer
	settled atomic.Int64
	readTo  atomic.Int64 // payment.Time: everything with an earlier Kafka time has been looked at
}

// newPetitionReader returns a reader that begins where the group has committed;
// judges says that the partition is assigned to this member.
func newPetitionReader(s *holdShift, a broker.Assignment, judges bool) *petitionReader {
	l := &petitionReader{holdShift: s, topic: a.Topic, partition: a.Partition, from: a.Offset, judges: judges}
	if a.Offset < 0 {
		l.from = broker.FirstOffset
	}
	l.settled.Store(a.Offset)
	return l
}

// run reads until ctx ends; what it has begun may go on until drain ends.
func (l *petitionReader) run(ctx, drain context.Context) error {
	next := l.from
	if next < 0 {
		first, _, err := l.conn.Offsets(ctx, l.topic, l.partition)
		if err != nil {
			return unlessOver(ctx, err)
		}
		next = first
	}
	for {
		began := l.now()
		got, err := l.conn.Fetch(ctx, broker.FetchRequest{Topic: l.topic, Partition: l.partition, Offset: next, MaxWait: petitionsPoll}, &l.buffer)
		if ctx.Err() != nil {
			return nil
		}
		if after, gone := l.lost(l.topic, l.partition, next, err); gone {
			next = after
			continue
		}
		if err != nil {
			return err
		}
		for i := range got.Records {
			if err := l.take(drain, &got.Records[i]); err != nil {
				return unlessOver(ctx, err)
			}
		}
		next = got.Next
		if err := l.lookAtAll(drain); err != nil {
			return unlessOver(ctx, err)
		}
		if n := len(got.Records); next < got.HighWater && n > 0 {
			began = l.time(&got.Records[n-1])
		}
		l.readTo.Store(max(l.readTo.Load(), int64(began)))
		l.settled.Store(l.below(next))
	}
}

// take reads one record.
func (l *petitionReader) take(ctx context.Context, r *broker.Record) error {
	review := l.topic == l.topics.Reviews
	p, refusal := petitionOf(r, review, l.time(r), l.limits)
	switch {
	case refusal != nil && review:
		return l.refuse(ctx, p, refusal)
	case refusal != nil, p == nil:
		return nil // the lane of outcomes sees to it
	}
	p.read = l.now()
	if len(l.waiting) > 0 && slices.ContainsFunc(l.waiting, func(q *petition) bool { return q.id == p.id }) {
		l.waiting = append(l.waiting, p) // in its turn
		return nil
	}
	done, err := l.look(ctx, p)
	if err == nil && !done {
		l.waiting = append(l.waiting, p)
	}
	return err
}

// mayBeStepUp passes over most outcomes without reading them.
func mayBeStepUp(value []byte) bool {
	return bytes.Contains(value, []byte("step_up_")) || bytes.Contains(value, []byte(`\u`))
}

// lookAtAll looks again at those that wait, and gives up those that have waited
// too long.
func (l *petitionReader) lookAtAll(ctx context.Context) error {
	if len(l.waiting) == 0 {
		return nil
	}
	now := l.now()
	if now-l.waiting[0].looked < payment.Time(petitionsPoll) && len(l.waiting) <= petitionsMax {
		return nil
	}
	var left []*petition
	tooMany := len(l.waiting) - petitionsMax
	for i, p := range l.waiting {
		done, err := l.look(ctx, p)
		if err != nil {
			l.waiting = append(left, l.waiting[i:]...)
			return err
		}
		waited := p.at.Add(l.wait) < now && p.read.Add(min(l.wait, time.Hour)) < now
		if !done && p.lone && (waited || tooMany > 0) {
			tooMany--
			if err := l.unmatched(ctx, p); err != nil {
				l.waiting = append(left, l.waiting[i:]...)
				return err
			}
			continue
		}
		if !done {
			left = append(left, p)
		}
	}
	l.waiting = left
	return nil
}

// unmatched gives a petition up whose transaction never came. A step-up is an
// outcome too, and its lane gives it up.
func (l *petitionReader) unmatched(ctx context.Context, p *petition) error {
	if p.review == nil {
		return nil
	}
	return l.refuse(ctx, p, &payment.Refusal{Reason: payment.ReasonUnmatched, Field: "transaction_id"})
}

// look asks what becomes of a petition, and lets it happen. done says that this
// member has nothing more to do about it.
func (l *petitionReader) look(ctx context.Context, p *petition) (done bool, err error) {
	p.looked, p.lone = l.now(), false
	if heard, err := l.hear(ctx, p); err != nil || !heard {
		return false, err
	}
	ruling := p.ask(l.holds, p.looked)
	for tries := 0; ruling.Answer == ledger.Changes; tries++ {
		if !l.owns[ruling.Partition] {
			return !l.judges, nil // its owner makes the revision; who judges waits for it
		}
		if tries == revisionTries {
			return false, nil
		}
		if err := l.revise(ctx, ruling.Partition, func() []*payment.Decision {
			if now := p.ask(l.holds, l.now()); now.Answer == ledger.Changes {
				return []*payment.Decision{now.Next}
			}
			return nil
		}); err != nil {
			return false, err
		}
		ruling = p.ask(l.holds, l.now()) // it is used now, or somebody else was first
	}
	var refusal *payment.Refusal
	switch ruling.Answer {
	case ledger.Unknown:
		if refusal, p.lone = l.stranger(p); p.lone {
			return false, nil
		}
	case ledger.Refused:
		refusal = &payment.Refusal{Reason: ruling.Reason, Field: "transaction_id"}
	case ledger.Repeated:
		l.count(p, "used")
		return true, nil
	}
	if refusal != nil {
		return true, l.refuse(ctx, p, refusal)
	}
	if p.review != nil {
		l.holds.Note(p.review)
	}
	l.count(p, "noted")
	return true, nil
}

// hear makes sure that a hold is known here that a petition may be about. A payment
// with a default may have been put on hold since, by its real verdict: whoever
// sends the petition has read so on the topic, perhaps before we hear that it
// stands there. Our own partitions are heard of once nothing is under way there,
// those of other members soon.
func (l *petitionReader) hear(ctx context.Context, p *petition) (heard bool, err error) {
	latest, known := l.holds.Latest(l.key().Tx(p.id))
	switch {
	case p.heard, !known, latest.Revision > 1, latest.Default == "":
		return true, nil
	case !l.owns[latest.Partition]:
		return p.read.Add(hearsay) < l.now(), nil
	}
	p.heard = true
	return true, l.revise(ctx, latest.Partition, func() []*payment.Decision { return nil })
}

// count counts what became of a review, where that is up to this member.
func (l *petitionReader) count(p *petition, became string) {
	if l.judges && p.review != nil {
		l.metrics.review(p.review.Kind, became)
	}
}

// stranger judges a petition about a transaction of which Holds knows nothing:
// lone says that nobody knows it yet.
func (l *petitionReader) stranger(p *petition) (refusal *payment.Refusal, lone bool) {
	verdict, known := l.decided(p.id)
	if !known {
		return nil, true
	}
	return p.idle(verdict), false
}

// idle judges a petition about a transaction that is not on hold, and was not
// lately, by its first verdict. nil: it changes nothing, and need not.
func (p *petition) idle(first payment.Verdict) *payment.Refusal {
	acts := p.review == nil || p.review.Kind == payment.ReviewRelease || p.review.Kind == payment.ReviewReject
	switch {
	case acts && first == payment.Hold: // so long ago that it was forgotten
		return &payment.Refusal{Reason: payment.ReasonAfterEnd, Field: "transaction_id"}
	case acts && p.review != nil:
		return &payment.Refusal{Reason: payment.ReasonNotHeld, Field: "transaction_id"}
	}
	return nil
}

// refuse writes a dead letter and raises an alert, where that is up to this member.
func (l *petitionReader) refuse(ctx context.Context, p *petition, why *payment.Refusal) error {
	if !l.judges {
		return nil
	}
	if err := produceDeadLetters(ctx, l.conn, l.topics.DeadLetters, []broker.Message{deadLetter(l.topic, &p.record, why)}); err != nil {
		return err
	}
	l.refused(why)
	l.count(p, "refused")
	what := "a step-up"
	if l.topic == l.topics.Reviews {
		what = "a review"
		if p.review.Kind != 0 {
			what = fmt.Sprintf("%s by %s", p.review.Kind, p.review.Reviewer)
		}
	}
	l.log.Warn("a review or step-up cannot be used", "topic", l.topic, "partition", l.partition, "offset", p.record.Offset, "what", what, "transaction", p.id, "reason", why.Reason)
	l.raise(payment.AlertReviewRefused, fmt.Sprintf("%s of transaction %s cannot be used: %s", what, p.id, why), NoPartition)
	return nil
}

// below is the offset below which nothing has to be read again.
func (l *petitionReader) below(next int64) int64 {
	now := l.now()
	for _, p := range l.waiting {
		if p.stepUp == nil || !p.lone || p.read.Add(earlyStepUp) > now {
			return p.record.Offset
		}
	}
	return next
}
