// Handbook replays the transactions of the Fraud Detection Handbook (Le Borgne,
// Siblini, Lebichot, Bontempi; ULB, 2022) through the gate and compares every
// feature to the one that the book has published:
//
//	go run ./benchmarks/handbook
//
// The data set is not part of this repository. HANDBOOK_DATA names its folder,
// by default ../shared/handbook beside the checkout. The exit status is 0 when
// all values are the published ones, 1 when one differs, 2 when it could not run.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	atOnce := flag.Bool("labels-at-once", false, "send each label right behind its transaction instead of seven days later; the features must not change")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	status, err := handbook(ctx, os.Stdout, *atOnce)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "handbook:", err)
	}
	os.Exit(status)
}

// handbook runs the comparison and prints what it found; status is that of the process.
func handbook(ctx context.Context, out io.Writer, atOnce bool) (status int, err error) {
	folder, err := dataFolder()
	if err != nil {
		return 2, err
	}
	bar := &progress{}
	r := run{folder: folder, delay: labelDelay, progress: bar.set}
	if atOnce {
		r.delay = 0
	}
	found, err := r.run(ctx)
	bar.end()
	if err != nil {
		return 2, err
	}
	found.write(out)
	fmt.Fprintf(out, "%d transactions and %d labels in %v: %.0f transactions a second, comparison included\n",
		found.transactions, found.summary.Lines-found.transactions, found.took.Round(10*time.Millisecond), float64(found.transactions)/found.took.Seconds())
	fmt.Fprintf(out, "Compared: flags and counts exactly, means and shares to within half a unit of the last of the %d digits published.\n", digits)
	problems := found.problems()
	if len(problems) == 0 {
		fmt.Fprintf(out, "All published values are reproduced, except %d rows whose ties the published file has the other way round: %v.\n", len(found.different), ties)
		return 0, nil
	}
	const shown = 50
	for _, p := range problems[:min(len(problems), shown)] {
		fmt.Fprintln(out, p)
	}
	if n := len(problems) - shown; n > 0 {
		fmt.Fprintf(out, "and %d more\n", n)
	}
	return 1, nil
}

// progress is a bar on a terminal, and a line every few seconds elsewhere.
type progress struct {
	bar  *progressbar.ProgressBar
	last time.Time
}

// set tells how many of the file's bytes are read, and how many records that made.
func (p *progress) set(read, of, records int64) {
	switch now := time.Now(); {
	case p.last.IsZero():
		p.last = now
		if isatty.IsTerminal(os.Stderr.Fd()) {
			p.bar = progressbar.NewOptions64(of, progressbar.OptionSetDescription("replay"), progressbar.OptionSetWriter(os.Stderr),
				progressbar.OptionShowBytes(true), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
		}
	case p.bar != nil:
		_ = p.bar.Set64(read)
	case now.Sub(p.last) > 5*time.Second:
		p.last = now
		fmt.Fprintf(os.Stderr, "replay: %d records, %d %% of the file\n", records, 100*read/of)
	}
}

func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}
