package rules

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// language is what expressions over E can name.
type language[E any] struct {
	names      map[string]term[E]
	attribute  func(name string) term[E]                                       // of attributes.NAME; nil where there are none
	own        func(*E, window.Kind) uint64                                    // the hash of an identifier of the transaction
	short      map[string]term[E]                                              // names that stand in in_list alone: payer, card, ip
	lists      map[string]*namedList                                           // by name, nil for one that has a problem
	inList     func(*namedList, func(*E) (string, bool)) func(*E) window.Truth // nil where lists cannot be asked
	clock      func(*time.Location) func(*E) moment                            // reads the clock of a zone; nil where there is no local time
	zone       *time.Location                                                  // the policy's, nil without one
	asked      map[string]bool                                                 // the names that some expression has looked at
	askedOf    map[string]bool                                                 // the lists that one has asked
	listsAsked int                                                             // so often
	countries  *countries                                                      // of data/; nil where countries cannot be asked
	countryOf  map[string]func(*E) (string, bool)                              // by the name of the field that is asked about
	rates      *rates
}

// condition is a compiled expression that is true, false or unknown.
type condition[E any] struct {
	eval    func(*E) window.Truth // panics when integer arithmetic overflows
	names   []string              // that it looks at, sorted
	canFail bool                  // it has integer arithmetic
}

// compile parses, checks and compiles a condition. Mistakes are reported; false
// when there were any.
//
// expr parses. Its own checker knows neither money nor absence, so the checking
// is done here, on its tree, in the same walk that makes the closures; its
// virtual machine is the oracle for their values in the tests.
func compile[E any](lang *language[E], src scalar) (condition[E], bool) {
	c := &compiler[E]{lang: lang, src: src, used: map[string]bool{}}
	before := len(src.problems)
	root, ok := c.parse()
	if !ok {
		return condition[E]{}, false
	}
	t := c.term(root)
	whole := c.span(root)
	switch {
	case t.kind == invalid:
		return condition[E]{}, false
	case t.kind != truth:
		c.problem(whole, "", "a condition must be true or false, and this is %s", t.what())
	case len(c.used) == 0:
		c.problem(whole, "", "the condition does not look at the transaction: it is always %s", truthWord(t.truth(nil)))
	case t.constant:
		c.problem(whole, "", "the condition is always %s", truthWord(t.truth(nil)))
	}
	if len(src.problems) > before {
		return condition[E]{}, false
	}
	return condition[E]{t.truth, slices.Sorted(maps.Keys(c.used)), c.canFail}, true
}

func truthWord(t window.Truth) string { return [...]string{"false", "true", "unknown"}[t] }

// compiler walks one expression.
type compiler[E any] struct {
	lang    *language[E]
	src     scalar
	used    map[string]bool
	canFail bool
}

func (c *compiler[E]) problem(at span, suggestion, format string, args ...any) term[E] {
	c.src.suggest(c.src.at(at), suggestion, format, args...)
	return term[E]{}
}

// term compiles one node. Constant terms are folded to their value.
func (c *compiler[E]) term(n ast.Node) term[E] {
	switch n := n.(type) {
	case *ast.IntegerNode:
		return constantInteger[E](int64(n.Value))
	case *ast.FloatNode:
		return constantFloat[E](n.Value)
	case *ast.StringNode:
		return constantText[E](n.Value)
	case *ast.BoolNode:
		return constantTruth[E](window.TruthOf(n.Value))
	case *ast.IdentifierNode, *ast.MemberNode:
		return c.named(n)
	case *ast.UnaryNode:
		return c.fold(n, c.unary(n))
	case *ast.BinaryNode:
		return c.fold(n, c.binary(n))
	case *ast.ConditionalNode:
		return c.fold(n, c.conditional(n))
	case *ast.CallNode:
		if callee, ok := n.Callee.(*ast.IdentifierNode); ok {
			return c.fold(n, c.call(n, callee.Value, n.Arguments))
		}
		return c.problem(c.span(n), "", "only functions can be called")
	case *ast.BuiltinNode:
		return c.fold(n, c.call(n, n.Name, n.Arguments))
	case *ast.NilNode:
		return c.problem(c.span(n), "write has(x), not has(x), or x ?? default", "nil is not part of the language: what is absent is unknown")
	case *ast.ArrayNode:
		return c.problem(c.span(n), "", "a list can only stand to the right of in")
	}
	return c.problem(c.span(n), "", "%s not part of the language", unsupported(n))
}

// fold replaces a term over constants by its value. One that is absent, or does
// not fit, is a mistake.
func (c *compiler[E]) fold(n ast.Node, t term[E]) (out term[E]) {
	if t.kind == invalid || !t.constant {
		return t
	}
	defer func() {
		if r := recover(); r != nil {
			out = c.problem(c.span(n), "", "%v", r)
		}
	}()
	ok := true
	switch t.kind {
	case truth:
		v := t.truth(nil)
		t.truth, ok = func(*E) window.Truth { return v }, v != window.Unknown
	case integer:
		var v int64
		v, ok = t.integer(nil)
		t.integer = func(*E) (int64, bool) { return v, true }
	case float:
		var v float64
		v, ok = t.float(nil)
		t.float = func(*E) (float64, bool) { return v, true }
	case text:
		var v string
		v, ok = t.text(nil)
		t.text = func(*E) (string, bool) { return v, true }
	}
	if !ok {
		return c.problem(c.span(n), "", "this is always absent (a division by zero?)")
	}
	return t
}

// named compiles a name: type, card.attempts_10m, attributes.basket_size.
func (c *compiler[E]) named(n ast.Node) term[E] {
	name, ok := dotted(n)
	if !ok {
		return c.problem(c.span(n), "", "only names such as payer.account_id can have a point or brackets")
	}
	t, why := c.lang.lookup(name)
	if why != "" {
		message, suggestion, _ := strings.Cut(why, "\n")
		return c.problem(c.span(n), suggestion, "%s", message)
	}
	if t.kind == invalid { // a feature whose own problem has been reported
		return t
	}
	c.used[name] = true
	return t
}

// dotted returns a name with the names of its members, joined by points.
func dotted(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return n.Value, true
	case *ast.MemberNode:
		property, ok := n.Property.(*ast.StringNode)
		if !ok || n.Optional {
			return "", false
		}
		of, ok := dotted(n.Node)
		return of + "." + property.Value, ok
	}
	return "", false
}

// lookup returns what a name stands for, or else why not: a message, and after
// a line feed a suggestion.
func (l *language[E]) lookup(name string) (term[E], string) {
	if t, ok := l.names[name]; ok {
		t.name = name
		if l.asked != nil {
			l.asked[name] = true
		}
		return t, t.refuse
	}
	if attribute, ok := strings.CutPrefix(name, "attributes."); ok && l.attribute != nil {
		t := l.attribute(attribute)
		t.name = name
		return t, ""
	}
	known := slices.Sorted(maps.Keys(l.names))
	for _, k := range known {
		if strings.HasPrefix(k, name+".") {
			return term[E]{}, fmt.Sprintf("%s is a group of names, not a value\nwrite one of them, such as %s", name, k)
		}
	}
	return term[E]{}, "unknown name " + name + "\n" + didYouMean(name, known)
}
