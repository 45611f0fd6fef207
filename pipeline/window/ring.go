package window

import (
	"math/bits"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// ring is a queue of elems ordered by (time, arrival) in a block of an arena.
// Its elems have absolute indexes, first to first+n-1, that do not change when
// old ones are dropped at the front.
type ring struct {
	first uint64
	n     uint32
	block uint32 // where the block begins in the arena, in units of smallBlock
	class uint8  // the block holds smallBlock<<class elems; 0xff: no block yet
}

const (
	smallBlock = 4       // items
	pageItems  = 1 << 15 // items of an arena page; a larger block gets a page of its own
)

// arena gives out blocks of items in powers of two, from pages that the garbage
// collector need not scan where items hold no pointers.
type arena[T any] struct {
	pages  [][]T
	shared bool // there is a page for small blocks
	page   int  // the last such page
	used   int  // units used in it
	free   [33][]uint32
	held   int // units in blocks that are in use
}

const unitsPerPage = pageItems / smallBlock

// alloc returns the address of a block of smallBlock<<class items: the page
// number times unitsPerPage, plus the unit in the page. What it held before is
// still there.
func (a *arena[T]) alloc(class uint8) uint32 {
	a.held += 1 << class
	if f := a.free[class]; len(f) > 0 {
		block := f[len(f)-1]
		a.free[class] = f[:len(f)-1]
		return block
	}
	units := 1 << class
	if units >= unitsPerPage {
		a.pages = append(a.pages, make([]T, units*smallBlock))
		return uint32((len(a.pages) - 1) * unitsPerPage)
	}
	if !a.shared || a.used+units > unitsPerPage {
		a.pages = append(a.pages, make([]T, pageItems))
		a.shared, a.page, a.used = true, len(a.pages)-1, 0
	}
	block := uint32(a.page*unitsPerPage + a.used)
	a.used += units
	return block
}

// reset takes all blocks back.
func (a *arena[T]) reset() {
	*a = arena[T]{pages: a.pages[:min(1, len(a.pages))], shared: len(a.pages) > 0}
}

func (a *arena[T]) release(block uint32, class uint8) {
	a.held -= 1 << class
	if 1<<class >= unitsPerPage { // a page of its own: give the memory back, keep the number
		a.pages[block/unitsPerPage] = nil
		return
	}
	a.free[class] = append(a.free[class], block)
}

func (a *arena[T]) block(block uint32, class uint8) []T {
	page, unit := block/unitsPerPage, int(block%unitsPerPage)
	return a.pages[page][unit*smallBlock : unit*smallBlock+smallBlock<<class]
}

// at returns the elem with absolute index i.
func (r *ring) at(a *arena[elem], i uint64) *elem {
	b := a.block(r.block, r.class)
	return &b[i&uint64(len(b)-1)]
}

func (r *ring) end() uint64 { return r.first + uint64(r.n) }

// after returns the index of the first elem that is later than t.
func (r *ring) after(a *arena[elem], t payment.Time) uint64 {
	from, to := r.first, r.end()
	for from < to {
		if mid := from + (to-from)/2; r.at(a, mid).time <= t {
			from = mid + 1
		} else {
			to = mid
		}
	}
	return from
}

// insert puts e behind all elems that are not later, and returns its index.
func (r *ring) insert(a *arena[elem], e elem) uint64 {
	r.grow(a)
	b := a.block(r.block, r.class)
	mask := uint64(len(b) - 1)
	i := r.end()
	for i > r.first && b[(i-1)&mask].time > e.time {
		b[i&mask] = b[(i-1)&mask]
		i--
	}
	b[i&mask] = e
	r.n++
	return i
}

// grow makes room for one more elem.
func (r *ring) grow(a *arena[elem]) {
	if r.n == 0 && r.class == noBlock {
		r.class = 0
		r.block = a.alloc(0)
		return
	}
	if int(r.n) < smallBlock<<r.class {
		return
	}
	r.move(a, r.class+1)
}

const noBlock = 0xff

// move takes the elems to a block of another class.
func (r *ring) move(a *arena[elem], class uint8) {
	block := a.alloc(class)
	from, to := a.block(r.block, r.class), a.block(block, class)
	for i := r.first; i < r.end(); i++ {
		to[i&uint64(len(to)-1)] = from[i&uint64(len(from)-1)]
	}
	a.release(r.block, r.class)
	r.block, r.class = block, class
}

// popFirst drops the elem at the front.
func (r *ring) popFirst() {
	r.first++
	r.n--
}

// shrink gives room back when three quarters of the block are empty.
func (r *ring) shrink(a *arena[elem]) {
	if want := uint8(max(0, bits.Len32(max(r.n, 1)-1)-2) + 1); r.class != noBlock && want < r.class {
		r.move(a, want)
	}
}

// free gives the whole block back.
func (r *ring) free(a *arena[elem]) {
	if r.class != noBlock {
		a.release(r.block, r.class)
	}
	*r = ring{class: noBlock}
}
