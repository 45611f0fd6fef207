package window

import (
	"math/bits"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// A hot entity is one with Options.HotEvents exact events in its ring. Then the
// older half of these is folded into tiles. A tile is an elem that stands for all
// events of one cell of an absolute grid of time: its time is that of its last
// event, its amount field the time of its first, and for each cell of the group it
// keeps what those events contribute. The grid is the finer the younger: of events
// that are an age before the newest, a tile is at most a 64th of the age wide, or a
// millisecond. So there are at most 128 tiles for each doubling of the age.
//
// A window counts a tile if it covers its last event. So what the features of such
// an entity say of the window (low, high] is what (low - a, high - b] would say:
// a is less than the width of the tile in which low lies, 0 if it lies in none, and
// so is b for high. With n the time of the entity's newest event, a tile at low is
// at most (n - low)/64 wide. A window of length w that ends with the newest event
// thus is one of a length between w and w + w/64. A delayed window, and that of a
// late payment, ends inside the past, and may end so much earlier as well. Where an
// edge lies in a tile the decision names its width.
//
// What a tile cannot tell: which of its events was the last one (last, speed_kmh):
// these see only events that are exact, and say how much of their window they do
// not see. Distinct values are counted by a sketch (distinct.go).
//
// Tiles are made before an entry is put into a full ring, of what is there, as of
// its newest event: they are a function of the log. Outcomes and verdicts that come
// when their event is in a tile change nothing, and a transaction that comes again
// then counts again: what the ledger knows is not appended again.
const (
	tileShare   = 64
	finestTile  = time.Millisecond
	tilesMethod = "tiles"
)

// tiles holds the words of the tiles of one group.
type tileWords struct {
	pages [][]uint64 // of tilePage tiles
	free  []uint64
	count uint64
}

const tilePage = 256

// newTile returns the number of a tile whose words are zero.
func (t *tileWords) newTile(words int) uint64 {
	if n := len(t.free); n > 0 {
		number := t.free[n-1]
		t.free = t.free[:n-1]
		clear(t.of(number, words))
		return number
	}
	if t.count%tilePage == 0 {
		t.pages = append(t.pages, make([]uint64, tilePage*words))
	}
	t.count++
	return t.count - 1
}

func (t *tileWords) of(number uint64, words int) []uint64 {
	at := int(number%tilePage) * words
	return t.pages[number/tilePage][at : at+words]
}

// tileOf returns the words of a tile; those of a cell begin at cell.tile.
func (f *folder) tileOf(el *elem) []uint64 { return f.tiles.of(el.number(), f.tileWords) }

// The words of a cell that looks at the times of events, in a tile.
const (
	tileEvents = iota // how many take part
	tileFirst         // the time of the first of these
	tileLast
	tileTimes
)

// seeksEvent tells that the aggregate looks for one event of the window.
func (c *cell) seeksEvent() bool {
	switch c.Aggregate {
	case SinceFirst, SinceLast, Last, SpeedKMH:
		return true
	}
	return false
}

// inTile is the number of words of a tile that the aggregate keeps.
func (c *cell) inTile() int {
	switch {
	case c.Aggregate == Distinct:
		return 0
	case c.seeksEvent():
		return tileTimes
	}
	return c.words()
}

// tile folds the older half of the exact events of a ring into tiles.
func (f *folder) tile(n uint32) {
	fd := f.foldOf(n)
	newest := fd.events.at(f.ringsOf(fd), fd.events.end()-1).time
	// What is known of an event by then goes into its tile.
	f.seekOutcomes(n, fd, newest)
	fd.at = newest
	older := int(fd.events.n - (fd.events.n-fd.tiles)/2)
	f.sketchBefore(n, fd.events.first+uint64(older))
	f.clearState(n)
	var tiled ring
	var last grid
	for i := range older {
		el := fd.events.at(f.ringsOf(fd), fd.events.first+uint64(i))
		cell := gridOf(newest, el.time)
		if tiled.n > 0 && cell == last && el.firstTime() >= cell.begin() {
			f.merge(tiled.at(f.ringsOf(fd), tiled.end()-1), el)
			continue
		}
		tiled.insert(f.ringsOf(fd), f.asTile(el))
		last = cell
	}
	fd.tiles, fd.tiledTo = tiled.n, tiled.at(f.ringsOf(fd), tiled.end()-1).time
	for i := older; i < int(fd.events.n); i++ {
		tiled.insert(f.ringsOf(fd), *fd.events.at(f.ringsOf(fd), fd.events.first+uint64(i)))
	}
	fd.events.free(f.ringsOf(fd))
	fd.events = tiled
	f.forgetOutcomes(fd)
	f.seek(n, newest, fd.events.end()) // what windows hold is counted anew
}

// forgetOutcomes drops the outcomes of events that are in tiles now.
func (f *folder) forgetOutcomes(fd *fold) {
	if fd.outcomes.n == 0 {
		return
	}
	var kept ring
	for i := fd.outcomes.first; i < fd.outcomes.end(); i++ {
		o := *fd.outcomes.at(f.ringsOf(fd), i)
		if _, ok := f.findNumber(fd, o.number()); ok {
			kept.insert(f.ringsOf(fd), o)
		} else {
			f.h.release(o.number())
		}
	}
	fd.outcomes.free(f.ringsOf(fd))
	fd.outcomes = kept
	fd.applied = kept.after(f.ringsOf(fd), fd.at)
}

// grid is a cell of the grid of time.
type grid struct {
	shift int
	cell  int64
}

func gridOf(newest, t payment.Time) grid {
	width := max(time.Duration(newest-t)/tileShare, finestTile)
	shift := bits.Len64(uint64(width)) - 1
	return grid{shift, int64(t) >> shift}
}

func (g grid) begin() payment.Time { return payment.Time(g.cell << g.shift) }

// firstTime is the time of the first event of an elem.
func (e *elem) firstTime() payment.Time {
	if e.ref&tileBit != 0 {
		return payment.Time(e.amount)
	}
	return e.time
}

// asTile makes a tile of one event; a tile stays what it is.
func (f *folder) asTile(el *elem) elem {
	if el.ref&tileBit != 0 {
		return *el
	}
	tile := elem{time: el.time, amount: int64(el.time), ref: tileBit | f.tiles.newTile(f.tileWords)}
	f.addEvent(f.tileOf(&tile), el)
	f.h.release(el.number())
	return tile
}

// merge adds the events of an elem to a tile before it.
func (f *folder) merge(tile, el *elem) {
	tile.time, tile.amount = el.time, min(tile.amount, int64(el.firstTime()))
	if el.ref&tileBit == 0 {
		f.addEvent(f.tileOf(tile), el)
		f.h.release(el.number())
		return
	}
	to, from := f.tileOf(tile), f.tileOf(el)
	for i := range f.cells {
		if c := &f.cells[i]; c.seeksEvent() {
			addTimes(to[c.tile:], from[c.tile:])
		} else {
			f.contributeTile(to[c.tile:], c, el, true)
		}
	}
	f.tiles.free = append(f.tiles.free, el.number())
}

// addEvent adds an event to the words of a tile.
func (f *folder) addEvent(w []uint64, el *elem) {
	for i := range f.cells {
		switch c := &f.cells[i]; {
		case c.Aggregate == Distinct:
		case c.seeksEvent():
			if f.counts(c, el) && (c.Aggregate != SpeedKMH || f.h.entryAt(el.number()).located()) {
				addTimes(w[c.tile:], []uint64{1, uint64(el.time), uint64(el.time)})
			}
		default:
			f.contribute(w[c.tile:], c, el, true)
		}
	}
}

// addTimes adds what a tile says of the times of events to another.
func addTimes(to, from []uint64) {
	switch {
	case from[tileEvents] == 0:
		return
	case to[tileEvents] == 0:
		copy(to[:tileTimes], from)
		return
	}
	to[tileEvents] += from[tileEvents]
	to[tileFirst] = uint64(min(int64(to[tileFirst]), int64(from[tileFirst])))
	to[tileLast] = uint64(max(int64(to[tileLast]), int64(from[tileLast])))
}

// contributeTile adds what a tile says of a cell to words of that cell, or takes
// it away. Distinct values are no matter of tiles: a sketch keeps them by time.
func (f *folder) contributeTile(w []uint64, c *cell, tile *elem, add bool) {
	from := f.tileOf(tile)[c.tile:]
	plus := func(i int) {
		if add {
			w[i] += from[i]
		} else {
			w[i] -= from[i]
		}
	}
	switch c.Aggregate {
	case Count:
		plus(0)
	case Share:
		plus(0)
		plus(1)
	case Min, Max:
		if from[1] > 0 {
			contributeExtreme(w, c.Aggregate, from[0], from[1], add)
		}
	case StdDev:
		if add {
			addWide(w[3:6], from[3:6])
		} else {
			subWide(w[3:6], from[3:6])
		}
		fallthrough
	case Avg:
		plus(2)
		fallthrough
	case Sum:
		if add {
			addWide(w[:2], from[:2])
		} else {
			subWide(w[:2], from[:2])
		}
	}
}

// nextTile returns the first tile from an index of a ring on, nil where there is
// none: what is before it are late events.
func (f *folder) nextTile(fd *fold, from, to uint64) *elem {
	for i := from; fd.tiles > 0 && i < to; i++ {
		el := fd.events.at(f.ringsOf(fd), i)
		if el.ref&tileBit != 0 {
			return el
		}
		if el.time > fd.tiledTo {
			break
		}
	}
	return nil
}

// edge is how far an edge of a window may be off: the width of the tile in which
// it lies, 0 if it lies in none. The elem at the index is the first one behind it.
func (f *folder) edge(fd *fold, at uint64, edge payment.Time) time.Duration {
	if el := f.nextTile(fd, at, fd.events.end()); el != nil && el.firstTime() <= edge {
		return time.Duration(el.time - el.firstTime())
	}
	return 0
}

// approximate notes that a value looks at a window of which an edge is off.
func (it *Item) approximate(c *cell, off time.Duration) {
	if off > 0 {
		it.Approximate = append(it.Approximate, Approximation{Slot: c.slot, Method: tilesMethod, Resolution: off})
	}
}

// readResolution names the features of which an edge of the window lies in a
// tile. Those that look for one event say so themselves.
func (f *folder) readResolution(n uint32, fd *fold, it *Item) {
	w := f.words(n)
	for i := range f.cells {
		if c := &f.cells[i]; c.Aggregate != Distinct && !c.seeksEvent() {
			low, high := f.spans[c.span].bounds(fd.at)
			it.approximate(c, max(f.edge(fd, w[2*c.span], low), f.edge(fd, w[2*c.span+1], high)))
		}
	}
}
