package window

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Nearly every charge comes once. Where nothing but EarlierCharges looks at
// charges, one that is not in memory is not read before it is appended to: its log
// is assumed to be empty. If it is not, the length that comes back says so, as when
// another member has written; if its first segment is gone, head says so, which is
// asked in the same round trip.

// assumeEmpty makes the fold of a charge whose log is assumed to be empty.
func (s *Redis) assumeEmpty(l *logged, key uint64) uint32 {
	n := s.begin(l, key)
	l.loaded(n)
	l.foldOf(n).log = logEnd{segment: 1}
	return n
}

// loadAssumed loads the charges that were assumed to be empty where the log of
// another entity says that their transaction came before: then it stands in this
// one too, and is not to be appended again.
func (s *Redis) loadAssumed(ctx context.Context, r *round) error {
	var adds []*addition
	for k, l := range s.logs {
		if !l.onlyEarlier {
			continue
		}
		for i, it := range r.items {
			a := r.addition(k, i)
			if a == nil || !a.assumed || !it.known {
				continue
			}
			touched := l.side[a.n].touched
			a.n, a.assumed = s.begin(l, a.key), false
			l.side[a.n].touched = touched
			adds = append(adds, a)
		}
	}
	return s.load(ctx, r, adds)
}

// nameEarlier adds to the earlier charges of items what their log does not say:
// what any member has decided about them, and the ids of those that this member
// has folded itself, of which it keeps one entry for all logs. It asks only where
// there are some, which is rare.
func (s *Redis) nameEarlier(ctx context.Context, items []*Item) error {
	type asked struct {
		item, place  int
		tx, decision *redis.StringCmd
	}
	var all []asked
	pipe := s.client.Pipeline()
	for i, it := range items {
		for k := range it.Earlier {
			q := &it.Earlier[k]
			a := asked{item: i, place: k, decision: pipe.Get(ctx, s.names.decision(q.Tx))}
			if q.ID == "" {
				a.tx = pipe.Get(ctx, s.names.tx(q.Tx))
			}
			all = append(all, a)
		}
	}
	if pipe.Len() == 0 {
		return nil
	}
	if err := s.exec(ctx, pipe); err != nil {
		return err
	}
	for _, a := range all {
		it := items[a.item]
		if a.place >= len(it.Earlier) {
			continue // its caller has left meanwhile, and this is a substitute
		}
		q := &it.Earlier[a.place]
		if text := a.decision.Val(); text != "" {
			q.Decision = []byte(text)
		}
		if a.tx == nil {
			continue
		}
		if e, ok := transactionOf(a.tx.Val()); ok {
			q.ID = e.name()
		}
	}
	return nil
}

// name keeps the entry of an item with the id of its transaction, until the round
// is over: also where its caller leaves.
func (r *round) name(item int, id string) {
	from := len(r.names)
	r.names = endEntry(append(append(r.names, r.entries[item]...), id...), from)
	r.named[item] = r.names[from:len(r.names):len(r.names)]
}
