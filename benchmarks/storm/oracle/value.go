package oracle

import (
	"math"
	"math/big"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// value is that of a feature: a text, or else a number, NaN where there is none.
type value struct {
	text   string
	number float64
}

func absent() value { return value{number: math.NaN()} }

func (v value) equal(w value) bool {
	return v.text == w.text && (v.number == w.number || math.IsNaN(v.number) && math.IsNaN(w.number))
}

// standing is what outcomes up to a moment, at places before one, made of an event:
// the last outcome, and of those that say whether it was fraud the last.
func (e *event) standing(t payment.Time, upTo At) (status payment.OutcomeKind, fraud bool) {
	last, label := payment.Time(math.MinInt64), payment.Time(math.MinInt64)
	for i := range e.outcomes {
		o := &e.outcomes[i]
		if o.at >= upTo || o.time > t {
			continue
		}
		if o.time >= last {
			last, status = o.time, o.kind
		}
		if (o.kind == payment.OutcomeFraudConfirmed || o.kind == payment.OutcomeFraudCleared) && o.time >= label {
			label, fraud = o.time, o.kind == payment.OutcomeFraudConfirmed
		}
	}
	return status, fraud
}

// definitions computes values. It belongs to one goroutine.
type definitions struct {
	different map[uint64]bool // scratch
}

// value is a feature as of the transaction at place own of a log, when the log
// was read up to a position: the transaction itself counts, wherever it stands.
func (d *definitions) value(f *Feature, l *Log, own int32, upTo At) value {
	t := l.events[own].time
	high := t.Add(-f.delay)
	low := high.Add(-f.window)
	var n, paid, sum, least, most, fraudulent int64
	clear(d.different)
	for i := own; i >= 0 && l.events[i].time > low; i-- {
		e := &l.events[i]
		if e.at >= upTo && i != own || e.time > high {
			continue
		}
		if f.before {
			switch {
			case i == own:
				continue
			case f.value == "since_last":
				return value{number: float64(t-e.time) / 1e9}
			case e.channel == "":
				return absent()
			}
			return value{text: e.channel}
		}
		if f.status != 0 || f.share {
			status, fraud := e.standing(t, upTo)
			if f.status != 0 && status != f.status {
				continue
			}
			if fraud {
				fraudulent++
			}
		}
		if n++; f.distinct {
			if e.refs[f.ref] != 0 {
				d.different[e.refs[f.ref]] = true
			}
		} else if e.based {
			if paid++; paid == 1 {
				least, most = e.base, e.base
			}
			sum, least, most = sum+e.base, min(least, e.base), max(most, e.base)
		}
	}
	switch {
	case f.value == "count":
		return value{number: float64(n)}
	case f.value == "sum":
		return value{number: float64(sum)}
	case f.distinct:
		return value{number: float64(len(d.different))}
	case f.share:
		return value{number: float64(fraudulent) / float64(max(n, 1))}
	case f.before || paid == 0:
		return absent()
	case f.value == "avg":
		return value{number: float64(sum) / float64(paid)}
	case f.value == "min":
		return value{number: float64(least)}
	}
	return value{number: float64(most)}
}

// InYuan converts minor units by Rates, half-even; based is false where there is
// no rate.
func InYuan(amount int64, currency string) (base int64, based bool) {
	if currency == "CNY" {
		return amount, true
	}
	rate, ok := new(big.Rat).SetString(Rates()[currency])
	if !ok {
		return 0, false
	}
	exact := new(big.Rat).Mul(big.NewRat(amount, 1), rate)
	if currency == "JPY" { // has no minor unit
		exact.Mul(exact, big.NewRat(100, 1))
	}
	whole, rest := new(big.Int).QuoRem(exact.Num(), exact.Denom(), new(big.Int))
	twice := new(big.Int).Mul(rest, big.NewInt(2)).Cmp(exact.Denom())
	if twice > 0 || twice == 0 && whole.Bit(0) == 1 {
		whole.Add(whole, big.NewInt(1))
	}
	return whole.Int64(), true
}
