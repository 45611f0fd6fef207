package pipeline

import (
	"context"
	"errors"
	"time"

	"github.com/sluice-risk/sluice/pipeline/window"
)

// What Redis may lose, it may lose: its append-only file is behind by a second,
// or a replica that was behind has taken over. Nothing that was published is
// contradicted, since the topic of decisions is the ledger; and what the logs
// lack is in Kafka. So when a server of the store was replaced, every lane lets
// its folder read once more what was folded since a bound before, and the lanes of
// outcomes go back as far. Entries that the logs still have are ignored there.

// watchStore looks whether the store has lost something while we use it.
func (s *Service) watchStore(ctx context.Context, lanes []*lane, outcomes []*outcomeLane) error {
	tick := time.NewTicker(2 * lookAgain)
	defer tick.Stop()
	epoch := s.gate.Store.Epoch()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := s.gate.Store.Epoch()
		if now == epoch {
			continue
		}
		since := time.Now()
		if away := s.gate.Store.Health().Since; !away.IsZero() {
			since = away
		}
		err := s.recover(ctx, lanes, outcomes, since)
		if errors.Is(err, window.ErrAway) {
			continue
		}
		if err != nil {
			return unlessOver(ctx, err)
		}
		epoch = now
	}
}

// recover reads again what the store may have lost up to a time.
func (s *Service) recover(ctx context.Context, lanes []*lane, outcomes []*outcomeLane, since time.Time) error {
	s.log.Warn("a server of the store was replaced, and may have lost what it had acknowledged: reading Kafka again",
		"store", s.config.storeName(), "from", since.Add(-s.config.Windows.LossBound))
	s.gate.Metrics.losses.Inc()
	for _, l := range lanes {
		if err := s.reread(ctx, l, since); err != nil {
			return err
		}
	}
	return s.rereadOutcomes(ctx, outcomes, since)
}

// reread lets the folder of a lane fold again what was folded since the bound before a time.
func (s *Service) reread(ctx context.Context, l *lane, since time.Time) error {
	at := since.Add(-s.config.Windows.LossBound).UnixMilli()
	transactions, err := s.conn.OffsetsAt(ctx, l.topics.Transactions, at)
	if err != nil {
		return err
	}
	decisions, err := s.conn.OffsetsAt(ctx, l.topics.Decisions, at)
	if err != nil {
		return err
	}
	l.pace.deferTo(l.partition, farAhead)
	l.cursor.reopen(transactions[l.partition], decisions[l.partition])
	l.folder.standFrom(decisions[l.partition])
	return nil
}

// rereadOutcomes sets lanes of outcomes back as far.
func (s *Service) rereadOutcomes(ctx context.Context, outcomes []*outcomeLane, since time.Time) error {
	if len(outcomes) == 0 {
		return nil
	}
	offsets, err := s.conn.OffsetsAt(ctx, s.config.Topics.Outcomes, since.Add(-s.config.Windows.LossBound).UnixMilli())
	if err != nil {
		return err
	}
	for _, l := range outcomes {
		l.back.Store(1 + offsets[l.partition])
	}
	return nil
}
