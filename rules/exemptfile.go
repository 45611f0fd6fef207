package rules

import (
	"maps"
	"slices"
)

// exemptAt is an exempt with the places of what it names, until all rules are read.
type exemptAt struct {
	exempt
	place           place
	src             scalar   // its condition, as written
	names           []string // that the condition looks at
	lists           bool     // it asks a list
	ends            bool     // it says until when
	rulesAt, tagsAt []node
}

// exempt takes one exempt of a file of rules.
func (f *ruleFiles) exempt(n node) {
	before := len(n.problems)
	x := exemptAt{exempt: exempt{until: never}, place: n.place()}
	found := n.object("an exempt",
		field{"id", func(v node) { x.id = f.id(v) }},
		field{"description", func(v node) { v.text("description") }},
		field{"owner", func(v node) { v.text("owner") }},
		field{"when", func(v node) {
			src, ok := v.expression("when")
			if !ok {
				return
			}
			lists := f.lang.listsAsked
			if compiled, ok := compile(f.lang, src); ok && f.canHold(src, &AppliesTo{}) {
				x.when, x.src = compiled.eval, src
				x.names, x.lists = compiled.names, f.lang.listsAsked > lists
			}
		}},
		field{"from", func(v node) { f.exemptFrom(v, &x) }},
		field{"until", func(v node) {
			x.until = v.until("until", f.policy.Location)
			f.dated = append(f.dated, dated{v.place(), "the exempt " + x.id, x.until})
		}},
		field{"why", func(v node) { x.why, _ = v.text("why") }})
	n.needs("an exempt", found, "id", "when", "from")
	if x.ends = found["until"].ast != nil; len(n.problems) == before {
		f.exempts = append(f.exempts, x)
	}
}

func (f *ruleFiles) exemptFrom(n node, x *exemptAt) {
	found := n.object("from",
		field{"rules", func(v node) {
			for _, m := range v.oneOrMore() {
				if id, ok := m.name("a rule", rulePattern, ruleHint); ok {
					x.rules, x.rulesAt = appendNew(m, "rule", x.rules, id), append(x.rulesAt, m)
				}
			}
		}},
		field{"tags", func(v node) {
			x.tags = v.words("a tag")
			x.tagsAt = v.oneOrMore()
		}},
		field{"score", func(v node) { x.score, _ = v.truth("score") }})
	if found != nil && len(x.rules) == 0 && len(x.tags) == 0 && !x.score {
		n.suggest(n.place(), "write from: {rules: [impossible-travel]}", "the exempt names nothing that it switches off")
	}
}

// exemptions ties the exempts to their rules, once all are read.
func (f *ruleFiles) exemptions() []exempt {
	tags := map[string]bool{}
	for _, names := range f.tags {
		for _, t := range names {
			tags[t] = true
		}
	}
	var out []exempt
	for i := range f.exempts {
		x := &f.exempts[i]
		for j, id := range x.rules {
			if _, ok := f.tags[id]; !ok {
				v := x.rulesAt[j]
				v.suggest(v.place(), didYouMean(id, slices.Collect(maps.Keys(f.tags))), "there is no rule %s", id)
			}
		}
		for j, t := range x.tags {
			if v := x.tagsAt[j]; !tags[t] {
				v.suggest(v.place(), didYouMean(t, slices.Collect(maps.Keys(tags))), "no rule has the tag %s", t)
			}
		}
		for j := range f.rules {
			r := &f.rules[j]
			if slices.Contains(x.rules, r.id) || slices.ContainsFunc(x.tags, func(t string) bool { return slices.Contains(r.tags, t) }) {
				r.exempts = append(r.exempts, len(out))
			}
		}
		out = append(out, x.exempt)
	}
	return out
}
