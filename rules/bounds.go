package rules

import "github.com/expr-lang/expr/ast"

// bounds are the smallest and the largest whole number that a term can be.
type bounds struct {
	of        string
	low, high int64
}

// canDiffer reports a comparison of a bounded term with a number that comes out the
// same for every payment, such as hour == 24.
func (c *compiler[E]) canDiffer(n *ast.BinaryNode, a, b term[E]) bool {
	op := n.Operator
	if b.bounds != nil {
		a, b, op = b, a, mirrored[op]
	}
	if a.bounds == nil || !b.constant {
		return true
	}
	v, _ := b.integer(nil)
	atLow, atHigh := compareWhole(op, a.bounds.low, v), compareWhole(op, a.bounds.high, v)
	if atLow != atHigh || (op == "==" || op == "!=") && a.bounds.low <= v && v <= a.bounds.high {
		return true
	}
	c.problem(c.span(n), "", "this is always %t: %s is from %d to %d", atLow, a.bounds.of, a.bounds.low, a.bounds.high)
	return false
}

func compareWhole(op string, a, b int64) bool {
	switch op {
	case "==":
		return a == b
	case "!=":
		return a != b
	case "<":
		return a < b
	case "<=":
		return a <= b
	case ">":
		return a > b
	}
	return a >= b
}

// inBounds reports a number in a list or at the end of a range that a bounded term
// never is, such as weekday in 0..5.
func (c *compiler[E]) inBounds(t, member term[E], n ast.Node) bool {
	if t.bounds == nil || member.kind != integer {
		return true
	}
	if v, _ := member.integer(nil); v < t.bounds.low || v > t.bounds.high {
		c.problem(c.span(n), "", "%s is never %d: it is from %d to %d", t.bounds.of, v, t.bounds.low, t.bounds.high)
		return false
	}
	return true
}
