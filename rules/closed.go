package rules

import (
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Some texts of a transaction can only be one of a closed set: what is none of
// it was refused before any rule is asked. A rule that looks for "UK" in a country
// would never fire, and nobody would see why.

// closedText tells, of a name with a closed set of values, what may be in it, in
// words, and why a value is not: a suggestion. Nothing is wrong where must is "".
func closedText(name, value string) (must, suggestion string) {
	switch {
	case name == "type":
		return oneOfNames(value, payment.TypeNames())
	case name == "verdict": // of an event
		return oneOfNames(value, []string{"pending", "approve", "hold", "block"})
	case name == "currency":
		if _, ok := payment.ParseCurrency(value); !ok {
			must, suggestion = "an ISO 4217 code such as CNY", didYouMean(strings.ToUpper(value), payment.CurrencyCodes())
		}
		if value == "RMB" {
			suggestion = "write CNY"
		}
	case name == "country" || eventCountry(name) || slices.Contains(countryList.fields(), name):
		if must, suggestion = countryList.check(value); must != "" && value == "UK" {
			suggestion = "write GB"
		}
	}
	return must, suggestion
}

// eventCountry tells whether a name is a country of one event: payer_country. A
// feature has a point in its name.
func eventCountry(name string) bool {
	return strings.HasSuffix(name, "_country") && !strings.Contains(name, ".")
}

func oneOfNames(value string, names []string) (must, suggestion string) {
	if slices.Contains(names, value) {
		return "", ""
	}
	return "one of " + join(names), didYouMean(value, names)
}

// possible reports a text that a term can never be; n is where it is written.
func (c *compiler[E]) possible(t term[E], n ast.Node) bool {
	s, ok := n.(*ast.StringNode)
	if !ok || t.kind != text {
		return true
	}
	must, suggestion := closedText(t.name, s.Value)
	if must == "" {
		return true
	}
	c.problem(c.span(n), suggestion, "%s is never %q: it is %s", t.name, s.Value, must)
	return false
}
