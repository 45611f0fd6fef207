package main

import (
	"context"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"sync"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/benchmarks/ruleset"
	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/traffic"
	"github.com/sluice-risk/sluice/pipeline/window"
	"github.com/sluice-risk/sluice/rules"
	"golang.org/x/sync/errgroup"
)

// The arms. The first one is what the others are held against.
const (
	calm        = "no reloads"
	compileOnly = "rulesets are compiled only"
	newRules    = "rules change"
	newFeatures = "features change"
)

// times are how long something took, each time.
type times []time.Duration

// at is the time that a share of them does not exceed.
func (t times) at(share float64) time.Duration {
	if len(t) == 0 {
		return 0
	}
	slices.Sort(t)
	return t[min(len(t)-1, int(share*float64(len(t))))]
}

// result is what was measured of an arm.
type result struct {
	arm                      string
	batches, loads, switches times
}

// variants are the benchmarks' ruleset twice, a file of it with another comment.
func variants(file string) (both [2]fs.FS, err error) {
	for i := range both {
		files := fstest.MapFS{}
		err := fs.WalkDir(ruleset.Files, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			content, err := ruleset.Files.ReadFile(name)
			if name == file {
				content = append(content, fmt.Sprintf("\n# variant %d\n", i)...)
			}
			files[name] = &fstest.MapFile{Data: content}
			return err
		})
		if err != nil {
			return both, err
		}
		if files[file] == nil {
			return both, fmt.Errorf("the ruleset has no %s", file)
		}
		both[i] = files
	}
	return both, nil
}

// line is the payments that all turns take from, in their order.
type line struct {
	mu      sync.Mutex
	traffic *traffic.Generator
}

// take fills a micro-batch.
func (l *line) take(records []broker.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range records {
		e := l.traffic.Next()
		for e.Kind != payment.RecordTransaction {
			e = l.traffic.Next()
		}
		records[i] = broker.Record{Key: []byte(e.Key), Value: e.Value, Time: int64(e.Time / 1e6)}
	}
}

// measure lets the arms take turns.
func measure(ctx context.Context, o *options, say func(string)) ([]result, error) {
	rs, err := rules.LoadFS(ruleset.Files)
	if err != nil {
		return nil, err
	}
	store, err := window.Open(window.Options{Owner: "reload", Features: rs.Features()})
	if err != nil {
		return nil, err
	}
	defer func() { _ = store.Close() }()
	gate := &pipeline.Gate{Rules: rs, Store: store, Ledger: ledger.New(64<<20, store.Earlier), Limits: payment.DefaultLimits(), Metrics: pipeline.NewMetrics(prometheus.NewRegistry()),
		Now: func() payment.Time { return payment.TimeOf(time.Now()) }}
	const patient = payment.Time(7_258_118_400e9) // nobody waits: rules decide all of them
	payments := &line{traffic: traffic.New(traffic.Config{Seed: o.seed, Patient: patient, Rate: 50, People: o.people})}
	lanes := make([]*lane, o.lanes)
	for i := range lanes {
		lanes[i] = &lane{gate: gate, engine: gate.NewEngine(), records: make([]broker.Record, o.batch)}
	}
	say("warming up")
	for range o.warm / o.batch {
		payments.take(lanes[0].records)
		if err := lanes[0].decide(ctx); err != nil {
			return nil, err
		}
	}
	results := []result{{arm: calm}, {arm: compileOnly}, {arm: newRules}, {arm: newFeatures}}
	for round := range o.rounds {
		for i := range results {
			say(fmt.Sprintf("round %d of %d: %s", round+1, o.rounds, results[i].arm))
			runtime.GC()
			if err := turn(ctx, o, gate, lanes, payments, &results[i]); err != nil {
				return nil, err
			}
		}
	}
	return results, nil
}

// turn lets an arm run for a while.
func turn(ctx context.Context, o *options, gate *pipeline.Gate, lanes []*lane, payments *line, r *result) error {
	changing, ok := map[string]string{compileOnly: "rules/rules.yaml", newRules: "rules/rules.yaml", newFeatures: "features/features.yaml"}[r.arm]
	end := time.Now().Add(o.turn)
	work, ctx := errgroup.WithContext(ctx)
	gap := time.Duration(float64(o.batch*o.lanes) / o.rate * float64(time.Second))
	taken := make([]times, len(lanes))
	for i, l := range lanes {
		work.Go(func() error {
			for due := time.Now().Add(gap * time.Duration(i) / time.Duration(len(lanes))); due.Before(end); due = due.Add(gap) {
				payments.take(l.records) // made before they are due, unless the lane is behind
				if err := sleepUntil(ctx, due); err != nil {
					return err
				}
				if err := l.decide(ctx); err != nil {
					return err
				}
				taken[i] = append(taken[i], l.decided.Sub(due))
			}
			return nil
		})
	}
	if ok {
		both, err := variants(changing)
		if err != nil {
			return err
		}
		work.Go(func() error { return r.reload(ctx, o, gate, both, end) })
	}
	err := work.Wait()
	for _, t := range taken {
		r.batches = append(r.batches, t...)
	}
	return err
}

// reload loads the two rulesets in turns, and puts them in force.
func (r *result) reload(ctx context.Context, o *options, gate *pipeline.Gate, both [2]fs.FS, end time.Time) error {
	for n, due := 0, time.Now().Add(o.every); due.Before(end); n, due = n+1, due.Add(o.every) {
		if err := sleepUntil(ctx, due); err != nil {
			return err
		}
		began := time.Now()
		rs, err := rules.LoadFS(both[n%2])
		if err != nil {
			return err
		}
		loaded := time.Now()
		if r.loads = append(r.loads, loaded.Sub(began)); r.arm == compileOnly {
			continue
		}
		if err := gate.Use(ctx, rs); err != nil {
			return err
		}
		r.switches = append(r.switches, time.Since(loaded))
	}
	return nil
}

func sleepUntil(ctx context.Context, at time.Time) error {
	wait := time.Until(at)
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// lane decides micro-batches as the lane of a partition does.
type lane struct {
	gate    *pipeline.Gate
	engine  *pipeline.Engine
	records []broker.Record
	batch   pipeline.Batch
	decided time.Time // when the last one was
}

func (l *lane) decide(ctx context.Context) error {
	for records := l.records; len(records) > 0; {
		n, wait, err := l.engine.Decide(ctx, records, &l.batch)
		if err != nil {
			return err
		}
		l.decided = time.Now()
		if err := l.gate.Settle(ctx, &l.batch); err != nil {
			return err
		}
		if records = records[n:]; wait != nil {
			<-wait
		}
	}
	return nil
}
