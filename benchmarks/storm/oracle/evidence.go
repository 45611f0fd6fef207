package oracle

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// A Loss is a moment at which a store had lost the end of its logs.
type Loss struct {
	At  payment.Time        // before anything was appended again
	End func(log string) At // where the logs ended then; 0 for one that was gone
}

// lost tells whether a position that a decision of that time names was lost since.
func (g *Gate) lost(decided payment.Time, log string, upTo At) bool {
	for _, l := range g.Losses {
		if decided < l.At && upTo > l.End(log) {
			return true
		}
	}
	return false
}

// evidence is what a decision rests on.
type evidence struct {
	values []value   // by feature; absent where there is none
	upTo   [kinds]At // the positions, 0 where there is none
}

// readEvidence reads the values and positions of a decision on content c.
func (g *Gate) readEvidence(d said, c *content) (evidence, error) {
	_, rest, found := strings.Cut(string(d.record.Value), `"evidence":{"features":{`)
	values, rest, found2 := strings.Cut(rest, `},"positions":{`)
	positions, rest, found3 := strings.Cut(rest, `}`)
	if !found || !found2 || !found3 || strings.Contains(values+positions, `\`) || strings.HasPrefix(rest, `,"approximate"`) {
		return evidence{}, errors.New("evidence cannot be read, or is not exact")
	}
	e := evidence{values: make([]value, len(g.Features))}
	seen := make([]bool, len(g.Features))
	for i := range e.values {
		e.values[i] = absent()
	}
	for pair := range strings.SplitSeq(values, ",") {
		name, text, _ := strings.Cut(pair, `":`)
		i, ok := g.places[strings.TrimPrefix(name, `"`)]
		if !ok || seen[i] {
			return e, fmt.Errorf("feature %s is unknown or there twice", name)
		}
		seen[i] = true
		if text, ok := strings.CutPrefix(text, `"`); ok {
			e.values[i] = value{text: strings.TrimSuffix(text, `"`)}
			continue
		}
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return e, err
		}
		e.values[i] = value{number: v}
	}
	for pair := range strings.SplitSeq(positions, ",") {
		entity, position, _ := strings.Cut(strings.Trim(pair, `"`), `":"`)
		segment, offset, _ := strings.Cut(position, "/")
		a, err1 := strconv.ParseUint(segment, 10, 32)
		b, err2 := strconv.ParseUint(offset, 10, 32)
		if err1 != nil || err2 != nil {
			return e, fmt.Errorf("position %s cannot be read", pair)
		}
		for k, kind := range Kinds() {
			if entity == kind+":"+c.ids[k] {
				e.upTo[k] = atOf(a, b)
			}
		}
	}
	for k, kind := range Kinds() {
		if (c.ids[k] != "") != (e.upTo[k] != 0) {
			return e, fmt.Errorf("%s: the position is missing, or there is one too many", kind)
		}
	}
	return e, nil
}

// counts are those of values, of one goroutine.
type counts struct{ compared, own, later, degraded, without int }

// rests tells whether a decision rests on windows, and says so in full.
func rests(source payment.Source, degraded []string, n *counts) bool {
	switch source {
	case payment.SourceInvalid, payment.SourceDefaultDeadline, payment.SourceDefaultError, payment.SourceReview, payment.SourceStepUp, payment.SourceExpiry:
		n.without++
		return false
	}
	for _, what := range degraded {
		switch what {
		case payment.DegradedLate, payment.DegradedStale, payment.DegradedNoFeatures:
			n.degraded++
			return false
		}
	}
	return true
}

// checkValues recomputes every value of a decision.
func (a *audit) checkValues(x *transaction, d said, by *definitions, n *counts) {
	g, c := a.gate, x.decided()
	if !rests(payment.Source(d.text("source")), d.degraded(), n) {
		return
	}
	e, err := g.readEvidence(d, c)
	if err != nil {
		a.found(Wrong, "%v: %s", err, d)
		return
	}
	decided := d.time("decided_at")
	var own [kinds]int32
	var logs [kinds]*Log
	for k, kind := range Kinds() {
		if c.keys[k] == 0 {
			continue
		}
		name := logName(kind, c.keys[k])
		if g.lost(decided, name, e.upTo[k]) {
			a.lost(LostPosition{x.id, kind + ":" + c.ids[k], e.upTo[k]})
			continue
		}
		l := g.Logs[name]
		i, ok := int32(0), false
		if l != nil {
			i, ok = l.of[x.hash]
		}
		if !ok {
			continue // checkLogs says that it is missing
		}
		logs[k], own[k] = l, i
		switch at := l.events[i].at; {
		case at == e.upTo[k]:
			n.own++
		case at < e.upTo[k]:
			n.later++
		case !g.everLost(decided):
			a.found(Wrong, "transaction %s stands at %v in the log of %s %s, and was decided up to %v", x.id, at, kind, c.ids[k], e.upTo[k])
		}
	}
	for i := range g.Features {
		f, want := &g.Features[i], absent()
		switch {
		case c.keys[f.kind] != 0 && logs[f.kind] == nil:
			continue
		case c.keys[f.kind] != 0:
			want = by.value(f, logs[f.kind], own[f.kind], e.upTo[f.kind])
		}
		if n.compared++; !want.equal(e.values[i]) {
			a.found(Wrong, "transaction %s: %s of %s up to %v is %v, by definition %v", x.id, f.FullName(), c.ids[f.kind], e.upTo[f.kind], e.values[i], want)
		}
	}
}

// everLost tells whether anything was lost after that time: then a transaction may
// have been appended again, and stand behind the position of its decision.
func (g *Gate) everLost(decided payment.Time) bool {
	for _, l := range g.Losses {
		if decided < l.At {
			return true
		}
	}
	return false
}
