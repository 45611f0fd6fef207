package window

import "slices"

// copyOf makes a fold that is what fold n is now, and goes its own way from then
// on. Nobody finds it by a key, and the clock passes over it.
func (f *folder) copyOf(n uint32) uint32 {
	m := f.number()
	from, to := f.foldOf(n), f.foldOf(m)
	*to = *from
	to.key, to.page = 0, m/foldPage
	to.events = f.copyRing(from, &from.events, to.page)
	to.outcomes = f.copyRing(from, &from.outcomes, to.page)
	for i := to.events.first; i < to.events.end(); i++ {
		el := to.events.at(f.ringsOf(to), i)
		if el.ref&tileBit == 0 {
			f.h.retain(el.number())
			continue
		}
		tile := f.tiles.newTile(f.tileWords)
		copy(f.tiles.of(tile, f.tileWords), f.tileOf(el))
		el.ref = el.ref&^numberMask | tile
	}
	for i := to.outcomes.first; i < to.outcomes.end(); i++ {
		f.h.retain(to.outcomes.at(f.ringsOf(to), i).number())
	}
	w := f.words(m)
	copy(w, f.words(n))
	for _, at := range f.distinct {
		f.copyDistinct(w[at:])
	}
	return m
}

// copyRing copies a ring of a fold into a zone, which may be its own.
func (f *folder) copyRing(fd *fold, r *ring, page uint32) ring {
	c := ring{first: r.first}
	if r.n == 0 {
		return c
	}
	to := &f.zones[page]
	c.n, c.size = r.n, roomFor(r.n)
	c.block = to.alloc(c.size)
	from := f.ringsOf(fd)
	old, into := from.elems[r.block:r.block+r.size], to.elems[c.block:c.block+c.size]
	some := copy(into[:r.n], old[r.head:])
	copy(into[some:r.n], old)
	return c
}

// copyDistinct lets the words of a cell, which were copied, have a tally and a
// sketch of their own.
func (f *folder) copyDistinct(w []uint64) {
	if w[tallyUsed] != untallied {
		if slots, class := f.sets.slots(w); slots != nil {
			block := f.sets.alloc(class)
			copy(f.sets.block(block, class), slots)
			w[tallyBlock] = uint64(block) | uint64(class+1)<<32
		}
	}
	if s := f.sketchOf(w); s != nil {
		w[distinctSketch] = f.sketches.put(s.copy()) + 1
	}
}

// copy makes a sketch that has the same values. Its views are made anew.
func (s *sketch) copy() *sketch {
	c := *s
	c.slices = slices.Clone(s.slices)
	for i := range c.slices {
		c.slices[i].own, c.slices[i].reach = c.slices[i].own.Clone(), c.slices[i].reach.Clone()
	}
	for i := range c.views {
		c.views[i] = sketchView{from: 1, to: 0}
	}
	return &c
}
