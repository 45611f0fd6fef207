package rules

import (
	"cmp"
	"slices"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// exempts says which exempts come and go, and what they switch off.
func (d *differ) exempts() {
	for _, id := range keysOfBoth(d.from.exempts, d.to.exempts) {
		a, b := d.from.exempts[id], d.to.exempts[id]
		switch {
		case a != nil && b != nil:
			d.exempt(a, b)
		case b != nil:
			c := about(ChangeActs, "exempt", id, b.node)
			c.Change, c.To, c.Effect = wasAdded, b.summary(d.to.set.policy.Location), "rules fire less"
			d.say(c, "added, %s", c.To)
		default:
			c := about(ChangeActs, "exempt", id, a.node)
			c.Change, c.From, c.Effect = wasRemoved, a.summary(d.from.set.policy.Location), "rules fire more"
			d.say(c, "removed; it was %s", c.From)
		}
	}
}

// summary says in short what an exempt does.
func (x *writtenExempt) summary(zone *time.Location) string {
	words := "from " + x.reach() + ", when " + oneLine(x.node.value("when").written())
	if x.until != never {
		words += ", until " + endWord(x.until, zone)
	}
	if x.why != "" {
		words += ": " + x.why
	}
	return words
}

// reach is what an exempt switches off.
func (x *writtenExempt) reach() string {
	all := slices.Clone(x.covers)
	if x.score {
		all = append(all, "the score")
	}
	return orNone(join(all))
}

// exempt notes what is written otherwise in an exempt.
func (d *differ) exempt(a, b *writtenExempt) {
	at := func(group ChangeGroup, key string) Change { return about(group, "exempt", b.id, b.node.value(key)) }
	d.condition(at(ChangeActs, "when"), "when", a.node.value("when").written(), b.node.value("when").written(),
		[...]string{"exempts fewer payments: rules fire more", "exempts more payments: rules fire less"})
	if from, to := a.reach(), b.reach(); from != to {
		gone, come := missing(a.covers, b.covers), missing(b.covers, a.covers)
		effect := ""
		switch {
		case len(gone) == 0 && (b.score || !a.score):
			effect = "rules fire less"
		case len(come) == 0 && (a.score || !b.score):
			effect = "rules fire more"
		}
		c := at(ChangeActs, "from")
		c.Key, c.From, c.To, c.Effect = "from", from, to, effect
		d.say(c, "switches off %s; before: %s", to, from)
	} else if from, to := a.node.value("from").plain(), b.node.value("from").plain(); from != to {
		c := at(ChangeNoted, "from")
		c.Key, c.From, c.To = "from", from, to
		d.say(c, "from %s to %s, which is the same rules", from, to)
	}
	d.value(at(ChangeActs, "until"), "until", endWord(a.until, d.from.set.policy.Location), endWord(b.until, d.to.set.policy.Location), laterOr(a.until, b.until, "longer", "shorter"))
	d.texts(at(ChangeNoted, "why"), "why", a.why, b.why)
	for _, key := range keysOf(a.node, b.node) {
		from, to := a.node.value(key).plain(), b.node.value(key).plain()
		switch key {
		case "id", "when", "from", "until", "why":
		case "description", "owner":
			d.texts(at(ChangeNoted, key), key, from, to)
		default: // of a later format: better told than left out
			d.value(at(ChangeActs, key), key, from, to, "")
		}
	}
}

// endWord is when something ends: at a moment, or with a day in the policy's zone.
func endWord(t payment.Time, zone *time.Location) string {
	if t == never {
		return "never"
	}
	end := t.Std().In(cmp.Or(zone, time.UTC))
	if y, m, d := end.Date(); end.Equal(time.Date(y, m, d, 0, 0, 0, 0, end.Location())) {
		return end.AddDate(0, 0, -1).Format(time.DateOnly)
	}
	return end.UTC().Format(time.RFC3339Nano)
}

// laterOr is the word for a later end, or for an earlier one.
func laterOr(from, to payment.Time, later, earlier string) string {
	switch {
	case to > from:
		return later
	case to < from:
		return earlier
	}
	return ""
}
