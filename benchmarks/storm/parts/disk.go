package parts

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Disk is a folder as the system calls of one process leave it: which bytes and
// names were synced, and which a machine that loses its power may lose. It knows
// files that are appended to, overwritten in place, renamed and removed.
//
// A process is watched by strace, which shows the beginning of a sync after every
// write that had ended before it, and so never says that more was synced than was.
type Disk struct {
	Dir   string // absolute
	trace string // file that strace writes

	files map[string]*file // by path
}

// file is what is known of one.
type file struct {
	size, synced int64
	named        bool   // the folder was synced since the file got its name
	before       string // the name that it had before, if it was renamed and the folder was not synced since
}

// NewDisk watches a folder; what is there already is on the disk.
func NewDisk(dir, trace string) (*Disk, error) {
	d := &Disk{Dir: dir, trace: trace}
	return d, d.settle()
}

// Watched is a command line whose process leaves a trace of what it does to files,
// on a disk that is slow to sync.
func (d *Disk) Watched(command []string) []string {
	return append([]string{"strace", "-D", "-f", "-y", "-s", "0", "--seccomp-bpf", "-o", d.trace,
		"-e", "trace=openat,write,pwrite64,ftruncate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat",
		"-e", "inject=fsync,fdatasync:delay_enter=150000"}, command...)
}

// settle takes everything that is in the folder as synced.
func (d *Disk) settle() error {
	d.files = map[string]*file{}
	err := filepath.WalkDir(d.Dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			d.files[path] = &file{size: info.Size(), synced: info.Size(), named: true}
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// LosePower takes from the folder what the process, which was killed, had not
// synced: all of it, or a part. It returns how many bytes are gone.
func (d *Disk) LosePower(pid int, rng *rand.Rand) (lost int64, err error) {
	if err := d.awaitTrace(pid); err != nil {
		return 0, err
	}
	if err := d.readTrace(); err != nil {
		return 0, err
	}
	var paths []string
	for path := range d.files {
		paths = append(paths, path)
	}
	slices.Sort(paths) // so that a seed says all
	for _, path := range paths {
		n, err := d.lose(path, d.files[path], rng)
		if err != nil {
			return lost, err
		}
		lost += n
	}
	return lost, d.settle()
}

func (d *Disk) lose(path string, f *file, rng *rand.Rand) (lost int64, err error) {
	if !f.named && rng.IntN(2) == 0 { // the name was not on the disk
		if f.before == "" {
			return f.size, ignoreMissing(os.Remove(path))
		}
		return 0, ignoreMissing(os.Rename(path, f.before))
	}
	if f.size <= f.synced {
		return 0, nil
	}
	const sector = 512
	keep := f.synced + rng.Int64N(f.size-f.synced+1)
	if f.size <= sector { // is written as a whole
		keep = f.size * rng.Int64N(2)
	}
	if err := os.Truncate(path, keep); err != nil {
		return 0, ignoreMissing(err)
	}
	if hole := keep - f.synced; hole > 1 && rng.IntN(2) == 0 { // later sectors may have come first
		from := max(f.synced, (f.synced+rng.Int64N(hole))/sector*sector)
		to := min(keep, (from/sector+1+rng.Int64N(8))*sector)
		if err := overwrite(path, from, make([]byte, to-from)); err != nil {
			return 0, err
		}
		lost += to - from
	}
	return lost + f.size - keep, nil
}

func overwrite(path string, at int64, with []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(with, at)
	return errors.Join(err, f.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// awaitTrace waits until the trace says that the process was killed.
func (d *Disk) awaitTrace(pid int) error {
	end := regexp.MustCompile(fmt.Sprintf(`(?m)^%d +\+\+\+ killed by SIGKILL \+\+\+`, pid))
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) { // strace tells nobody
		trace, err := os.ReadFile(d.trace)
		if err == nil && end.Match(trace) {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("%s does not say that process %d was killed", d.trace, pid), err)
		}
	}
}

// readTrace follows what the process has done.
func (d *Disk) readTrace() error {
	f, err := os.Open(d.trace)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	t := tracer{disk: d, open: map[string]string{}, begun: map[string]int64{}}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		t.line(lines.Text())
	}
	return lines.Err()
}

// tracer reads one trace.
type tracer struct {
	disk  *Disk
	open  map[string]string // calls that have begun, by thread
	begun map[string]int64  // of these, that sync a file: how long it was at their beginning
}

// line takes one, such as
//
//	123 write(7</dir/file>, ""..., 42)  = 42
//	123 fsync(7</dir/file> <unfinished ...>
//	123 <... fsync resumed>)            = 0
func (t *tracer) line(text string) {
	thread, call, ok := strings.Cut(text, " ")
	if !ok {
		return
	}
	call = strings.TrimSpace(call)
	if begin, ok := strings.CutSuffix(call, " <unfinished ...>"); ok {
		t.open[thread] = begin
		t.begin(thread, begin)
		return
	}
	if strings.HasPrefix(call, "<... ") {
		_, rest, _ := strings.Cut(call, " resumed>")
		call = t.open[thread] + rest
		delete(t.open, thread)
	} else {
		t.begin(thread, call)
	}
	i := strings.LastIndex(call, ") ")
	result, ok := strings.CutPrefix(strings.TrimSpace(call[i+1:]), "= ")
	if i < 0 || !ok || strings.HasPrefix(result, "-1") {
		return
	}
	name, args, _ := strings.Cut(call[:i], "(")
	t.end(thread, name, args, result)
}

// begin notes how long a file is when a sync of it begins.
func (t *tracer) begin(thread, call string) {
	if name, args, _ := strings.Cut(call, "("); name == "fsync" || name == "fdatasync" {
		if f := t.disk.files[between(args, "<", ">")]; f != nil {
			t.begun[thread] = f.size
		}
	}
}

// end takes a call that has succeeded.
func (t *tracer) end(thread, name, args, result string) {
	d, path := t.disk, between(args, "<", ">")
	switch name {
	case "fsync", "fdatasync":
		if f := d.files[path]; f != nil {
			f.synced = max(f.synced, t.begun[thread])
		}
		for at, f := range d.files { // of a folder: the names in it
			if filepath.Dir(at) == path {
				f.named, f.before = true, ""
			}
		}
	case "write":
		if f := d.files[path]; f != nil {
			f.size += number(result)
		}
	case "pwrite64":
		if f := d.files[path]; f != nil {
			f.size = max(f.size, number(args[strings.LastIndex(args, ", ")+2:])+number(result))
		}
	case "ftruncate":
		if f := d.files[path]; f != nil {
			f.size = number(args[strings.LastIndex(args, ", ")+2:])
			f.synced = min(f.synced, f.size)
		}
	case "openat":
		path = between(args, `"`, `"`)
		if !filepath.IsAbs(path) {
			path = filepath.Join(between(args, "<", ">"), path)
		}
		if !strings.HasPrefix(path, d.Dir+"/") {
			return
		}
		if f := d.files[path]; f == nil && strings.Contains(args, "O_CREAT") {
			d.files[path] = &file{}
		} else if f != nil && strings.Contains(args, "O_TRUNC") {
			f.size, f.synced = 0, 0
		}
	case "rename", "renameat", "renameat2":
		quoted := strings.Split(args, `"`)
		if len(quoted) < 4 || d.files[quoted[1]] == nil {
			return
		}
		f := d.files[quoted[1]]
		delete(d.files, quoted[1])
		if d.files[quoted[3]] == nil && f.named { // over another file: what would be left is not followed
			f.named, f.before = false, quoted[1]
		}
		d.files[quoted[3]] = f
	case "unlink", "unlinkat":
		delete(d.files, between(args, `"`, `"`))
	}
}

// between is what stands between the first of one text and the next of another.
func between(text, from, to string) string {
	_, rest, _ := strings.Cut(text, from)
	inner, _, _ := strings.Cut(rest, to)
	return inner
}

func number(text string) int64 {
	n, _ := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return n
}
