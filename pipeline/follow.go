package pipeline

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"golang.org/x/sync/errgroup"
)

// Members that share a store ask it who was first to decide a payment that comes
// twice, in partitions of two of them. While the store is away, or when it has
// lost what it knew, nobody answers. So each member also follows the decisions
// that the others publish: a payment that was decided a moment ago is known to
// all, whatever became of the store. What two members decide within the same
// milliseconds while the store is away nobody can prevent.

// follower indexes the decisions of partitions that are not ours. It lives as
// long as the service, and its lanes come and go with generations.
type follower struct {
	s *Service

	mu    sync.Mutex
	next  map[int]int64 // by partition: the first decision that was not seen yet
	first map[int]int64 // and the first that was
}

// followBack is how far back a member knows the decisions of all partitions when
// it starts: from a payment's decision to a copy of it that is not refused for
// its event time no more can pass than the bound on the future.
func (s *Service) followBack() time.Duration { return 2 * s.config.Windows.FutureBound }

// begin reads the last decisions of all partitions.
func (f *follower) begin(ctx context.Context) error {
	topic, started := f.s.config.Topics.Decisions, time.Now()
	from, err := f.s.conn.OffsetsAt(ctx, topic, started.Add(-f.s.followBack()).UnixMilli())
	if err != nil {
		return err
	}
	ends, err := f.s.conn.TopicOffsets(ctx, topic)
	if err != nil {
		return err
	}
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(4)
	for p := range from {
		f.first[p] = from[p]
		work.Go(func() error {
			_, err := f.s.conn.ReadRange(ctx, topic, p, from[p], ends[p].End, func(r broker.Record) error {
				f.saw(p, &r)
				return nil
			})
			f.seen(p, ends[p].End)
			return err
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	f.s.gate.Ledger.Began(payment.TimeOf(started).Add(-f.s.followBack() + f.s.config.Windows.FutureBound))
	return nil
}

func (f *follower) seen(partition int, next int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next[partition] = max(f.next[partition], next)
}

// began is the first decision of a partition that was seen.
func (f *follower) began(partition int) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.first[partition]
}

func (f *follower) from(partition int) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next[partition]
}

// catchUp indexes what was decided in a partition that becomes ours, up to where
// its commit says that lane and index go on: nobody follows between generations.
func (f *follower) catchUp(ctx context.Context, partition int, upTo int64) error {
	from := f.from(partition)
	if from >= upTo {
		return nil
	}
	_, err := f.s.conn.ReadRange(ctx, f.s.config.Topics.Decisions, partition, from, upTo, func(r broker.Record) error {
		f.saw(partition, &r)
		return nil
	})
	if err == nil {
		f.seen(partition, upTo)
	}
	return err
}

// hurry indexes what was decided in the partitions of other members while we had
// none, before lanes begin: a payment may have come in two. A partition that cannot
// be read now is not waited for.
func (f *follower) hurry(ctx context.Context, ours map[int]*lane, most time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	ends, err := f.s.conn.TopicOffsets(ctx, f.s.config.Topics.Decisions)
	if err != nil {
		return unlessOver(ctx, err)
	}
	work, ctx := errgroup.WithContext(ctx)
	for p, end := range ends {
		if ours[p] != nil {
			continue // see takeOver
		}
		work.Go(func() error { return unlessOver(ctx, f.catchUp(ctx, p, end.End)) })
	}
	return work.Wait()
}

// saw indexes one decision.
func (f *follower) saw(partition int, r *broker.Record) {
	if err := f.s.gate.Holds.Saw(int32(partition), r.Offset, r.Value); err != nil {
		f.s.log.Error("a record of the ledger cannot be read; it is passed over", "partition", partition, "offset", r.Offset, "error", err)
		return
	}
	m, revision, err := ledger.MarkOf(f.s.gate.Store.Key(), int32(partition), r.Offset, r.Value)
	switch {
	case err != nil: // said above
	case revision > 1:
		f.s.gate.Ledger.Revise(m.Tx, m.Latest)
	default:
		f.s.gate.Ledger.Add(m, r.Value)
	}
}

// others follows the partitions of other members until ctx ends.
func (f *follower) others(ctx context.Context, ours map[int]*lane) error {
	n, err := f.s.conn.Partitions(ctx, f.s.config.Topics.Decisions)
	if err != nil {
		return unlessOver(ctx, err)
	}
	work, ctx := errgroup.WithContext(ctx)
	for p := range n {
		if ours[p] == nil {
			work.Go(func() error { return unlessOver(ctx, f.follow(ctx, p)) })
		}
	}
	return work.Wait()
}

func (f *follower) follow(ctx context.Context, partition int) error {
	var buffer broker.FetchBuffer
	for next := f.from(partition); ; {
		got, err := f.s.conn.Fetch(ctx, broker.FetchRequest{Topic: f.s.config.Topics.Decisions, Partition: partition, Offset: next}, &buffer)
		var outside *broker.OffsetOutOfRangeError
		if errors.As(err, &outside) {
			next = min(max(next, outside.First), outside.End)
			continue
		}
		if err != nil {
			return err
		}
		for i := range got.Records {
			f.saw(partition, &got.Records[i])
		}
		next = got.Next
		f.seen(partition, next)
	}
}
