package window

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"

	"github.com/sluice-risk/sluice/pipeline/window/disk"
)

// A journal is everything that happened, in one order: segments of which the
// last, the tail, is written (segment.go), and an index of the others (runs.go).
// Without a directory all of it is in memory.
//
// flush hands everything to the operating system in one write before anything is
// published, so a killed process loses nothing; a goroutine syncs it to the disk
// every few milliseconds, and `durable` follows. Nothing waits for a disk. Only
// the tail can end in the middle of a record, when the machine crashed: what is
// cut there was never durable, no offset beyond it was committed, and Kafka has
// it still. What is broken or missing of that which was on the disk already is
// damage, and the store does not open.
type journal struct {
	dir   string
	files disk.Files
	limit int
	key   Key
	// All that would be written is refused.
	readOnly bool

	// Guarded by the store's lock.
	segments []*segment // those that are kept, the tail last
	pending  []byte     // what the next flush writes

	// Of a directory. Whoever holds the store's lock owns file while the breaker is
	// closed; while it is open, heal does. It is replaced with both locks held.
	lock    *flock.Flock
	file    disk.File   // of the tail
	mark    disk.File   // SYNCED
	mu      sync.Locker // the store's
	breaker *breaker
	ticker  *time.Ticker
	done    chan struct{}
	synced  sync.WaitGroup

	durable atomic.Uint64 // what was written up to here is on the disk
	syncing sync.Mutex    // held while file is synced or replaced; taken after the store's
	recast  atomic.Bool   // a sync has failed: what the disk has of file is unknown
	room    atomic.Int64  // the bytes of the write that failed last
	failed  atomic.Pointer[error]
}

func (j *journal) tail() *segment { return j.segments[len(j.segments)-1] }

// written is how much was written: the number of the tail, and its length.
func (j *journal) written() uint64 {
	t := j.tail()
	return uint64(t.number)<<32 | uint64(len(t.data))
}

// at returns an entry by its number, nil where it is not kept any more.
func (j *journal) at(number uint64) entry {
	i := j.segmentOf(number)
	if i >= len(j.segments) {
		return nil
	}
	return j.segments[i].entryAt(int(number&(1<<segmentShift-1)) * unit)
}

// checked returns an entry by its number as at does, and looks whether its bytes
// are what was written. Damage makes the journal unusable: no value may rest on it.
func (j *journal) checked(number uint64) entry {
	e := j.at(number)
	if e == nil {
		return nil
	}
	segment, offset := j.position(number)
	if _, ok := frame(j.segments[segment-j.segments[0].number].data[offset:]); !ok {
		j.fail(fmt.Errorf("%w: segment %d at byte %d", ErrCorrupt, segment, offset))
		return nil
	}
	return e
}

// segmentOf is the place of a number's segment among those that are kept.
func (j *journal) segmentOf(number uint64) int {
	const segmentMask = numberMask >> segmentShift
	return int((uint32(number>>segmentShift) - j.segments[0].number) & segmentMask)
}

// position says where in the journal a number is, for people and for evidence.
func (j *journal) position(number uint64) (segment uint32, offset uint64) {
	return j.segments[0].number + uint32(j.segmentOf(number)), (number & (1<<segmentShift - 1)) * unit
}

// put adds the record of an entry, which add appends, to what the next flush
// writes. It returns the entry and the number that it will have.
func (j *journal) put(add func([]byte) []byte) (entry, uint64) {
	at := len(j.pending)
	j.pending = append(j.pending, 0, 0, 0, 0)
	j.pending = add(j.pending)
	e := entry(j.pending[at+frameSize:])
	binary.LittleEndian.PutUint32(j.pending[at:], crc32.Checksum(e, castagnoli))
	for len(j.pending)%unit != 0 {
		j.pending = append(j.pending, 0)
	}
	t := j.tail()
	return e, numberOf(t.number, len(t.data)+at)
}

// flush writes what was put, as a whole or not at all: nobody reads behind
// len(tail.data), and what a write that failed has left there is cut off before the
// next one (heal).
func (j *journal) flush() error {
	defer func() { j.pending = j.pending[:0] }()
	if j.readOnly {
		return ErrReadOnly
	}
	if err := j.usable(); err != nil {
		return err
	}
	t := j.tail()
	if len(t.data)+len(j.pending) > maxSegment {
		return fmt.Errorf("journal: %d bytes at once are more than a segment takes", len(j.pending))
	}
	if j.file != nil {
		if _, err := j.file.WriteAt(j.pending, int64(len(t.data))); err != nil {
			j.room.Store(int64(len(j.pending)))
			return j.broke(err)
		}
	}
	from := len(t.data)
	if need := from + len(j.pending); need > cap(t.data) { // the last step is to all that it will take
		size := 4 * need
		if size > j.limit/4 {
			size = max(j.limit+j.limit/16, need+need/4)
		}
		t.data = append(make([]byte, 0, size), t.data...)
	}
	t.data = append(t.data, j.pending...)
	for from < len(t.data) {
		e := t.entryAt(from)
		t.note(e)
		from += recordSize(e)
	}
	return nil
}

// seal completes the tail and begins another segment. Where it fails on the way, the
// next call goes on from there.
func (j *journal) seal() error {
	t := j.tail()
	if !t.sealed {
		j.put(t.appendSeal)
		if err := j.flush(); err != nil {
			return err
		}
		t.sealed = true
	}
	if j.file == nil {
		return j.begin(t.number + 1)
	}
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if err := j.syncFile(); err != nil {
		return err
	}
	old := j.file
	if err := j.begin(t.number + 1); err != nil {
		return j.broke(err)
	}
	if err := t.mapFile(j.name(t.number)); err != nil { // it stays in memory
		j.fail(err)
		return err
	}
	_ = old.Close() // it is synced: there is nothing that it could still say
	return nil
}

// begin makes an empty tail.
func (j *journal) begin(number uint32) error {
	s := &segment{number: number, data: segmentHeader(j.key, number)}
	if j.dir != "" {
		f, err := j.files.Create(j.name(number))
		if err != nil {
			return err
		}
		if _, err = f.WriteAt(s.data, 0); err == nil {
			err = j.files.SyncDir(j.dir)
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
		j.file = f
	}
	j.segments = append(j.segments, s)
	return nil
}

// drop gives up the oldest segment.
func (j *journal) drop() error {
	s := j.segments[0]
	if j.dir != "" {
		if err := j.files.Remove(j.name(s.number)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return j.broke(err)
		}
	}
	j.segments = j.segments[1:]
	return s.unmap()
}

// bytes is what the segments take.
func (j *journal) bytes() (n int64) {
	for _, s := range j.segments {
		n += int64(len(s.data))
	}
	return n
}

func (j *journal) name(number uint32) string {
	return filepath.Join(j.dir, fmt.Sprintf("journal-%08d", number))
}

// open locks the directory and reads its segments; the last one is checked
// record by record, and visit is called for each of them.
func (j *journal) open(owner string, visit func(at int, e entry) error) (err error) {
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return err
	}
	j.lock = flock.New(filepath.Join(j.dir, "LOCK"))
	if got, err := j.lock.TryLock(); err != nil || !got {
		return errors.Join(ErrLocked, err)
	}
	defer func() {
		if err != nil {
			_ = j.lock.Unlock()
		}
	}()
	if err := j.checkOwner(owner); err != nil {
		return err
	}
	if j.mark, err = j.files.Open(j.markName()); errors.Is(err, os.ErrNotExist) {
		j.mark, err = j.files.Create(j.markName())
	}
	if err != nil {
		return err
	}
	if err := j.files.Remove(j.recastName()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	names, err := filepath.Glob(filepath.Join(j.dir, "journal-*"))
	if err != nil {
		return err
	}
	slices.Sort(names)
	for i, name := range names {
		if err := j.openSegment(name, i == len(names)-1); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(name), err)
		}
	}
	if n := j.syncedNumber(); n > 0 && (len(j.segments) == 0 || n > j.tail().number) {
		return fmt.Errorf("%w: segment %d is missing", ErrCorrupt, n)
	}
	if len(j.segments) == 0 {
		if j.key == (Key{}) {
			if j.key, err = newKey(); err != nil {
				return err
			}
		}
		return j.begin(1)
	}
	t := j.tail()
	if t.mapped != nil { // the crash came between a seal and the next segment
		return j.begin(t.number + 1)
	}
	if err := j.openTail(t, visit); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(j.name(t.number)), err)
	}
	return nil
}

// openSegment adds the segment of a file; what is not complete can only be the last.
func (j *journal) openSegment(name string, last bool) error {
	s := &segment{}
	if _, err := fmt.Sscanf(filepath.Base(name), "journal-%08d", &s.number); err != nil {
		return fmt.Errorf("%w: it is no segment", ErrCorrupt)
	}
	if n := len(j.segments); n > 0 && s.number != j.segments[n-1].number+1 {
		return fmt.Errorf("%w: segment %d is missing", ErrCorrupt, j.segments[n-1].number+1)
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	begun := last && j.syncedSize(s.number) == 0
	if begun && info.Size() < int64(headerSize) {
		return j.files.Remove(name) // the crash came while the segment was begun
	}
	if err := s.mapFile(name); err != nil {
		return errors.Join(ErrCorrupt, err)
	}
	if begun && len(bytes.TrimLeft(s.data[:headerSize], "\x00")) == 0 {
		return errors.Join(s.unmap(), j.files.Remove(name)) // the same, and what has reached the disk is not the header
	}
	key, ok := readHeader(s.data, s.number)
	if strings.HasPrefix(string(s.data[:min(len(s.data), len(journalMagic))]), "SLUICEJ1") {
		return ErrVersion
	}
	if !ok {
		return fmt.Errorf("%w: no journal header", ErrCorrupt)
	}
	if j.key != (Key{}) && j.key != key {
		return fmt.Errorf("%w: it is a segment of another journal", ErrCorrupt)
	}
	j.key = key
	sealed := s.readSeal()
	if sealed && last { // a machine's crash may have kept the seal, and lost what was before it
		end, err := s.each(headerSize, func(int, entry) error { return nil })
		sealed = err == nil && end == len(s.data)
	}
	switch {
	case !sealed && !last:
		return fmt.Errorf("%w: its end is missing", ErrCorrupt)
	case !sealed:
		data := append([]byte(nil), s.data...)
		if err := s.unmap(); err != nil {
			return err
		}
		s.data = data
	}
	j.segments = append(j.segments, s)
	return nil
}

// readTail reads the tail up to its last whole record, and forgets the rest.
func (j *journal) readTail(t *segment, visit func(int, entry) error) (end int, err error) {
	all := segment{data: t.data}
	end, err = all.each(headerSize, func(at int, e entry) error {
		t.note(e)
		t.data = all.data[:at+recordSize(e)] // what visit may see
		return visit(at, e)
	})
	if err != nil {
		return end, fmt.Errorf("%w at byte %d: %w", ErrCorrupt, end, err)
	}
	t.data = all.data[:end:end]
	return end, nil
}

// openTail reads the tail and opens its file for what comes.
func (j *journal) openTail(t *segment, visit func(int, entry) error) error {
	end, err := j.readTail(t, visit)
	if err != nil {
		return err
	}
	synced := j.syncedSize(t.number)
	if int64(end) < synced {
		return fmt.Errorf("%w at byte %d, and %d were on the disk already", ErrCorrupt, end, synced)
	}
	if j.file, err = j.files.Open(j.name(t.number)); err != nil {
		return err
	}
	// What a crash cut in the middle goes. What a killed process had only handed to
	// the system becomes durable: it is written again, since a sync of that process may
	// have failed, and the system then takes for written what the disk does not have.
	if err = j.file.Truncate(int64(end)); err == nil {
		_, err = j.file.WriteAt(t.data[synced:], synced)
	}
	if err == nil {
		err = j.file.Sync()
	}
	if err == nil {
		err = j.noteSynced(t.number, end)
	}
	return err
}

// checkOwner keeps two consumer groups from sharing a directory: their offsets
// would not agree with its entries.
func (j *journal) checkOwner(owner string) error {
	name := filepath.Join(j.dir, "OWNER")
	got, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return j.writeWhole(name+".part", name, []byte(owner))
	}
	if err == nil && string(got) != owner {
		return fmt.Errorf("%w: %q, not %q", ErrOwner, got, owner)
	}
	return err
}

// writeWhole makes a file durable under a first name, and then under its own: so it
// is there as a whole, or as it was before.
func (j *journal) writeWhole(first, name string, data []byte) error {
	f, err := j.files.Create(first)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(data, 0); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := j.files.Rename(first, name); err != nil {
		return err
	}
	return j.files.SyncDir(j.dir)
}

// The file SYNCED says how much of which segment was on the disk at the last
// sync. It is not synced itself: it may be behind, never ahead. What is damaged
// below it is damage; above it, a crash.

func (j *journal) markName() string { return filepath.Join(j.dir, "SYNCED") }

func (j *journal) noteSynced(number uint32, size int) error {
	var b [12]byte
	binary.LittleEndian.PutUint32(b[:], number)
	binary.LittleEndian.PutUint64(b[4:], uint64(size))
	_, err := j.mark.WriteAt(b[:], 0)
	return err
}

func (j *journal) readSynced() (number uint32, size int64) {
	b, err := os.ReadFile(j.markName())
	if err != nil || len(b) < 12 {
		return 0, 0
	}
	return binary.LittleEndian.Uint32(b), int64(binary.LittleEndian.Uint64(b[4:]))
}

func (j *journal) syncedNumber() uint32 { n, _ := j.readSynced(); return n }

// syncedSize is how much of a segment was on the disk for sure.
func (j *journal) syncedSize(number uint32) int64 {
	if n, size := j.readSynced(); n == number {
		return size
	}
	return 0
}

// fail makes the journal unusable: what is on the disk is no longer known.
func (j *journal) fail(err error) {
	err = fmt.Errorf("journal: %w", err)
	j.failed.CompareAndSwap(nil, &err)
}

// syncEvery begins to sync in the background.
func (j *journal) syncEvery(d time.Duration) {
	j.done, j.ticker = make(chan struct{}), time.NewTicker(d)
	j.durable.Store(j.written())
	j.synced.Go(func() {
		for {
			select {
			case <-j.done:
				return
			case <-j.ticker.C:
				j.sync()
			}
		}
	})
}

// sync makes durable what was written before it began.
func (j *journal) sync() {
	j.mu.Lock()
	written, number, size := j.written(), j.tail().number, len(j.tail().data)
	j.mu.Unlock()
	if written == j.durable.Load() || j.usable() != nil {
		return
	}
	j.syncing.Lock()
	defer j.syncing.Unlock()
	// The file may have been replaced by a later segment meanwhile: then the earlier one was synced whole.
	if j.syncFile() != nil {
		return
	}
	j.durable.Store(written)
	if err := j.noteSynced(number, size); err != nil {
		_ = j.broke(err)
	}
}

// syncFile syncs the tail's file. Once that has failed, no later success says
// anything of this file: see heal. The caller holds syncing.
func (j *journal) syncFile() error {
	if err := j.usable(); err != nil {
		return err
	}
	if err := j.file.Sync(); err != nil {
		j.recast.Store(true)
		return j.broke(err)
	}
	return nil
}

func (j *journal) close() (err error) {
	if j.dir == "" {
		for _, s := range j.segments { // mapped if they were only looked at
			err = errors.Join(err, s.unmap())
		}
		return err
	}
	close(j.done)
	j.ticker.Stop()
	j.synced.Wait()
	j.breaker.end()
	j.sync()
	err = errors.Join(j.usable(), j.file.Close(), j.mark.Close())
	for _, s := range j.segments {
		err = errors.Join(err, s.unmap())
	}
	return errors.Join(err, j.lock.Unlock())
}
