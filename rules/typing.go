package rules

import (
	"fmt"
	"slices"

	"github.com/expr-lang/expr/ast"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// The checks of operators: what may stand beside what, and what comes out.

func (c *compiler[E]) unary(n *ast.UnaryNode) term[E] {
	a := c.term(n.Node)
	if a.kind == invalid {
		return a
	}
	switch n.Operator {
	case "not", "!":
		if a.kind != truth {
			return c.problem(c.span(n.Node), "write "+n.Operator+" (...) around a comparison: it binds closer than == or <", "%s needs a condition, and this is %s", n.Operator, a.what())
		}
		return term[E]{kind: truth, truth: not(a.truth), constant: a.constant}
	case "-":
		if !a.number() {
			return c.problem(c.span(n.Node), "", "- needs a number or money, and this is %s", a.what())
		}
		c.canFail = true
		t := negative(a)
		t.constant = a.constant
		return t
	}
	return c.problem(c.span(n), "", "%s is not part of the language here", n.Operator)
}

func (c *compiler[E]) binary(n *ast.BinaryNode) term[E] {
	switch n.Operator {
	case "in":
		return c.in(n)
	case "matches":
		return c.matches(n)
	case "..":
		return c.problem(c.span(n), "", "a range can only stand to the right of in")
	}
	a, b := c.term(n.Left), c.term(n.Right)
	if a.kind == invalid || b.kind == invalid {
		return term[E]{}
	}
	var t term[E]
	switch n.Operator {
	case "and", "&&", "or", "||":
		return c.logical(n, a, b)
	case "==", "!=", "<", "<=", ">", ">=":
		t = c.comparison(n, a, b)
	case "+", "-", "*", "/", "%":
		t = c.arithmetic(n, a, b)
	case "contains", "startsWith", "endsWith":
		if a.kind != text || b.kind != text {
			return c.mismatch(n, a, b, "needs text on both sides")
		}
		t = truthTerm(textOperation(n.Operator, a.text, b.text))
	case "??":
		t = c.orElse(n, a, b)
	default:
		return c.problem(c.operator(n), "", "%s is not part of the language", n.Operator)
	}
	t.constant = t.kind != invalid && a.constant && b.constant
	return t
}

// mismatch reports operands that do not go together.
func (c *compiler[E]) mismatch(n *ast.BinaryNode, a, b term[E], why string) term[E] {
	return c.problem(c.span(n), "", "%s %s, and here it stands between %s and %s", n.Operator, why, a.what(), b.what())
}

func (c *compiler[E]) logical(n *ast.BinaryNode, a, b term[E]) term[E] {
	for i, t := range []term[E]{a, b} {
		if t.kind != truth {
			return c.problem(c.span([]ast.Node{n.Left, n.Right}[i]), "", "%s needs conditions, and this is %s", n.Operator, t.what())
		}
	}
	isAnd := n.Operator == "and" || n.Operator == "&&"
	for _, sides := range [][2]term[E]{{a, b}, {b, a}} {
		if fixed, other := sides[0], sides[1]; fixed.constant {
			if (fixed.truth(nil) == window.True) == isAnd {
				return other // true and x, false or x
			}
			return fixed // false and x, true or x
		}
	}
	if isAnd {
		return truthTerm(and(a.truth, b.truth))
	}
	return truthTerm(or(a.truth, b.truth))
}

func (c *compiler[E]) comparison(n *ast.BinaryNode, a, b term[E]) term[E] {
	op, equality := n.Operator, n.Operator == "==" || n.Operator == "!="
	switch {
	case a.kind == original || b.kind == original:
		if a.kind == original && b.literal != nil {
			return truthTerm(compareOriginal(op, a, *b.literal))
		}
		if b.kind == original && a.literal != nil {
			return truthTerm(compareOriginal(mirrored[op], b, *a.literal))
		}
		return c.problem(c.span(n), "write amount to compare in "+c.lang.rates.base.String(),
			"amount_original can only be compared with an amount such as %s(10)", c.lang.rates.base)
	case a.kind == identifier || b.kind == identifier:
		return c.identifiers(n, a, b, equality)
	case a.number() && b.number():
		if a.money != b.money {
			return c.bareNumber(n, a, b)
		}
		if a.kind == integer && b.kind == integer {
			if !c.canDiffer(n, a, b) {
				return term[E]{}
			}
			return truthTerm(compareReaders(op, a.integer, b.integer, a.constant, b.constant))
		}
		return truthTerm(compareReaders(op, a.asFloat(), b.asFloat(), a.constant, b.constant))
	case a.kind == text && b.kind == text:
		if equality && (!c.possible(a, n.Right) || !c.possible(b, n.Left)) {
			return term[E]{}
		}
		return truthTerm(compareReaders(op, a.text, b.text, a.constant, b.constant))
	case a.kind == truth && b.kind == truth && equality:
		return truthTerm(sameTruth(a.truth, b.truth, op == "=="))
	case a.kind == b.kind:
		return c.mismatch(n, a, b, "cannot compare")
	}
	return c.problem(c.span(n), "", "%s cannot be compared with %s", a.what(), b.what())
}

// bareNumber reports money beside a number that is none.
func (c *compiler[E]) bareNumber(n *ast.BinaryNode, a, b term[E]) term[E] {
	number, node := a, n.Left
	if a.money {
		number, node = b, n.Right
	}
	base := c.lang.rates.base.String()
	suggestion := "write the amount as " + base + "(10)"
	if number.constant {
		suggestion = fmt.Sprintf("write %s(%s)", base, string([]rune(c.src.text)[c.span(node).from:c.span(node).to]))
	}
	return c.problem(c.span(n), suggestion, "%s between money and a bare number", n.Operator)
}

// identifiers compares what last(...) keeps with what the transaction names.
func (c *compiler[E]) identifiers(n *ast.BinaryNode, a, b term[E], equality bool) term[E] {
	if a.kind != identifier {
		a, b = b, a
	}
	if !equality || c.lang.own == nil || !slices.Contains(b.names, a.entity) {
		return c.problem(c.span(n), "", "an identifier (%s) can only be compared by == or != with the transaction's own%s", a.entity, c.ownName(a.entity))
	}
	return truthTerm(compareIdentifier(a.hash, c.lang.own, a.entity, n.Operator == "=="))
}

// ownName is the name of the transaction's identifier of a kind, in parentheses.
func (c *compiler[E]) ownName(k window.Kind) string {
	for name, t := range c.lang.names {
		if slices.Contains(t.names, k) {
			return " (" + name + ")"
		}
	}
	return ""
}

func (c *compiler[E]) arithmetic(n *ast.BinaryNode, a, b term[E]) term[E] {
	op := n.Operator
	if !a.number() || !b.number() {
		return c.mismatch(n, a, b, "needs numbers or money")
	}
	money := a.money || b.money
	switch {
	case (op == "+" || op == "-") && a.money != b.money:
		return c.bareNumber(n, a, b)
	case op == "*" && a.money && b.money:
		return c.problem(c.span(n), "", "money times money has no meaning")
	case op == "/" && b.money && !a.money:
		return c.problem(c.span(n), "", "a number divided by money has no meaning")
	case op == "%" && (money || a.kind != integer || b.kind != integer):
		return c.mismatch(n, a, b, "needs whole numbers")
	case op == "%":
		return integerTerm(false, remainder(a.integer, b.integer))
	case op == "/":
		return floatTerm(a.money && !b.money, floatOperation(op, a.asFloat(), b.asFloat()))
	case a.kind == integer && b.kind == integer:
		c.canFail = true
		return integerTerm(money, integerOperation(op, a.integer, b.integer))
	}
	return floatTerm(money, floatOperation(op, a.asFloat(), b.asFloat()))
}

// alike returns a kind that two terms share: their own, or float for an
// integer and a float. False (and reported) when there is none.
func (c *compiler[E]) alike(n ast.Node, what string, a, b term[E]) (kind, bool) {
	switch {
	case a.number() && b.number() && a.money == b.money:
		if a.kind == b.kind {
			return a.kind, true
		}
		return float, true
	case a.kind == b.kind && (a.kind == truth || a.kind == text):
		return a.kind, true
	}
	c.problem(c.span(n), "", "%s must be of one kind, and here they are %s and %s", what, a.what(), b.what())
	return invalid, false
}

func (c *compiler[E]) orElse(n *ast.BinaryNode, a, b term[E]) term[E] {
	k, ok := c.alike(n, "both sides of ??", a, b)
	if !ok {
		return term[E]{}
	}
	switch k {
	case truth:
		return truthTerm(truthOfReader(orElse(truthReader(a.truth), truthReader(b.truth))))
	case integer:
		return integerTerm(a.money, orElse(a.integer, b.integer))
	case float:
		return floatTerm(a.money, orElse(a.asFloat(), b.asFloat()))
	}
	return textTerm(orElse(a.text, b.text))
}

func (c *compiler[E]) conditional(n *ast.ConditionalNode) term[E] {
	condition, a, b := c.term(n.Cond), c.term(n.Exp1), c.term(n.Exp2)
	if condition.kind == invalid || a.kind == invalid || b.kind == invalid {
		return term[E]{}
	}
	if condition.kind != truth {
		return c.problem(c.span(n.Cond), "", "? needs a condition, and this is %s", condition.what())
	}
	k, ok := c.alike(n, "both results of ?:", a, b)
	if !ok {
		return term[E]{}
	}
	var t term[E]
	switch k {
	case truth:
		t = truthTerm(truthOfReader(either(condition.truth, truthReader(a.truth), truthReader(b.truth))))
	case integer:
		t = integerTerm(a.money, either(condition.truth, a.integer, b.integer))
	case float:
		t = floatTerm(a.money, either(condition.truth, a.asFloat(), b.asFloat()))
	default:
		t = textTerm(either(condition.truth, a.text, b.text))
	}
	t.constant = condition.constant && a.constant && b.constant
	return t
}
