package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// arm is one of the things that a question compares.
type arm struct {
	name   string
	run    func(ctx context.Context, n int) (cost, error) // takes the next n transactions of its stream
	rounds []cost
}

// interleave measures each arm once a round, in another order each time.
func interleave(ctx context.Context, arms []*arm, rounds, n int) error {
	for round := range rounds {
		for _, i := range rand.New(rand.NewPCG(uint64(round), 0)).Perm(len(arms)) {
			runtime.GC() // what an arm leaves behind is not the next one's
			c, err := arms[i].run(ctx, n)
			if err != nil {
				return err
			}
			arms[i].rounds = append(arms[i].rounds, c)
		}
	}
	return nil
}

// subject is a store and the stream that it is fed with.
type subject struct {
	store  window.Store
	stream *stream
	close  func() error
	// seen is shown the items of each batch when the clock stands still; may be nil.
	seen func([]*window.Item) error

	txs   []payment.Transaction
	items []*window.Item
	marks []window.Mark
	next  int64 // offset of the next decision
}

// subjects are closed together.
type subjects []*subject

func (all subjects) close() error {
	var errs []error
	for _, s := range all {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

// batchSize is the micro-batch of all questions; blockSize is how many
// transactions are made at once, between two looks at the clock.
const (
	batchSize = 200
	blockSize = 50 * batchSize
)

func newSubject(s window.Store, from *stream, cleanUp func() error) *subject {
	return &subject{store: s, stream: from, close: func() error { return errors.Join(s.Close(), cleanUp()) }}
}

// openSubject opens an embedded store, with a journal in a folder of its own or
// without one.
func openSubject(o *options, journal bool, features []window.Feature, from *stream) (*subject, error) {
	dir, remove := "", func() error { return nil }
	if journal {
		var err error
		if dir, remove, err = o.temporary(); err != nil {
			return nil, err
		}
	}
	s, err := o.openEmbedded(dir, features)
	if err != nil {
		return nil, errors.Join(err, remove())
	}
	return newSubject(s, from, remove), nil
}

// run appends and reads the next n transactions. The making of them is not in
// the cost.
func (s *subject) run(ctx context.Context, n int) (cost, error) {
	c := cost{n: n}
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return c, err
		}
		s.grow(min(n, blockSize))
		txs := s.txs[:min(n, blockSize)]
		s.stream.next(txs)
		n -= len(txs)
		for len(txs) > 0 {
			items := s.items[:min(len(txs), batchSize)]
			for i, it := range items {
				tx := &txs[i]
				*it = window.Item{
					Tx: tx, KafkaTime: tx.EventTime, Base: tx.Amount.Value, Based: true,
					Values: it.Values, Positions: it.Positions, Approximate: it.Approximate,
				}
			}
			if err := c.watch(func() error { return s.store.Append(ctx, items) }); err != nil {
				return c, err
			}
			before := cpuTime()
			if err := s.settle(ctx, items); err != nil {
				return c, err
			}
			c.settle += cpuTime() - before
			if s.seen != nil {
				if err := s.seen(items); err != nil {
					return c, err
				}
			}
			txs = txs[len(items):]
		}
	}
	return c, nil
}

// settle notes verdicts as the gate does once they are published: a store that
// waits for those of all its transactions is another one.
func (s *subject) settle(ctx context.Context, items []*window.Item) error {
	s.marks = s.marks[:0]
	for _, it := range items {
		s.marks = append(s.marks, window.Mark{Tx: it.Hash, Verdict: payment.Approve, Offset: s.next})
		s.next++
	}
	return s.store.Decided(ctx, s.marks)
}

// grow makes room for n transactions and for their items.
func (s *subject) grow(n int) {
	if n > len(s.txs) {
		s.txs = make([]payment.Transaction, n)
	}
	for len(s.items) < min(n, batchSize) {
		s.items = append(s.items, &window.Item{})
	}
}

// warm takes transactions that nobody times.
func (s *subject) warm(ctx context.Context, n int) error {
	_, err := s.run(ctx, n)
	return err
}
