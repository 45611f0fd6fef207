package rules

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// What people change at run time lies over the ruleset that was loaded: entries
// of lists, disabled rules, snoozes. It is kept as it was said, by the names of
// lists and rules, so that it outlives a reload; and it is looked at by the event
// time of each payment, so that members who hear of it a little apart, and a
// replay, decide alike.
//
// A later word stands: what takes something back ends all that was said before
// it, from its effective_at on, and nothing that is said after it.

// OverrideLog is what people have said, in the order of the topic. It belongs to
// one goroutine. Its zero value is empty.
type OverrideLog struct {
	seen  map[string]bool // ids of controls
	lists map[string][]listWord
	rules map[string][]ruleWord
	last  *Overrides
}

// listWord is one control about a list. Never changed once a snapshot has it.
type listWord struct {
	control     string
	remove      bool
	value       string
	from, until payment.Time // of an addition; from: of a removal
	why, by     string
}

// ruleWord is one control that keeps a rule from firing.
type ruleWord struct {
	control     string
	match       payment.SnoozeMatch // empty: for all payments
	from, until payment.Time
}

// Apply takes one control; false when it changes nothing here: its id has been
// there, or it is of another kind.
func (l *OverrideLog) Apply(c *payment.Control) bool {
	if l.seen[c.ID] {
		return false
	}
	if l.seen == nil {
		l.seen, l.lists, l.rules = map[string]bool{}, map[string][]listWord{}, map[string][]ruleWord{}
	}
	id, until := strings.Clone(c.ID), c.Until // c points into its record
	if until == 0 {
		until = never
	}
	switch c.Kind {
	case payment.ControlListAdd, payment.ControlListRemove:
		name, w := strings.Clone(c.List), listWord{control: id, value: strings.Clone(c.Value), from: c.EffectiveAt, until: until, why: strings.Clone(c.Why), by: strings.Clone(c.By)}
		if c.Kind == payment.ControlListRemove {
			w.remove = true
			l.lists[name] = ended(l.lists[name], w.value, w.from)
		}
		l.lists[name] = append(l.lists[name], w)
	case payment.ControlRuleDisable, payment.ControlSnooze:
		name := strings.Clone(c.Rule)
		m := payment.SnoozeMatch{Payer: strings.Clone(c.Snooze.Payer), Payee: strings.Clone(c.Snooze.Payee), Card: strings.Clone(c.Snooze.Card), Device: strings.Clone(c.Snooze.Device)}
		l.rules[name] = append(l.rules[name], ruleWord{control: id, match: m, from: c.EffectiveAt, until: until})
	case payment.ControlRuleEnable:
		words := slices.Clone(l.rules[c.Rule])
		for i := range words {
			if words[i].match == c.Snooze {
				words[i].until = min(words[i].until, c.EffectiveAt)
			}
		}
		if words != nil {
			l.rules[strings.Clone(c.Rule)] = words
		}
	default:
		return false
	}
	l.seen[id] = true
	return true
}

// ended is a copy of words in which the additions of a value have ended.
func ended(words []listWord, value string, at payment.Time) []listWord {
	words = slices.Clone(words)
	for i := range words {
		if w := &words[i]; !w.remove && w.value == value {
			w.until = min(w.until, at)
		}
	}
	return words
}

// Forget drops what ended before an event time that no payment can have any
// more. A removal has no end: of each value, one is kept.
func (l *OverrideLog) Forget(before payment.Time) {
	for name, words := range l.rules {
		if kept := keep(words, func(w *ruleWord) bool { return w.until > before && w.from < w.until }); len(kept) < len(words) {
			l.rules[name] = kept
		}
	}
	for name, words := range l.lists {
		removed := map[string]payment.Time{} // since the last addition that is kept
		kept := keep(words, func(w *listWord) bool {
			if !w.remove {
				if w.until > before {
					clear(removed)
				}
				return w.until > before
			}
			since, ok := removed[w.value]
			if ok && since <= w.from {
				return false
			}
			removed[w.value] = w.from
			return true
		})
		if len(kept) < len(words) {
			l.lists[name] = kept
		}
	}
}

// keep is a copy of what is to be kept; the caller's snapshots have the original.
func keep[T any](words []T, wanted func(*T) bool) (kept []T) {
	for i := range words {
		if wanted(&words[i]) {
			kept = append(kept, words[i])
		}
	}
	return kept
}

// Overrides returns what holds now over a ruleset, for its evaluators.
func (l *OverrideLog) Overrides(set *Ruleset) *Overrides {
	l.last = bind(set, maps.Clone(l.lists), maps.Clone(l.rules), l.last)
	return l.last
}

// Overrides is what people changed at run time, as it lies over one ruleset. It
// is read-only. nil changes nothing.
type Overrides struct {
	set       *Ruleset
	said      map[string][]listWord // by list; with saidRules what another ruleset is bound to
	saidRules map[string][]ruleWord // by rule
	lists     []*listChange         // by index of the list; nil where nothing was said
	rules     []*ruleChange         // by index of the rule; nil where nothing was said of any
	// Ignored lists what was said and has no effect on the ruleset, for people:
	// unknown rules and lists, and values that a list cannot have.
	ignored []string
}

// listChange is what was said of one list.
type listChange struct {
	added listEntries
	off   listEntries // the values that were taken off the list's file
}

// ruleChange is what was said of one rule.
type ruleChange struct {
	forAll           []ruleWord
	byPayer, byPayee map[string][]ruleWord // by the first name that their match asks for
	byCard, byDevice map[string][]ruleWord
}

// bind makes overrides of a ruleset. What was bound before for a list of which
// nothing new was said is used again: a list may have many entries.
func bind(set *Ruleset, lists map[string][]listWord, rules map[string][]ruleWord, before *Overrides) *Overrides {
	o := &Overrides{set: set, said: lists, saidRules: rules, lists: make([]*listChange, len(set.lists))}
	for name, words := range lists {
		l := set.listNamed(name)
		switch {
		case len(words) == 0:
		case l == nil:
			o.ignored = append(o.ignored, fmt.Sprintf("list %s is not in the ruleset (control %s)", name, words[len(words)-1].control))
		case before != nil && before.set == set && same(before.said[name], words):
			o.lists[l.index] = before.lists[l.index]
		default:
			o.lists[l.index] = bindList(l, words)
		}
		if l != nil {
			o.ignored = append(o.ignored, badValues(l, words)...)
		}
	}
	for i, id := range set.ids {
		if words := rules[id]; len(words) > 0 {
			if o.rules == nil {
				o.rules = make([]*ruleChange, len(set.ids))
			}
			o.rules[i] = bindRule(words)
		}
	}
	for id, words := range rules {
		if len(words) > 0 && !slices.Contains(set.ids, id) {
			o.ignored = append(o.ignored, fmt.Sprintf("rule %s is not in the ruleset (control %s)", id, words[len(words)-1].control))
		}
	}
	slices.Sort(o.ignored)
	return o
}

func same(a, b []listWord) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }

func badValues(l *namedList, words []listWord) (bad []string) {
	for i := range words {
		if must, _ := l.kind.check(words[i].value); must != "" {
			bad = append(bad, fmt.Sprintf("list %s cannot have this value: it must be %s (control %s)", l.name, must, words[i].control))
		}
	}
	return bad
}

func bindList(l *namedList, words []listWord) *listChange {
	c := &listChange{added: newEntries(), off: newEntries()}
	for i := range words {
		w := &words[i]
		if must, _ := l.kind.check(w.value); must != "" {
			continue
		}
		key, network := l.keyOf(w.value)
		if !w.remove {
			l.put(&c.added, key, network, listEntry{from: w.from, until: w.until, value: w.value, why: w.why, by: w.by, control: w.control})
			continue
		}
		l.put(&c.off, key, network, listEntry{from: w.from, until: never, value: w.value, control: w.control})
		if l.kind == ipList {
			c.added.end(before(c.added.nets, network), w.from)
		} else {
			c.added.end(before(c.added.texts, key), w.from)
		}
	}
	return c
}

func bindRule(words []ruleWord) *ruleChange {
	c := &ruleChange{byPayer: map[string][]ruleWord{}, byPayee: map[string][]ruleWord{}, byCard: map[string][]ruleWord{}, byDevice: map[string][]ruleWord{}}
	for _, w := range words {
		switch m := w.match; {
		case m.Payer != "":
			c.byPayer[m.Payer] = append(c.byPayer[m.Payer], w)
		case m.Payee != "":
			c.byPayee[m.Payee] = append(c.byPayee[m.Payee], w)
		case m.Card != "":
			c.byCard[m.Card] = append(c.byCard[m.Card], w)
		case m.Device != "":
			c.byDevice[m.Device] = append(c.byDevice[m.Device], w)
		default:
			c.forAll = append(c.forAll, w)
		}
	}
	return c
}

// Ignored says, for people, what has no effect on the ruleset: rules and lists
// that it does not have, and values that a list cannot have.
func (o *Overrides) Ignored() []string {
	if o == nil {
		return nil
	}
	return o.ignored
}

// over returns the overrides as they lie over a ruleset: o itself, unless they
// were made for another one.
func (o *Overrides) over(set *Ruleset) *Overrides {
	if o == nil || o.set == set {
		return o
	}
	return bind(set, o.said, o.saidRules, nil)
}

// list is what was said of a list, nil for nothing.
func (o *Overrides) list(l *namedList) *listChange {
	if o == nil {
		return nil
	}
	return o.lists[l.index]
}

// silences tells whether a rule is off for a transaction, and by which control.
func (o *Overrides) silences(rule int32, tx *payment.Transaction) (control string, off bool) {
	if o == nil || o.rules == nil || o.rules[rule] == nil {
		return "", false
	}
	c := o.rules[rule]
	card := cardOf(tx)
	for _, words := range [...][]ruleWord{c.forAll, c.byPayer[tx.Payer.AccountID], c.byPayee[tx.Payee.AccountID], c.byCard[card], c.byDevice[tx.Device.ID]} {
		for i := range words {
			w := &words[i]
			if m := &w.match; w.from <= tx.EventTime && tx.EventTime < w.until &&
				(m.Payer == "" || m.Payer == tx.Payer.AccountID) && (m.Payee == "" || m.Payee == tx.Payee.AccountID) &&
				(m.Card == "" || m.Card == card) && (m.Device == "" || m.Device == tx.Device.ID) {
				return w.control, true
			}
		}
	}
	return "", false
}

// CheckControl says what a control names that this ruleset does not have: a
// rule, a list, or a value that the list cannot have. Such a control is kept:
// another ruleset may bring the name.
func (s *Ruleset) CheckControl(c *payment.Control) error {
	switch c.Kind {
	case payment.ControlListAdd, payment.ControlListRemove:
		l := s.listNamed(c.List)
		if l == nil {
			var names []string
			for _, l := range s.lists {
				names = append(names, l.name)
			}
			return unknownName("list", c.List, names)
		}
		if must, suggestion := l.kind.check(c.Value); must != "" {
			return hinted(fmt.Sprintf("the list %s is of type %s: a value must be %s", l.name, l.kind, must), suggestion)
		}
	case payment.ControlRuleDisable, payment.ControlRuleEnable, payment.ControlSnooze:
		if !slices.Contains(s.ids, c.Rule) {
			return unknownName("rule", c.Rule, s.ids)
		}
	}
	return nil
}

func unknownName(what, name string, known []string) error {
	return hinted(fmt.Sprintf("the ruleset has no %s %q", what, name), didYouMean(name, known))
}

func hinted(message, suggestion string) error {
	if suggestion == "" {
		return fmt.Errorf("%s", message)
	}
	return fmt.Errorf("%s (%s)", message, suggestion)
}

// lay makes the evaluator ready for overrides, and for another transaction.
func (e *Evaluator) lay(o *Overrides) {
	if o != e.given {
		e.given, e.over = o, o.over(e.set)
	}
	e.facts.Overrides = e.over
	e.passed, e.exemptBy, e.failedExempts = e.passed[:0], e.exemptBy[:0], e.failedExempts[:0]
	clear(e.exempts)
}

// hit notes a rule that is true, unless an exempt switches it off.
func (e *Evaluator) hit(i int32) {
	if e.exempted(&e.set.rules[i]) {
		e.passed = append(e.passed, int(i))
		return
	}
	e.hits = append(e.hits, int(i))
}
