package rules

import (
	"slices"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// exempt switches some rules off for the payments of a condition, until it ends.
// It is asked only where one of its rules is true, and once for a payment. It
// cannot lift a list that blocks: those are no rules.
type exempt struct {
	id    string
	when  func(*facts) window.Truth
	rules []string // ids, as written
	tags  []string
	score bool // the thresholds on a score do not count
	until payment.Time
	why   string
}

// exemption is what is known of an exempt for the present transaction.
type exemption uint8

const (
	notYetAsked exemption = iota
	inForce
	notInForce
)

// exempted tells whether an exempt switches a rule off for this transaction.
func (e *Evaluator) exempted(r *rule) bool {
	for _, x := range r.exempts {
		if e.exempts[x] == notYetAsked {
			e.exempts[x] = e.ask(&e.set.exempts[x])
		}
		if e.exempts[x] == inForce {
			if id := e.set.exempts[x].id; !slices.Contains(e.exemptBy, id) {
				e.exemptBy = append(e.exemptBy, id)
			}
			return true
		}
	}
	return false
}

// ask evaluates an exempt. One that fails is not in force: the rule stands.
func (e *Evaluator) ask(x *exempt) (found exemption) {
	defer func() {
		if recover() != nil {
			e.failedExempts = append(e.failedExempts, x.id)
			found = notInForce
		}
	}()
	if e.facts.Tx.EventTime < x.until && x.when(&e.facts) == window.True {
		return inForce
	}
	return notInForce
}
