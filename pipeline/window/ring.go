package window

import "github.com/sluice-risk/sluice/pipeline/payment"

// ring is a queue of elems ordered by (time, arrival) in a block of a zone. Its
// elems have absolute indexes, first to first+n-1, that do not change when old
// ones are dropped at the front.
type ring struct {
	first uint64
	n     uint32
	head  uint32 // where in the block the first elem is
	block uint32 // where the block begins in the zone
	size  uint32 // of the block; 0: none yet
}

// zone holds the rings of one page of entities, so that what outgrown and empty
// blocks leave behind can be swept together a little at a time (folder.sweep).
type zone struct {
	elems []elem // those in use are the first ones; no pointers, so that nothing scans it
	live  int    // of these, in blocks that some ring has
}

// alloc gives out a block.
func (z *zone) alloc(size uint32) (block uint32) {
	block = uint32(len(z.elems))
	if need := len(z.elems) + int(size); need > cap(z.elems) {
		z.elems = append(make([]elem, 0, need+need/8+16), z.elems...)
	}
	z.elems = z.elems[:len(z.elems)+int(size)]
	z.live += int(size)
	return block
}

// wasted tells that the zone should be swept.
func (z *zone) wasted() bool { return len(z.elems)-z.live > z.live/4+64 }

// roomFor is how many items a block has that is to hold n: a quarter more, so
// that a ring moves seldom and little of a block is empty.
func roomFor(n uint32) uint32 { return n + (n+3)/4 }

// at returns the elem with absolute index i.
func (r *ring) at(z *zone, i uint64) *elem {
	at := r.head + uint32(i-r.first)
	if at >= r.size {
		at -= r.size
	}
	return &z.elems[r.block+at]
}

func (r *ring) end() uint64 { return r.first + uint64(r.n) }

// after returns the index of the first elem that is later than t.
func (r *ring) after(z *zone, t payment.Time) uint64 {
	from, to := r.first, r.end()
	for from < to {
		if mid := from + (to-from)/2; r.at(z, mid).time <= t {
			from = mid + 1
		} else {
			to = mid
		}
	}
	return from
}

// insert puts e behind all elems that are not later, and returns its index.
func (r *ring) insert(z *zone, e elem) uint64 {
	if r.n == r.size {
		r.move(z, z, roomFor(r.n+1))
	}
	r.n++
	i := r.end() - 1
	to := r.at(z, i)
	for i > r.first {
		before := r.at(z, i-1)
		if before.time <= e.time {
			break
		}
		*to = *before
		to = before
		i--
	}
	*to = e
	return i
}

// move takes the elems to a block of another size, in the same zone or another.
func (r *ring) move(from, to *zone, size uint32) {
	if r.size == 0 && size == 0 {
		return
	}
	block := to.alloc(size)
	if r.n > 0 {
		old, into := from.elems[r.block:r.block+r.size], to.elems[block:block+size]
		some := copy(into[:r.n], old[r.head:])
		copy(into[some:r.n], old)
	}
	from.live -= int(r.size)
	r.block, r.size, r.head = block, size, 0
}

// popFirst drops the elem at the front.
func (r *ring) popFirst() {
	r.first++
	r.n--
	if r.head++; r.head == r.size {
		r.head = 0
	}
}

// shrink gives room back when more than half of the block is empty.
func (r *ring) shrink(z *zone) {
	if 2*r.n+4 < r.size {
		r.move(z, z, roomFor(r.n))
	}
}

// free gives the whole block back.
func (r *ring) free(z *zone) {
	z.live -= int(r.size)
	*r = ring{}
}
