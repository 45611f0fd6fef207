package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"time"

	"github.com/sluice-risk/sluice/benchmarks/bench"
	"github.com/spf13/cobra"
)

func benchCommand() *cobra.Command {
	o := bench.DefaultOptions()
	var format, profile string
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure end to end beside plain copies on the same broker, and the engine alone",
		Long: `Measure Sluice and plain copies in turns on the same broker: throughput from a backlog, and
open-loop latency at half of Sluice's throughput; then the engine alone, on one core. Without
--brokers it starts the embedded broker, and the figures are of that. Topics and groups that it
makes have fresh names and are deleted in the end.`,
		Example: "  sluice bench\n  sluice bench --brokers 127.0.0.1:9092 --duration 20s --format json\n  sluice bench --engine-only",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "text" && format != "json" {
				return fmt.Errorf("--format %q: must be text or json", format)
			}
			began := time.Now()
			o.Progress = func(what string) {
				fmt.Fprintf(os.Stderr, "%4.0fs  %s\n", time.Since(began).Seconds(), what)
			}
			stop, err := startProfile(profile)
			if err != nil {
				return err
			}
			report, err := bench.Run(cmd.Context(), o)
			if err := errors.Join(err, stop()); err != nil {
				return err
			}
			if format == "json" {
				return report.WriteJSON(cmd.OutOrStdout())
			}
			return report.WriteText(cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.Brokers, "brokers", nil, "addresses of the Kafka cluster (default: the embedded broker)")
	f.DurationVar(&o.Duration, "duration", o.Duration, "of load in each latency measurement")
	f.IntVar(&o.Rounds, "rounds", o.Rounds, "how often each arm is measured; medians count")
	f.IntVar(&o.People, "people", o.People, "who pay; more of them are more entities, and colder ones")
	f.IntVar(&o.Count, "transactions", o.Count, "in the backlog of a throughput measurement")
	f.Float64Var(&o.Rate, "rate", 0, "records a second offered in latency measurements (default: half of what Sluice can do)")
	f.IntVar(&o.Partitions, "partitions", o.Partitions, "of each topic")
	f.Uint64Var(&o.Seed, "seed", o.Seed, "of the transactions")
	f.BoolVar(&o.EngineOnly, "engine-only", false, "measure the engine alone")
	f.StringVar(&o.Only, "only", "", "measure one arm alone: sluice, reader-writer, readers-writer or fetch-produce")
	f.StringVar(&profile, "cpuprofile", "", "write a profile of this process to a file, for go tool pprof")
	f.StringVar(&format, "format", "text", "text or json")
	return cmd
}

// startProfile profiles into a file until stop is called; "" is none.
func startProfile(file string) (stop func() error, err error) {
	if file == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}
