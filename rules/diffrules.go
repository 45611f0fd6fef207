package rules

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// rules says which rules come, go, have another id, or are written otherwise.
func (d *differ) rules() {
	before, left := d.renamed()
	for _, id := range keysOfBoth(d.from.rules, d.to.rules) {
		a, b := d.from.rules[id], d.to.rules[id]
		switch {
		case a != nil && b != nil:
			d.rule(a, b)
		case b != nil:
			if old := before[id]; old != nil {
				d.rename(old, b)
				continue
			}
			c := about(groupOf(b.modeWord()), "rule", id, b.node)
			c.Change, c.To = wasAdded, b.summary()
			d.say(c, "added, %s", c.To)
		default:
			if left[id] {
				continue
			}
			c := about(groupOf(a.modeWord()), "rule", id, a.node)
			c.Change, c.From = wasRemoved, a.summary()
			d.say(c, "removed; it was %s", c.From)
		}
	}
}

// summary says in short what a rule does.
func (r *writtenRule) summary() string {
	words := []string{}
	if r.verdict != 0 {
		words = append(words, r.verdict.String())
	}
	if r.points > 0 {
		words = append(words, counted(r.points, "point", "points"))
	}
	if len(words) == 0 {
		words = append(words, "0 points")
	}
	if which := r.applies.String(); which != "" {
		words = append(words, "for "+which)
	}
	return r.modeWord() + ": " + join(words) + ", when " + oneLine(r.node.value("when").written())
}

// renamed finds the rules that are only called otherwise: what each was before,
// by its new id, and the old ids.
func (d *differ) renamed() (before map[string]*writtenRule, left map[string]bool) {
	gone := map[string][]*writtenRule{} // by content, in the order of ids
	for _, id := range slices.Sorted(maps.Keys(d.from.rules)) {
		if a := d.from.rules[id]; d.to.rules[id] == nil {
			gone[a.content()] = append(gone[a.content()], a)
		}
	}
	before, left = map[string]*writtenRule{}, map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(d.to.rules)) {
		content := d.to.rules[id].content()
		if same := gone[content]; d.from.rules[id] == nil && len(same) > 0 {
			before[id], left[same[0].id], gone[content] = same[0], true, same[1:]
		}
	}
	return before, left
}

// content is all of a rule but its id.
func (r *writtenRule) content() string {
	var parts []string
	for _, e := range r.node.entries("") {
		if e.key != "id" {
			parts = append(parts, e.key+": "+oneLine(e.value.plain()))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, "\n")
}

// rename notes that a rule has another id, and what follows of that.
func (d *differ) rename(a, b *writtenRule) {
	c := about(groupOf(b.modeWord()), "rule", b.id, b.node)
	c.Change, c.Key, c.From, c.To = wasRenamed, "id", a.id, b.id
	d.say(c, "renamed from %s, with the same content: its statistics begin anew, and controls that name %s no longer reach it", a.id, a.id)
	d.value(about(ChangeTold, "rule", b.id, b.node), "reason", a.reason, b.reason, "")
}

// rule notes what is written otherwise in a rule.
func (d *differ) rule(a, b *writtenRule) {
	acts := groupOfBoth(groupOf(a.modeWord()), groupOf(b.modeWord()))
	told, noted := groupAfter(acts, ChangeTold), ChangeNoted
	in := func(group ChangeGroup, key string) Change {
		at := b.node.value(key)
		if at.ast == nil {
			at = b.node
		}
		return about(group, "rule", b.id, at)
	}
	d.value(in(acts, "mode"), "mode", a.modeWord(), b.modeWord(), modeEffect(a.modeWord(), b.modeWord()))
	d.value(in(acts, "verdict"), "verdict", verdictWord(a.rule), newVerdictWord(a.rule, b.rule), verdictEffect(a.verdict, b.verdict))
	d.condition(in(acts, "when"), "when", a.node.value("when").written(), b.node.value("when").written(), [...]string{"fires less", "fires more"})
	d.value(in(acts, "applies_to"), "applies_to", allOr(a.applies.String()), allOr(b.applies.String()), appliesEffect(a.applies, b.applies))
	d.value(in(acts, "points"), "points", strconv.Itoa(a.points), strconv.Itoa(b.points), upOr(b.points-a.points, "stricter", "milder"))
	d.hold(in(acts, "hold"), a, b)
	d.value(in(acts, "without_features"), "without_features", withoutWord(a.rule), withoutWord(b.rule), withoutEffect(a.rule, b.rule))

	d.value(in(told, "reason"), "reason", a.reason, b.reason, "")
	d.texts(in(told, "detail"), "detail", a.node.value("detail").plain(), b.node.value("detail").plain())
	d.value(in(told, "payer_code"), "payer_code", a.payerCode, b.payerCode, "")
	d.messages(in(told, "payer_message"), "payer_message", a.messages, b.messages)

	for _, key := range keysOf(a.node, b.node) {
		from, to := a.node.value(key).plain(), b.node.value(key).plain()
		switch key {
		case "id", "mode", "verdict", "when", "applies_to", "points", "hold", "without_features", "reason", "detail", "payer_code", "payer_message":
		case "description":
			d.texts(in(noted, key), key, from, to)
		case "owner", "tags", "recheck_by", "actions":
			d.value(in(noted, key), key, from, to, "")
		default: // of a later format: better told than left out
			d.value(in(acts, key), key, from, to, "")
		}
	}
}

// groupAfter is a group, or that of a rule that comes after it anyway.
func groupAfter(acts, group ChangeGroup) ChangeGroup {
	if acts == ChangeActs {
		return group
	}
	return acts
}

// messages notes what payers are told otherwise, by language.
func (d *differ) messages(c Change, key string, a, b []message) {
	in := func(all []message) map[string]string {
		out := map[string]string{}
		for _, m := range all {
			out[m.language] = m.text
		}
		return out
	}
	from, to := in(a), in(b)
	for _, language := range keysOfBoth(from, to) {
		d.texts(c, key+"."+language, from[language], to[language])
	}
	if _, english := to["en"]; !english && len(a) > 0 && len(b) > 0 && a[0].language != b[0].language {
		c.Key, c.From, c.To = key, a[0].language, b[0].language
		d.say(c, "%s: payers of other languages are told in %s, not in %s", key, c.To, c.From)
	}
}

// hold notes other terms of a hold, as far as the rule itself says them: what it
// leaves to the policy is told there.
func (d *differ) hold(c Change, a, b *writtenRule) {
	if a.verdict != payment.Hold || b.verdict != payment.Hold {
		return // told with the verdict
	}
	from, to := a.node.value("hold"), b.node.value("hold")
	d.value(c, "hold.needs", needsWord(a.hold), needsWord(b.hold), "")
	d.value(c, "hold.methods", join(a.hold.methods), join(b.hold.methods), "")
	needs := a.hold.stepUp != b.hold.stepUp || a.hold.review != b.hold.review
	if needs || from.value("for").ast != nil || to.value("for").ast != nil {
		d.value(c, "hold.for", formatDuration(a.hold.lasts), formatDuration(b.hold.lasts), upOr(int(b.hold.lasts-a.hold.lasts), "longer", "shorter"))
	}
	if needs || from.value("on_expiry").ast != nil || to.value("on_expiry").ast != nil {
		d.value(c, "hold.on_expiry", a.hold.onExpiry.String(), b.hold.onExpiry.String(), verdictEffect(a.hold.onExpiry, b.hold.onExpiry))
	}
}

func needsWord(h holdTerms) string {
	var words []string
	if h.stepUp {
		words = append(words, needStepUp)
	}
	if h.review {
		words = append(words, needReview)
	}
	return strings.Join(words, " and ")
}

// verdictWord is the verdict of a rule, "" where it has points only.
func verdictWord(r *rule) string {
	if r.verdict == 0 {
		return ""
	}
	return r.verdict.String()
}

// newVerdictWord is the verdict that a rule has now; a hold with its terms, where
// it did not hold before.
func newVerdictWord(before, now *rule) string {
	if now.verdict == payment.Hold && before.verdict != payment.Hold {
		return fmt.Sprintf("hold for %s, %s, then %s", needsWord(now.hold), formatDuration(now.hold.lasts), now.hold.onExpiry)
	}
	return verdictWord(now)
}

func verdictEffect(a, b payment.Verdict) string { return upOr(int(b)-int(a), "stricter", "milder") }

// upOr is the word for more, or for less; "" for neither.
func upOr(difference int, more, less string) string {
	switch {
	case difference > 0:
		return more
	case difference < 0:
		return less
	}
	return ""
}

func modeEffect(from, to string) string {
	switch {
	case to == "canary":
		return "acts for a share of payers"
	case groupOf(to) == ChangeActs && from == "canary":
		return "begins to act for all payers"
	case groupOf(to) == ChangeActs:
		return "begins to act"
	case to == "shadow" && from == "disabled":
		return "begins to be recorded"
	case to == "shadow":
		return "ceases to act, and is only recorded"
	case from == "shadow":
		return "ceases to be recorded"
	}
	return "ceases to act"
}

func withoutWord(r *rule) string {
	if r.hitWithoutFeatures {
		return "hit"
	}
	return "skip"
}

func withoutEffect(a, b *rule) string {
	switch {
	case b.hitWithoutFeatures && !a.hitWithoutFeatures:
		return "fires where its features cannot be had"
	case a.hitWithoutFeatures && !b.hitWithoutFeatures:
		return "does not fire where its features cannot be had"
	}
	return ""
}

func allOr(s string) string { return cmp.Or(s, "all") }

// appliesEffect tells whether other transactions are meant than before.
func appliesEffect(a, b AppliesTo) string {
	wider := holdsAll(b.Types, a.Types) && holdsAll(b.Channels, a.Channels)
	narrower := holdsAll(a.Types, b.Types) && holdsAll(a.Channels, b.Channels)
	switch {
	case wider && !narrower:
		return "widened: fires more"
	case narrower && !wider:
		return "narrowed: fires less"
	}
	return ""
}

// holdsAll tells whether one list, of which an empty one is all, holds another.
func holdsAll[T comparable](a, b []T) bool {
	return len(a) == 0 || len(b) > 0 && len(missing(b, a)) == 0
}

// others notes what files of rules have besides rules and exempts, as it is
// written: keys of a later format are better told than left out.
func (d *differ) others() {
	for _, key := range keysOfBoth(d.from.others, d.to.others) {
		from, to := slices.Sorted(slices.Values(d.from.others[key])), slices.Sorted(slices.Values(d.to.others[key]))
		group := ChangeActs
		if key == "retired" {
			group = ChangeNoted
		}
		d.value(Change{Group: group, What: "rules", Change: wasChanged}, key, join(from), join(to), "")
	}
}

// order notes that live rules of one strictness stand in another order: the first
// of those that are true gives the reason that stands first, and the payer's text.
func (d *differ) order() {
	inOrder := func(w *wording, other *wording) map[string][]string {
		out := map[string][]string{}
		for i := range w.set.rules {
			r := &w.set.rules[i]
			if o := other.rules[r.id]; o != nil && r.mode != disabled && o.mode == r.mode && o.verdict == r.verdict && o.points == r.points {
				group := fmt.Sprintf("%d %d %d", r.mode, r.verdict, r.points)
				out[group] = append(out[group], r.id)
			}
		}
		return out
	}
	a, b := inOrder(d.from, d.to), inOrder(d.to, d.from)
	for _, group := range keysOfBoth(a, b) {
		if slices.Equal(a[group], b[group]) {
			continue
		}
		c := Change{Group: ChangeTold, What: "rules", Change: wasChanged, Key: "order", From: join(a[group]), To: join(b[group])}
		d.say(c, "order from %s to %s: of those that are true, the first one gives the first reason and what the payer is told", c.From, c.To)
	}
}
