package window

import (
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/dchest/siphash"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window/table"
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
	byHash  table.Table[TxHash, uint32]
	seen    map[TxHash]struct{} // outcomes by the hash of what makes them identical
	parked  map[TxHash][]parked
	folders []*folder
	rings   arena[elem]
	sets    tallies    // of the cells that count distinct values
	ordinal uint64     // of the next thing that is appended
	starts  []uint64   // the first ordinal of each segment
	appends []appended // scratch of Append
	// Scratch of reread.
	asideRings arena[elem]
	asideSets  tallies

	run run // scratch of Append
}

const entryPage = 4096

var _ Store = (*Embedded)(nil)

// Open opens the store in a directory, which it locks, and reads its journal;
// or makes an empty one in memory.
func Open(opts Options) (*Embedded, error) {
	opts.fillDefaults()
	s := &Embedded{
		opts: opts, vocab: newWords(), starts: []uint64{0},
		seen: map[TxHash]struct{}{}, parked: map[TxHash][]parked{},
	}
	for _, g := range newGroups(opts.Features) {
		s.folders = append(s.folders, &folder{group: g, h: s, rings: &s.rings, sets: &s.sets, before: everything})
	}
	if opts.Dir == "" {
		var err error
		s.key, err = newKey()
		return s, err
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
	for _, it := range items {
		it.Hash = s.key.Tx(it.Tx.ID)
		s.lookAhead(it.Hash)
	}
	s.appends = s.appends[:0]
	for _, it := range items {
		var a appended
		a.number, a.known = s.find(it.Hash)
		it.Late = !a.known && it.Tx.EventTime < it.KafkaTime.Add(-s.opts.Lateness)
		if !a.known && !it.Late {
			a.number = s.push(it)
		}
		s.appends = append(s.appends, a)
	}
	if err := s.logEntries(start); err != nil {
		for n := start; n < s.count; n++ {
			h := s.entry(n).hash
			s.byHash.Delete(h.Lo, h)
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
		n := s.appends[i].number
		if s.appends[i].known {
			s.finishRun()
			s.reread(n, it.Values)
			it.Position = s.position(s.entry(n).ordinal)
			continue
		}
		s.place(n)
		it.Position = s.position(s.entry(n).ordinal)
		s.run.items, s.run.numbers = append(s.run.items, it), append(s.run.numbers, n)
		if len(s.parked) > 0 { // what waits for a transaction stands right behind it
			s.finishRun()
			s.unpark(n)
		}
	}
	s.finishRun()
	return nil
}

// finishRun folds the transactions that Append has put aside.
func (s *Embedded) finishRun() {
	s.foldRun(&s.run)
	s.run.items, s.run.numbers = s.run.items[:0], s.run.numbers[:0]
}

// appended is an item of Append: its entry, and whether that was there before.
type appended struct {
	number uint32
	known  bool
}

// Holds implements Store.
func (s *Embedded) Holds(h TxHash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.find(h)
	return ok
}

// find returns the number of a transaction's entry.
func (s *Embedded) find(h TxHash) (n uint32, ok bool) {
	if at := s.byHash.Find(h.Lo, h); at != nil {
		return *at, true
	}
	return 0, false
}

// push makes the entry of a new transaction, without a place in the order yet.
func (s *Embedded) push(it *Item) uint32 {
	var e entry
	e.fill(s.key, &s.vocab, it.Hash, it.Tx, it.Base, it.Based)
	return s.add(e)
}

// add keeps an entry and returns its number.
func (s *Embedded) add(e entry) uint32 {
	n := s.count
	if int(n/entryPage) == len(s.entries) {
		s.entries = append(s.entries, make([]entry, entryPage))
	}
	*s.entry(n) = e
	at, _ := s.byHash.Add(e.hash.Lo, e.hash)
	*at = n
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

// fold puts an entry into the folds of its entities, and reads nothing.
func (s *Embedded) fold(n uint32) {
	e := s.entry(n)
	for _, f := range s.folders {
		if key := f.keyOf(s.key, e); key != 0 {
			s.foldInto(f, f.open(key, e.time), n, nil)
		}
	}
}

// foldInto puts an entry into the fold of one entity and reads its features as
// of its own time and position. While the journal is read there are no values
// to be filled: the cursors catch up with the first payment.
func (s *Embedded) foldInto(f *folder, entity uint32, n uint32, values []payment.Value) {
	e := s.entry(n)
	own := elem{time: e.time, amount: e.base, ref: uint64(n)}
	if e.based {
		own.ref |= basedBit
	}
	own.ref |= f.judge(e)
	at := f.insert(entity, own)
	if values == nil {
		return
	}
	f.seek(entity, e.time)
	f.read(entity, at, values)
	if !f.whole {
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
		entity, ok := f.find(key)
		if !ok {
			continue
		}
		s.asideRings.reset()
		s.asideSets.reset()
		aside := folder{h: s, rings: &s.asideRings, sets: &s.asideSets, before: e.ordinal + 1, group: &group{
			entity: f.entity, spans: f.spans, cells: f.cells, byStatus: f.byStatus, byVerdict: f.byVerdict,
			stateWords: f.stateWords, count: 1,
			folds: [][]fold{{{at: e.time, events: ring{class: noBlock}, outcomes: ring{class: noBlock}}}}, state: [][]uint64{make([]uint64, f.stateWords)},
		}}
		from := f.foldOf(entity)
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
		own, ok := aside.foldOf(0).events.find(&s.asideRings, e.time, n)
		if !ok {
			continue // a redelivery from beyond the horizon: nothing is known of then
		}
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
		s.lookAhead(marks[i].Tx)
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
	n, ok := s.find(m.Tx)
	if !ok {
		return
	}
	e := s.entry(n)
	published := m.Offset >= 0
	switch {
	case e.decidedAt == everything:
	case published && !e.published && m.Verdict != e.verdict:
		// What was noted before a crash was never published, and then another ruleset decided.
	default:
		e.published = e.published || published
		return
	}
	e.published = published
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
		if entity, ok := f.find(f.keyOf(s.key, e)); ok {
			f.change(entity, n, f.byVerdict, f.now(f.foldOf(entity).at), add)
		}
	}
}
