package window

import (
	"bytes"
	"math/bits"
	"slices"
	"sort"
	"time"

	"github.com/axiomhq/hyperloglog"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// A sketch counts the distinct values of a sliding window that has too many for
// a tally. A HyperLogLog cannot forget, so time is cut into slices, one
// HyperLogLog each, and a read is the union of the slices that the window
// touches. The ends of a window are thus rounded outward, each by less than
// resolution; within the rounded range the estimate has a standard error of
// sketchError.
//
// Slices begin at multiples of their width since 1970 and a union is a maximum of
// registers. So an estimate is a function of the values and times that were
// added and of the window, whatever the order of arrival and whatever was read
// in between.
//
// A union of up to 65 slices for each read would be slow (3 µs a slice). So
// beside its own values each slice keeps a union that reaches to a dividing
// point, the half:
//
//	slices  0  1  2  3 | 4  5  6
//	reach   →  →  →  → | ←  ←  ←
//
// and a window over the half is the reach of its first slice and that of its
// last. When windows have moved past the half, it moves behind them, once in
// about a window's length. The last four unions read are kept as views and take
// the values that are added to their slices: a read of the same slices merges
// nothing. Four, because payments late by up to a slice alternate between as
// many: with two views, they took ten times as long and more.
//
// Rejected: one union of the closed slices (a late payment at a boundary costs 65
// merges); a tree of unions (as much memory, twelve merges a read); the library's
// sparse form (its size cannot be asked for, and it allocates on the way);
// precision 14 (an error of 0.8 % instead of 1.6 %, for four times the memory
// and a first estimate of 0.45 ms instead of 0.07 ms).
//
// A sketch is owned by the fold of its entity and is not safe for concurrent use.
type sketch struct {
	shift  uint8         // a slice is 1<<shift nanoseconds
	floor  int64         // slices with smaller numbers were dropped, and take no more values
	slices []timeSlice   // by number; only those that have values
	half   int           // slices[:half] reach to slices[half-1], slices[half:] reach back to slices[half]
	astray int           // slices merged one by one, for windows beside the half, since it last moved
	views  [4]sketchView // the last one read first
}

const (
	sketchPrecision = 12

	// sketchError is the standard error of an estimate, as a share of the true
	// number of distinct values: 1.04/√(2^sketchPrecision).
	sketchError = 1.04 / 64

	// maxSketchBytes bounds what a sketch occupies while its owner drops what
	// lies before the window: 65 slices and four views. An owner that drops only
	// what lies n window lengths before it pays at most n times as much more.
	maxSketchBytes = 600_000

	// halfLag is how many slices before the end of a window the half is put: reads
	// that are late by fewer still span it.
	halfLag = 4
)

// timeSlice holds the values of the instants from number<<shift on, until the
// next slice.
type timeSlice struct {
	number int64
	own    *hyperloglog.Sketch
	reach  *hyperloglog.Sketch // own, and the slices from here to the half
}

// newSketch returns an empty sketch for windows of this length. For calendar
// windows it is the longest that they get.
func newSketch(length time.Duration) *sketch {
	// 1<<shift is the power of two above length/64, so at most length/32.
	s := &sketch{shift: uint8(bits.Len64(uint64(length) / 64)), floor: -1 << 63}
	for i := range s.views {
		s.views[i] = sketchView{from: 1, to: 0}
	}
	return s
}

// resolution is the width of a slice: more than 1/64 and at most 1/32 of the
// window's length.
func (s *sketch) resolution() time.Duration { return 1 << s.shift }

// first is the number of the first slice of windows that begin after low.
func (s *sketch) first(low payment.Time) int64 { return int64(low.Add(1)) >> s.shift }

// last is the number of the last slice of windows that end with high.
func (s *sketch) last(high payment.Time) int64 { return int64(high) >> s.shift }

// find returns the index of the first slice whose number is not smaller.
func (s *sketch) find(number int64) int {
	if n := len(s.slices); n > 0 && s.slices[n-1].number < number {
		return n
	}
	return sort.Search(len(s.slices), func(i int) bool { return s.slices[i].number >= number })
}

// add counts a value at t. The value is used as its own hash: it must be one
// that nobody outside can choose. Values in slices that were dropped are not
// counted.
func (s *sketch) add(t payment.Time, value uint64) {
	number := s.last(t)
	if number < s.floor {
		return
	}
	i := s.find(number)
	if i == len(s.slices) || s.slices[i].number != number {
		i = s.insert(i, number)
	}
	s.slices[i].own.InsertHash(value)
	if i < s.half {
		for j := range s.slices[:i+1] {
			s.slices[j].reach.InsertHash(value)
		}
	} else {
		for j := i; j < len(s.slices); j++ {
			s.slices[j].reach.InsertHash(value)
		}
	}
	for i := range s.views {
		if v := &s.views[i]; v.from <= number && number <= v.to {
			v.union.InsertHash(value)
			v.changed = true
		}
	}
}

// insert makes room for a slice before slices[i], and returns its index. It
// reaches as far as its neighbour on the side of the half.
func (s *sketch) insert(i int, number int64) int {
	n := timeSlice{number: number, own: newRegisters(), reach: newRegisters()}
	switch {
	case i < s.half:
		mergeRegisters(n.reach, s.slices[i].reach)
		s.half++
	case i > s.half:
		mergeRegisters(n.reach, s.slices[i-1].reach)
	}
	s.slices = slices.Insert(s.slices, i, n)
	return i
}

// estimate returns about how many distinct values there are in (low, high].
// Windows that begin before what was dropped see what is left of them.
func (s *sketch) estimate(low, high payment.Time) uint64 {
	if low >= high {
		return 0
	}
	from, to := s.first(low), s.last(high)
	v := s.viewOf(from, to)
	if !v.is(from, to) {
		v.begin(from, to)
		s.unite(v.union, s.find(from), s.find(to+1))
	}
	return v.estimate()
}

// viewOf returns the view of these slices, or else the one that was not read for
// the longest time, and puts it first.
func (s *sketch) viewOf(from, to int64) *sketchView {
	i := 0
	for i < len(s.views)-1 && !s.views[i].is(from, to) {
		i++
	}
	if i > 0 {
		v := s.views[i]
		copy(s.views[1:], s.views[:i])
		s.views[0] = v
	}
	return &s.views[0]
}

// unite merges slices[a:b] into union.
func (s *sketch) unite(union *hyperloglog.Sketch, a, b int) {
	if a <= s.half && s.half <= b {
		if a < s.half {
			mergeRegisters(union, s.slices[a].reach)
		}
		if s.half < b {
			mergeRegisters(union, s.slices[b-1].reach)
		}
		return
	}
	for _, n := range s.slices[a:b] {
		mergeRegisters(union, n.own)
	}
	// Moving the half costs as much as len(slices) merges. It has to be earned by
	// as many, or one clock that is ahead would move it to and fro.
	if s.astray += b - a; s.astray >= len(s.slices) {
		s.moveHalf(max(a, b-halfLag))
	}
}

// moveHalf puts the half before slices[half].
func (s *sketch) moveHalf(half int) {
	s.half, s.astray = half, 0
	for i := half - 1; i >= 0; i-- {
		s.extend(i, i+1, i+1 < half)
	}
	for i := half; i < len(s.slices); i++ {
		s.extend(i, i-1, i > half)
	}
}

// extend lets slices[i] reach as far as its neighbour, if that stands on the same
// side of the half.
func (s *sketch) extend(i, neighbour int, same bool) {
	reach := s.slices[i].reach
	reach.Reset()
	mergeRegisters(reach, s.slices[i].own)
	if same {
		mergeRegisters(reach, s.slices[neighbour].reach)
	}
}

// drop forgets the slices that windows beginning after low, or later, do not
// touch.
func (s *sketch) drop(low payment.Time) {
	floor := s.first(low)
	if floor <= s.floor {
		return
	}
	s.floor = floor
	n := s.find(floor)
	if n == 0 {
		return
	}
	s.slices = slices.Delete(s.slices, 0, n)
	if n <= s.half {
		s.half -= n
	} else { // the others reach back to one that is gone
		s.moveHalf(max(0, len(s.slices)-halfLag))
	}
	for i := range s.views {
		if s.views[i].from < floor {
			s.views[i].from, s.views[i].to = 1, 0
		}
	}
}

// bytes is the memory that the sketch occupies.
func (s *sketch) bytes() int {
	const header = 416 // of the sketch, with its views
	n := header + cap(s.slices)*24 + 2*len(s.slices)*registersBytes
	for i := range s.views {
		n += s.views[i].bytes()
	}
	return n
}

// sketchView is the union of the slices from..to, kept up to date by add. It covers
// none if from > to.
type sketchView struct {
	from, to  int64
	union     *hyperloglog.Sketch
	changed   bool // since it was last estimated
	estimated uint64
	registers []byte // the union when it was estimated
	scratch   []byte
}

func (v *sketchView) is(from, to int64) bool { return v.from == from && v.to == to }

// begin empties the view, for other slices.
func (v *sketchView) begin(from, to int64) {
	if v.union == nil {
		v.union = newRegisters()
	} else {
		v.union.Reset()
	}
	v.from, v.to, v.changed = from, to, true
}

// estimate asks the library only if a register has changed, and few values change
// one: comparing the registers takes 0.1 µs, an estimate 17 to 67 µs.
func (v *sketchView) estimate() uint64 {
	if !v.changed {
		return v.estimated
	}
	v.changed = false
	now, err := v.union.AppendBinary(v.scratch[:0])
	if err != nil {
		panic(err) // only a sketch without a precision cannot be encoded
	}
	v.scratch = now
	if !bytes.Equal(v.registers, v.scratch) {
		v.estimated = v.union.Estimate()
		v.registers, v.scratch = v.scratch, v.registers
	}
	return v.estimated
}

func (v *sketchView) bytes() int {
	n := cap(v.registers) + cap(v.scratch)
	if v.union != nil {
		n += registersBytes
	}
	return n
}

// registersBytes is the size of a HyperLogLog: a byte a register, and its head.
const registersBytes = 1<<sketchPrecision + 64

// newRegisters returns an empty HyperLogLog in the library's dense form: its size
// is fixed, and what it estimates depends on its registers alone.
func newRegisters() *hyperloglog.Sketch {
	h, err := hyperloglog.NewSketch(sketchPrecision, false)
	if err != nil {
		panic(err) // the precision is a constant that the library accepts
	}
	return h
}

// mergeRegisters adds the values of from to into.
func mergeRegisters(into, from *hyperloglog.Sketch) {
	if err := into.Merge(from); err != nil {
		panic(err) // all have one precision
	}
}
