package rules

import (
	"math/big"
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"
)

// What can be seen of conditions without a payment: that parts of one exclude each
// other, that one is true whenever another is. A condition is brought into the form
// "one of these cases", each of them statements that must all hold. What is said here
// is right; what is not seen may be there all the same.

// statement is one clause of a condition, so that it can be held against others.
type statement struct {
	text    string   // as written, on one line
	span    span     // in the condition; empty for what applies_to says
	about   string   // what is on its left: card.attempts_10m; the clause itself where it is neither of the following
	op      string   // of a comparison with a number: == != < <= > >=; "" otherwise
	number  *big.Rat // and the number
	whole   bool     // what is compared with it is a whole number, as it is
	among   []string // of a comparison with texts: it is one of them, or none
	words   bool     // it is one with texts
	negated bool     // it is none of among; or the clause must be false
	names   []string // what it looks at
}

// cases are the ways in which a condition can be true.
type cases [][]statement

// maxCases bounds how many are looked at: a condition with more is left alone.
const maxCases = 128

// casesOf brings a condition that compiles into cases; negate asks when it is
// false. false where there are too many.
func casesOf(lang *language[facts], src scalar, negate bool) (cases, bool) {
	c := &compiler[facts]{lang: lang, src: src, used: map[string]bool{}}
	root, ok := c.parse()
	if !ok {
		return nil, false
	}
	return c.cases(root, negate)
}

func (c *compiler[E]) cases(n ast.Node, negate bool) (cases, bool) {
	switch n := n.(type) {
	case *ast.UnaryNode:
		if n.Operator == "not" || n.Operator == "!" {
			return c.cases(n.Node, !negate)
		}
	case *ast.BinaryNode:
		switch n.Operator {
		case "and", "&&":
			return c.join(n, negate, negate)
		case "or", "||":
			return c.join(n, negate, !negate)
		case "in":
			if bounds, ok := n.Right.(*ast.BinaryNode); ok && bounds.Operator == ".." {
				return c.between(n, bounds, negate)
			}
		}
	}
	return cases{{c.statement(n, negate)}}, true
}

// join joins the cases of two operands: either of them, or both at once.
func (c *compiler[E]) join(n *ast.BinaryNode, negate, either bool) (cases, bool) {
	a, ok := c.cases(n.Left, negate)
	b, ok2 := c.cases(n.Right, negate)
	if !ok || !ok2 {
		return nil, false
	}
	if either {
		return append(a, b...), len(a)+len(b) <= maxCases
	}
	if len(a)*len(b) > maxCases {
		return nil, false
	}
	var out cases
	for _, x := range a {
		for _, y := range b {
			out = append(out, slices.Concat(x, y))
		}
	}
	return out, true
}

// between is x in 1..5.
func (c *compiler[E]) between(n, bounds *ast.BinaryNode, negate bool) (cases, bool) {
	low, high := c.statement(n, false), c.statement(n, false)
	low.about, high.about = n.Left.String(), n.Left.String()
	low.op, low.number, low.whole = ">=", c.number(bounds.Left), true
	high.op, high.number, high.whole = "<=", c.number(bounds.Right), true
	if low.number == nil || high.number == nil {
		return cases{{c.statement(n, negate)}}, true
	}
	if negate {
		return cases{{low.not()}, {high.not()}}, true
	}
	return cases{{low, high}}, true
}

// statement makes one of a clause.
func (c *compiler[E]) statement(n ast.Node, negate bool) statement {
	reading := &compiler[E]{lang: c.lang, src: c.src, used: map[string]bool{}}
	reading.term(n)
	s := statement{about: n.String(), span: c.span(n)}
	s.text = strings.Join(strings.Fields(string([]rune(c.src.text)[s.span.from:s.span.to])), " ")
	for name := range reading.used {
		s.names = append(s.names, name)
	}
	slices.Sort(s.names)
	if b, ok := n.(*ast.BinaryNode); ok {
		c.compared(b, &s)
	}
	if negate {
		return s.not()
	}
	return s
}

// compared fills in what a comparison with a constant says.
func (c *compiler[E]) compared(n *ast.BinaryNode, s *statement) {
	if n.Operator == "in" {
		members, ok := n.Right.(*ast.ArrayNode)
		if !ok {
			return
		}
		var among []string
		for _, m := range members.Nodes {
			word, ok := m.(*ast.StringNode)
			if !ok {
				return
			}
			among = append(among, word.Value)
		}
		s.about, s.words, s.among = n.Left.String(), true, among
		return
	}
	op, left, right := n.Operator, n.Left, n.Right
	if _, ok := mirrored[op]; !ok {
		return
	}
	if c.isConstant(left) {
		left, right, op = right, left, mirrored[op]
	}
	if word, ok := right.(*ast.StringNode); ok && (op == "==" || op == "!=") {
		s.about, s.words, s.among, s.negated = left.String(), true, []string{word.Value}, op == "!="
		return
	}
	of := c.quiet(left)
	if !of.number() {
		return
	}
	number := c.number(right)
	if number == nil {
		return
	}
	s.about, s.op, s.number = left.String(), op, number
	s.whole = of.kind == integer && number.IsInt()
	s.closed()
}

// closed writes that a whole number is more than 4 as that it is at least 5.
func (s *statement) closed() {
	switch {
	case s.whole && s.op == ">":
		s.op, s.number = ">=", new(big.Rat).Add(s.number, big.NewRat(1, 1))
	case s.whole && s.op == "<":
		s.op, s.number = "<=", new(big.Rat).Sub(s.number, big.NewRat(1, 1))
	}
}

// quiet compiles a part of a condition that has compiled as a whole.
func (c *compiler[E]) quiet(n ast.Node) term[E] {
	return (&compiler[E]{lang: c.lang, src: c.src, used: map[string]bool{}}).term(n)
}

func (c *compiler[E]) isConstant(n ast.Node) bool { return c.quiet(n).constant }

// number is a constant number, money in minor units of the base currency; nil
// where it is none.
func (c *compiler[E]) number(n ast.Node) *big.Rat {
	t := c.quiet(n)
	if !t.constant {
		return nil
	}
	switch t.kind {
	case integer:
		v, _ := t.integer(nil)
		return new(big.Rat).SetInt64(v)
	case float:
		v, _ := t.float(nil)
		return new(big.Rat).SetFloat64(v)
	}
	return nil
}

// not is the statement that holds where this one is false.
func (s statement) not() statement {
	if s.op == "" {
		if s.negated = !s.negated; !s.words {
			s.text = "not " + s.text
		}
		return s
	}
	s.op = map[string]string{"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}[s.op]
	s.closed()
	return s
}

// implies tells whether another statement holds whenever this one does.
func (s statement) implies(t statement) bool {
	if !t.negated && t.op == "" && !t.words && t.about == "has("+s.about+")" {
		return s.op != "" || s.words // a comparison with what is absent is unknown
	}
	if s.about != t.about {
		return false
	}
	switch {
	case s.op != "" && t.op != "":
		return s.impliesNumber(t)
	case s.words && t.words:
		return s.impliesWords(t)
	}
	return s.op == t.op && s.words == t.words && s.negated == t.negated
}

func (s statement) impliesNumber(t statement) bool {
	order := s.number.Cmp(t.number)
	switch s.op {
	case "==":
		return holds(t.op, order)
	case "!=":
		return t.op == "!=" && order == 0
	case ">=":
		return t.op == ">=" && order >= 0 || (t.op == ">" || t.op == "!=") && order > 0
	case ">":
		return (t.op == ">=" || t.op == ">" || t.op == "!=") && order >= 0
	case "<=":
		return t.op == "<=" && order <= 0 || (t.op == "<" || t.op == "!=") && order < 0
	}
	return (t.op == "<=" || t.op == "<" || t.op == "!=") && order <= 0
}

// holds tells whether a comparison holds between two numbers in an order.
func holds(op string, order int) bool { return compareWhole(op, int64(order), 0) }

func (s statement) impliesWords(t statement) bool {
	in := func(of []string) func(string) bool {
		return func(word string) bool { return !slices.Contains(of, word) }
	}
	switch {
	case !s.negated && !t.negated:
		return !slices.ContainsFunc(s.among, in(t.among))
	case !s.negated:
		return !slices.ContainsFunc(s.among, func(word string) bool { return slices.Contains(t.among, word) })
	case t.negated:
		return !slices.ContainsFunc(t.among, in(s.among))
	}
	return false
}

// excludes tells whether two statements can never hold together.
func (s statement) excludes(t statement) bool { return s.implies(t.not()) || t.implies(s.not()) }

// clash finds the first two of some statements that exclude each other.
func clash(all []statement) (a, b statement, found bool) {
	for j := range all {
		for i := range all[:j] {
			if all[i].excludes(all[j]) {
				return all[i], all[j], true
			}
		}
	}
	return a, b, false
}

// imply tells whether one of some cases holds whenever one of these does.
func (cs cases) imply(others cases) bool {
	if len(cs) == 0 || len(others) == 0 {
		return false
	}
	for _, one := range cs {
		if !slices.ContainsFunc(others, func(other []statement) bool {
			return !slices.ContainsFunc(other, func(t statement) bool {
				return !slices.ContainsFunc(one, func(s statement) bool { return s.implies(t) })
			})
		}) {
			return false
		}
	}
	return true
}

// statements are what applies_to says.
func (a *AppliesTo) statements() (out []statement) {
	if len(a.Types) > 0 {
		var names []string
		for _, t := range a.Types {
			names = append(names, t.String())
		}
		out = append(out, statement{text: "applies_to type " + join(names), about: "type", words: true, among: names})
	}
	if len(a.Channels) > 0 {
		out = append(out, statement{text: "applies_to channel " + join(a.Channels), about: "channel", words: true, among: a.Channels})
	}
	return out
}

// within adds statements to every case.
func (cs cases) within(all []statement) cases {
	out := make(cases, len(cs))
	for i, one := range cs {
		out[i] = slices.Concat(all, one)
	}
	return out
}

// canHold reports parts of a condition that exclude each other, so that a case of
// it, or all of it, never comes; and a condition that is true whatever comes. A part
// is reported where it has no case left.
func (f *ruleFiles) canHold(src scalar, applies *AppliesTo) bool {
	when, ok := casesOf(f.lang, src, false)
	if !ok {
		return true
	}
	alive := map[span]bool{}
	for _, one := range when.within(applies.statements()) {
		if _, _, dead := clash(one); !dead {
			for _, s := range one {
				alive[s.span] = true
			}
		}
	}
	for _, one := range when.within(applies.statements()) {
		a, b, dead := clash(one)
		if !dead || alive[b.span] && alive[a.span] {
			continue
		}
		src.suggest(src.at(b.span), "", "this never holds together with %s", a.text)
		return false
	}
	unless, ok := casesOf(f.lang, src, true)
	if !ok {
		return true
	}
	for _, one := range unless {
		if _, _, dead := clash(one); !dead {
			return true
		}
	}
	src.suggest(src.at(span{0, len([]rune(strings.TrimRight(src.text, " \n")))}), "", "the condition is always true, or unknown: whatever one part leaves out, another lets in")
	return false
}
