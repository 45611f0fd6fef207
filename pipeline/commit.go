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

func (s *Service) commitNowAndThen(ctx context.Context, g *broker.Generation, lanes []*lane, outcomes []*outcomeLane) error {
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
		err := s.commit(finish, g, lanes, outcomes)
		cancel()
		if err != nil && ctx.Err() == nil {
			s.log.Warn("offsets were not committed", "error", err)
			if errors.Is(err, broker.ErrGenerationEnded) {
				return err
			}
		}
	}
}

func (s *Service) commit(ctx context.Context, g *broker.Generation, lanes []*lane, outcomes []*outcomeLane) error {
	durable := s.gate.Store.Durable()
	name := storeName(s.gate.Store.Key())
	var commits []broker.Commit
	var done []*cursor
	add := func(topic string, partition int, c *cursor) {
		if at, ok := c.ready(durable); ok {
			commits = append(commits, broker.Commit{Topic: topic, Partition: partition, Offset: at.next, Metadata: metadata(name, s.gate.Store.Incarnation(), at, time.Now())})
			done = append(done, c)
		}
	}
	for _, l := range lanes {
		add(s.config.Topics.Transactions, l.partition, l.cursor)
	}
	for _, l := range outcomes {
		add(s.config.Topics.Outcomes, l.partition, l.cursor)
	}
	if len(commits) == 0 {
		return nil
	}
	if err := g.Commit(ctx, commits); err != nil {
		return err
	}
	for i, c := range done {
		c.committedTo(commits[i].Offset)
	}
	return nil
}

// commitLast waits until the journal is durable and commits where the lanes stopped.
func (s *Service) commitLast(ctx context.Context, g *broker.Generation, lanes []*lane, outcomes []*outcomeLane) {
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
	if err := s.commit(ctx, g, lanes, outcomes); err != nil && !errors.Is(err, broker.ErrGenerationEnded) {
		s.log.Warn("the last offsets were not committed; their records will be read again", "error", err)
	}
}
