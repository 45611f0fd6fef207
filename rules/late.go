package rules

import (
	"slices"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// The reason of a default.
const reasonDeadline = "DEADLINE" // there was no verdict by the deadline

// Default fills a decision that was Reset with what the policy's when_late gives
// a transaction whose time is up: Verdict, Source (default_deadline), Reasons,
// PayerCode, Hold and Versions. It looks at no feature and no rule, so that
// nothing can hold it up. It is never final: the real verdict may follow.
func (s *Ruleset) Default(tx *payment.Transaction, d *payment.Decision) {
	amount, has := s.ToBase(tx.Amount)
	d.Source = payment.SourceDefaultDeadline
	d.Versions.Rules, d.Versions.Rates = s.hash, s.ratesVersion
	d.Reasons = append(d.Reasons, payment.DecisionReason{Code: reasonDeadline})
	d.Verdict = s.policy.WhenLate(tx.Type).Verdict(amount, has)
	if d.Verdict == payment.Hold {
		if tx.Accepts.CanHold() {
			d.Hold.Needs = append(d.Hold.Needs, needReview)
			d.Hold.ExpiresAt = tx.EventTime.Add(s.policy.Hold.Review.For)
			d.Hold.OnExpiry = s.policy.Hold.Review.OnExpiry
		} else {
			d.Verdict = s.policy.IfCannotHold(tx.Channel)
			d.Reasons = append(d.Reasons, payment.DecisionReason{Code: reasonCannotHold})
		}
	}
	if d.Verdict != payment.Approve {
		d.PayerCode = PayerNotNow
		if text, ok := s.PayerText(PayerNotNow, tx.Locale); ok {
			d.PayerMessage = text.Message
		}
	}
}

// withoutFeatures tells whether a rule that came out unknown fires all the same:
// it says so, and a feature that it looks at could not be had.
func (e *Evaluator) withoutFeatures(r *rule) bool {
	return r.hitWithoutFeatures && slices.ContainsFunc(r.reads, e.without)
}

// without tells whether the feature of a slot could not be had, though the
// transaction names its entity.
func (e *Evaluator) without(slot int) bool {
	in := &e.facts.Input
	if in.Late {
		return e.set.features[slot].Entity.ID(in.Tx) != ""
	}
	return slot < len(in.Without) && in.Without[slot]
}
