package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
	"github.com/sluice-risk/sluice/rules"
)

// explain puts together what the rules and the windows say.
func (a *answering) explain(j *pipeline.Judged) error {
	in, base := j.Input, j.Rules.Policy().BaseCurrency
	tracer := j.Rules.NewTracer()
	out := &a.out
	out.Trace = tracer.Trace(in)
	out.Amount = money(in.Tx.Amount.Currency, in.Tx.Amount.Value)
	if in.HasAmount {
		out.BaseAmount = money(base, in.Amount)
	}
	if in.Duplicate != nil {
		out.Duplicate = &Duplicate{strings.Clone(in.Duplicate.ID), in.Duplicate.EventTime}
	}
	absent := map[string]string{}
	for slot := range j.Rules.OwnFeatures() {
		behind, err := j.Behind(a.ctx, slot)
		if err != nil {
			return fmt.Errorf("read the log behind %s: %w", j.Rules.Features()[slot].FullName(), err)
		}
		f := a.feature(j, slot, &behind)
		f.Shown = a.shown(tracer, j, slot)
		f.About = tracer.About(slot)
		f.Rules = lookAt(out.Trace, f.Feature)
		absent[f.Feature] = f.Absent
		out.Features = append(out.Features, f)
	}
	for i := range out.Trace.Rules {
		if c := out.Trace.Rules[i].Condition; c != nil {
			a.complete(c, absent)
		}
	}
	for i := range out.Trace.Exempts {
		a.complete(out.Trace.Exempts[i].Condition, absent)
	}
	return nil
}

// feature says what a value is made of.
func (a *answering) feature(j *pipeline.Judged, slot int, b *window.Behind) Feature {
	of := &j.Rules.Features()[slot]
	value := j.Input.Features[slot]
	out := Feature{Feature: of.FullName(), Entity: of.Entity.String(), ID: strings.Clone(b.ID), Value: value, From: b.From, To: b.To,
		LeftOut: b.LeftOut, NoRate: b.NoRate, NoValue: b.NoValue}
	if value.Kind() == payment.Absent {
		out.Absent = cmp.Or(b.Absent, "nothing in its window has a value")
	}
	if how, ok := j.Approximate(slot); ok {
		out.Approximate = "by " + how.Method
		if how.Resolution > 0 {
			out.Approximate += fmt.Sprintf(", an edge of the window may be off by %v", how.Resolution.Round(time.Millisecond))
		}
		if how.Error > 0 {
			out.Approximate += fmt.Sprintf(", with a standard error of %.1f %%", 100*how.Error)
		}
	}
	base := j.Rules.Policy().BaseCurrency
	counts := map[string]int{}
	for i := range b.Events {
		e := &b.Events[i]
		value := a.names.of(of, e.Value)
		if of.Aggregate == window.Distinct {
			counts[value]++
		}
		if a.Events > 0 && i >= a.Events {
			out.More++
			continue
		}
		event := Event{Time: e.Time, Position: fmt.Sprintf("%d/%d", e.Position.Segment, e.Position.Offset), Transaction: e.Transaction,
			Amount: money(e.Amount.Currency, e.Amount.Value), Value: value, Own: e.Own, amount: e.Base, based: e.Based}
		if e.Based && e.Amount.Currency != base {
			event.Base = money(base, e.Base)
		}
		if of.ReadsStatus {
			event.Status = e.Status.String()
		}
		out.Events = append(out.Events, event)
	}
	for value, n := range counts {
		out.Values = append(out.Values, ValueCount{value, n})
	}
	slices.SortFunc(out.Values, func(x, y ValueCount) int {
		return cmp.Or(cmp.Compare(y.Events, x.Events), cmp.Compare(x.Value, y.Value))
	})
	if a.Events > 0 && len(out.Values) > a.Events {
		out.MoreValues = len(out.Values) - a.Events
		out.Values = out.Values[:a.Events]
	}
	return out
}

// shown writes a value for people; an identifier by its name.
func (a *answering) shown(tracer *rules.Tracer, j *pipeline.Judged, slot int) string {
	if v := j.Input.Features[slot]; v.Kind() == payment.Ref {
		return a.names.of(&j.Rules.Features()[slot], v)
	}
	return tracer.Shown(slot, j.Input.Features[slot])
}

// lookAt returns the rules that apply and look at a feature.
func lookAt(t *rules.Trace, feature string) []string {
	var ids []string
	for i := range t.Rules {
		if r := &t.Rules[i]; r.Condition != nil && slices.Contains(r.Features, feature) {
			ids = append(ids, r.Rule)
		}
	}
	return ids
}

// complete tells the clauses what only the windows know: why a feature is absent,
// and who an identifier is.
func (a *answering) complete(c *rules.ClauseTrace, absent map[string]string) {
	for _, leaf := range c.Leaves() {
		part := slices.ContainsFunc(leaf.Operands, func(o rules.Operand) bool { return !o.Computed && o.Absent != "" })
		var unknown []string
		for i := range leaf.Operands {
			o := &leaf.Operands[i]
			if why, ok := absent[o.Text]; ok && o.Feature && o.Absent != "" && why != "" {
				o.Absent = why
			}
			if o.Value.Kind() == payment.Ref {
				o.Shown = a.names.name(o.Kind, o.Value.Ref())
			}
			if o.Absent != "" && !(part && o.Computed) {
				unknown = append(unknown, fmt.Sprintf("%s is unknown: %s", o.Text, o.Absent))
			}
		}
		if leaf.Needs == "" && leaf.Came == rules.TruthUnknown {
			leaf.Needs = strings.Join(unknown, "; ")
		}
	}
}

func money(c payment.Currency, minor int64) string {
	return string(c.AppendMajor(append([]byte(c.String()), ' '), minor))
}

// names knows identifiers by their hashes, of the kinds that features tell apart.
type names struct {
	kinds []window.Kind
	by    map[hashed]string
}

type hashed struct {
	kind window.Kind
	hash uint64
}

// newNames is ready to learn what the features of a ruleset look at. Those that
// only a ruleset looks at which comes into force later are shown as hashes.
func newNames(set *rules.Ruleset) *names {
	n := &names{by: map[hashed]string{}}
	for _, f := range set.OwnFeatures() {
		if f.Field == nil || f.Field.Kind != payment.Ref {
			continue
		}
		if k, ok := window.ParseKind(f.Field.Name); ok && !slices.Contains(n.kinds, k) {
			n.kinds = append(n.kinds, k)
		}
	}
	return n
}

// learn takes the identifiers of a transaction.
func (n *names) learn(j *pipeline.Judged) {
	tx := j.Transaction()
	for _, k := range n.kinds {
		h := hashed{k, j.Key.RefOf(k, tx)}
		if _, known := n.by[h]; h.hash != 0 && !known {
			n.by[h] = strings.Clone(window.Entity{First: k}.ID(tx))
		}
	}
}

func (n *names) name(k window.Kind, hash uint64) string {
	if name, ok := n.by[hashed{k, hash}]; ok {
		return name
	}
	return fmt.Sprintf("#%016x", hash)
}

// of writes a value that a feature has taken from an event; "" for none.
func (n *names) of(f *window.Feature, v payment.Value) string {
	switch v.Kind() {
	case payment.Absent:
		return ""
	case payment.Ref:
		k, _ := window.ParseKind(f.Field.Name)
		return n.name(k, v.Ref())
	case payment.String:
		return v.Str()
	}
	return string(v.AppendJSON(nil))
}
