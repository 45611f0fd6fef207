package window

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// A ring is a sorted list of which the front is dropped, whatever its block does.
func TestARingIsAListInTheOrderOfTime(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		a := new(zone)
		var r ring
		var list []elem
		var first uint64
		for i := range 3000 {
			if rng.IntN(3) > 0 {
				e := elem{time: payment.Time(i/5 - rng.IntN(1+rng.IntN(30))), ref: uint64(i)}
				at, _ := slices.BinarySearchFunc(list, e, func(x, y elem) int {
					if x.time <= y.time {
						return -1
					}
					return 1
				})
				list = slices.Insert(list, at, e)
				if got := r.insert(a, e); got != first+uint64(at) {
					t.Fatalf("seed %d: inserted at %d, not %d", seed, got, first+uint64(at))
				}
			} else {
				for range rng.IntN(4 + rng.IntN(40)) {
					if len(list) > 0 {
						list = list[1:]
						first++
						r.popFirst()
					}
				}
				r.shrink(a)
			}
			if int(r.n) != len(list) {
				t.Fatalf("seed %d: %d elems, not %d", seed, r.n, len(list))
			}
			for k := range list {
				if *r.at(a, first+uint64(k)) != list[k] {
					t.Fatalf("seed %d: elem %d differs", seed, k)
				}
			}
		}
		r.free(a)
		if a.live != 0 {
			t.Fatalf("seed %d: %d items are held by nobody", seed, a.live)
		}
	}
}
