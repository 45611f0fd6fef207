package window

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A store that is opened to be read only looks at a directory as it is at that
// moment, also beside the process that owns it: it takes no lock, and creates,
// writes, truncates and removes nothing. It is then a store in memory that
// refuses to be written. What its owner removes later stays mapped here.
//
//   - The tail is copied, up to its last whole record: the owner is writing it.
//   - Indexes that fit the features are used. A segment without one is searched,
//     record by record, each time that something is looked up: people ask one
//     question, and the index of a long journal would be more than they have memory.

// ErrReadOnly is returned by all that writes, of a store that was opened to be read only.
var ErrReadOnly = errors.New("the store was opened to be read only")

// look fills the store from its directory.
func (s *Embedded) look() error {
	dir := s.opts.Dir
	s.opts.Dir, s.journal.dir, s.index.dir = "", "", ""
	s.journal.readOnly = true
	err := s.journal.look(dir, s.recover)
	if err == nil {
		err = s.index.look(dir, &s.journal)
	}
	if err != nil {
		return errors.Join(err, s.Close())
	}
	s.useGroups(newGroups(s.opts.Features, s.opts.Keep))
	return s.rememberBefore()
}

// look reads the segments of a directory; visit is called for each record of the tail.
func (j *journal) look(dir string, visit func(at int, e entry) error) error {
	names, err := filesOf(dir, "journal-") // sorted, as their numbers are
	if err != nil {
		return err
	}
	for i, name := range names {
		if i < len(names)-1 {
			err = j.openSegment(name, false)
		} else {
			err = j.lookAtTail(name, visit)
		}
		if errors.Is(err, fs.ErrNotExist) && len(j.segments) == 0 {
			continue // the owner has just given it up
		}
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(name), err)
		}
	}
	if len(j.segments) == 0 {
		return errors.New("there is no journal in this directory")
	}
	return nil
}

// lookAtTail reads the last segment, which may grow, or be completed, at this moment.
func (j *journal) lookAtTail(name string, visit func(at int, e entry) error) error {
	s := &segment{}
	if _, err := fmt.Sscanf(filepath.Base(name), "journal-%08d", &s.number); err != nil {
		return fmt.Errorf("%w: it is no segment", ErrCorrupt)
	}
	var err error
	if s.data, err = os.ReadFile(name); err != nil { // not mapped: the owner may truncate it
		return err
	}
	key, ok := readHeader(s.data, s.number)
	switch {
	case !ok && len(s.data) < headerSize && len(j.segments) > 0:
		return j.begin(s.number) // the owner is just beginning it
	case !ok:
		return fmt.Errorf("%w: no journal header", ErrCorrupt)
	case len(j.segments) > 0 && j.key != key:
		return fmt.Errorf("%w: it is a segment of another journal", ErrCorrupt)
	}
	j.key = key
	j.segments = append(j.segments, s)
	if end, _ := s.each(headerSize, func(int, entry) error { return nil }); end == len(s.data) && s.readSeal() {
		return j.begin(s.number + 1)
	}
	_, err = j.readTail(s, visit)
	return err
}

// look takes the runs in a directory that fit the plan and the sealed segments
// of a journal; the segments that have none will be searched.
func (x *runs) look(dir string, j *journal) error {
	names, err := filesOf(dir, "index-")
	if err != nil {
		return err
	}
	var found []*run
	for _, name := range names {
		if strings.HasSuffix(name, ".part") {
			continue // being written
		}
		if r, err := openRun(name, x.plan.String()); err == nil { // else made for other features, or just replaced
			found = append(found, r)
		}
	}
	for sealed := j.segments[:len(j.segments)-1]; len(sealed) > 0; {
		first, last := sealed[0].number, sealed[len(sealed)-1].number
		longest := &run{from: first, to: first, search: x.searching(j, sealed[0])}
		for _, r := range found {
			begins := r.from == first || r.from < first && len(x.all) == 0 // the oldest segments were given up
			if begins && r.to >= longest.to && r.to <= last {
				longest = r
			}
		}
		x.all = append(x.all, longest)
		sealed = sealed[longest.to-first+1:]
	}
	for _, r := range found {
		if !slices.Contains(x.all, r) {
			err = errors.Join(err, r.unmap())
		}
	}
	return err
}

// searching finds the pairs of a key in a segment by reading all of it. What is
// damaged ends the search, and is noted.
func (x *runs) searching(j *journal, s *segment) func(key uint64) []pair {
	return func(key uint64) (found []pair) {
		end, _ := s.each(headerSize, func(at int, e entry) error {
			x.plan.keys(j.key, e, j.about(e), func(k uint64) {
				if k == key {
					found = append(found, pair{key, numberOf(s.number, at)})
				}
			})
			return nil
		})
		if end < len(s.data) {
			x.damage = fmt.Errorf("%w: segment %d at byte %d", ErrCorrupt, s.number, end)
		}
		return found
	}
}

// filesOf returns the files of a directory whose names begin so, in their order.
func filesOf(dir, prefix string) ([]string, error) {
	files, err := os.ReadDir(dir)
	var names []string
	for _, f := range files {
		if strings.HasPrefix(f.Name(), prefix) {
			names = append(names, filepath.Join(dir, f.Name()))
		}
	}
	return names, err
}
