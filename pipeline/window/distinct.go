package window

import (
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Distinct values are counted exactly, in a tally, up to a configured number, and
// by a sketch (sketch.go) where there are more or where the window holds tiles
// (hot.go). Which of both answers is a function of what is in the window, so that
// a fold that is made again says the same:
//
//   - the tally counts the exact events of the window. It is given up when there
//     are twice as many values as it may answer for; so many events have to leave
//     the window before they can be so few again, and then it is counted anew.
//     That costs a step or two for each event;
//   - the sketch is made when the tally is too large, or before events that it
//     needs go into tiles, and kept until half as many values are left.
//
// The words of a cell are those of its tally, and the number of its sketch, plus
// one. Without a tally the second word is how many events have to leave.
const (
	distinctSketch = tallyWords
	distinctWords  = tallyWords + 1

	untallied    = 1 << 63
	sketchMethod = "hyperloglog"
)

func (f *folder) contributeDistinct(w []uint64, c *cell, el *elem, add bool) {
	v := c.Field.Get(f.view(el))
	if v.Kind() == payment.Absent {
		return
	}
	key := f.distinctKey(v)
	switch {
	case w[tallyUsed] == untallied:
		if !add && w[tallyBlock] > 0 {
			w[tallyBlock]--
		}
	case add:
		f.sets.add(w, key)
	default:
		f.sets.remove(w, key)
	}
	if s := f.sketchOf(w); s != nil && add { // where an outcome has changed what counts
		s.add(el.time, key)
	}
}

// distinctKey is the 64-bit keyed hash that stands for a value.
func (f *folder) distinctKey(v payment.Value) uint64 {
	switch v.Kind() {
	case payment.Ref:
		return v.Ref()
	case payment.String:
		return f.key.text(v.Str())
	case payment.Bool:
		if v.Bool() {
			return 1
		}
		return 2
	}
	return f.key.pair(uint64(v.Int()), 1)
}

// sketches are those of all entities of a store.
type sketches struct {
	list []*sketch
	free []uint64
}

func (s *sketches) put(k *sketch) uint64 {
	if n := len(s.free); n > 0 {
		at := s.free[n-1]
		s.free = s.free[:n-1]
		s.list[at] = k
		return at
	}
	s.list = append(s.list, k)
	return uint64(len(s.list) - 1)
}

func (s *sketches) drop(at uint64) {
	s.list[at] = nil
	s.free = append(s.free, at)
}

// any tells whether there is one.
func (s *sketches) any() bool { return len(s.list) > len(s.free) }

func (s *sketches) bytes() (n int) {
	for _, k := range s.list {
		if k != nil {
			n += k.bytes()
		}
	}
	return n
}

func (f *folder) sketchOf(w []uint64) *sketch {
	if at := w[distinctSketch]; at > 0 {
		return f.sketches.list[at-1]
	}
	return nil
}

// dropDistinct gives back what a cell of distinct values holds.
func (f *folder) dropDistinct(w []uint64) {
	f.dropTally(w)
	f.dropSketch(w)
}

func (f *folder) dropTally(w []uint64) {
	if w[tallyUsed] == untallied {
		w[tallyUsed], w[tallyBlock] = 0, 0
	}
	f.sets.drop(w)
}

func (f *folder) dropSketch(w []uint64) {
	if at := w[distinctSketch]; at > 0 {
		f.sketches.drop(at - 1)
		w[distinctSketch] = 0
	}
}

// readDistinct returns how many distinct values the window of a cell has, and
// notes in the item where it is not exact.
func (f *folder) readDistinct(n uint32, c *cell, w []uint64, it *Item) (count uint64) {
	fd, cursors := f.foldOf(n), f.words(n)[2*c.span:]
	if w[tallyUsed] == untallied && w[tallyBlock] == 0 {
		f.tallyAgain(n, c, w)
	}
	exact, tiles := uint64(f.exactDistinct), f.nextTile(fd, cursors[0], cursors[1]) != nil
	count = w[tallyUsed]
	if count <= exact && !tiles {
		if count < exact/2 && fd.tiles == 0 {
			f.dropSketch(w)
		}
		return count
	}
	low, high := f.spans[c.span].bounds(fd.at)
	if low < f.sketchFloor(fd, c) || tiles && f.sketchOf(w) == nil { // of a late payment: it does not see what is in the tiles
		if count == untallied {
			f.tallyAgain(n, c, w)
			count = w[tallyUsed]
		}
		if tiles {
			it.approximate(c, time.Duration(fd.tiledTo-low))
		}
		return count
	}
	s := f.sketchOf(w)
	if s == nil {
		s = f.makeSketch(n, c, w)
	}
	if count != untallied && count > 2*exact {
		f.dropTally(w)
		w[tallyUsed], w[tallyBlock] = untallied, count-exact
	}
	it.Approximate = append(it.Approximate, Approximation{Slot: c.slot, Method: sketchMethod, Error: sketchError, Resolution: s.resolution()})
	return s.estimate(low, high)
}

// sketchFloor is the time from which on a sketch answers: one window before that
// of the newest event, for those that are late.
func (f *folder) sketchFloor(fd *fold, c *cell) payment.Time {
	low, _ := f.spans[c.span].bounds(fd.events.at(f.ringsOf(fd), fd.events.end()-1).time)
	return low.Add(-c.length())
}

// length is the longest that the window gets.
func (c *cell) length() time.Duration { return c.Reach() - c.Delay }

// tallyAgain counts the exact events of a cell's window anew.
func (f *folder) tallyAgain(n uint32, c *cell, w []uint64) {
	w[tallyUsed], w[tallyBlock] = 0, 0
	fd, cursors := f.foldOf(n), f.words(n)[2*c.span:]
	for i := cursors[0]; i < cursors[1]; i++ {
		f.contribute(w, c, fd.events.at(f.ringsOf(fd), i), true)
	}
}

// makeSketch gives a cell a sketch of all that its window, or the one before it,
// can see.
func (f *folder) makeSketch(n uint32, c *cell, w []uint64) *sketch {
	s := newSketch(c.length())
	w[distinctSketch] = f.sketches.put(s) + 1
	fd := f.foldOf(n)
	floor := f.sketchFloor(fd, c)
	s.drop(floor)
	f.addToSketch(s, c, fd, fd.events.after(f.ringsOf(fd), floor), fd.events.end())
	return s
}

// addToSketch adds the exact events from..to-1 of a ring; those that are in the
// sketch already change nothing.
func (f *folder) addToSketch(s *sketch, c *cell, fd *fold, from, to uint64) {
	for i := from; i < to; i++ {
		el := fd.events.at(f.ringsOf(fd), i)
		if el.ref&tileBit != 0 || !f.counts(c, el) {
			continue
		}
		if v := c.Field.Get(f.view(el)); v.Kind() != payment.Absent {
			s.add(el.time, f.distinctKey(v))
		}
	}
}

// sketchEvent adds a new event to the sketches of its entity, whether a window
// has come to it or not: they cut by time themselves, and so are a function of
// the log.
func (f *folder) sketchEvent(n uint32, at uint64) {
	for i := range f.cells {
		c := &f.cells[i]
		if c.Aggregate != Distinct {
			continue
		}
		if s := f.sketchOf(f.words(n)[c.state:]); s != nil {
			fd := f.foldOf(n)
			s.drop(f.sketchFloor(fd, c))
			f.addToSketch(s, c, fd, at, at+1)
		}
	}
}

// sketchBefore gives a sketch to the cells whose window reaches back before the
// event with an index, before all events up to there go into tiles.
func (f *folder) sketchBefore(n uint32, exact uint64) {
	fd := f.foldOf(n)
	for i := range f.cells {
		c := &f.cells[i]
		if c.Aggregate != Distinct {
			continue
		}
		w := f.words(n)[c.state:]
		if low, _ := f.spans[c.span].bounds(fd.at); f.sketchOf(w) == nil && low < fd.events.at(f.ringsOf(fd), exact).time {
			f.makeSketch(n, c, w)
		}
	}
}
