package pipeline

import (
	"context"
	"math"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

const (
	// holdPatience is how long an expiry waits for a reader of reviews that comes
	// no further: a partition without a leader must not hold all others.
	holdPatience = 30 * time.Second
	// holdBatch is how many revisions are made at once.
	holdBatch = 500
	// readersPoll is how often we look whether the readers have come far enough.
	readersPoll = 20 * time.Millisecond
	never       = payment.Time(math.MaxInt64)
)

// expire ends holds when their time is up, also where no traffic flows, until
// ctx ends. It sleeps until the next expiry.
func (s *holdShift) expire(ctx, drain context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var reached payment.Time // by the readers, when they moved last
	moved := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.holds.Sooner():
		case <-timer.C:
		}
		now := s.now()
		upTo := s.readTo(now)
		if upTo > reached {
			reached, moved = upTo, time.Now()
		} else if time.Since(moved) >= holdPatience {
			upTo = now
		}
		next, err := s.expireUpTo(drain, min(now, upTo))
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case next <= now: // its time is up, and the readers are not there yet
			timer.Reset(readersPoll)
		default:
			timer.Reset(min(time.Duration(next-now), time.Hour))
		}
	}
}

// expireUpTo makes the revisions of all holds that have expired by a time, and
// returns when the next one expires.
func (s *holdShift) expireUpTo(ctx context.Context, upTo payment.Time) (next payment.Time, err error) {
	next = never
	for p := range s.owns {
		if s.reviser.Pending(p) {
			next = min(next, upTo.Add(pendingLook))
			continue
		}
		for {
			at, ok := s.holds.NextExpiry(p)
			if !ok || at > upTo {
				if ok {
					next = min(next, at)
				}
				break
			}
			if err := s.revise(ctx, p, func() []*payment.Decision { return s.holds.Expire(p, upTo, s.now(), holdBatch) }); err != nil {
				return 0, err
			}
		}
	}
	return next, nil
}

// readTo is the Kafka time up to which everything has been read that could settle
// a hold.
func (s *holdShift) readTo(now payment.Time) payment.Time {
	for _, l := range s.readers {
		now = min(now, payment.Time(l.readTo.Load()))
	}
	return now
}

// pendingLook is how soon a partition is looked at again whose defaults wait for
// their real verdicts.
const pendingLook = 100 * time.Millisecond
