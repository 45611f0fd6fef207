package pipeline

import (
	"context"
	"errors"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
)

// commitEvery is how often offsets are committed at the most: a commit after
// every batch costs two thirds of the throughput, and the ledger makes what is
// read again harmless.
const commitEvery = 100 * time.Millisecond

// settling is what a generation settles, and commits.
type settling struct {
	lanes    []*lane
	outcomes []*outcomeLane
	reviews  []*reviewCommit
	shift    *holdShift
}

// reviewCommit is what was committed of a partition of risk.reviews.
type reviewCommit struct {
	partition int
	committed int64
}

func (s *Service) commitNowAndThen(ctx context.Context, g *broker.Generation, w *settling) error {
	tick := time.NewTicker(commitEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		// One that is under way is finished: were it given up, the broker could carry it out after the last one.
		finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		err := s.commit(finish, g, w)
		cancel()
		if err != nil && ctx.Err() == nil {
			s.log.Warn("offsets were not committed", "error", err)
			if errors.Is(err, broker.ErrGenerationEnded) {
				return err
			}
		}
	}
}

func (s *Service) commit(ctx context.Context, g *broker.Generation, w *settling) error {
	durable := s.gate.Store.Durable()
	name := storeName(s.gate.Store.Key())
	servers := s.ground.Load().servers // before the cursors: they may be set back now
	before := time.Now().Add(-s.config.Windows.LossBound)
	var commits []broker.Commit
	var done []func()
	add := func(topic string, partition int, c *cursor) {
		at, ok := c.ready(durable)
		if upTo, holds := w.shift.settledUpTo(topic, partition); holds {
			at.next = min(at.next, upTo) // a step-up in it may still wait for its payment
			ok = c.moved(at.next)
		}
		if !ok {
			return
		}
		oldest, open := s.gate.Holds.Oldest(int32(partition))
		if !open || topic != s.config.Topics.Transactions {
			oldest = at.decisions
		}
		commits = append(commits, broker.Commit{Topic: topic, Partition: partition, Offset: at.next, Metadata: metadata(name, servers, at, oldest, c.asOf(before))})
		done = append(done, func() { c.committedTo(at.next) })
	}
	for _, l := range w.lanes {
		add(s.config.Topics.Transactions, l.partition, l.cursor)
	}
	for _, l := range w.outcomes {
		add(s.config.Topics.Outcomes, l.partition, l.cursor)
	}
	for _, r := range w.reviews {
		if next, ok := w.shift.settledUpTo(s.config.Topics.Reviews, r.partition); ok && next != r.committed {
			commits = append(commits, broker.Commit{Topic: s.config.Topics.Reviews, Partition: r.partition, Offset: next})
			done = append(done, func() { r.committed = next })
		}
	}
	if len(commits) == 0 {
		return nil
	}
	if err := g.Commit(ctx, commits); err != nil {
		return err
	}
	for _, committed := range done {
		committed()
	}
	return nil
}

// commitLast waits until the journal is durable and commits where the lanes stopped.
func (s *Service) commitLast(ctx context.Context, g *broker.Generation, w *settling) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for written := s.gate.Store.Written(); s.gate.Store.Durable() < written; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	if err := s.commit(ctx, g, w); err != nil && !errors.Is(err, broker.ErrGenerationEnded) {
		s.log.Warn("the last offsets were not committed; their records will be read again", "error", err)
	}
}
