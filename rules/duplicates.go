package rules

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// Duplicates says what becomes of a duplicate payment: one that has the type,
// payer, payee, amount and currency of an earlier payment that is approved or
// still pending, and the same order, or, where one of the two names no order, an
// event time near to it.
type Duplicates struct {
	Within  time.Duration   // how near, on either side; an order has no such limit
	Verdict payment.Verdict // approve: nobody looks for them
	told    []message
}

// Looks tells whether duplicate payments are looked for.
func (d *Duplicates) Looks() bool { return d.Verdict != payment.Approve }

// defaultDuplicates are those of a policy that does not say otherwise.
func defaultDuplicates() Duplicates {
	return Duplicates{Within: time.Minute, Verdict: payment.Hold, told: []message{
		{"en", "It looks as if you have just made this payment. Please check before you pay again."},
		{"zh-CN", "您似乎刚刚完成过这笔付款,请核实后再支付。"},
	}}
}

func (d *Duplicates) read(n node) {
	n.object("duplicates",
		field{"within", func(v node) { set(&d.Within)(v.duration("within", time.Second, 7*24*time.Hour)) }},
		field{"verdict", func(v node) {
			set(&d.Verdict)(v.verdict("verdict", payment.Approve, payment.Hold, payment.Block))
		}},
		field{"payer_message", func(v node) { d.told = readMessages(v) }})
}

// features are those that the policy needs, behind those of the files.
func (d *Duplicates) features() []window.Feature {
	if !d.Looks() {
		return nil
	}
	return []window.Feature{window.EarlierCharges(d.Within)}
}

// String says it on one line.
func (d *Duplicates) String() string {
	if !d.Looks() {
		return "A duplicate payment is not looked for (policy: duplicates, verdict approve)."
	}
	return fmt.Sprintf("A duplicate payment: %s. Its type, payer, payee, amount and currency are those of an earlier one that is approved\n"+
		"   or pending; so is its order, or one of them names none and they are at most %s apart.", d.Verdict, formatDuration(d.Within))
}

// Duplicate is the earlier payment that a transaction repeats.
type Duplicate struct {
	ID        string // "" where nobody knows it
	EventTime payment.Time
}

// What a duplicate payment is told to people and to its payer as.
const (
	reasonDuplicate    = "DUPLICATE_PAYMENT"
	payerCodeDuplicate = "DUPLICATE"
)

// duplicate puts the policy's verdict on a duplicate payment before all causes
// that are no stricter, since it comes before rules in the order of decision.
func (e *Evaluator) duplicate() {
	if e.facts.Duplicate == nil {
		return
	}
	v := e.set.policy.Duplicates.Verdict
	at := 0
	for at < len(e.causes) && e.causes[at].verdict > v {
		at++
	}
	e.causes = slices.Insert(e.causes, at, cause{v, 0, causeDuplicate})
}

// append writes the detail of the reason: which payment was the first.
func (d *Duplicate) append(b []byte) []byte {
	if d.ID == "" {
		b = append(b, "an earlier payment"...)
	} else {
		b = append(b, d.ID...)
	}
	return d.EventTime.AppendRFC3339(append(b, " of "...))
}
