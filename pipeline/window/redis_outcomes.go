package window

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// news is an entry about a transaction, for the logs of its entities.
type news struct {
	tx entry
	e  entry
}

// tell appends news to the logs of the kinds that look at such entries, and lets
// the folds that are in memory have them. The transactions stand in all these
// logs.
func (s *Redis) tell(ctx context.Context, all []news, looks func(*logged) bool) error {
	if len(all) == 0 {
		return nil
	}
	type entity struct {
		l   *logged
		key uint64
	}
	var adds []addition
	var p pieces
	var cold []*addition
	at := map[entity]int{}
	now := seconds32(time.Now())
	for _, l := range s.logs {
		if !looks(l) {
			continue
		}
		for _, one := range all {
			key := s.key.entity(l.entity, one.tx)
			if key == 0 {
				continue
			}
			place, ok := at[entity{l, key}]
			if !ok {
				place = len(adds)
				at[entity{l, key}] = place
				a := addition{l: l, key: key, n: none, first: -1, last: -1}
				if n, ok := l.find(key); ok && s.trusted(l, n, now) {
					a.n, a.at = n, l.foldOf(n).log
				}
				adds = append(adds, a)
			}
			p.add(&adds[place], piece{item: -1, e: one.e})
		}
	}
	for i := range adds {
		if adds[i].n == none {
			cold = append(cold, &adds[i])
		}
	}
	err := s.askHeads(ctx, cold)
	if err == nil {
		err = s.write(ctx, nil, &p, adds)
	}
	if err != nil {
		return err
	}
	for i := range adds {
		a := &adds[i]
		if a.n == none {
			continue
		}
		for k := a.first; k >= 0; k = p.all[k].next {
			a.l.apply(a.n, p.all[k].e, 0)
		}
		a.l.foldOf(a.n).log = logEnd{a.at.segment, a.at.offset + a.size()}
	}
	return nil
}

// Outcomes implements Store. What is told of an outcome last is that it was
// there: if we die before, it comes again, and folds ignore what they have seen.
func (s *Redis) Outcomes(ctx context.Context, items []*OutcomeItem) error {
	for some := range slices.Chunk(items, 256) { // one that waits keeps its whole record
		err := s.change(ctx, "note outcomes", func(ctx context.Context) error { return s.outcomes(ctx, some) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Redis) outcomes(ctx context.Context, items []*OutcomeItem) error {
	if err := s.know(ctx); err != nil {
		return err
	}
	records := make([]outcomeRecord, len(items))
	txs := make([]*redis.StringCmd, len(items))
	seen := make([]*redis.IntCmd, len(items))
	pipe := s.client.Pipeline()
	for i, it := range items {
		records[i] = s.key.outcome(it.Outcome)
		txs[i] = pipe.Get(ctx, s.names.tx(records[i].tx))
		seen[i] = pipe.Exists(ctx, s.names.seen(records[i].identity))
	}
	if err := s.exec(ctx, pipe); err != nil {
		return err
	}
	var counted []news
	var parking []int
	here := map[TxHash]bool{}
	for i, it := range items {
		r := &records[i]
		tx, logged := transactionOf(txs[i].Val())
		switch {
		case seen[i].Val() > 0 || here[r.identity]:
			it.Status = OutcomeRepeated
			continue
		case logged:
			it.Status = OutcomeCounted
			counted = append(counted, r.about(tx))
		case it.Known:
			it.Status = OutcomeIdle
			continue
		default:
			it.Status = OutcomeParked
			parking = append(parking, i)
		}
		here[r.identity] = true
	}
	if err := s.park(ctx, items, records, parking); err != nil {
		return err
	}
	everywhere := func(*logged) bool { return true }
	if err := s.tell(ctx, counted, everywhere); err != nil {
		return err
	}
	again := make([]*redis.StringCmd, len(items))
	pipe = s.client.Pipeline()
	for i, it := range items {
		if it.Status == OutcomeCounted || it.Status == OutcomeParked {
			pipe.Set(ctx, s.names.seen(records[i].identity), "1", s.segmentLives())
		}
		if it.Status == OutcomeParked {
			again[i] = pipe.Get(ctx, s.names.tx(records[i].tx))
		}
	}
	s.addChores(ctx, pipe, true)
	if err := s.exec(ctx, pipe); err != nil {
		return err
	}
	s.endChores(true)
	return s.cameMeanwhile(ctx, items, records, again)
}

// about is the entry of an outcome for the logs of its transaction.
func (r *outcomeRecord) about(tx entry) news {
	r.txTime = tx.time()
	return news{tx, appendOutcome(nil, r)}
}

// transactionOf reads an entry that a key of a transaction holds.
func transactionOf(value string) (e entry, ok bool) {
	e, _, ok = nextEntry(bytesOf(value))
	return e, ok && e.kind() == entryTransaction
}

// park lets outcomes wait for their transactions.
func (s *Redis) park(ctx context.Context, items []*OutcomeItem, records []outcomeRecord, which []int) error {
	pipe := s.client.Pipeline()
	for _, i := range which {
		it, r := items[i], &records[i]
		p := parked{Parked{Tx: r.tx, Since: it.Since, Source: it.Source}, *r}
		list := s.names.parked(r.tx)
		pipe.RPush(ctx, list, appendParked(nil, &p))
		pipe.PExpire(ctx, list, s.headLives())
		pipe.ZAddArgs(ctx, s.names.waiting(), redis.ZAddArgs{LT: true, Members: []redis.Z{{Member: r.tx.hex(), Score: float64(int64(it.Since) / 1e6)}}})
		s.parked[r.tx] = true
	}
	return s.exec(ctx, pipe)
}

// cameMeanwhile counts the outcomes whose transaction came while they were
// parked: the member that appended it may have looked just before.
func (s *Redis) cameMeanwhile(ctx context.Context, items []*OutcomeItem, records []outcomeRecord, again []*redis.StringCmd) error {
	var counted []news
	var which []int
	for i, get := range again {
		if get == nil {
			continue
		}
		if tx, ok := transactionOf(get.Val()); ok {
			counted = append(counted, records[i].about(tx))
			which = append(which, i)
		}
	}
	if len(counted) == 0 {
		return nil
	}
	if err := s.tell(ctx, counted, func(*logged) bool { return true }); err != nil {
		return err
	}
	pipe := s.client.Pipeline()
	for _, i := range which {
		items[i].Status = OutcomeCounted
		p := parked{Parked{Tx: records[i].tx, Since: items[i].Since, Source: items[i].Source}, records[i]}
		p.outcome.txTime = 0
		s.forget(ctx, pipe, p.Tx, appendParked(nil, &p))
	}
	return s.exec(ctx, pipe)
}

// forget takes one outcome from those that wait for a transaction.
func (s *Redis) forget(ctx context.Context, pipe redis.Pipeliner, tx TxHash, p []byte) {
	pipe.LRem(ctx, s.names.parked(tx), 0, p)
	pipe.ZRem(ctx, s.names.waiting(), tx.hex())
	delete(s.parked, tx)
}

// awaited finds the outcomes that wait for items of a round, where we know that
// there are some: so that each stands right behind its transaction.
func (s *Redis) awaited(ctx context.Context, r *round) error {
	if len(s.parked) == 0 {
		return nil
	}
	var lists []*redis.StringSliceCmd
	var of []int
	pipe := s.client.Pipeline()
	for i, it := range r.items {
		if r.entries[i] != nil && s.parked[it.Hash] {
			lists = append(lists, pipe.LRange(ctx, s.names.parked(it.Hash), 0, -1))
			of = append(of, i)
		}
	}
	if err := s.exec(ctx, pipe); err != nil {
		return err
	}
	for k, list := range lists {
		for _, value := range list.Val() {
			p, ok := readParked(bytesOf(value))
			if !ok {
				return errShort
			}
			r.outcomes = append(r.outcomes, outcome{int32(of[k]), p.outcome.about(r.entries[of[k]]).e})
		}
	}
	return nil
}

// unpark counts the outcomes that waited for the transactions of a round, and
// lets them wait no more.
func (s *Redis) unpark(ctx context.Context, r *round, lists []*redis.StringSliceCmd) error {
	var counted []news
	pipe := s.client.Pipeline()
	for i, list := range lists {
		if list == nil {
			continue
		}
		for _, value := range list.Val() {
			p, ok := readParked(bytesOf(value))
			if !ok {
				return errShort
			}
			e := p.outcome.about(r.entries[i])
			// One that went along is in the logs, unless its transaction was there before.
			if r.items[i].known || !slices.ContainsFunc(r.outcomes, func(o outcome) bool { return o.e.identity() == p.outcome.identity }) {
				counted = append(counted, e)
			}
			s.forget(ctx, pipe, p.Tx, bytesOf(value))
		}
	}
	if len(counted) > 0 {
		if err := s.tell(ctx, counted, func(*logged) bool { return true }); err != nil {
			return err
		}
	}
	return s.exec(ctx, pipe)
}

// readWaiting reads for which transactions outcomes wait.
func (s *Redis) readWaiting(ctx context.Context) error {
	pipe := s.client.Pipeline()
	all := pipe.ZRange(ctx, s.names.waiting(), 0, -1)
	if err := s.trip(ctx, pipe); err != nil {
		return err
	}
	for _, text := range all.Val() {
		if h, ok := parseTxHash(text); ok {
			s.parked[h] = true
		}
	}
	return nil
}

// parkedBefore returns the outcomes that have waited since before a time, with
// the values that their lists hold.
func (s *Redis) parkedBefore(ctx context.Context, before payment.Time) (old []Parked, values []string, err error) {
	pipe := s.client.Pipeline()
	hashes := pipe.ZRangeArgs(ctx, redis.ZRangeArgs{Key: s.names.waiting(), ByScore: true, Start: "-inf", Stop: int64(before) / 1e6})
	if err := s.exec(ctx, pipe); err != nil {
		return nil, nil, err
	}
	for some := range slices.Chunk(hashes.Val(), 256) {
		pipe := s.client.Pipeline()
		var lists []*redis.StringSliceCmd
		for _, text := range some {
			if h, ok := parseTxHash(text); ok {
				lists = append(lists, pipe.LRange(ctx, s.names.parked(h), 0, -1))
			}
		}
		if err := s.exec(ctx, pipe); err != nil {
			return nil, nil, err
		}
		for _, list := range lists {
			for _, value := range list.Val() {
				p, ok := readParked(bytesOf(value))
				if !ok {
					return nil, nil, errShort
				}
				if p.Since < before {
					old, values = append(old, p.Parked), append(values, value)
				}
			}
		}
	}
	return old, values, nil
}

// Parked implements Store.
func (s *Redis) Parked(ctx context.Context, before payment.Time) (old []Parked, err error) {
	err = s.do(ctx, "look for outcomes that wait", func(ctx context.Context) error {
		old, _, err = s.parkedBefore(ctx, before)
		return err
	})
	slices.SortFunc(old, func(a, b Parked) int { return cmp.Compare(a.Source.Offset, b.Source.Offset) })
	return old, err
}

// ForgetParked implements Store.
func (s *Redis) ForgetParked(ctx context.Context, before payment.Time) error {
	return s.change(ctx, "give up outcomes that wait", func(ctx context.Context) error {
		old, values, err := s.parkedBefore(ctx, before)
		if err != nil {
			return err
		}
		pipe := s.client.Pipeline()
		left := map[TxHash]*redis.StringSliceCmd{}
		for i, p := range old {
			pipe.LRem(ctx, s.names.parked(p.Tx), 0, values[i])
			left[p.Tx] = nil
		}
		for h := range left {
			left[h] = pipe.LRange(ctx, s.names.parked(h), 0, 0)
		}
		if err := s.exec(ctx, pipe); err != nil {
			return err
		}
		pipe = s.client.Pipeline()
		for h, list := range left {
			if len(list.Val()) == 0 {
				pipe.ZRem(ctx, s.names.waiting(), h.hex())
				delete(s.parked, h)
			}
		}
		return s.exec(ctx, pipe)
	})
}
