package parts

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A disk keeps what was synced and no name or byte is safe before; what a sync
// found when it began is safe, what came meanwhile is not.
func TestDiskLosesOnlyWhatWasNotSynced(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, size := range map[string]int{"old": 100, "journal": 1000, "new": 700, "moved": 10} {
		if err := os.WriteFile(at(name), []byte(strings.Repeat("x", size)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trace := strings.NewReplacer("DIR", dir, "\t", "").Replace(`7 openat(AT_FDCWD</>, "DIR/journal", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 3<DIR/journal>
		7 write(3<DIR/journal>, ""..., 500)  = 500
		8 fsync(3<DIR/journal> <unfinished ...>
		7 write(3<DIR/journal>, ""..., 500)  = 500
		8 <... fsync resumed>)               = 0
		7 openat(AT_FDCWD</>, "DIR", O_RDONLY|O_CLOEXEC) = 4<DIR>
		7 fsync(4<DIR>)                      = 0
		7 openat(AT_FDCWD</>, "DIR/new", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 5<DIR/new>
		7 write(5<DIR/new>, ""..., 700)      = 700
		7 fsync(5<DIR/new>)                  = -1 EIO (Input/output error)
		7 write(6<socket:[1]>, ""..., 900)   = 900
		7 +++ killed by SIGKILL +++
`)
	shortest, gone := int64(1000), 0
	for seed := range uint64(60) {
		d := &Disk{Dir: dir, trace: at("trace"), files: map[string]*file{at("old"): {size: 100, synced: 100, named: true}}}
		for name, size := range map[string]int{"old": 100, "journal": 1000, "new": 700, "trace": 0} {
			content := strings.Repeat("x", size)
			if name == "trace" {
				content = trace
			}
			if err := os.WriteFile(at(name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := d.LosePower(7, rand.New(rand.NewPCG(seed, 1))); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(at("old")); err != nil || string(got) != strings.Repeat("x", 100) {
			t.Fatalf("a file that was on the disk has %d bytes, %v", len(got), err)
		}
		got, err := os.ReadFile(at("journal"))
		if err != nil || len(got) < 500 || string(got[:500]) != strings.Repeat("x", 500) {
			t.Fatalf("of 500 bytes that were synced %d are there, %v", len(got), err)
		}
		shortest = min(shortest, int64(len(got)))
		if _, err := os.Stat(at("new")); os.IsNotExist(err) {
			gone++
		}
	}
	if shortest > 520 || gone == 0 || gone == 60 {
		t.Errorf("the journal never had fewer than %d bytes, and a file whose name was not synced was gone %d times of 60", shortest, gone)
	}
}
