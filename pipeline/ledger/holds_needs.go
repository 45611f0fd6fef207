package ledger

import "github.com/sluice-risk/sluice/pipeline/payment"

// Needs is what a hold waits for, as a set.
type Needs uint8

// What a hold can wait for.
const (
	Review Needs = 1 << iota // a person
	StepUp                   // another proof by the payer

	allNeeds = Review | StepUp
)

var needWords = [...]string{Review: "review", StepUp: "step_up"}

// NeedsOf reads needs as a decision writes them. A word that is not known is
// taken for a review: only a person, or time, can end such a hold.
func NeedsOf(words []string) (n Needs) {
	for _, w := range words {
		if w == needWords[StepUp] {
			n |= StepUp
		} else {
			n |= Review
		}
	}
	return n
}

// String names the set: review, step_up, review_and_step_up, or none.
func (n Needs) String() string {
	switch n & allNeeds {
	case 0:
		return "none"
	case Review | StepUp:
		return "review_and_step_up"
	}
	return needWords[n]
}

// words are the needs as a decision writes them.
func (n Needs) words() (words []string) {
	for _, one := range [...]Needs{StepUp, Review} {
		if n&one != 0 {
			words = append(words, needWords[one])
		}
	}
	return words
}

// What the payer is told when a hold goes on, or ends. The rule's own text was
// about the hold as it began.
const (
	payerUnderReview = "UNDER_REVIEW"
	payerConfirm     = "CONFIRM_IT_IS_YOU"
	payerDeclined    = "DECLINED"
)

// limit leaves in a hold only those needs that are in n; one that waits for
// nothing any more is an approval.
func (n Needs) limit(d *payment.Decision) {
	switch {
	case n == NeedsOf(d.Hold.Needs):
		return
	case n == 0:
		d.Verdict, d.Final, d.Hold = payment.Approve, true, payment.HoldTerms{}
		d.PayerCode, d.PayerMessage = "", ""
		return
	case n&StepUp == 0:
		d.PayerCode, d.Hold.Methods = payerUnderReview, nil
	default:
		d.PayerCode = payerConfirm
	}
	d.Hold.Needs, d.PayerMessage = n.words(), ""
}
