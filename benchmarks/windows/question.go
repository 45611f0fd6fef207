package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// options are what the command line says.
type options struct {
	format       string
	dir          string
	rounds       int
	measure      int
	seed         uint64
	keys         []int
	people       int
	transactions int
	memory       int // MiB; 0: as the store has it by default
	redis        string
	peerBatch    int
	peerMeasure  int
	progress     io.Writer
}

func defaultOptions() options {
	return options{
		format: "text", rounds: 5, measure: 200_000, seed: 1,
		keys: []int{1_000, 10_000, 100_000, 1_000_000, 5_000_000}, people: 100_000,
		transactions: 10_000_000, peerBatch: 500, peerMeasure: 20_000,
	}
}

// validate names every option that is out of its bounds.
func (o *options) validate() error {
	var errs []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(o.format == "text" || o.format == "json", "--format %q: must be text or json", o.format)
	bad(o.rounds >= 1 && o.rounds <= 99, "--rounds %d: must be between 1 and 99", o.rounds)
	bad(o.measure >= 1000 && o.measure <= 10_000_000, "--measure %d: must be between 1000 and 10000000", o.measure)
	bad(o.people >= 1000 && o.people <= 10_000_000, "--people %d: must be between 1000 and 10000000", o.people)
	bad(o.transactions >= 10_000 && o.transactions <= 100_000_000, "--transactions %d: must be between 10000 and 100000000", o.transactions)
	bad(o.memory >= 0, "--memory %d: must be MiB, or 0", o.memory)
	bad(o.peerBatch >= 1 && o.peerBatch <= 10_000, "--peer-batch %d: must be between 1 and 10000", o.peerBatch)
	bad(o.peerMeasure >= 1000 && o.peerMeasure <= 1_000_000, "--peer-measure %d: must be between 1000 and 1000000", o.peerMeasure)
	bad(len(o.keys) > 0, "--keys: must name one number at least")
	for _, k := range o.keys {
		bad(k >= 1000 && k <= 10_000_000, "--keys %d: must be between 1000 and 10000000", k)
	}
	return errors.Join(errs...)
}

// question is one thing that is measured.
type question struct {
	name string
	asks string
	run  func(ctx context.Context, o *options) (table, error)
}

func questions() []question {
	return []question{
		{"scale", "update + read of the reference features, by the number of keys, in memory", func(ctx context.Context, o *options) (table, error) { return measureScale(ctx, o, false) }},
		{"journal", "the same through the store with its journal", func(ctx context.Context, o *options) (table, error) { return measureScale(ctx, o, true) }},
		{"core", "5 entities × 3 windows × count and sum with the journal: transactions a second of one core", measureCore},
		{"long", "a window of 30 days against one of a minute, the same stream", measureLong},
		{"memory", "bytes of an event and entity, in memory and on disk", measureMemory},
		{"restart", "from opening a store with --transactions in its journal to the first values", measureRestart},
		{"peer", "the stores beside sorted sets in Redis, written as it is usually done", measurePeer},
	}
}

// run answers the questions named, or all that can be answered here.
func run(ctx context.Context, o options, names []string) (report, error) {
	r := report{Seed: o.seed, Machine: machine()}
	if err := o.validate(); err != nil {
		return r, err
	}
	all := questions()
	for _, name := range names {
		if !slices.ContainsFunc(all, func(q question) bool { return q.name == name }) {
			return r, fmt.Errorf("no question %q; there are:\n%s", name, describe(all))
		}
	}
	for _, q := range all {
		switch {
		case len(names) > 0 && !slices.Contains(names, q.name):
			continue
		case len(names) == 0 && q.name == "peer" && o.redis == "":
			o.say("peer: left out, there is no --redis")
			continue
		}
		o.say("%s: %s", q.name, q.asks)
		t, err := q.run(ctx, &o)
		if err != nil {
			return r, fmt.Errorf("%s: %w", q.name, err)
		}
		t.Question, t.Asks = q.name, q.asks
		r.Tables = append(r.Tables, t)
	}
	return r, nil
}

// say tells on standard error what is going on.
func (o *options) say(format string, args ...any) {
	fmt.Fprintf(o.progress, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

// temporary makes a folder for a journal, and says how to remove it.
func (o *options) temporary() (dir string, remove func() error, err error) {
	dir, err = os.MkdirTemp(o.dir, "sluice-windows-*")
	return dir, func() error { return os.RemoveAll(dir) }, err
}
