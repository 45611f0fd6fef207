package pipeline

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/rules"
)

// What is news, and how it is told: the kind says what happened, the payer code
// chooses the words.

// notice puts news into words; false where there is none, or the payer is not to
// be told.
func (n *Notices) notice(one *news) (payment.Notice, bool) {
	var notice payment.Notice
	message, locale := "", one.locale
	if one.decision == nil {
		o := &one.outcome
		notice = payment.Notice{TransactionID: o.TransactionID, Payer: payment.NoticePayer{AccountID: one.payer}, EventTime: o.EventTime}
		notice.Kind, notice.Code = newsOfOutcome(o.Kind)
		notice.NoticeID = string(payment.AppendOutcomeNoticeID(nil, o, notice.Kind))
	} else {
		var reader payment.DecisionReader // of its own: what it reads is kept until the notice is sent
		var d payment.Decision
		if err := reader.Read(one.decision, &d); err != nil {
			n.o.Log.Error("a decision cannot be read, and its payer is not told", "error", err)
			return notice, false
		}
		notice = payment.Notice{TransactionID: d.TransactionID, Payer: payment.NoticePayer{AccountID: strings.Clone(d.Transaction.Payer)}, EventTime: d.EventTime}
		notice.Kind, notice.Code = newsOfDecision(&d)
		notice.NoticeID = string(payment.AppendDecisionNoticeID(nil, d.DecisionID, notice.Kind))
		if notice.Code == d.PayerCode {
			message = d.PayerMessage
		}
		if notice.Kind == payment.NoticeHeld && d.Hold.ExpiresAt != 0 && d.Hold.ExpiresAt <= payment.TimeOf(time.Now()) {
			n.tooOld.Inc()
			return notice, false
		}
	}
	if notice.Kind == 0 || notice.Payer.AccountID == "" {
		return notice, false
	}
	if locale == "" {
		locale = n.languages.of(notice.Payer.AccountID)
	}
	text := payerText(n.texts.Load(), notice.Kind, notice.Code, message, locale)
	notice.V, notice.Language, notice.Message, notice.Next = 1, text.Language, text.Message, text.Next
	return notice, n.within(&notice)
}

// within holds a notice against the limit of its payer.
func (n *Notices) within(notice *payment.Notice) bool {
	of := n.limit.exceeded(notice.Payer.AccountID, time.Now())
	if of == "" {
		return true
	}
	n.limited.Inc()
	n.o.Alerts.Raise(payment.AlertPayerFlood, fmt.Sprintf("payer %s has got %s; the rest are not sent", notice.Payer.AccountID, of), NoPartition)
	return false
}

// payerText chooses the words. A code of which nobody has said anything is told
// in the words of what happened.
func payerText(rs *rules.Ruleset, kind payment.NoticeKind, code, message, locale string) rules.PayerText {
	text, ok := rs.PayerTextWith(code, message, locale)
	if !ok {
		code = rules.PayerDeclined
		if kind == payment.NoticeHeld {
			code = rules.PayerUnderReview
		}
		text, _ = rs.PayerText(code, locale)
	}
	return text
}

// newsOfDecision is what a payer is told of a decision; kind 0 when it is no news.
func newsOfDecision(d *payment.Decision) (kind payment.NoticeKind, code string) {
	settles := d.Revision > 1 && d.Corrects == "" // what a hold came to, and no longer what began it
	switch {
	case d.Verdict == payment.Approve && d.Revision == 1:
		return 0, ""
	case d.Verdict == payment.Approve:
		return payment.NoticeReleased, rules.PayerReleased
	case d.Verdict == payment.Hold:
		if d.PayerCode == "" || settles {
			return payment.NoticeHeld, codeOfHold(d)
		}
		return payment.NoticeHeld, d.PayerCode
	case d.PayerCode == "" || settles:
		return payment.NoticeBlocked, codeOfBlock(d)
	}
	return payment.NoticeBlocked, d.PayerCode
}

// codeOfHold is the payer code of a hold that says none.
func codeOfHold(d *payment.Decision) string {
	switch {
	case d.Source == payment.SourceDefaultDeadline, d.Source == payment.SourceDefaultError:
		return rules.PayerNotNow
	case d.Source == payment.SourceDuplicate:
		return rules.PayerDuplicate
	case slices.Contains(d.Hold.Needs, "step_up"):
		return rules.PayerConfirm
	}
	return rules.PayerUnderReview
}

// codeOfBlock is the payer code of a block that says none.
func codeOfBlock(d *payment.Decision) string {
	switch d.Source {
	case payment.SourceDefaultDeadline, payment.SourceDefaultError:
		return rules.PayerNotNow
	case payment.SourceInvalid:
		return rules.PayerInvalidRequest
	case payment.SourceDuplicate:
		return rules.PayerDuplicate
	case payment.SourceExpiry:
		return rules.PayerHoldExpired
	}
	return rules.PayerDeclined
}

// newsOfOutcome is what a payer is told of an outcome; kind 0 when it is no news.
func newsOfOutcome(kind payment.OutcomeKind) (payment.NoticeKind, string) {
	switch kind {
	case payment.OutcomeTechnicalFailure:
		return payment.NoticeFailed, rules.PayerFailed
	case payment.OutcomeDeclinedByBank:
		return payment.NoticeFailed, rules.PayerDeclinedByBank
	case payment.OutcomeCancelled:
		return payment.NoticeFailed, rules.PayerCancelled
	case payment.OutcomeRefunded:
		return payment.NoticeRefunded, rules.PayerRefunded
	}
	return 0, ""
}
