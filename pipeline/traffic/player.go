package traffic

import (
	"context"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Player sends a stream of records by the wall clock.
type Player struct {
	// Rate is transactions a second; outcomes come on top. With 0 each record is
	// sent when its own event time comes.
	Rate float64
	// Send sends records of one kind, in order.
	Send func(ctx context.Context, kind payment.RecordKind, events []Event) error
}

// Play sends what next gives until ctx ends, which is no error, or next fails.
// What falls due within ten milliseconds is sent together.
func (p *Player) Play(ctx context.Context, next func() (Event, error)) error {
	const step, most = 10 * time.Millisecond, 10_000
	began := time.Now()
	tick := time.NewTicker(step)
	defer tick.Stop()
	var sent float64 // transactions
	var due []Event
	e, failed := next()
	for {
		now := time.Now()
		for due = due[:0]; failed == nil && len(due) < most; e, failed = next() {
			if p.Rate > 0 && sent >= now.Sub(began).Seconds()*p.Rate || p.Rate == 0 && e.Time > payment.TimeOf(now) {
				break
			}
			if e.Kind == payment.RecordTransaction {
				sent++
			}
			due = append(due, e)
		}
		if err := p.send(ctx, due); err != nil && ctx.Err() == nil {
			return err
		}
		if failed != nil {
			return failed
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// send sends runs of the same kind.
func (p *Player) send(ctx context.Context, due []Event) error {
	for len(due) > 0 {
		n := 1
		for n < len(due) && due[n].Kind == due[0].Kind {
			n++
		}
		if k := due[0].Kind; k == payment.RecordTransaction || k == payment.RecordOutcome {
			if err := p.Send(ctx, k, due[:n]); err != nil {
				return err
			}
		}
		due = due[n:]
	}
	return nil
}
