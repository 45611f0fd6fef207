package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// What Redis may lose, it may lose: its append-only file is behind by a second,
// or a replica that was behind has taken over. Nothing that was published is
// contradicted, since the topic of decisions is the ledger; and what the logs
// lack is in Kafka. So when a server of the store was replaced, every lane lets
// its folder read once more what was folded since a bound before, and the lanes of
// outcomes go back as far. Entries that the logs still have are ignored there.

// ground is what the cursors of the lanes rest on: servers of the store that have
// all that was folded. Offsets are committed with it, so that the next owner of a
// partition knows whether the store may have lost something since.
type ground struct {
	epoch   uint64
	servers string
}

func groundOf(store window.Store) *ground {
	for {
		g := &ground{epoch: store.Epoch(), servers: store.Incarnation()}
		if store.Epoch() == g.epoch {
			return g
		}
	}
}

// holds tells whether it is what offsets were committed with.
func (g *ground) holds(servers string) bool { return g.servers != "" && g.servers == servers }

// watchStore looks whether the store is there, and whether it has lost something
// while we use it; and whether the machine's clock was set.
func (s *Service) watchStore(ctx context.Context, lanes []*lane, outcomes []*outcomeLane) error {
	tick := time.NewTicker(2 * lookAgain)
	defer tick.Stop()
	away := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		s.sayClock()
		health := s.gate.Store.Health()
		if health.Away != away {
			away = health.Away
			s.sayAway(health)
		}
		for _, l := range lanes {
			s.gate.Metrics.setUnfolded(l.partition, l.cursor.behind())
		}
		if err := s.gate.outages.mark(ctx, s.gate.Store); err != nil {
			return unlessOver(ctx, err)
		}
		now := groundOf(s.gate.Store)
		if now.epoch == s.ground.Load().epoch || away {
			continue
		}
		since := time.Now()
		if !health.Since.IsZero() {
			since = health.Since // when it was last back: what was lost was lost before it went
		}
		err := s.recover(ctx, lanes, outcomes, since.Add(-s.longestAway(health)))
		if errors.Is(err, window.ErrAway) {
			continue
		}
		if err != nil {
			return unlessOver(ctx, err)
		}
		s.ground.Store(now) // from here on commits say that the cursors were set back
	}
}

// sayAway tells operations that the store went away, or is back.
func (s *Service) sayAway(h window.Health) {
	alert := s.alertOf(payment.AlertStoreAway)
	if !h.Away {
		s.log.Info("the store is back; what was answered without it is folded now", "store", s.config.storeName())
		alert("", "")
		return
	}
	s.log.Warn("the store is away: payments are answered by what is in memory", "store", s.config.storeName(), "error", h.Err)
	s.wentAway = h.Since
	alert("", fmt.Sprintf("the store %s is away: payments are answered by what is in memory, and say so (%v)", s.config.storeName(), h.Err))
}

// longestAway is how long the store was away before it came back.
func (s *Service) longestAway(h window.Health) time.Duration {
	if s.wentAway.IsZero() {
		return 0
	}
	return max(0, h.Since.Sub(s.wentAway))
}

// sayClock tells operations that the machine's clock cannot be trusted.
func (s *Service) sayClock() {
	skew, steps := s.gate.clock.skew()
	alert := s.alertOf(payment.AlertClockSkew)
	if skew.Abs() < clockStep {
		alert("", "")
		return
	}
	alert("", fmt.Sprintf("this machine's clock is not followed: it is %v off the time that records bear out; it was set %d times since the start", skew.Round(time.Millisecond), steps))
}

// recover reads again what the store may have lost up to a time.
func (s *Service) recover(ctx context.Context, lanes []*lane, outcomes []*outcomeLane, since time.Time) error {
	s.log.Warn("a server of the store was replaced, and may have lost what it had acknowledged: reading Kafka again",
		"store", s.config.storeName(), "from", since.Add(-s.config.Windows.LossBound))
	s.gate.Metrics.losses.Inc()
	s.gate.outages.again()
	s.alertOf(payment.AlertStoreLost)("", fmt.Sprintf("a server of the store %s was replaced, and may have lost what it had acknowledged: Kafka is read again from %s on",
		s.config.storeName(), since.Add(-s.config.Windows.LossBound).UTC().Format(time.TimeOnly)))
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
