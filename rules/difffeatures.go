package rules

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluice-risk/sluice/pipeline/window"
)

// writtenFeature is one feature, of one window, with its place in a file.
type writtenFeature struct {
	*window.Feature
	node node
}

// readFeatures notes the features of a file by their full names.
func (w *wording) readFeatures(file node) {
	own := map[string]*window.Feature{}
	for i := range w.set.OwnFeatures() {
		f := &w.set.features[i]
		own[f.FullName()] = f
	}
	for _, one := range file.items("features") {
		name := one.value("entity").written() + "." + one.value("name").written()
		names := []string{name}
		if windows := one.items("windows"); len(windows) > 0 {
			names = nil
			for _, v := range windows {
				names = append(names, name+"_"+v.written())
			}
		}
		for _, full := range names {
			w.features[full] = &writtenFeature{own[full], one}
		}
	}
}

// features says which features come, go, or count otherwise, and who reads them.
func (d *differ) features() {
	for _, name := range keysOfBoth(d.from.features, d.to.features) {
		a, b := d.from.features[name], d.to.features[name]
		reads := func(m mentions) bool { return slices.Contains(m.names, name) }
		group := groupOfBoth(d.from.groupOfReaders(reads), d.to.groupOfReaders(reads))
		switch {
		case a != nil && b != nil:
			d.feature(group, name, a, b)
		case b != nil:
			c := about(group, "feature", name, b.node)
			c.Change, c.To = wasAdded, b.summary()
			d.say(c, "added: %s; %s; %s", c.To, d.to.readers(reads), d.reachOf(b))
		default:
			c := about(group, "feature", name, a.node)
			c.Change, c.From = wasRemoved, a.summary()
			d.say(c, "removed; it was: %s; %s", c.From, d.from.readers(reads))
		}
	}
}

// summary says in short what a feature counts.
func (f *writtenFeature) summary() string {
	s := f.node.value("value").plain()
	if where := f.node.value("where"); where.ast != nil {
		s += " where " + oneLine(where.written())
	}
	if delay := f.node.value("delay"); delay.ast != nil {
		s += ", delay " + delay.plain()
	}
	return s
}

// feature notes what is written otherwise in a feature.
func (d *differ) feature(group ChangeGroup, name string, a, b *writtenFeature) {
	before := len(d.changes)
	at := func(key string) Change {
		v := b.node.value(key)
		if v.ast == nil {
			v = b.node
		}
		return about(group, "feature", name, v)
	}
	from, to := a.node.value("value").plain(), b.node.value("value").plain()
	x, okX := shareCondition(from)
	if y, okY := shareCondition(to); okX && okY {
		d.condition(at("value"), "value", x, y, [...]string{"a smaller share", "a larger share"})
	} else {
		d.value(at("value"), "value", from, to, "")
	}
	d.condition(at("where"), "where", a.node.value("where").written(), b.node.value("where").written(), [...]string{"fewer events", "more events"})
	d.value(at("delay"), "delay", delayWord(a.Delay), delayWord(b.Delay), "")
	reads := func(m mentions) bool { return slices.Contains(m.names, name) }
	for i := before; i < len(d.changes); i++ {
		d.changes[i].Text += "; " + d.to.readers(reads) + "; " + d.reachOf(b)
	}
	for _, key := range keysOf(a.node, b.node) {
		from, to := a.node.value(key).plain(), b.node.value(key).plain()
		switch key {
		case "entity", "name", "windows", "value", "where", "delay":
		case "description":
			c := at(key)
			c.Group = ChangeNoted
			d.texts(c, key, from, to)
		default: // of a later format: better told than left out
			d.value(at(key), key, from, to, "")
		}
	}
}

// shareCondition is what share(...) asks of an event.
func shareCondition(value string) (string, bool) {
	inside, ok := strings.CutPrefix(value, window.Share.String()+"(")
	return strings.TrimSuffix(inside, ")"), ok
}

// reachOf says how far back a feature that is new, or counts otherwise, sees.
func (d *differ) reachOf(f *writtenFeature) string {
	for i := range d.from.set.features {
		old := &d.from.set.features[i]
		if old.Entity == f.Entity && (old.ReadsVerdict || !f.ReadsVerdict) {
			return "exact at once, as far back as the logs reach"
		}
	}
	return fmt.Sprintf("exact at once on an embedded store; on Redis its windows begin anew, since no feature looked at %s before", logOf(f))
}

// logOf names what a store that keeps only what features look at has not kept.
func logOf(f *writtenFeature) string {
	if f.ReadsVerdict {
		return "the verdicts of its entity " + f.Entity.String()
	}
	return "its entity " + f.Entity.String()
}

// readers says which rules and exempts look at something.
func (w *wording) readers(looks func(mentions) bool) string {
	var all []string
	for _, id := range slices.Sorted(maps.Keys(w.rules)) {
		if r := w.rules[id]; looks(r.reads) {
			if m := r.modeWord(); m != "live" {
				id += " (" + m + ")"
			}
			all = append(all, id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.exempts)) {
		if looks(w.exempts[id].reads) {
			all = append(all, "the exempt "+id)
		}
	}
	if len(all) == 0 {
		return "read by no rule"
	}
	return "read by " + join(all)
}

func delayWord(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return formatDuration(d)
}
