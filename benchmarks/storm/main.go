// Storm lets payments flow through a gate while everything that it rests on is
// killed, frozen, cut off and woken again, and then holds what the gate has said
// and kept against what it was sent.
//
//	go run ./benchmarks/storm --help
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// Exit statuses.
const (
	exitBad   = 1 // a promise was broken
	exitUsage = 2 // wrong usage, or it could not run
)

// errBroken says that a report has findings.
var errBroken = errors.New("promises were broken")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	switch {
	case errors.Is(err, errBroken):
		fmt.Fprintln(os.Stderr, "storm:", err)
		os.Exit(exitBad)
	case err != nil:
		fmt.Fprintln(os.Stderr, "storm:", err)
		os.Exit(exitUsage)
	}
}

// options are what a run can be told.
type options struct {
	seed       uint64
	payments   int
	rate       float64 // payments per second
	faults     int
	only       []string // kinds of faults; all if empty
	powerCuts  int      // of the arm with an embedded store
	partitions int
	session    time.Duration // after which a silent member has lost its partitions
	unit       time.Duration // of the windows, see oracle.Features
	settle     time.Duration // how long what was sent may take to be decided and folded
	report     string        // file, as Markdown
	dir        string        // kept, if it is given
	java, libs string
}

func defaultOptions() options {
	return options{seed: 20261125, payments: 500_000, rate: 150, faults: 60, powerCuts: 12, partitions: 8, session: 3 * time.Second,
		unit: 10 * time.Second, settle: 5 * time.Minute, java: os.Getenv("SLUICE_TEST_JAVA"), libs: os.Getenv("SLUICE_TEST_KAFKA_LIBS")}
}

func command() *cobra.Command {
	o := defaultOptions()
	cmd := &cobra.Command{
		Use:   "storm",
		Short: "Break everything that a gate rests on, and look whether its promises hold",
		Long: `Break everything that a gate rests on, and look whether its promises hold.

Three members share a group and a Redis; three brokers keep three copies of every record, two of them
in sync at the least. All are processes of this run, with links between them that it can cut, delay and
silence. Payments flow at a steady rate while faults strike, each healed before the next of its kind:

` + describeKinds() + `
A payment comes again now and then, half of the times in another partition. While Redis is broken nobody
can tell two members that decide one payment at the same moment what the other says; so where Redis is
among what is broken, such a copy comes twenty seconds later, when the first answer can be read.

Kinds, targets, times and durations come from the seed. Two brokers are never down at once; anything else
may overlap. Then everything is given time to settle, and the topics and the bytes in Redis are held
against what was sent, by benchmarks/storm/oracle.

A second arm kills one member with an embedded store, and takes from its files what it had not synced by
then, as its system calls show it (this needs strace).

Exit status: 0 if no promise was broken, 1 if one was, 2 if it could not run.`,
		Example: `  make storm
  make storm ARGS='--seed 7 --payments 50000 --faults 12 --only member-kill,member-freeze,broker-kill'
  make storm ARGS='--faults 0 --power-cuts 30'`,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := run(cmd.Context(), o, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			text := r.markdown()
			fmt.Fprint(cmd.OutOrStdout(), text)
			if o.report != "" {
				if err := os.WriteFile(o.report, []byte(text), 0o644); err != nil {
					return err
				}
			}
			if r.bad() > 0 {
				return errBroken
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.Uint64Var(&o.seed, "seed", o.seed, "of payments and faults")
	f.IntVar(&o.payments, "payments", o.payments, "how many flow, at the least: they go on until the last fault is healed")
	f.Float64Var(&o.rate, "rate", o.rate, "payments per second")
	f.IntVar(&o.faults, "faults", o.faults, "how many strike")
	f.StringSliceVar(&o.only, "only", nil, "kinds of faults (default: all)")
	f.IntVar(&o.powerCuts, "power-cuts", o.powerCuts, "how often the member with the embedded store is killed")
	f.IntVar(&o.partitions, "partitions", o.partitions, "of the topics")
	f.DurationVar(&o.session, "session-timeout", o.session, "silence after which a member has lost its partitions")
	f.DurationVar(&o.settle, "settle", o.settle, "how long what was sent may take to be decided and folded in the end")
	f.StringVar(&o.report, "report", "", "file for the report, as Markdown")
	f.StringVar(&o.dir, "dir", "", "folder for data and logs, kept in the end (default: a temporary one)")
	f.StringVar(&o.java, "java", o.java, "Java of version 17 or later (default: $SLUICE_TEST_JAVA)")
	f.StringVar(&o.libs, "kafka-libs", o.libs, "folder with the jars of Apache Kafka (default: $SLUICE_TEST_KAFKA_LIBS)")
	return cmd
}

// validate names every bad option.
func (o *options) validate() error {
	var errs []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(o.java != "" && o.libs != "", "--java and --kafka-libs are needed; `make storm` installs both and sets them")
	bad(o.payments > 0 && o.rate > 0, "--payments and --rate must be above 0")
	bad(o.faults >= 0 && o.powerCuts >= 0, "--faults and --power-cuts must not be below 0")
	bad(o.partitions >= 2, "--partitions %d: at least 2", o.partitions)
	bad(o.session >= time.Second, "--session-timeout %v: at least 1s", o.session)
	for _, name := range o.only {
		bad(kindOf(name) != nil, "--only: no such kind %q; there are %s", name, strings.Join(kindNames(), ", "))
	}
	return errors.Join(errs...)
}

func (o *options) String() string {
	return fmt.Sprintf("seed %d, %d payments at %g/s, %d faults, %d power cuts", o.seed, o.payments, o.rate, o.faults, o.powerCuts)
}
