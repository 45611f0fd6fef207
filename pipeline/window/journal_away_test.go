package window

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/window/disk/disktest"
)

// until waits for what has no other sign.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in half a minute not: %s", what)
		}
	}
}

// failing fails an operation, the first so many times of it.
func failing(op disktest.Op, times int, err error) func(disktest.Op, string) error {
	return func(asked disktest.Op, name string) error {
		if asked != op || times == 0 {
			return nil
		}
		times--
		return &os.PathError{Op: string(op), Path: name, Err: err}
	}
}

// A disk that fills up at any byte, and refuses anything that a journal does, at any
// step, while segments come and go: calls say ErrAway and memory answers; once the
// disk takes it, everything goes on without a restart, and each value is what it
// would have been. A power failure at the end loses nothing that was durable.
func TestADiskThatRefusesPasses(t *testing.T) {
	type trouble struct {
		name string
		make func(d *disktest.Disk, rng *rand.Rand)
	}
	all := []trouble{{"full", func(d *disktest.Disk, rng *rand.Rand) { d.Room(rng.Int64N(3000)) }}}
	for _, op := range []disktest.Op{disktest.Create, disktest.Write, disktest.Sync, disktest.SyncDir, disktest.Truncate, disktest.Rename, disktest.Remove} {
		for _, err := range []error{syscall.EIO, syscall.EROFS} {
			all = append(all, trouble{fmt.Sprint(op, " ", err), func(d *disktest.Disk, rng *rand.Rand) {
				first := failing(op, 1+rng.IntN(4), err)
				other := failing(map[disktest.Op]disktest.Op{disktest.Truncate: disktest.Write, disktest.Rename: disktest.Sync}[op], 1, err) // only then it comes to that
				d.Fail(func(asked disktest.Op, name string) error { return errors.Join(first(asked, name), other(asked, name)) })
			}})
		}
	}
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(7, uint64(len(c.name))))
			d := disktest.New()
			l := ledger{opts: Options{Dir: t.TempDir(), Features: journalFeatures(), SegmentBytes: 2 << 10, SyncEvery: time.Millisecond, Files: d}}
			s, straight := opened(t, l.opts), opened(t, Options{Features: journalFeatures()})
			s.journal.breaker.pause = time.Millisecond
			aways := 0
			for n := range 150 {
				if n%10 == 5 {
					c.make(d, rng)
				}
				it := l.item(n)
				want := appended(t, straight, l.item(n))
				for {
					err := s.Append(t.Context(), []*Item{it})
					if err == nil {
						break
					}
					if !errors.Is(err, ErrAway) {
						t.Fatalf("payment %d: %v", n, err)
					}
					aways++
					peeked := l.item(n)
					s.Peek([]*Item{peeked})
					if peeked.Values[0] != want.Values[0] {
						t.Fatalf("payment %d counts %s, and from memory %s", n, asJSON(want.Values[0]), asJSON(peeked.Values[0]))
					}
					d.Room(-1)
					hasten(s)
				}
				for k, v := range want.Values {
					if it.Values[k] != v {
						t.Fatalf("payment %d: value %d is %s, not %s", n, k, asJSON(it.Values[k]), asJSON(v))
					}
				}
				l.items, l.ends = append(l.items, it), append(l.ends, s.Written())
				for err := error(ErrAway); err != nil; hasten(s) {
					d.Room(-1)
					if err = s.Decided(t.Context(), []Mark{{Tx: it.Hash, Offset: int64(n)}}); err != nil && !errors.Is(err, ErrAway) {
						t.Fatal(err)
					}
				}
				if n%10 == 9 { // what a sync or a rename meets, it meets beside the payments
					d.Room(-1)
					until(t, "durable", func() bool { hasten(s); return s.Durable() >= l.ends[n] })
				}
			}
			if aways == 0 && s.Health().Opened == 0 {
				t.Error("nothing has failed")
			}
			durable := s.Durable()
			d.Off()
			_ = s.Close()
			if err := d.Lose(rng); err != nil {
				t.Fatal(err)
			}
			l.opts.Files = nil
			again := opened(t, l.opts)
			for i, end := range l.ends {
				if held, err := again.Holds(t.Context(), l.items[i].Hash); end <= durable && !held || err != nil {
					t.Fatalf("payment %d was durable and is lost: %v", i, err)
				}
			}
			for i, want := range l.items {
				it := appended(t, again, l.item(i))
				for k, v := range want.Values {
					if it.Values[k] != v {
						t.Fatalf("after the power failure, payment %d: value %d is %s, not %s", i, k, asJSON(it.Values[k]), asJSON(v))
					}
				}
			}
		})
	}
}

// hasten waits until an embedded store is back, without the pauses that grow.
func hasten(s *Embedded) {
	s.journal.breaker.mu.Lock()
	s.journal.breaker.pause = time.Millisecond
	s.journal.breaker.mu.Unlock()
	<-s.Back()
}

// After a sync that failed the system takes what it could not write for written. What
// was not durable before is on the disk before anything says so: the power goes right
// after, and all of it is there.
func TestWhatAFailedSyncHasDroppedIsWrittenAnew(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 11))
		d := disktest.New()
		l := ledger{opts: Options{Dir: t.TempDir(), Features: journalFeatures(), SyncEvery: time.Millisecond, SegmentBytes: 8 << 10, Files: d}}
		s := opened(t, l.opts)
		l.write(t, s, 5)
		until(t, "durable", func() bool { return s.Durable() == s.Written() })
		failed := make(chan struct{})
		var once sync.Once
		d.Fail(func(op disktest.Op, name string) error {
			if op != disktest.Sync {
				return nil
			}
			once.Do(func() { close(failed) })
			return &os.PathError{Op: string(op), Path: name, Err: syscall.EIO}
		})
		before := s.Durable()
		l.write(t, s, 6)
		<-failed
		if s.Durable() != before {
			t.Fatal("what could not be synced became durable")
		}
		until(t, "away", func() bool { return s.Health().Away })
		if err := s.Append(t.Context(), []*Item{l.item(6)}); !errors.Is(err, ErrAway) {
			t.Fatalf("after a sync that failed, an append ends with %v", err)
		}
		d.Fail(nil)
		<-s.Back()
		l.write(t, s, 7+rng.IntN(30))
		end := s.Written()
		until(t, "durable", func() bool { return s.Durable() >= end })
		d.Off()
		if err := s.Close(); err != nil && !errors.Is(err, ErrAway) && !errors.Is(err, syscall.EIO) {
			t.Error(err)
		}
		if err := d.Lose(rng); err != nil {
			t.Fatal(err)
		}
		l.opts.Files = nil
		again := opened(t, l.opts)
		for i := range l.items {
			if held, err := again.Holds(t.Context(), l.items[i].Hash); !held || err != nil {
				t.Fatalf("seed %d: payment %d was durable and is lost: %v", seed, i, err)
			}
		}
		l.sameAs(t, again)
	}
}

// The power goes at any moment while all is well: what was durable is there, and of
// the rest some; what is there is whole.
func TestAPowerFailureLosesNothingDurable(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 13))
		d := disktest.New()
		l := ledger{opts: Options{Dir: t.TempDir(), Owner: "group", Features: journalFeatures(), SyncEvery: time.Millisecond, SegmentBytes: 2 << 10, Files: d}}
		s := opened(t, l.opts)
		l.write(t, s, 1+rng.IntN(60))
		durable := s.Durable()
		d.Off()
		_ = s.Close()
		if seed%2 == 0 {
			rng = nil
		}
		if err := d.Lose(rng); err != nil {
			t.Fatal(err)
		}
		l.opts.Files = nil
		again := opened(t, l.opts)
		for i, end := range l.ends {
			if held, err := again.Holds(t.Context(), l.items[i].Hash); end <= durable && !held || err != nil {
				t.Fatalf("seed %d: payment %d was durable and is lost: %v", seed, i, err)
			}
		}
	}
}

// A process is killed after a sync has failed. The next one finds the bytes, which
// only the system's memory has; it does not take them for durable before they are on
// the disk.
func TestAStartTrustsNoBytesThatWereNotSynced(t *testing.T) {
	d := disktest.New()
	l := ledger{opts: Options{Dir: t.TempDir(), Features: journalFeatures(), SyncEvery: time.Millisecond, Files: d}}
	s := opened(t, l.opts)
	l.write(t, s, 5)
	until(t, "durable", func() bool { return s.Durable() == s.Written() })
	d.Fail(failing(disktest.Sync, 1<<30, syscall.EIO))
	l.write(t, s, 6)
	until(t, "away", func() bool { return s.Health().Away })
	if err := s.Close(); !errors.Is(err, ErrAway) { // as if it were killed: nothing more was written
		t.Fatalf("it closes with %v", err)
	}
	d.Fail(nil)
	next := opened(t, l.opts)
	if next.Durable() != next.Written() {
		t.Fatal("a start leaves something that is not durable")
	}
	d.Off()
	_ = next.Close()
	if err := d.Lose(nil); err != nil {
		t.Fatal(err)
	}
	l.opts.Files = nil
	last := opened(t, l.opts)
	if held, err := last.Holds(t.Context(), l.items[5].Hash); !held || err != nil {
		t.Errorf("what a start said to be durable is lost: %v", err)
	}
	l.sameAs(t, last)
}

// A real file system that is full: it is mounted in memory with a megabyte of room.
func TestAFullFileSystemPasses(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("a file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 512<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	l := ledger{opts: Options{Dir: filepath.Join(dir, "store"), Features: journalFeatures(), SegmentBytes: 64 << 10, SyncEvery: time.Millisecond}}
	s := opened(t, l.opts)
	var last error
	for n := 0; last == nil && n < 100_000; n++ {
		it := l.item(n)
		if last = s.Append(t.Context(), []*Item{it}); last == nil {
			l.items, l.ends = append(l.items, it), append(l.ends, s.Written())
		}
	}
	if !errors.Is(last, ErrAway) || !errors.Is(last, syscall.ENOSPC) {
		t.Fatalf("on a full disk %v", last)
	}
	n := len(l.items)
	peeked, want := l.item(n), int64(min(n/2+1, 720)) // in a day, of every second minute
	s.Peek([]*Item{peeked})
	if peeked.Values[0].Int() != want || !peeked.Stale {
		t.Errorf("from memory payment %d counts %s, not %d", n, asJSON(peeked.Values[0]), want)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	isBack(t, s)
	t.Logf("from room on the disk to the closed breaker: %v", time.Since(began))
	if it := appended(t, s, l.item(n)); it.Values[0].Int() != want {
		t.Errorf("payment %d counts %s", n, asJSON(it.Values[0]))
	}
	if err := s.Close(); err != nil && !errors.Is(err, ErrAway) { // of an index that found no room: a start makes it again
		t.Fatal(err)
	}
	l.sameAs(t, opened(t, l.opts))
}
