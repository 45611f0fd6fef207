package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	people "github.com/sluice-risk/sluice/pipeline/traffic"
)

// traffic sends payments by a schedule and notes when each was answered.
type traffic struct {
	stop func()

	mu   sync.Mutex
	open map[string]time.Time // when a payment that has no answer was to be sent, by its id
	done [][]sample           // by partition
	err  error
}

// sample is a payment that was answered.
type sample struct {
	due  time.Time
	took time.Duration
}

func (g *group) startTraffic(ctx context.Context, o *options) (*traffic, error) {
	ranges, err := g.conn.TopicOffsets(ctx, g.topic("decisions"))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	t := &traffic{open: map[string]time.Time{}, done: make([][]sample, o.partitions)}
	var work sync.WaitGroup
	t.stop = func() { cancel(); work.Wait() }
	lanes := make([]chan broker.Message, o.partitions)
	for p := range lanes {
		lanes[p] = make(chan broker.Message, 1<<16)
		work.Go(func() { t.fail(ctx, g.produce(ctx, p, lanes[p])) })
		work.Go(func() { t.fail(ctx, t.receive(ctx, g, p, ranges[p].End)) })
	}
	work.Go(func() { t.send(ctx, o, lanes) })
	return t, nil
}

// send hands each payment to its partition when it is due.
func (t *traffic) send(ctx context.Context, o *options, lanes []chan broker.Message) {
	stream := people.New(people.Config{Seed: o.seed, Start: payment.TimeOf(time.Now()), Rate: o.rate, People: 20_000})
	decoder := payment.Decoder{Limits: payment.DefaultLimits()}
	for ctx.Err() == nil {
		e := stream.Next()
		if e.Kind != payment.RecordTransaction {
			continue
		}
		due := e.Time.Std()
		if wait := time.Until(due); wait > 0 && sleep(ctx, wait) != nil {
			return
		}
		var tx payment.Transaction
		if refusal := decoder.Transaction(e.Value, e.Time, &tx); refusal != nil {
			t.fail(ctx, refusal)
			return
		}
		h := fnv.New32a()
		_, _ = h.Write([]byte(e.Key))
		t.mu.Lock()
		t.open[string([]byte(tx.ID))] = due
		t.mu.Unlock()
		lanes[h.Sum32()%uint32(len(lanes))] <- broker.Message{Key: []byte(e.Key), Value: e.Value, Time: int64(e.Time / 1e6)}
	}
}

// produce sends what is there at a time.
func (g *group) produce(ctx context.Context, partition int, lane <-chan broker.Message) error {
	for {
		var batch []broker.Message
		select {
		case <-ctx.Done():
			return nil
		case m := <-lane:
			batch = append(batch, m)
		}
		for len(lane) > 0 {
			batch = append(batch, <-lane)
		}
		if err := g.conn.Produce(ctx, g.topic("transactions"), partition, batch); err != nil {
			return err
		}
	}
}

// receive notes the first decision on each payment.
func (t *traffic) receive(ctx context.Context, g *group, partition int, from int64) error {
	var buffer broker.FetchBuffer
	for {
		got, err := g.conn.Fetch(ctx, broker.FetchRequest{Topic: g.topic("decisions"), Partition: partition, Offset: from}, &buffer)
		if err != nil {
			return err
		}
		now := time.Now()
		t.mu.Lock()
		for _, r := range got.Records {
			for _, h := range r.Headers {
				if due, ok := t.open[string(h.Value)]; ok && h.Key == "transaction_id" {
					delete(t.open, string(h.Value))
					t.done[partition] = append(t.done[partition], sample{due, now.Sub(due)})
				}
			}
		}
		t.mu.Unlock()
		from = got.Next
	}
}

func (t *traffic) fail(ctx context.Context, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
}

// answered waits until everything that was due before a time has its decision.
func (t *traffic) answered(ctx context.Context, before time.Time) error {
	for began := time.Now(); ; {
		open := 0
		t.mu.Lock()
		err := t.err
		for _, due := range t.open {
			if due.Before(before) {
				open++
			}
		}
		t.mu.Unlock()
		if err != nil || open == 0 {
			return err
		}
		if time.Since(began) > time.Minute {
			return fmt.Errorf("%d payments have no decision after a minute", open)
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// times are how long the payments took that were due between two times, by partition.
func (t *traffic) times(from, until time.Time) [][]time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([][]time.Duration, len(t.done))
	for p, samples := range t.done {
		for _, s := range samples {
			if !s.due.Before(from) && s.due.Before(until) {
				all[p] = append(all[p], s.took)
			}
		}
	}
	return all
}

func flat(all [][]time.Duration) []time.Duration { return slices.Concat(all...) }

func median(all [][]time.Duration) time.Duration {
	one := flat(all)
	if len(one) == 0 {
		return 0
	}
	slices.Sort(one)
	return one[len(one)/2]
}

func longest(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	return slices.Max(all)
}
