package rules

import (
	"math"
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// ClauseTruth is what a clause came to.
type ClauseTruth string

// What a clause can come to.
const (
	TruthFalse   ClauseTruth = "false"
	TruthTrue    ClauseTruth = "true"
	TruthUnknown ClauseTruth = "unknown"
	TruthError   ClauseTruth = "error" // a number that does not fit 64 bits
)

// ClauseTrace is what a condition, or a part of it, came to. and, or and not have
// parts; what has none is a comparison, a question to a list, or the like.
type ClauseTrace struct {
	Text     string        `json:"text"` // as written, on one line
	Line     int           `json:"line"` // of the rule's file, from 1
	Column   int           `json:"column"`
	Came     ClauseTruth   `json:"came"`
	Wanted   bool          `json:"wanted"`             // what it would have to be for the whole to be true
	Op       string        `json:"op,omitempty"`       // and, or, not
	Parts    []ClauseTrace `json:"parts,omitempty"`    // of Op
	Operands []Operand     `json:"operands,omitempty"` // what it looked at, where it has no parts
	Entry    *ListHit      `json:"entry,omitempty"`    // of in_list: the entry that was found
	Needs    string        `json:"needs,omitempty"`    // where it is not as wanted: what it was and what it needs
	Gap      float64       `json:"gap,omitempty"`      // how far the value was off, 0 to 1; 1 where that has no measure
}

// Operand is something that a clause looked at.
type Operand struct {
	Text    string        `json:"text"`              // as written: card.attempts_10m, 5 * payer.mean_30d
	Value   payment.Value `json:"value"`             // null where it is absent, or an identifier; money in minor units
	Shown   string        `json:"shown,omitempty"`   // for people
	Feature bool          `json:"feature,omitempty"` // it is one
	Absent  string        `json:"absent,omitempty"`  // why it has no value, in words; "" where it has one
	// Computed tells that it is no name but made of other operands. Where it is absent
	// because one of these is, they say why.
	Computed bool `json:"computed,omitempty"`

	Kind window.Kind `json:"-"` // of an identifier, which Value has as a hash
}

// holds tells whether the clause came out as wanted.
func (c *ClauseTrace) holds() bool {
	return c.Came == TruthTrue && c.Wanted || c.Came == TruthFalse && !c.Wanted
}

// distance is how far the clause is from coming out as wanted.
func (c *ClauseTrace) distance() float64 {
	switch {
	case c.holds():
		return 0
	case len(c.Parts) == 0:
		return 1 + c.Gap
	}
	sum, least := 0.0, math.Inf(1)
	for i := range c.Parts {
		d := c.Parts[i].distance()
		sum, least = sum+d, min(least, d)
	}
	if (c.Op == "or") == c.Wanted && c.Op != "not" {
		return least
	}
	return sum
}

// Missing returns what would have to come out otherwise for the clause to be as
// wanted: of alternatives, the nearest. It is empty where the clause holds.
func (c *ClauseTrace) Missing() []*ClauseTrace {
	switch {
	case c.holds():
		return nil
	case len(c.Parts) == 0:
		return []*ClauseTrace{c}
	}
	if (c.Op == "or") == c.Wanted && c.Op != "not" {
		nearest := &c.Parts[0]
		for i := range c.Parts {
			if c.Parts[i].distance() < nearest.distance() {
				nearest = &c.Parts[i]
			}
		}
		return nearest.Missing()
	}
	var out []*ClauseTrace
	for i := range c.Parts {
		out = append(out, c.Parts[i].Missing()...)
	}
	return out
}

// Leaves returns the clauses without parts, in the order of the text.
func (c *ClauseTrace) Leaves() []*ClauseTrace {
	if len(c.Parts) == 0 {
		return []*ClauseTrace{c}
	}
	var out []*ClauseTrace
	for i := range c.Parts {
		out = append(out, c.Parts[i].Leaves()...)
	}
	return out
}

// tracedClause is a part of a condition, compiled to be traced.
type tracedClause struct {
	text         string
	file         string
	line, column int
	wanted       bool
	op           string
	parts        []tracedClause
	eval         func(*facts) window.Truth
	operands     []func(*facts) Operand
	entry        func(*facts) *ListHit          // of in_list
	need         func(*facts) (string, float64) // asked where the clause is not as wanted
}

// trace evaluates the clause and its parts.
func (t *tracedClause) trace(f *facts) *ClauseTrace {
	out := &ClauseTrace{Text: t.text, Line: t.line, Column: t.column, Wanted: t.wanted, Op: t.op, Came: truthOf(t.eval, f)}
	for i := range t.parts {
		out.Parts = append(out.Parts, *t.parts[i].trace(f))
	}
	for _, read := range t.operands {
		out.Operands = append(out.Operands, read(f))
	}
	blamePart(out.Operands)
	if t.entry != nil {
		out.Entry = t.entry(f)
	}
	if len(t.parts) > 0 || out.holds() {
		return out
	}
	out.Gap = 1
	if out.Came == TruthTrue || out.Came == TruthFalse {
		out.Needs, out.Gap = t.need(f)
	}
	return out
}

// blamePart lets what is computed be absent because of a part that is.
func blamePart(all []Operand) {
	part := slices.ContainsFunc(all, func(o Operand) bool { return !o.Computed && o.Absent != "" })
	for i := range all {
		if o := &all[i]; part && o.Computed && o.Absent != "" {
			o.Absent = partAbsent
		}
	}
}

// partAbsent is why something computed is absent, where a part of it is.
const partAbsent = "a part of it is unknown"

// truthOf evaluates a clause that may fail.
func truthOf(eval func(*facts) window.Truth, f *facts) (came ClauseTruth) {
	defer func() {
		if recover() != nil {
			came = TruthError
		}
	}()
	return [...]ClauseTruth{TruthFalse, TruthTrue, TruthUnknown}[eval(f)]
}

// tracing compiles conditions of a ruleset to be traced.
type tracing struct {
	lang *language[facts]
	set  *Ruleset

	*compiler[facts] // of the present condition
	text             []rune
}

// condition compiles a whole condition.
func (t *tracing) condition(src scalar) tracedClause {
	t.compiler = &compiler[facts]{lang: t.lang, src: src, used: map[string]bool{}}
	t.text = []rune(src.text)
	root, _ := t.parse()
	return t.clause(root, true)
}

// clause compiles a part of a condition; wanted is what it would have to be for
// the whole to be true.
func (t *tracing) clause(n ast.Node, wanted bool) tracedClause {
	part := t.balanced(t.span(n))
	at := t.src.at(part)
	out := tracedClause{text: t.written(part), file: at.src.name, line: at.line, column: at.column, wanted: wanted, eval: t.term(n).truth}
	switch n := n.(type) {
	case *ast.BinaryNode:
		if out.op = joins[n.Operator]; out.op != "" {
			for _, part := range flat(n, out.op) {
				out.parts = append(out.parts, t.clause(part, wanted))
			}
			return out
		}
	case *ast.UnaryNode:
		if t.negatedInside(n) { // x not in [...]: one clause, as it is written
			t.leaf(n.Node, !wanted, &out)
			return out
		}
		out.op, out.parts = "not", []tracedClause{t.clause(n.Node, !wanted)}
		return out
	}
	t.leaf(n, wanted, &out)
	return out
}

// joins are the operators that join conditions.
var joins = map[string]string{"and": "and", "&&": "and", "or": "or", "||": "or"}

// flat returns what one operator joins, however often: a and b and c are three.
func flat(n ast.Node, op string) []ast.Node {
	if b, ok := n.(*ast.BinaryNode); ok && joins[b.Operator] == op {
		return append(flat(b.Left, op), flat(b.Right, op)...)
	}
	return []ast.Node{n}
}

// negatedInside tells whether a not stands behind its operand's left side, as in
// x not in [1, 2].
func (t *tracing) negatedInside(n *ast.UnaryNode) bool {
	b, ok := n.Node.(*ast.BinaryNode)
	return ok && n.Location().From > t.span(b.Left).from
}

// leaf compiles what has no parts.
func (t *tracing) leaf(n ast.Node, wanted bool, out *tracedClause) {
	seen := map[string]bool{}
	t.operands(n, true, func(text string, read func(*facts) Operand) {
		if !seen[text] {
			seen[text] = true
			out.operands = append(out.operands, read)
		}
	})
	out.need = t.need(n, wanted)
	if name, arguments, ok := called(n); ok && name == "in_list" {
		out.entry = t.entryOf(arguments)
	}
}

// called returns the function that a node calls.
func called(n ast.Node) (name string, arguments []ast.Node, ok bool) {
	switch n := n.(type) {
	case *ast.CallNode:
		if callee, ok := n.Callee.(*ast.IdentifierNode); ok {
			return callee.Value, n.Arguments, true
		}
	case *ast.BuiltinNode:
		return n.Name, n.Arguments, true
	}
	return "", nil, false
}

// listOf is the list that in_list asks.
func (t *tracing) listOf(arguments []ast.Node) *namedList {
	return t.lang.lists[arguments[1].(*ast.StringNode).Value]
}

// entryOf finds the entry by which in_list is true.
func (t *tracing) entryOf(arguments []ast.Node) func(*facts) *ListHit {
	l, field := t.listOf(arguments), t.listField(arguments[0])
	return func(f *facts) *ListHit {
		var e *listEntry
		if l.kind == ipList {
			if a := f.Tx.Device.Addr; a.IsValid() {
				e = f.holdsAddr(l, a)
			}
		} else if v, ok := field.text(f); ok {
			e = f.holds(l, v)
		}
		if e == nil {
			return nil
		}
		hit := hitOf(l, e)
		return &hit
	}
}

// written is a part of the condition on one line.
func (t *tracing) written(part span) string {
	return strings.Join(strings.Fields(string(t.text[part.from:part.to])), " ")
}

// balanced adds the parentheses that stand next to a part and close, or open, one
// inside it: they are in no span.
func (t *tracing) balanced(part span) span {
	for {
		open := 0
		unopened := 0
		for _, r := range t.text[part.from:part.to] {
			switch {
			case r == '(':
				open++
			case r == ')' && open > 0:
				open--
			case r == ')':
				unopened++
			}
		}
		from, to := part.from, part.to
		if open > 0 {
			to = t.next(to, 1, ')')
		}
		if unopened > 0 {
			from = t.next(from, -1, '(')
		}
		if from == part.from && to == part.to {
			return part
		}
		part = span{from, to}
	}
}

// next moves a border over blanks and one parenthesis; it stays where there is none.
func (t *tracing) next(border, step int, parenthesis rune) int {
	at := border
	if step < 0 {
		at--
	}
	for ; at >= 0 && at < len(t.text); at += step {
		switch {
		case t.text[at] == parenthesis && step < 0:
			return at
		case t.text[at] == parenthesis:
			return at + 1
		case t.text[at] != ' ' && t.text[at] != '\n':
			return border
		}
	}
	return border
}
