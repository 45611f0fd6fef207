package window

import (
	"math"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// span is a window of one entity: features of the same length, calendar and
// delay share its two cursors.
type span struct {
	length   time.Duration // 0 with NotCalendar: as far as the log reaches
	calendar Calendar
	location *time.Location
	delay    time.Duration
}

// bounds returns (low, high]: the event times that the window covers as of t.
func (s *span) bounds(t payment.Time) (low, high payment.Time) {
	high = t.Add(-s.delay)
	switch {
	case s.calendar == CalendarDay:
		y, m, d := high.Std().In(s.location).Date()
		return payment.TimeOf(time.Date(y, m, d, 0, 0, 0, 0, s.location)) - 1, high
	case s.calendar == CalendarMonth:
		y, m, _ := high.Std().In(s.location).Date()
		return payment.TimeOf(time.Date(y, m, 1, 0, 0, 0, 0, s.location)) - 1, high
	case s.length == 0:
		return math.MinInt64, high
	}
	return high.Add(-s.length), high
}

// cell is one feature of a group: which words of an entity's state are its own,
// and which slot of a transaction's values it fills.
type cell struct {
	Feature
	slot  int // in Item.Values
	span  int // in group.spans
	state int // the first of its words behind the cursors
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
		return 1
	}
	return 0 // read from the ring itself
}

// group is all features about one kind of entity (or pair), and the folds of
// all its entities.
type group struct {
	entity Entity
	spans  []span
	cells  []cell
	// The cells whose predicate looks at what changes after the event.
	byStatus, byVerdict []int
	reach               time.Duration // the farthest that a span looks back
	stateWords          int           // an entity's words: two cursors a span, then the cells'

	index map[uint64]uint32 // key of an entity to its number
	folds []fold
	state []uint64 // stateWords for each fold
	tally []tally  // of the cells that count distinct values
}

// fold is what is kept of one entity: its log as a ring, and the aggregates of
// its windows as of the moment at.
type fold struct {
	events   ring
	outcomes ring // of the events, by event time; only where a cell looks at the status
	at       payment.Time
	applied  uint64 // the outcomes before this index are known as of at
}

// newGroups sorts features into groups; slot i is the value of features[i].
func newGroups(features []Feature) []*group {
	var groups []*group
	byEntity := map[Entity]*group{}
	for slot, f := range features {
		if f.Field != nil {
			f.ReadsStatus = f.ReadsStatus || f.Field.ChangesByOutcome
			f.ReadsVerdict = f.ReadsVerdict || f.Field.ChangesByVerdict
		}
		g := byEntity[f.Entity]
		if g == nil {
			g = &group{entity: f.Entity, index: map[uint64]uint32{}, tally: make([]tally, 1)}
			byEntity[f.Entity] = g
			groups = append(groups, g)
		}
		s := span{f.Length, f.Calendar, f.Location, f.Delay}
		at := -1
		for i := range g.spans {
			if g.spans[i] == s {
				at = i
			}
		}
		if at < 0 {
			at = len(g.spans)
			g.spans = append(g.spans, s)
		}
		g.cells = append(g.cells, cell{Feature: f, slot: slot, span: at})
		g.reach = max(g.reach, f.Reach())
		if f.ReadsStatus {
			g.byStatus = append(g.byStatus, len(g.cells)-1)
		}
		if f.ReadsVerdict {
			g.byVerdict = append(g.byVerdict, len(g.cells)-1)
		}
	}
	for _, g := range groups {
		g.stateWords = 2 * len(g.spans)
		for i := range g.cells {
			g.cells[i].state = g.stateWords
			g.stateWords += g.cells[i].words()
		}
	}
	return groups
}
