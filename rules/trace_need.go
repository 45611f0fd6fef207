package rules

import (
	"fmt"
	"math"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// opposite is the operator that is true where another is false, and nothing is absent.
var opposite = map[string]string{"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}

// needWords say what a side of a comparison would have to be.
var needWords = map[string]string{"==": "", "!=": "anything but ", "<": "less than ", "<=": "at most ", ">": "more than ", ">=": "at least "}

// need returns what says, of a leaf that came out otherwise than wanted, what it
// was and what it needs, and how far it is from that: 0 is at, 1 is far, or has
// no measure.
func (t *tracing) need(n ast.Node, wanted bool) func(*facts) (string, float64) {
	text := t.written(t.balanced(t.span(n)))
	plain := func(*facts) (string, float64) { return fmt.Sprintf("%s was %t", text, !wanted), 1 }
	if name, arguments, ok := called(n); ok {
		switch name {
		case "in_list":
			return t.needList(arguments, wanted)
		case "has":
			return t.needPresence(arguments[0], wanted)
		case "time_between":
			from, to := arguments[0].(*ast.StringNode).Value, arguments[1].(*ast.StringNode).Value
			if !wanted {
				from, to = to, from
			}
			now := t.localTime(arguments)
			return func(f *facts) (string, float64) {
				return fmt.Sprintf("local time was %s, needs from %s until before %s", now(f), from, to), 1
			}
		}
		return plain
	}
	b, ok := n.(*ast.BinaryNode)
	if !ok {
		return plain
	}
	switch b.Operator {
	case "==", "!=", "<", "<=", ">", ">=":
		return t.needComparison(b, wanted, plain)
	case "in":
		return t.needMember(b, wanted)
	case "contains", "startsWith", "endsWith", "matches":
		words := map[string]string{"contains": "contain", "startsWith": "start with", "endsWith": "end with", "matches": "match"}[b.Operator]
		if !wanted {
			words = "not " + words
		}
		return t.was(b.Left, "to "+words+" "+t.textOf(b.Right))
	}
	return plain
}

// was says what a text was, and what it needs.
func (t *tracing) was(n ast.Node, needs string) func(*facts) (string, float64) {
	subject, read := t.textOf(n), t.reader(t.term(n), false)
	return func(f *facts) (string, float64) {
		_, shown := read(f)
		return fmt.Sprintf("%s was %s, needs %s", subject, shown, needs), 1
	}
}

func (t *tracing) textOf(n ast.Node) string { return t.written(t.balanced(t.span(n))) }

func (t *tracing) needList(arguments []ast.Node, wanted bool) func(*facts) (string, float64) {
	l, field := t.listOf(arguments), t.listField(arguments[0])
	read := t.reader(field, false)
	return func(f *facts) (string, float64) {
		_, shown := read(f)
		if wanted {
			return fmt.Sprintf("%s was %s, which is not on the list %s", field.name, shown, l.name), 1
		}
		return fmt.Sprintf("%s was %s, which is on the list %s", field.name, shown, l.name), 1
	}
}

func (t *tracing) needPresence(n ast.Node, wanted bool) func(*facts) (string, float64) {
	name, read := t.textOf(n), t.reader(t.term(n), false)
	return func(f *facts) (string, float64) {
		if wanted {
			return name + " was absent, needs to be there", 1
		}
		_, shown := read(f)
		return fmt.Sprintf("%s was %s, needs to be absent", name, shown), 1
	}
}

// needComparison says which value stood against which.
func (t *tracing) needComparison(n *ast.BinaryNode, wanted bool, plain func(*facts) (string, float64)) func(*facts) (string, float64) {
	left, right, op := n.Left, n.Right, n.Operator
	a, b := t.term(left), t.term(right)
	if a.kind == truth || a.kind == identifier || b.kind == identifier {
		return plain
	}
	if a.constant && !b.constant {
		left, right, op = right, left, mirrored[op]
		a, b = b, a
	}
	if !wanted {
		op = opposite[op]
	}
	subject, against := t.textOf(left), ""
	if !b.constant {
		against = " (" + t.textOf(right) + ")"
	}
	seconds := t.inSeconds(left)
	readA, readB := t.reader(a, seconds), t.reader(b, t.inSeconds(right))
	if seconds && b.number() {
		number := b.asFloat()
		readB = func(f *facts) (payment.Value, string) {
			x, _ := number(f)
			return payment.FloatValue(x), lasting(x)
		}
	} else if a.kind == original {
		readB = func(*facts) (payment.Value, string) {
			return payment.IntValue(b.literal.minor), string(appendMoney(nil, b.literal.currency, b.literal.minor))
		}
	} else if b.kind == text && b.constant {
		readB = quoted(readB)
	}
	return func(f *facts) (string, float64) {
		va, shown := readA(f)
		vb, limit := readB(f)
		return fmt.Sprintf("%s was %s, needs %s%s%s", subject, shown, needWords[op], limit, against), gapOf(va, vb)
	}
}

func quoted(read func(*facts) (payment.Value, string)) func(*facts) (payment.Value, string) {
	return func(f *facts) (payment.Value, string) {
		v, shown := read(f)
		return v, fmt.Sprintf("%q", shown)
	}
}

// inSeconds tells whether an operand is a length of time by itself.
func (t *tracing) inSeconds(n ast.Node) bool {
	if name, _, ok := called(n); ok {
		return name == "reach"
	}
	name, ok := dotted(n)
	for i := range t.set.features {
		if ok && t.set.features[i].FullName() == name {
			return inSeconds(&t.set.features[i])
		}
	}
	return false
}

// gapOf is how far two numbers are apart as a share of the larger one, up to 1.
func gapOf(a, b payment.Value) float64 {
	x, ok := numberOf(a)
	y, ok2 := numberOf(b)
	if !ok || !ok2 {
		return 1
	}
	if x == y {
		return 0
	}
	return min(1, math.Abs(x-y)/max(math.Abs(x), math.Abs(y)))
}

// needMember says what stood outside a list or a range, or inside it.
func (t *tracing) needMember(n *ast.BinaryNode, wanted bool) func(*facts) (string, float64) {
	words := "one of "
	if !wanted {
		words = "none of "
	}
	if r, ok := n.Right.(*ast.BinaryNode); ok && r.Operator == ".." {
		words = ""
		if !wanted {
			words = "to be outside "
		}
		read, low, high := t.term(n.Left).integer, t.term(r.Left).integer, t.term(r.Right).integer
		say := t.was(n.Left, words+strings.Replace(t.textOf(n.Right), "..", " to ", 1))
		return func(f *facts) (string, float64) {
			v, _ := read(f)
			from, _ := low(nil)
			to, _ := high(nil)
			said, _ := say(f)
			return said, min(gapOf(payment.IntValue(v), payment.IntValue(from)), gapOf(payment.IntValue(v), payment.IntValue(to)))
		}
	}
	if list, ok := n.Right.(*ast.ArrayNode); ok {
		members := make([]string, len(list.Nodes))
		for i, m := range list.Nodes {
			members[i] = t.textOf(m)
		}
		return t.was(n.Left, words+join(members))
	}
	return t.was(n.Left, words+t.textOf(n.Right)) // auth.methods
}
