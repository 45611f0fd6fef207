package pipeline

import (
	"context"
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
		s.recover(lanes, outcomes, since.Add(-s.longestAway(health)))
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
func (s *Service) recover(lanes []*lane, outcomes []*outcomeLane, since time.Time) {
	s.log.Warn("a server of the store was replaced, and may have lost what it had acknowledged: reading Kafka again",
		"store", s.config.storeName(), "from", since.Add(-s.config.Windows.LossBound))
	s.gate.Metrics.losses.Inc()
	s.gate.outages.again()
	s.alertOf(payment.AlertStoreLost)("", fmt.Sprintf("a server of the store %s was replaced, and may have lost what it had acknowledged: Kafka is read again from %s on",
		s.config.storeName(), since.Add(-s.config.Windows.LossBound).UTC().Format(time.TimeOnly)))
	at := since.Add(-s.config.Windows.LossBound)
	for _, l := range lanes {
		l.reread(l.cursor.asOf(at))
	}
	for _, l := range outcomes {
		l.reread(l.cursor.asOf(at).next)
	}
}

// reread lets the folder of a lane fold again what was folded since it was there.
func (l *lane) reread(from milestone) {
	l.pace.deferTo(l.partition, farAhead)
	l.cursor.reopen(from.next, from.decisions)
	l.folder.standFrom(from.decisions)
}

// reread sets a lane of outcomes back.
func (l *outcomeLane) reread(next int64) {
	l.cursor.holdAt(next)
	l.back.Store(1 + next)
}
