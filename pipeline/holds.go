package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
	"golang.org/x/sync/errgroup"
)

// What a member does about holds, beside its lanes.
//
//	every member  reads all of risk.reviews, and the step-ups in payments.outcomes,
//	              from where the group has committed
//	the owner     of the partition where a transaction's revisions stand makes the next
//	              one: it alone can publish there, so revision N+1 is made once
//	the owner     of a partition of risk.reviews (or of outcomes) sees to it that each of
//	              its records is used, or refused with a dead letter and an alert; its
//	              cursor, which is what the group commits, passes over no other
//
// So what lies below a committed offset needs nobody any more, and whoever comes
// begins there. What was done about a record is seen in risk.decisions alone: the
// revision that it made names it.
//
// A review acts if its Kafka time is before the hold's expiry, however late it is
// read; therefore an expiry waits until the readers have come as far.

// reviser publishes later revisions. The owner of a partition of risk.decisions
// implements it.
type reviser interface {
	// Revise calls next while nothing else is published to the partition, publishes
	// what it returns behind the fence, in order, and tells Holds.Published before
	// anything else is. None is fine. next may be called again where two members
	// claim one revision; an error says that nothing is known of what was published.
	Revise(ctx context.Context, partition int32, next func() []*payment.Decision) error
	// Pending tells that the real verdicts of defaults in a partition are being
	// made: its holds do not expire so long. A backlog that is older than a hold
	// lasts would be blocked else before anybody has looked at it.
	Pending(partition int32) bool
}

// HoldsConfig says when the queue of holds needs somebody.
type HoldsConfig struct {
	WarnPercent int `yaml:"warn_percent"` // of the time of a hold; a reviewer should have claimed it by then
	LongQueue   int `yaml:"long_queue"`   // open holds that wait for a review
}

// DefaultHoldsConfig is what holds where nothing else is said.
func DefaultHoldsConfig() HoldsConfig { return HoldsConfig{WarnPercent: 80, LongQueue: 1000} }

// Validate reports every setting that is out of its bounds.
func (c *HoldsConfig) Validate() error {
	var errs []error
	if c.WarnPercent < 1 || c.WarnPercent > 100 {
		errs = append(errs, fmt.Errorf("holds.warn_percent: %d is not between 1 and 100", c.WarnPercent))
	}
	if c.LongQueue < 1 {
		errs = append(errs, fmt.Errorf("holds.long_queue: %d is less than 1", c.LongQueue))
	}
	return errors.Join(errs...)
}

// holdDesk is what a process knows and needs for holds, over all generations.
type holdDesk struct {
	holds   *ledger.Holds
	decided func(id string) (verdict payment.Verdict, known bool) // revision 1 of a transaction, as the ledger has it
	key     func() window.Key                                     // under which holds knows transactions
	conn    *broker.Conn
	topics  *Topics
	group   string
	limits  payment.Limits
	config  HoldsConfig
	wait    time.Duration // for a transaction that is not known yet
	now     func() payment.Time
	time    func(*broker.Record) payment.Time // Kafka time of a record, see Gate.kafkaTime
	lost    func(topic string, partition int, from int64, err error) (next int64, gone bool)
	refused func(*payment.Refusal)                                      // counts dead letters
	raise   func(code payment.AlertCode, summary string, partition int) // see Alerts; it must not block
	resolve func(code payment.AlertCode, partition int)
	metrics *holdMetrics
	log     *slog.Logger

	owned atomic.Pointer[[]int32] // partitions of risk.decisions whose revisions this member makes
}

// topicRange is a part of one partition of risk.decisions.
type topicRange struct {
	Partition int32
	From, To  int64 // To not included
}

// holdShift is the work of one generation.
type holdShift struct {
	*holdDesk
	reviser reviser
	owns    map[int32]bool
	history []topicRange
	readers []*petitionReader
}

// shift prepares the work of a generation: owned are the partitions of
// risk.decisions that it may publish to, and history what must be read of this
// topic before anything is done about holds, of all partitions: from the oldest
// open hold, as it was committed, to where the caller begins to tell Holds.Saw.
func (k *holdDesk) shift(ctx context.Context, g *broker.Generation, owned []int32, history []topicRange, r reviser) (*holdShift, error) {
	s := &holdShift{holdDesk: k, reviser: r, owns: map[int32]bool{}, history: history}
	for _, p := range owned {
		s.owns[p] = true
	}
	k.owned.Store(&owned)
	for _, topic := range []string{k.topics.Reviews, k.topics.Outcomes} {
		partitions, err := k.conn.Committed(ctx, k.group, topic)
		if err != nil {
			return nil, err
		}
		for _, a := range partitions {
			i := slices.IndexFunc(g.Assigned, func(b broker.Assignment) bool { return b.Topic == topic && b.Partition == a.Partition })
			if i >= 0 {
				a = g.Assigned[i]
			}
			s.readers = append(s.readers, newPetitionReader(s, a, i >= 0))
		}
	}
	return s, nil
}

// reader is the reader of a partition, nil where there is none.
func (s *holdShift) reader(topic string, partition int) *petitionReader {
	for _, l := range s.readers {
		if l.topic == topic && l.partition == partition {
			return l
		}
	}
	return nil
}

// run works until ctx ends; what it has begun then may go on until drain ends. An
// error is one of the broker or of the reviser: the generation must end, and what
// is not committed is read again.
func (s *holdShift) run(ctx, drain context.Context) error {
	defer s.owned.Store(nil)
	if err := s.catchUp(ctx); err != nil {
		return unlessOver(ctx, fmt.Errorf("read the holds that are open: %w", err))
	}
	work, ctx := errgroup.WithContext(ctx)
	for _, l := range s.readers {
		work.Go(func() error { return l.run(ctx, drain) })
	}
	work.Go(func() error { return s.expire(ctx, drain) })
	work.Go(func() error { return s.watch(ctx) })
	return work.Wait()
}

// catchUp reads the history, so that every open hold is known.
func (s *holdShift) catchUp(ctx context.Context) error {
	work, reading := errgroup.WithContext(ctx)
	work.SetLimit(4)
	for _, r := range s.history {
		work.Go(func() error {
			_, err := s.conn.ReadRange(reading, s.topics.Decisions, int(r.Partition), r.From, r.To, func(record broker.Record) error {
				if err := s.holds.Saw(r.Partition, record.Offset, record.Value); err != nil {
					s.log.Error("a record of the ledger cannot be read; it is passed over", "topic", s.topics.Decisions, "error", err)
				}
				return nil
			})
			return err
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	return s.recallClaims(ctx)
}

// recallClaims reads who has claimed the holds that are open: those reviews are
// settled and are not read again else.
func (s *holdShift) recallClaims(ctx context.Context) error {
	since, now := never, s.now()
	for _, needs := range allNeeds {
		if q := s.queueOf(needs, now); q.Open > 0 {
			since = min(since, q.Since)
		}
	}
	if since == never {
		return nil
	}
	from, err := s.conn.OffsetsAt(ctx, s.topics.Reviews, since.Std().UnixMilli())
	if err != nil {
		return err
	}
	decoder := payment.Decoder{Limits: s.limits}
	for p, offset := range from {
		l := s.reader(s.topics.Reviews, p)
		if l == nil || offset >= l.from {
			continue
		}
		if _, err := s.conn.ReadRange(ctx, s.topics.Reviews, p, offset, l.from, func(r broker.Record) error {
			var review payment.Review
			if decoder.Review(r.Value, s.time(&r), &review) == nil {
				s.holds.Note(&review)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// settledUpTo is how far the records of a partition that was assigned to this member
// are used or refused: no offset above it may be committed. ok is false for
// partitions of other members, and topics without holds.
func (s *holdShift) settledUpTo(topic string, partition int) (next int64, ok bool) {
	l := s.reader(topic, partition)
	if l == nil || !l.judges {
		return 0, false
	}
	next = l.settled.Load()
	return next, next >= 0
}

// revise makes the next revisions of a partition, and counts those that end a hold.
func (s *holdShift) revise(ctx context.Context, partition int32, next func() []*payment.Decision) error {
	var made []*payment.Decision
	err := s.reviser.Revise(ctx, partition, func() []*payment.Decision {
		made = next()
		return made
	})
	if err != nil {
		return fmt.Errorf("publish the next revisions of partition %d: %w", partition, err)
	}
	for _, d := range made {
		s.metrics.ended(d)
	}
	return nil
}
