package broker

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// BenchmarkCopy reads payments of 370 bytes from one topic and publishes them behind a fence to another, one operation
// a record, lanes side by side: the most that a member could do, were deciding free. Client and broker share the
// machine; cpu-ns/record is the client's share.
func BenchmarkCopy(b *testing.B) {
	if os.Getenv(brokerEnv) == "" {
		b.Skip(brokerEnv + " is not set")
	}
	c := open(b, Config{Brokers: strings.Split(os.Getenv(brokerEnv), ",")})
	for _, lanes := range []int{1, 4} {
		for _, maxBytes := range []int{64 << 10, 512 << 10} {
			b.Run(fmt.Sprintf("lanes=%d/fetch=%dKiB", lanes, maxBytes>>10), func(b *testing.B) { benchmarkCopy(b, c, lanes, maxBytes) })
		}
	}
}

func benchmarkCopy(b *testing.B, c *Conn, lanes, maxBytes int) {
	ctx := within(b, 5*time.Minute)
	in, out := newTopic(b, c, lanes, nil), newTopic(b, c, lanes, nil)
	chunk := payments(500)
	each := (b.N + lanes - 1) / lanes
	publishers := make([]*Publisher, lanes)
	for p := range lanes {
		for sent := 0; sent < each; sent += len(chunk) {
			if err := c.Produce(ctx, in, p, chunk); err != nil {
				b.Fatal(err)
			}
		}
		var err error
		if publishers[p], _, err = c.Fence(ctx, fmt.Sprint(out, "/", p), out, p); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime(b)
	var running errgroup.Group
	for p := range lanes {
		running.Go(func() error { return copyLane(ctx, c, publishers[p], in, p, each, maxBytes) })
	}
	if err := running.Wait(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/record")
}

func copyLane(ctx context.Context, c *Conn, to *Publisher, in string, partition, count, maxBytes int) error {
	var buf FetchBuffer
	var batch Batch
	for next, copied := int64(0), 0; copied < count; {
		res, err := c.Fetch(ctx, FetchRequest{Topic: in, Partition: partition, Offset: next, MaxBytes: maxBytes}, &buf)
		if err != nil {
			return err
		}
		batch.Reset()
		for i := range res.Records {
			r := &res.Records[i]
			batch.Add(r.Time, r.Key, r.Value, r.Headers)
		}
		if _, err := to.Publish(ctx, &batch); err != nil {
			return err
		}
		next = res.Next
		copied += len(res.Records)
	}
	return nil
}

// cpuTime is what this process has used so far.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// payments have the size of a payment: 370 bytes of value.
func payments(n int) []Message {
	value := bytes.Repeat([]byte{'x'}, 370)
	all := make([]Message, n)
	for i := range all {
		all[i] = Message{Key: fmt.Appendf(nil, "u-%06d", i), Value: value}
	}
	return all
}

// BenchmarkProduce is the load generator's side: messages dealt out by key over four partitions, one operation a record.
func BenchmarkProduce(b *testing.B) {
	if os.Getenv(brokerEnv) == "" {
		b.Skip(brokerEnv + " is not set")
	}
	c := open(b, Config{Brokers: strings.Split(os.Getenv(brokerEnv), ",")})
	ctx := within(b, 5*time.Minute)
	topic := newTopic(b, c, 4, nil)
	chunk := payments(2000)
	b.ReportAllocs()
	b.ResetTimer()
	for sent := 0; sent < b.N; sent += len(chunk) {
		if err := c.Produce(ctx, topic, ByKey, chunk); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
