package rules

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// resolved is the folder that a path leads to at this moment. Links are followed
// once, so that all files are read from one place: where a deployment swaps a
// link, as Kubernetes swaps ..data of a ConfigMap, nobody gets half of the old
// files and half of the new ones.
func resolved(dir string) (string, error) {
	at, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	data, err := filepath.EvalSymlinks(filepath.Join(at, "..data"))
	if err != nil {
		return at, nil
	}
	if info, err := os.Stat(data); err != nil || !info.IsDir() {
		return at, nil
	}
	return data, nil
}

// look is what the files of a ruleset's folder were like at one moment, their
// contents left out. Two looks are cheap to take and to compare.
type look struct {
	dirs  []string               // that the paths led to
	files map[string]fs.FileInfo // by path; nil for a folder, and for what could not be looked at
}

// lookAt never fails: a folder that is not there looks like an empty one.
func lookAt(dir string) look {
	l := look{files: map[string]fs.FileInfo{}}
	for _, one := range separate(dir) {
		at, err := resolved(one)
		l.dirs = append(l.dirs, at)
		if err != nil {
			continue
		}
		l.note(at)
		for _, section := range []string{"features", "rules", "lists", "data"} {
			if inside := filepath.Join(at, section); l.has(inside) {
				l.note(inside)
			}
		}
	}
	return l
}

func (l look) has(path string) bool {
	_, ok := l.files[path]
	return ok
}

// note looks at the entries of a folder.
func (l look) note(dir string) {
	for _, name := range names(dir) {
		if !matters(name) {
			continue
		}
		path := filepath.Join(dir, name)
		info, _ := os.Stat(path)
		if info != nil && info.IsDir() {
			info = nil // its time says when an entry came or went, of which not all matter
		}
		l.files[path] = info
	}
}

// names are those of the entries of a folder; none where it cannot be read.
func names(dir string) (all []string) {
	entries, _ := os.ReadDir(dir) // what cannot be read is said by who loads it
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// matters tells whether an entry of this name may be part of a ruleset, or a
// mistake in one. Tests, texts, and what editors leave beside a file are neither.
func matters(name string) bool {
	return !strings.HasPrefix(name, ".") && !strings.HasSuffix(name, "~") && !strings.HasSuffix(name, ".md") && !isTest(name)
}

// same tells whether nothing shows that a file has changed between two looks.
func (l look) same(o look) bool {
	return slices.Equal(l.dirs, o.dirs) && maps.EqualFunc(l.files, o.files, func(a, b fs.FileInfo) bool {
		if a == nil || b == nil {
			return a == nil && b == nil
		}
		return a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && a.Mode() == b.Mode() && os.SameFile(a, b)
	})
}

// sum stands for the contents of the files as they are now.
func (l look) sum() (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(l.files)) {
		fmt.Fprintf(h, "%s\n", name)
		if info := l.files[name]; info == nil || !info.Mode().IsRegular() { // nobody must wait for a pipe
			continue
		}
		content, err := os.ReadFile(name)
		fmt.Fprintf(h, "%d %t\n", len(content), err == nil)
		h.Write(content)
	}
	h.Sum(sum[:0])
	return sum
}

// steadyTries bounds how often a folder is read that changes while it is read.
const steadyTries = 5

// LoadSteady is Load for a folder that others may be writing: what it returns, be
// it a ruleset or its mistakes, did not change while it was read, unless the
// folder never stands still.
func LoadSteady(dir string) (set *Ruleset, err error) {
	for range steadyTries {
		before := lookAt(dir)
		set, err = Load(dir)
		if lookAt(dir).same(before) {
			break
		}
	}
	return set, err
}
