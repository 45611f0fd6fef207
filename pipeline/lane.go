package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
	"unsafe"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// A lane is the worker of one partition of payments.transactions. Three things
// go on at once, each in order: the next records are fetched, a micro-batch is
// decided, and the one before it is published. What is published moves the
// lane's cursors; what may be committed is what is durable too (see cursor.go).
type lane struct {
	gate      *Gate
	conn      *broker.Conn
	topics    *Topics
	partition int
	from      int64 // the first record that is not settled
	publisher *broker.Publisher
	engine    *Engine
	pace      *pace
	cursor    *cursor
	maxBatch  int

	batches [2]Batch // one is decided while the other is published
	out     broker.Batch
	headers []broker.Header
}

// run works until ctx ends, then settles the micro-batches that it has begun;
// what else was fetched is left to the next owner, who must not wait for it. It
// returns an error when the partition cannot be worked on: fenced, store or
// broker failed.
func (l *lane) run(ctx, drain context.Context) error {
	fetched := make(chan fetch, 1)
	back := make(chan *broker.FetchBuffer, fetchBuffers)
	for range fetchBuffers {
		back <- new(broker.FetchBuffer)
	}
	fetching, stop := context.WithCancel(ctx)
	var fetcher sync.WaitGroup
	defer fetcher.Wait()
	defer stop()
	fetcher.Go(func() { l.fetch(fetching, fetched, back) })

	var p publishing
	which := 0
	for f := range fetched {
		if f.err != nil {
			return firstError(p.wait(), f.err)
		}
		for rest := f.records; len(rest) > 0; {
			if ctx.Err() != nil {
				return p.wait()
			}
			b := &l.batches[which]
			which = 1 - which
			started := time.Now()
			n, wait, err := l.engine.Decide(drain, rest[:min(len(rest), l.maxBatch)], b)
			if errors.Is(err, errOver) {
				return p.wait()
			}
			if err != nil {
				return firstError(p.wait(), err)
			}
			l.gate.Metrics.batchSize.Observe(float64(n))
			l.gate.Metrics.decideTime.Observe(time.Since(started).Seconds())
			records := rest[:n]
			rest = rest[n:]
			if err := p.wait(); err != nil { // publishing stays in order
				return err
			}
			last := len(rest) == 0
			p.start(func() error {
				if last {
					defer func() { back <- f.buffer }()
				}
				err := l.publish(drain, records, b, f.highWater)
				if err != nil {
					stop() // nothing more is fetched, so that run looks here at once
				}
				return err
			})
			if wait != nil {
				if err := p.wait(); err != nil {
					return err
				}
				if err := l.pace.noted(drain, l.partition, farAhead, true); err != nil { // who waits for us must not wait for who waits for him
					return err
				}
				select {
				case <-wait:
				case <-drain.Done():
					return drain.Err()
				}
			}
		}
		if len(f.records) == 0 {
			back <- f.buffer
		}
		if f.next >= f.highWater {
			if err := l.pace.noted(drain, l.partition, farAhead, true); err != nil {
				return firstError(p.wait(), err)
			}
		}
	}
	return p.wait()
}

// fetchBuffers: one is being filled, one decided, one published, one waits.
const fetchBuffers = 4

// fetch is what one call brought.
type fetch struct {
	records   []broker.Record
	next      int64 // the record after them
	highWater int64
	buffer    *broker.FetchBuffer
	err       error
}

// fetch reads on until ctx ends, then closes the channel.
func (l *lane) fetch(ctx context.Context, fetched chan<- fetch, back chan *broker.FetchBuffer) {
	defer close(fetched)
	for next := l.from; ; {
		var f fetch
		select {
		case f.buffer = <-back:
		case <-ctx.Done():
			return
		}
		got, err := l.conn.Fetch(ctx, broker.FetchRequest{Topic: l.topics.Transactions, Partition: l.partition, Offset: next}, f.buffer)
		if ctx.Err() != nil {
			return
		}
		if after, gone := l.gate.passOver(l.topics.Transactions, l.partition, next, err); gone {
			next = after
			back <- f.buffer
			continue
		}
		f.records, f.highWater, f.next, f.err = got.Records, got.HighWater, got.Next, err
		next = got.Next
		select {
		case fetched <- f:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
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
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// maxPublish keeps a record batch below the broker's usual limit of 1 MB.
const maxPublish = 800 << 10

// publish makes the decisions of a micro-batch known, in this order: decisions
// to the topic, refused records to dead letters, both noted in the journal, the
// claims settled, the cursor moved. A crash between any two is argued in DESIGN.md.
func (l *lane) publish(ctx context.Context, records []broker.Record, b *Batch, highWater int64) error {
	started := time.Now()
	decisionsEnd, err := l.publishDecisions(ctx, b)
	if err == nil {
		err = l.publishRefused(ctx, records, b)
	}
	if err == nil {
		err = l.gate.Settle(ctx, b)
	}
	if err != nil {
		return err // the claims stand: what the broker has is not known
	}
	l.gate.Metrics.publishTime.Observe(time.Since(started).Seconds())
	if len(records) > 0 {
		next := records[len(records)-1].Offset + 1
		l.cursor.settled(next, decisionsEnd, l.gate.Store.Written())
		l.gate.Metrics.setLag(l.topics.Transactions, l.partition, highWater-next)
	}
	l.measure(b)
	return nil
}

// publishDecisions writes all decisions of a batch behind the fence and notes
// in each answer where its decision stands. It returns the offset after the
// last one, -1 when there was none.
func (l *lane) publishDecisions(ctx context.Context, b *Batch) (end int64, err error) {
	end = -1
	from := 0
	flush := func(to int) error {
		if l.out.Len() == 0 {
			return nil
		}
		base, err := l.publisher.Publish(ctx, &l.out)
		if err != nil {
			return fmt.Errorf("publish decisions of partition %d: %w", l.partition, err)
		}
		if base < 0 { // the broker has them, but does not say where: read them again
			return fmt.Errorf("publish decisions of partition %d: %w", l.partition, broker.ErrPublisherLost)
		}
		for i := from; i < to; i++ {
			if a := &b.answers[i]; a.from < a.to {
				if a.decide {
					a.mark.Partition, a.mark.Offset = int32(l.partition), base
				}
				base++
			}
		}
		from, end = to, base
		l.out.Reset()
		return nil
	}
	l.out.Reset()
	now := time.Now().UnixMilli()
	for i := range b.answers {
		a := &b.answers[i]
		if a.from == a.to {
			continue
		}
		if l.out.Len() > 0 && l.out.Size()+(a.to-a.from) > maxPublish {
			if err := flush(i); err != nil {
				return 0, err
			}
		}
		l.headers = append(l.headers[:0],
			broker.Header{Key: "transaction_id", Value: view(a.tx.ID)},
			broker.Header{Key: "revision", Value: firstRevision},
			broker.Header{Key: "verdict", Value: verdictHeader[a.mark.Verdict]})
		l.out.Add(now, view(a.tx.Payer.AccountID), b.decision(a), l.headers)
	}
	return end, flush(len(b.answers))
}

// view is a text as bytes, which nobody may change.
func view(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// What headers hold, made once.
var (
	firstRevision = []byte("1")
	verdictHeader = [...][]byte{nil, []byte("approve"), []byte("hold"), []byte("block")}
)

// publishRefused writes refused records to dead letters, byte for byte.
func (l *lane) publishRefused(ctx context.Context, records []broker.Record, b *Batch) error {
	var messages []broker.Message
	for i := range b.answers {
		if r := b.answers[i].refusal; r != nil {
			messages = append(messages, deadLetter(l.topics.Transactions, &records[i], r))
			l.gate.Metrics.refuse(r)
		}
	}
	return produceDeadLetters(ctx, l.conn, l.topics.DeadLetters, messages)
}

// measure counts how fast the payments of a batch were answered.
func (l *lane) measure(b *Batch) {
	now := payment.TimeOf(time.Now())
	m := l.gate.Metrics
	for i := range b.answers {
		a := &b.answers[i]
		if !a.decide || a.mark.Invalid {
			continue
		}
		if a.decideBy < a.kafkaTime {
			m.tooLate.Inc() // nobody could have answered it in time
			continue
		}
		m.answerTime.Observe(float64(now-a.kafkaTime) / 1e9)
		if now <= a.decideBy {
			m.inTime.Inc()
		} else {
			m.outOfTime.Inc()
		}
	}
}
