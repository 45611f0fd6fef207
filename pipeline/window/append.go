package window

import (
	"context"
	"slices"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Append implements Store. The journal is written first, as a whole, so that a
// crash at any point leaves either nothing of a transaction or its entry; then
// each transaction is folded and read at its own position, in order.
func (s *Embedded) Append(_ context.Context, items []*Item) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.append(items, true)
}

// Note implements Store.
func (s *Embedded) Note(_ context.Context, items []*Item) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.append(items, false)
}

// View implements Store.
func (s *Embedded) View(_ context.Context, items []*Item) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, it := range items {
		it.reset(s.values(), len(s.folders)) // a reload may have come since it was noted
		if it.Late {
			continue
		}
		if it.known {
			s.reread(it)
			continue
		}
		e := s.journal.at(it.number)
		for i, f := range s.folders {
			key := s.journal.key.entity(f.entity, e)
			if key == 0 {
				continue
			}
			if f.onlyEarlier { // that was read when it was noted
				it.Positions[i] = s.end()
				continue
			}
			n, ok := f.find(key)
			if !ok {
				n = s.load(f, key)
			}
			s.renew(f, n)
			f.foldOf(n).used = true
			at, ok := f.findTx(f.foldOf(n), e.time(), e.tx())
			if !ok || !f.whole(f.foldOf(n), e.time()) { // so far behind that its entity keeps it no more as it is
				s.replayNoted(f, i, it, e)
				continue
			}
			f.seek(n, e.time(), at+1)
			f.read(n, at, it)
			it.Positions[i] = s.end()
		}
	}
	return nil
}

// end is the position of what is appended next.
func (s *Embedded) end() payment.Position {
	t := s.journal.tail()
	return payment.Position{Segment: t.number, Offset: uint64(len(t.data))}
}

func (s *Embedded) append(items []*Item, view bool) error {
	if err := s.roll(); err != nil {
		return err
	}
	values := s.values()
	r := &s.run
	r.reset()
	for _, it := range items {
		it.begin(values, len(s.folders))
		it.Hash = s.journal.key.Tx(it.Tx.ID)
		if at := s.undecided.Peek(it.Hash.Lo); at != nil {
			r.touched += *at
		}
		if at := s.index.tail.heads.Peek(txKey(it.Hash)); at != nil {
			r.touched += uint64(*at)
		}
	}
	for _, it := range items {
		if !view { // it comes again for what it lacks: mostly it was appended, and decided, when it came first
			if n, ok := s.findTx(it.Hash); ok {
				it.known, it.number = true, n
				continue
			}
		}
		at, added := s.undecided.Add(it.Hash.Lo, it.Hash)
		it.known = !added
		if added && !view { // a folder comes to what may be there, decided and all
			if n, logged := s.findLogged(it.Hash); logged {
				s.undecided.Delete(it.Hash.Lo, it.Hash)
				it.known, it.number = true, n
				continue
			}
		}
		it.Late = added && it.Tx.EventTime < it.KafkaTime.Add(-s.opts.Lateness)
		switch {
		case it.known:
			it.number = *at
		case it.Late:
			s.undecided.Delete(it.Hash.Lo, it.Hash)
		default:
			s.horizon = max(s.horizon, it.KafkaTime)
			_, it.number = s.journal.put(func(b []byte) []byte { return appendNamed(b, s.journal.key, it) })
			*at = it.number
			r.items = append(r.items, it)
			for _, p := range s.parked[it.Hash] { // what waits for a transaction stands right behind it
				p.outcome.txTime = it.Tx.EventTime
				_, n := s.journal.putOutcome(&p.outcome, it.number)
				r.outcomes = append(r.outcomes, outcomeAt{len(r.items) - 1, n})
			}
		}
	}
	if len(r.items) > 0 {
		if err := s.journal.flush(); err != nil {
			for _, it := range r.items {
				s.undecided.Delete(it.Hash.Lo, it.Hash)
			}
			return err
		}
	}
	for _, it := range r.items {
		s.index.tail.add(txKey(it.Hash), it.number)
		r.entries = append(r.entries, s.journal.at(it.number))
		delete(s.parked, it.Hash)
	}
	for _, o := range r.outcomes {
		s.index.tail.add(identityKey(s.journal.at(o.number).identity()), o.number)
	}
	for i, f := range s.folders {
		s.foldRun(f, i, r, view)
	}
	for _, k := range s.unread {
		s.indexRun(k, r)
	}
	if view {
		for _, it := range items {
			if it.known {
				s.reread(it)
			}
		}
	}
	s.forgetGuesses()
	return nil
}

// folding is several new transactions that are folded together, kind of entity
// by kind. Within a kind they keep their order, and kinds know nothing of each
// other, so the values are those of folding one after the other.
//
// What this buys is time: nearly all that a fold costs is waiting for memory,
// five to ten places for each entity, which are cold when millions of entities
// take turns. A loop that only reads those places for all transactions lets the
// processor wait for many of them at once; the fold then finds them in its cache.
// Folding one by one takes more than twice as long (benchmarks/results).
type folding struct {
	items    []*Item     // those that are new
	entries  []entry     // of items
	outcomes []outcomeAt // those that waited for one of items, in its order
	keys     []uint64    // of one kind's entity of each item, 0: it names none
	entities []uint32    // their numbers
	numbers  []uint64    // scratch
	touched  uint64      // what the reading loops have read, so that they are not optimised away
}

// outcomeAt is the number of an outcome that stands behind an item.
type outcomeAt struct {
	item   int
	number uint64
}

func (r *folding) reset() {
	r.items, r.entries, r.outcomes = r.items[:0], r.entries[:0], r.outcomes[:0]
}

// foldRun folds the new transactions in the logs of one kind of entity, which
// has this place among the kinds, and reads their features.
func (s *Embedded) foldRun(f *folder, kind int, r *folding, view bool) {
	s.findAll(f, r)
	r.touch(f)
	outcomes := s.index.plan.of(f.entity).outcomes
	next := 0
	for i, it := range r.items {
		key, n := r.keys[i], r.entities[i]
		if key == 0 {
			continue
		}
		if n == none {
			if n = s.secondCharge(f, kind, key, it); n == none {
				for ; next < len(r.outcomes) && r.outcomes[next].item <= i; next++ {
					if r.outcomes[next].item == i {
						s.index.tail.add(key, r.outcomes[next].number)
					}
				}
				continue
			}
		}
		e := r.entries[i]
		s.renew(f, n)
		s.chain(f.foldOf(n), it.number)
		at, fresh := f.apply(n, e, it.number)
		if it.known = it.known || !fresh; it.known { // it was decided long ago, and the ledger did not know: the first entry counts
			continue
		}
		switch {
		case (view || f.within > 0) && !f.whole(f.foldOf(n), e.time()):
			s.replay(f, kind, it, e, forever)
		case view:
			f.seek(n, e.time(), at+1)
			f.read(n, at, it)
			segment, offset := s.journal.position(it.number)
			it.Positions[kind] = payment.Position{Segment: segment, Offset: offset}
		default:
			f.noteEarlier(n, at, it)
		}
		for ; next < len(r.outcomes) && r.outcomes[next].item <= i; next++ {
			if o := r.outcomes[next]; o.item == i && outcomes {
				s.chain(f.foldOf(n), o.number)
				f.apply(n, s.journal.at(o.number), o.number)
			}
		}
	}
}

// indexRun adds the new transactions to the logs of a kind of entity that no
// feature looks at: one that a reload brings back will find them.
func (s *Embedded) indexRun(k indexedKind, r *folding) {
	next := 0
	for i, it := range r.items {
		key := s.journal.key.entity(k.entity, r.entries[i])
		if key != 0 {
			s.index.tail.add(key, it.number)
		}
		for ; next < len(r.outcomes) && r.outcomes[next].item == i; next++ {
			if key != 0 && k.outcomes {
				s.index.tail.add(key, r.outcomes[next].number)
			}
		}
	}
}

// findAll finds the entities of one kind, and makes the folds that are missing.
func (s *Embedded) findAll(f *folder, r *folding) {
	r.keys, r.entities = r.keys[:0], r.entities[:0]
	for _, e := range r.entries {
		key := s.journal.key.entity(f.entity, e)
		if at := f.index.Peek(key); at != nil {
			r.touched += uint64(*at)
		}
		r.keys = append(r.keys, key)
	}
	missing := 0
	for _, key := range r.keys {
		var n uint32
		if key != 0 {
			var ok bool
			if n, ok = f.find(key); !ok {
				missing++
				n = none
				r.touched += s.index.touch(key)
			}
		}
		r.entities = append(r.entities, n)
	}
	if missing == 0 {
		return
	}
	for i, n := range r.entities {
		if n != none {
			continue
		}
		var ok bool
		if n, ok = f.find(r.keys[i]); !ok {
			if f.onlyEarlier && s.unseen(r.keys[i]) {
				continue
			}
			n = s.load(f, r.keys[i])
		}
		r.entities[i] = n
	}
}

// none is no entity's number: of the entities of a run, that of a charge that
// nobody has made before.
const none = ^uint32(0)

// touch reads what the folds of the entities of one kind begin with: the folds
// and their state, then what these point to, then the transactions that will
// leave a window.
func (r *folding) touch(f *folder) {
	for i, n := range r.entities {
		if r.keys[i] != 0 && n != none {
			w := f.words(n)
			f.foldOf(n).used = true
			r.touched += w[0] + w[len(w)-1]
		}
	}
	for i, n := range r.entities {
		if r.keys[i] == 0 || n == none || f.foldOf(n).events.n == 0 {
			continue
		}
		fd := f.foldOf(n)
		r.touched += uint64(fd.events.at(f.ringsOf(fd), fd.events.end()-1).time)
		w := f.words(n)
		for s := range f.spans {
			if oldest := w[2*s]; oldest >= fd.events.first && oldest < fd.events.end() {
				r.touched += uint64(fd.events.at(f.ringsOf(fd), oldest).time)
			}
		}
		for _, at := range f.distinct {
			if w[at] != untallied {
				if slots, _ := f.sets.slots(w[at:]); slots != nil {
					r.touched += slots[0].value
				}
			}
		}
	}
	for i, n := range r.entities {
		if len(f.reading) == 0 || r.keys[i] == 0 || n == none || f.foldOf(n).events.n == 0 {
			continue
		}
		fd, w := f.foldOf(n), f.words(n)
		for _, s := range f.reading {
			if oldest := w[2*s]; f.spans[s].calendar == NotCalendar && oldest >= fd.events.first && oldest < fd.events.end() {
				el := fd.events.at(f.ringsOf(fd), oldest)
				if low, _ := f.spans[s].bounds(r.entries[i].time()); el.time <= low && el.ref&tileBit == 0 {
					if e := f.h.entryAt(el.number()); e != nil {
						r.touched += e.u64(transactionHeader)
					}
				}
			}
		}
	}
}

// values is how many values a transaction has.
func (m *memory) values() (n int) {
	for _, f := range m.folders {
		n += len(f.cells)
	}
	return n
}

func (m *memory) kinds() []Entity {
	all := make([]Entity, len(m.folders))
	for i, f := range m.folders {
		all[i] = f.entity
	}
	return all
}

// folderOf returns the folder of a kind of entity, nil where no feature looks at it.
func (m *memory) folderOf(e Entity) *folder {
	for _, f := range m.folders {
		if f.entity == e {
			return f
		}
	}
	return nil
}

func (m *memory) readsVerdicts() bool {
	return slices.ContainsFunc(m.folders, func(f *folder) bool { return len(f.byVerdict) > 0 })
}

func (m *memory) groups() []*group {
	all := make([]*group, len(m.folders))
	for i, f := range m.folders {
		all[i] = f.group
	}
	return all
}
