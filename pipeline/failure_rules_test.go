package pipeline_test

import (
	"errors"
	"io/fs"
	"sync"
	"testing/fstest"
	"time"
)

// badRules is a folder of rules whose files cannot be read, or only half of them,
// or slowly.
type badRules struct {
	fstest.MapFS
	mu    sync.Mutex
	fault *fault
}

func (b *badRules) breaks(f *fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault = f
}

// Open implements fs.FS.
func (b *badRules) Open(name string) (fs.File, error) {
	b.mu.Lock()
	f := b.fault
	b.mu.Unlock()
	file, isFile := b.MapFS[name]
	switch {
	case !isFile || !f.strikes():
	case f.manner == before:
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("the disk is gone")}
	case f.manner == after:
		return fstest.MapFS{name: {Data: file.Data[:len(file.Data)/2]}}.Open(name)
	default:
		time.Sleep(f.delay)
	}
	return b.MapFS.Open(name)
}

// ReadFile implements fs.ReadFileFS: as a file that is opened.
func (b *badRules) ReadFile(name string) ([]byte, error) { return fs.ReadFile(onlyOpen{b}, name) }

// onlyOpen hides what else a file system can do.
type onlyOpen struct{ fs.FS }
