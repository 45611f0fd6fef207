package window

import (
	"math/bits"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// A hot entity is one whose ring is full: Options.HotEvents. Then the older half
// of the ring is folded into tiles. A tile is an elem that stands for all events
// of one cell of an absolute grid of time: its time is that of its last event,
// its amount field the time of its first, and for each cell of the group it keeps
// what those events contribute. The grid is the finer the younger: of events that
// are an age before the newest, a tile is at most a 64th of the age wide.
//
// A window whose low edge falls into a tile counts the whole tile. So what such
// an entity's features say of a window of length w is what a window of a length
// between w and w + w/64 would say; the decision names the tile's width. A late
// payment inside a tile does not see it: its windows end up to a tile early.
//
// Tiles are made when the ring is full, after an entry of the log has come, of
// what the ring then holds: they are a function of the log. Outcomes that come
// after their event has gone into a tile do not change it.
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

// tileOf returns the words of a tile; those of a cell begin at cell.state.
func (f *folder) tileOf(el *elem) []uint64 { return f.tiles.of(el.number(), f.stateWords+1) }

// tiled tells whether an entity has tiles; they are the oldest of its ring.
func (f *folder) tiled(n uint32) bool {
	fd := f.foldOf(n)
	return fd.events.n > 0 && fd.events.at(f.rings, fd.events.first).ref&tileBit != 0
}

// tile folds the older half of a full ring into tiles.
func (f *folder) tile(n uint32) {
	fd := f.foldOf(n)
	newest := fd.events.at(f.rings, fd.events.end()-1).time
	older := int(fd.events.n / 2)
	f.sketchBefore(n, newest, fd.events.at(f.rings, fd.events.first+uint64(older)).time)
	// What windows hold is counted anew from the tiles, at the same moment.
	f.clearState(n)
	tiled := ring{class: noBlock}
	var last grid
	for i := range older {
		el := fd.events.at(f.rings, fd.events.first+uint64(i))
		cell := gridOf(newest, el.time)
		if tiled.n > 0 && cell == last && el.firstTime() >= cell.begin() {
			f.merge(tiled.at(f.rings, tiled.end()-1), el)
			continue
		}
		tiled.insert(f.rings, f.asTile(el))
		last = cell
	}
	for i := older; i < int(fd.events.n); i++ {
		tiled.insert(f.rings, *fd.events.at(f.rings, fd.events.first+uint64(i)))
	}
	fd.events.free(f.rings)
	fd.events = tiled
	f.seek(n, fd.at, fd.events.end())
}

// sketchBefore gives a sketch to the cells of distinct values whose window
// reaches back before the first event that stays exact.
func (f *folder) sketchBefore(n uint32, newest, exact payment.Time) {
	fd := f.foldOf(n)
	for i := range f.cells {
		c := &f.cells[i]
		w := f.words(n)[c.state:]
		low, _ := f.spans[c.span].bounds(newest)
		if c.Aggregate != Distinct || w[tallyUsed] == sketched || low >= exact {
			continue
		}
		f.sketch(c, w)
		for at := fd.events.after(f.rings, low.Add(-f.lateness)); at < fd.events.end(); at++ {
			f.contribute(w, c, fd.events.at(f.rings, at), true)
		}
	}
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
	tile := elem{time: el.time, amount: int64(el.time), ref: tileBit | f.tiles.newTile(f.stateWords+1)}
	f.addEvent(f.tileOf(&tile), el)
	f.h.release(el.number())
	return tile
}

// merge adds the events of an elem to a tile before it.
func (f *folder) merge(tile, el *elem) {
	tile.time = el.time
	if el.ref&tileBit == 0 {
		f.addEvent(f.tileOf(tile), el)
		f.h.release(el.number())
		return
	}
	for i := range f.cells {
		c := &f.cells[i]
		f.contributeTile(f.tileOf(tile)[c.state:], c, el, true)
	}
	f.tileOf(tile)[f.stateWords] += f.tileOf(el)[f.stateWords]
	f.tiles.free = append(f.tiles.free, el.number())
}

// addEvent adds an event to the words of a tile. The last word counts the events.
func (f *folder) addEvent(w []uint64, el *elem) {
	w[f.stateWords]++
	for i := range f.cells {
		if c := &f.cells[i]; c.Aggregate != Distinct {
			f.contribute(w[c.state:], c, el, true)
		}
	}
}

// contributeTile adds what a tile says of a cell to words of that cell, or takes
// it away. Distinct values are no matter of tiles: a sketch keeps them by time.
func (f *folder) contributeTile(w []uint64, c *cell, tile *elem, add bool) {
	from := f.tileOf(tile)[c.state:]
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

// tileCounts is how many events of a tile take part in a cell: all of them,
// where the cell keeps no number.
func (f *folder) tileCounts(c *cell, tile *elem) uint64 {
	return f.tileOf(tile)[f.stateWords]
}

// readResolution names the features whose window begins within a tile.
func (f *folder) readResolution(n uint32, fd *fold, it *Item) {
	w := f.words(n)
	for i := range f.cells {
		c := &f.cells[i]
		lo := w[2*c.span]
		if c.Aggregate == Distinct || lo >= fd.events.end() {
			continue
		}
		el := fd.events.at(f.rings, lo)
		low, _ := f.spans[c.span].bounds(fd.at)
		if el.ref&tileBit != 0 && payment.Time(el.amount) <= low {
			it.Approximate = append(it.Approximate, Approximation{Slot: c.slot, Method: tilesMethod, Resolution: time.Duration(el.time - payment.Time(el.amount))})
		}
	}
}
