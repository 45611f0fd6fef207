package broker

import (
	"context"
	"errors"
)

// ReadRange calls fn for every record of the partition from offset from up to, not including, to, and returns where it
// really began: later than from if the log no longer holds it, which for a ledger is a hole that must not go
// unnoticed. Markers are skipped; the range ends where the log has passed to, even if there is no record there. The
// record is valid during the call. Errors: fn's own, unchanged, and those of Fetch.
//
// An end beyond the log makes it wait for what is still to come.
func (c *Conn) ReadRange(ctx context.Context, topic string, partition int, from, to int64, fn func(Record) error) (began int64, err error) {
	var buf FetchBuffer
	if from == FirstOffset {
		if from, _, err = c.Offsets(ctx, topic, partition); err != nil {
			return from, err
		}
	}
	began = from
	for next := from; next < to; {
		res, err := c.Fetch(ctx, FetchRequest{Topic: topic, Partition: partition, Offset: next, MaxBytes: 4 << 20}, &buf)
		if out := (*OffsetOutOfRangeError)(nil); errors.As(err, &out) && next == from && out.First > from {
			began, from, next = out.First, out.First, out.First
			continue
		}
		if err != nil {
			return began, err
		}
		for _, r := range res.Records {
			if r.Offset >= to {
				return began, nil
			}
			if err := fn(r); err != nil {
				return began, err
			}
		}
		next = res.Next
	}
	return began, nil
}
