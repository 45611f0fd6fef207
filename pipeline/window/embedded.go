package window

import (
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/dchest/siphash"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Embedded is the store of one process: a journal that holds each transaction
// once, and in memory the entities' logs as indexes over it. Without a
// directory it is a store for replays and tests that keeps nothing.
type Embedded struct {
	opts    Options
	journal *journal // nil without a directory

	mu      sync.Mutex // guards everything below; held for one call, never over a sync
	key     Key
	vocab   words
	entries [][]entry // pages of entryPage
	count   uint32
	chain   []outcome
	byHash  map[TxHash]uint32
	seen    map[TxHash]struct{} // outcomes by the hash of what makes them identical
	parked  map[TxHash][]parked
	folders []*folder
	rings   arena
	ordinal uint64   // of the next thing that is appended
	starts  []uint64 // the first ordinal of each segment
	fresh   []bool   // scratch of Append: which items are new
}

const entryPage = 4096

var _ Store = (*Embedded)(nil)

// Open opens the store in a directory, which it locks, and reads its journal;
// or makes an empty one in memory.
func Open(opts Options) (*Embedded, error) {
	opts.fillDefaults()
	s := &Embedded{
		opts: opts, vocab: newWords(), starts: []uint64{0},
		byHash: map[TxHash]uint32{}, seen: map[TxHash]struct{}{}, parked: map[TxHash][]parked{},
	}
	for _, g := range newGroups(opts.Features) {
		s.folders = append(s.folders, &folder{group: g, h: s, rings: &s.rings, before: everything})
	}
	if opts.Dir == "" {
		return s, nil
	}
	j, err := openJournal(opts, s)
	if err != nil {
		return nil, err
	}
	s.journal = j
	return s, nil
}

// The store is the history that its folds read.
func (s *Embedded) entry(n uint32) *entry     { return &s.entries[n/entryPage][n%entryPage] }
func (s *Embedded) outcome(n uint32) *outcome { return &s.chain[n] }
func (s *Embedded) vocabulary() *words        { return &s.vocab }
func (s *Embedded) hashText(text string) uint64 {
	return siphash.Hash(s.key.k0, s.key.k1, bytesOf(text))
}

// Key implements Store.
func (s *Embedded) Key() Key { return s.key }

// Entities implements Store.
func (s *Embedded) Entities() []Entity {
	all := make([]Entity, len(s.folders))
	for i, f := range s.folders {
		all[i] = f.entity
	}
	return all
}

// ReadsVerdicts implements Store.
func (s *Embedded) ReadsVerdicts() bool {
	return slices.ContainsFunc(s.folders, func(f *folder) bool { return len(f.byVerdict) > 0 })
}

// Written implements Store.
func (s *Embedded) Written() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ordinal
}

// Durable implements Store.
func (s *Embedded) Durable() uint64 {
	if s.journal == nil {
		return s.Written()
	}
	return s.journal.durable.Load()
}

// Close implements Store.
func (s *Embedded) Close() error {
	if s.journal == nil {
		return nil
	}
	return s.journal.close()
}

// Append implements Store. The journal is written first, as a whole, so that a
// crash at any point leaves either nothing of a transaction or its entry; then
// each transaction is folded and read at its own position, in order.
func (s *Embedded) Append(items []*Item) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	start := s.count
	s.fresh = s.fresh[:0]
	for _, it := range items {
		it.Hash = s.key.Tx(it.Tx.ID)
		_, known := s.byHash[it.Hash]
		it.Late = !known && it.Tx.EventTime < it.KafkaTime.Add(-s.opts.Lateness)
		s.fresh = append(s.fresh, !known && !it.Late)
		if known || it.Late {
			continue
		}
		s.push(it)
	}
	if err := s.logEntries(start); err != nil {
		for n := start; n < s.count; n++ {
			delete(s.byHash, s.entry(n).hash)
		}
		s.count = start
		return err
	}
	values := 0
	for _, f := range s.folders {
		values += len(f.cells)
	}
	for i, it := range items {
		it.Values = slices.Grow(it.Values[:0], values)[:values]
		clear(it.Values)
		if it.Late {
			continue
		}
		n := s.byHash[it.Hash]
		if s.fresh[i] {
			s.place(n)
			s.fold(n, it.Values)
			s.unpark(n)
		} else {
			s.reread(n, it.Values)
		}
		it.Position = s.position(s.entry(n).ordinal)
	}
	return nil
}

// push makes the entry of a new transaction, without a place in the order yet.
func (s *Embedded) push(it *Item) {
	var e entry
	e.fill(s.key, &s.vocab, it.Hash, it.Tx, it.Base, it.Based)
	s.add(e)
}

// add keeps an entry and returns its number.
func (s *Embedded) add(e entry) uint32 {
	n := s.count
	if int(n/entryPage) == len(s.entries) {
		s.entries = append(s.entries, make([]entry, entryPage))
	}
	*s.entry(n) = e
	s.byHash[e.hash] = n
	s.count++
	return n
}

func (s *Embedded) logEntries(start uint32) error {
	if s.journal == nil || start == s.count {
		return nil
	}
	for n := start; n < s.count; n++ {
		s.journal.putEntry(s.entry(n), &s.vocab)
	}
	return s.journal.flush()
}

// place gives an entry its place in the one order.
func (s *Embedded) place(n uint32) {
	s.entry(n).ordinal = s.ordinal
	s.ordinal++
}

// position is where an ordinal stands.
func (s *Embedded) position(ordinal uint64) payment.Position {
	segment := sort.Search(len(s.starts), func(i int) bool { return s.starts[i] > ordinal })
	return payment.Position{Segment: uint32(segment), Offset: ordinal - s.starts[segment-1]}
}

// fold puts an entry into the folds of its entities and reads its features as
// of its own time and position; values may be nil.
func (s *Embedded) fold(n uint32, values []payment.Value) {
	e := s.entry(n)
	own := elem{time: e.time, amount: e.base, ref: uint64(n)}
	if e.based {
		own.ref |= basedBit
	}
	for _, f := range s.folders {
		key := f.keyOf(s.key, e)
		if key == 0 {
			continue
		}
		entity := f.open(key, e.time)
		f.insert(entity, own)
		if values == nil { // while the journal is read: the cursors catch up with the first payment
			continue
		}
		f.seek(entity, e.time)
		f.read(entity, own, values)
		f.drop(entity, e.time.Add(-f.reach-s.opts.Lateness-slack))
	}
}

// slack is kept beyond what late payments need, because payments may be ahead
// of Kafka's time.
const slack = 24 * time.Hour

// keyOf is the key of an entry's entity, 0 where it names none.
func (f *folder) keyOf(key Key, e *entry) uint64 {
	if f.entity.Pair {
		return key.pair(e.refs[f.entity.First], e.refs[f.entity.Second])
	}
	return e.refs[f.entity.First]
}

// reread computes the features of a transaction that was appended before, as it
// found them then: from those events, outcomes and verdicts that stand before
// it. It folds them once more on the side, since the entity has moved on.
func (s *Embedded) reread(n uint32, values []payment.Value) {
	e := s.entry(n)
	for _, f := range s.folders {
		key := f.keyOf(s.key, e)
		if key == 0 {
			continue
		}
		entity, ok := f.index[key]
		if !ok {
			continue
		}
		var rings arena
		aside := folder{h: s, rings: &rings, before: e.ordinal + 1, group: &group{
			entity: f.entity, spans: f.spans, cells: f.cells, byStatus: f.byStatus, byVerdict: f.byVerdict,
			stateWords: f.stateWords, index: map[uint64]uint32{}, tally: make([]tally, 1),
		}}
		aside.open(key, e.time)
		from := &f.folds[entity]
		// Outcomes first: an event is then inserted as what it had become.
		for i := from.outcomes.first; i < from.outcomes.end(); i++ {
			number := from.outcomes.at(&s.rings, i).number()
			if o := s.outcome(number); o.ordinal < e.ordinal {
				aside.placeOutcome(0, number, o)
			}
		}
		for i := from.events.first; i < from.events.end(); i++ {
			if el := *from.events.at(&s.rings, i); s.entry(el.number()).ordinal <= e.ordinal {
				aside.insert(0, el)
			}
		}
		own := elem{time: e.time, amount: e.base, ref: uint64(n)}
		aside.seek(0, e.time)
		aside.read(0, own, values)
	}
}

// Decided implements Store.
func (s *Embedded) Decided(marks []Mark) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal != nil && len(marks) > 0 {
		for i := range marks {
			s.journal.putMark(&marks[i])
		}
		if err := s.journal.flush(); err != nil {
			return err
		}
	}
	for i := range marks {
		s.mark(&marks[i])
	}
	return nil
}

// mark takes a decision's place in the order and lets features see its verdict.
func (s *Embedded) mark(m *Mark) {
	ordinal := s.ordinal
	s.ordinal++
	n, ok := s.byHash[m.Tx]
	if !ok || s.entry(n).decidedAt != everything {
		return
	}
	e := s.entry(n)
	s.changeVerdict(n, false)
	e.verdict, e.decidedAt = m.Verdict, ordinal
	s.changeVerdict(n, true)
}

func (s *Embedded) changeVerdict(n uint32, add bool) {
	e := s.entry(n)
	for _, f := range s.folders {
		if len(f.byVerdict) == 0 {
			continue
		}
		if entity, ok := f.index[f.keyOf(s.key, e)]; ok {
			f.change(entity, n, f.byVerdict, f.now(f.folds[entity].at), add)
		}
	}
}
