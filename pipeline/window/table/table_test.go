package table

import (
	"math/rand/v2"
	"testing"
)

// A long random sequence of everything does to a Table what it does to a map,
// with homes that collide.
func TestATableIsAMap(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var table Table[[2]uint64, int]
		oracle := map[[2]uint64]int{}
		homes := func(k [2]uint64) uint64 { return k[0] % 7 * 0x9e3779b97f4a7c15 }
		if seed%2 == 0 {
			homes = func(k [2]uint64) uint64 { return k[0] * 0x9e3779b97f4a7c15 }
		}
		for step := range 20_000 {
			key := [2]uint64{1 + rng.Uint64N(400), 5}
			home := homes(key)
			_ = table.Peek(home)
			want, known := oracle[key]
			switch rng.IntN(3) {
			case 0:
				v, added := table.Add(home, key)
				if added == known || *v != want {
					t.Fatalf("seed %d, step %d: Add gives %d, %v; want %d, %v", seed, step, *v, added, want, !known)
				}
				*v, oracle[key] = step, step
			case 1:
				table.Delete(home, key)
				delete(oracle, key)
			default:
				if v := table.Find(home, key); (v != nil) != known || known && *v != want {
					t.Fatalf("seed %d, step %d: Find is wrong", seed, step)
				}
			}
			if table.Len() != len(oracle) {
				t.Fatalf("seed %d, step %d: %d keys, want %d", seed, step, table.Len(), len(oracle))
			}
		}
		for key, want := range oracle {
			if v := table.Find(homes(key), key); v == nil || *v != want {
				t.Fatalf("seed %d: a key is lost", seed)
			}
		}
	}
}
