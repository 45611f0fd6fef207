package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// OutcomeDecoder takes outcome records into the store. One serves one goroutine.
type OutcomeDecoder struct {
	gate     *Gate
	decoder  payment.Decoder
	outcomes []payment.Outcome
	items    []window.OutcomeItem
	list     []*window.OutcomeItem
}

// NewOutcomeDecoder returns a decoder for one lane of outcomes.
func (g *Gate) NewOutcomeDecoder() *OutcomeDecoder {
	return &OutcomeDecoder{gate: g, decoder: payment.Decoder{Limits: g.Limits, Batch: true}}
}

// Take decodes the records of a topic and lets windows count what they say.
// refuse is called for each record that cannot be used.
func (d *OutcomeDecoder) Take(ctx context.Context, topic string, records []broker.Record, refuse func(*broker.Record, *payment.Refusal)) error {
	d.decoder.Release()
	if cap(d.outcomes) < len(records) {
		d.outcomes, d.items = make([]payment.Outcome, len(records)), make([]window.OutcomeItem, len(records))
	}
	key := d.gate.Store.Key()
	d.list = d.list[:0]
	for i := range records {
		r, o := &records[i], &d.outcomes[i]
		kafkaTime := d.gate.kafkaTime(r)
		since := kafkaTime
		if d.gate.Now != nil {
			since = d.gate.Now() // after an outage its transaction may be as old, and still to come
		}
		if refusal := d.decoder.Outcome(r.Value, kafkaTime, o); refusal != nil {
			refuse(r, refusal)
			continue
		}
		// What was decided and stands in no log may come into one yet: a store that has
		// lost its end is filled again. What was refused never does.
		decided, _ := d.gate.Ledger.Find(key.Tx(o.TransactionID))
		d.items[i] = window.OutcomeItem{Outcome: o, Since: since, Known: decided.Invalid,
			Source: window.Source{Topic: topic, Partition: int32(r.Partition), Offset: r.Offset, Key: r.Key, Value: r.Value}}
		d.list = append(d.list, &d.items[i])
	}
	if err := d.gate.Store.Outcomes(ctx, d.list); err != nil {
		return fmt.Errorf("append outcomes to the entities' logs: %w", err)
	}
	for _, it := range d.list {
		if it.Status != window.OutcomeRepeated {
			m, _ := d.gate.Ledger.Find(key.Tx(it.Outcome.TransactionID))
			d.gate.Notices.Happened(it.Outcome, string(it.Source.Key), m.Latest)
		}
	}
	if m := d.gate.Metrics; m != nil {
		for _, it := range d.list {
			m.outcomes[it.Status].Inc()
		}
	}
	return nil
}

// GiveUpOutcomes finds the outcomes that have waited for their transaction since
// before some time, hands them to refuse, and forgets them. One whose
// transaction was decided too late for any log is forgotten silently.
func (g *Gate) GiveUpOutcomes(ctx context.Context, before payment.Time, refuse func([]window.Source) error) error {
	var lost []window.Source
	old, err := g.Store.Parked(ctx, before)
	if err != nil {
		return err
	}
	for i := range old {
		if !g.Ledger.Known(old[i].Tx) {
			lost = append(lost, old[i].Source)
		}
	}
	if len(old) == 0 {
		return nil
	}
	if err := refuse(lost); err != nil {
		return err
	}
	return g.Store.ForgetParked(ctx, before)
}

// outcomeLane is the worker of one partition of payments.outcomes.
type outcomeLane struct {
	gate      *Gate
	conn      *broker.Conn
	topics    *Topics
	partition int
	from      int64
	cursor    *cursor
	pace      *pace
	paced     int          // the partition as pace counts it
	metadata  string       // of the last commit
	back      atomic.Int64 // 1 + the offset to read again from, because the store has lost something; 0: none
}

// run works until ctx ends; a fetched batch is always settled.
func (l *outcomeLane) run(ctx, drain context.Context) error {
	decoder := l.gate.NewOutcomeDecoder()
	var buffer broker.FetchBuffer
	for next := l.from; ; {
		if to := l.back.Swap(0); to > 0 {
			next = min(next, to-1)
			l.cursor.restart(next)
		}
		got, err := l.conn.Fetch(ctx, broker.FetchRequest{Topic: l.topics.Outcomes, Partition: l.partition, Offset: next}, &buffer)
		if ctx.Err() != nil {
			return nil
		}
		if after, gone := l.gate.passOver(l.topics.Outcomes, l.partition, next, err); gone {
			next = after
			continue
		}
		if err != nil {
			return err
		}
		var refused []broker.Message
		err = l.gate.untilBack(ctx, func() error {
			refused = refused[:0]
			return decoder.Take(drain, l.topics.Outcomes, got.Records, func(r *broker.Record, why *payment.Refusal) {
				refused = append(refused, deadLetter(l.topics.Outcomes, r, why))
			})
		})
		if err != nil {
			return unlessOver(ctx, err)
		}
		l.gate.Metrics.refuseAll(refused)
		if err := produceDeadLetters(drain, l.conn, l.topics.DeadLetters, refused); err != nil {
			return err
		}
		if len(got.Records) > 0 {
			l.cursor.settle(l.cursor.begin(got.Next, 0), false, true, l.gate.Store.Written())
		}
		next = got.Next
		upTo, caughtUp := farAhead, next >= got.HighWater
		if n := len(got.Records); !caughtUp && n > 0 {
			upTo = l.gate.kafkaTime(&got.Records[n-1])
		}
		if caughtUp || len(got.Records) > 0 {
			l.pace.noted(l.paced, upTo, caughtUp)
		}
		l.gate.Metrics.setLag(l.topics.Outcomes, l.partition, got.HighWater-next)
	}
}

// giveUpOutcomes looks now and then for outcomes that never found their transaction.
func giveUpOutcomes(ctx context.Context, g *Gate, conn *broker.Conn, topics *Topics, wait time.Duration) error {
	tick := time.NewTicker(min(wait/4, time.Minute))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := g.GiveUpOutcomes(ctx, g.Now().Add(-wait), func(lost []window.Source) error {
			var messages []broker.Message
			why := &payment.Refusal{Reason: payment.ReasonUnmatched, Field: "transaction_id"}
			for _, s := range lost {
				r := broker.Record{Partition: int(s.Partition), Offset: s.Offset, Key: s.Key, Value: s.Value}
				messages = append(messages, deadLetter(s.Topic, &r, why))
				g.Metrics.refuse(why)
			}
			return produceDeadLetters(ctx, conn, topics.DeadLetters, messages)
		})
		if err != nil && ctx.Err() == nil && !errors.Is(err, window.ErrAway) {
			return err
		}
	}
}

// untilBack does something again as long as the store is away.
func (g *Gate) untilBack(ctx context.Context, do func() error) error {
	for {
		err := do()
		if !errors.Is(err, window.ErrAway) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookAgain):
		}
	}
}
