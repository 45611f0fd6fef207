package window

import (
	"context"
	"path/filepath"

	"github.com/sluice-risk/sluice/pipeline/window/disk"
)

// A journal that cannot be written or synced is away until its breaker's probe,
// heal, has made it what memory says it is: the tail's bytes are in memory, up to
// the last write that succeeded.
//
// After a write that failed, the file may have a part of it behind these bytes.
// That is cut off, and as many bytes as the write had are tried at the same place,
// synced, and cut off again: so there is room for it.
//
// After a sync that failed, the file as a whole is no longer believed. Linux marks
// the pages that it could not write as written, and reports the failure once: a
// second sync would succeed, and say that bytes are durable that the disk never got.
// The file as one reads it says nothing either, since that is the same pages. So the
// tail is written anew from memory, to another file, with pages and blocks of its
// own; that is synced; it takes the name of the first one, and the directory is
// synced. Up to the rename the first file is there with all that was ever durable
// in it, and from then on the second one with all that is in memory. Durable moves
// only now. A process that dies in between has not committed an offset beyond
// Durable, and Kafka has the rest. (What a start finds above SYNCED it writes again
// for the same reason: see openTail.)

// usable returns nil where the journal can be written, else why not.
func (j *journal) usable() error {
	if err := j.failed.Load(); err != nil {
		return *err
	}
	return j.breaker.check()
}

// broke takes an error of the file system: it opens the breaker where that may
// pass, and otherwise ends the use of the journal.
func (j *journal) broke(err error) error {
	if !disk.Passes(err) {
		j.fail(err)
		return *j.failed.Load()
	}
	j.breaker.open(err)
	return awayOnDisk(err)
}

func (j *journal) recastName() string { return filepath.Join(j.dir, "recast") }

// leastRoom is how many bytes a disk must take before the journal is written again.
const leastRoom = 4 << 10

// heal implements the probe of the breaker. Until it succeeds nobody else writes to
// the file.
func (j *journal) heal(context.Context) error {
	j.mu.Lock() // a write that had begun has ended
	t := j.tail()
	number, data, written := t.number, t.data, j.written()
	j.mu.Unlock()
	if err := j.failed.Load(); err != nil {
		return *err
	}
	j.syncing.Lock()
	if j.recast.Load() {
		j.syncing.Unlock()
		if err := j.castAgain(number, data); err != nil {
			return err
		}
		j.syncing.Lock()
	}
	defer j.syncing.Unlock()
	if err := j.tryRoom(int64(len(data))); err != nil {
		return err
	}
	j.durable.Store(written)
	return j.noteSynced(number, len(data))
}

// tryRoom cuts the tail's file off where the tail ends, and looks whether the disk
// takes more.
func (j *journal) tryRoom(end int64) error {
	if err := j.file.Truncate(end); err != nil {
		return err
	}
	if _, err := j.file.WriteAt(make([]byte, max(leastRoom, j.room.Load())), end); err != nil {
		return err
	}
	err := j.file.Sync()
	if err == nil {
		err = j.file.Truncate(end)
	}
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil { // of the room or of what is before it, nobody can tell
		j.recast.Store(true)
	}
	return err
}

// castAgain writes the tail to another file, which takes the place of the first.
func (j *journal) castAgain(number uint32, data []byte) error {
	if err := j.writeWhole(j.recastName(), j.name(number), data); err != nil {
		return err
	}
	f, err := j.files.Open(j.name(number))
	if err != nil {
		return err
	}
	j.mu.Lock()
	j.syncing.Lock()
	old := j.file
	j.file = f
	j.recast.Store(false)
	j.syncing.Unlock()
	j.mu.Unlock()
	_ = old.Close() // what it would say is known
	return nil
}

// awayOnDisk makes an error of a file system one that says "later", where it may pass.
func awayOnDisk(err error) error {
	if disk.Passes(err) {
		return away(err)
	}
	return err
}
