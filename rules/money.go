package rules

import (
	"math"
	"math/big"
	"math/bits"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// rate converts minor units of one currency to minor units of the base
// currency: base = value × num ÷ den.
type rate struct{ num, den uint64 }

// rates are the conversions into one base currency.
type rates struct {
	base payment.Currency
	to   []rate // by currency; zero: no rate
}

func newRates(base payment.Currency) *rates {
	r := &rates{base: base, to: make([]rate, len(payment.CurrencyCodes())+1)}
	if base != 0 {
		r.to[base] = rate{1, 1}
	}
	return r
}

// set gives a currency its rate: one major unit of it in major units of the
// base. It reports false when the rate is not above zero, or too fine or too
// large for 64 bits on either side of its fraction.
func (r *rates) set(c payment.Currency, units *big.Rat) bool {
	minor := new(big.Rat).Set(units)
	minor.Mul(minor, new(big.Rat).SetFrac(pow10(r.base.Digits()), pow10(c.Digits())))
	if minor.Sign() <= 0 || !minor.Num().IsUint64() || !minor.Denom().IsUint64() {
		return false
	}
	r.to[c] = rate{minor.Num().Uint64(), minor.Denom().Uint64()}
	return true
}

func pow10(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

// has reports whether a currency has a rate.
func (r *rates) has(c payment.Currency) bool { return int(c) < len(r.to) && r.to[c].den != 0 }

// codes returns the currencies that have a rate.
func (r *rates) codes() []string {
	var out []string
	for c := range r.to {
		if r.to[c].den != 0 {
			out = append(out, payment.Currency(c).String())
		}
	}
	return out
}

// convert returns minor units of the base currency, half-even. The product has
// 128 bits; false when the quotient does not fit, without a rate, or for a
// negative amount.
func (r *rates) convert(m payment.Money) (int64, bool) {
	if !r.has(m.Currency) || m.Value < 0 {
		return 0, false
	}
	to := r.to[m.Currency]
	if to.num == to.den {
		return m.Value, true
	}
	hi, lo := bits.Mul64(uint64(m.Value), to.num)
	if hi >= to.den {
		return 0, false
	}
	q, rest := bits.Div64(hi, lo, to.den)
	if half := to.den - rest; rest > half || rest == half && q&1 == 1 { // rest against den - rest: 2 × rest may not fit
		q++
		if q == 0 {
			return 0, false
		}
	}
	if q > math.MaxInt64 {
		return 0, false
	}
	return int64(q), true
}

// minorUnits returns an exact decimal as minor units of a currency; false when
// it has more digits than the currency, or does not fit.
func minorUnits(c payment.Currency, amount *big.Rat) (int64, bool) {
	minor := new(big.Rat).Mul(amount, new(big.Rat).SetInt(pow10(c.Digits())))
	if !minor.IsInt() || !minor.Num().IsInt64() || minor.Sign() < 0 {
		return 0, false
	}
	return minor.Num().Int64(), true
}

// moneyText reads an amount as policies write it: CNY(500) or USD(1.50), in
// minor units of the base currency.
func (r *rates) moneyText(n node, what string) (int64, bool) {
	written, ok := r.writtenMoney(n, what)
	if !ok {
		return 0, false
	}
	if !r.has(written.Currency) {
		code := written.Currency.String()
		n.suggest(n.place(), "give "+code+" a rate in rates.yaml", "%s: no rate for %s", what, code)
		return 0, false
	}
	base, ok := r.convert(written)
	if !ok {
		n.at(n.place(), "%s is too large", what)
	}
	return base, ok
}

// writtenMoney reads an amount in its own currency, with a rate or without.
func (r *rates) writtenMoney(n node, what string) (payment.Money, bool) {
	s := ""
	if v, ok := n.ast.(*ast.StringNode); ok {
		s = v.Value
	}
	code, rest, open := strings.Cut(s, "(")
	number, closed := strings.CutSuffix(rest, ")")
	c, known := payment.ParseCurrency(code)
	if !open || !closed || !known || !plainDecimal.MatchString(number) {
		n.at(n.place(), "%s must be an amount such as %s(500)", what, r.base)
		return payment.Money{}, false
	}
	amount, _ := new(big.Rat).SetString(number)
	minor, ok := minorUnits(c, amount)
	if !ok {
		n.at(n.place(), "%s: %s has %d digits after the point", what, c, c.Digits())
	}
	return payment.Money{Value: minor, Currency: c}, ok
}
