package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sluice-risk/sluice/benchmarks/storm/load"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/traffic"
)

// sharedFeed sends the payments and outcomes of people who share cards' merchants,
// devices and addresses, over all partitions. One payment in a hundred comes
// again, half of these to another partition; one in two hundred cannot be used.
// Most can still be answered in time when they are read; of one chunk in ten
// no payment can, so that they are folded as a backlog is.
type sharedFeed struct {
	c       *crew
	size    int
	allowed chan int
	ended   chan error
	start   payment.Time
}

const (
	sharedSeed = 20261124
	sharedRate = 20 // payments per second of event time
)

func newSharedFeed(c *crew, size, steps int) *sharedFeed {
	past := time.Duration(size)*time.Second/sharedRate + 20*time.Minute
	f := &sharedFeed{c: c, size: size, allowed: make(chan int, steps), ended: make(chan error, 1), start: payment.TimeOf(time.Now().Add(-past))}
	go func() { f.ended <- f.send() }()
	return f
}

// allow lets so many more payments go.
func (f *sharedFeed) allow(n int) { f.allowed <- n }

// done waits until everything is sent.
func (f *sharedFeed) done() error {
	close(f.allowed)
	return <-f.ended
}

func (f *sharedFeed) send() error {
	rng := rand.New(rand.NewPCG(sharedSeed, 2))
	stream := traffic.New(traffic.Config{Seed: sharedSeed, Start: f.start, Rate: sharedRate, People: 6000, OutcomeSpeed: 2000})
	ctx := f.c.within(15 * time.Minute)
	type again struct {
		at        int // when so many were sent
		partition int
		message   broker.Message
	}
	var later []again
	var transactions, outcomes [crewPartitions][]broker.Message
	sent := 0
	for n := range f.allowed {
		for n > 0 && sent < f.size {
			size := min(n, 1+rng.IntN(400), f.size-sent)
			deadline := payment.TimeOf(time.Now().Add(time.Hour))
			if rng.IntN(10) == 0 {
				deadline = 0
			}
			now := int64(f.start / 1e6)
			for made := 0; made < size; {
				e := stream.Next()
				now = int64(e.Time / 1e6)
				m := broker.Message{Key: []byte(e.Key), Value: e.Value, Time: now}
				home := load.Home(e.Key, crewPartitions)
				if e.Kind == payment.RecordOutcome {
					outcomes[home] = append(outcomes[home], m)
					if rng.IntN(100) == 0 {
						to := rng.IntN(crewPartitions)
						outcomes[to] = append(outcomes[to], m)
					}
					continue
				}
				made++
				sent++
				m.Value = load.AnswerBy(m.Value, deadline)
				if rng.IntN(200) == 0 {
					m.Value = load.Spoil(rng, m.Value)
				}
				transactions[home] = append(transactions[home], m)
				if rng.IntN(100) == 0 { // comes again, at once or much later, half of them elsewhere
					to := home
					if rng.IntN(2) == 0 {
						to = (home + 1 + rng.IntN(crewPartitions-1)) % crewPartitions
					}
					later = append(later, again{sent + rng.IntN(4)*rng.IntN(3000), to, m})
				}
			}
			rest := later[:0]
			for _, l := range later {
				if l.at > sent && sent < f.size {
					rest = append(rest, l)
					continue
				}
				l.message.Time = now
				transactions[l.partition] = append(transactions[l.partition], l.message)
			}
			later = rest
			for _, p := range rng.Perm(crewPartitions) {
				if err := f.c.conn.Produce(ctx, f.c.transactions(), p, transactions[p]); err != nil {
					return err
				}
				if err := f.c.conn.Produce(ctx, f.c.outcomes(), p, outcomes[p]); err != nil {
					return err
				}
				transactions[p], outcomes[p] = nil, nil
			}
			n -= size
		}
	}
	if sent < f.size {
		return fmt.Errorf("%d of %d payments were sent", sent, f.size)
	}
	return nil
}
