package rules

import (
	"maps"
	"slices"

	"github.com/expr-lang/expr/ast"
)

// listed compiles in_list(payer, "vip").
func (c *compiler[E]) listed(n ast.Node, arguments []ast.Node) term[E] {
	if c.lang.inList == nil {
		return c.problem(c.span(n), "ask in the rule that reads the feature", "lists cannot be asked here: where and share look at one event")
	}
	const usage = `write a field and the name of a list, such as in_list(payer, "vip")`
	name, ok := arguments[1].(*ast.StringNode)
	if !ok {
		return c.problem(c.span(arguments[1]), usage, "in_list needs the name of a list in quotes")
	}
	field := c.listField(arguments[0])
	if field.kind == invalid {
		return field
	}
	l, known := c.lang.lists[name.Value]
	switch {
	case !known:
		return c.problem(c.span(name), didYouMean(name.Value, slices.Collect(maps.Keys(c.lang.lists))), "there is no list %s", name.Value)
	case field.name == "":
		return c.problem(c.span(arguments[0]), usage, "in_list needs the name of a field")
	case field.kind != text:
		return c.problem(c.span(arguments[0]), usage, "in_list needs a field that is text, and this is %s", field.what())
	case l == nil: // its own problem has been reported
		return term[E]{}
	case !l.kind.takes(field.name):
		return c.problem(c.span(arguments[0]), "write "+join(l.kind.fields()), "the list %s is of type %s, and this is %s", l.name, l.kind, field.name)
	}
	c.lang.askedOf[l.name] = true
	c.lang.listsAsked++
	return truthTerm(c.lang.inList(l, field.text))
}

// listField compiles the field of in_list: a name of the language, or a short one.
func (c *compiler[E]) listField(n ast.Node) term[E] {
	if name, ok := dotted(n); ok {
		if t, ok := c.lang.short[name]; ok {
			c.used[t.name] = true
			return t
		}
	}
	return c.term(n)
}

// shortNames are what in_list calls the fields that have a list type of their own.
func shortNames(names map[string]term[facts]) map[string]term[facts] {
	short := map[string]term[facts]{}
	for t := payerList; t < stringList; t++ {
		if of := t.fields(); len(of) == 1 && t != cardList {
			v := names[of[0]]
			v.name = of[0]
			short[t.String()] = v
		}
	}
	card := textTerm(func(f *facts) (string, bool) {
		s := cardOf(f.Tx)
		return s, s != ""
	})
	card.name = "card"
	short["card"] = card
	return short
}
