package window

import "github.com/sluice-risk/sluice/pipeline/payment"

// Distinct values are counted exactly, in a tally, up to a configured number;
// beyond it by a sketch (sketch.go), until half of that number is left. The
// words of a cell are those of its tally; with a sketch, tallyUsed is sketched
// and tallyBlock the number of the sketch.
const (
	sketched     = 1 << 63
	sketchMethod = "hyperloglog"
)

func (f *folder) contributeDistinct(w []uint64, c *cell, el *elem, add bool) {
	v := c.Field.Get(f.view(el))
	if v.Kind() == payment.Absent {
		return
	}
	key := f.distinctKey(v)
	switch {
	case w[tallyUsed] == sketched:
		if add { // a sketch cuts by time itself
			f.sketches.list[w[tallyBlock]].add(el.time, key)
		}
	case add:
		f.sets.add(w, key)
	default:
		f.sets.remove(w, key)
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

func (s *sketches) bytes() (n int) {
	for _, k := range s.list {
		if k != nil {
			n += k.bytes()
		}
	}
	return n
}

// dropDistinct gives back what a cell of distinct values holds.
func (f *folder) dropDistinct(w []uint64) {
	if w[tallyUsed] != sketched {
		f.sets.drop(w)
		return
	}
	f.sketches.drop(w[tallyBlock])
	w[tallyUsed], w[tallyBlock] = 0, 0
}

// readDistinct returns how many distinct values the window of a cell has, and
// whether a sketch says so. It is here that a cell changes from one to the other.
func (f *folder) readDistinct(n uint32, c *cell, w []uint64) (count uint64, approximate bool) {
	if w[tallyUsed] != sketched {
		if w[tallyUsed] <= uint64(f.exactDistinct) {
			return w[tallyUsed], false
		}
		f.sketch(c, w)
		f.recount(n, c, w)
	}
	fd := f.foldOf(n)
	low, high := f.spans[c.span].bounds(fd.at)
	s := f.sketches.list[w[tallyBlock]]
	s.drop(low - (high - low)) // one window more, for those that are late
	count = s.estimate(low, high)
	if count < uint64(f.exactDistinct)/2 && !f.tiled(n) {
		f.dropDistinct(w)
		f.recount(n, c, w)
		return w[tallyUsed], false
	}
	return count, true
}

// sketch replaces the tally of a cell by an empty sketch.
func (f *folder) sketch(c *cell, w []uint64) {
	f.sets.drop(w)
	w[tallyUsed], w[tallyBlock] = sketched, f.sketches.put(newSketch(c.Reach()-c.Delay))
}

// recount adds the events of a cell's window to its empty words.
func (f *folder) recount(n uint32, c *cell, w []uint64) {
	fd, cursors := f.foldOf(n), f.words(n)
	for i := cursors[2*c.span]; i < cursors[2*c.span+1]; i++ {
		f.contribute(w, c, fd.events.at(f.rings, i), true)
	}
}
