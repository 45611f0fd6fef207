package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
)

// An embedded store sees only what its own member has folded, so its member
// shares a group with nobody. Who comes second must not disturb the first:
// joining would take partitions away from it. So a newcomer looks before it
// joins. A process that was killed is a member until its session has run out,
// and one that was killed while it joined for one session more; nobody can tell
// these from a living one but by waiting.

// awaitEmptyGroup returns nil when the group has no member, or ctx has ended.
func (s *Service) awaitEmptyGroup(ctx context.Context) error {
	return s.awaitNobody(ctx, s.patience(), func() ([]broker.Member, error) {
		return s.conn.Members(ctx, s.config.Kafka.Group)
	})
}

// alone returns nil when the member has the group for itself. Two that came at
// the same moment see each other here: the one with the lesser id stays.
func (s *Service) alone(ctx context.Context, g *broker.Generation) error {
	patience := s.patience()
	others, err := g.Others(ctx)
	if err != nil || len(others) == 0 {
		return err
	}
	first := true
	for _, o := range others {
		first = first && g.MemberID < o.ID
	}
	if first {
		patience *= 2
	}
	if err := s.awaitNobody(ctx, patience, func() ([]broker.Member, error) { return g.Others(ctx) }); err != nil {
		return err
	}
	return ctx.Err()
}

// patience is how long those who died can still be members.
func (s *Service) patience() time.Duration { return 2*s.config.Kafka.SessionTimeout + time.Second }

// awaitNobody waits until there is no other member; one that stays is an error.
func (s *Service) awaitNobody(ctx context.Context, patience time.Duration, others func() ([]broker.Member, error)) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for began, told := time.Now(), false; ; {
		found, err := others()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil || len(found) == 0 {
			return err
		}
		if time.Since(began) > patience {
			return fmt.Errorf("group %s has another member (client %s at %s): an embedded store cannot be shared; stop the other one, or give this one a group of its own",
				s.config.Kafka.Group, found[0].ClientID, found[0].Host)
		}
		if !told {
			told = true
			s.log.Info("waiting for an earlier member of the group to be gone", "group", s.config.Kafka.Group, "client", found[0].ClientID, "at", found[0].Host, "at_most", patience)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
