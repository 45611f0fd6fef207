package rules

import (
	"math/big"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// functionNames are the functions besides the amounts.
var functionNames = []string{"abs", "has", "in_list", "len", "max", "min", "reach"}

func (c *compiler[E]) call(n ast.Node, name string, arguments []ast.Node) term[E] {
	if currency, ok := payment.ParseCurrency(name); ok {
		return c.money(n, currency, arguments)
	}
	if name == "in_list" {
		return c.listed(n, arguments)
	}
	if !slices.Contains(functionNames, name) {
		known := append(slices.Clone(functionNames), c.lang.rates.codes()...)
		l := n.Location()
		return c.problem(span{l.From, l.To}, didYouMean(name, known), "unknown function %s", name)
	}
	if many := name == "min" || name == "max"; many && len(arguments) < 2 || !many && len(arguments) != 1 {
		return c.problem(c.span(n), "", "%s needs %s", name, map[bool]string{true: "two values or more", false: "one value"}[many])
	}
	terms := make([]term[E], len(arguments))
	constant := true
	for i, a := range arguments {
		if terms[i] = c.term(a); terms[i].kind == invalid {
			return term[E]{}
		}
		constant = constant && terms[i].constant
	}
	var t term[E]
	switch a := terms[0]; name {
	case "has":
		if a.name == "" {
			return c.problem(c.span(arguments[0]), "", "has needs a name")
		}
		return truthTerm(a.present())
	case "len":
		t = c.length(arguments[0], a)
	case "abs":
		if !a.number() {
			return c.problem(c.span(arguments[0]), "", "abs needs a number or money, and this is %s", a.what())
		}
		c.canFail = true
		t = absolute(a)
	case "reach":
		if a.reach == nil {
			return c.notAFeature(arguments[0], a)
		}
		t = floatTerm(false, a.reach)
	default:
		t = c.extreme(arguments, terms, name == "max")
	}
	t.constant = t.kind != invalid && constant
	return t
}

func (c *compiler[E]) length(n ast.Node, a term[E]) term[E] {
	switch a.kind {
	case text:
		return integerTerm(false, func(e *E) (int64, bool) {
			v, ok := a.text(e)
			return int64(utf8.RuneCountInString(v)), ok
		})
	case list:
		return integerTerm(false, func(e *E) (int64, bool) {
			v, ok := a.list(e)
			return int64(len(v)), ok
		})
	}
	return c.problem(c.span(n), "", "len needs text or a list, and this is %s", a.what())
}

func (c *compiler[E]) extreme(arguments []ast.Node, terms []term[E], largest bool) term[E] {
	k := terms[0].kind
	for i, t := range terms {
		switch {
		case !t.number():
			return c.problem(c.span(arguments[i]), "", "min and max need numbers or money, and this is %s", t.what())
		case t.money != terms[0].money:
			return c.problem(c.span(arguments[i]), "", "min and max of money and a bare number")
		case t.kind == float:
			k = float
		}
	}
	if k == integer {
		readers := make([]func(*E) (int64, bool), len(terms))
		for i := range terms {
			readers[i] = terms[i].integer
		}
		return integerTerm(terms[0].money, extreme(readers, largest))
	}
	readers := make([]func(*E) (float64, bool), len(terms))
	for i := range terms {
		readers[i] = terms[i].asFloat()
	}
	return floatTerm(terms[0].money, extreme(readers, largest))
}

// money compiles an amount such as CNY(10), at the rate in force.
func (c *compiler[E]) money(n ast.Node, currency payment.Currency, arguments []ast.Node) term[E] {
	written := ""
	if len(arguments) == 1 {
		switch a := arguments[0].(type) {
		case *ast.IntegerNode:
			written = strconv.Itoa(a.Value)
		case *ast.FloatNode:
			written = strconv.FormatFloat(a.Value, 'f', -1, 64) // the shortest text that reads as the same number: the one in the file
		}
	}
	if !plainDecimal.MatchString(written) {
		return c.problem(c.span(n), "", "an amount is written with one number, such as %s(10)", currency)
	}
	units, _ := new(big.Rat).SetString(written)
	minor, ok := minorUnits(currency, units)
	if !ok {
		return c.problem(c.span(n), "", "%s has %d digits after the point", currency, currency.Digits())
	}
	if !c.lang.rates.has(currency) {
		return c.problem(c.span(n), "give "+currency.String()+" a rate in rates.yaml", "no rate for %s", currency)
	}
	base, ok := c.lang.rates.convert(payment.Money{Value: minor, Currency: currency})
	if !ok {
		return c.problem(c.span(n), "", "the amount is too large")
	}
	t := constantInteger[E](base)
	t.money, t.literal = true, &amount{currency, minor}
	return t
}
