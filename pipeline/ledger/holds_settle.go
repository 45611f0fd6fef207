package ledger

import (
	"encoding/json"
	"fmt"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// The reasons that settling adds to those of the hold.
const (
	reasonReleased     = "RELEASED"
	reasonRejected     = "REJECTED"
	reasonStepUpPassed = "STEP_UP_PASSED"
	reasonStepUpFailed = "STEP_UP_FAILED"
	reasonExpired      = "EXPIRED"
)

// Ruling is what becomes of a review or a step-up.
type Ruling struct {
	Answer    Answer
	Reason    payment.Reason    // of Refused
	Partition int32             // of Changes: where the transaction's revisions stand
	Next      *payment.Decision // of Changes: the next revision, not published yet
}

// Answer is the closed set of rulings.
type Answer uint8

// What becomes of a review or a step-up.
const (
	Unknown  Answer = iota // no hold and no default of the transaction is known, and none that ended lately
	Changes                // it makes the next revision
	Noted                  // it changes no verdict
	Repeated               // it has made a revision before
	Refused                // it comes too late, or to the wrong hold
)

// Review rules on a review whose record has the Kafka time at; now is when it is
// decided. A review acts if it was sent before its hold expires, whenever it is
// read. Of two reviews the first one that is published counts; the other is asked
// about again.
func (h *Holds) Review(r *payment.Review, at, now payment.Time) Ruling {
	h.mu.Lock()
	defer h.mu.Unlock()
	tx := h.key.Tx(r.TransactionID)
	c := h.find(tx)
	switch {
	case c == nil:
		return Ruling{}
	case r.Kind != payment.ReviewRelease && r.Kind != payment.ReviewReject:
		return Ruling{Answer: Noted}
	case c.hasUsed(h.identity(r.Identity())):
		return Ruling{Answer: Repeated}
	}
	o := h.open[tx]
	if refused, is := tooLate(c, o, at); is {
		return refused
	}
	if r.Kind == payment.ReviewRelease && o.needs&Review == 0 {
		return Ruling{Answer: Refused, Reason: payment.ReasonNotNeeded}
	}
	d := o.next(now)
	d.Source = payment.SourceReview
	d.SettledBy = payment.Settled{ReviewID: r.Identity(), Reviewer: r.Reviewer, Label: r.Label}
	if r.Kind == payment.ReviewReject {
		end(d, payment.Block, reasonRejected)
	} else {
		meet(d, o.needs&^Review, reasonReleased)
	}
	return Ruling{Answer: Changes, Partition: o.partition, Next: d}
}

// StepUp rules on an outcome that is step_up_passed or step_up_failed, as Review
// does. One that comes to a hold that waits for no step-up changes nothing: banks
// ask for proofs of their own. Nor does one that comes after the end and says the
// same as the end did.
func (h *Holds) StepUp(s *payment.Outcome, at, now payment.Time) Ruling {
	h.mu.Lock()
	defer h.mu.Unlock()
	tx := h.key.Tx(s.TransactionID)
	c := h.find(tx)
	switch {
	case c == nil:
		return Ruling{}
	case c.hasUsed(h.identity(s.Identity())):
		return Ruling{Answer: Repeated}
	case !c.held:
		return Ruling{Answer: Noted}
	}
	o := h.open[tx]
	if refused, is := tooLate(c, o, at); is {
		if (s.Kind == payment.OutcomeStepUpPassed) == (c.endsAs(o) == payment.Approve) {
			return Ruling{Answer: Noted}
		}
		return refused
	}
	if o.needs&StepUp == 0 {
		return Ruling{Answer: Noted}
	}
	d := o.next(now)
	d.Source = payment.SourceStepUp
	d.SettledBy = payment.Settled{OutcomeID: s.Identity(), Outcome: s.Kind.String()}
	if s.Kind == payment.OutcomeStepUpFailed {
		end(d, payment.Block, reasonStepUpFailed)
	} else {
		meet(d, o.needs&^StepUp, reasonStepUpPassed)
	}
	return Ruling{Answer: Changes, Partition: o.partition, Next: d}
}

// tooLate refuses what comes to no open hold. A hold whose time is up has ended,
// even if that is not published yet.
func tooLate(c *chain, o *hold, at payment.Time) (Ruling, bool) {
	switch {
	case o == nil && !c.held:
		return Ruling{Answer: Refused, Reason: payment.ReasonNotHeld}, true
	case o == nil || at >= o.expires:
		return Ruling{Answer: Refused, Reason: payment.ReasonAfterEnd}, true
	}
	return Ruling{}, false
}

// endsAs is the verdict of a hold that has ended; o is nil unless that is not
// published yet.
func (c *chain) endsAs(o *hold) payment.Verdict {
	if o == nil {
		return c.verdict
	}
	return o.decision().Hold.OnExpiry
}

// Expire returns the next revisions of the holds of a partition that have expired
// by upTo, the earliest first, at most limit; now is when they are decided, 0 for
// the moment of expiry itself, as in a replay.
func (h *Holds) Expire(partition int32, upTo, now payment.Time, limit int) (next []*payment.Decision) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.expiries(partition)
	for len(next) < limit {
		o := f.peek()
		if o == nil || o.expires > upTo {
			break
		}
		at := now
		if at == 0 {
			at = o.expires
		}
		d := o.next(at)
		d.Source = payment.SourceExpiry
		end(d, d.Hold.OnExpiry, reasonExpired)
		next = append(next, d)
		f.step()
	}
	return next
}

// NextExpiry is when the next hold of a partition expires; ok is false where
// none is open.
func (h *Holds) NextExpiry(partition int32) (at payment.Time, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.expiries(partition)
	if o := f.peek(); o != nil {
		return o.expires, true
	}
	return 0, false
}

// Sooner holds a value after a hold was opened that may expire before all others.
// It is for one reader, who sleeps until the next expiry.
func (h *Holds) Sooner() <-chan struct{} { return h.soon }

func (h *Holds) expiries(partition int32) (f frontier) {
	if p := h.parts[partition]; p != nil {
		for i := range p {
			f.enter(&p[i].heaps[byExpiry], 0)
		}
	}
	return f
}

// Correct returns the next revision of a transaction that was answered with a
// default (default_deadline, default_error, invalid), now that the real decision,
// the truth, is known: a copy of it with the next number, and what it corrects. It is nil
// where there is nothing to say: the verdict is the same (and for a hold, its
// needs), it was corrected before, or it has been settled meanwhile, which
// stands. Needs that have been met stay met. Error: ErrUnseen.
func (h *Holds) Correct(truth *payment.Decision) (next *payment.Decision, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	tx := h.key.Tx(truth.TransactionID)
	c := h.find(tx)
	switch {
	case c == nil:
		return nil, ErrUnseen
	case c.default1 == 0 || c.settled:
		return nil, nil
	}
	d := *truth
	if d.Verdict == payment.Hold {
		(NeedsOf(d.Hold.Needs) &^ c.passed).limit(&d)
	}
	if d.Verdict == c.verdict && (d.Verdict != payment.Hold || NeedsOf(d.Hold.Needs) == h.open[tx].needs) {
		return nil, nil
	}
	d.Revision, d.Corrects = int(c.revision)+1, defaultSources[c.default1]
	return &d, nil
}

// decision is the latest revision as it was published, without evidence.
func (o *hold) decision() *payment.Decision {
	d := new(payment.Decision)
	if err := json.Unmarshal(o.text, d); err != nil {
		panic(fmt.Sprintf("a hold that was read before cannot be read again: %v: %s", err, o.text)) // Saw has read it
	}
	return d
}

// next begins the next revision of a hold: what it repeats of the one before.
func (o *hold) next(now payment.Time) *payment.Decision {
	d := o.decision()
	d.Revision = int(o.revision) + 1
	d.DecidedAt = now
	d.Corrects, d.SettledBy, d.Degraded = "", payment.Settled{}, nil
	return d
}

// end makes a revision the last one. The reasons of the hold stay.
func end(d *payment.Decision, v payment.Verdict, reason string) {
	if v != payment.Approve && v != payment.Block {
		v = payment.Block // what a newer version may have written; never let it through
	}
	d.Verdict, d.Final, d.Hold = v, true, payment.HoldTerms{}
	d.PayerCode, d.PayerMessage = "", ""
	if v == payment.Block {
		d.PayerCode = payerDeclined
	}
	d.Reasons = append(d.Reasons, payment.DecisionReason{Code: reason})
}

// meet makes a revision one that waits for what is left.
func meet(d *payment.Decision, left Needs, reason string) {
	if left == 0 {
		end(d, payment.Approve, reason)
		return
	}
	left.limit(d)
}

// Latest is what is known of the latest revision of a transaction.
type Latest struct {
	Partition int32 // where it stands
	Offset    int64
	Revision  int
	Verdict   payment.Verdict
	Default   payment.Source    // revision 1 was this default, and is not corrected; "" else
	Settled   bool              // wholly or in part: a review, a step-up or the expiry made a revision
	Decision  *payment.Decision // of an open hold, without evidence
}

// Latest returns the latest revision of a transaction that may get another one, or
// has lately got its last.
func (h *Holds) Latest(tx window.TxHash) (l Latest, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.find(tx)
	if c == nil {
		return l, false
	}
	l = Latest{Partition: c.partition, Offset: c.offset, Revision: int(c.revision), Verdict: c.verdict, Default: defaultSources[c.default1], Settled: c.settled || c.passed != 0}
	if o := h.open[tx]; o != nil {
		l.Decision = o.decision()
	}
	return l, true
}
