package pipeline

import (
	"encoding/json"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
	"github.com/sluice-risk/sluice/rules"
)

// Which payments are the same one twice, the log of their charge tells: of two,
// one stands before the other, and only the later one sees the earlier, on
// whichever lanes or members they are decided. What became of the earlier one is
// asked of the ledger, not of the log, so that no payment waits for the verdict on
// another.
//
// An earlier payment that is still being decided counts as one that will be
// approved. It may be blocked yet; then the later one was held for nothing, and a
// replay, which decides one after the other, lets it pass. That can only be where
// both were under way at the same moment on two lanes or members: in one lane the
// verdict on the earlier is known when the later one is judged, and within one
// process a block is known before it is published.

// duplicate returns the earlier payment that a transaction repeats, nil where
// there is none: it is valid until the next call. Those before it that were
// blocked or have failed since make it a retry, which is allowed.
func (e *Engine) duplicate(a *answer, b *Batch) *rules.Duplicate {
	retry := false
	for i := range a.item.Earlier {
		q := &a.item.Earlier[i]
		if over(q.Status) || e.verdictOn(q, b) == payment.Block {
			retry = true
			continue
		}
		e.gate.Metrics.duplicate(duplicatePayment)
		e.repeats = rules.Duplicate{ID: e.nameOf(q), EventTime: q.EventTime}
		return &e.repeats
	}
	if retry {
		e.gate.Metrics.duplicate(duplicateRetry)
	}
	return nil
}

// over tells whether nothing was paid in the end, or it was paid back.
func over(status payment.OutcomeKind) bool {
	switch status {
	case payment.OutcomeTechnicalFailure, payment.OutcomeCancelled, payment.OutcomeDeclinedByBank, payment.OutcomeRefunded:
		return true
	}
	return false
}

// verdictOn is the latest verdict that is known on an earlier payment, 0 where it
// is pending.
func (e *Engine) verdictOn(q *window.Earlier, b *Batch) payment.Verdict {
	if v := b.latest(q.Tx); v != 0 {
		return v
	}
	if v, known := e.gate.Ledger.Latest(q.Tx); known {
		return v
	}
	return decisionOn(q.Decision).Verdict
}

// latest is the verdict on a transaction of the part that is being decided, 0
// where it has none yet or is not there.
func (b *Batch) latest(h window.TxHash) payment.Verdict {
	for i := b.begin; i < len(b.answers); i++ {
		if m := &b.answers[i].mark; m.Tx == h && m.Latest != 0 {
			return m.Latest
		}
	}
	return 0
}

// nameOf is the id of an earlier payment, "" where nobody knows it: the store does,
// unless it was lost there.
func (e *Engine) nameOf(q *window.Earlier) string {
	if q.ID != "" {
		return q.ID
	}
	if stored, ok := e.gate.Ledger.Recent(q.Tx); ok {
		return decisionOn(stored).TransactionID
	}
	return decisionOn(q.Decision).TransactionID
}

// askedOf is what duplicates ask of a decision.
type askedOf struct {
	TransactionID string          `json:"transaction_id"`
	Verdict       payment.Verdict `json:"verdict"`
}

// decisionOn reads a decision; of what is none it says nothing.
func decisionOn(decision []byte) (d askedOf) {
	if len(decision) == 0 || json.Unmarshal(decision, &d) != nil {
		return askedOf{}
	}
	return d
}

// tellBlocks lets other lanes know which transactions of a step are blocked,
// before that is published.
func (e *Engine) tellBlocks(step []*answer, b *Batch) {
	for _, a := range step {
		if a.decide && a.mark.Verdict == payment.Block {
			e.gate.Ledger.Blocks(b.claims, a.mark.Tx)
		}
	}
}

// The kinds of duplicates, as the metric names them.
const (
	duplicateRepeat   = "repeat"      // the same transaction again: its stored decision went out again
	duplicateConflict = "id_conflict" // the same id with other content: refused
	duplicateRetry    = "retry"       // the payment again, after it was blocked or had failed: allowed
	duplicatePayment  = "duplicate"   // the payment again, while the earlier one is approved or pending
)
