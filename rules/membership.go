package rules

import (
	"regexp"

	"github.com/expr-lang/expr/ast"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// in compiles x in [a, b], x in 1..5 and x in auth.methods.
func (c *compiler[E]) in(n *ast.BinaryNode) term[E] {
	a := c.term(n.Left)
	switch right := n.Right.(type) {
	case *ast.ArrayNode:
		return c.inList(n, a, right)
	case *ast.BinaryNode:
		if right.Operator == ".." {
			return c.inRange(n, a, right)
		}
	}
	b := c.term(n.Right)
	switch {
	case a.kind == invalid || b.kind == invalid:
		return term[E]{}
	case b.kind != list:
		return c.problem(c.span(n.Right), `write a list such as ["qr", "web"], or a range such as 1..5`, "in needs a list, and this is %s", b.what())
	case a.kind != text:
		return c.problem(c.span(n.Left), "", "%s holds texts, and this is %s", b.name, a.what())
	}
	return truthTerm(contained(a.text, b.list))
}

func (c *compiler[E]) inRange(n *ast.BinaryNode, a term[E], bounds *ast.BinaryNode) term[E] {
	lo, hi := c.term(bounds.Left), c.term(bounds.Right)
	if a.kind == invalid || lo.kind == invalid || hi.kind == invalid {
		return term[E]{}
	}
	for _, t := range []term[E]{lo, hi} {
		if t.kind != integer || t.money || !t.constant {
			return c.problem(c.span(bounds), "compare with >= and <= instead", "the ends of a range must be whole numbers")
		}
	}
	if a.kind != integer || a.money {
		return c.problem(c.span(n.Left), "compare with >= and <= instead", "a range holds whole numbers, and this is %s", a.what())
	}
	from, _ := lo.integer(nil)
	to, _ := hi.integer(nil)
	if from > to {
		return c.problem(c.span(bounds), "", "the range is empty")
	}
	if !c.inBounds(a, lo, bounds.Left) || !c.inBounds(a, hi, bounds.Right) {
		return term[E]{}
	}
	t := truthTerm(and(compareTo(">=", a.integer, from), compareTo("<=", a.integer, to)))
	t.constant = a.constant
	return t
}

func (c *compiler[E]) inList(n *ast.BinaryNode, a term[E], members *ast.ArrayNode) term[E] {
	if len(members.Nodes) == 0 {
		return c.problem(c.span(members), "", "the list is empty")
	}
	var among []term[E]
	floats := a.kind == float
	ok := a.kind != invalid
	for _, node := range members.Nodes {
		m := c.term(node)
		switch {
		case m.kind == invalid || a.kind == invalid:
			ok = false
		case !m.constant:
			c.problem(c.span(node), "", "the members of a list must be constants")
			ok = false
		case a.kind == text && m.kind == text, a.number() && m.number() && a.money == m.money:
			ok = c.possible(a, node) && c.inBounds(a, m, node) && ok
			floats = floats || m.kind == float
			among = append(among, m)
		default:
			suggestion := ""
			if a.money && m.number() {
				suggestion = "write " + c.lang.rates.base.String() + "(...)"
			}
			c.problem(c.span(node), suggestion, "%s cannot be in a list with %s", a.what(), m.what())
			ok = false
		}
	}
	if !ok {
		return term[E]{}
	}
	var t term[E]
	switch {
	case a.kind == text:
		t = truthTerm(oneOf(a.text, values(among, func(m term[E]) func(*E) (string, bool) { return m.text })))
	case floats:
		t = truthTerm(oneOf(a.asFloat(), values(among, term[E].asFloat)))
	default:
		t = truthTerm(oneOf(a.integer, values(among, func(m term[E]) func(*E) (int64, bool) { return m.integer })))
	}
	t.constant = a.constant
	return t
}

// values reads constants.
func values[E, T any](terms []term[E], reader func(term[E]) func(*E) (T, bool)) []T {
	out := make([]T, len(terms))
	for i, t := range terms {
		out[i], _ = reader(t)(nil)
	}
	return out
}

func (c *compiler[E]) matches(n *ast.BinaryNode) term[E] {
	a := c.term(n.Left)
	pattern, ok := n.Right.(*ast.StringNode)
	switch {
	case a.kind == invalid:
		return a
	case a.kind != text:
		return c.problem(c.span(n.Left), "", "matches needs text, and this is %s", a.what())
	case !ok:
		return c.problem(c.span(n.Right), "", "matches needs a pattern in quotes")
	}
	re, err := regexp.Compile(pattern.Value)
	if err != nil {
		return c.problem(c.span(n.Right), "", "not a regular expression: %v", err)
	}
	read := a.text
	t := truthTerm(func(e *E) window.Truth {
		if v, ok := read(e); ok {
			return window.TruthOf(re.MatchString(v))
		}
		return window.Unknown
	})
	t.constant = a.constant
	return t
}
