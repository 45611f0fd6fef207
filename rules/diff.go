package rules

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ChangeGroup says whom a change concerns. The groups are in the order in which
// people read them.
type ChangeGroup string

// The groups of changes.
const (
	ChangeActs     ChangeGroup = "acts"     // on payments: other verdicts come out
	ChangeTold     ChangeGroup = "told"     // to payers and reviewers; verdicts stay
	ChangeRecorded ChangeGroup = "recorded" // by rules in shadow
	ChangeNoted    ChangeGroup = "noted"    // acts on nothing: owners, descriptions, what is disabled or read by nobody
	ChangeTests    ChangeGroup = "tests"
)

// ChangeGroups returns all groups in their order.
func ChangeGroups() []ChangeGroup {
	return []ChangeGroup{ChangeActs, ChangeTold, ChangeRecorded, ChangeNoted, ChangeTests}
}

// Title heads the changes of a group.
func (g ChangeGroup) Title() string {
	return map[ChangeGroup]string{
		ChangeActs:     "Acts on payments",
		ChangeTold:     "What people are told; verdicts stay",
		ChangeRecorded: "Only recorded: rules in shadow",
		ChangeNoted:    "Acts on nothing",
		ChangeTests:    "Tests",
	}[g]
}

// ChangesText prints changes for people, a line each under the title of their
// group; "" of none.
func ChangesText(changes []Change) string {
	var b strings.Builder
	for _, group := range ChangeGroups() {
		titled := false
		for i := range changes {
			c := &changes[i]
			if c.Group != group {
				continue
			}
			if !titled {
				if b.Len() > 0 {
					b.WriteByte('\n')
				}
				b.WriteString(group.Title() + "\n")
				titled = true
			}
			b.WriteString("  " + c.String() + "\n")
		}
	}
	return b.String()
}

// Change is one difference between two rulesets.
type Change struct {
	Group  ChangeGroup `json:"group"`
	What   string      `json:"what"`             // rule, exempt, list, policy, rate, feature, notice, data, test
	Name   string      `json:"name,omitempty"`   // of the rule, exempt, …: that in the new ruleset
	Change string      `json:"change"`           // added, removed, renamed, changed
	Key    string      `json:"key,omitempty"`    // that has changed, as the format has it: verdict, hold.for
	From   string      `json:"from,omitempty"`   // "" where there was nothing
	To     string      `json:"to,omitempty"`     // "" where there is nothing
	Effect string      `json:"effect,omitempty"` // fires less, stricter, begins to act, …; "" where it cannot be told without payments
	Text   string      `json:"text"`             // all of it in words, without What and Name
	File   string      `json:"file,omitempty"`   // in the new ruleset; of what was removed, in the old one
	Line   int         `json:"line,omitempty"`   // from 1; 0 where a whole file is meant
}

// String says the change on one line.
func (c *Change) String() string {
	if c.Name == "" {
		return c.What + ": " + c.Text
	}
	return c.What + " " + c.Name + ": " + c.Text
}

// The words of Change.Change.
const (
	wasAdded   = "added"
	wasRemoved = "removed"
	wasRenamed = "renamed"
	wasChanged = "changed"
)

// Diff says what changes from one ruleset to another: what acts on payments
// first, then by kind and name. It is empty where both mean the same, however
// their files are laid out. Tests are no part of a ruleset: see DiffTests.
func Diff(from, to *Ruleset) []Change {
	d := &differ{from: asWritten(from), to: asWritten(to)}
	d.rules()
	d.order()
	d.exempts()
	d.others()
	d.lists()
	d.policy()
	d.rates()
	d.features()
	d.data()
	d.notices()
	groups := ChangeGroups()
	slices.SortStableFunc(d.changes, func(a, b Change) int {
		return cmp.Compare(slices.Index(groups, a.Group), slices.Index(groups, b.Group))
	})
	return d.changes
}

// differ gathers the changes between two rulesets.
type differ struct {
	from, to *wording
	changes  []Change
}

// about begins a change that stands at a node.
func about(group ChangeGroup, what, name string, at node) Change {
	c := Change{Group: group, What: what, Name: name, Change: wasChanged}
	if at.ast != nil {
		p := at.place()
		c.File, c.Line = p.src.name, p.line
	}
	return c
}

// say notes a change in words, with its effect in parentheses.
func (d *differ) say(c Change, format string, args ...any) {
	c.Text = fmt.Sprintf(format, args...)
	if c.Effect != "" {
		c.Text += " (" + c.Effect + ")"
	}
	d.changes = append(d.changes, c)
}

// value notes that a key has another value; nothing if it has not.
func (d *differ) value(c Change, key, from, to, effect string) {
	if from == to {
		return
	}
	c.Key, c.From, c.To, c.Effect = key, from, to, effect
	d.say(c, "%s from %s to %s", key, orNone(from), orNone(to))
}

// texts is value of texts that people read: in quotes.
func (d *differ) texts(c Change, key, from, to string) {
	if from == to {
		return
	}
	c.Key, c.From, c.To = key, from, to
	d.say(c, "%s from %s to %s", key, inQuotes(from), inQuotes(to))
}

func inQuotes(s string) string {
	if s == "" {
		return "none"
	}
	return fmt.Sprintf("%q", s)
}

// wording is a ruleset with its files as people wrote them.
type wording struct {
	set      *Ruleset
	files    map[string]node // that are YAML, by name
	rules    map[string]*writtenRule
	exempts  map[string]*writtenExempt
	others   map[string][]string // what files of rules have besides, by key: the members of lists
	lists    map[string]node
	features map[string]*writtenFeature // by full name
}

type writtenRule struct {
	*rule
	node  node
	reads mentions
}

type writtenExempt struct {
	*exempt
	node   node
	reads  mentions
	covers []string // ids of the rules that it switches off, sorted
}

// asWritten reads the files of a ruleset, which has loaded, once more.
func asWritten(set *Ruleset) *wording {
	w := &wording{set: set, files: map[string]node{}, rules: map[string]*writtenRule{}, exempts: map[string]*writtenExempt{}, others: map[string][]string{},
		lists: map[string]node{}, features: map[string]*writtenFeature{}}
	compiled := map[string]*rule{}
	for i := range set.rules {
		compiled[set.rules[i].id] = &set.rules[i]
	}
	exempts := map[string]int{}
	for i := range set.exempts {
		exempts[set.exempts[i].id] = i
	}
	for _, name := range slices.Sorted(maps.Keys(set.files)) {
		if strings.HasPrefix(name, "data/") {
			continue
		}
		n, _ := parseYAML(&report{}, newSource(name, set.files[name]), set.files[name])
		w.files[name] = n
		switch {
		case strings.HasPrefix(name, "rules/"):
			for _, one := range n.items("rules") {
				id := one.value("id").written()
				w.rules[id] = &writtenRule{rule: compiled[id], node: one, reads: mentionsOf(one.value("when").written())}
			}
			for _, one := range n.items("exempt") {
				id := one.value("id").written()
				x := &writtenExempt{exempt: &set.exempts[exempts[id]], node: one, reads: mentionsOf(one.value("when").written())}
				for i := range set.rules {
					if slices.Contains(set.rules[i].exempts, exempts[id]) {
						x.covers = append(x.covers, set.rules[i].id)
					}
				}
				slices.Sort(x.covers)
				w.exempts[id] = x
			}
			for _, key := range keysOf(n, node{}) {
				if key == "rules" || key == "exempt" {
					continue
				}
				for _, member := range n.value(key).oneOrMore() {
					w.others[key] = append(w.others[key], member.plain())
				}
			}
		case strings.HasPrefix(name, "lists/"):
			w.lists[n.value("list").written()] = n
		case strings.HasPrefix(name, "features/"):
			w.readFeatures(n)
		}
	}
	return w
}

// modeWord is the mode as the file has it.
func (r *writtenRule) modeWord() string {
	if m := r.node.value("mode"); m.ast != nil {
		return m.plain()
	}
	return "live"
}

// groupOf is the group of what only some rule of a mode looks at.
func groupOf(mode string) ChangeGroup {
	switch mode {
	case "disabled":
		return ChangeNoted
	case "shadow":
		return ChangeRecorded
	}
	return ChangeActs
}

// groupOfBoth is the first of two groups.
func groupOfBoth(a, b ChangeGroup) ChangeGroup {
	groups := ChangeGroups()
	return groups[min(slices.Index(groups, a), slices.Index(groups, b))]
}

// plain writes a value on one line in one form, however the file has it: a list
// of one as its member, a mapping by its keys in order. "" of no value.
func (n node) plain() string {
	if n.ast == nil {
		return ""
	}
	switch n.what() {
	case "a mapping":
		entries := n.entries("")
		slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.key, b.key) })
		var parts []string
		for _, e := range entries {
			parts = append(parts, e.key+": "+e.value.plain())
		}
		return "{" + join(parts) + "}"
	case "a list":
		members, _ := n.list("")
		var parts []string
		for _, m := range members {
			parts = append(parts, m.plain())
		}
		if len(parts) == 1 {
			return parts[0]
		}
		return bracketed(parts)
	case "text":
		return strings.TrimSpace(n.written())
	}
	return n.ast.GetToken().Value
}

// keysOf are the keys of two mappings, each once, those of the first one first.
func keysOf(a, b node) (keys []string) {
	for _, n := range []node{a, b} {
		if n.ast == nil || n.what() != "a mapping" {
			continue
		}
		for _, e := range n.entries("") {
			if !slices.Contains(keys, e.key) {
				keys = append(keys, e.key)
			}
		}
	}
	return keys
}

// keysOfBoth are the keys of two maps in their order, each once.
func keysOfBoth[V any](a, b map[string]V) []string {
	all := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(all)
	return slices.Compact(all)
}

// missing are the members of a that b has not.
func missing[T comparable](a, b []T) (out []T) {
	for _, v := range a {
		if !slices.Contains(b, v) {
			out = append(out, v)
		}
	}
	return out
}

// counted writes a number of things.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// oneLine writes a text without its line breaks.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
