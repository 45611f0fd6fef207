package window

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Files is what an embedded store asks of a file system where it changes anything;
// it reads by the system's own calls. Names are whole paths. Options.Files replaces
// the system's: by one that is full, broken, or loses what was not synced.
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

// systemFiles is the file system that the process has.
type systemFiles struct{}

func (systemFiles) Create(name string) (File, error) {
	return file(os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600))
}

func (systemFiles) Open(name string) (File, error) { return file(os.OpenFile(name, os.O_WRONLY, 0)) }

// file keeps a nil pointer from becoming a File that is not nil.
func file(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (systemFiles) Rename(from, to string) error { return os.Rename(from, to) }
func (systemFiles) Remove(name string) error     { return os.Remove(name) }

func (systemFiles) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// awayOnDisk makes an error of a file system one that says "later", where it may pass.
func awayOnDisk(err error) error {
	if passes(err) && !errors.Is(err, ErrAway) {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	return err
}

// passes tells whether an error of a file system may pass: it is full, the quota or
// the limit of a file is reached, the disk does not write, or it was mounted anew
// to be read only, as systems do after an error.
func passes(err error) bool {
	for _, e := range [...]error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EIO, syscall.EROFS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
