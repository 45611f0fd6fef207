package window

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/window/disk"
)

const maxWritten = ^uint64(0)

// An index finds of every key exactly its numbers, in their order, whether it
// was made at once, merged from others, or read from a file.
func TestAnIndexFindsWhatWasPutIntoIt(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 2))
		want := map[uint64][]uint64{}
		keys := make([]uint64, 1+rng.IntN(200))
		for i := range keys {
			keys[i] = rng.Uint64()
			if rng.IntN(4) == 0 { // neighbours
				keys[i] = keys[rng.IntN(i+1)] + 1
			}
		}
		var runs []*run
		number := uint64(0)
		for i := range 1 + rng.IntN(8) {
			var pairs []pair
			for range rng.IntN(400) {
				number++
				p := pair{keys[rng.IntN(len(keys))], number}
				if rng.IntN(3) == 0 {
					p.key = keys[0] // a hot one
				}
				pairs = append(pairs, p)
				want[p.key] = append(want[p.key], number)
			}
			runs = append(runs, newRun(uint32(i+1), uint32(i+1), pairs))
		}
		merged := mergeRuns(runs)
		name := filepath.Join(t.TempDir(), "index")
		if err := merged.save(disk.System{}, name, "plan"); err != nil {
			t.Fatal(err)
		}
		read, err := openRun(name, "plan")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := openRun(name, "another plan"); err == nil {
			t.Error("it opens for another plan")
		}
		for key, numbers := range want {
			for what, r := range map[string]*run{"merged": merged, "read": read} {
				var got []uint64
				for _, p := range r.find(key) {
					got = append(got, p.number)
				}
				if !slices.Equal(got, numbers) {
					t.Fatalf("seed %d, %s: %v, not %v", seed, what, got, numbers)
				}
			}
			if _, known := want[key+2]; !known && len(read.find(key+2)) > 0 {
				t.Fatalf("seed %d: a key that is not there is found", seed)
			}
		}
		if err := read.unmap(); err != nil {
			t.Error(err)
		}
	}
}

// The files of the index are missing, half written, cut, empty, made for other
// features, left over from before or from a merge: the store opens, finds
// everything, and leaves no rubbish behind.
func TestAnIndexThatIsNotWholeIsMadeAgain(t *testing.T) {
	l := sealedLedger(t, 120)
	names := filesIn(t, l.opts.Dir, "index-*")
	if len(names) < 2 || !slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, runName(1, 8)) }) {
		t.Fatalf("the index is %v", names)
	}
	more := append(journalFeatures(), countOf(Entity{First: Device}, time.Hour))
	for _, c := range []struct {
		what   string
		damage func(dir string, names []string) error
		opts   func(*Options)
	}{
		{"all are missing", func(_ string, names []string) error {
			for _, name := range names {
				if err := os.Remove(name); err != nil {
					return err
				}
			}
			return nil
		}, nil},
		{"the last is missing: the crash came before it was written", func(_ string, names []string) error { return os.Remove(names[len(names)-1]) }, nil},
		{"one is cut", func(_ string, names []string) error { return os.Truncate(names[0], 100) }, nil},
		{"one is empty", func(_ string, names []string) error { return os.Truncate(names[0], 0) }, nil},
		{"one has a broken header", func(_ string, names []string) error {
			change(t, names[0], func(b []byte) []byte { b[9] ^= 1; return b })
			return nil
		}, nil},
		{"one is half written", func(_ string, names []string) error {
			b, err := os.ReadFile(names[0])
			if err != nil {
				return err
			}
			return os.WriteFile(names[0]+".part", b[:len(b)/2], 0o600)
		}, nil},
		{"one is written and has not got its name", func(_ string, names []string) error { return os.Rename(names[0], names[0]+".part") }, nil},
		{"one has another's name", func(dir string, names []string) error {
			return os.Rename(names[len(names)-1], filepath.Join(dir, runName(77, 78)))
		}, nil},
		{"those that were merged are still there", func(dir string, _ []string) error {
			for n := uint32(1); n <= 8; n++ {
				if err := newRun(n, n, nil).save(disk.System{}, filepath.Join(dir, runName(n, n)), planOf(newGroups(l.opts.Features, day)).String()); err != nil {
					return err
				}
			}
			return nil
		}, nil},
		{"it was made for fewer features", func(string, []string) error { return nil }, func(o *Options) { o.Features = more }},
	} {
		t.Run(c.what, func(t *testing.T) {
			damaged := *l
			damaged.opts.Dir = copyOf(t, l.opts.Dir)
			if err := c.damage(damaged.opts.Dir, filesIn(t, damaged.opts.Dir, "index-*")); err != nil {
				t.Fatal(err)
			}
			if c.opts != nil {
				c.opts(&damaged.opts)
			}
			s := opened(t, damaged.opts)
			if c.opts == nil {
				damaged.whole(t, s, maxWritten)
			}
			// It goes on: segments are sealed, runs merged, and nothing is in the way.
			for n := range 80 {
				appended(t, s, paying(fmt.Sprint("more", n), "u", morning.Add(day+time.Duration(n)*time.Minute), 1))
			}
			indexed(t, s)
			have := map[string]bool{}
			for _, r := range s.index.all {
				have[runName(r.from, r.to)] = true
			}
			for _, name := range filesIn(t, damaged.opts.Dir, "index-*") {
				if !have[filepath.Base(name)] {
					t.Errorf("%s is left over", filepath.Base(name))
				}
				delete(have, filepath.Base(name))
			}
			if len(have) > 0 {
				t.Errorf("there are no files of %v", have)
			}
		})
	}
}

// A file of the index cannot be written: the call says so, nothing is lost, and
// it goes on once it can be.
func TestAnIndexThatCannotBeWrittenLosesNothing(t *testing.T) {
	for _, in := range []string{runName(1, 1), runName(9, 9), runName(1, 8)} { // a first one, one behind a merged one, a merged one
		l := ledger{opts: Options{Dir: t.TempDir(), Features: journalFeatures(), SegmentBytes: 2 << 10, SyncEvery: time.Hour}}
		s := opened(t, l.opts)
		obstacle := filepath.Join(l.opts.Dir, in+".part")
		if err := os.Mkdir(obstacle, 0o700); err != nil {
			t.Fatal(err)
		}
		failed := 0
		for n := range 200 {
			it := l.item(n)
			if err := s.Append(t.Context(), []*Item{it}); err != nil {
				failed++
				if err := s.Append(t.Context(), []*Item{it}); err != nil {
					t.Fatalf("%s: payment %d, the second time: %v", in, n, err)
				}
			}
			l.items, l.ends = append(l.items, it), append(l.ends, s.Written())
			evictAll(s)
			if n%10 == 0 {
				s.mu.Lock()
				if err := s.index.work(true); err != nil {
					failed++
				}
				s.mu.Unlock()
			}
		}
		if failed != 1 {
			t.Errorf("%s: %d calls failed", in, failed)
		}
		for i, it := range l.items {
			if want := int64(i/2 + 1); it.Values[0].Int() != want {
				t.Fatalf("%s: payment %d counts %s, not %d", in, i, asJSON(it.Values[0]), want)
			}
		}
		if err := os.Remove(obstacle); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		again := opened(t, l.opts)
		if got := appended(t, again, l.item(200)).Values[0].Int(); got != 101 {
			t.Errorf("%s: after a restart payment 200 counts %d", in, got)
		}
	}
}

// indexed waits until nothing is done to the index beside the payments.
func indexed(t *testing.T, s *Embedded) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.index.work(true); err != nil {
		t.Error(err)
	}
}
