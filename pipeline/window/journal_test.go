package window

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// copyOf is a directory as a crash of the process leaves it: what was handed to
// the system is there, SYNCED is as old as the last sync.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if errors.Is(err, os.ErrNotExist) && strings.HasPrefix(f.Name(), "index-") {
			continue // an index has just got its name, or was made one with others
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, f.Name()), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func filesIn(t *testing.T, dir, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// change rewrites a file.
func change(t *testing.T, name string, how func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, how(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ledger is a store with some of everything that a journal holds.
type ledger struct {
	opts  Options
	items []*Item
	ends  []uint64 // what was written after each of items
}

func journalFeatures() []Feature {
	return []Feature{
		countOf(payer, day),
		{Entity: payer, Name: "sum", Aggregate: Sum, Length: day},
		{Entity: Entity{First: Card}, Name: "failed", Aggregate: Count, Length: day, ReadsStatus: true,
			Where: func(e *Event) Truth { return TruthOf(e.status == payment.OutcomeTechnicalFailure) }},
	}
}

func (l *ledger) item(n int) *Item {
	it := paying(fmt.Sprint("t", n), fmt.Sprint("u", n%2), morning.Add(time.Duration(n)*time.Minute), int64(n))
	it.Tx.Channel = "web"
	it.Tx.Instrument.Kind, it.Tx.Instrument.Token = "card", "c"
	return it
}

func outcomeOf(tx, id string, at payment.Time) *OutcomeItem {
	return &OutcomeItem{Outcome: &payment.Outcome{ID: id, TransactionID: tx, Kind: payment.OutcomeTechnicalFailure, EventTime: at},
		Since: at, Source: Source{Topic: "o", Value: []byte(id)}}
}

// write appends n payments; of each third there is an outcome, of each fourth a verdict.
func (l *ledger) write(t *testing.T, s *Embedded, n int) {
	t.Helper()
	for i := len(l.items); i < n; i++ {
		it := appended(t, s, l.item(i))
		l.items = append(l.items, it)
		l.ends = append(l.ends, s.Written())
		if i%3 == 0 {
			if err := s.Outcomes(t.Context(), []*OutcomeItem{outcomeOf(it.Tx.ID, "o", it.Tx.EventTime)}); err != nil {
				t.Fatal(err)
			}
		}
		if i%4 == 0 {
			if err := s.Decided(t.Context(), []Mark{{Tx: it.Hash, Verdict: payment.Hold, Offset: int64(i)}}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// sameAs appends everything again and compares the values with the first ones:
// what is there is found, what is not comes anew.
func (l *ledger) sameAs(t *testing.T, s *Embedded) {
	t.Helper()
	for i, first := range l.items {
		it := appended(t, s, l.item(i))
		if i%3 == 0 {
			if err := s.Outcomes(t.Context(), []*OutcomeItem{outcomeOf(it.Tx.ID, "o", it.Tx.EventTime)}); err != nil {
				t.Fatal(err)
			}
		}
		for k := range it.Values {
			if it.Values[k] != first.Values[k] {
				t.Fatalf("payment %d, value %d is %s, and was %s", i, k, asJSON(it.Values[k]), asJSON(first.Values[k]))
			}
		}
	}
}

// The process is killed, or the machine, at any byte of what was not synced: the
// store opens, has all that was whole before the cut, and nothing behind it.
func TestATailThatIsCutAnywhereLosesOnlyItsEnd(t *testing.T) {
	l := ledger{opts: Options{Dir: t.TempDir(), Features: journalFeatures(), SyncEvery: time.Hour}}
	s := opened(t, l.opts)
	l.write(t, s, 4)
	crashed := copyOf(t, l.opts.Dir)
	tail := filesIn(t, crashed, "journal-*")[0]
	whole, err := os.ReadFile(tail)
	if err != nil {
		t.Fatal(err)
	}
	mark, err := os.ReadFile(filepath.Join(crashed, "SYNCED"))
	if err != nil {
		t.Fatal(err)
	}
	try := func(what string, at int, data []byte) {
		t.Helper()
		if err := errors.Join(os.WriteFile(tail, data, 0o600), os.WriteFile(filepath.Join(crashed, "SYNCED"), mark, 0o600)); err != nil {
			t.Fatal(err)
		}
		opts := l.opts
		opts.Dir = crashed
		again, err := Open(opts)
		if err != nil {
			t.Fatalf("%s at byte %d: %v", what, at, err)
		}
		for i, it := range l.items {
			held, err := again.Holds(t.Context(), again.Key().Tx(it.Tx.ID))
			if err != nil {
				t.Fatal(err)
			}
			if want := uint64(at) >= l.ends[i]&(1<<32-1); held != want {
				t.Fatalf("%s at byte %d of %d: payment %d is held: %v", what, at, len(whole), i, held)
			}
		}
		if at%32 < 2 {
			l.sameAs(t, again)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for at := range whole {
		try("cut", at, whole[:at])
	}
	for at := headerSize; at < len(whole); at += 5 { // the system wrote the end, and lost a page before it
		torn := bytes.Clone(whole)
		torn[at] ^= 0xff
		try("torn", at, torn)
		clear(torn[at:min(at+64, len(torn))])
		if whole[at] != 0 {
			try("holed", at, torn)
		}
	}
}

// What was on the disk already cannot be missing because of a crash.
func TestDamageBelowTheLastSyncStopsTheStart(t *testing.T) {
	l := ledger{opts: Options{Dir: t.TempDir(), Features: journalFeatures()}}
	s := opened(t, l.opts)
	l.write(t, s, 4)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	tail := filesIn(t, l.opts.Dir, "journal-*")[0]
	whole, err := os.ReadFile(tail)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, at int, data []byte) {
		t.Helper()
		if err := os.WriteFile(tail, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := Open(l.opts); !errors.Is(err, ErrCorrupt) {
			if err == nil {
				_ = s.Close()
			}
			t.Fatalf("%s at byte %d of %d: %v", what, at, len(whole), err)
		}
	}
	for at := range whole {
		bad := bytes.Clone(whole)
		bad[at] ^= 0x10
		refused("a flipped bit", at, bad)
		refused("cut", at, whole[:at])
	}
	if err := os.Remove(tail); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(l.opts); !errors.Is(err, ErrCorrupt) {
		t.Errorf("without its only segment: %v", err)
	}
	if err := os.WriteFile(tail, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	l.sameAs(t, opened(t, l.opts))
}

// sealedLedger is a ledger of several segments, closed, with an outage, an
// outcome that waits and payments without a verdict in an early one.
func sealedLedger(t *testing.T, payments int) *ledger {
	t.Helper()
	l := &ledger{opts: Options{Dir: t.TempDir(), Owner: "group", Features: journalFeatures(), SegmentBytes: 2 << 10, SyncEvery: time.Hour}}
	s := opened(t, l.opts)
	if err := s.Outage(t.Context(), Outage{ID: "x", From: morning, Until: morning + 1, Channel: "web"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Outcomes(t.Context(), []*OutcomeItem{outcomeOf("later", "waits", morning)}); err != nil {
		t.Fatal(err)
	}
	l.write(t, s, payments)
	indexed(t, s)
	return l
}

// whole checks that nothing is lost of what was said before a place in the journal.
func (l *ledger) whole(t *testing.T, s *Embedded, before uint64) {
	t.Helper()
	l.sameAs(t, s)
	if len(s.outages.list) != 1 || s.outages.list[0].ID != "x" {
		t.Errorf("the outages are %v", s.outages.list)
	}
	parked, err := s.Parked(t.Context(), maxTime)
	if err != nil || len(parked) != 1 || string(parked[0].Source.Value) != "waits" {
		t.Errorf("the outcomes that wait are %v, %v", parked, err)
	}
	again := outcomeOf("later", "waits", morning)
	if err := s.Outcomes(t.Context(), []*OutcomeItem{again}); err != nil || again.Status != OutcomeRepeated {
		t.Errorf("the outcome that waits comes again and is %d, %v", again.Status, err)
	}
	undecided := 0
	for i := range l.items {
		if i+1 < len(l.ends) && l.ends[i+1] > before {
			break
		}
		if i%4 != 0 {
			undecided++
		} else if m, ok := s.Earlier(l.items[i].Hash); !ok || m.Offset != int64(i) {
			t.Errorf("the verdict on payment %d is %v, %v", i, m, ok)
		}
	}
	if n := s.undecided.Len(); n < undecided {
		t.Errorf("%d transactions are known to have no verdict, not %d", n, undecided)
	}
}

// The process dies in the middle of beginning another segment: before its file
// is there, with a part of its header, and after each record of what is written
// again in it.
func TestACrashBetweenTwoSegmentsLosesNothing(t *testing.T) {
	l := sealedLedger(t, 60)
	names := filesIn(t, l.opts.Dir, "journal-*")
	if len(names) < 4 {
		t.Fatalf("there are %d segments", len(names))
	}
	tail := names[len(names)-1]
	begun := 0 // where the beginning of the tail is complete
	data, err := os.ReadFile(tail)
	if err != nil {
		t.Fatal(err)
	}
	g := segment{data: data}
	if _, err := g.each(headerSize, func(at int, e entry) error {
		if e.kind() == entryBegun {
			begun = at
		}
		return nil
	}); err != nil || begun == 0 {
		t.Fatal("the tail has no beginning", err)
	}
	kept, before := *l, uint64(len(names))<<32
	for _, at := range []int{-1, 0, 1, 31, 32, 33, 64, 96, 128, begun - 32, begun - 1, begun, begun + 31} {
		if at > begun+31 {
			continue
		}
		dir := copyOf(t, l.opts.Dir)
		name := filepath.Join(dir, filepath.Base(tail))
		if at < 0 {
			err = os.Remove(name)
		} else {
			err = os.Truncate(name, int64(at))
		}
		if err != nil {
			t.Fatal(err)
		}
		crashed := kept
		crashed.opts.Dir = dir
		// The payments of the tail are gone with it; they come again.
		t.Run(fmt.Sprint("cut at ", at), func(t *testing.T) {
			s := opened(t, crashed.opts)
			crashed.whole(t, s, before)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			crashed.whole(t, opened(t, crashed.opts), before)
		})
	}
	// Only the length of the next file, or its zeros, reached the disk.
	dir := copyOf(t, l.opts.Dir)
	change(t, filepath.Join(dir, filepath.Base(tail)), func([]byte) []byte { return make([]byte, 4096) })
	kept.opts.Dir = dir
	kept.whole(t, opened(t, kept.opts), before)
}

// The machine dies after a seal was written and before it was synced: the seal
// may be on the disk, and what stands before it not.
func TestASealWithAHoleBeforeItIsATailThatWasCut(t *testing.T) {
	l := sealedLedger(t, 60)
	dir := copyOf(t, l.opts.Dir)
	names := filesIn(t, dir, "journal-*")
	last := names[len(names)-2]
	if err := os.Remove(names[len(names)-1]); err != nil {
		t.Fatal(err)
	}
	for _, name := range filesIn(t, dir, "index-*") {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	change(t, last, func(b []byte) []byte { clear(b[1024:1088]); return b })
	crashed := *l
	crashed.opts.Dir = dir
	s := opened(t, crashed.opts)
	crashed.sameAs(t, s)
}

func TestASegmentThatIsMissingOrDamagedStopsTheStart(t *testing.T) {
	l := sealedLedger(t, 60)
	if len(filesIn(t, l.opts.Dir, "index-*")) == 0 {
		t.Fatal("there is no index")
	}
	other := sealedLedger(t, 60)
	for _, c := range []struct {
		what   string
		damage func(dir string, names []string) error
	}{
		{"a segment in the middle is missing", func(_ string, names []string) error { return os.Remove(names[1]) }},
		{"the seal of a segment is cut", func(_ string, names []string) error { return os.Truncate(names[1], 1024) }},
		{"the seal of a segment is broken", func(_ string, names []string) error {
			change(t, names[1], func(b []byte) []byte { b[len(b)-16] ^= 1; return b })
			return nil
		}},
		{"the header of a segment is broken", func(_ string, names []string) error {
			change(t, names[1], func(b []byte) []byte { b[9] ^= 1; return b })
			return nil
		}},
		{"a segment is empty", func(_ string, names []string) error { return os.Truncate(names[1], 0) }},
		{"a segment is another journal's", func(dir string, names []string) error {
			b, err := os.ReadFile(filepath.Join(other.opts.Dir, filepath.Base(names[1])))
			return errors.Join(err, os.WriteFile(names[1], b, 0o600))
		}},
		{"a segment has another's number", func(_ string, names []string) error {
			b, err := os.ReadFile(names[0])
			return errors.Join(err, os.WriteFile(names[1], b, 0o600))
		}},
		{"a sealed segment is damaged, and has no index", func(dir string, names []string) error {
			change(t, names[1], func(b []byte) []byte { b[500] ^= 1; return b })
			for _, name := range filesIn(t, dir, "index-*") {
				if err := os.Remove(name); err != nil {
					return err
				}
			}
			return nil
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			opts := l.opts
			opts.Dir = copyOf(t, l.opts.Dir)
			if err := c.damage(opts.Dir, filesIn(t, opts.Dir, "journal-*")); err != nil {
				t.Fatal(err)
			}
			for range 2 { // and it says so again: the first try repairs nothing
				s, err := Open(opts)
				if err == nil {
					_ = s.Close()
				}
				if !errors.Is(err, ErrCorrupt) {
					t.Fatalf("it opens: %v", err)
				}
			}
		})
	}
}

func TestADirectoryBelongsToOneProcessAndOneOwner(t *testing.T) {
	opts := Options{Dir: t.TempDir(), Owner: "group a", Features: journalFeatures()}
	s := opened(t, opts)
	if _, err := Open(opts); !errors.Is(err, ErrLocked) {
		t.Errorf("a second process: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	theirs := opts
	theirs.Owner = "group b"
	if _, err := Open(theirs); !errors.Is(err, ErrOwner) {
		t.Errorf("another group: %v", err)
	}
	if _, err := Open(theirs); !errors.Is(err, ErrOwner) { // and it has not kept the lock
		t.Errorf("another group, once more: %v", err)
	}
	if err := opened(t, opts).Close(); err != nil {
		t.Error(err)
	}
}

// fileLimit lets no file of this process grow beyond a size, as a full disk
// would, until it is called back.
func fileLimit(t *testing.T, size uint64) (lift func()) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Skip(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: before.Max}); err != nil {
		t.Skip(err)
	}
	lift = func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Error(err)
		}
		signal.Reset(syscall.SIGXFSZ)
	}
	t.Cleanup(lift)
	return lift
}

// The disk is full in the middle of a write. The call fails, what was written of
// it is taken back, and once there is room everything goes on: the values are as
// if nothing had happened, here and after a restart.
func TestAWriteThatFailsLosesNothing(t *testing.T) {
	for _, room := range []uint64{0, 1, 40, 100, 150} {
		l := ledger{opts: Options{Dir: t.TempDir(), Features: journalFeatures(), SegmentBytes: 1 << 20}}
		s := opened(t, l.opts)
		l.write(t, s, 10)
		straight := opened(t, Options{Features: journalFeatures()})
		l.sameAs(t, straight)
		written := s.Written()
		lift := fileLimit(t, written&(1<<32-1)+room)
		err := s.Append(t.Context(), []*Item{l.item(10), l.item(11)})
		if err == nil {
			t.Fatalf("with room for %d bytes a payment was written", room)
		}
		if err := s.Outcomes(t.Context(), []*OutcomeItem{outcomeOf("t1", "full", morning), outcomeOf("nobody", "full", morning), outcomeOf("nobody", "full too", morning)}); err == nil {
			t.Errorf("with room for %d bytes three outcomes were written", room)
		}
		if s.Written() != written {
			t.Errorf("%d bytes more are written", s.Written()-written)
		}
		lift()
		<-s.Back()
		l.write(t, s, 12) // the same ones again, and their outcomes
		for _, it := range l.items[10:] {
			appended(t, straight, onceMore(it))
		}
		for i, it := range l.items[10:] {
			for k, v := range appended(t, straight, onceMore(it)).Values {
				if it.Values[k] != v {
					t.Errorf("room for %d: payment %d, value %d is %s, without a failure %s", room, 10+i, k, asJSON(it.Values[k]), asJSON(v))
				}
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		l.sameAs(t, opened(t, l.opts))
	}
}

// onceMore is the same transaction on its way once more.
func onceMore(it *Item) *Item {
	return &Item{Tx: it.Tx, KafkaTime: it.KafkaTime, Base: it.Base, Based: it.Based}
}

// The file is gone underneath: the store says so at every call from then on, and
// the next process finds all that was said to be written.
func TestAStoreWhoseFileIsGoneSaysSo(t *testing.T) {
	l := ledger{opts: Options{Dir: t.TempDir(), Features: journalFeatures(), SyncEvery: time.Millisecond}}
	s := opened(t, l.opts)
	l.write(t, s, 10)
	for s.Durable() < s.Written() {
		time.Sleep(time.Millisecond) // the sync has no other sign
	}
	durable := s.Durable()
	s.mu.Lock()
	err := s.journal.file.Close()
	s.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Append(t.Context(), []*Item{l.item(10)}); err == nil {
			t.Fatal("a payment was written to a file that is closed")
		}
	}
	if s.Durable() != durable {
		t.Error("what could not be written became durable")
	}
	if err := s.Close(); err == nil {
		t.Error("it closed as if nothing had happened")
	}
	l.sameAs(t, opened(t, l.opts))
}

// What is said to be durable survives any loss of what was not synced.
func TestWhatIsDurableIsOnTheDisk(t *testing.T) {
	l := ledger{opts: Options{Dir: t.TempDir(), Features: journalFeatures(), SyncEvery: time.Millisecond, SegmentBytes: 2 << 10}}
	s := opened(t, l.opts)
	for n := range 60 {
		l.write(t, s, n+1)
		if n%6 > 0 {
			continue
		}
		s.journal.syncing.Lock() // so that the copy's SYNCED is of the same moment
		durable := s.Durable()
		dir := copyOf(t, l.opts.Dir)
		s.journal.syncing.Unlock()
		names := filesIn(t, dir, "journal-*")
		// Of the segment in which it ends all that is behind goes.
		for _, name := range names {
			var number uint32
			if _, err := fmt.Sscanf(filepath.Base(name), "journal-%08d", &number); err != nil {
				t.Fatal(err)
			}
			if number == uint32(durable>>32) && name == names[len(names)-1] {
				if err := os.Truncate(name, int64(durable&(1<<32-1))); err != nil {
					t.Fatal(err)
				}
			}
		}
		opts := l.opts
		opts.Dir = dir
		again := opened(t, opts)
		for i, end := range l.ends {
			if held, err := again.Holds(t.Context(), again.Key().Tx(l.items[i].Tx.ID)); end <= durable && !held || err != nil {
				t.Fatalf("payment %d was durable and is lost: %v", i, err)
			}
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAJournalOfAnEarlierVersionSaysSo(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "journal-00000001"), []byte("SLUICEJ1 and what was in it then, which was longer"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(Options{Dir: dir}); !errors.Is(err, ErrVersion) {
		t.Errorf("the store %v opens with %v", s, err)
	}
}
