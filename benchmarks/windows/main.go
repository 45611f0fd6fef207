// Windows measures pipeline/window: what sliding windows cost from a thousand to
// millions of keys, with a journal, over long and short windows, in memory and on
// disk, at a restart, and beside sorted sets in Redis.
//
//	go run ./benchmarks/windows --help
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "windows:", err)
		os.Exit(2)
	}
}

func command() *cobra.Command {
	o := defaultOptions()
	cmd := &cobra.Command{
		Use:   "windows [flags] [QUESTION…]",
		Short: "Measure sliding windows",
		Long: `Measure sliding windows, one table a question. Without a question: all of them, peer only where a
Redis is given.

` + describe(questions()) + `
Transactions name all five entities: payer, card, device, ip, payee; --keys and --people count payers,
and there are as many cards and devices, a quarter of ips, a tenth of payees. Payers come at random;
payees are favourites of their payers or, for 3 of 10 payments, the popular ones of 20 regions. Event
time advances by the same step with each transaction, long enough that windows are left as fast as they
are entered before anything is timed. Batches are of 200.

Whatever is compared in one table ran in one process, in turns: every round measures each arm once, and
medians of the rounds are printed. "µs" is the time of the clock in calls of Append, "CPU µs" what the
process used in the meantime, collection of garbage and background syncing included; "tx/s of a core" is
what one core could do by that; "verdicts" is the noting of verdicts, which comes on top, as the gate
does it. On a machine that others use, trust CPU.`,
		Example: `  go run ./benchmarks/windows
  go run ./benchmarks/windows scale --keys 1000,1000000 --rounds 3
  .ci/services run redis -- go run ./benchmarks/windows peer --format json
  go run ./benchmarks/windows restart --transactions 1000000 --dir /var/tmp`,
		Args: cobra.ArbitraryArgs, SilenceUsage: true, SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		RunE: func(cmd *cobra.Command, names []string) error {
			o.progress = cmd.ErrOrStderr()
			r, err := run(cmd.Context(), o, names)
			if err != nil {
				return err
			}
			return r.write(cmd.OutOrStdout(), o.format)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.format, "format", o.format, "text or json")
	f.StringVar(&o.dir, "dir", o.dir, "folder in which temporary journals are made (default: the system's)")
	f.IntVar(&o.rounds, "rounds", o.rounds, "how often each arm is measured; medians count")
	f.IntVar(&o.measure, "measure", o.measure, "transactions of one arm in one round")
	f.Uint64Var(&o.seed, "seed", o.seed, "of the transactions")
	f.IntSliceVar(&o.keys, "keys", o.keys, "scale: numbers of payers")
	f.IntVar(&o.people, "people", o.people, "the others: how many people pay")
	f.IntVar(&o.transactions, "transactions", o.transactions, "restart: how many the store holds")
	f.IntVar(&o.memory, "memory", 0, "MiB that the folds of a store may take; what is beyond is evicted and read again (default: the store's own)")
	f.StringVar(&o.redis, "redis", os.Getenv("SLUICE_TEST_REDIS"), "peer: host:port of a Redis; its keys are removed in the end (default: $SLUICE_TEST_REDIS)")
	f.IntVar(&o.peerBatch, "peer-batch", o.peerBatch, "peer: transactions that the sorted sets get in one pipeline")
	f.IntVar(&o.peerMeasure, "peer-measure", o.peerMeasure, "peer: transactions of one arm in one round")
	cmd.AddCommand(fillCommand(), probeCommand())
	return cmd
}

// describe lists questions and what they ask.
func describe(all []question) string {
	var b strings.Builder
	for _, q := range all {
		fmt.Fprintf(&b, "  %-8s %s\n", q.name, q.asks)
	}
	return b.String()
}

// fillCommand and probeCommand are the processes that the question `restart` starts.
func fillCommand() *cobra.Command {
	var f filling
	cmd := &cobra.Command{
		Use: "fill", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.fill(cmd.Context(), cmd.OutOrStdout()) },
	}
	cmd.Flags().StringVar(&f.Dir, "dir", "", "of the store")
	cmd.Flags().Uint64Var(&f.Seed, "seed", 0, "of the transactions")
	cmd.Flags().IntVar(&f.People, "people", 0, "who pay")
	cmd.Flags().IntVar(&f.Transactions, "transactions", 0, "that the store is to hold")
	return cmd
}

func probeCommand() *cobra.Command {
	var f filling
	cmd := &cobra.Command{
		Use: "probe", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.probe(cmd.Context(), cmd.OutOrStdout()) },
	}
	cmd.Flags().StringVar(&f.Dir, "dir", "", "of the store")
	cmd.Flags().Uint64Var(&f.Seed, "seed", 0, "of the transactions")
	cmd.Flags().IntVar(&f.People, "people", 0, "who pay")
	cmd.Flags().IntVar(&f.Transactions, "transactions", 0, "that came before")
	return cmd
}
