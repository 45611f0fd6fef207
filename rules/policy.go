package rules

import (
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Policy says how rule hits and scores become a verdict, and what happens where
// there is none. It is read-only.
type Policy struct {
	BaseCurrency payment.Currency
	Location     *time.Location // of local time and calendar windows; nil when the policy names no time zone
	Channels     []string       // the channels that are expected; others are decided like the rest, and alerted
	Reasons      []string       // the codes that rules may give; none: any
	NoRate       payment.Verdict
	Hold         struct{ Review, StepUp HoldDefault }
	Thresholds   []Threshold
	Duplicates   Duplicates
	Caps         Caps

	reasonsAt    []place // of Reasons
	decideWithin [typeCount]time.Duration
	whenLate     [typeCount]Late
	cannotHold   map[string]payment.Verdict // by channel
	cannotHoldBy payment.Verdict            // on every other channel
}

const typeCount = int(payment.TypeRefund) + 1

// HoldDefault is what a hold rule has when it does not say otherwise.
type HoldDefault struct {
	For      time.Duration
	OnExpiry payment.Verdict // approve or block
}

// Late is the default verdict for a transaction whose time is up.
type Late struct {
	ApproveUpTo int64           // minor units of the base currency; 0: nothing is approved
	Else        payment.Verdict // above it, or without an amount in the base currency
}

// Verdict returns the default for an amount in the base currency.
func (l Late) Verdict(amount int64, hasAmount bool) payment.Verdict {
	if hasAmount && l.ApproveUpTo > 0 && amount <= l.ApproveUpTo {
		return payment.Approve
	}
	return l.Else
}

// Threshold gives a verdict at some sum of points or some score. Exactly one of
// Points and Score is above zero.
type Threshold struct {
	Points  int // of rules, from 1
	Score   int // of the model, 1 to 100
	Verdict payment.Verdict
	Applies AppliesTo
}

// Caps bounds the share of blocks in a time.
type Caps struct {
	BlockShare float64       // 0 to 1
	Per        time.Duration //
	MinCount   int           // decisions in that time before the cap can bite
	Then       payment.Verdict
}

// DecideWithin returns how long a decision may take where the transaction does
// not say by when.
func (p *Policy) DecideWithin(t payment.Type) time.Duration { return p.decideWithin[t] }

// WhenLate returns the default for transactions of a type whose time is up.
func (p *Policy) WhenLate(t payment.Type) Late { return p.whenLate[t] }

// IfCannotHold returns what a hold becomes for a caller on the channel who
// cannot hold: approve or block.
func (p *Policy) IfCannotHold(channel string) payment.Verdict {
	if v, ok := p.cannotHold[channel]; ok {
		return v
	}
	return p.cannotHoldBy
}

// KnownChannel reports whether the policy expects the channel; an absent one is expected.
func (p *Policy) KnownChannel(channel string) bool {
	if channel == "" {
		return true
	}
	for _, c := range p.Channels {
		if c == channel {
			return true
		}
	}
	return false
}
