package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// measureRestart fills a store in one process, kills that, and opens it in
// others: the first finds what a killed process leaves, those after it what a
// store leaves that was closed.
func measureRestart(ctx context.Context, o *options) (t table, err error) {
	dir, remove, err := o.temporary()
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	f := filling{Dir: dir, Seed: o.seed, People: max(1000, o.transactions/10), Transactions: o.transactions}
	if err := f.fillAndKill(ctx); err != nil {
		return t, err
	}
	onDisk, err := folderBytes(dir)
	if err != nil {
		return t, err
	}
	o.say("%d transactions written", o.transactions)
	killed, err := f.restart(ctx)
	if err != nil {
		return t, err
	}
	var closed []cost
	var last probed
	for range o.rounds {
		f.Transactions++ // the one that the probe before this one appended
		if last, err = f.restart(ctx); err != nil {
			return t, err
		}
		closed = append(closed, cost{n: 1, wall: last.Open + last.First, cpu: last.CPU})
	}
	seconds := func(c *cost) float64 { return c.wall.Seconds() }
	t = table{
		Setting: fmt.Sprintf("5 entities × 1m, 10m, 1h × count and sum; %d people; event time advances %v a transaction; %.0f MB of files, which the machine has in its cache; each start is a process of its own; closed: median of %d",
			f.People, step, onDisk/1e6, o.rounds),
		Columns: []string{"s to the first values", "s to open", "CPU s", "peak RSS MB"},
		Rows: []row{
			{"after SIGKILL", []float64{(killed.Open + killed.First).Seconds(), killed.Open.Seconds(), killed.CPU.Seconds(), killed.RSS / 1e6}},
			{"after it was closed", []float64{medianOf(closed, seconds), last.Open.Seconds(), last.CPU.Seconds(), last.RSS / 1e6}},
		},
		Ratios: []ratio{{
			Name: fmt.Sprintf("seconds to the first values, %d transactions, closed", o.transactions), Value: medianOf(closed, seconds), Goal: "2 or less, of 10 million",
		}},
	}
	return t, nil
}

// filling is a store in a folder and what it holds.
type filling struct {
	Dir          string
	Seed         uint64
	People       int
	Transactions int
}

func (f *filling) command(ctx context.Context, verb string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, verb, "--dir", f.Dir, "--seed", strconv.FormatUint(f.Seed, 10),
		"--people", strconv.Itoa(f.People), "--transactions", strconv.Itoa(f.Transactions))
	cmd.Stderr = os.Stderr
	return cmd, nil
}

// filled is the line by which the filling process says that it may be killed.
const filled = "filled"

func (f *filling) fillAndKill(ctx context.Context) error {
	cmd, err := f.command(ctx, "fill")
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil && line != filled+"\n" {
		err = fmt.Errorf("the process that fills the store said %q", line)
	}
	if err != nil {
		return errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	if err := cmd.Process.Kill(); err != nil {
		return err
	}
	_ = cmd.Wait() // killed, as it had to be
	return nil
}

// fill is the process that fills the store, and then waits to be killed.
func (f *filling) fill(ctx context.Context, out io.Writer) error {
	s, err := f.open()
	if err != nil {
		return err
	}
	if err := s.warm(ctx, f.Transactions); err != nil {
		return err
	}
	for s.store.Durable() < s.store.Written() { // a kill loses nothing; this is for the size on disk
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	if _, err := fmt.Fprintln(out, filled); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// probed is what a restart took.
type probed struct {
	Open  time.Duration // of the store
	First time.Duration // until the first Append had returned its values
	CPU   time.Duration // of the process until it was open
	RSS   float64       // the most that the process had until then, in bytes
}

func (f *filling) restart(ctx context.Context) (p probed, err error) {
	cmd, err := f.command(ctx, "probe")
	if err != nil {
		return p, err
	}
	out, err := cmd.Output()
	if err != nil {
		return p, fmt.Errorf("the process that opens the store: %w", err)
	}
	return p, json.Unmarshal(out, &p)
}

// probe is the process that opens the store, appends one transaction more, and
// closes it.
func (f *filling) probe(ctx context.Context, out io.Writer) error {
	began := time.Now()
	s, err := f.open()
	if err != nil {
		return err
	}
	p := probed{Open: time.Since(began), CPU: cpuTime(), RSS: peakRSS()}
	s.stream.number = uint64(f.Transactions)
	s.seen = func(items []*window.Item) error { return f.compare(items[0]) }
	first, err := s.run(ctx, 1)
	if err != nil {
		return errors.Join(err, s.close())
	}
	p.First = first.wall
	if err := s.close(); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(p)
}

// compare holds the first values against the transactions of the longest window,
// made once more.
func (f *filling) compare(it *window.Item) error {
	inWindow := min(f.Transactions+1, int(time.Hour/step))
	before := newStream(f.Seed, f.People, step)
	before.number = uint64(f.Transactions + 1 - inWindow)
	txs := make([]payment.Transaction, inWindow)
	before.next(txs)
	slot := 0
	for _, k := range kinds {
		entity := window.Entity{First: k}
		for _, w := range shortWindows() {
			var count, sum int64
			for i := range txs {
				if tx := &txs[i]; entity.ID(tx) == entity.ID(it.Tx) && tx.EventTime > it.Tx.EventTime.Add(-w) {
					count++
					sum += tx.Amount.Value
				}
			}
			if got := it.Values[slot : slot+2]; got[0].Int() != count || got[1].Int() != sum {
				return fmt.Errorf("the first %s in %v: count %d and sum %d, must be %d and %d", entity, w, got[0].Int(), got[1].Int(), count, sum)
			}
			slot += 2
		}
	}
	return nil
}

func (f *filling) open() (*subject, error) {
	store, err := new(options).openEmbedded(f.Dir, countsAndSums(shortWindows()))
	if err != nil {
		return nil, err
	}
	return newSubject(store, newStream(f.Seed, f.People, step), func() error { return nil }), nil
}
