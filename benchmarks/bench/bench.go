// Package bench measures Sluice beside plain copies on one and the same broker,
// in turns, and its engine alone. What it says end to end are ratios of one run:
// the same work on another machine gives other figures and, about, the same ratios.
package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
)

// Options say what to measure.
type Options struct {
	Brokers    []string      // none: the broker that is built in, in memory
	Duration   time.Duration // of load in each latency measurement
	Rounds     int           // each arm is measured as often; medians count
	Seed       uint64        // of the transactions
	People     int           // who pay; more of them are more entities, and colder ones
	Count      int           // transactions of a throughput measurement
	Warm       int           // transactions that the engine alone is warmed with, and measured with
	Rate       float64       // records a second offered in latency measurements; 0: half of what Sluice can do
	Partitions int
	EngineOnly bool
	Only       string       // measure this arm alone, for profiles; "": all
	Progress   func(string) // is told what is being measured
}

// DefaultOptions measure for about three minutes.
func DefaultOptions() Options {
	return Options{Duration: 8 * time.Second, Rounds: 3, Seed: 1, People: 100_000, Count: 400_000, Warm: 300_000, Partitions: 4}
}

// Validate names every option that is out of its bounds.
func (o *Options) Validate() error {
	var errs []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(o.Duration >= time.Second && o.Duration <= 10*time.Minute, "duration %v: must be between 1s and 10m", o.Duration)
	bad(o.Rounds >= 1 && o.Rounds <= 99, "rounds %d: must be between 1 and 99", o.Rounds)
	bad(o.People >= 1000 && o.People <= 200_000, "people %d: must be between 1000 and 200000", o.People)
	bad(o.Count >= 10_000 && o.Count <= 10_000_000, "transactions %d: must be between 10000 and 10000000", o.Count)
	bad(o.Warm >= 10_000 && o.Warm <= 10_000_000, "engine transactions %d: must be between 10000 and 10000000", o.Warm)
	bad(o.Rate == 0 || o.Rate >= 100 && o.Rate <= 1e6, "rate %v: must be between 100 and 1000000 a second, or 0", o.Rate)
	bad(o.Partitions >= 1 && o.Partitions <= 64, "partitions %d: must be between 1 and 64", o.Partitions)
	bad(o.Only == "" || armNamed(o.Only) != nil, "arm %q: must be one of %s", o.Only, armNames())
	return errors.Join(errs...)
}

// Run measures. On an error, or when ctx ends, nothing is reported.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	r := &Report{Seed: o.Seed}
	if !o.EngineOnly {
		if err := endToEnd(ctx, o, r); err != nil {
			return nil, err
		}
	}
	if o.Only == "" {
		engine, err := measureEngine(newEngineLoad(o.Seed, o.People, o.Warm, o.Warm), o.Progress)
		if err != nil {
			return nil, err
		}
		r.Engine = &engine
	}
	return r, ctx.Err()
}

func endToEnd(ctx context.Context, o Options, r *Report) (err error) {
	if len(o.Brokers) == 0 {
		kafka, err := broker.StartEmbedded(broker.EmbeddedConfig{Addr: "127.0.0.1:0"})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, kafka.Close()) }()
		o.Brokers, r.Embedded = []string{kafka.Addr()}, true
	}
	tmp, err := os.MkdirTemp("", "sluice-bench-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	c := &course{
		brokers: o.Brokers, partitions: o.Partitions, tmp: tmp,
		name: fmt.Sprintf("sluice-bench-%08x", rand.Uint32()),
	}
	if err := c.open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if r.Throughput, err = measureThroughput(ctx, c, o); err != nil {
		return err
	}
	r.Load = o.Rate
	for _, t := range r.Throughput {
		if r.Load == 0 && t.Arm == sluiceArm {
			r.Load = t.PerSecond / 2
		}
	}
	if r.Load == 0 {
		return nil // another arm alone was asked for
	}
	r.Latency, err = measureLatency(ctx, c, o, r.Load)
	return err
}
