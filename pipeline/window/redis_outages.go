package window

import (
	"context"
	"fmt"
)

// Outage implements Store. It changes what any fold may hold, so all are made
// again; other members see that the key has grown with their next append.
func (s *Redis) Outage(ctx context.Context, o Outage) error {
	return s.change(ctx, "mark an outage", func(ctx context.Context) error {
		pipe := s.client.Pipeline()
		pipe.Append(ctx, s.names.outages(), string(appendOutage(nil, &o)))
		if err := s.exec(ctx, pipe); err != nil {
			return err
		}
		if err := s.readOutages(ctx); err != nil {
			return err
		}
		s.useGroups(s.groups()[:s.ours])
		return nil
	})
}

// readOutages reads all that were marked and taken back.
func (s *Redis) readOutages(ctx context.Context) error {
	pipe := s.client.Pipeline()
	get := pipe.Get(ctx, s.names.outages())
	if err := s.trip(ctx, pipe); err != nil {
		return err
	}
	data := bytesOf(get.Val())
	s.marked = int64(len(data))
	s.outages = outages{}
	for len(data) > 0 {
		e, rest, ok := nextEntry(data)
		if !ok || e.kind() != entryOutage {
			return fmt.Errorf("%w: no outage at %d of %s", ErrCorrupt, s.marked-int64(len(data)), s.names.outages())
		}
		o, ok := readOutage(e)
		if !ok {
			return errShort
		}
		s.outages.set(s.key, o)
		data = rest
	}
	return nil
}
