package window

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

const sketchEpoch = payment.Time(1_795_000_000_000_000_000) // in November 2026

// spread is a value as SipHash would give it for n (the finalizer of splitmix64).
func spread(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}

type sketchEvent struct {
	t     payment.Time
	value uint64
}

// plainEstimate is one HyperLogLog over the events in the slices that (low, high]
// touches, and not in those that were dropped. Times are after 1970.
func plainEstimate(events []sketchEvent, width time.Duration, low, high, dropped payment.Time) uint64 {
	slice := func(t payment.Time) int64 { return int64(t) / int64(width) }
	h := newRegisters()
	for _, e := range events {
		if n := slice(e.t); low < high && n >= slice(low+1) && n <= slice(high) && n >= slice(dropped+1) {
			h.InsertHash(e.value)
		}
	}
	return h.Estimate()
}

func TestSketchErrorStaysWithinFourStandardErrors(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3} {
		for _, size := range []int{10_000, 100_000, 1_000_000} {
			t.Run(fmt.Sprintf("size=%d,seed=%d", size, seed), func(t *testing.T) {
				if testing.Short() && size > 100_000 {
					t.Skip("millions of events")
				}
				// Of every two events one has a new value, and one a value of a pool that
				// comes round four times in a window.
				const length = time.Hour
				s := newSketch(length)
				step := payment.Time(length) * 5 / 8 / payment.Time(size)
				pool := size / 5
				value := func(i int) uint64 {
					if i%2 == 0 {
						return spread(seed<<40 | uint64(i))
					}
					return spread(seed<<40 | 1<<39 | uint64(i/2%pool))
				}
				width := payment.Time(s.resolution())
				var worst, squares float64
				reads := 0
				for i := range 4 * size {
					now := sketchEpoch + payment.Time(i)*step
					s.add(now, value(i))
					low := now.Add(-length)
					s.drop(low)
					if i < 2*size || i%(size/20) != 0 {
						continue
					}
					got := float64(s.estimate(low, now))
					begin := max(0, int(math.Ceil(float64((low+1)/width*width-sketchEpoch)/float64(step))))
					want := float64((i+1+1)/2-(begin+1)/2) + float64(pool)
					e := (got - want) / want
					worst, squares, reads = max(worst, math.Abs(e)), squares+e*e, reads+1
					if math.Abs(e) > 4*sketchError {
						t.Errorf("event %d: %v distinct values estimated as %v, %.1f standard errors off", i, want, got, e/sketchError)
					}
					// The window itself holds less than the slices that it touches, by less than a slice.
					exact := float64((i+1+1)/2-max(0, i-int(payment.Time(length)/step)+1)/2) + float64(pool)
					if got > exact*(1+1./32+4*sketchError) || got < exact*(1-4*sketchError) {
						t.Errorf("event %d: %v distinct values in the window estimated as %v", i, exact, got)
					}
				}
				if reads < 30 {
					t.Fatalf("only %d reads", reads)
				}
				t.Logf("%d reads, error: worst %.2f %%, root mean square %.2f %%", reads, 100*worst, 100*math.Sqrt(squares/float64(reads)))
			})
		}
	}
}

// Whatever arrives late, is dropped, or is read in between, an estimate is that of
// one HyperLogLog over the slices of its window.
func TestSketchEqualsOneHyperLogLogOverItsWindow(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 4))
		length := time.Duration(1+r.IntN(1<<r.IntN(16))) * time.Minute
		s := newSketch(length)
		var events []sketchEvent
		now, dropped := sketchEpoch, payment.Time(0)
		some := func(d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d))) }
		for range 1500 {
			switch p := r.IntN(1000); {
			case p < 5: // nothing for a long time, or a clock that is ahead
				now = now.Add(some(3 * length))
			case p < 8:
				now = now.Add(-some(2 * length))
			default:
				now = now.Add(some(length / 200))
			}
			at := now
			if r.IntN(4) == 0 { // late, most of them by little
				at = at.Add(-some(length >> r.IntN(10)))
			}
			if at > dropped {
				events = append(events, sketchEvent{at, spread(r.Uint64N(4000))})
				s.add(at, events[len(events)-1].value)
			}
			if r.IntN(40) == 0 {
				low := now.Add(-length - some(length))
				s.drop(low)
				dropped = max(dropped, low)
			}
			if r.IntN(4) > 0 {
				continue
			}
			high := at.Add(some(length/64) - length/128)
			low := high.Add(-length + some(length/10))
			if r.IntN(20) == 0 {
				low = high.Add(-some(3 * length))
			}
			want := plainEstimate(events, s.resolution(), low, high, dropped)
			if got := s.estimate(low, high); got != want {
				t.Fatalf("seed %d, %d events, length %v: (%v, %v] estimated as %d, not %d", seed, len(events), length, low, high, got, want)
			}
		}
	}
}

func TestSketchDoesNotKnowTheOrderOfArrival(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 5))
	const length = time.Hour
	var events []sketchEvent
	for i := range 20_000 {
		events = append(events, sketchEvent{sketchEpoch.Add(time.Duration(r.Int64N(int64(3 * length)))), spread(uint64(i % 15_000))})
	}
	sorted := newSketch(length)
	slices.SortFunc(events, func(a, b sketchEvent) int { return int(a.t - b.t) })
	for _, e := range events {
		sorted.add(e.t, e.value)
	}
	shuffled := newSketch(length)
	r.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	for i, e := range events {
		shuffled.add(e.t, e.value)
		if i%40 == 0 {
			shuffled.estimate(e.t.Add(-length), e.t)
		}
	}
	for minute := range 180 {
		high := sketchEpoch.Add(time.Duration(minute) * time.Minute)
		a, b := sorted.estimate(high.Add(-length), high), shuffled.estimate(high.Add(-length), high)
		if a != b || a == 0 {
			t.Errorf("minute %d: %d in order, %d shuffled", minute, a, b)
		}
	}
}

func TestLateValueCountsInWindowsOfItsTime(t *testing.T) {
	const length = time.Hour
	s := newSketch(length)
	for i := range 1000 {
		now := sketchEpoch.Add(time.Duration(i) * length / 500)
		s.add(now, spread(uint64(i)))
		s.estimate(now.Add(-length), now)
	}
	now := sketchEpoch.Add(2 * length)
	before := s.estimate(now.Add(-length), now)
	for i := range 300 {
		s.add(now.Add(-length/2), spread(uint64(10_000+i)))
	}
	if after := s.estimate(now.Add(-length), now); after < before+270 || after > before+330 {
		t.Errorf("300 late values moved the estimate from %d to %d", before, after)
	}
	if earlier := s.estimate(now.Add(-2*length), now.Add(-length)); earlier > 550 {
		t.Errorf("an earlier window of 500 values is estimated as %d", earlier)
	}
}

func TestSketchOfFewValuesIsNearExact(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 10, 30, 100, 300, 1000} {
		var squares float64
		const seeds = 50
		for seed := range uint64(seeds) {
			s := newSketch(time.Minute)
			for i := range n {
				for range 2 {
					s.add(sketchEpoch.Add(time.Duration(i)*time.Minute/1000), spread(seed<<40|uint64(i)))
				}
			}
			off := float64(s.estimate(sketchEpoch.Add(-1), sketchEpoch.Add(time.Minute))) - float64(n)
			if n <= 3 && off != 0 || math.Abs(off) > max(1, 4*sketchError*float64(n)) {
				t.Errorf("seed %d: %d values estimated as %v", seed, n, float64(n)+off)
			}
			squares += off * off
		}
		if root := math.Sqrt(squares / seeds); root > sketchError*float64(n) {
			t.Errorf("%d values: root mean square error %v", n, root)
		}
	}
}

func TestSketchEmptyLongAfterItsLastValue(t *testing.T) {
	s := newSketch(time.Minute)
	for i := range 5000 {
		s.add(sketchEpoch.Add(time.Duration(i)*time.Millisecond), spread(uint64(i)))
	}
	for _, idle := range []time.Duration{2 * time.Minute, 1000 * time.Hour} {
		high := sketchEpoch.Add(idle)
		if got := s.estimate(high.Add(-time.Minute), high); got != 0 {
			t.Errorf("%v later the estimate is %d", idle, got)
		}
	}
	if got := s.estimate(sketchEpoch, sketchEpoch); got != 0 {
		t.Errorf("the empty window is estimated as %d", got)
	}
	s.drop(sketchEpoch.Add(time.Hour))
	if len(s.slices) != 0 {
		t.Errorf("%d slices are left", len(s.slices))
	}
	s.add(sketchEpoch, 1)
	if len(s.slices) != 0 {
		t.Error("a value older than what was dropped opened a slice")
	}
}

func TestDroppedSlicesLeaveAWindowThatWasReadBefore(t *testing.T) {
	const length = time.Hour
	s := newSketch(length)
	for i := range 1000 {
		s.add(sketchEpoch.Add(time.Duration(i)*length/1000), spread(uint64(i)))
	}
	end := sketchEpoch.Add(length)
	whole := s.estimate(sketchEpoch.Add(-1), end)
	s.drop(sketchEpoch.Add(length / 2))
	if half := s.estimate(sketchEpoch.Add(-1), end); half > whole*6/10 || half < whole*4/10 {
		t.Errorf("%d values before half of them were dropped, %d after", whole, half)
	}
}

// A window that slides finds its slices united, and also one that is up to halfLag
// slices late; only when the half moves are they merged one by one.
func TestSlidingReadsSeldomMergeManySlices(t *testing.T) {
	const length = time.Hour
	s := newSketch(length)
	width := s.resolution()
	merged, reads, most := 0, 0, 20*length
	for at := time.Duration(0); at < most; at += width / 4 {
		now := sketchEpoch.Add(at)
		s.add(now, spread(uint64(at)))
		for late := range time.Duration(3) {
			before, half := s.astray, s.slices[s.half].number
			s.estimate(now.Add(-late*width-length), now.Add(-late*width))
			if s.astray != before || s.slices[s.half].number != half {
				merged++
			}
			reads++
		}
		s.drop(now.Add(-2 * length))
	}
	// Two windows are kept, so the half moves after two or three reads beside it.
	if windows := int(most / length); merged == 0 || merged > 6*windows {
		t.Errorf("%d of %d reads merged their slices one by one, in %d windows", merged, reads, windows)
	}
}

func TestSketchResolutionIsBetweenA64thAndA32ndOfTheLength(t *testing.T) {
	for _, length := range []time.Duration{time.Second, time.Minute, 10 * time.Minute, time.Hour, 25 * time.Hour, 31 * 24 * time.Hour, 1 << 40, 365 * 24 * time.Hour} {
		width := newSketch(length).resolution()
		if width&(width-1) != 0 || 64*width <= length || 32*width > length {
			t.Errorf("%v is cut into slices of %v", length, width)
		}
	}
}

func TestSketchKeepsItsMemoryBound(t *testing.T) {
	heap := func() int {
		runtime.GC()
		runtime.GC() // pools are emptied by the second
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	// Around a power of two, where the number of slices is largest and smallest.
	for _, length := range []time.Duration{1<<42 - 1, 1 << 42, 1<<42 + 1, time.Hour, 31 * 24 * time.Hour} {
		before := heap()
		s := newSketch(length)
		most := 0
		for i := range 6000 {
			now := sketchEpoch.Add(time.Duration(i) * (length / 2000))
			low := now.Add(-length)
			s.add(now, spread(uint64(i)))
			s.add(low.Add(1), spread(uint64(i))) // as late as can be
			s.drop(low)
			if i%10 == 0 {
				s.estimate(low, now)
				s.estimate(low, now.Add(-length/8))
			}
			most = max(most, s.bytes())
			if len(s.slices) > 65 {
				t.Fatalf("%v: %d slices", length, len(s.slices))
			}
		}
		occupied := heap() - before
		if most > maxSketchBytes {
			t.Errorf("%v: %d bytes, more than %d", length, most, maxSketchBytes)
		}
		if said := s.bytes(); math.Abs(float64(said-occupied)) > 0.05*float64(said) {
			t.Errorf("%v: says that it occupies %d bytes, the heap grew by %d", length, said, occupied)
		}
		t.Logf("%v: at most %d bytes", length, most)
		runtime.KeepAlive(s)
	}
}

func BenchmarkSketchAdd(b *testing.B) {
	for _, late := range []bool{false, true} {
		b.Run(fmt.Sprintf("late=%v", late), func(b *testing.B) {
			const length = time.Hour
			s := newSketch(length)
			now := sketchEpoch
			for i := uint64(0); b.Loop(); i++ {
				now = now.Add(length / 200_000)
				at := now
				if late {
					at = at.Add(-time.Duration(spread(i) % uint64(length)))
				}
				s.add(at, spread(i))
				s.drop(now.Add(-length))
			}
		})
	}
}

// An entity of this many values in its window: each payment adds one and reads.
// With jitter, payments are up to 2 % of the window late.
func BenchmarkSketchAddAndEstimate(b *testing.B) {
	for _, size := range []int{20_000, 100_000, 1_000_000} {
		for _, fresh := range []int{100, 10} { // percent of values that are new
			for _, jitter := range []bool{false, true} {
				b.Run(fmt.Sprintf("size=%d/new=%d%%/jitter=%v", size, fresh, jitter), func(b *testing.B) {
					const length = time.Hour
					s := newSketch(length)
					now, i := sketchEpoch, uint64(0)
					next := func() (payment.Time, uint64) {
						now, i = now.Add(length/time.Duration(size)*time.Duration(fresh)/100), i+1
						at := now
						if jitter {
							at = at.Add(-time.Duration(spread(i) % uint64(length/50)))
						}
						return at, spread(i * uint64(fresh) / 100)
					}
					for range 2 * size {
						at, value := next()
						s.add(at, value)
						s.drop(at.Add(-length * 11 / 10))
					}
					var sum uint64
					for b.Loop() {
						at, value := next()
						s.add(at, value)
						sum += s.estimate(at.Add(-length), at)
						s.drop(now.Add(-length * 11 / 10))
					}
					if sum == 0 {
						b.Fatal("nothing estimated")
					}
				})
			}
		}
	}
}
