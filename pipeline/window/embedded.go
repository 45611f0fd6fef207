package window

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window/table"
)

// Embedded is the store of one process: a journal that holds each transaction
// once, an index that finds the log of an entity in it, and folds in memory.
// Without a directory it is a store for replays and tests that keeps nothing.
type Embedded struct {
	opts    Options
	closing sync.Once

	mu sync.Mutex // guards everything below; held for one call, never over a sync
	memory
	journal   journal
	index     runs
	unread    []indexedKind // kinds of entities that the index finds, and no feature looks at now
	outages   outages
	undecided table.Table[TxHash, uint64] // transactions without a published verdict, by their number
	parked    waiting
	horizon   payment.Time // newest Kafka time that was seen
	gone      payment.Time // up to this event time the logs have lost events, which were too old
	begun     bool         // the tail says all that is written again in each segment
	run       folding      // scratch of Append
	// provisional is what only guesses look at.
	provisional provisional
	loaded      int64
	evicted     int64
}

var _ Store = (*Embedded)(nil)

// Open opens the store in a directory, which it locks, and reads the end of its
// journal; or makes an empty one in memory.
func Open(opts Options) (*Embedded, error) {
	opts.fillDefaults()
	s := &Embedded{opts: opts, parked: waiting{}, gone: minTime}
	s.journal = journal{dir: opts.Dir, files: opts.Files, limit: int(opts.SegmentBytes), mu: &s.mu}
	s.journal.breaker = newBreaker(s.journal.heal, opts.OnHealth)
	s.index = runs{dir: opts.Dir, files: opts.Files, plan: planOf(newGroups(opts.Features, opts.Keep))}
	s.index.plan, _ = s.index.plan.with(nil)
	if opts.Dir == "" {
		var err error
		if s.journal.key, err = newKey(); err == nil {
			err = s.journal.begin(1)
		}
		s.begun = true
		s.useGroups(newGroups(opts.Features, opts.Keep))
		return s, err
	}
	if opts.ReadOnly {
		if err := s.look(); err != nil {
			return nil, fmt.Errorf("store %s: %w", opts.Dir, err)
		}
		return s, nil
	}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("store %s: %w", opts.Dir, err)
	}
	s.journal.syncEvery(opts.SyncEvery)
	return s, nil
}

func (s *Embedded) open() error {
	if err := s.journal.open(s.opts.Owner, s.recover); err != nil {
		return err
	}
	if err := s.index.open(&s.journal, s.progress); err != nil {
		return errors.Join(err, s.index.close(), s.journal.lock.Unlock())
	}
	s.useGroups(newGroups(s.opts.Features, s.opts.Keep))
	err := s.rememberBefore()
	if err == nil {
		err = s.adopt()
	}
	if err != nil {
		return errors.Join(err, s.index.close(), s.journal.lock.Unlock())
	}
	return nil
}

// rememberBefore reads the segment before the tail where the tail does not say
// all: a crash came before that, or its owner is just writing it.
func (s *Embedded) rememberBefore() error {
	if s.begun || len(s.journal.segments) == 1 {
		s.begun = true
		return nil
	}
	before := s.journal.segments[len(s.journal.segments)-2]
	_, err := before.each(headerSize, func(at int, e entry) error { return s.remember(numberOf(before.number, at), e) })
	return err
}

func (s *Embedded) progress(done, total int64) {
	if s.opts.OnProgress != nil {
		s.opts.OnProgress(done, total)
	}
}

// recover repeats what one record of the tail says.
func (s *Embedded) recover(at int, e entry) error {
	n := numberOf(s.journal.tail().number, at)
	s.index.plan.keys(s.journal.key, e, s.journal.about(e), func(key uint64) { s.index.tail.add(key, n) })
	if at%(1<<20) < unit {
		s.progress(int64(at), int64(len(s.journal.tail().data)))
	}
	return s.remember(n, e)
}

// remember repeats what a record says beside the logs.
func (s *Embedded) remember(n uint64, e entry) error {
	switch e.kind() {
	case entryTransaction:
		to, _ := s.undecided.Add(e.tx().Lo, e.tx())
		*to = n
	case entryVerdict:
		if m := e.mark(); m.Offset >= 0 {
			s.undecided.Delete(m.Tx.Lo, m.Tx)
		}
	case entryOutcome:
		s.parked.remove(e.tx(), e.identity())
	case entryParked:
		p, ok := readParked(e)
		if !ok {
			return errShort
		}
		s.parked.add(p)
	case entryForget:
		s.parked.forget(payment.Time(e.u64(8)))
	case entryOutage:
		o, ok := readOutage(e)
		if !ok {
			return errShort
		}
		s.outages.set(s.journal.key, o)
	case entryUndecided:
		for at := 8; at+8 <= len(e); at += 8 {
			if tx := s.journal.at(e.u64(at)); tx != nil {
				to, _ := s.undecided.Add(tx.tx().Lo, tx.tx())
				*to = e.u64(at)
			}
		}
	case entryBegun:
		s.gone, s.begun = max(s.gone, payment.Time(e.u64(8))), true
	case entrySeal:
	default:
		return fmt.Errorf("unknown kind of record %q", e.kind())
	}
	return nil
}

var errShort = errors.New("a record is shorter than its fields")

// useGroups begins with empty folds for these groups.
func (s *Embedded) useGroups(groups []*group) {
	for _, f := range s.folders { // nobody has a fold now that could know where its chain in the tail ends
		for n := range f.count {
			s.keepChain(f.foldOf(n))
		}
	}
	s.memory, s.provisional = memory{}, provisional{}
	for _, g := range groups {
		f := s.newFolder(g, s, s.journal.key, &s.outages, &s.opts)
		f.evicted = s.keepChain
		f.lateInMemory = s.opts.LateInMemory
		s.folders = append(s.folders, f)
	}
	s.unread = nil
	for _, k := range s.index.plan {
		if s.folderOf(k.entity) == nil {
			s.unread = append(s.unread, k)
		}
	}
}

// keepChain notes where the chain of an entity ends in the tail, now that its
// fold no longer knows it.
func (s *Embedded) keepChain(fd *fold) {
	if fd.key != 0 && fd.log.segment == s.journal.tail().number {
		at, _ := s.index.tail.heads.Add(fd.key, fd.key)
		*at = fd.log.offset
	}
}

// The store is the history that its folds read.
func (s *Embedded) entryAt(number uint64) entry {
	if s.guesses != nil {
		if e, ok := s.provisional.numbered(number); ok {
			return e
		}
	}
	return s.journal.at(number)
}
func (s *Embedded) retain(uint64)  {}
func (s *Embedded) release(uint64) {}

// Use implements Store. Where features look at more than the index finds, it is
// made again from the journal; payments wait only for the tail of that.
func (s *Embedded) Use(ctx context.Context, features []Feature) error {
	groups := newGroups(features, s.opts.Keep)
	s.mu.Lock()
	defer s.mu.Unlock()
	plan, grown := s.index.plan.with(planOf(groups))
	if grown {
		if err := s.index.work(true); err != nil { // its files have the names of the new ones
			return err
		}
		next := runs{dir: s.opts.Dir, files: s.opts.Files, plan: plan}
		sealed := s.journal.segments[:len(s.journal.segments)-1]
		for i, segment := range sealed {
			if ctx.Err() != nil {
				return errors.Join(ctx.Err(), next.close())
			}
			r, err := next.build(&s.journal, segment)
			if err == nil {
				err = next.put(r)
			}
			if err != nil {
				return errors.Join(fmt.Errorf("store: make the index again: %w", err), next.close())
			}
			s.progress(int64(i+1), int64(len(sealed)))
		}
		tail := s.journal.tail()
		if _, err := tail.each(headerSize, func(at int, e entry) error {
			n := numberOf(tail.number, at)
			plan.keys(s.journal.key, e, s.journal.about(e), func(key uint64) { next.tail.add(key, n) })
			return nil
		}); err != nil {
			return err
		}
		if err := s.index.close(); err != nil {
			return err
		}
		s.useGroups(nil) // before the tail's index is replaced: its places are no longer those of folds
		s.index = next
	}
	s.opts.Features = features
	s.useGroups(groups)
	return nil
}

// Since implements Store. The journal is whole from the first transaction that
// is kept, or after the last one that is not.
func (s *Embedded) Since(Entity) payment.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, segment := range s.journal.segments {
		if segment.transactions > 0 {
			return max(segment.first, s.gone.Add(1))
		}
	}
	return maxTime
}

// Key implements Store.
func (s *Embedded) Key() Key { return s.journal.key }

// Entities implements Store.
func (s *Embedded) Entities() []Entity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.memory.kinds()
}

// ReadsVerdicts implements Store.
func (s *Embedded) ReadsVerdicts() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.readsVerdicts()
}

// Written implements Store.
func (s *Embedded) Written() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.journal.written()
}

// Durable implements Store.
func (s *Embedded) Durable() uint64 {
	if s.opts.Dir == "" {
		return s.Written()
	}
	return s.journal.durable.Load()
}

// Incarnation implements Store. A journal that lost its end is found by its
// length, and another one by its key.
func (s *Embedded) Incarnation() string { return "-" }

// Size implements Store.
func (s *Embedded) Size() Size {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Size{FoldBytes: s.bytes() + s.provisional.bytes(), Entities: s.entities(), Evicted: s.evicted, Loaded: s.loaded, LogBytes: s.journal.bytes()}
}

// Close implements Store. To close it once more does nothing.
func (s *Embedded) Close() (err error) {
	s.closing.Do(func() {
		err = s.journal.close()
		s.mu.Lock()
		defer s.mu.Unlock()
		err = errors.Join(err, s.index.close())
	})
	return err
}

// Health implements Store.
func (s *Embedded) Health() Health { return s.journal.breaker.state() }

// Back implements Store.
func (s *Embedded) Back() <-chan struct{} { return s.journal.breaker.whenBack() }

// Epoch implements Store.
func (s *Embedded) Epoch() uint64 { return 1 }

// Holds implements Store.
func (s *Embedded) Holds(_ context.Context, h TxHash) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.findTx(h)
	return ok, nil
}

// numbers returns the numbers of all entries of a key that is no entity's.
func (s *Embedded) numbers(key uint64) []uint64 {
	s.run.numbers = s.index.numbers(s.run.numbers[:0], key)
	s.run.numbers = s.index.tail.numbers(s.run.numbers, s.index.tail.head(key))
	return s.run.numbers
}

// findTx returns the number of a transaction's entry.
func (s *Embedded) findTx(h TxHash) (number uint64, ok bool) {
	if at := s.undecided.Find(h.Lo, h); at != nil {
		return *at, true
	}
	return s.findLogged(h)
}

// findLogged is findTx for a transaction whose verdict is noted.
func (s *Embedded) findLogged(h TxHash) (number uint64, ok bool) {
	for _, n := range s.numbers(txKey(h)) {
		if e := s.journal.at(n); e != nil && e.kind() == entryTransaction && e.tx() == h {
			return n, true
		}
	}
	return 0, false
}

// Earlier implements Store.
func (s *Embedded) Earlier(h TxHash) (m Mark, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range slices.Backward(s.numbers(txKey(h))) {
		e := s.journal.at(n)
		if e == nil || e.kind() != entryVerdict || e.tx() != h {
			continue
		}
		if m = e.mark(); m.Offset >= 0 {
			return m, true
		}
	}
	return Mark{}, false
}

// Decided implements Store.
func (s *Embedded) Decided(_ context.Context, marks []Mark) error {
	if len(marks) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.roll(); err != nil {
		return err
	}
	placed := make([]uint64, 0, 2*len(marks))
	for i := range marks {
		m := &marks[i]
		tx, _ := s.findTx(m.Tx)
		var t payment.Time
		if e := s.journal.at(tx); tx != 0 && e != nil {
			t = e.time()
		}
		_, n := s.journal.putMark(m, t, tx)
		placed = append(placed, n, tx)
	}
	if err := s.journal.flush(); err != nil {
		return err
	}
	for i := range marks {
		m, n, tx := &marks[i], placed[2*i], placed[2*i+1]
		s.index.tail.add(txKey(m.Tx), n)
		if tx != 0 {
			s.tell(s.journal.at(n), n, s.journal.at(tx), func(k indexedKind) bool { return k.verdict })
		}
		if m.Offset >= 0 {
			s.undecided.Delete(m.Tx.Lo, m.Tx)
		}
	}
	return nil
}

// tell lets the entities of a transaction have an entry about it, where their
// kind has such entries in its logs. (A fold that does not look at it lets it pass.)
func (s *Embedded) tell(e entry, n uint64, tx entry, has func(indexedKind) bool) {
	for _, k := range s.index.plan {
		key := s.journal.key.entity(k.entity, tx)
		if key == 0 || !has(k) {
			continue
		}
		if f := s.folderOf(k.entity); f != nil {
			if entity, ok := f.find(key); ok {
				s.chain(f.foldOf(entity), n)
				f.apply(entity, e, n)
				continue
			}
		}
		s.index.tail.add(key, n)
	}
}

// chain adds an entry to the index under the key of a fold.
func (s *Embedded) chain(fd *fold, n uint64) {
	tail := s.journal.tail().number
	if fd.log.segment != tail {
		fd.log = logEnd{segment: tail}
	}
	fd.log.offset = s.index.tail.chain(fd.key, n, fd.log.offset)
}

// load makes the fold of an entity from its log.
func (s *Embedded) load(f *folder, key uint64) uint32 {
	head := s.index.tail.head(key)
	s.run.numbers = s.index.numbers(s.run.numbers[:0], key)
	s.run.numbers = s.index.tail.numbers(s.run.numbers, head)
	n := f.begin(key)
	if head != 0 {
		f.foldOf(n).log = logEnd{s.journal.tail().number, head}
	}
	for _, number := range s.run.numbers {
		if e := s.journal.checked(number); e != nil {
			f.apply(n, e, number)
		}
	}
	if len(s.run.numbers) > 0 {
		s.loaded++
	}
	return n
}

// renew makes the fold of entity n again where it has events that the log has
// lost since: nobody can judge them any more. The entity keeps its number.
func (s *Embedded) renew(f *folder, n uint32) {
	if s.outlived(f, n) {
		key := f.foldOf(n).key
		f.evict(n)
		s.load(f, key) // takes the number that was given back last
	}
}

// outlived tells whether fold n has events that the log has lost.
func (s *Embedded) outlived(f *folder, n uint32) bool {
	fd := f.foldOf(n)
	if fd.log.segment == s.journal.tail().number { // nothing was lost since it was looked at
		return false
	}
	if fd.events.n == 0 || fd.events.at(f.ringsOf(fd), fd.events.first).time > s.gone {
		return false
	}
	for i := fd.events.first; i < fd.events.end(); i++ {
		el := fd.events.at(f.ringsOf(fd), i)
		if el.time > s.gone {
			return false
		}
		if el.ref&tileBit == 0 && s.journal.at(el.number()) == nil {
			return true
		}
	}
	return false
}

// roll seals the tail when it is full, makes its index, and gives up what is no
// longer to be kept.
func (s *Embedded) roll() error {
	if s.opts.ReadOnly {
		return ErrReadOnly
	}
	if err := s.journal.usable(); err != nil {
		return err
	}
	if s.bytes() > s.opts.Memory {
		s.evicted += int64(s.shrink(s.opts.Memory - s.opts.Memory/16))
	}
	if !s.begun { // a crash or a full disk came in between
		if err := s.writeAgain(); err != nil {
			return err
		}
	}
	if t := s.journal.tail(); len(t.data) < s.journal.limit && !t.sealed {
		return nil
	}
	number := s.journal.tail().number
	if err := s.journal.seal(); err != nil {
		return err
	}
	s.begun = false
	if err := s.index.sealed(number); err != nil {
		return err
	}
	old := s.expired()
	for _, g := range s.journal.segments[:old] {
		if g.transactions > 0 {
			s.gone = max(s.gone, g.last)
		}
	}
	s.forgetUndecided(old)
	if err := s.writeAgain(); err != nil {
		return err
	}
	for range old {
		if err := s.journal.drop(); err != nil {
			return err
		}
	}
	return s.index.dropBefore(s.journal.segments[0].number)
}

// expired is how many of the oldest segments nobody will look at any more. One
// without transactions goes with the next that has some. The segment before the
// tail stays: it says what the tail will say once its beginning is complete.
func (s *Embedded) expired() (n int) {
	keep := max(s.reach(), s.opts.Keep) + s.opts.Lateness + slack
	old := s.horizon.Add(-max(keep, s.opts.KeepMarks))
	for i, g := range s.journal.segments[:len(s.journal.segments)-2] {
		if g.transactions > 0 && g.last >= old {
			break
		}
		if g.transactions > 0 {
			n = i + 1
		}
	}
	return n
}

// forgetUndecided forgets the transactions of the first segments that never got
// a verdict.
func (s *Embedded) forgetUndecided(segments int) {
	if segments == 0 {
		return
	}
	var old []TxHash
	s.undecided.Each(func(tx TxHash, n *uint64) {
		if s.journal.segmentOf(*n) < segments {
			old = append(old, tx)
		}
	})
	for _, tx := range old {
		s.undecided.Delete(tx.Lo, tx)
	}
}

// writeAgain begins a segment with what only the tail says.
func (s *Embedded) writeAgain() error {
	for i := range s.outages.list {
		s.journal.put(func(b []byte) []byte { return appendOutage(b, &s.outages.list[i].Outage) })
	}
	var again []counting
	for _, list := range s.parked {
		for i := range list {
			_, n := s.journal.put(func(b []byte) []byte { return appendParked(b, &list[i]) })
			again = append(again, counting{list[i].outcome.identity, n, 0})
		}
		if len(s.journal.pending) > maxSegment/4 {
			if err := s.journal.flush(); err != nil {
				return err
			}
		}
	}
	var numbers []uint64
	s.undecided.Each(func(_ TxHash, n *uint64) { numbers = append(numbers, *n) })
	for some := range slices.Chunk(numbers, 1<<16) {
		s.journal.put(func(b []byte) []byte { return appendUndecided(b, some) })
	}
	s.journal.put(func(b []byte) []byte { return appendBegun(b, s.gone) })
	if err := s.journal.flush(); err != nil {
		return err
	}
	for _, c := range again {
		s.index.tail.add(identityKey(c.identity), c.number)
	}
	s.begun = true
	return nil
}

// Outage implements Store. It changes what any fold may hold, so all are made again.
func (s *Embedded) Outage(_ context.Context, o Outage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.roll(); err != nil {
		return err
	}
	s.journal.put(func(b []byte) []byte { return appendOutage(b, &o) })
	if err := s.journal.flush(); err != nil {
		return err
	}
	if s.outages.set(s.journal.key, o) {
		s.useGroups(s.groups())
	}
	return nil
}

// Log implements Store.
func (s *Embedded) Log(ctx context.Context, of Entity, key uint64, yield func(LogEntry) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.eachLogged(ctx, of, key, func(_ uint64, at payment.Position, e entry) (more bool) {
		return yield(LogEntry{at, e.words()})
	})
}

// eachLogged calls yield for each entry of an entity's log, in its order. mu is
// held, and for as long as somebody looks at the entries.
func (s *Embedded) eachLogged(ctx context.Context, of Entity, key uint64, yield func(number uint64, at payment.Position, e entry) (more bool)) error {
	head := s.index.tail.head(key)
	for _, f := range s.folders {
		if n, ok := f.find(key); ok && f.entity == of && f.foldOf(n).log.segment == s.journal.tail().number {
			head = f.foldOf(n).log.offset
		}
	}
	show := func(number uint64) (more bool) {
		e := s.journal.at(number)
		if e == nil {
			return true
		}
		segment, offset := s.journal.position(number)
		return yield(number, payment.Position{Segment: segment, Offset: offset}, e)
	}
	for _, r := range s.index.all { // one after the other: to search a segment takes time
		for _, p := range r.find(key) {
			if !show(p.number) {
				return nil
			}
		}
		if err := errors.Join(s.index.damage, ctx.Err()); err != nil {
			return err
		}
	}
	for _, n := range s.index.tail.numbers(nil, head) {
		if !show(n) {
			return nil
		}
	}
	return nil
}
