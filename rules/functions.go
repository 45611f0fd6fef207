package rules

import (
	"math"
	"math/big"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// function is how often and with what a function is called.
type function struct {
	name        string
	least, most int    // how many values it needs
	values      string // the same in words
	example     string // of a call, "" where the words say enough
}

// functions are those besides the amounts, sorted.
var functions = []function{
	{"abs", 1, 1, "one value", ""},
	{"country_of", 1, 1, "one value", "country_of(ip)"},
	{"has", 1, 1, "one value", ""},
	{"hour", 1, 1, "the name of a time zone", `hour("Europe/Berlin")`},
	{"in_list", 2, 2, "a field and the name of a list", `in_list(payer, "vip")`},
	{"km_between", 4, 4, "the latitude and the longitude of two places", "km_between(device.lat, device.lon, 31.2, 121.5)"},
	{"len", 1, 1, "one value", ""},
	{"max", 2, math.MaxInt, "two values or more", ""},
	{"min", 2, math.MaxInt, "two values or more", ""},
	{"ratio", 2, 2, "two values", "ratio(card.declined_1h, card.attempts_1h)"},
	{"reach", 1, 1, "one value", ""},
	{"time_between", 2, 3, "two times of day and, if wanted, a time zone", `time_between("22:00", "06:00")`},
	{"weekday", 1, 1, "the name of a time zone", `weekday("Europe/Berlin")`},
	{"z_score", 3, 3, "a value, its mean and its standard deviation", "z_score(amount, payer.mean_30d, payer.spread_30d)"},
}

// functionNames are their names.
func functionNames() []string {
	names := make([]string, len(functions))
	for i, f := range functions {
		names[i] = f.name
	}
	return names
}

func (c *compiler[E]) call(n ast.Node, name string, arguments []ast.Node) term[E] {
	if currency, ok := payment.ParseCurrency(name); ok {
		return c.money(n, currency, arguments)
	}
	at := slices.IndexFunc(functions, func(f function) bool { return f.name == name })
	if at < 0 {
		l := n.Location()
		return c.problem(span{l.From, l.To}, didYouMean(name, append(functionNames(), c.lang.rates.codes()...)), "unknown function %s", name)
	}
	if f := functions[at]; len(arguments) < f.least || len(arguments) > f.most {
		suggestion := ""
		if f.example != "" {
			suggestion = "write " + f.values + ", such as " + f.example
		}
		return c.problem(c.span(n), suggestion, "%s needs %s", name, f.values)
	}
	switch name { // of these, what stands between the parentheses is not evaluated
	case "in_list":
		return c.listed(n, arguments)
	case "country_of":
		return c.country(n, arguments[0])
	case "hour", "weekday", "time_between":
		return c.local(n, name, arguments)
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
	case "ratio":
		t = c.ratio(arguments, terms)
	case "z_score":
		t = c.zScore(arguments, terms)
	case "km_between":
		t = c.kmBetween(arguments, terms)
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
