package window

import (
	"time"

	"github.com/sluice-risk/sluice/pipeline/window/table"
)

// memory is what folds are made of: arenas without pointers, shared by all
// entities of a store, and bounded together. When the bound is reached, entities
// that nobody has looked at for a while are evicted; that costs a look at their
// log when they come again, never a number.
type memory struct {
	sets     tallies  // of the cells that count distinct values
	sketches sketches // of those that have too many
	folders  []*folder
	guesses  guesses // see peek.go
	turn     int     // of the folders: where the clock's hand stands
}

// folder works on the folds of one group: it is the group, its entities, and
// what they are made of.
type folder struct {
	*group
	h         history
	key       Key
	sets      *tallies
	sketches  *sketches
	tiles     tileWords
	outages   *outages
	texts     map[string]string // what `last` has returned
	hotEvents int               // see hot.go
	// Up to so many distinct values are counted exactly.
	exactDistinct int
	lateness      time.Duration
	lateInMemory  time.Duration // of an entity with few events; 0: all lateness

	index table.Table[uint64, uint32] // key of an entity to its number
	count uint32                      // of the numbers that were given out
	free  []uint32                    // of these, those that nobody has
	folds [][]fold                    // pages of foldPage
	zones []zone                      // for each page, what its rings are made of
	state [][]uint64                  // pages of foldPage, stateWords for each fold
	hand  uint32                      // of the clock
	// evicted, if set, is told of a fold before it is given up.
	evicted func(*fold)
	ev      Event // scratch of view
}

// newFolder makes the folder of a group in a memory.
func (m *memory) newFolder(g *group, h history, key Key, o *outages, opts *Options) *folder {
	return &folder{group: g, h: h, key: key, sets: &m.sets, sketches: &m.sketches, outages: o,
		texts: map[string]string{}, hotEvents: opts.HotEvents, exactDistinct: opts.ExactDistinct, lateness: opts.Lateness}
}

// find returns the number of the entity with this key.
func (f *folder) find(key uint64) (n uint32, ok bool) {
	if at := f.index.Find(key, key); at != nil {
		return *at, true
	}
	return 0, false
}

// begin makes an empty fold for an entity; one that it has is no longer found.
func (f *folder) begin(key uint64) uint32 {
	n := f.number()
	at, _ := f.index.Add(key, key)
	*at = n
	*f.foldOf(n) = fold{key: key, page: n / foldPage, used: true, fresh: true, at: minTime, from: minTime}
	return n
}

// number gives out the number of a fold that nobody has.
func (f *folder) number() uint32 {
	var n uint32
	if last := len(f.free) - 1; last >= 0 {
		n = f.free[last]
		f.free = f.free[:last]
	} else {
		n = f.count
		if int(n/foldPage) == len(f.folds) {
			f.folds = append(f.folds, make([]fold, foldPage))
			f.zones = append(f.zones, zone{})
			f.state = append(f.state, make([]uint64, foldPage*f.stateWords))
		}
		f.count++
	}
	return n
}

// ringsOf is the zone in which the rings of a fold are.
func (f *folder) ringsOf(fd *fold) *zone { return &f.zones[fd.page] }

// sweep moves the rings of a page together, in a zone that is as large as they need.
func (f *folder) sweep(page uint32) {
	z := &f.zones[page]
	swept := zone{elems: make([]elem, 0, z.live+z.live/4)}
	for i := range f.folds[page] {
		fd := &f.folds[page][i]
		fd.events.move(z, &swept, roomFor(fd.events.n))
		fd.outcomes.move(z, &swept, roomFor(fd.outcomes.n))
	}
	*z = swept
}

// evict forgets an entity.
func (f *folder) evict(n uint32) {
	fd := f.foldOf(n)
	if f.evicted != nil {
		f.evicted(fd)
	}
	f.index.Delete(fd.key, fd.key)
	f.discard(n)
}

// discard gives back a fold that nobody finds any more.
func (f *folder) discard(n uint32) {
	f.release(n)
	f.free = append(f.free, n)
}

// release gives back all that a fold holds.
func (f *folder) release(n uint32) {
	fd := f.foldOf(n)
	for i := fd.events.first; i < fd.events.end(); i++ {
		f.forget(fd.events.at(f.ringsOf(fd), i))
	}
	for i := fd.outcomes.first; i < fd.outcomes.end(); i++ {
		f.h.release(fd.outcomes.at(f.ringsOf(fd), i).number())
	}
	fd.events.free(f.ringsOf(fd))
	fd.outcomes.free(f.ringsOf(fd))
	w := f.words(n)
	for _, at := range f.distinct {
		f.dropDistinct(w[at:])
	}
	clear(w)
	*fd = fold{}
}

// forget gives back what an elem of a ring holds.
func (f *folder) forget(el *elem) {
	if el.ref&tileBit != 0 {
		f.tiles.free = append(f.tiles.free, el.number())
	} else {
		f.h.release(el.number())
	}
}

// clearState makes all windows of an entity empty and unread; sketches stay.
func (f *folder) clearState(n uint32) {
	w := f.words(n)
	var kept []uint64
	for _, at := range f.distinct {
		f.dropTally(w[at:])
		kept = append(kept, w[at+distinctSketch])
	}
	clear(w)
	for i, at := range f.distinct {
		w[at+distinctSketch] = kept[i]
	}
	f.foldOf(n).fresh = true
}

const (
	elemBytes  = 24
	foldBytes  = 96
	indexBytes = 24 * 2 // of the table, half full
	slotBytes  = 16
)

// bytes is what the folds take.
func (m *memory) bytes() int64 {
	n := int64(m.sets.held)*smallBlock*slotBytes + int64(m.sketches.bytes())
	for _, f := range m.folders {
		live := int64(f.count) - int64(len(f.free))
		for i := range f.zones {
			n += int64(cap(f.zones[i].elems)) * elemBytes
		}
		n += live*int64(foldBytes+8*f.stateWords+indexBytes) + int64(f.tiles.count-uint64(len(f.tiles.free)))*int64(8*f.tileWords)
	}
	return n
}

// entities is how many entities have a fold.
func (m *memory) entities() (n int) {
	for _, f := range m.folders {
		n += f.index.Len()
	}
	return n
}

// shrink evicts entities until the folds take no more than a limit. It is the
// clock algorithm: the hand passes over the folds and evicts those that were not
// used since it passed the last time. It returns how many it evicted.
func (m *memory) shrink(limit int64) (evicted int) {
	for passed := 0; len(m.folders) > 0 && m.bytes() > limit; {
		f := m.folders[m.turn%len(m.folders)]
		m.turn++
		for range foldPage {
			if f.hand >= f.count {
				f.hand = 0
				break
			}
			fd := f.foldOf(f.hand)
			switch {
			case fd.key == 0:
			case fd.used:
				fd.used = false
			default:
				f.evict(f.hand)
				evicted++
			}
			f.hand++
		}
		if page := max(f.hand, 1) - 1; f.zones != nil && f.zones[page/foldPage].wasted() {
			f.sweep(page / foldPage)
		}
		if passed++; passed > 4*len(m.folders)*(int(m.most())/foldPage+2) {
			break // what is left is in use
		}
	}
	return evicted
}

// most is the largest number of entities that a folder has had.
func (m *memory) most() (n uint32) {
	for _, f := range m.folders {
		n = max(n, f.count)
	}
	return n
}

// aside makes a folder for one entity of a group, apart from all others: what
// was read there is folded once more for a transaction that comes again.
func (f *folder) aside(lateness time.Duration) *folder {
	var m memory
	opts := Options{HotEvents: f.hotEvents, ExactDistinct: f.exactDistinct, Lateness: lateness}
	return m.newFolder(f.group, f.h, f.key, f.outages, &opts)
}
