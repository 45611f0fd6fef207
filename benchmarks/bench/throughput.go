package bench

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Throughput is what one arm does with a backlog.
type Throughput struct {
	Arm       string    `json:"arm"`
	PerSecond float64   `json:"records_per_second"` // median of the rounds
	Rounds    []float64 `json:"rounds"`
	CPU       float64   `json:"cpu_us_per_record"` // of this process, the embedded broker included: microseconds, median
}

// step is how far event time advances from one transaction of a backlog to the
// next: a backlog of 400,000 is two hours of payments.
const step = 20 * time.Millisecond

// measureThroughput lets the arms take the same backlog, in turns.
func measureThroughput(ctx context.Context, c *course, o Options) ([]Throughput, error) {
	o.Progress(fmt.Sprintf("making %d transactions", o.Count))
	start := payment.TimeOf(time.Now().Add(-time.Duration(o.Count)*step - time.Minute))
	in, err := c.topic(ctx, "transactions")
	if err != nil {
		return nil, err
	}
	if err := c.load(ctx, in, newStream(o.Seed, o.People, start, float64(time.Second/step)).take(o.Count, c.partitions)); err != nil {
		return nil, err
	}
	var all []Throughput
	var cpu [][]float64
	for _, a := range arms() {
		if o.Only == "" || o.Only == a.name {
			all, cpu = append(all, Throughput{Arm: a.name}), append(cpu, nil)
		}
	}
	for round := range o.Rounds {
		for i := range all {
			t := &all[i]
			o.Progress(fmt.Sprintf("throughput, round %d of %d: %s", round+1, o.Rounds, t.Arm))
			perSecond, used, err := throughput(ctx, c, in, armNamed(t.Arm), int64(o.Count))
			if err != nil {
				return nil, err
			}
			t.Rounds, cpu[i] = append(t.Rounds, perSecond), append(cpu[i], used)
		}
	}
	for i := range all {
		all[i].PerSecond, all[i].CPU = median(all[i].Rounds), median(cpu[i])
	}
	return all, nil
}

// throughput is measured from outside and for all arms alike: from the first
// record in the output topic until the group has committed the last one.
func throughput(ctx context.Context, c *course, in string, a *arm, count int64) (perSecond, cpu float64, err error) {
	h, err := c.heat(ctx, in, a.name)
	if err != nil {
		return 0, 0, err
	}
	runtime.GC()
	err = h.run(ctx, a, func(ctx context.Context) error {
		if err := h.firstRecord(ctx); err != nil {
			return err
		}
		began, before := time.Now(), cpuTime()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			}
			done, err := h.committed(ctx, h.group, h.in)
			if err != nil {
				return err
			}
			if done >= count {
				break
			}
		}
		perSecond = float64(count) / time.Since(began).Seconds()
		cpu = (cpuTime() - before).Seconds() * 1e6 / float64(count)
		return h.complete(ctx, count)
	})
	return perSecond, cpu, err
}

// firstRecord waits until the first partition of the output has one.
func (h *heat) firstRecord(ctx context.Context) error {
	var buf broker.FetchBuffer
	for next := int64(0); ; {
		got, err := h.conn.Fetch(ctx, broker.FetchRequest{Topic: h.out, Offset: next, MaxBytes: 1}, &buf)
		if err != nil {
			return err
		}
		if len(got.Records) > 0 {
			return nil
		}
		next = got.Next
	}
}

// complete makes sure that what was committed was also published.
func (h *heat) complete(ctx context.Context, count int64) error {
	ranges, err := h.conn.TopicOffsets(ctx, h.out)
	if err != nil {
		return err
	}
	var sum int64
	for _, r := range ranges {
		sum += r.End - r.First
	}
	if sum < count {
		return fmt.Errorf("%s holds %d records after %d were committed", h.out, sum, count)
	}
	return nil
}

// cpuTime is what this process has used so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
