package window

import "time"

// Peek answers payments from memory alone, while a store is away or too slow for
// them. What an entity's fold says as of the last time that its log was read is
// stale: the payments of other members, and those that could not be appended, are
// not in it. To those that this member has peeked at since, it adds them itself,
// provisionally: an attack does not stop because a store did.
//
// So that nothing provisional ever gets into an exact value, it is folded in a
// guess: a copy of the entity's fold, made when it is first needed. The fold itself
// stays what its log says, and a call that is waiting for an answer goes on with it
// as if nobody had looked. Guesses are given up with the first call that succeeds;
// the payments come again, and stand in the logs then. They are given up as well when
// memory is full.
//
// Rejected: to fold provisionally in the fold itself and read it from its log again
// later. After an outage everybody would read all logs at once; and a store that is
// slow, not away, would get slower with every payment that did not wait for it.

// guesses are the folds with which Peek goes on, by the fold of which each is a copy.
type guesses map[guessed]uint32

type guessed struct {
	f   *folder
	key uint64
}

// peekAt fills in what memory says of an item in one kind of entity. number is that
// of its entry e, as the folder's history finds it; find returns the fold of which a
// guess may be made.
func (m *memory) peekAt(f *folder, key uint64, it *Item, e entry, number uint64, find func(key uint64) (n uint32, ok bool)) {
	n, ok := m.guess(f, key, find)
	if ok {
		at, _ := f.apply(n, e, number)
		if f.whole(f.foldOf(n), e.time()) {
			f.seek(n, e.time(), at+1)
			f.read(n, at, it)
			it.Stale = it.Stale || !f.onlyEarlier
			return
		}
	}
	if f.onlyEarlier { // what was not looked for is no feature that cannot be had
		return
	}
	if it.Without == nil {
		it.without = resize(it.without, len(it.Values))
		it.Without = it.without
	}
	for i := range f.cells {
		it.Without[f.cells[i].slot] = true
	}
}

// guess returns the guess of an entity; ok is false where nothing of the entity is
// in memory. Of a charge that nothing but EarlierCharges looks at there is always one.
func (m *memory) guess(f *folder, key uint64, find func(key uint64) (n uint32, ok bool)) (n uint32, ok bool) {
	if n, ok = m.guesses[guessed{f, key}]; ok {
		return n, true
	}
	if n, ok = find(key); !ok && !f.onlyEarlier {
		return 0, false
	}
	if m.guesses == nil {
		m.guesses = guesses{}
	}
	if ok {
		f.foldOf(n).used = true
		n = f.copyOf(n)
	} else {
		n = f.hidden() // those that are peeked at see each other at least
	}
	m.guesses[guessed{f, key}] = n
	return n, true
}

// dropGuesses gives up all that is provisional.
func (m *memory) dropGuesses() {
	for g, n := range m.guesses {
		g.f.discard(n)
	}
	m.guesses = nil
}

// beginPeek prepares an item; it returns false where it is too late for windows.
func (it *Item) beginPeek(key Key, values, entities int, lateness time.Duration) bool {
	it.begin(values, entities)
	it.Hash, it.known = key.Tx(it.Tx.ID), false
	it.Late = it.Tx.EventTime < it.KafkaTime.Add(-lateness)
	return !it.Late
}

// Peek implements Store.
func (s *Redis) Peek(items []*Item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roomForGuesses()
	values := s.values()
	for _, it := range items {
		if !it.beginPeek(s.key, values, s.ours, s.opts.Lateness) {
			continue
		}
		s.peeked = appendNamed(s.peeked[:0], s.key, it)
		number := s.entries.hold(s.peeked)
		e := s.entries.entryAt(number)
		for _, l := range s.logs[:s.ours] {
			if key := s.key.entity(l.entity, e); key != 0 {
				s.peekAt(l.folder, key, it, e, number, l.shown)
			}
		}
		s.entries.release(number)
	}
}

// roomForGuesses keeps memory within its bound, also in an outage without end:
// guesses are given up, and begin again. What is shared by all goes only after that,
// and not while a call is under way, which may hold on to it.
func (s *Redis) roomForGuesses() {
	if s.bytes()+s.entries.bytes() <= s.opts.Memory {
		return
	}
	s.dropGuesses()
	select {
	case s.calls <- struct{}{}:
		s.shrinkAll()
		<-s.calls
	default:
	}
}

// provisional is the entries of payments that were peeked at, of an embedded store:
// the journal does not hold them. Their numbers are those just before its first
// segment's, which it gives out last of all.
type provisional struct {
	entries
	base uint64 // the number of the first segment's beginning; entries of guesses stand before it
	buf  []byte
}

// numbered returns the entry of a payment that was peeked at; ok is false where the
// number is the journal's.
func (p *provisional) numbered(number uint64) (e entry, ok bool) {
	if at := (p.base - number) & numberMask; at < p.next {
		return p.entries.entryAt(at), at > 0
	}
	return nil, false
}

// Peek implements Store.
func (s *Embedded) Peek(items []*Item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes()+s.provisional.bytes() > s.opts.Memory {
		s.forgetGuesses()
		if s.bytes() > s.opts.Memory {
			s.evicted += int64(s.shrink(s.opts.Memory - s.opts.Memory/16))
		}
	}
	if s.guesses == nil {
		s.provisional = provisional{base: numberOf(s.journal.segments[0].number, 0)}
	}
	p, values := &s.provisional, s.values()
	for _, it := range items {
		if !it.beginPeek(s.journal.key, values, len(s.folders), s.opts.Lateness) {
			continue
		}
		p.buf = appendNamed(p.buf[:0], s.journal.key, it)
		at := p.hold(p.buf)
		e := p.entries.entryAt(at)
		for _, f := range s.folders {
			if key := s.journal.key.entity(f.entity, e); key != 0 {
				s.peekAt(f, key, it, e, (p.base-at)&numberMask, func(key uint64) (n uint32, ok bool) {
					if n, ok = f.find(key); !ok && f.onlyEarlier && !s.unseen(key) {
						n, ok = s.load(f, key), true // the journal can be read, whatever else cannot
					}
					return n, ok && !s.outlived(f, n)
				})
			}
		}
	}
}

// forgetGuesses gives up all that is provisional.
func (s *Embedded) forgetGuesses() {
	if s.guesses != nil {
		s.dropGuesses()
		s.provisional = provisional{}
	}
}
