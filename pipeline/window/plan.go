package window

import (
	"math"
	"slices"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// span is a window of one entity: features of the same length, calendar and
// delay share its two cursors.
type span struct {
	spanKey
	// The calendar day or month that was asked for last.
	begins, ends payment.Time
	from, to     int // its cells
}

type spanKey struct {
	length   time.Duration
	calendar Calendar
	location *time.Location
	delay    time.Duration
}

// bounds returns (low, high]: the event times that the window covers as of t.
func (s *span) bounds(t payment.Time) (low, high payment.Time) {
	high = t.Add(-s.delay)
	if s.calendar == NotCalendar {
		return high.Add(-s.length), high
	}
	if high < s.begins || high >= s.ends {
		s.begins, s.ends = s.calendar.around(high, s.location)
	}
	return s.begins - 1, high
}

// around returns the local midnights between which the day or month of t lies.
func (c Calendar) around(t payment.Time, l *time.Location) (begins, ends payment.Time) {
	y, m, d := t.Std().In(l).Date()
	if c == CalendarMonth {
		return payment.TimeOf(time.Date(y, m, 1, 0, 0, 0, 0, l)), payment.TimeOf(time.Date(y, m+1, 1, 0, 0, 0, 0, l))
	}
	return payment.TimeOf(time.Date(y, m, d, 0, 0, 0, 0, l)), payment.TimeOf(time.Date(y, m, d+1, 0, 0, 0, 0, l))
}

// cell is one feature of a group: which words of an entity's state are its own,
// and which slot of a transaction's values it fills.
type cell struct {
	Feature
	slot  int // in Item.Values
	span  int // in group.spans
	state int // the first of its words behind the cursors
	tile  int // the first of its words in a tile
	// What its predicates say of an event stands in these bits of elem.ref, where
	// it cannot change; 0: it can, or there are no bits left.
	whereBit, conditionBit uint64
}

// words is the number of words of state that the aggregate keeps.
func (c *cell) words() int {
	switch c.Aggregate {
	case Count:
		return 1
	case Sum, Share:
		return 2
	case Avg:
		return 3
	case StdDev:
		return 6
	case Min, Max:
		return 3
	case Distinct:
		return distinctWords
	}
	return 0 // read from the ring itself
}

// readsEntries reports whether an elem does not tell what the cell needs when it leaves a window.
func (c *cell) readsEntries() bool {
	return c.Aggregate == Distinct || c.Where != nil && c.whereBit == 0 || c.Condition != nil && c.conditionBit == 0
}

// group is all features about one kind of entity (or pair).
type group struct {
	entity Entity
	spans  []span
	cells  []cell
	// The cells whose predicate looks at what changes after the event.
	byStatus, byVerdict []int
	distinct            []int         // the words where the tallies of cells begin
	reading             []int         // the spans that read an event's entry when it leaves them
	reach               time.Duration // the farthest that a span looks back
	within              time.Duration // of EarlierCharges, 0 without it
	onlyEarlier         bool          // nothing else looks at it
	stateWords          int           // an entity's words: two cursors a span, then the cells'
	tileWords           int           // a tile's
}

// newGroups sorts features into groups; slot i is the value of features[i]. A
// feature without a window looks back as far as logs are kept.
func newGroups(features []Feature, keep time.Duration) []*group {
	var groups []*group
	byEntity := map[Entity]*group{}
	for slot, f := range features {
		if f.Field != nil {
			f.ReadsStatus = f.ReadsStatus || f.Field.ChangesByOutcome
			f.ReadsVerdict = f.ReadsVerdict || f.Field.ChangesByVerdict
		}
		if f.Length == 0 && f.Calendar == NotCalendar {
			f.Length = keep
		}
		g := byEntity[f.Entity]
		if g == nil {
			g = &group{entity: f.Entity}
			byEntity[f.Entity] = g
			groups = append(groups, g)
		}
		key := spanKey{f.Length, f.Calendar, f.Location, f.Delay}
		at := slices.IndexFunc(g.spans, func(s span) bool { return s.spanKey == key })
		if at < 0 {
			at = len(g.spans)
			g.spans = append(g.spans, span{spanKey: key, begins: math.MaxInt64, ends: math.MinInt64})
		}
		g.cells = append(g.cells, cell{Feature: f, slot: slot, span: at})
		g.reach, g.within = max(g.reach, f.Reach()), max(g.within, f.Within)
	}
	for _, g := range groups {
		g.onlyEarlier = len(g.cells) == 1 && g.cells[0].Aggregate == earlier
		g.shareBits()
		g.stateWords = 2 * len(g.spans)
		slices.SortStableFunc(g.cells, func(a, b cell) int { return a.span - b.span })
		for i := range g.cells {
			c := &g.cells[i]
			if s := &g.spans[c.span]; s.to == 0 {
				s.from, s.to = i, i+1
			} else {
				s.to = i + 1
			}
			if c.ReadsStatus {
				g.byStatus = append(g.byStatus, i)
			}
			if c.ReadsVerdict {
				g.byVerdict = append(g.byVerdict, i)
			}
			c.state = g.stateWords
			g.stateWords += c.words()
			c.tile = g.tileWords
			g.tileWords += c.inTile()
			if c.Aggregate == Distinct {
				g.distinct = append(g.distinct, c.state)
			}
			if c.readsEntries() && !slices.Contains(g.reading, c.span) {
				g.reading = append(g.reading, c.span)
			}
		}
	}
	return groups
}

// shareBits gives bits of elem.ref to predicates that look only at what never
// changes: an event that leaves a window is then judged without being read.
func (g *group) shareBits() {
	next := uint64(firstJudgedBit)
	give := func(p Predicate) (bit uint64) {
		if p != nil && next < basedBit {
			bit, next = next, next<<1
		}
		return bit
	}
	for i := range g.cells {
		if c := &g.cells[i]; !c.ReadsStatus && !c.ReadsVerdict {
			c.whereBit, c.conditionBit = give(c.Where), give(c.Condition)
		}
	}
}
