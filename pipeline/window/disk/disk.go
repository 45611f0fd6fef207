// Package disk is what an embedded store asks of a file system where it changes
// anything. It reads by the system's own calls.
package disk

import (
	"errors"
	"os"
	"syscall"
)

// Files is a file system: that of the process, System, or one that is full, broken,
// or loses what was not synced (disktest). Names are whole paths.
type Files interface {
	// Create makes an empty file, or empties the one that has this name.
	Create(name string) (File, error)
	// Open opens a file that is there, to be written.
	Open(name string) (File, error)
	// Rename gives a file another name, in one step, instead of the file that had it.
	Rename(from, to string) error
	Remove(name string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
}

// File is an open file.
type File interface {
	// WriteAt writes all of b at an offset, or returns an error; then some of it may
	// have been written.
	WriteAt(b []byte, offset int64) (int, error)
	Truncate(size int64) error
	// Sync returns nil when all that was written is on the disk.
	Sync() error
	Close() error
}

// System is the file system that the process has.
type System struct{}

// Create implements Files.
func (System) Create(name string) (File, error) {
	return file(os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600))
}

// Open implements Files.
func (System) Open(name string) (File, error) { return file(os.OpenFile(name, os.O_WRONLY, 0)) }

// file keeps a nil pointer from becoming a File that is not nil.
func file(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Rename implements Files.
func (System) Rename(from, to string) error { return os.Rename(from, to) }

// Remove implements Files.
func (System) Remove(name string) error { return os.Remove(name) }

// SyncDir implements Files.
func (System) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Passes tells whether an error of a file system may pass: it is full, the quota or
// the limit of a file is reached, the disk does not write, or it was mounted anew
// to be read only, as systems do after an error.
func Passes(err error) bool {
	for _, e := range [...]error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EIO, syscall.EROFS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
