package window

import (
	"context"
	"fmt"
	"strconv"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Progress is how far a partition of the transactions topic has been noted.
type Progress struct {
	Noted    payment.Time // everything before this event time is in the logs
	CaughtUp bool         // the partition was read to its end
	At       payment.Time // when its owner said so, by the owner's clock, in whole milliseconds
}

// SetProgress tells the other members how far a partition is. The error wraps
// ErrAway where the store does not take it.
func (s *Redis) SetProgress(ctx context.Context, partition int, p Progress) error {
	if s.opts.ReadOnly {
		return ErrReadOnly
	}
	caughtUp := 0
	if p.CaughtUp {
		caughtUp = 1
	}
	text := fmt.Sprintf("%d %d %d", int64(p.Noted), caughtUp, int64(p.At)/1e6)
	pipe := s.client.Pipeline()
	pipe.HSet(ctx, s.names.progress(), strconv.Itoa(partition), text)
	if err := s.send(ctx, pipe); err != nil {
		return s.failed("tell the progress of a partition", err)
	}
	return nil
}

// Progress returns what the members have said of their partitions.
func (s *Redis) Progress(ctx context.Context) (map[int]Progress, error) {
	pipe := s.client.Pipeline()
	fields := pipe.HGetAll(ctx, s.names.progress())
	if err := s.send(ctx, pipe); err != nil {
		return nil, s.failed("read the progress of partitions", err)
	}
	all := make(map[int]Progress, len(fields.Val()))
	for field, text := range fields.Val() {
		var noted, caughtUp, at int64
		partition, err := strconv.Atoi(field)
		if err == nil {
			_, err = fmt.Sscanf(text, "%d %d %d", &noted, &caughtUp, &at)
		}
		if err != nil {
			return nil, s.failed("read the progress of partitions", fmt.Errorf("%w: %s of %s is %q", ErrCorrupt, field, s.names.progress(), text))
		}
		all[partition] = Progress{Noted: payment.Time(noted), CaughtUp: caughtUp == 1, At: payment.Time(at * 1e6)}
	}
	return all, nil
}
