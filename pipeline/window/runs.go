package window

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluice-risk/sluice/pipeline/window/disk"
	"github.com/sluice-risk/sluice/pipeline/window/table"
)

// indexPlan says what is indexed: transactions by their hash and by each of
// these kinds of entities; outcomes and verdicts by theirs, and by the entities
// whose features look at them.
type indexPlan []indexedKind

type indexedKind struct {
	entity            Entity
	outcomes, verdict bool
}

// planOf is what some groups need.
func planOf(groups []*group) indexPlan {
	var p indexPlan
	for _, g := range groups {
		p = append(p, indexedKind{g.entity, len(g.byStatus) > 0, len(g.byVerdict) > 0})
	}
	return p
}

// with is a plan that serves both; grown tells that it is more than p.
func (p indexPlan) with(q indexPlan) (both indexPlan, grown bool) {
	both = slices.Clone(p)
	for _, k := range q {
		i := slices.IndexFunc(both, func(b indexedKind) bool { return b.entity == k.entity })
		if i < 0 {
			both, grown = append(both, k), true
			continue
		}
		b := &both[i]
		grown = grown || k.outcomes && !b.outcomes || k.verdict && !b.verdict
		b.outcomes, b.verdict = b.outcomes || k.outcomes, b.verdict || k.verdict
	}
	slices.SortFunc(both, func(a, b indexedKind) int { return strings.Compare(a.entity.String(), b.entity.String()) })
	return both, grown
}

// of is what is indexed of one kind.
func (p indexPlan) of(e Entity) indexedKind {
	for _, k := range p {
		if k.entity == e {
			return k
		}
	}
	return indexedKind{entity: e}
}

func (p indexPlan) String() string {
	var b strings.Builder
	for _, k := range p {
		fmt.Fprint(&b, k.entity, k.outcomes, k.verdict, " ")
	}
	return b.String()
}

// Keys that are no entity's.
func txKey(h TxHash) uint64       { return h.Lo ^ 0x5bd1e9955bd1e995 }
func identityKey(h TxHash) uint64 { return h.Lo ^ 0xc2b2ae3d27d4eb4f }

// keys calls yield for each key under which an entry is found. tx is the entry
// of the transaction that an outcome or a verdict is about, nil where it is gone.
func (p indexPlan) keys(key Key, e, tx entry, yield func(uint64)) {
	switch e.kind() {
	case entryTransaction:
		yield(txKey(e.tx()))
		for i := range p {
			if k := key.entity(p[i].entity, e); k != 0 {
				yield(k)
			}
		}
	case entryVerdict:
		yield(txKey(e.tx()))
		for i := range p {
			if tx != nil && p[i].verdict {
				if k := key.entity(p[i].entity, tx); k != 0 {
					yield(k)
				}
			}
		}
	case entryOutcome:
		yield(identityKey(e.identity()))
		for i := range p {
			if tx != nil && p[i].outcomes {
				if k := key.entity(p[i].entity, tx); k != 0 {
					yield(k)
				}
			}
		}
	case entryParked:
		yield(identityKey(e.identity()))
	}
}

// tailIndex is the index of the tail: the pairs as they come, each with the one
// before it that has the same key. Where the last of a key stands is known to the
// fold of its entity (fold.log), or else to heads.
type tailIndex struct {
	pairs []chained
	heads table.Table[uint64, uint32] // a place in pairs, plus one
}

type chained struct {
	pair
	before uint32 // a place in pairs, plus one; 0: none
}

// chain adds a pair behind another one, and returns its place plus one.
func (t *tailIndex) chain(key, number uint64, before uint32) uint32 {
	t.pairs = append(t.pairs, chained{pair{key, number}, before})
	return uint32(len(t.pairs))
}

// add adds a pair whose key no fold looks after.
func (t *tailIndex) add(key, number uint64) {
	at, _ := t.heads.Add(key, key)
	*at = t.chain(key, number, *at)
}

// head returns the place plus one of the last pair of a key that heads knows.
func (t *tailIndex) head(key uint64) uint32 {
	if at := t.heads.Find(key, key); at != nil {
		return *at
	}
	return 0
}

// numbers appends the numbers of a chain, the oldest first.
func (t *tailIndex) numbers(to []uint64, head uint32) []uint64 {
	from := len(to)
	for at := head; at != 0; at = t.pairs[at-1].before {
		to = append(to, t.pairs[at-1].number)
	}
	slices.Reverse(to[from:])
	return to
}

// runs is the index of a journal.
type runs struct {
	dir    string // "": in memory
	files  disk.Files
	plan   indexPlan
	all    []*run // in the order of their segments
	tail   tailIndex
	job    *job  // under way
	damage error // of a segment that was searched: see readonly.go
}

// numbers appends the numbers of all entries of a key in sealed segments, in order.
func (x *runs) numbers(to []uint64, key uint64) []uint64 {
	for _, r := range x.all {
		for _, p := range r.find(key) {
			to = append(to, p.number)
		}
	}
	return to
}

// touch reads where numbers will look first, so that the processor fetches many
// such places from memory side by side.
func (x *runs) touch(key uint64) (read uint64) {
	for _, r := range x.all {
		word, _ := r.filtered(key)
		read += *word
	}
	return read
}

// sealed makes a run of the tail, whose segment has this number.
func (x *runs) sealed(segment uint32) error {
	pairs := make([]pair, len(x.tail.pairs))
	for i := range x.tail.pairs {
		pairs[i] = x.tail.pairs[i].pair
	}
	x.tail = tailIndex{pairs: x.tail.pairs[:0]}
	return x.put(newRun(segment, segment, pairs))
}

// put adds a run. It is written to its file, and made one with others, beside
// the payments; until then it is in memory, and a crash makes it again. What a
// full disk did not take is tried again.
func (x *runs) put(r *run) error {
	x.all = append(x.all, r)
	for _, old := range x.all {
		if old.waits {
			old.stuck, old.waits = false, false
		}
	}
	return x.work(false)
}

// job is what is done to runs beside the payments: some that follow each other
// become one, or one gets its file. Nobody changes or unmaps them meanwhile.
type job struct {
	old  []*run
	made *run
	err  error
	done chan struct{}
}

// mostMerged is how many segments a run has at the most before it is left alone.
const mostMerged = runFanout * runFanout

// work takes the result of the job that is under way, if it is done or wait is
// set, and begins the next one.
func (x *runs) work(wait bool) error {
	for {
		if x.job == nil {
			if x.job = x.next(); x.job == nil {
				return nil
			}
			go x.do(x.job)
		}
		if !wait {
			select {
			case <-x.job.done:
			default:
				return nil
			}
		}
		<-x.job.done
		j := x.job
		x.job = nil
		if j.err != nil { // it is said once; nothing is lost, and a start tries again
			j.old[0].stuck, j.old[0].waits = true, disk.Passes(j.err)
			return fmt.Errorf("index: %w", awayOnDisk(j.err))
		}
		at := slices.Index(x.all, j.old[0])
		x.all = slices.Replace(x.all, at, at+len(j.old), j.made)
		if len(j.old) == 1 {
			continue // it has its file now
		}
		var err error
		for _, r := range j.old {
			err = errors.Join(err, x.discard(r))
		}
		if err != nil {
			return err
		}
	}
}

// next is the next job, nil if there is none.
func (x *runs) next() *job {
	same := 0
	for i, r := range x.all {
		if size := r.to - r.from; i > 0 && size == x.all[i-1].to-x.all[i-1].from {
			same++
		} else {
			same = 1
		}
		if same < runFanout || r.to-r.from+1 >= mostMerged {
			continue
		}
		if old := x.all[i+1-runFanout : i+1]; !old[0].stuck {
			return &job{old: slices.Clone(old), done: make(chan struct{})}
		}
	}
	if x.dir == "" {
		return nil
	}
	for _, r := range x.all {
		if r.mapped == nil && r.search == nil && !r.stuck {
			return &job{old: []*run{r}, done: make(chan struct{})}
		}
	}
	return nil
}

// do does a job. It only reads the runs that there are.
func (x *runs) do(j *job) {
	defer close(j.done)
	j.made = j.old[0]
	if len(j.old) > 1 {
		j.made = mergeRuns(j.old)
	}
	if x.dir != "" {
		j.made, j.err = x.saved(j.made)
	}
}

func (x *runs) name(r *run) string { return filepath.Join(x.dir, runName(r.from, r.to)) }

// saved writes a run to its file, and maps that: what was built in memory is given back.
func (x *runs) saved(r *run) (*run, error) {
	if err := r.save(x.files, x.name(r), x.plan.String()); err != nil {
		return nil, err
	}
	return openRun(x.name(r), x.plan.String())
}

// discard gives up a run. A file that stays behind is removed by the next start.
func (x *runs) discard(r *run) error {
	name := x.name(r)
	err := r.unmap()
	if x.dir == "" {
		return err
	}
	if gone := x.files.Remove(name); !errors.Is(gone, os.ErrNotExist) { // one that could not be written, or was replaced
		err = errors.Join(err, awayOnDisk(gone))
	}
	return err
}

// dropBefore gives up the runs of segments that are no longer kept.
func (x *runs) dropBefore(segment uint32) error {
	for len(x.all) > 0 && x.all[0].to < segment {
		if x.job != nil && slices.Contains(x.job.old, x.all[0]) {
			if err := x.work(true); err != nil {
				return err
			}
			continue
		}
		r := x.all[0]
		x.all = x.all[1:]
		if err := x.discard(r); err != nil {
			return err
		}
	}
	return nil
}

// build makes the run of one sealed segment.
func (x *runs) build(j *journal, s *segment) (*run, error) {
	var pairs []pair
	end, err := s.each(headerSize, func(at int, e entry) error {
		n := numberOf(s.number, at)
		x.plan.keys(j.key, e, j.about(e), func(key uint64) { pairs = append(pairs, pair{key, n}) })
		return nil
	})
	if err == nil && end != len(s.data) {
		err = fmt.Errorf("%s: %w at byte %d", filepath.Base(j.name(s.number)), ErrCorrupt, end)
	}
	if err != nil {
		return nil, err
	}
	return newRun(s.number, s.number, pairs), nil
}

// open opens the runs that fit the sealed segments of a journal and the plan,
// and makes those that are missing.
func (x *runs) open(j *journal, progress func(done, of int64)) error {
	names, err := filepath.Glob(filepath.Join(x.dir, "index-*"))
	if err != nil {
		return err
	}
	var found []*run
	for _, name := range names {
		r, err := openRun(name, x.plan.String())
		if err == nil && name == x.name(r) {
			found = append(found, r)
			continue
		}
		if err == nil { // written, and it has not got its name
			err = r.unmap()
		} else {
			err = nil // half written, or made for other features
		}
		if gone := x.files.Remove(name); !errors.Is(gone, os.ErrNotExist) {
			err = errors.Join(err, gone)
		}
		if err != nil {
			return err
		}
	}
	// Of runs that begin together the longest holds all that the others do.
	slices.SortFunc(found, func(a, b *run) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(b.to, a.to))
	})
	sealed := j.segments[:len(j.segments)-1]
	for len(sealed) > 0 {
		next := sealed[0].number
		for len(found) > 0 && (found[0].from < next && found[0].to < next || found[0].from < next && len(x.all) > 0) {
			if err := x.discard(found[0]); err != nil {
				return err
			}
			found = found[1:]
		}
		if len(found) > 0 && found[0].from <= next && found[0].to <= sealed[len(sealed)-1].number {
			x.all = append(x.all, found[0])
			sealed = sealed[found[0].to-next+1:]
			found = found[1:]
			continue
		}
		r, err := x.build(j, sealed[0])
		if err == nil {
			err = x.put(r)
		}
		if err != nil {
			return err
		}
		sealed = sealed[1:]
		progress(int64(len(j.segments)-len(sealed)), int64(len(j.segments)))
	}
	for _, r := range found {
		if err := x.discard(r); err != nil {
			return err
		}
	}
	return nil
}

func (x *runs) close() (err error) {
	err = x.work(true)
	for _, r := range x.all {
		err = errors.Join(err, r.unmap())
	}
	return err
}
