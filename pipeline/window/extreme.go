package window

// The words of an extreme: the value, how many amounts take part, and whether
// the value has left the window and must be looked up again.
//
// An extreme that leaves is looked up when somebody asks. Of n amounts in random
// order it is the extreme that leaves once in n times, so that a look over the
// window costs as much as one step for each event; the worst order costs a look
// each time, over at most the number of events from which an entity is hot.
func contributeExtreme(w []uint64, a Aggregate, amount, n uint64, add bool) {
	switch {
	case add:
		w[1] += n
		if w[2] == 0 && (w[1] == n || a == Min && amount < w[0] || a == Max && amount > w[0]) {
			w[0] = amount
		}
	default:
		w[1] -= n
		if amount == w[0] {
			w[2] = 1
		}
		if w[1] == 0 {
			w[2] = 0
		}
	}
}

// findExtreme looks an extreme up again after it has left its window.
func (f *folder) findExtreme(n uint32, c *cell, w []uint64) {
	fd, cursors := f.foldOf(n), f.words(n)
	var found [3]uint64
	for i := cursors[2*c.span]; i < cursors[2*c.span+1]; i++ {
		f.contribute(found[:], c, fd.events.at(f.ringsOf(fd), i), true)
	}
	copy(w, found[:])
}
