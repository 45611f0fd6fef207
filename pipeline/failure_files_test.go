package pipeline_test

import (
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-risk/sluice/pipeline/window/disk"
	"github.com/sluice-risk/sluice/pipeline/window/disk/disktest"
)

// badDisk is the file system of an embedded store: it spoils writes or syncs, and
// loses what was not synced when the power goes.
type badDisk struct {
	*disktest.Disk
	mu    sync.Mutex
	spoil func(operation string) *fault // which of "write" and "sync"; nil: none
}

func (d *badDisk) breaks(which func(operation string) *fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spoil = which
}

// do does an operation, or fails at it.
func (d *badDisk) do(operation string, why error, really func() error) error {
	d.mu.Lock()
	spoil := d.spoil
	d.mu.Unlock()
	var f *fault
	if spoil != nil {
		f = spoil(operation)
	}
	if !f.strikes() {
		return really()
	}
	switch f.manner {
	case before:
		return why
	case after:
		return errors.Join(really(), why)
	}
	time.Sleep(f.delay) // a disk has no context
	return really()
}

// Create implements disk.Files.
func (d *badDisk) Create(name string) (disk.File, error) { return d.file(d.Disk.Create(name)) }

// Open implements disk.Files.
func (d *badDisk) Open(name string) (disk.File, error) { return d.file(d.Disk.Open(name)) }

func (d *badDisk) file(f disk.File, err error) (disk.File, error) {
	if err != nil {
		return nil, err
	}
	return badFile{f, d}, nil
}

type badFile struct {
	disk.File
	on *badDisk
}

func (f badFile) WriteAt(b []byte, offset int64) (n int, err error) {
	err = f.on.do("write", syscall.ENOSPC, func() (err error) {
		n, err = f.File.WriteAt(b, offset)
		return err
	})
	return n, err
}

func (f badFile) Sync() error { return f.on.do("sync", syscall.EIO, f.File.Sync) }
