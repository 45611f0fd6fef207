package rules

import "github.com/expr-lang/expr/ast"

// ratio compiles ratio(a, b): a / b as a plain number, of two amounts of money or
// two numbers. It is absent where b is zero.
func (c *compiler[E]) ratio(arguments []ast.Node, terms []term[E]) term[E] {
	if !c.comparable("ratio", arguments, terms) {
		return term[E]{}
	}
	if v, ok := constantValue(terms[1]); ok && v == 0 {
		return c.problem(c.span(arguments[1]), "", "ratio divides by this, and it is always 0")
	}
	return floatTerm(false, floatOperation("/", terms[0].asFloat(), terms[1].asFloat()))
}

// zScore compiles z_score(x, mean, stddev): how many standard deviations x is
// above the mean, (x - mean) / stddev. It is absent where stddev is zero: where
// all was alike, nothing says how unusual another value is.
func (c *compiler[E]) zScore(arguments []ast.Node, terms []term[E]) term[E] {
	if !c.comparable("z_score", arguments, terms) {
		return term[E]{}
	}
	if v, ok := constantValue(terms[2]); ok && v <= 0 {
		return c.problem(c.span(arguments[2]), "", "a standard deviation is above 0, and this never is")
	}
	above := floatOperation("-", terms[0].asFloat(), terms[1].asFloat())
	return floatTerm(false, floatOperation("/", above, aboveZero(terms[2].asFloat())))
}

// comparable reports arguments of a function that are neither all money nor all
// plain numbers.
func (c *compiler[E]) comparable(name string, arguments []ast.Node, terms []term[E]) bool {
	for i, t := range terms {
		if !t.number() {
			c.problem(c.span(arguments[i]), "", "%s needs numbers or money, and this is %s", name, t.what())
			return false
		}
	}
	for i, t := range terms[1:] {
		if t.money != terms[0].money {
			c.problem(c.span(arguments[i+1]), "give it money only, or numbers only", "%s of money and a bare number", name)
			return false
		}
	}
	return true
}

// aboveZero reads what is above zero; anything else is absent.
func aboveZero[E any](read func(*E) (float64, bool)) func(*E) (float64, bool) {
	return func(e *E) (float64, bool) {
		v, ok := read(e)
		return v, ok && v > 0
	}
}

// constantValue is the value of a number that is the same for all transactions.
func constantValue[E any](t term[E]) (float64, bool) {
	if !t.constant {
		return 0, false
	}
	return t.asFloat()(nil)
}
