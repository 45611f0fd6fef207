package rules

import (
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Remarks are what is no mistake and deserves a second look, each at its place: the
// ruleset does what it says, and perhaps not what was meant. at is the event time to
// judge ends by.
//
//   - what has ended: entries of lists, exempts, and days of recheck_by;
//   - features and lists that nothing looks at, and reasons that no rule gives;
//   - a rule that changes no verdict, since another one covers it, and one that
//     contradicts another, or an exempt, about the same payments;
//   - a rule that fires because a feature is absent, as all are while the store is away;
//   - an exempt that reaches far: over most rules, over nobody in particular, for ever.
func (s *Ruleset) Remarks(at payment.Time) Problems {
	r := &report{}
	_, f := assemble(s.files, &report{}) // it has loaded before: there is no problem
	r.problems = append(r.problems, s.ended(at)...)
	f.remarkRechecks(r, at)
	f.remarkUnused(r, s)
	f.remarkReasons(r, s)
	f.remarkCovered(r, s)
	f.remarkAbsent(r)
	f.remarkExempts(r)
	return r.problems.sorted()
}

func (f *ruleFiles) remarkRechecks(r *report, at payment.Time) {
	for i := range f.rules {
		by := f.rules[i].recheckBy
		if by.IsZero() || at < payment.TimeOf(by.AddDate(0, 0, 1)) {
			continue
		}
		r.suggest(f.written[i].review.place(), "look whether it still earns its place, and set another day", "the rule %s was to be looked at again by %s", f.rules[i].id, by.Format("2006-01-02"))
	}
}

func (f *ruleFiles) remarkUnused(r *report, s *Ruleset) {
	for slot, at := range f.featuresAt {
		if name := s.features[slot].FullName(); !f.lang.asked[name] {
			r.suggest(at, "take it away, or write the rule that it was made for", "no rule looks at %s: each payment pays for it all the same", name)
		}
	}
	for _, l := range s.lists {
		if !l.blocks && !f.lang.askedOf[l.name] {
			r.suggest(f.listsAt[l.name], fmt.Sprintf("ask it in a rule, in_list(…, %q), or write effect: block", l.name), "nothing asks the list %s, and it does not block by itself", l.name)
		}
	}
}

// casesOfRule are those of a rule where it applies; nil where nothing can be said.
func (f *ruleFiles) casesOfRule(i int) cases {
	cs, ok := casesOf(f.lang, f.written[i].when, false)
	if !ok {
		return nil
	}
	return cs.within(f.rules[i].applies.statements())
}

// remarkCovered compares the rules that act with each other, and with exempts.
func (f *ruleFiles) remarkCovered(r *report, s *Ruleset) {
	all := make([]cases, len(f.rules))
	for i := range f.rules {
		if f.rules[i].mode == live {
			all[i] = f.casesOfRule(i)
		}
	}
	for i := range f.rules {
		for j := range f.rules {
			if i != j && all[i].imply(all[j]) && f.remarkPair(r, s, i, j, all[j].imply(all[i])) {
				break // once is enough
			}
		}
		for _, x := range f.rules[i].exempts {
			if cs, ok := casesOf(f.lang, f.exempts[x].src, false); ok && f.exempts[x].until == never && all[i].imply(cs) {
				r.suggest(f.written[i].when.place(), "narrow the exempt, or disable the rule", "the rule %s can never act: the exempt %s switches it off whenever it is true", f.rules[i].id, f.exempts[x].id)
			}
		}
	}
}

// remarkPair says what is odd about rule i being true only where rule j is, if
// anything is; same tells that they are true for the same payments.
func (f *ruleFiles) remarkPair(r *report, s *Ruleset, i, j int, same bool) (remarked bool) {
	a, b := &f.rules[i], &f.rules[j]
	at, other := f.written[i].when.place(), placeText(f.written[j].when.place())
	switch {
	case same && a.verdict != b.verdict && a.verdict != 0 && b.verdict != 0:
		if remarked = i > j; remarked {
			r.suggest(at, "keep the one that is meant", "the rules %s and %s contradict each other: they are true for the same payments, one says %s and the other, at %s, %s", a.id, b.id, a.verdict, other, b.verdict)
		}
	case same && i < j: // the later one is said to be covered
	case a.verdict > b.verdict: // it is stricter about a part
	case a.points > 0 && s.policy.countsPoints(): // it adds to the sum
	case slices.ContainsFunc(b.exempts, func(x int) bool { return !slices.Contains(a.exempts, x) }): // it stands where the other is switched off
	default:
		r.suggest(at, "take it away, or make it stricter than the other", "the rule %s changes no verdict: whenever it is true, so is %s, at %s, which says %s", a.id, b.id, other, orPoints(b.verdict))
		return true
	}
	return remarked
}

func orPoints(v payment.Verdict) string {
	if v == 0 {
		return "points alone"
	}
	return v.String()
}

// countsPoints tells whether the sum of points can decide anything.
func (p *Policy) countsPoints() bool {
	return slices.ContainsFunc(p.Thresholds, func(t Threshold) bool { return t.Points > 0 })
}

// coalesced is a clause of the form (feature ?? number) op number.
var coalesced = regexp.MustCompile(`^\(?([\w.]+) \?\? ([-\w.]+)\)?$`)

// remarkAbsent finds rules that fire because a feature cannot be had, without having
// said that this is meant.
func (f *ruleFiles) remarkAbsent(r *report) {
	for i := range f.rules {
		if f.written[i].answered || f.rules[i].mode == disabled {
			continue
		}
		when := f.written[i].when
		cs, ok := casesOf(f.lang, when, false)
		if !ok {
			continue
		}
		var blind []statement // of the first case that needs no feature
		var why *statement
		reads := false
		for _, one := range cs {
			absent, free := f.withoutFeatures(one)
			if !free {
				reads = true
			} else if blind == nil || absent != nil && why == nil {
				blind, why = one, absent
			}
		}
		switch {
		case blind == nil:
		case why != nil:
			r.suggest(when.at(why.span), "ask in another way, or say with without_features: skip or hit that this is meant",
				"this is true where %s is absent: while the store is away the rule %s fires for every payment that meets the rest", join(f.featuresAmong(why.names)), f.rules[i].id)
		case reads:
			last := blind[len(blind)-1]
			r.suggest(when.at(last.span), "put what is meant for both parts of the or into both, or say with without_features: skip or hit that this is meant",
				"by this part of the or the rule %s fires also where the features of the other are unknown", f.rules[i].id)
		}
	}
}

// withoutFeatures tells whether statements can all hold while every feature is
// absent, and which of them holds for that reason.
func (f *ruleFiles) withoutFeatures(all []statement) (absent *statement, free bool) {
	for i := range all {
		s := &all[i]
		switch {
		case len(f.featuresAmong(s.names)) == 0:
		case s.negated && strings.HasPrefix(s.about, "has("), f.holdsByDefault(s):
			absent = s
		default:
			return nil, false
		}
	}
	return absent, true
}

// holdsByDefault tells whether what stands behind ?? makes a comparison true.
func (f *ruleFiles) holdsByDefault(s *statement) bool {
	m := coalesced.FindStringSubmatch(s.about)
	if m == nil || s.op == "" {
		return false
	}
	instead, ok := new(big.Rat).SetString(m[2])
	return ok && holds(s.op, instead.Cmp(s.number))
}

func (f *ruleFiles) featuresAmong(names []string) (out []string) {
	for _, name := range names {
		if _, ok := f.features[name]; ok {
			out = append(out, name)
		}
	}
	return out
}

// somebody are the names by which a condition means somebody, and not a kind of payment.
var somebody = regexp.MustCompile(`account_id|merchant_id|token|device\.id|device\.ip|email|phone|terminal\.id|order_id|original_transaction_id|^attributes\.`)

func (f *ruleFiles) remarkExempts(r *report) {
	acting := 0
	for i := range f.rules {
		if f.rules[i].mode == live {
			acting++
		}
	}
	for x := range f.exempts {
		at, id, names := f.exempts[x].src.place(), f.exempts[x].id, f.exempts[x].names
		over := 0
		for i := range f.rules {
			if f.rules[i].mode == live && slices.Contains(f.rules[i].exempts, x) {
				over++
			}
		}
		if over >= 4 && over*2 > acting {
			r.suggest(f.exempts[x].place, "name the rules that stop the wrong people", "the exempt %s reaches far: it switches off %d of %d rules", id, over, acting)
		}
		nobody := !f.exempts[x].lists && len(f.featuresAmong(names)) == 0 && !slices.ContainsFunc(names, somebody.MatchString)
		if nobody {
			r.suggest(at, "ask a list, such as in_list(payer, \"vip\"), or write the condition into the rules", "the exempt %s names nobody: it lets through every payment with %s, whoever makes it", id, join(names))
		}
		if !f.exempts[x].ends {
			r.suggest(f.exempts[x].place, "write until: and a day", "the exempt %s never ends", id)
		}
	}
}
