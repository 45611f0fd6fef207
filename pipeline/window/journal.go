package window

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
)

// A journal is a directory of segments, journal-00000001 and so on. A segment
// is a header and records; a record is
//
//	length  uint32  of kind and body
//	crc     uint32  Castagnoli, of kind and body
//	kind    byte    see record.go
//	body
//
// little endian. Only the last segment can end in the middle of a record, when
// the machine crashed: what is cut there was never durable, no offset beyond it
// was committed, and Kafka has it still. What is broken or missing of that which
// was on the disk already is damage, and the store does not open.
//
// flush hands everything to the operating system in one write before anything
// is published, so a killed process loses nothing; a goroutine syncs it to the
// disk every few milliseconds, and `durable` follows. Nothing waits for a disk.
type journal struct {
	dir    string
	limit  int64
	store  *Embedded
	lock   *flock.Flock
	ticker *time.Ticker
	done   chan struct{}
	synced sync.WaitGroup

	// Owned by whoever holds the store's lock.
	file    *os.File
	mark    *os.File // SYNCED
	number  int
	size    int64 // of the file, as far as it holds whole flushes
	pending []byte

	durable atomic.Uint64 // every ordinal below it is on the disk
	syncing sync.Mutex    // held while file is synced or replaced
	failed  atomic.Pointer[error]
}

const (
	journalMagic = "SLUICEJ1"
	headerSize   = len(journalMagic) + 16 + 4 // and the key, and a checksum of both
	frameSize    = 8
	maxRecord    = 16 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openJournal locks the directory, reads what it holds into the store, and is
// ready to append.
func openJournal(opts Options, s *Embedded) (*journal, error) {
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("store %s: %w", opts.Dir, err)
	}
	j := &journal{dir: opts.Dir, limit: opts.SegmentBytes, store: s, lock: flock.New(filepath.Join(opts.Dir, "LOCK")), done: make(chan struct{})}
	if got, err := j.lock.TryLock(); err != nil || !got {
		return nil, fmt.Errorf("store %s: %w", opts.Dir, errors.Join(ErrLocked, err))
	}
	if err := j.open(opts); err != nil {
		_ = j.lock.Unlock()
		return nil, fmt.Errorf("store %s: %w", opts.Dir, err)
	}
	j.durable.Store(s.ordinal)
	j.ticker = time.NewTicker(opts.SyncEvery)
	j.synced.Go(j.syncInBackground)
	return j, nil
}

func (j *journal) open(opts Options) error {
	if err := j.checkOwner(opts.Owner); err != nil {
		return err
	}
	var err error
	if j.mark, err = os.OpenFile(filepath.Join(j.dir, "SYNCED"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(j.dir, "journal-*"))
	if err != nil {
		return err
	}
	slices.Sort(names)
	var total, done int64
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			total += info.Size()
		}
	}
	for i, name := range names {
		if _, err := fmt.Sscanf(filepath.Base(name), "journal-%08d", &j.number); err != nil || j.number != i+1 {
			return fmt.Errorf("%w: %s is not segment %d", ErrCorrupt, filepath.Base(name), i+1)
		}
		if i > 0 {
			j.store.starts = append(j.store.starts, j.store.ordinal)
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		last := i == len(names)-1
		if j.size, err = j.replay(data, last, opts, func(at int) { opts.progress(done+int64(at), total) }); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(name), err)
		}
		done += int64(len(data))
	}
	if len(names) == 0 || j.size == 0 {
		j.number = max(0, j.number-1)
		if j.store.key == (Key{}) {
			if j.store.key, err = newKey(); err != nil {
				return err
			}
		}
		return j.begin()
	}
	if j.file, err = os.OpenFile(j.name(j.number), os.O_WRONLY, 0); err != nil {
		return err
	}
	// What a crash cut in the middle goes; what a killed process had only handed to the system becomes durable.
	if err := errors.Join(j.file.Truncate(j.size), seekTo(j.file, j.size), j.file.Sync()); err != nil {
		return err
	}
	j.noteSynced(j.number, j.size)
	return nil
}

func (o *Options) progress(done, total int64) {
	if o.OnProgress != nil {
		o.OnProgress(done, total)
	}
}

// checkOwner keeps two consumer groups from sharing a directory: their offsets
// would not agree with its entries.
func (j *journal) checkOwner(owner string) error {
	name := filepath.Join(j.dir, "OWNER")
	got, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return os.WriteFile(name, []byte(owner), 0o600)
	}
	if err == nil && string(got) != owner {
		return fmt.Errorf("%w: %q, not %q", ErrOwner, got, owner)
	}
	return err
}

func (j *journal) name(number int) string {
	return filepath.Join(j.dir, fmt.Sprintf("journal-%08d", number))
}

// replay reads a segment into the store and returns how much of it is whole.
func (j *journal) replay(data []byte, last bool, opts Options, progress func(int)) (int64, error) {
	if len(data) < headerSize && last && j.syncedSize() == 0 {
		return 0, nil // the crash came while the segment was begun
	}
	key, ok := readHeader(data)
	if !ok {
		return 0, fmt.Errorf("%w: no journal header", ErrCorrupt)
	}
	if j.store.key != (Key{}) && j.store.key != key {
		return 0, fmt.Errorf("%w: it is a segment of another journal", ErrCorrupt)
	}
	j.store.key = key
	at := headerSize
	for n := 0; at < len(data); n++ {
		body, ok := frame(data[at:])
		if !ok {
			if last && int64(at) >= j.syncedSize() {
				break
			}
			return 0, fmt.Errorf("%w at byte %d, which was on the disk already", ErrCorrupt, at)
		}
		if err := j.store.recover(body, opts.OnMark); err != nil {
			return 0, fmt.Errorf("%w at byte %d: %w", ErrCorrupt, at, err)
		}
		at += frameSize + len(body)
		if n%4096 == 0 {
			progress(at)
		}
	}
	if synced := j.syncedSize(); int64(at) < synced {
		return 0, fmt.Errorf("%w: it ends at byte %d, and %d were on the disk already", ErrCorrupt, at, synced)
	}
	return int64(at), nil
}

// frame returns the kind and body of the record at the start of data, if it is whole.
func frame(data []byte) ([]byte, bool) {
	if len(data) < frameSize {
		return nil, false
	}
	n := binary.LittleEndian.Uint32(data)
	if n == 0 || n > maxRecord || int(n) > len(data)-frameSize {
		return nil, false
	}
	body := data[frameSize : frameSize+int(n)]
	return body, crc32.Checksum(body, castagnoli) == binary.LittleEndian.Uint32(data[4:])
}

// The file SYNCED says how much of which segment was on the disk at the last
// sync. It is not synced itself: it may be behind, never ahead. What is damaged
// below it is damage; above it, a crash.

func (j *journal) noteSynced(number int, size int64) {
	var b [12]byte
	binary.LittleEndian.PutUint32(b[:], uint32(number))
	binary.LittleEndian.PutUint64(b[4:], uint64(size))
	if _, err := j.mark.WriteAt(b[:], 0); err != nil {
		j.fail(err)
	}
}

// syncedSize is how much of the segment that is being read was on the disk for sure.
func (j *journal) syncedSize() int64 {
	var b [12]byte
	if n, _ := j.mark.ReadAt(b[:], 0); n < len(b) || int(binary.LittleEndian.Uint32(b[:])) != j.number {
		return 0
	}
	return int64(binary.LittleEndian.Uint64(b[4:]))
}

// header is the beginning of a segment.
func header(key Key) []byte {
	b := append(make([]byte, 0, headerSize), journalMagic...)
	b = binary.LittleEndian.AppendUint64(b, key.k0)
	b = binary.LittleEndian.AppendUint64(b, key.k1)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// readHeader returns the key of a segment; ok is false where it has no header of ours.
func readHeader(data []byte) (key Key, ok bool) {
	if len(data) < headerSize {
		return key, false
	}
	b := data[len(journalMagic):]
	key = Key{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}
	return key, string(header(key)) == string(data[:headerSize])
}

// put adds a record, whose body add appends, to what the next flush writes.
func (j *journal) put(kind byte, add func([]byte) []byte) {
	at := len(j.pending)
	j.pending = append(j.pending, 0, 0, 0, 0, 0, 0, 0, 0, kind)
	j.pending = add(j.pending)
	body := j.pending[at+frameSize:]
	binary.LittleEndian.PutUint32(j.pending[at:], uint32(len(body)))
	binary.LittleEndian.PutUint32(j.pending[at+4:], crc32.Checksum(body, castagnoli))
}

// flush writes what was put, as a whole or not at all.
func (j *journal) flush() error {
	defer func() { j.pending = j.pending[:0] }()
	if err := j.failed.Load(); err != nil {
		return *err
	}
	if j.size+int64(len(j.pending)) > j.limit && j.size > int64(headerSize) {
		if err := j.roll(); err != nil {
			return err
		}
	}
	if _, err := j.file.Write(j.pending); err != nil {
		// Take back what was written of it, or nobody could read on behind it.
		if back := errors.Join(j.file.Truncate(j.size), seekTo(j.file, j.size)); back != nil {
			j.fail(back)
		}
		return fmt.Errorf("journal: %w", err)
	}
	j.size += int64(len(j.pending))
	return nil
}

func seekTo(f *os.File, at int64) error {
	_, err := f.Seek(at, io.SeekStart)
	return err
}

// fail makes the journal unusable: what is on the disk is no longer known.
func (j *journal) fail(err error) {
	err = fmt.Errorf("journal: %w", err)
	j.failed.CompareAndSwap(nil, &err)
}

// roll ends a segment and begins the next one.
func (j *journal) roll() error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if err := j.file.Sync(); err != nil {
		j.fail(err)
		return err
	}
	if err := j.file.Close(); err != nil {
		j.fail(err)
		return err
	}
	j.store.starts = append(j.store.starts, j.store.ordinal)
	if err := j.begin(); err != nil {
		j.fail(err)
		return err
	}
	return nil
}

// begin makes the file of the next segment.
func (j *journal) begin() error {
	j.number++
	f, err := os.OpenFile(j.name(j.number), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(header(j.store.key)); err != nil {
		return err
	}
	j.file, j.size = f, int64(headerSize)
	return syncDir(j.dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (j *journal) syncInBackground() {
	for {
		select {
		case <-j.done:
			return
		case <-j.ticker.C:
			j.sync()
		}
	}
}

// sync makes durable what was written before it began.
func (j *journal) sync() {
	j.store.mu.Lock()
	written, number, size := j.store.ordinal, j.number, j.size
	j.store.mu.Unlock()
	if written == j.durable.Load() {
		return
	}
	j.syncing.Lock()
	defer j.syncing.Unlock()
	// The file may have been replaced by a later segment meanwhile: then the earlier one was synced whole.
	if err := j.file.Sync(); err != nil {
		// After a failed sync nobody knows what the disk holds: never say durable again.
		j.fail(err)
		return
	}
	if j.failed.Load() == nil {
		j.durable.Store(written)
		j.noteSynced(number, size)
	}
}

func (j *journal) close() error {
	close(j.done)
	j.ticker.Stop()
	j.synced.Wait()
	j.sync()
	err := errors.Join(j.file.Close(), j.mark.Close())
	if failed := j.failed.Load(); failed != nil {
		err = errors.Join(*failed, err)
	}
	return errors.Join(err, j.lock.Unlock())
}
