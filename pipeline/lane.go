package pipeline

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"golang.org/x/sync/errgroup"
)

// A lane is the worker of one partition of payments.transactions. Four things go
// on at once:
//
//   - the intake (intake.go) fetches and decodes,
//   - the front decides what was fetched, a micro-batch at a time, while the one
//     before is published, in order,
//   - the watch (deadline.go) gives defaults before it is too late,
//   - the folder (folder.go) makes good what the front has left: it reads the
//     records again.
//
// How far front and folder are is in the cursor (cursor.go).
type lane struct {
	gate      *Gate
	conn      *broker.Conn
	topics    *Topics
	partition int
	from      int64      // the first record that is not settled
	history   topicRange // of decisions: where older open holds stand
	inherited int64      // records before it may have been answered by an earlier owner
	before    answered   // and those were
	engine    *Engine
	pace      *pace
	cursor    *cursor
	maxBatch  int
	watch     *watch
	folder    *folder
	queue     queue

	// mu guards what is published, and lets one do so at a time: the front, the
	// watch, the folder, and whoever revises a decision later.
	mu        sync.Mutex
	publisher *broker.Publisher
	end       atomic.Int64 // of the partition of decisions, as far as this lane has written it
	out       broker.Batch
	unsaid    []unsaid // what out holds
	headers   []broker.Header
	number    [20]byte // the value of one
}

// run works until ctx ends, then settles the micro-batches that it has begun;
// what else was fetched is left to the next owner, who must not wait for it. It
// returns an error when the partition cannot be worked on: fenced, or the broker
// or the store failed for good.
func (l *lane) run(ctx, drain context.Context) error {
	work, working := errgroup.WithContext(ctx)
	beside, stop := context.WithCancel(drain) // the watch works as long as the front
	defer stop()
	work.Go(func() error { return l.intake(working) })
	work.Go(func() error { return l.keepDeadlines(beside) })
	work.Go(func() error { return l.fold(working, drain) })
	work.Go(func() error {
		defer stop()
		return l.front(working, drain)
	})
	return work.Wait()
}

// front decides what is fetched.
func (l *lane) front(ctx, drain context.Context) error {
	var p publishing
	for {
		f := l.queue.next(ctx)
		if f == nil {
			return p.wait()
		}
		b := &f.batch
		for from, last := 0, false; !last; { // once its last part is on its way, the flight may be another one
			started := time.Now()
			n, wait, err := l.engine.decide(drain, b, from)
			if err != nil {
				return firstError(p.wait(), err)
			}
			l.gate.Metrics.batchSize.Observe(float64(n - from))
			l.gate.Metrics.decideTime.Observe(time.Since(started).Seconds())
			if err := p.wait(); err != nil { // publishing stays in order
				return err
			}
			if b.deferred { // before anybody can see what is published now
				l.pace.deferTo(l.partition, b.earliest())
			}
			part, records := b.answers[from:n], f.records[from:n]
			last = n == len(b.answers)
			p.start(func() error {
				if err := l.publish(drain, records, b, part); err != nil {
					l.queue.close() // so that the front looks here at once
					return err
				}
				if last {
					l.settled(f)
				}
				return nil
			})
			if wait != nil || !last {
				if err := p.wait(); err != nil {
					return err
				}
			}
			if wait != nil {
				select {
				case <-wait:
				case <-drain.Done():
					return drain.Err()
				}
			}
			from = n
		}
	}
}

// settled ends a flight that the front has answered.
func (l *lane) settled(f *flight) {
	b := &f.batch
	if b.deferred {
		l.pace.deferTo(l.partition, b.earliest())
	}
	l.cursor.settle(f.span, b.deferred, !b.unanswered, l.gate.Store.Written())
	l.gate.Metrics.setLag(l.topics.Transactions, l.partition, f.highWater-f.span.next)
	l.folder.nudge() // it may have waited for this one
	l.mu.Lock()
	l.watch.remove(f)
	l.mu.Unlock()
	l.queue.release(f)
}

// dropTold takes flights that the front has not begun, and that need no answer
// any more, out of its queue: the folder makes them good. So a lane whose front
// is busy goes on to fetch.
func (l *lane) dropTold(flights []*flight) {
	for _, f := range flights {
		if f.due != farAhead || !l.queue.drop(f) {
			continue
		}
		l.watch.remove(f)
		l.pace.deferTo(l.partition, f.batch.earliest())
		l.cursor.settle(f.span, true, f.answeredByWatch(), l.gate.Store.Written())
		l.folder.nudge()
		l.queue.release(f)
	}
}

// publishing is the one publication that may be under way.
type publishing struct{ done chan error }

func (p *publishing) start(f func() error) {
	p.done = make(chan error, 1)
	go func() { p.done <- f() }()
}

// wait returns when nothing is under way, with what went wrong.
func (p *publishing) wait() error {
	if p.done == nil {
		return nil
	}
	err := <-p.done
	p.done = nil
	return err
}

func firstError(errs ...error) error {
	i := slices.IndexFunc(errs, func(err error) bool { return err != nil })
	if i < 0 {
		return nil
	}
	return errs[i]
}
