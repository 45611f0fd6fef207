package rules

import (
	"cmp"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/parser"
)

// Two conditions are held against each other clause by clause. What is said of
// the direction is right for every payment: and and or, and moved thresholds, can
// only make a condition true for more payments, or only for fewer, and that holds
// with unknown values as well. Where it cannot be told, nothing is said.

// direction is how a condition moves.
type direction int

const (
	fewer direction = -1 // true for no other payments than before, and for some no longer
	moved direction = 0
	more  direction = 1 // true for all payments as before, and for others
)

// conditionChange is one difference of two conditions.
type conditionChange struct {
	from, to string
	text     string
	way      direction
}

// condition notes what is written otherwise in a condition; effects are the
// words for fewer and for more.
func (d *differ) condition(c Change, key, from, to string, effects [2]string) {
	for _, one := range conditionChanges(from, to) {
		c.Key, c.From, c.To, c.Effect = key, one.from, one.to, ""
		switch one.way {
		case fewer:
			c.Effect = effects[0]
		case more:
			c.Effect = effects[1]
		}
		text := one.text
		if key != "when" {
			text = key + ": " + text
		}
		d.say(c, "%s", text)
	}
}

// conditionChanges tells what is written otherwise; nothing where both have the
// same clauses. An empty one is no condition: always true.
func conditionChanges(from, to string) []conditionChange {
	from, to = strings.TrimSpace(from), strings.TrimSpace(to)
	switch {
	case from == to:
		return nil
	case from == "":
		return []conditionChange{{"", oneLine(to), "now only where " + oneLine(to), fewer}}
	case to == "":
		return []conditionChange{{oneLine(from), "", "no longer only where " + oneLine(from), more}}
	}
	a, okA := partsOf(from)
	b, okB := partsOf(to)
	if okA && okB {
		if a.key == b.key {
			return nil
		}
		if found, ok := a.to(b); ok && len(found) > 0 {
			return found
		}
	}
	return []conditionChange{{oneLine(from), oneLine(to), "from " + oneLine(from) + " to " + oneLine(to), moved}}
}

// part is a condition as and and or join it: a clause, or a group of parts.
type part struct {
	op    string // and, or; "" of a clause
	parts []part
	node  ast.Node
	text  string // as written, on one line
	key   string // equal for parts that mean the same as far as it is seen
	src   *sourceText
}

// sourceText is a condition that has loaded before.
type sourceText struct{ compiler[facts] }

// of is the text of a node as it is written. Parentheses at its ends are in no
// span: where that leaves some without their other half, all are put anew.
func (s *sourceText) of(n ast.Node) string {
	at := s.span(n)
	text := oneLine(string([]rune(s.src.text)[at.from:at.to]))
	if strings.Count(text, "(") != strings.Count(text, ")") {
		return n.String()
	}
	return text
}

// partsOf reads a condition; false if it cannot be read.
func partsOf(text string) (part, bool) {
	tree, err := parser.ParseWithConfig(text, conf.CreateNew())
	if err != nil {
		return part{}, false
	}
	src := &sourceText{compiler[facts]{src: scalar{text: text, whole: text}}}
	return src.part(tree.Node), true
}

// whole is the text of a part, a group in parentheses.
func (p part) whole() string {
	if p.op == "" {
		return p.text
	}
	return "(" + p.text + ")"
}

// joinWords are the operators that make groups, in one spelling.
var joinWords = map[string]string{"and": "and", "&&": "and", "or": "or", "||": "or"}

func (s *sourceText) part(n ast.Node) part {
	b, ok := n.(*ast.BinaryNode)
	if !ok || joinWords[b.Operator] == "" {
		return part{node: n, text: s.of(n), key: spelled(n), src: s}
	}
	p := part{op: joinWords[b.Operator], node: n, text: s.of(n), src: s}
	for _, side := range []ast.Node{b.Left, b.Right} {
		one := s.part(side)
		if one.op == p.op {
			p.parts = append(p.parts, one.parts...)
		} else {
			p.parts = append(p.parts, one)
		}
	}
	p.key = groupKey(b)
	return p
}

// spelled is a node in one spelling: operators by their words, the space between
// tokens, and the order of and and or, do not matter.
func spelled(n ast.Node) string {
	switch n := n.(type) {
	case *ast.UnaryNode:
		if n.Operator == "not" || n.Operator == "!" {
			return "not (" + spelled(n.Node) + ")"
		}
	case *ast.BinaryNode:
		if joinWords[n.Operator] != "" {
			return groupKey(n)
		}
		if n.Operator == "not in" {
			return "not (" + spelled(n.Left) + " in " + spelled(n.Right) + ")"
		}
		if left, right, op := comparedSides(n); mirrored[op] != "" {
			return "(" + spelledSide(left) + " " + op + " " + spelledSide(right) + ")"
		}
		return "(" + spelled(n.Left) + " " + n.Operator + " " + spelled(n.Right) + ")"
	}
	return n.String()
}

// comparedSides are those of a comparison, a constant one on the right.
func comparedSides(n *ast.BinaryNode) (left, right ast.Node, op string) {
	if mirrored[n.Operator] != "" && constantOf(n.Left).ok {
		return n.Right, n.Left, mirrored[n.Operator]
	}
	return n.Left, n.Right, n.Operator
}

// spelledSide is one side of a comparison: 1_000 and 1000.0 are the same number.
func spelledSide(n ast.Node) string {
	if c := constantOf(n); c.ok {
		return c.unit + "(" + c.value.RatString() + ")"
	}
	return spelled(n)
}

// groupKey spells a group: its members in order, each once.
func groupKey(n *ast.BinaryNode) string {
	op := joinWords[n.Operator]
	var keys []string
	var walk func(ast.Node)
	walk = func(n ast.Node) {
		if b, ok := n.(*ast.BinaryNode); ok && joinWords[b.Operator] == op {
			walk(b.Left)
			walk(b.Right)
			return
		}
		keys = append(keys, spelled(n))
	}
	walk(n)
	slices.Sort(keys)
	return "(" + strings.Join(slices.Compact(keys), " "+op+" ") + ")"
}

// as is a part as a group of an operator: a clause, or another group, as its only
// member.
func (p part) as(op string) part {
	if p.op == op {
		return p
	}
	return part{op: op, parts: []part{p}, node: p.node, text: p.text, key: p.key, src: p.src}
}

// to says what becomes of one part in another; false where they have too little
// in common.
func (p part) to(q part) ([]conditionChange, bool) {
	switch {
	case p.key == q.key:
		return nil, true
	case p.op == "" && q.op == "":
		return p.clauseTo(q)
	case p.op != "" && q.op != "" && p.op != q.op:
		if sameParts(p, q) {
			way := more
			if q.op == "and" {
				way = fewer
			}
			return []conditionChange{{p.text, q.text, p.op + " becomes " + q.op + ": " + p.text + " becomes " + q.text, way}}, true
		}
		// One may stand inside the other: a and b, and then (a and b) or c.
		if found, ok := p.as(q.op).groupTo(q); ok {
			return found, true
		}
		return p.groupTo(q.as(p.op))
	}
	op := cmp.Or(p.op, q.op)
	return p.as(op).groupTo(q.as(op))
}

func sameParts(p, q part) bool {
	keys := func(p part) (out []string) {
		for _, one := range p.parts {
			out = append(out, one.key)
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(keys(p), keys(q))
}

// groupTo compares the members of two groups of one operator. It is false where
// no member has anything in common with one of the other.
func (p part) groupTo(q part) (out []conditionChange, alike bool) {
	gone, come := slices.Clone(p.parts), slices.Clone(q.parts)
	gone = slices.DeleteFunc(gone, func(a part) bool {
		i := slices.IndexFunc(come, func(b part) bool { return a.key == b.key })
		if i >= 0 {
			come, alike = slices.Delete(come, i, i+1), true
		}
		return i >= 0
	})
	for _, similar := range []func(a, b part) bool{sameFrame, sameSubject} {
		gone = slices.DeleteFunc(gone, func(a part) bool {
			for i, b := range come {
				if !similar(a, b) {
					continue
				}
				if found, ok := a.to(b); ok {
					out, alike = append(out, found...), true
					come = slices.Delete(come, i, i+1)
					return true
				}
			}
			return false
		})
	}
	onRemoval := more
	if p.op == "or" {
		onRemoval = fewer
	}
	for _, a := range gone {
		out = append(out, conditionChange{a.text, "", "clause removed: " + p.op + " " + a.whole(), onRemoval})
	}
	for _, b := range come {
		out = append(out, conditionChange{"", b.text, "clause added: " + q.op + " " + b.whole(), -onRemoval})
	}
	return out, alike
}

var (
	constantPattern   = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|\b[0-9][0-9._e+]*\b`)
	comparisonPattern = regexp.MustCompile(` (?:==|!=|<=|>=|<|>) `)
)

// sameFrame tells whether two parts differ in numbers, texts and comparisons at
// most, or are groups that share a member.
func sameFrame(a, b part) bool {
	if a.op != "" || b.op != "" {
		return a.op == b.op && slices.ContainsFunc(a.parts, func(x part) bool {
			return slices.ContainsFunc(b.parts, func(y part) bool { return x.key == y.key || x.op == "" && y.op == "" && sameFrame(x, y) })
		})
	}
	frame := func(p part) string {
		s := constantPattern.ReplaceAllString(p.key, "_")
		return comparisonPattern.ReplaceAllString(s, " ~ ")
	}
	return frame(a) == frame(b)
}

// sameSubject tells whether two clauses look at the same thing first.
func sameSubject(a, b part) bool {
	if a.op != "" || b.op != "" {
		return false
	}
	x, y := mentionsIn(a.node).names, mentionsIn(b.node).names
	if len(x) == 0 || len(y) == 0 {
		return false
	}
	return slices.ContainsFunc(x, func(name string) bool { return slices.Contains(y, name) }) || withoutWindow(x[0]) == withoutWindow(y[0])
}

// withoutWindow is card.attempts of card.attempts_10m.
func withoutWindow(name string) string {
	if i := strings.LastIndexByte(name, '_'); i > 0 && strings.Contains(name, ".") {
		return name[:i]
	}
	return name
}

// clauseTo says what becomes of one clause in another.
func (p part) clauseTo(q part) ([]conditionChange, bool) {
	a, notA := inverted(p.node)
	b, notB := inverted(q.node)
	if notA && notB {
		inner, ok := p.src.part(a).to(q.src.part(b))
		for i := range inner {
			inner[i].way = -inner[i].way
			inner[i].text = "within not: " + inner[i].text
		}
		return inner, ok
	}
	way := moved
	if x, ok := comparisonOf(p.src, a); ok && !notA && !notB {
		if y, ok := comparisonOf(q.src, b); ok && x.subject == y.subject {
			if way = x.wayTo(y); x.op == y.op && x.number.ok && y.number.ok && x.op != "==" && x.op != "!=" {
				return []conditionChange{{x.value, y.value, "threshold of " + x.subject + " from " + x.value + " to " + y.value, way}}, true
			}
		}
	}
	if x, ok := membershipOf(p.src, a); ok && !notA && !notB {
		if y, ok := membershipOf(q.src, b); ok && x.subject == y.subject {
			return x.to(y, p, q), true
		}
	}
	return []conditionChange{{p.text, q.text, p.text + " becomes " + q.text, way}}, true
}

// inverted takes not off a clause.
func inverted(n ast.Node) (ast.Node, bool) {
	if u, ok := n.(*ast.UnaryNode); ok && (u.Operator == "not" || u.Operator == "!") {
		return u.Node, true
	}
	if b, ok := n.(*ast.BinaryNode); ok && b.Operator == "not in" {
		in := &ast.BinaryNode{Operator: "in", Left: b.Left, Right: b.Right}
		in.SetLocation(b.Location())
		return in, true
	}
	return n, false
}

// comparison is a clause such as card.attempts_10m >= 5, its constant on the right.
type comparison struct {
	subject, op, value string
	number             constantNumber
}

func comparisonOf(src *sourceText, n ast.Node) (comparison, bool) {
	b, ok := n.(*ast.BinaryNode)
	if !ok || mirrored[b.Operator] == "" {
		return comparison{}, false
	}
	left, right, op := comparedSides(b)
	return comparison{src.of(left), op, src.of(right), constantOf(right)}, true
}

// wayTo tells how a comparison moves to another one of the same subject.
func (x comparison) wayTo(y comparison) direction {
	if !x.number.ok || !y.number.ok || x.number.unit != y.number.unit {
		if x.value == y.value {
			return opWay(x.op, y.op, 0)
		}
		return moved
	}
	return opWay(x.op, y.op, y.number.value.Cmp(x.number.value))
}

// opWay tells how a comparison moves from one operator to another while its
// number falls, stays or rises (-1, 0, 1).
func opWay(from, to string, number int) direction {
	upper, strictFrom, okFrom := bound(from)
	upperTo, strictTo, okTo := bound(to)
	switch {
	case okFrom && okTo && upper == upperTo:
		if upper {
			number = -number
		}
		if number == 0 { // from now on, the rest is for lower bounds
			number = strictTo - strictFrom
		}
		return direction(-number)
	case number != 0:
		return moved
	case from == "==" && (okTo && strictTo == 0):
		return more
	case to == "==" && (okFrom && strictFrom == 0):
		return fewer
	case from == "!=" && okTo && strictTo == 1:
		return fewer
	case to == "!=" && okFrom && strictFrom == 1:
		return more
	}
	return moved
}

// bound tells whether an operator bounds from above, and whether it leaves the
// number itself out (1) or not (0); false for == and !=.
func bound(op string) (upper bool, strict int, ok bool) {
	switch op {
	case "<":
		return true, 1, true
	case "<=":
		return true, 0, true
	case ">":
		return false, 1, true
	case ">=":
		return false, 0, true
	}
	return false, 0, false
}

// constantNumber is a number or an amount that a condition has as such.
type constantNumber struct {
	unit  string // a currency, or "" of a plain number
	value *big.Rat
	ok    bool
}

// constantOf computes what is written with numbers alone.
func constantOf(n ast.Node) constantNumber {
	switch n := n.(type) {
	case *ast.IntegerNode:
		return constantNumber{"", new(big.Rat).SetInt64(int64(n.Value)), true}
	case *ast.FloatNode:
		v, ok := new(big.Rat).SetString(strconv.FormatFloat(n.Value, 'g', -1, 64))
		return constantNumber{"", v, ok}
	case *ast.UnaryNode:
		if v := constantOf(n.Node); v.ok && n.Operator == "-" {
			return constantNumber{v.unit, v.value.Neg(v.value), true}
		}
	case *ast.CallNode:
		if name, ok := n.Callee.(*ast.IdentifierNode); ok && len(n.Arguments) == 1 && len(name.Value) == 3 && strings.ToUpper(name.Value) == name.Value {
			v := constantOf(n.Arguments[0])
			return constantNumber{name.Value, v.value, v.ok}
		}
	case *ast.BinaryNode:
		a, b := constantOf(n.Left), constantOf(n.Right)
		if !a.ok || !b.ok {
			break
		}
		v, plain := new(big.Rat), a.unit == "" && b.unit == ""
		switch {
		case n.Operator == "*" && (a.unit == "" || b.unit == ""):
			return constantNumber{a.unit + b.unit, v.Mul(a.value, b.value), true}
		case n.Operator == "+" && a.unit == b.unit:
			return constantNumber{a.unit, v.Add(a.value, b.value), true}
		case n.Operator == "-" && a.unit == b.unit:
			return constantNumber{a.unit, v.Sub(a.value, b.value), true}
		case n.Operator == "/" && plain && b.value.Sign() != 0:
			return constantNumber{"", v.Quo(a.value, b.value), true}
		}
	}
	return constantNumber{}
}

// membership is a clause such as channel in ["qr", "web"], or hour in 0..5.
type membership struct {
	subject   string
	members   []string // as written; nil of a range
	low, high constantNumber
}

func membershipOf(src *sourceText, n ast.Node) (membership, bool) {
	b, ok := n.(*ast.BinaryNode)
	if !ok || b.Operator != "in" {
		return membership{}, false
	}
	m := membership{subject: src.of(b.Left)}
	switch right := b.Right.(type) {
	case *ast.ArrayNode:
		m.members = []string{}
		for _, one := range right.Nodes {
			m.members = append(m.members, one.String())
		}
		return m, true
	case *ast.BinaryNode:
		if right.Operator == ".." {
			m.low, m.high = constantOf(right.Left), constantOf(right.Right)
			return m, m.low.ok && m.high.ok
		}
	}
	return membership{}, false
}

// to says what becomes of a membership in another one of the same subject.
func (x membership) to(y membership, p, q part) []conditionChange {
	if x.members == nil || y.members == nil {
		way := moved
		if x.members == nil && y.members == nil {
			low, high := y.low.value.Cmp(x.low.value), y.high.value.Cmp(x.high.value)
			switch {
			case low <= 0 && high >= 0:
				way = more
			case low >= 0 && high <= 0:
				way = fewer
			}
		}
		return []conditionChange{{p.text, q.text, p.text + " becomes " + q.text, way}}
	}
	var out []conditionChange
	if gone := missing(x.members, y.members); len(gone) > 0 {
		out = append(out, conditionChange{join(gone), "", join(gone) + " no longer among the values of " + x.subject, fewer})
	}
	if come := missing(y.members, x.members); len(come) > 0 {
		out = append(out, conditionChange{"", join(come), join(come) + " now among the values of " + x.subject, more})
	}
	return out
}

// mentions are what an expression looks at.
type mentions struct {
	names     []string // of fields and features, in the order of the text
	lists     []string // that it asks
	countries bool     // it asks country_of
}

// mentionsOf reads an expression that has loaded.
func mentionsOf(text string) mentions {
	tree, err := parser.ParseWithConfig(text, conf.CreateNew())
	if err != nil {
		return mentions{}
	}
	return mentionsIn(tree.Node)
}

func mentionsIn(n ast.Node) mentions {
	var m mentions
	m.add(n)
	return m
}

// add notes what one node looks at, and the nodes in it.
func (m *mentions) add(n ast.Node) {
	switch n := n.(type) {
	case *ast.IdentifierNode, *ast.MemberNode:
		if name, ok := dotted(n); ok && !slices.Contains(m.names, name) {
			m.names = append(m.names, name)
		}
	case *ast.UnaryNode:
		m.add(n.Node)
	case *ast.BinaryNode:
		m.add(n.Left)
		m.add(n.Right)
	case *ast.ConditionalNode:
		m.add(n.Cond)
		m.add(n.Exp1)
		m.add(n.Exp2)
	case *ast.ArrayNode:
		m.addAll(n.Nodes)
	case *ast.BuiltinNode:
		m.addAll(n.Arguments)
	case *ast.CallNode:
		m.addAll(n.Arguments)
		callee, _ := n.Callee.(*ast.IdentifierNode)
		switch {
		case callee == nil:
		case callee.Value == "country_of":
			m.countries = true
		case callee.Value == "in_list" && len(n.Arguments) == 2:
			if name, ok := n.Arguments[1].(*ast.StringNode); ok && !slices.Contains(m.lists, name.Value) {
				m.lists = append(m.lists, name.Value)
			}
		}
	}
}

func (m *mentions) addAll(nodes []ast.Node) {
	for _, n := range nodes {
		m.add(n)
	}
}
