// Package load sends what a gate may be sent, in real time, from one seed: payments
// and their outcomes, some of which come again, and records that cannot be used.
package load

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/traffic"
	"golang.org/x/sync/errgroup"
)

// Feed is a steady flow of payments whose event time is the present. One in a
// hundred comes again, at once or up to half a minute later, half of these to
// another partition; one in two hundred cannot be used; one in a thousand is
// followed by another one under the same id. One outcome in a hundred comes again.
type Feed struct {
	Conn                   *broker.Conn
	Transactions, Outcomes string // topics
	Partitions             int    // of each
	Seed                   uint64
	Rate                   float64 // payments per second
	Payments               int     // at the least
	// Apart is how much later at the least a payment comes again in another partition.
	Apart time.Duration

	sent atomic.Int64
}

// Sent is how many payments were sent so far, each once.
func (f *Feed) Sent() int { return int(f.sent.Load()) }

const tick = 50 * time.Millisecond

// Run sends the payments, and more of them until enough is closed. It returns
// when Kafka has all of them. A partition that cannot be written to is waited for
// and holds up no other.
func (f *Feed) Run(ctx context.Context, enough <-chan struct{}) error {
	work, ctx := errgroup.WithContext(ctx)
	var lanes []*lane
	for p := range f.Partitions {
		for _, topic := range []string{f.Transactions, f.Outcomes} {
			l := &lane{topic: topic, partition: p, more: make(chan struct{}, 1)}
			lanes = append(lanes, l)
			work.Go(func() error { return l.send(ctx, f.Conn) })
		}
	}
	work.Go(func() error {
		defer func() {
			for _, l := range lanes {
				close(l.more)
			}
		}()
		return f.make(ctx, lanes, enough)
	})
	return work.Wait()
}

// again is a payment that will come once more.
type again struct {
	at        time.Time
	partition int
	message   broker.Message
}

// make fills the lanes in real time: those of transactions are the even ones.
func (f *Feed) make(ctx context.Context, lanes []*lane, enough <-chan struct{}) error {
	rng := rand.New(rand.NewPCG(f.Seed, 2))
	start := time.Now()
	stream := traffic.New(traffic.Config{Seed: f.Seed, Start: payment.TimeOf(start), Rate: f.Rate, People: int(max(2000, 10*f.Rate)), OutcomeSpeed: 20_000})
	next := stream.Next()
	var later []again
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	for {
		now := time.Now()
		for ; next.Time <= payment.TimeOf(now); next = stream.Next() {
			m := broker.Message{Key: []byte(next.Key), Value: next.Value}
			home := Home(next.Key, f.Partitions)
			if next.Kind == payment.RecordOutcome {
				lanes[2*home+1].put(m)
				if rng.IntN(100) == 0 {
					lanes[2*home+1].put(m)
				}
				continue
			}
			f.sent.Add(1)
			by := payment.Time(0)
			if rng.IntN(2) == 0 {
				by = next.Time.Add(300*time.Millisecond + time.Duration(rng.Int64N(int64(1700*time.Millisecond))))
			}
			m.Value = AnswerBy(m.Value, by)
			switch n := rng.IntN(1000); {
			case n < 5:
				m.Value = Spoil(rng, m.Value)
			case n == 5: // comes later than the first and in the same partition, so it is known which one counts
				later = append(later, again{now.Add(time.Duration(rng.Int64N(int64(5 * time.Second)))), home, broker.Message{Key: m.Key, Value: Contradict(m.Value)}})
			}
			lanes[2*home].put(m)
			if rng.IntN(100) == 0 {
				a := again{now.Add(time.Duration(rng.IntN(4)) * time.Duration(rng.Int64N(int64(10*time.Second)))), home, m}
				if rng.IntN(2) == 0 {
					a.partition = (home + 1 + rng.IntN(max(1, f.Partitions-1))) % f.Partitions
					a.at = a.at.Add(f.Apart)
				}
				later = append(later, a)
			}
		}
		over := f.Sent() >= f.Payments && closed(enough)
		rest := later[:0]
		for _, l := range later {
			if l.at.After(now) && !over {
				rest = append(rest, l)
				continue
			}
			lanes[2*l.partition].put(l.message)
		}
		if later = rest; over {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticks.C:
		}
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// lane is what waits to be sent to one partition.
type lane struct {
	topic     string
	partition int
	more      chan struct{} // has a token when something waits; closed when nothing more will

	mu      sync.Mutex
	waiting []broker.Message
}

func (l *lane) put(m broker.Message) {
	l.mu.Lock()
	l.waiting = append(l.waiting, m)
	l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
}

// take returns some of what waits.
func (l *lane) take() []broker.Message {
	const most = 500
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(most, len(l.waiting))
	taken := l.waiting[:n:n]
	l.waiting = l.waiting[n:]
	return taken
}

func (l *lane) send(ctx context.Context, conn *broker.Conn) error {
	for range l.more {
		for some := l.take(); len(some) > 0; some = l.take() {
			if err := conn.Produce(ctx, l.topic, l.partition, some); err != nil {
				return err
			}
		}
	}
	return nil
}
