package rules

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// namedList is one list of a ruleset. Read-only; what people change at run time is
// in Overrides.
type namedList struct {
	name      string
	index     int // among the lists of the ruleset
	kind      listType
	blocks    bool   // a hit is a block by itself
	payerCode string // what the payer of a hit is told
	reason    string // LIST_ and the name, in capitals
	detail    string // "on the list " and the name
	entries   listEntries
}

// ListInfo describes a list for people.
type ListInfo struct {
	Name    string `json:"list"`
	Type    string `json:"type"`
	Effect  string `json:"effect"`  // none or block
	Entries int    `json:"entries"` // in its file
}

// Lists returns the lists of the ruleset, by name.
func (s *Ruleset) Lists() []ListInfo {
	out := make([]ListInfo, len(s.lists))
	for i, l := range s.lists {
		out[i] = ListInfo{Name: l.name, Type: l.kind.String(), Effect: "none", Entries: len(l.entries.all)}
		if l.blocks {
			out[i].Effect = "block"
		}
	}
	return out
}

// EntryInfo describes an entry of a list for people.
type EntryInfo struct {
	Value   string       `json:"value"`
	From    payment.Time `json:"from,omitzero"`  // 0: always
	Until   payment.Time `json:"until,omitzero"` // 0: without end
	By      string       `json:"by,omitempty"`
	Why     string       `json:"why,omitempty"`
	Control string       `json:"control,omitempty"` // that added it; "" of an entry of the list's file
	Off     string       `json:"off,omitempty"`     // id of the control that took it off the file
	Counts  bool         `json:"counts"`            // at the event time that was asked for
}

// Entries returns the entries of a list: those of its file, then those that were
// added at run time, in order; false where there is no list of that name. What has
// been forgotten is not among them.
func (s *Ruleset) Entries(name string, o *Overrides, at payment.Time) ([]EntryInfo, bool) {
	l := s.listNamed(name)
	if l == nil {
		return nil, false
	}
	changed := o.over(s).list(l)
	out := make([]EntryInfo, 0, len(l.entries.all))
	info := func(e *listEntry) *EntryInfo {
		i := EntryInfo{Value: e.value, By: e.by, Why: e.why, Control: e.control, Counts: e.at(at)}
		if e.from != always {
			i.From = e.from
		}
		if e.until != never {
			i.Until = e.until
		}
		out = append(out, i)
		return &out[len(out)-1]
	}
	for i := range l.entries.all {
		e := &l.entries.all[i]
		made := info(e)
		if changed == nil {
			continue
		}
		var off *listEntry
		if key, network := l.keyOf(e.value); l.kind == ipList {
			off = changed.off.net(network, at)
		} else {
			off = changed.off.text(key, at)
		}
		if off != nil {
			made.Off, made.Counts = off.control, false
		}
	}
	if changed != nil {
		for i := range changed.added.all {
			info(&changed.added.all[i])
		}
	}
	return out, true
}

// listNamed returns a list, nil where there is none of that name.
func (s *Ruleset) listNamed(name string) *namedList {
	i, ok := slices.BinarySearchFunc(s.lists, name, func(l *namedList, name string) int { return strings.Compare(l.name, name) })
	if !ok {
		return nil
	}
	return s.lists[i]
}

// holds returns the entry by which a text is on a list as of this transaction,
// nil where it is not.
func (f *facts) holds(l *namedList, v string) *listEntry {
	key, t := v, f.Tx.EventTime
	if l.kind.keyed() {
		f.key = l.kind.key(f.key[:0], v)
		key = view(f.key)
	}
	e, changed := l.entries.text(key, t), f.Overrides.list(l)
	if changed == nil {
		return e
	}
	if e != nil {
		off := changed.off.text(key, t)
		if off == nil {
			return e
		}
		f.took(off.control)
	}
	return f.added(changed.added.text(key, t))
}

// holdsAddr is holds of an address.
func (f *facts) holdsAddr(l *namedList, a netip.Addr) *listEntry {
	t, changed := f.Tx.EventTime, f.Overrides.list(l)
	if changed == nil {
		return l.entries.addr(a, t, nil, nil)
	}
	e := l.entries.addr(a, t, &changed.off, func(by *listEntry) { f.took(by.control) })
	if e == nil {
		e = f.added(changed.added.addr(a, t, nil, nil))
	}
	return e
}

func (f *facts) added(e *listEntry) *listEntry {
	if e != nil {
		f.took(e.control)
	}
	return e
}

// took notes that a control took part in the decision.
func (f *facts) took(control string) {
	if !slices.Contains(f.controls, control) {
		f.controls = append(f.controls, control)
	}
}

// blocked returns the entry by which a list blocks this transaction, nil if it
// does not.
func (f *facts) blocked(l *namedList) *listEntry {
	if l.kind == ipList {
		if a := f.Tx.Device.Addr; a.IsValid() {
			return f.holdsAddr(l, a)
		}
		return nil
	}
	var own [4]string
	for _, v := range l.kind.values(f.Tx, own[:0]) {
		if v == "" {
			continue
		}
		if e := f.holds(l, v); e != nil {
			return e
		}
	}
	return nil
}

// inList asks a list about what a term reads, unknown where that is absent.
func inList(l *namedList, read func(*facts) (string, bool)) func(*facts) window.Truth {
	if l.kind == ipList {
		return func(f *facts) window.Truth {
			a := f.Tx.Device.Addr
			if !a.IsValid() {
				return window.Unknown
			}
			return window.TruthOf(f.holdsAddr(l, a) != nil)
		}
	}
	return func(f *facts) window.Truth {
		v, ok := read(f)
		if !ok {
			return window.Unknown
		}
		return window.TruthOf(f.holds(l, v) != nil)
	}
}

// lists writes the reasons of the lists that block a decision, and tells whether
// any does. The first one says what the payer is told.
func (e *Evaluator) lists(d *payment.Decision) (block bool) {
	for _, l := range e.set.blocking {
		hit := e.facts.blocked(l)
		if hit == nil {
			continue
		}
		from := len(e.details)
		e.details = append(e.details, l.detail...)
		if hit.why != "" {
			e.details = append(append(e.details, ": "...), hit.why...)
		}
		d.Reasons = append(d.Reasons, payment.DecisionReason{Code: l.reason, Detail: view(e.details[from:])})
		if !block {
			d.PayerCode = l.payerCode
		}
		block = true
	}
	return block
}
