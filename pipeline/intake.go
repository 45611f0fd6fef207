package pipeline

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// A lane fetches ahead of its front, so that every deadline is known to the
// watch soon after the record has come. What is fetched is in flight until the
// front has answered it, or the watch has answered all of it before.

// flight is a micro-batch from its fetch to its settlement.
type flight struct {
	batch     Batch
	records   []broker.Record
	span      span // its place in the cursor
	highWater int64
	from      *fetched       // what its records lie in
	came      payment.Time   // when it was fetched
	due       payment.Time   // when the watch must look at it; guarded by watch.mu
	dues      []payment.Time // by answer; the watch's own
}

// earliest is the first event time of a batch's usable answers.
func (b *Batch) earliest() payment.Time {
	t := farAhead
	for i := range b.answers {
		if a := &b.answers[i]; a.usable {
			t = min(t, a.tx.EventTime)
		}
	}
	return t
}

// fetched is what one call has brought. It is used again when none of its
// records is in flight.
type fetched struct {
	buffer  broker.FetchBuffer
	flights atomic.Int32
}

// Bounds of what a lane has in flight.
const (
	maxFlights = 8
	maxFetched = 6
)

// queue is what the intake hands to the front, in order.
type queue struct {
	mu      sync.Mutex
	waiting []*flight
	closed  bool
	ready   chan struct{} // of capacity 1: something is waiting, or it is closed
	free    chan *flight
	buffers chan *fetched
}

func (q *queue) init() {
	q.ready = make(chan struct{}, 1)
	q.free, q.buffers = make(chan *flight, maxFlights), make(chan *fetched, maxFetched)
	for range maxFlights {
		q.free <- new(flight)
	}
	for range maxFetched {
		q.buffers <- new(fetched)
	}
}

func (q *queue) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

func (q *queue) put(f *flight) {
	q.mu.Lock()
	q.waiting = append(q.waiting, f)
	q.mu.Unlock()
	q.signal()
}

// next waits for a flight; nil when ctx has ended or there will be none.
func (q *queue) next(ctx context.Context) *flight {
	for ctx.Err() == nil {
		q.mu.Lock()
		if len(q.waiting) > 0 {
			f := q.waiting[0]
			q.waiting = slices.Delete(q.waiting, 0, 1)
			q.mu.Unlock()
			return f
		}
		closed := q.closed
		q.mu.Unlock()
		if closed {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-q.ready:
		}
	}
	return nil
}

// close says that nothing more will be put.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

// drop takes out a flight that the front has not begun; false where it has.
func (q *queue) drop(f *flight) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, f)
	if i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
	return i >= 0
}

// release gives a flight, and what its records lie in, back to the intake.
func (q *queue) release(f *flight) {
	from := f.from
	f.from, f.records = nil, nil
	if from.flights.Add(-1) == 0 {
		q.buffers <- from
	}
	q.free <- f
}

// intake reads the partition until ctx ends.
func (l *lane) intake(ctx context.Context) error {
	defer l.queue.close()
	atEnd := false // everything there was has been read: what comes now was just written
	for next := l.from; ; {
		var in *fetched
		select {
		case in = <-l.queue.buffers:
		case <-ctx.Done():
			return nil
		}
		got, err := l.conn.Fetch(ctx, broker.FetchRequest{Topic: l.topics.Transactions, Partition: l.partition, Offset: next}, &in.buffer)
		if ctx.Err() != nil {
			return nil
		}
		if after, gone := l.gate.passOver(l.topics.Transactions, l.partition, next, err); gone {
			next = after
			l.queue.buffers <- in
			continue
		}
		if err != nil {
			return err
		}
		if atEnd {
			l.gate.justWritten(got.Records[:min(len(got.Records), 4)])
		}
		atEnd = got.Next >= got.HighWater
		if len(got.Records) == 0 {
			l.queue.buffers <- in
		} else if !l.launch(ctx, got, in) {
			return nil
		}
		if next = got.Next; next >= got.HighWater && l.cursor.idle() {
			l.pace.noted(l.partition, farAhead, true)
		}
	}
}

// launch puts what was fetched on its way, and returns false when ctx has ended.
func (l *lane) launch(ctx context.Context, got broker.Fetched, in *fetched) bool {
	in.flights.Store(1) // ours, until all are on their way
	for rest := got.Records; len(rest) > 0; {
		var f *flight
		select {
		case f = <-l.queue.free:
		case <-ctx.Done():
			return false
		}
		f.records = rest[:min(len(rest), l.maxBatch)]
		rest = rest[len(f.records):]
		f.from, f.highWater = in, got.HighWater
		in.flights.Add(1)
		l.decode(f.records, &f.batch)
		f.span = l.cursor.begin(f.records[len(f.records)-1].Offset+1, l.decisionsOf(f.records[0].Offset))
		l.watch.add(f, l.gate.Now())
		l.queue.put(f)
	}
	if in.flights.Add(-1) == 0 {
		l.queue.buffers <- in
	}
	return true
}

// decisionsOf is an offset in risk.decisions before the decisions of a record
// that is only now fetched: the end of it, unless an earlier owner may have
// answered the record.
func (l *lane) decisionsOf(record int64) int64 {
	if record < l.inherited {
		return l.cursor.inherited
	}
	return l.end.Load()
}

// passOver says where to read on when records are gone for good: retention took
// them before they were decided, the topic was made anew, or a batch is damaged
// on the broker. It is reported loudly; a partition that stands still would be worse.
func (g *Gate) passOver(topic string, partition int, from int64, err error) (next int64, gone bool) {
	var outside *broker.OffsetOutOfRangeError
	var corrupt *broker.CorruptBatchError
	switch {
	case errors.As(err, &outside):
		next = outside.First
	case errors.As(err, &corrupt):
		next = corrupt.Next
	default:
		return 0, false
	}
	g.Metrics.lost.Inc()
	g.Log.Error("records are gone and were never decided; reading on behind them", "topic", topic, "partition", partition, "from", from, "to", next, "error", err)
	return next, true
}
