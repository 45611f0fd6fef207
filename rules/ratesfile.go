package rules

import (
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// readRates reads rates.yaml into rates whose base is known.
func readRates(n node, r *rates) {
	found := n.object("rates.yaml",
		field{"base", func(v node) {
			code, ok := v.currency("base")
			if ok && code != r.base {
				v.at(v.place(), "the rates are in %s and the policy's base_currency is %s: they must be the same", code, r.base)
			}
		}},
		field{"rates", func(v node) {
			for _, e := range v.entries("rates") {
				c, ok := payment.ParseCurrency(e.key)
				if !ok {
					v.suggest(e.at, didYouMean(e.key, payment.CurrencyCodes()), "unknown currency %s", e.key)
					continue
				}
				if c == r.base {
					v.at(e.at, "%s is the base currency and needs no rate", e.key)
					continue
				}
				if units, ok := e.value.decimal("the rate of " + e.key); ok && !r.set(c, units) {
					v.at(e.value.place(), "the rate of %s must be above zero and have at most 18 digits", e.key)
				}
			}
		}})
	n.needs("rates.yaml", found, "base", "rates")
}

// currency reads an ISO 4217 code.
func (n node) currency(what string) (payment.Currency, bool) {
	s, ok := n.text(what)
	if !ok {
		return 0, false
	}
	c, ok := payment.ParseCurrency(s)
	if !ok {
		n.suggest(n.place(), didYouMean(s, payment.CurrencyCodes()), "%s must be an ISO 4217 code such as CNY", what)
	}
	return c, ok
}
