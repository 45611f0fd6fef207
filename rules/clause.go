package rules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// Clause is the condition of a rule, or one of the parts that and and or join in it.
type Clause struct {
	Rule         string // its id
	Whole        bool   // the condition itself
	Text         string // as written, on one line
	File         string
	Line, Column int      // from 1
	Names        []string // what it looks at, sorted
}

// Probed is a ruleset that tells, with each decision, what every clause of its
// live and shadow rules came to. It asks by shadow rules of its own: a verdict
// cannot be changed by these, and its hash is that of the ruleset.
type Probed struct {
	Rules   *Ruleset
	Clauses []Clause // of each rule the whole condition, then its parts where there are two or more
}

// probeMark begins the id of a probe; no rule's id can.
const probeMark = "?"

// Probed returns the ruleset with its probes.
func (s *Ruleset) Probed() *Probed {
	set, written := assemble(s.files, &report{}) // it has loaded before: there is no problem
	p := &Probed{Rules: set}
	for i := range written.rules {
		r := written.rules[i]
		if r.mode == disabled {
			continue
		}
		p.probe(r, Clause{Whole: true}, written.written[i].when, conditionOf(written.lang, written.written[i].when, nil))
		parts := clausesOf(written.lang, written.written[i].when)
		if len(parts) < 2 {
			continue
		}
		for _, part := range parts {
			p.probe(r, Clause{}, written.written[i].when, part)
		}
	}
	set.live, set.shadow = newIndex(set.rules, live), newIndex(set.rules, shadow)
	return p
}

// probe adds a clause with a shadow rule for each of the truth values.
func (p *Probed) probe(r rule, c Clause, src scalar, part clause) {
	at := src.at(part.span)
	c.Rule, c.File, c.Line, c.Column, c.Names = r.id, at.src.name, at.line, at.column, part.names
	text := src.text // parentheses at its ends are in no span
	if !c.Whole {
		text = string([]rune(src.text)[part.span.from:part.span.to])
	}
	c.Text = strings.Join(strings.Fields(text), " ")
	for _, want := range []window.Truth{window.False, window.True, window.Unknown} {
		p.Rules.rules = append(p.Rules.rules, rule{id: fmt.Sprintf("%s%d %d", probeMark, len(p.Clauses), want), applies: r.applies, mode: shadow,
			when: func(f *facts) window.Truth { return window.TruthOf(part.eval(f) == want) }})
		p.Rules.ids = append(p.Rules.ids, p.Rules.rules[len(p.Rules.rules)-1].id)
	}
	p.Clauses = append(p.Clauses, c)
}

// Seen takes the probes out of a decision, and returns what the clauses came to,
// by index. Those of rules that do not apply to the payment, or that failed, are
// missing.
func (p *Probed) Seen(d *payment.Decision) map[int]window.Truth {
	seen := map[int]window.Truth{}
	d.Shadow = slices.DeleteFunc(d.Shadow, func(r payment.ShadowResult) bool {
		probe, ok := strings.CutPrefix(r.Rule, probeMark)
		if !ok {
			return false
		}
		clause, value, _ := strings.Cut(probe, " ")
		i, err := strconv.Atoi(clause)
		truth, err2 := strconv.Atoi(value)
		if err == nil && err2 == nil {
			seen[i] = window.Truth(truth)
		}
		return true
	})
	return seen
}

// clause is a compiled part of a condition.
type clause struct {
	span  span
	eval  func(*facts) window.Truth
	names []string
}

// clausesOf returns what and and or join in a condition, in the order of the
// text. Constant parts are left out: nothing makes them come out otherwise.
func clausesOf(lang *language[facts], src scalar) (out []clause) {
	root, ok := (&compiler[facts]{lang: lang, src: src, used: map[string]bool{}}).parse()
	if !ok {
		return nil
	}
	var walk func(n ast.Node)
	walk = func(n ast.Node) {
		if b, ok := n.(*ast.BinaryNode); ok && slices.Contains([]string{"and", "&&", "or", "||"}, b.Operator) {
			walk(b.Left)
			walk(b.Right)
			return
		}
		if c := conditionOf(lang, src, n); c.eval != nil {
			out = append(out, c)
		}
	}
	walk(root)
	return out
}

// conditionOf compiles a part of a condition that compiled as a whole, all of it
// for nil. The eval of a constant is nil.
func conditionOf(lang *language[facts], src scalar, n ast.Node) clause {
	c := &compiler[facts]{lang: lang, src: src, used: map[string]bool{}}
	if n == nil {
		n, _ = c.parse()
	}
	t := c.term(n)
	out := clause{span: c.span(n)}
	if !t.constant {
		out.eval = t.truth
	}
	for name := range c.used {
		out.names = append(out.names, name)
	}
	slices.Sort(out.names)
	return out
}
