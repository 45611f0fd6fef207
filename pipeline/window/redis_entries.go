package window

import (
	"bytes"
	"encoding/binary"

	"github.com/sluice-risk/sluice/pipeline/window/table"
)

// entries keeps in memory the entries of transactions that folds refer to: each
// once, although it stands in the logs of several entities, for as long as a
// ring holds it. Blocks are whole units in large pages that hold no pointers; the
// number of an entry is that of its first unit, and before the entry stands how
// often it is held:
//
//	0  holders  uint32
//	8  the entry
//
// Two logs may disagree on what a transaction was, where two members appended it
// with other rates; then they are two entries, since a fold is made of its own
// log alone.
type entries struct {
	pages [][]byte
	next  uint64                      // the first unit that was never used; unit 0 is nobody's
	free  [maxUnits + 1][]uint64      // blocks by their length in units
	of    table.Table[uint64, uint64] // low half of a transaction's hash to the number
	units int64                       // in use
	count int64
}

const (
	entryUnit  = 16
	pageUnits  = 1 << 16
	entryAhead = 8
	maxEntry   = transactionHeader + 8 + 8*int(kinds) + 3*255 + maxName
	maxUnits   = (entryAhead + maxEntry + entryUnit - 1) / entryUnit
)

func unitsOf(e entry) int { return (entryAhead + len(e) + entryUnit - 1) / entryUnit }

// bytes is what the entries in use take, with their places in the table.
func (x *entries) bytes() int64 { return x.units*entryUnit + x.count*24*2 }

func (x *entries) block(number uint64) []byte {
	return x.pages[number/pageUnits][number%pageUnits*entryUnit:]
}

// entryAt implements history.
func (x *entries) entryAt(number uint64) entry {
	b := x.block(number)
	n := binary.LittleEndian.Uint32(b[entryAhead:])
	return entry(b[entryAhead : entryAhead+n : entryAhead+n])
}

// retain implements history.
func (x *entries) retain(number uint64) {
	b := x.block(number)
	binary.LittleEndian.PutUint32(b, binary.LittleEndian.Uint32(b)+1)
}

// release implements history.
func (x *entries) release(number uint64) {
	b := x.block(number)
	holders := binary.LittleEndian.Uint32(b) - 1
	binary.LittleEndian.PutUint32(b, holders)
	if holders > 0 {
		return
	}
	e := x.entryAt(number)
	lo := e.tx().Lo
	if at := x.of.Find(lo, lo); at != nil && *at == number {
		x.of.Delete(lo, lo)
	}
	units := unitsOf(e)
	x.free[units] = append(x.free[units], number)
	x.units -= int64(units)
	x.count--
}

// hold returns the number of an entry, which it takes in if it is new, and
// retains it. The entry has at most maxEntry bytes.
func (x *entries) hold(e entry) uint64 {
	lo := e.tx().Lo
	if lo != 0 {
		at, added := x.of.Add(lo, lo)
		if added {
			*at = x.put(e)
			return *at
		}
		if bytes.Equal(x.entryAt(*at), e) {
			x.retain(*at)
			return *at
		}
	}
	return x.put(e)
}

func (x *entries) put(e entry) uint64 {
	units := unitsOf(e)
	number := uint64(0)
	if f := x.free[units]; len(f) > 0 {
		number = f[len(f)-1]
		x.free[units] = f[:len(f)-1]
	} else {
		number = max(x.next, 1)
		if number%pageUnits+uint64(units) > pageUnits {
			number += pageUnits - number%pageUnits
		}
		for number/pageUnits >= uint64(len(x.pages)) {
			x.pages = append(x.pages, make([]byte, pageUnits*entryUnit))
		}
		x.next = number + uint64(units)
	}
	b := x.block(number)
	binary.LittleEndian.PutUint32(b, 1)
	copy(b[entryAhead:], e)
	x.units += int64(units)
	x.count++
	return number
}
