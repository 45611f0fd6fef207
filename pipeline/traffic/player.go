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
	// Send sends records of one kind, in order. Reviews and controls are not sent.
	Send func(ctx context.Context, kind payment.RecordKind, events []Event) error

	due, some []Event // to be sent, and those of one kind
}

// Add puts a record among those that the next Flush sends.
func (p *Player) Add(e Event) { p.due = append(p.due, e) }

// Flush sends what was added.
func (p *Player) Flush(ctx context.Context) error {
	err := p.send(ctx, p.due)
	p.due = p.due[:0]
	return err
}

// Play sends what next gives until ctx ends, which is no error, or next fails.
// What falls due within two milliseconds is sent together.
func (p *Player) Play(ctx context.Context, next func() (Event, error)) error {
	const step, most = 2 * time.Millisecond, 10_000
	began := time.Now()
	tick := time.NewTicker(step)
	defer tick.Stop()
	var sent float64 // transactions
	e, failed := next()
	for {
		now := time.Now()
		for failed == nil && len(p.due) < most {
			if p.Rate > 0 && sent >= now.Sub(began).Seconds()*p.Rate || p.Rate == 0 && e.Time > payment.TimeOf(now) {
				break
			}
			if e.Kind == payment.RecordTransaction {
				sent++
			}
			p.Add(e)
			e, failed = next()
		}
		if err := p.Flush(ctx); err != nil && ctx.Err() == nil {
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

// send sends what is due by kind: transactions first, so that few outcomes come
// before theirs.
func (p *Player) send(ctx context.Context, due []Event) error {
	for _, kind := range []payment.RecordKind{payment.RecordTransaction, payment.RecordOutcome} {
		p.some = p.some[:0]
		for _, e := range due {
			if e.Kind == kind {
				p.some = append(p.some, e)
			}
		}
		if len(p.some) == 0 {
			continue
		}
		if err := p.Send(ctx, kind, p.some); err != nil {
			return err
		}
	}
	return nil
}
