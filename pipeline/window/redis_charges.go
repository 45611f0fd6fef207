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

// nameEarlier adds to the earlier charges of items what their log does not say:
// what any member has decided about them, and the ids of those that this member
// has folded itself, of which it keeps one entry for all logs. It asks only where
// there are some, which is rare.
func (s *Redis) nameEarlier(ctx context.Context, items []*Item) error {
	type asked struct {
		of           *Earlier
		tx, decision *redis.StringCmd
	}
	var all []asked
	pipe := s.client.Pipeline()
	for _, it := range items {
		for i := range it.Earlier {
			a := asked{of: &it.Earlier[i]}
			a.decision = pipe.Get(ctx, s.names.decision(a.of.Tx))
			if a.of.ID == "" {
				a.tx = pipe.Get(ctx, s.names.tx(a.of.Tx))
			}
			all = append(all, a)
		}
	}
	if err := s.exec(ctx, pipe); err != nil {
		return err
	}
	for _, a := range all {
		if text := a.decision.Val(); text != "" {
			a.of.Decision = []byte(text)
		}
		if a.tx == nil {
			continue
		}
		if e, ok := transactionOf(a.tx.Val()); ok {
			a.of.ID = e.name()
		}
	}
	return nil
}

// named is an entry with the id of its transaction, until the round is over.
func (r *round) named(e entry, id string) entry {
	from := len(r.names)
	r.names = endEntry(append(append(r.names, e...), id...), from)
	return r.names[from:len(r.names):len(r.names)]
}
