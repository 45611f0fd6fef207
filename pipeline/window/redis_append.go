package window

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Append implements Store. The calls of lanes that come at the same time go
// together; each sees those that stand before it.
func (s *Redis) Append(ctx context.Context, items []*Item) error {
	return s.turns.take(ctx, &call{items: items, view: true}, s.turn, s.leave)
}

// Note implements Store.
func (s *Redis) Note(ctx context.Context, items []*Item) error {
	return s.turns.take(ctx, &call{items: items}, s.turn, s.leave)
}

// turn appends the items of several calls.
func (s *Redis) turn(calls []*call) {
	err := s.change(context.Background(), "append to the entities' logs", func(ctx context.Context) error {
		r := &s.round
		r.reset()
		for _, c := range calls {
			if c.gone {
				continue // of what was begun, the items come again
			}
			c.from = len(r.items)
			for _, it := range c.items {
				r.items = append(r.items, it)
				r.view = append(r.view, c.view)
			}
		}
		defer func() {
			for _, c := range calls {
				c.from = -1
			}
		}()
		return s.append(ctx, r)
	})
	for _, c := range calls {
		c.err = err
	}
}

// leave gives a caller who has stopped waiting its items back. A round that has
// begun with them is carried out with substitutes; items whose entries were not
// made yet drop out of it.
func (s *Redis) leave(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.gone = true
	if c.from < 0 {
		return
	}
	for i, it := range c.items {
		s.round.items[c.from+i] = &Item{Hash: it.Hash, Late: it.Late, known: it.known,
			Values: make([]payment.Value, len(it.Values)), Positions: make([]payment.Position, len(it.Positions))}
	}
}

// round is several transactions that go into the logs together.
type round struct {
	items    []*Item
	view     []bool
	numbers  []uint64  // of their entries in memory, which are held; 0: late, or a repeat
	entries  []entry   // of numbers; nil where that is 0
	repeats  []repeat  // items whose transaction is in the round before
	outcomes []outcome // that waited for one of items, as far as we know beforehand; by item
	adds     []addition
	from     []int   // of adds, where those of each kind begin; one more at the end
	at       []int32 // for each kind and item the place in adds, -1: it names none
	stood    []bool  // for each kind and item, that its entry was met in the log
	pieces   pieces
	byHash   map[TxHash]int32
	folding  folding // scratch of prefetch
	keys     []uint64
	named    []entry // entries with the ids of their transactions behind them
	names    []byte  // what named is made of
	reading  bool    // nothing is appended
}

type repeat struct{ item, of int32 }

// outcome is one that waited for an item of the round.
type outcome struct {
	item int32
	e    entry // as it stands in logs
}

func (r *round) reset() {
	clear(r.adds) // of pointers to what may be gone
	*r = round{items: r.items[:0], view: r.view[:0], numbers: r.numbers[:0], entries: r.entries[:0], repeats: r.repeats[:0],
		outcomes: r.outcomes[:0], adds: r.adds[:0], from: r.from[:0], at: r.at[:0], stood: r.stood, pieces: r.pieces, byHash: r.byHash, folding: r.folding, keys: r.keys, named: r.named, names: r.names[:0]}
	r.pieces.reset()
	clear(r.byHash)
}

// find returns the item of a transaction. An item that comes twice is the first.
func (r *round) find(tx TxHash) (item int32, ok bool) {
	if len(r.byHash) == 0 {
		if r.byHash == nil {
			r.byHash = map[TxHash]int32{}
		}
		for i, e := range r.entries {
			if e != nil {
				r.byHash[e.tx()] = int32(i)
			}
		}
	}
	item, ok = r.byHash[tx]
	return item, ok
}

// append is a round: see Redis.
func (s *Redis) append(ctx context.Context, r *round) error {
	if len(r.items) == 0 {
		return nil // all have left
	}
	if err := s.number(ctx, r); err != nil {
		return err
	}
	defer s.endRound(r)
	if err := s.touchAll(ctx, r); err != nil {
		return err
	}
	if err := s.awaited(ctx, r); err != nil {
		return err
	}
	s.gather(r, func(l *logged) bool { return !l.onlyEarlier })
	if err := s.loadAssumed(ctx, r); err != nil {
		return err
	}
	s.gather(r, func(l *logged) bool { return l.onlyEarlier })
	if err := s.write(ctx, r, &r.pieces, r.adds); err != nil {
		return err
	}
	parked, err := s.foldAndIndex(ctx, r)
	if err != nil {
		return err
	}
	if err := s.nameEarlier(ctx, r.items); err != nil {
		return err
	}
	r.repeat()
	return s.unpark(ctx, r, parked)
}

// repeat answers the items that come twice in a round as their first.
func (r *round) repeat() {
	for _, p := range r.repeats {
		first, it := r.items[p.of], r.items[p.item]
		it.known = true
		copy(it.Values, first.Values)
		copy(it.Positions, first.Positions)
		it.Approximate = append(it.Approximate[:0], first.Approximate...)
		it.Earlier = first.Earlier
	}
}

// number prepares the items: what is late, what repeats another, and the entries
// of the rest.
func (s *Redis) number(ctx context.Context, r *round) error {
	from, now := maxTime, minTime
	for _, it := range r.items {
		from, now = min(from, it.Tx.EventTime), max(now, it.KafkaTime)
	}
	if err := s.agree(ctx, from, now); err != nil {
		return err
	}
	s.kafka = max(s.kafka, now)
	r.numbers, r.entries, r.named = resize(r.numbers, len(r.items)), resize(r.entries, len(r.items)), resize(r.named, len(r.items))
	values := s.values()
	var late []int
	for i, it := range r.items {
		if it.Tx == nil {
			continue // its caller has left
		}
		it.begin(values, s.ours)
		it.Hash = s.key.Tx(it.Tx.ID)
		it.known = false
		if it.Late = it.Tx.EventTime < it.KafkaTime.Add(-s.opts.Lateness); it.Late {
			late = append(late, i)
		}
	}
	if err := s.askLate(ctx, r, late); err != nil {
		return err
	}
	seen := make(map[TxHash]int32, len(r.items))
	for i, it := range r.items {
		if it.Late || it.Tx == nil {
			continue
		}
		if first, ok := seen[it.Hash]; ok {
			r.repeats = append(r.repeats, repeat{int32(i), first})
			continue
		}
		seen[it.Hash] = int32(i)
		r.pieces.buf = appendTransaction(r.pieces.buf[:0], s.key, it)
		r.numbers[i] = s.entries.hold(r.pieces.buf)
		r.entries[i] = s.entries.entryAt(r.numbers[i])
		r.name(i, it.Tx.ID)
	}
	r.pieces.buf = r.pieces.buf[:0]
	return nil
}

// askLate finds those of the late ones that stand in the logs: they were not late
// when they came first.
func (s *Redis) askLate(ctx context.Context, r *round, late []int) error {
	if len(late) == 0 {
		return nil
	}
	pipe := s.client.Pipeline()
	there := make([]*redis.IntCmd, len(late))
	for k, i := range late {
		there[k] = pipe.Exists(ctx, s.names.tx(r.items[i].Hash))
	}
	if err := s.exec(ctx, pipe); err != nil {
		return err
	}
	for k, i := range late {
		r.items[i].Late = there[k].Val() == 0
	}
	return nil
}

// endRound lets go of what a round held. Its folds are what their logs say, also
// after an error: see Redis.
func (s *Redis) endRound(r *round) {
	for i := range r.adds {
		if a := &r.adds[i]; a.n != none && a.l.foldOf(a.n).key == a.key {
			a.l.side[a.n].touched = 0
		}
	}
	for _, n := range r.numbers {
		if n != 0 {
			s.entries.release(n)
		}
	}
}

// touchAll finds the entities of all items, and makes the folds that are missing.
// A fold in which a transaction stands that comes again is made anew as well, so
// that it is answered on the way: as of its first entry.
func (s *Redis) touchAll(ctx context.Context, r *round) error {
	now := seconds32(time.Now())
	r.stood = resize(r.stood, len(s.logs)*len(r.items))
	for _, l := range s.logs {
		r.from = append(r.from, len(r.adds))
		s.touch(r, l, now)
	}
	r.from = append(r.from, len(r.adds))
	if err := s.loadNew(ctx, r); err != nil {
		return err
	}
	again := false
	for k, l := range s.logs {
		for i, e := range r.entries {
			at := r.addition(k, i)
			if at == nil || l.place < 0 || !r.view[i] || r.stood[k*len(r.items)+i] {
				continue
			}
			if _, ok := l.findTx(l.foldOf(at.n), e.time(), e.tx()); ok && at.last != anew {
				l.side[at.n].touched = 0
				at.n, at.last, again = s.begin(l, at.key), anew, true
				l.side[at.n].touched = 1
			}
		}
	}
	if again {
		return s.loadNew(ctx, r)
	}
	return nil
}

// anew marks an addition, in its last, whose fold is to be loaded.
const anew = -2

func (r *round) addition(kind, item int) *addition {
	if at := r.at[kind*len(r.items)+item]; at >= 0 {
		return &r.adds[at]
	}
	return nil
}

// touch finds the entities of one kind.
func (s *Redis) touch(r *round, l *logged, now uint32) {
	r.keys = r.keys[:0]
	for _, e := range r.entries {
		key := uint64(0)
		if e != nil {
			key = s.key.entity(l.entity, e)
		}
		if at := l.index.Peek(key); at != nil {
			r.folding.touched += uint64(*at)
		}
		r.keys = append(r.keys, key)
	}
	for _, key := range r.keys {
		if key == 0 {
			r.at = append(r.at, -1)
			continue
		}
		n, ok := l.find(key)
		last, assumed := int32(-1), false
		if !ok && l.onlyEarlier && !r.reading {
			n, assumed = s.assumeEmpty(l, key), true
		} else if !ok || l.side[n].touched == 0 && !s.trusted(l, n, now) {
			n, last = s.begin(l, key), anew
		}
		if side := &l.side[n]; side.touched == 0 {
			fd := l.foldOf(n)
			fd.used = true
			r.adds = append(r.adds, addition{l: l, key: key, n: n, at: fd.log, first: -1, last: last, assumed: assumed})
			side.touched = uint32(len(r.adds))
		}
		r.at = append(r.at, int32(l.side[n].touched-1))
	}
}

// loadNew loads the folds that were just begun.
func (s *Redis) loadNew(ctx context.Context, r *round) error {
	var fresh []*addition
	for i := range r.adds {
		if r.adds[i].last == anew {
			fresh = append(fresh, &r.adds[i])
		}
	}
	if err := s.load(ctx, r, fresh); err != nil {
		return err
	}
	for _, a := range fresh {
		a.last = -1
	}
	return nil
}

// gather puts the entries of the items, and of the outcomes that waited for them,
// into the additions to the logs of some kinds in which they do not stand yet.
func (s *Redis) gather(r *round, of func(*logged) bool) {
	for k, l := range s.logs {
		if !of(l) {
			continue
		}
		next := 0
		for i, e := range r.entries {
			a := r.addition(k, i)
			if a == nil {
				continue
			}
			for next < len(r.outcomes) && r.outcomes[next].item < int32(i) {
				next++
			}
			// Its fold may have dropped an event since it was met.
			if _, ok := l.findTx(l.foldOf(a.n), e.time(), e.tx()); ok || r.stood[k*len(r.items)+i] {
				r.items[i].known = true
				continue
			}
			p := piece{item: int32(i), number: r.numbers[i], e: e}
			if l.entity.First == Charge {
				p.e = r.named[i]
			}
			r.pieces.add(a, p)
			for ; next < len(r.outcomes) && r.outcomes[next].item == int32(i); next++ {
				r.pieces.add(a, piece{item: -1, e: r.outcomes[next].e})
			}
		}
	}
}

// answer fills in what an item finds at its place in the log of one entity, whose
// fold is complete up to there; at is the index of its event.
func (s *Redis) answer(r *round, i int32, a *addition, at uint64, position payment.Position) {
	it, l := r.items[i], a.l
	if stood := &r.stood[l.kind*len(r.items)+int(i)]; *stood {
		return // this is not its first entry, but the fold has dropped that since
	} else {
		*stood = true
	}
	if l.place < 0 {
		return
	}
	it.Positions[l.place] = position
	if !r.view[i] {
		l.noteEarlier(a.n, at, it)
		return
	}
	t := r.entries[i].time()
	l.seek(a.n, t, at+1)
	l.read(a.n, at, it)
}

// foldAndIndex folds what was appended, while the entries are put under their
// transactions. It returns the outcomes that were found waiting, by item.
func (s *Redis) foldAndIndex(ctx context.Context, r *round) (parked []*redis.StringSliceCmd, err error) {
	parked = make([]*redis.StringSliceCmd, len(r.items))
	var pipes []redis.Pipeliner
	pipe := s.client.Pipeline()
	for i, e := range r.entries {
		if e == nil {
			continue
		}
		if pipe.Len() >= commandsAtOnce {
			pipes, pipe = append(pipes, pipe), s.client.Pipeline()
		}
		hash := r.items[i].Hash
		pipe.Set(ctx, s.names.tx(hash), []byte(r.named[i]), s.segmentLives())
		parked[i] = pipe.LRange(ctx, s.names.parked(hash), 0, -1)
	}
	s.addChores(ctx, pipe, true)
	sent := make(chan error, 1)
	go func() {
		for _, some := range append(pipes, pipe) {
			if err := s.send(ctx, some); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for k, l := range s.logs {
		s.foldOwn(r, k, l)
		s.yield()
	}
	s.mu.Unlock()
	err = <-sent
	s.mu.Lock()
	if err == nil && s.nodes.changed() != s.changes {
		err = errAgain
	}
	if err != nil {
		return nil, err
	}
	s.endChores(true)
	return parked, nil
}

// foldOwn folds the additions of one kind.
func (s *Redis) foldOwn(r *round, kind int, l *logged) {
	r.prefetch(kind, l)
	for i := r.from[kind]; i < r.from[kind+1]; i++ {
		a := &r.adds[i]
		if a.first < 0 {
			continue
		}
		at := a.at
		for p := a.first; p >= 0; p = r.pieces.all[p].next {
			own := &r.pieces.all[p]
			if own.item < 0 {
				l.apply(a.n, own.e, 0)
			} else if r.stood[kind*len(r.items)+int(own.item)] {
				r.items[own.item].known = true // another member was first, and it was answered there
			} else if index, fresh := l.apply(a.n, own.e, own.number); fresh {
				s.answer(r, own.item, a, index, payment.Position{Segment: at.segment, Offset: uint64(at.offset)})
			}
			at.offset += uint32(len(own.e))
		}
		l.foldOf(a.n).log = at
	}
}

// prefetch reads what the folds of one kind begin with: see folding.
func (r *round) prefetch(kind int, l *logged) {
	if l.place < 0 {
		return
	}
	f := &r.folding
	f.keys, f.entities, f.entries = f.keys[:0], f.entities[:0], f.entries[:0]
	for i, e := range r.entries {
		if a := r.addition(kind, i); a != nil {
			f.keys, f.entities, f.entries = append(f.keys, a.key), append(f.entities, a.n), append(f.entries, e)
		}
	}
	f.touch(l.folder)
}

// View implements Store. It looks at the end of the logs, and not at where the
// transactions stand.
func (s *Redis) View(ctx context.Context, items []*Item) error {
	return s.do(ctx, "read the entities' logs", func(ctx context.Context) error {
		values := s.values()
		adds := make([]addition, 0, len(s.logs)*len(items))
		at := make([]int, len(s.logs)*len(items))
		byKey := map[uint64]int{}
		for k, l := range s.logs[:s.ours] {
			clear(byKey)
			for i, it := range items {
				at[k*len(items)+i] = -1
				if k == 0 {
					it.reset(values, s.ours)
				}
				key := s.key.EntityKey(l.entity, it.Tx)
				if it.Late || it.known || key == 0 {
					continue
				}
				place, ok := byKey[key]
				if !ok {
					place = len(adds)
					byKey[key] = place
					a := addition{l: l, key: key, first: -1, last: -1}
					if n, ok := l.find(key); ok && l.side[n].trust == s.trust {
						a.n, a.at = n, l.foldOf(n).log
					} else {
						a.n, a.last = s.begin(l, key), anew
					}
					l.foldOf(a.n).used = true
					adds = append(adds, a)
				}
				at[k*len(items)+i] = place
			}
		}
		if err := s.readOn(ctx, adds); err != nil {
			return err
		}
		for k, l := range s.logs[:s.ours] {
			for i, it := range items {
				if at[k*len(items)+i] < 0 {
					continue
				}
				a := &adds[at[k*len(items)+i]]
				if index, ok := l.findTx(l.foldOf(a.n), it.Tx.EventTime, it.Hash); ok {
					l.seek(a.n, it.Tx.EventTime, index+1)
					l.read(a.n, index, it)
					it.Positions[k] = a.position()
				}
			}
		}
		return s.reread(ctx, items)
	})
}

// reread answers transactions that stood in the logs before they were noted, as
// of their first entries.
func (s *Redis) reread(ctx context.Context, items []*Item) error {
	r := &s.round
	r.reset()
	for _, it := range items {
		if it.known && !it.Late {
			r.items, r.view = append(r.items, it), append(r.view, true)
		}
	}
	if len(r.items) == 0 {
		return nil
	}
	r.reading = true
	if err := s.number(ctx, r); err != nil {
		return err
	}
	defer s.endRound(r)
	if err := s.touchAll(ctx, r); err != nil {
		return err
	}
	for _, it := range r.items {
		it.known = true
	}
	if err := s.nameEarlier(ctx, r.items); err != nil {
		return err
	}
	r.repeat()
	return nil
}

// readOn folds what was appended to logs since they were folded.
func (s *Redis) readOn(ctx context.Context, adds []addition) error {
	var fresh, pending []*addition
	for i := range adds {
		if a := &adds[i]; a.last == anew {
			fresh = append(fresh, a)
		} else {
			pending = append(pending, a)
		}
	}
	if err := s.load(ctx, nil, fresh); err != nil {
		return err
	}
	behind := make([]*reading, len(pending))
	for i, a := range pending {
		behind[i] = &reading{addition: a, last: a.at.segment}
	}
	return s.readLogs(ctx, nil, behind)
}
