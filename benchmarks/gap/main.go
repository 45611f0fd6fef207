// Gap measures how long payments wait for their verdicts when a member joins its
// group, leaves it, or is killed: members with the store on Redis, as processes,
// under a steady load.
//
//	go run ./benchmarks/gap --help
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "gap:", err)
		os.Exit(2)
	}
}

// options are what a run can be told.
type options struct {
	brokers    []string
	redis      string
	members    int
	partitions int
	rate       float64 // payments per second
	session    time.Duration
	rounds     int
	seed       uint64
	format     string
}

func command() *cobra.Command {
	o := options{members: 3, partitions: 8, rate: 500, session: 3 * time.Second, rounds: 3, seed: 1, format: "text"}
	cmd := &cobra.Command{
		Use:   "gap",
		Short: "Measure the gap in verdicts when members come and go",
		Long: `Measure the gap in verdicts when a member joins, leaves (SIGTERM) or is killed (SIGKILL).

A payment's time runs from when it was to be sent, by a schedule fixed in advance, to the receipt of
its decision. The gap of a partition is the longest such time around the change, less the median of the
seconds before it. "noticed" is when the group was seen to rebalance, "stable" when all had joined
again: what a killed member costs before it is noticed is the session timeout, no more and no less than
people choose; "after" is the worst gap without it.

Every round: one joins, one leaves, one is killed and replaced. Topics and keys are removed in the end.`,
		Example: `  .ci/services run kafka redis -- go run ./benchmarks/gap
  go run ./benchmarks/gap --brokers 127.0.0.1:9092 --redis 127.0.0.1:6379 --session-timeout 10s --format json`,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := measure(cmd.Context(), &o)
			if err != nil {
				return err
			}
			return r.write(cmd.OutOrStdout(), o.format)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.brokers, "brokers", fromEnv("SLUICE_TEST_KAFKA"), "addresses of the Kafka cluster (default: $SLUICE_TEST_KAFKA)")
	f.StringVar(&o.redis, "redis", os.Getenv("SLUICE_TEST_REDIS"), "host:port of the Redis; several are a cluster (default: $SLUICE_TEST_REDIS)")
	f.IntVar(&o.members, "members", o.members, "of the group")
	f.IntVar(&o.partitions, "partitions", o.partitions, "of the topics")
	f.Float64Var(&o.rate, "rate", o.rate, "payments per second")
	f.DurationVar(&o.session, "session-timeout", o.session, "silence after which a member is dead")
	f.IntVar(&o.rounds, "rounds", o.rounds, "how often each change is measured")
	f.Uint64Var(&o.seed, "seed", o.seed, "of the payments")
	f.StringVar(&o.format, "format", o.format, "text or json")
	return cmd
}

func fromEnv(name string) []string {
	if v := os.Getenv(name); v != "" {
		return []string{v}
	}
	return nil
}

// calm is how long nothing changes before each change.
const calm = 4 * time.Second

// measure lets members come and go.
func measure(ctx context.Context, o *options) (r *report, err error) {
	g, err := newGroup(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { g.remove() }()
	for range o.members {
		if err := g.join(); err != nil {
			return nil, err
		}
	}
	if err := g.settle(ctx, o.members); err != nil {
		return nil, err
	}
	traffic, err := g.startTraffic(ctx, o)
	if err != nil {
		return nil, err
	}
	defer traffic.stop()
	if err := sleep(ctx, calm); err != nil { // what is cold at first is no gap
		return nil, err
	}
	r = &report{Setting: o.setting()}
	for range o.rounds {
		for _, c := range []struct {
			name    string
			change  func() error
			members int
		}{
			{"join", g.join, o.members + 1},
			{"leave", g.leave, o.members},
			{"kill", g.kill, o.members - 1},
		} {
			one, err := g.gap(ctx, traffic, c.name, c.change, c.members)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			r.Gaps = append(r.Gaps, one)
			fmt.Fprintln(os.Stderr, one)
		}
		if err := g.join(); err != nil {
			return nil, err
		}
		if err := g.settle(ctx, o.members); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// gap measures one change.
func (g *group) gap(ctx context.Context, t *traffic, name string, change func() error, members int) (one gap, err error) {
	began := time.Now()
	if err := sleep(ctx, calm); err != nil {
		return one, err
	}
	at := time.Now()
	changed := make(chan error, 1)
	go func() { changed <- change() }()
	noticed, stable, err := g.watch(ctx, members)
	if err == nil {
		err = <-changed
	}
	if err == nil {
		err = sleep(ctx, calm)
	}
	if err != nil {
		return one, err
	}
	end := time.Now()
	if err := t.answered(ctx, end); err != nil {
		return one, err
	}
	before, after := t.times(began, at.Add(-time.Second)), t.times(at.Add(-time.Second), end)
	one = gap{Change: name, Noticed: noticed.Sub(at), Stable: stable.Sub(at), Normal: median(before)}
	for p := range after {
		one.Partitions = append(one.Partitions, longest(after[p])-one.Normal)
	}
	one.Before = longest(flat(before)) - one.Normal
	return one, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
