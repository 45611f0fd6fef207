// Package disktest is a disk for tests of what must survive one: it fills up, fails
// to sync, and loses what was not synced when the power goes.
package disktest

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/sluice-risk/sluice/pipeline/window/disk"
)

// Op is what a store asks of the disk.
type Op string

// The operations that Fail is asked about.
const (
	Create   Op = "create"
	Open     Op = "open"
	Rename   Op = "rename"
	Remove   Op = "remove"
	SyncDir  Op = "sync the directory"
	Write    Op = "write"
	Truncate Op = "truncate"
	Sync     Op = "sync"
)

// Disk implements disk.Files. The files are those of the system, so everybody can
// read them as if the disk were whole; beside them it keeps what would be there
// after the power had gone. It holds all its files in memory, and is for tests.
//
// It behaves as Linux does where that matters: a name is durable once its directory
// was synced, bytes are once their file was. After a sync that failed the system
// takes the bytes for written: a later sync succeeds and does not write them.
type Disk struct {
	mu    sync.Mutex
	names map[string]*inode // now
	kept  map[string]*inode // after a loss of power
	room  int64             // bytes that files may still grow by; negative: no bound
	fail  func(op Op, name string) error
	off   bool
}

// inode is a file, whatever its name.
type inode struct {
	kept  []byte     // after a loss of power
	dirty [][2]int64 // ranges that were written and not synced
	size  int64
}

var _ disk.Files = (*Disk)(nil)

// New returns a disk that has the files that the system has.
func New() *Disk {
	return &Disk{names: map[string]*inode{}, kept: map[string]*inode{}, room: -1}
}

// Fail lets fail decide about each operation from now on: where it returns an error,
// that is what the operation returns, and nothing is done. nil: nothing fails.
// It is called with the disk's lock held.
func (d *Disk) Fail(fail func(op Op, name string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = fail
}

// Room is how many bytes files may still grow by; a write beyond them is cut there,
// and fails with ENOSPC. Negative: no bound.
func (d *Disk) Room(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room = bytes
}

// Off lets every operation fail, as if the power were gone. Lose follows, once the
// store is closed.
func (d *Disk) Off() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
}

// Lose makes the files what a loss of power leaves: what was synced, and of each
// write that was not, all or nothing as rng says; nothing where it is nil. The disk
// is not used again.
func (d *Disk) Lose(rng *rand.Rand) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
	var err error
	for name := range d.names {
		if d.kept[name] == nil {
			err = errors.Join(err, os.Remove(name))
		}
	}
	for name, f := range d.kept {
		if d.names[name] == f && len(f.dirty) == 0 && f.size == int64(len(f.kept)) && d.same(name, f) {
			continue
		}
		if d.names[name] == f && rng != nil {
			now, e := os.ReadFile(name)
			err = errors.Join(err, e)
			for _, r := range f.dirty {
				if r[1] <= int64(len(now)) && rng.IntN(2) == 0 {
					f.keep(now, r)
				}
			}
		}
		err = errors.Join(err, os.WriteFile(name, f.kept, 0o600))
	}
	return err
}

func (d *Disk) same(name string, f *inode) bool {
	now, err := os.ReadFile(name)
	return err == nil && string(now) == string(f.kept)
}

// keep makes a range durable.
func (f *inode) keep(now []byte, r [2]int64) {
	if int64(len(f.kept)) < r[1] {
		f.kept = append(f.kept, make([]byte, r[1]-int64(len(f.kept)))...)
	}
	copy(f.kept[r[0]:r[1]], now[r[0]:r[1]])
}

// begin is called first by each operation, with the lock held.
func (d *Disk) begin(op Op, name string) error {
	if d.off {
		return &os.PathError{Op: string(op), Path: name, Err: syscall.EIO}
	}
	if d.fail != nil {
		return d.fail(op, name)
	}
	return nil
}

// find returns the file of a name, nil where there is none. One that the disk has
// not seen yet is on it as it is.
func (d *Disk) find(name string) *inode {
	if f := d.names[name]; f != nil {
		return f
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	f := &inode{kept: data, size: int64(len(data))}
	d.names[name], d.kept[name] = f, f
	return f
}

// Create implements disk.Files.
func (d *Disk) Create(name string) (disk.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.begin(Create, name); err != nil {
		return nil, err
	}
	there := d.find(name)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if there == nil {
		there = &inode{}
		d.names[name] = there
	}
	there.resize(d, 0)
	return &file{disk: d, inode: there, name: name, f: f}, nil
}

// Open implements disk.Files.
func (d *Disk) Open(name string) (disk.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.begin(Open, name); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &file{disk: d, inode: d.find(name), name: name, f: f}, nil
}

// Rename implements disk.Files.
func (d *Disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.begin(Rename, from); err != nil {
		return err
	}
	f, old := d.find(from), d.find(to)
	if err := os.Rename(from, to); err != nil {
		return err
	}
	if old != nil {
		old.resize(d, 0)
	}
	delete(d.names, from)
	d.names[to] = f
	return nil
}

// Remove implements disk.Files.
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.begin(Remove, name); err != nil {
		return err
	}
	f := d.find(name)
	if err := os.Remove(name); err != nil {
		return err
	}
	f.resize(d, 0)
	delete(d.names, name)
	return nil
}

// SyncDir implements disk.Files.
func (d *Disk) SyncDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.begin(SyncDir, dir); err != nil {
		return err
	}
	for name := range d.kept {
		if filepath.Dir(name) == dir && d.names[name] == nil {
			delete(d.kept, name)
		}
	}
	for name, f := range d.names {
		if filepath.Dir(name) == dir {
			d.kept[name] = f
		}
	}
	return nil
}

func (f *inode) resize(d *Disk, size int64) {
	if d.room >= 0 {
		d.room += f.size - size
	}
	f.size = size
	f.dirty = slices.DeleteFunc(f.dirty, func(r [2]int64) bool { return r[1] > size })
}

// file implements disk.File.
type file struct {
	disk  *Disk
	inode *inode
	name  string
	f     *os.File
}

func (f *file) WriteAt(b []byte, offset int64) (n int, err error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.begin(Write, f.name); err != nil {
		return 0, err
	}
	full := error(nil)
	if grows := offset + int64(len(b)) - f.inode.size; f.disk.room >= 0 && grows > f.disk.room {
		b = b[:max(0, int64(len(b))-grows+f.disk.room)]
		full = &os.PathError{Op: string(Write), Path: f.name, Err: syscall.ENOSPC}
	}
	if n, err = f.f.WriteAt(b, offset); n > 0 {
		end := offset + int64(n)
		if end > f.inode.size {
			f.inode.resize(f.disk, end)
		}
		f.inode.dirty = append(f.inode.dirty, [2]int64{offset, end})
	}
	return n, errors.Join(err, full)
}

func (f *file) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.begin(Truncate, f.name); err != nil {
		return err
	}
	if err := f.f.Truncate(size); err != nil {
		return err
	}
	f.inode.resize(f.disk, size)
	return nil
}

func (f *file) Sync() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.begin(Sync, f.name); err != nil {
		if !f.disk.off {
			f.inode.dirty = nil // the system takes them for written
		}
		return err
	}
	for _, r := range f.inode.dirty {
		some := make([]byte, r[1]-r[0])
		if _, err := f.f.ReadAt(some, r[0]); err != nil {
			return err
		}
		if int64(len(f.inode.kept)) < r[1] {
			f.inode.kept = append(f.inode.kept, make([]byte, r[1]-int64(len(f.inode.kept)))...)
		}
		copy(f.inode.kept[r[0]:], some)
	}
	f.inode.dirty = nil
	if size := f.inode.size; size < int64(len(f.inode.kept)) {
		f.inode.kept = f.inode.kept[:size]
	} else {
		f.inode.kept = append(f.inode.kept, make([]byte, size-int64(len(f.inode.kept)))...)
	}
	return nil
}

func (f *file) Close() error { return f.f.Close() }
