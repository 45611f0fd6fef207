// Reload measures what reloads add to the time of verdicts: lanes decide payments
// at a steady rate, in one process and without a broker, while rulesets are loaded
// and put in force one after the other.
//
//	go run ./benchmarks/reload --help
package main

import (
	"context"
	"fmt"
	"io"
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
		fmt.Fprintln(os.Stderr, "reload:", err)
		os.Exit(2)
	}
}

// options are what a run can be told.
type options struct {
	lanes, batch, people, warm, rounds int
	rate                               float64 // payments per second
	every, turn                        time.Duration
	seed                               uint64
}

func command() *cobra.Command {
	o := options{lanes: 2, batch: 10, people: 100_000, warm: 100_000, rounds: 3, rate: 4000, every: 100 * time.Millisecond, turn: 10 * time.Second, seed: 1}
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Measure what reloads add to the time of verdicts",
		Long: `Measure what reloads add to the time of verdicts. A micro-batch's time runs from when it was due, by a schedule
fixed in advance, to its decisions. The arms take turns: no reloads; rulesets loaded and compiled, and none put in
force; rulesets whose rules change; rulesets whose features change, so that all folds are made again.`,
		Example: "  go run ./benchmarks/reload\n  go run ./benchmarks/reload --rounds 1 --turn 3s",
		Args:    cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			results, err := measure(cmd.Context(), &o, func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), text) })
			if err != nil {
				return err
			}
			write(cmd.OutOrStdout(), &o, results)
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.lanes, "lanes", o.lanes, "that decide side by side")
	f.IntVar(&o.batch, "batch", o.batch, "payments in a micro-batch")
	f.IntVar(&o.people, "people", o.people, "who pay")
	f.IntVar(&o.warm, "warm", o.warm, "payments before the measurement")
	f.Float64Var(&o.rate, "rate", o.rate, "payments per second, over all lanes")
	f.DurationVar(&o.every, "every", o.every, "time between two reloads")
	f.DurationVar(&o.turn, "turn", o.turn, "length of an arm's turn")
	f.IntVar(&o.rounds, "rounds", o.rounds, "turns of each arm")
	f.Uint64Var(&o.seed, "seed", o.seed, "of the payments")
	return cmd
}

// write prints the arms beside each other.
func write(out io.Writer, o *options, results []result) {
	fmt.Fprintf(out, "%d lanes, %.0f payments/s in micro-batches of %d, a reload every %v, %d turns of %v each\n\n", o.lanes, o.rate, o.batch, o.every, o.rounds, o.turn)
	fmt.Fprintln(out, "| while | micro-batches | p50 | p99 | p99.9 | max | p99 more | reloads | load and compile p50 | switch p50 | p99 | max |")
	fmt.Fprintln(out, "|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, r := range results {
		fmt.Fprintf(out, "| %s | %d | %s | %s | %s | %s | %s | %d | %s | %s | %s | %s |\n", r.arm, len(r.batches), ms(r.batches.at(.5)), ms(r.batches.at(.99)), ms(r.batches.at(.999)), ms(r.batches.at(1)),
			ms(r.batches.at(.99)-results[0].batches.at(.99)), len(r.loads), ms(r.loads.at(.5)), ms(r.switches.at(.5)), ms(r.switches.at(.99)), ms(r.switches.at(1)))
	}
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1000) }
