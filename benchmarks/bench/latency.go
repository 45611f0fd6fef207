package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"golang.org/x/sync/errgroup"
)

// Latency is how long records take through one arm, from the time at which each
// was to be sent, by a schedule fixed in advance, until a consumer of the output
// has it. What is slow to be sent counts too: nothing is coordinated away.
type Latency struct {
	Arm    string      `json:"arm"`
	P50    float64     `json:"p50_ms"` // each the median of the rounds
	P99    float64     `json:"p99_ms"`
	P999   float64     `json:"p999_ms"`
	Max    float64     `json:"max_ms"`
	Rounds []Quantiles `json:"rounds"`
}

// Quantiles are of one round, in milliseconds.
type Quantiles struct {
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	P999    float64 `json:"p999_ms"`
	Max     float64 `json:"max_ms"`
	Samples int     `json:"samples"`
}

// warmUp is sent ahead of what is measured, at the same rate.
const warmUp = 2 * time.Second

// measureLatency offers each arm the same load, in turns.
func measureLatency(ctx context.Context, c *course, o Options, perSecond float64) ([]Latency, error) {
	var all []Latency
	for _, a := range arms() {
		if o.Only == "" || o.Only == a.name {
			all = append(all, Latency{Arm: a.name})
		}
	}
	for round := range o.Rounds {
		for i := range all {
			t := &all[i]
			o.Progress(fmt.Sprintf("latency at %.0f a second, round %d of %d: %s", perSecond, round+1, o.Rounds, t.Arm))
			q, err := latency(ctx, c, armNamed(t.Arm), o, perSecond)
			if err != nil {
				return nil, err
			}
			t.Rounds = append(t.Rounds, q)
		}
	}
	for i := range all {
		t := &all[i]
		of := func(get func(*Quantiles) float64) float64 {
			var v []float64
			for j := range t.Rounds {
				v = append(v, get(&t.Rounds[j]))
			}
			return median(v)
		}
		t.P50 = of(func(q *Quantiles) float64 { return q.P50 })
		t.P99 = of(func(q *Quantiles) float64 { return q.P99 })
		t.P999 = of(func(q *Quantiles) float64 { return q.P999 })
		t.Max = of(func(q *Quantiles) float64 { return q.Max })
	}
	return all, nil
}

// trial is one latency measurement under way.
type trial struct {
	*heat
	load     *load
	measured time.Duration // what is due before is warm-up
	began    time.Time     // when the schedule begins; set before anything is received
	primed   atomic.Int32  // partitions whose first record came through
	ready    chan struct{} // closed when all have
	samples  [][]float64   // ms, by partition
}

func latency(ctx context.Context, c *course, a *arm, o Options, perSecond float64) (q Quantiles, err error) {
	in, err := c.topic(ctx, "transactions")
	if err != nil {
		return q, err
	}
	h, err := c.heat(ctx, in, a.name)
	if err != nil {
		return q, err
	}
	count := int(perSecond * (warmUp + o.Duration).Seconds())
	t := &trial{
		heat: &h, measured: warmUp, ready: make(chan struct{}), samples: make([][]float64, c.partitions),
		load: newStream(o.Seed, o.People, payment.TimeOf(time.Now()), perSecond).take(count, c.partitions),
	}
	runtime.GC()
	if err := h.run(ctx, a, t.observe); err != nil {
		return q, err
	}
	all := slices.Concat(t.samples...)
	if len(all) == 0 {
		return q, errors.New("nothing was measured")
	}
	slices.Sort(all)
	at := func(share float64) float64 { return all[min(len(all)-1, int(share*float64(len(all))))] }
	return Quantiles{P50: at(.5), P99: at(.99), P999: at(.999), Max: all[len(all)-1], Samples: len(all)}, nil
}

// observe sends the load and receives what the arm makes of it. The first record
// of each partition is sent ahead: when it has come through, the arm is at work.
func (t *trial) observe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, t.measured+t.load.due[len(t.load.due)-1]+time.Minute)
	defer cancel()
	receiving, ctx := errgroup.WithContext(ctx)
	for p := range t.partitions {
		receiving.Go(func() error { return t.receive(ctx, p) })
		if err := t.conn.Produce(ctx, t.in, p, t.load.records[p][:1]); err != nil {
			return err
		}
	}
	select {
	case <-t.ready:
	case <-ctx.Done():
		return receiving.Wait()
	}
	for p := range t.partitions {
		receiving.Go(func() error { return t.send(ctx, p) })
	}
	return receiving.Wait()
}

// send sends each record of a partition when it is due, together with all that
// have fallen due while the ones before were on their way.
func (t *trial) send(ctx context.Context, p int) error {
	records, numbers := t.load.records[p], t.load.numbers[p]
	for i := 1; i < len(records); {
		elapsed := time.Since(t.began)
		n := i
		for n < len(records) && t.load.due[numbers[n]] <= elapsed {
			n++
		}
		if n == i {
			time.Sleep(t.load.due[numbers[i]] - elapsed)
			continue
		}
		if err := t.conn.Produce(ctx, t.in, p, records[i:n]); err != nil {
			return err
		}
		i = n
	}
	return nil
}

// receive reads a partition of the output until every record has come through.
func (t *trial) receive(ctx context.Context, p int) error {
	var buf broker.FetchBuffer
	missing := len(t.load.records[p])
	t.samples[p] = make([]float64, 0, missing)
	for next := int64(0); missing > 0; {
		got, err := t.conn.Fetch(ctx, broker.FetchRequest{Topic: t.out, Partition: p, Offset: next}, &buf)
		if err != nil {
			return fmt.Errorf("%d records of partition %d have not come through: %w", missing, p, err)
		}
		now := time.Now()
		next = got.Next
		for i := range got.Records {
			number, err := numberOf(got.Records[i].Value)
			if err != nil {
				return err
			}
			if missing--; missing == len(t.load.records[p])-1 {
				if int(t.primed.Add(1)) == t.partitions {
					t.began = now.Add(10 * time.Millisecond)
					close(t.ready)
				}
				continue
			}
			if due := t.load.due[number]; due >= t.measured {
				t.samples[p] = append(t.samples[p], float64(now.Sub(t.began.Add(due)).Nanoseconds())/1e6)
			}
		}
	}
	return nil
}

// numberOf finds the place of a record in its load: traffic counts in the last
// ten digits of a transaction's id, which decisions and copies hold alike.
func numberOf(record []byte) (int, error) {
	_, rest, ok := bytes.Cut(record, []byte(`"transaction_id":"`))
	id, _, _ := bytes.Cut(rest, []byte(`"`))
	if !ok || len(id) < 10 {
		return 0, fmt.Errorf("a record without a transaction id came through: %.80q", record)
	}
	n, err := strconv.Atoi(string(id[len(id)-10:]))
	return n - 1, err
}
