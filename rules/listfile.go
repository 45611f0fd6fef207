package rules

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

var listPattern = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,58}$`)

const (
	listHint = "a name such as stolen-cards: small letters, digits, - and _ after the first, at most 59"
	// listPayerCode is what the payer of a hit is told where the list says nothing.
	listPayerCode = "TRY_ANOTHER_WAY"
)

// listFiles gathers the lists of all files of lists/.
type listFiles struct {
	location *time.Location        // in which a day ends
	taken    map[string]place      // of the lists so far, by name
	lists    map[string]*namedList // nil for one that has a problem
	dated    []dated               // entries that end
}

// dated is something in a file that ends.
type dated struct {
	place
	what  string
	until payment.Time
}

// read takes the list of one file.
func (f *listFiles) read(n node) {
	before := len(n.problems)
	l := &namedList{payerCode: listPayerCode, entries: newEntries()}
	typed, silent := false, true // silent: payer_code would never be said
	var name, rows node
	found := n.object("a list",
		field{"list", func(v node) { name = v }},
		field{"type", func(v node) {
			if s, ok := v.choice("type", listTypeNames[:]...); ok {
				l.kind, typed = listType(slices.Index(listTypeNames[:], s)), true
			}
		}},
		field{"effect", func(v node) {
			s, ok := v.choice("effect", "none", "block")
			l.blocks, silent = s == "block", ok && s == "none"
		}},
		field{"payer_code", func(v node) { l.payerCode, _ = v.name("payer_code", codePattern, codeHint) }},
		field{"description", func(v node) { v.text("description") }},
		field{"owner", func(v node) { v.text("owner") }},
		field{"entries", func(v node) { rows = v }})
	n.needs("a list", found, "list", "type", "entries")
	if name.ast != nil {
		l.name = f.name(name)
	}
	if l.blocks && typed && l.kind == stringList {
		n.suggest(found["effect"].place(), "ask it in a rule: in_list(attributes.promotion, \""+l.name+"\")", "a list of strings belongs to no field, so that it cannot block by itself")
	}
	if found["payer_code"].ast != nil && silent {
		n.at(found["payer_code"].place(), "payer_code belongs to effect: block")
	}
	if typed && rows.ast != nil {
		f.entries(rows, l)
	}
	l.reason, l.detail = "LIST_"+strings.ToUpper(strings.ReplaceAll(l.name, "-", "_")), "on the list "+l.name
	switch {
	case l.name == "":
	case len(n.problems) > before:
		f.lists[l.name] = nil
	default:
		f.lists[l.name] = l
	}
}

// name reads a name that no other list of the ruleset has.
func (f *listFiles) name(n node) string {
	name, ok := n.name("list", listPattern, listHint)
	if !ok {
		return ""
	}
	if other, taken := f.taken[name]; taken {
		n.at(n.place(), "the name %s is taken by the list at %s", name, placeText(other))
		return ""
	}
	f.taken[name] = n.place()
	return name
}

// entries reads the entries of a list.
func (f *listFiles) entries(n node, l *namedList) {
	all, ok := n.list("entries")
	if !ok {
		return
	}
	places := map[string]place{} // by what is compared
	for _, row := range all {
		var value node
		e := listEntry{from: always, until: never}
		var until node
		found := row.object("an entry",
			field{"value", func(v node) { value = v }},
			field{"until", func(v node) { until, e.until = v, v.until("until", f.location) }},
			field{"by", func(v node) { e.by, _ = v.text("by") }},
			field{"why", func(v node) { e.why, _ = v.text("why") }})
		row.needs("an entry", found, "value")
		if value.ast == nil {
			continue
		}
		s, ok := value.text("value")
		if !ok {
			continue
		}
		if must, suggestion := l.kind.check(s); must != "" {
			value.suggest(value.place(), suggestion, "a value of type %s must be %s", l.kind, must)
			continue
		}
		key, network := l.keyOf(s)
		same := key
		if l.kind == ipList {
			same = network.String()
		}
		if other, taken := places[same]; taken {
			value.at(value.place(), "the value is there twice: also in line %d", other.line)
			continue
		}
		places[same] = value.place()
		e.value = s
		l.put(&l.entries, key, network, e)
		if e.until != never {
			f.dated = append(f.dated, dated{until.place(), "the entry " + s + " of the list " + l.name, e.until})
		}
	}
}

// keyOf is a good value in the form in which it is compared: as a text, or as
// a network.
func (l *namedList) keyOf(v string) (string, netip.Prefix) {
	if l.kind == ipList {
		p, _ := parseNet(v)
		return "", p
	}
	return string(l.kind.key(nil, v)), netip.Prefix{}
}

// put adds an entry under what keyOf gave.
func (l *namedList) put(to *listEntries, key string, network netip.Prefix, e listEntry) {
	if l.kind == ipList {
		to.addNet(network, e)
	} else {
		to.addText(key, e)
	}
}

// sorted are the lists without a problem, by name, each with its index.
func (f *listFiles) sorted() (all, blocking []*namedList) {
	for _, l := range f.lists {
		if l != nil {
			all = append(all, l)
		}
	}
	slices.SortFunc(all, func(a, b *namedList) int { return strings.Compare(a.name, b.name) })
	for i, l := range all {
		if l.index = i; l.blocks {
			blocking = append(blocking, l)
		}
	}
	return all, blocking
}

// until reads when something ends: at a time, or at the end of a day. What has
// ended by now is no problem, or a good ruleset would be a bad one tomorrow.
func (n node) until(what string, location *time.Location) payment.Time {
	s, ok := n.text(what)
	if !ok {
		return never
	}
	if t, ok := payment.ParseTime(s); ok {
		return t
	}
	day, err := time.Parse(time.DateOnly, s)
	if err != nil || day.Year() < 1970 || day.Year() > 2200 {
		n.at(n.place(), "%s must be a day such as 2027-03-31, or a time such as 2027-03-31T18:00:00+08:00", what)
		return never
	}
	if location == nil {
		location = time.UTC
	}
	return payment.TimeOf(time.Date(day.Year(), day.Month(), day.Day()+1, 0, 0, 0, 0, location))
}
