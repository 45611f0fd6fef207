package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/sluice-risk/sluice/benchmarks/peers/sortedsets"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// measurePeer gives the stores and sorted sets in Redis the same transactions in
// turns, and makes sure that every value is the same.
func measurePeer(ctx context.Context, o *options) (t table, err error) {
	if o.redis == "" {
		return t, errors.New("needs --redis or SLUICE_TEST_REDIS; .ci/services starts one")
	}
	redis, err := openServer(ctx, o.redis)
	if err != nil {
		return t, err
	}
	prefix := fmt.Sprintf("sluice-windows-%08x:", rand.Uint32())
	defer func() { err = errors.Join(err, redis.clear(context.WithoutCancel(ctx), prefix), redis.Close()) }()
	features := countsAndSums(shortWindows())

	var arms []*peerArm
	embedded, err := openSubject(o, true, features, newStream(o.seed, o.people, step))
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, embedded.close()) }()
	arms = append(arms, ownArm("embedded store", embedded))
	shared, err := openRedis(ctx, "redis://"+o.redis, strings.TrimSuffix(prefix, ":"), features)
	if err != nil {
		return t, err
	}
	if shared != nil {
		s := newSubject(shared, newStream(o.seed, o.people, step), func() error { return nil })
		defer func() { err = errors.Join(err, s.close()) }()
		arms = append(arms, ownArm("Redis store", s))
	}
	sets, err := sortedsets.Open(ctx, sortedsets.Config{Addr: o.redis, Prefix: prefix + "sets:", Entities: kindNames(), Windows: shortWindows()})
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, sets.Close()) }()
	arms = append(arms, setsArm("sorted sets", sets, o.peerBatch, newStream(o.seed, o.people, step)))

	plain := make([]*arm, len(arms))
	for i, a := range arms {
		o.say("%s: %d transactions to warm up", a.name, passesLongest)
		before, err := redis.memory(ctx)
		if err != nil {
			return t, err
		}
		if _, err := a.run(ctx, passesLongest); err != nil {
			return t, err
		}
		after, err := redis.memory(ctx)
		if err != nil {
			return t, err
		}
		a.memory, plain[i] = after-before, &a.arm
		a.watch(redis)
	}
	if err := interleave(ctx, plain, o.rounds, o.peerMeasure); err != nil {
		return t, err
	}
	for _, a := range arms[1:] {
		if a.digest != arms[0].digest {
			return t, fmt.Errorf("the values of %s are not those of %s", a.name, arms[0].name)
		}
	}
	return peerTable(o, arms), nil
}

func peerTable(o *options, arms []*peerArm) table {
	t := table{
		Setting: fmt.Sprintf("5 entities × 1m, 10m, 1h × count and sum; %d people; event time advances %v a transaction; the last entity's hour holds %.0f events on average; batches of %d, of %d for the sorted sets, which go through 4 connections; Redis on the same machine, over loopback; all values of all arms are equal; %d × %d transactions",
			o.people, step, arms[0].events, batchSize, o.peerBatch, o.rounds, o.peerMeasure),
		Columns: []string{"tx/s", "CPU µs", "CPU µs of Redis", "Redis bytes an event"},
	}
	peer := arms[len(arms)-1]
	for i, a := range arms {
		bytes := a.memory / float64(passesLongest*len(kinds))
		if i == 0 {
			bytes = math.NaN()
		}
		t.Rows = append(t.Rows, row{a.name, []float64{medianOf(a.rounds, perSecond), medianOf(a.rounds, cpuMicros), medianOf(a.rounds, peerMicros), bytes}})
		if a == peer {
			break
		}
		goal := "10 or more"
		if i > 0 {
			goal = "4 or more"
		}
		t.Ratios = append(t.Ratios, ratio{
			Name:  fmt.Sprintf("tx/s of the %s / %s", a.name, peer.name),
			Value: medianOf(a.rounds, perSecond) / medianOf(peer.rounds, perSecond), Goal: goal,
		})
	}
	return t
}

// peerArm is an arm whose values are compared with those of the others.
type peerArm struct {
	arm
	digest uint64  // of all values so far, in order
	memory float64 // bytes of Redis that the warming up took
	events float64 // in the longest window of the last entity, on average
	values float64 // behind events: how many were looked at
}

// see takes the counts and sums of one transaction into the digest.
func (a *peerArm) see(count, sum int64) {
	a.digest = (a.digest ^ uint64(count)) * 0x9e3779b97f4a7c15
	a.digest = (a.digest<<31 | a.digest>>33) ^ uint64(sum)
}

// sawLast keeps the average of what the last window counts.
func (a *peerArm) sawLast(count int64) {
	a.values++
	a.events += (float64(count) - a.events) / a.values
}

// watch adds the time of Redis to what each run takes.
func (a *peerArm) watch(redis *server) {
	run := a.run
	a.run = func(ctx context.Context, n int) (cost, error) {
		before, err := redis.cpu(ctx)
		if err != nil {
			return cost{}, err
		}
		c, err := run(ctx, n)
		if err != nil {
			return c, err
		}
		after, err := redis.cpu(ctx)
		c.peer = after - before
		return c, err
	}
}

// ownArm is one of our stores. Its features are count and sum in turns.
func ownArm(name string, s *subject) *peerArm {
	a := &peerArm{arm: arm{name: name, run: s.run}}
	s.seen = func(items []*window.Item) error {
		for _, it := range items {
			for v := 0; v < len(it.Values); v += 2 {
				a.see(it.Values[v].Int(), it.Values[v+1].Int())
			}
			a.sawLast(it.Values[len(it.Values)-2].Int())
		}
		return nil
	}
	return a
}

// setsArm is the peer.
func setsArm(name string, f *sortedsets.Features, batch int, from *stream) *peerArm {
	a := &peerArm{arm: arm{name: name}}
	txs, peers := make([]payment.Transaction, batch), make([]sortedsets.Transaction, batch)
	values := make([]sortedsets.Value, batch*f.Width())
	a.run = func(ctx context.Context, n int) (cost, error) {
		c := cost{n: n}
		for n > 0 {
			txs, peers := txs[:min(n, batch)], peers[:min(n, batch)]
			values := values[:len(txs)*f.Width()]
			from.next(txs)
			for i := range txs {
				peers[i] = peerTransaction(&txs[i], peers[i].Entities)
			}
			if err := c.watch(func() error { return f.Observe(ctx, peers, values) }); err != nil {
				return c, err
			}
			for i, v := range values {
				a.see(v.Count, v.Sum)
				if (i+1)%f.Width() == 0 {
					a.sawLast(v.Count)
				}
			}
			n -= len(txs)
		}
		return c, nil
	}
	return a
}

func kindNames() []string {
	var names []string
	for _, k := range kinds {
		names = append(names, k.String())
	}
	return names
}

func peerTransaction(tx *payment.Transaction, entities []string) sortedsets.Transaction {
	entities = entities[:0]
	for _, k := range kinds {
		entities = append(entities, window.Entity{First: k}.ID(tx))
	}
	return sortedsets.Transaction{ID: tx.ID, Time: tx.EventTime.Std().UnixMilli(), Amount: tx.Amount.Value, Entities: entities}
}
