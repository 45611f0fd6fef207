package traffic

import (
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// outcome is what will become of a transaction.
type outcome struct {
	transaction, payer string
	source             string
	kind               payment.OutcomeKind
	amount             payment.Money // of a refund
	label              Label
}

// maxOutcomes bounds the outcomes to come. Half of the room is kept for those
// that come within the hour; what finds no room never comes.
const maxOutcomes = 1 << 17

func (g *Generator) await(now payment.Time, delay time.Duration, o outcome) {
	delay = g.cfg.sooner(delay)
	if n := g.outcomes.len(); n >= maxOutcomes || n >= maxOutcomes/2 && delay > time.Hour {
		return
	}
	g.outcomes.push(now.Add(delay), o)
}

// between returns a delay that is evenly spread.
func (g *Generator) between(least, most time.Duration) time.Duration {
	return least + time.Duration(g.rng.Float64()*float64(most-least))
}

const day = 24 * time.Hour

// expect decides what becomes of the transaction in g.tx. Nothing here knows
// the verdict: it is what would happen if the payment were approved.
func (g *Generator) expect(now payment.Time, label Label) {
	t := &g.tx
	o := outcome{transaction: t.ID, payer: t.Payer.AccountID, label: label}
	soon := func(kind payment.OutcomeKind, least, most time.Duration, source string) {
		o.kind, o.source = kind, source
		g.await(now, g.between(least, most), o)
	}
	u := g.rng.Float64()
	if label == CardTesting || label == CompromisedTerminal {
		u *= 0.06 // banks decline many of these
	}
	switch {
	case u < 0.018:
		soon(payment.OutcomeDeclinedByBank, 300*time.Millisecond, 3*time.Second, "issuer")
		return
	case u < 0.024:
		soon(payment.OutcomeTechnicalFailure, time.Second, 8*time.Second, "network")
		if label == Genuine && t.OrderID != "" && g.rng.IntN(2) == 0 && g.planned.len() < maxPlanned { // tries again
			again := &plan{tx: *t, decides: g.decides}
			again.tx.Device.Located = false // and does not say where
			g.plan(now, g.between(70*time.Second, 5*time.Minute), again, Genuine)
		}
		return
	case u < 0.030 && label == Genuine && t.OrderID != "":
		soon(payment.OutcomeCancelled, 10*time.Second, 10*time.Minute, "payer")
		return
	}
	// Half settle within seconds, the others within minutes.
	if settled := time.Duration(g.rng.ExpFloat64() * float64(2*time.Second)); g.rng.IntN(2) == 0 {
		soon(payment.OutcomeSettled, settled+500*time.Millisecond, settled+time.Second, "")
	} else {
		soon(payment.OutcomeSettled, settled+5*time.Second, 3*time.Minute+settled, "")
	}
	if label != Genuine {
		g.expectFraudFound(now, o)
		return
	}
	switch u := g.rng.Float64(); {
	case u < 0.006 && t.Type == payment.TypePayment && t.OrderID != "":
		o.amount = t.Amount
		if g.rng.IntN(3) == 0 {
			o.amount.Value = max(1, t.Amount.Value/2)
		}
		soon(payment.OutcomeRefunded, 2*time.Hour, 10*day, "merchant")
	case u < 0.0072 && t.Type == payment.TypePayment:
		found := g.between(day, 20*day)
		o.kind, o.source = payment.OutcomeDisputed, "chargeback"
		g.await(now, found, o)
		o.kind, o.source = payment.OutcomeDisputeWon, "scheme"
		if g.rng.IntN(3) == 0 {
			o.kind = payment.OutcomeDisputeLost
		}
		g.await(now, found+g.between(3*day, 20*day), o)
	case u < 0.008:
		soon(payment.OutcomeFraudCleared, 6*time.Hour, 3*day, "review")
	}
}

// expectFraudFound lets most frauds be reported, days later.
func (g *Generator) expectFraudFound(now payment.Time, o outcome) {
	found := g.between(12*time.Hour, 15*day)
	switch u := g.rng.Float64(); {
	case u < 0.60:
		o.kind, o.source = payment.OutcomeFraudConfirmed, "payer_report"
	case u < 0.80:
		o.kind, o.source = payment.OutcomeDisputed, "chargeback"
		g.await(now, found, o)
		found += g.between(day, 10*day)
		o.kind = payment.OutcomeFraudConfirmed
	default:
		return // nobody notices
	}
	g.await(now, found, o)
}

// emitOutcome writes the outcome that is due.
func (g *Generator) emitOutcome() Event {
	at, due := g.outcomes.pop()
	at -= at % 1e6
	o := &g.result
	*o = payment.Outcome{TransactionID: due.transaction, Kind: due.kind, EventTime: at, PayerID: due.payer, Amount: due.amount, Source: due.source}
	if due.kind == payment.OutcomeRefunded {
		o.ID = "o-" + due.transaction
	}
	return Event{Time: at, Kind: payment.RecordOutcome, Key: due.payer, Value: g.write(o), Label: due.label}
}
