package rules

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// maxListed is how many entries of one list are told each by itself.
const maxListed = 20

// lists says which lists come and go, what a hit does, and which entries changed.
func (d *differ) lists() {
	for _, name := range keysOfBoth(d.from.lists, d.to.lists) {
		a, b := d.from.set.listNamed(name), d.to.set.listNamed(name)
		group := groupOfBoth(d.from.listGroup(name), d.to.listGroup(name))
		switch {
		case a != nil && b != nil:
			d.list(group, a, b)
		case b != nil:
			c := about(group, "list", name, d.to.lists[name])
			c.Change, c.To, c.Effect = wasAdded, b.summary(), blocksWord(b, "blocks more")
			d.say(c, "added: %s", c.To)
		default:
			c := about(group, "list", name, d.from.lists[name])
			c.Change, c.From, c.Effect = wasRemoved, a.summary(), blocksWord(a, "blocks less")
			d.say(c, "removed; it was: %s", c.From)
		}
	}
}

func (l *namedList) summary() string {
	return fmt.Sprintf("type %s, effect %s, %s", l.kind, effectWord(l), counted(len(l.entries.all), "entry", "entries"))
}

func effectWord(l *namedList) string {
	if l.blocks {
		return "block"
	}
	return "none"
}

// blocksWord is a word for a list that blocks by itself; what follows of another
// one, the rules that ask it decide.
func blocksWord(l *namedList, word string) string {
	if l.blocks {
		return word
	}
	return ""
}

// listGroup is the group of what happens to a list: that of the first who looks at it.
func (w *wording) listGroup(name string) ChangeGroup {
	if l := w.set.listNamed(name); l != nil && l.blocks {
		return ChangeActs
	}
	return w.groupOfReaders(func(m mentions) bool { return slices.Contains(m.lists, name) })
}

// list notes what is otherwise in a list.
func (d *differ) list(group ChangeGroup, a, b *namedList) {
	file := d.to.lists[b.name]
	from := d.from.lists[b.name]
	at := func(group ChangeGroup, key string) Change {
		v := file.value(key)
		if v.ast == nil {
			v = file
		}
		return about(group, "list", b.name, v)
	}
	d.value(at(group, "type"), "type", a.kind.String(), b.kind.String(), "")
	effect := "ceases to block by itself"
	if b.blocks {
		effect = "begins to block by itself"
	}
	d.value(at(group, "effect"), "effect", effectWord(a), effectWord(b), effect)
	d.entries(group, a, b)
	d.value(at(groupAfter(group, ChangeTold), "payer_code"), "payer_code", a.payerCode, b.payerCode, "")
	for _, key := range keysOf(from, file) {
		old, now := from.value(key).plain(), file.value(key).plain()
		switch key {
		case "list", "type", "effect", "entries", "payer_code":
		case "description", "owner":
			d.texts(at(ChangeNoted, key), key, old, now)
		default: // of a later format: better told than left out
			d.value(at(group, key), key, old, now, "")
		}
	}
}

// entries notes the entries that come, go, or are written otherwise; of many, the
// first ones and how many there are.
func (d *differ) entries(group ChangeGroup, a, b *namedList) {
	key := func(l *namedList, e *listEntry) string {
		if text, network := b.keyOf(e.value); l.kind == ipList && b.kind == ipList {
			return network.String()
		} else if l.kind == b.kind {
			return text
		}
		return e.value
	}
	index := func(l *namedList) map[string]*listEntry {
		out := map[string]*listEntry{}
		for i := range l.entries.all {
			out[key(l, &l.entries.all[i])] = &l.entries.all[i]
		}
		return out
	}
	from, to := index(a), index(b)
	lines := linesOf(d.to.lists[b.name])
	oldZone, newZone := d.from.set.policy.Location, d.to.set.policy.Location
	var come, gone, other []Change
	for _, k := range keysOfBoth(from, to) {
		x, y := from[k], to[k]
		c := about(group, "list", b.name, d.to.lists[b.name])
		c.Key = "entries"
		switch {
		case x == nil:
			c.Change, c.To, c.Line, c.Effect = wasAdded, y.words(newZone), lines[y.value], blocksWord(b, "blocks more")
			c.Text = "entry added: " + c.To
			come = append(come, c)
		case y == nil:
			c.Change, c.From, c.Line, c.Effect = wasRemoved, x.words(oldZone), 0, blocksWord(a, "blocks less")
			c.Text = "entry removed: " + c.From
			gone = append(gone, c)
		case x.about(oldZone) != y.about(newZone):
			c.From, c.To, c.Line, c.Effect = x.words(oldZone), y.words(newZone), lines[y.value], laterOr(x.until, y.until, "longer", "shorter")
			c.Text = "entry changed from " + c.From + " to " + c.To
			other = append(other, c)
		}
	}
	for _, all := range [][]Change{come, gone, other} {
		for i, c := range all {
			if i == maxListed {
				c.From, c.To, c.Line = "", "", 0
				d.say(c, "entries %s: %d more", c.Change, len(all)-maxListed)
				break
			}
			d.say(c, "%s", c.Text)
		}
	}
}

// linesOf are the lines of the entries of a list's file, by value.
func linesOf(file node) map[string]int {
	out := map[string]int{}
	for _, row := range file.items("entries") {
		if v := row.value("value"); v.ast != nil {
			out[v.written()] = v.place().line
		}
	}
	return out
}

// words say an entry.
func (e *listEntry) words(zone *time.Location) string { return strconv.Quote(e.value) + e.about(zone) }

// about says until when an entry counts, who made it, and why.
func (e *listEntry) about(zone *time.Location) string {
	s := ""
	if e.until != never {
		s += " until " + endWord(e.until, zone)
	}
	if e.by != "" {
		s += " by " + e.by
	}
	if e.why != "" {
		s += ": " + e.why
	}
	return s
}

// groupOfReaders is the group of the first rule or exempt that looks at something;
// what nobody looks at acts on nothing.
func (w *wording) groupOfReaders(looks func(mentions) bool) ChangeGroup {
	group := ChangeNoted
	for _, r := range w.rules {
		if looks(r.reads) {
			group = groupOfBoth(group, groupOf(r.modeWord()))
		}
	}
	for _, x := range w.exempts {
		if looks(x.reads) {
			group = ChangeActs
		}
	}
	return group
}
