package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
)

func TestFetchReturnsWhatWasProduced(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		ctx := within(t, 30*time.Second)
		topic := newTopic(t, c, 1, nil)
		want := sampleRecords(3000)
		var sent []Message
		for i := range want {
			want[i].Partition = 0
			sent = append(sent, Message{Key: want[i].Key, Value: want[i].Value, Headers: want[i].Headers, Time: want[i].Time})
		}
		if err := c.Produce(ctx, topic, 0, sent); err != nil {
			t.Fatal(err)
		}
		got := readAll(t, c, topic, 0, FirstOffset)
		if len(got) != len(want) {
			t.Fatalf("%d records, want %d", len(got), len(want))
		}
		for i := range want {
			if !same(got[i], want[i]) {
				t.Fatalf("record %d: got %+v, want %+v", i, got[i], want[i])
			}
		}
	})
}

// A marker at the end of a partition has an offset and no record: a reader that does not pass it asks for it for ever.
func TestFetchPassesMarkersAlsoAtTheEnd(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		ctx := within(t, 30*time.Second)
		topic := newTopic(t, c, 1, nil)
		publish := func(p *Publisher, text string) {
			var b Batch
			b.Add(time.Now().UnixMilli(), nil, []byte(text), nil)
			if _, err := p.Publish(ctx, &b); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 3 { // marker, record, marker, record, …
			p, _, err := c.Fence(ctx, topic, topic, 0)
			if err != nil {
				t.Fatal(err)
			}
			publish(p, fmt.Sprint("record ", i))
		}
		_, fence, err := c.Fence(ctx, topic, topic, 0) // and a marker at the end
		if err != nil {
			t.Fatal(err)
		}
		if fence != 7 {
			t.Fatalf("fence %d after 4 markers and 3 records, want 7", fence)
		}

		var buf FetchBuffer
		var values []string
		for next, rounds := int64(0), 0; next < fence; rounds++ {
			res, err := c.Fetch(ctx, FetchRequest{Topic: topic, Offset: next}, &buf)
			if err != nil {
				t.Fatal(err)
			}
			if res.Next <= next || rounds > 10 {
				t.Fatalf("fetch from %d leads to %d", next, res.Next)
			}
			for _, r := range res.Records {
				values = append(values, string(r.Value))
			}
			next = res.Next
		}
		if want := []string{"record 0", "record 1", "record 2"}; !slices.Equal(values, want) {
			t.Errorf("records %q, want %q", values, want)
		}
		// From the last marker itself: nothing but a way on.
		res, err := c.Fetch(ctx, FetchRequest{Topic: topic, Offset: fence - 1}, &buf)
		if err != nil || len(res.Records) != 0 || res.Next != fence || res.HighWater != fence {
			t.Errorf("from the marker: %d records, next %d, high water %d, %v; want 0, %d, %d", len(res.Records), res.Next, res.HighWater, err, fence, fence)
		}
	})
}

func TestCompressedInputIsRead(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		for _, codec := range []kafka.Compression{kafka.Gzip, kafka.Snappy, kafka.Lz4, kafka.Zstd} {
			t.Run(codec.String(), func(t *testing.T) {
				ctx := within(t, 30*time.Second)
				topic := newTopic(t, c, 1, nil)
				for part := range 3 { // several batches, so that one fetch inflates more than once
					var records []kafka.Record
					for i := range 500 {
						records = append(records, kafka.Record{
							Time: time.UnixMilli(1_700_000_000_000), Value: kafka.NewBytes(fmt.Appendf(nil, "%d of part %d %s", i, part, strings.Repeat("x", i))),
						})
					}
					res, err := c.client.Produce(ctx, &kafka.ProduceRequest{
						Topic: topic, RequiredAcks: kafka.RequireAll, Compression: codec, Records: kafka.NewRecordReader(records...),
					})
					if err != nil || res.Error != nil {
						t.Fatal(err, res)
					}
				}
				got := readAll(t, c, topic, 0, 0)
				if len(got) != 1500 {
					t.Fatalf("%d records, want 1500", len(got))
				}
				for i, r := range got {
					if want := fmt.Sprintf("%d of part %d %s", i%500, i/500, strings.Repeat("x", i%500)); string(r.Value) != want || r.Offset != int64(i) {
						t.Fatalf("record %d at offset %d: %.40q, want %.40q", i, r.Offset, r.Value, want)
					}
				}
			})
		}
	})
}

func TestLogAppendTimeIsTheRecordsTime(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		ctx := within(t, 30*time.Second)
		topic := newTopic(t, c, 1, map[string]string{"message.timestamp.type": "LogAppendTime"})
		before := time.Now().UnixMilli()
		if err := c.Produce(ctx, topic, 0, []Message{{Value: []byte("a"), Time: 1000}, {Value: []byte("b"), Time: 2000}}); err != nil {
			t.Fatal(err)
		}
		for _, r := range readAll(t, c, topic, 0, 0) {
			if r.Time < before || r.Time > time.Now().UnixMilli() {
				if strings.Contains(t.Name(), "embedded") {
					t.Skipf("the embedded broker kept the producer's time %d", r.Time)
				}
				t.Errorf("record %q has time %d, want the broker's, about %d", r.Value, r.Time, before)
			}
		}
	})
}

func TestFetchFromOutsideTheLogNamesWhatItHolds(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		ctx := within(t, 30*time.Second)
		topic := newTopic(t, c, 1, nil)
		if err := c.Produce(ctx, topic, 0, messages(5, "v%d")); err != nil {
			t.Fatal(err)
		}
		var buf FetchBuffer
		_, err := c.Fetch(ctx, FetchRequest{Topic: topic, Offset: 99}, &buf)
		var out *OffsetOutOfRangeError
		if !errors.As(err, &out) || out.First != 0 || out.End != 5 || out.Offset != 99 {
			t.Errorf("fetch from 99: %v, want OffsetOutOfRangeError with 0 to 5", err)
		}
		res, err := c.Fetch(ctx, FetchRequest{Topic: topic, Offset: FirstOffset}, &buf)
		if err != nil || len(res.Records) != 5 || res.Next != 5 {
			t.Errorf("from the first: %d records, next %d, %v", len(res.Records), res.Next, err)
		}
		res, err = c.Fetch(ctx, FetchRequest{Topic: topic, Offset: EndOffset, MaxWait: 50 * time.Millisecond}, &buf)
		if err != nil || len(res.Records) != 0 || res.Next != 5 {
			t.Errorf("from the end: %d records, next %d, %v", len(res.Records), res.Next, err)
		}
	})
}

func TestReadRangeEndsAtItsEndAndShowsAHole(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		ctx := within(t, 30*time.Second)
		topic := newTopic(t, c, 1, nil)
		if err := c.Produce(ctx, topic, 0, messages(10, "v%d")); err != nil {
			t.Fatal(err)
		}
		var offsets []int64
		collect := func(r Record) error { offsets = append(offsets, r.Offset); return nil }
		if began, err := c.ReadRange(ctx, topic, 0, 3, 6, collect); err != nil || began != 3 || !slices.Equal(offsets, []int64{3, 4, 5}) {
			t.Errorf("3 to 6: began %d, offsets %v, %v", began, offsets, err)
		}
		stop := errors.New("stop")
		if _, err := c.ReadRange(ctx, topic, 0, 0, 6, func(Record) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("the function's error came back as %v", err)
		}

		deleteBelow(t, c, topic, 4)
		offsets = nil
		if began, err := c.ReadRange(ctx, topic, 0, 2, 6, collect); err != nil || began != 4 || !slices.Equal(offsets, []int64{4, 5}) {
			t.Errorf("2 to 6 of a log that begins at 4: began %d, offsets %v, %v", began, offsets, err)
		}
	})
}

// A fetch that is given up may still be answered, into memory that must no longer be ours.
func TestCancelledFetchLeavesTheBufferUsable(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		topic := newTopic(t, c, 1, nil)
		var buf FetchBuffer
		for range 20 {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
			_, err := c.Fetch(ctx, FetchRequest{Topic: topic, Offset: 0, MaxWait: 5 * time.Second}, &buf)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("a fetch whose time is up: %v", err)
			}
		}
		ctx := within(t, 30*time.Second)
		if err := c.Produce(ctx, topic, 0, messages(100, "v%d")); err != nil {
			t.Fatal(err)
		}
		res, err := c.Fetch(ctx, FetchRequest{Topic: topic, Offset: 0}, &buf)
		if err != nil || len(res.Records) != 100 {
			t.Fatalf("%d records, %v; want 100", len(res.Records), err)
		}
	})
}

func TestFetchAndProduceOutliveCutConnections(t *testing.T) {
	e, err := StartEmbedded(EmbeddedConfig{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	var retried atomic.Int64
	c := open(t, Config{Brokers: []string{e.Addr()}, OnRetry: func(string, error) { retried.Add(1) }})
	cut := cutter{}
	c.transport.Dial = cut.dial
	topic := newTopic(t, c, 1, nil)
	ctx := within(t, 60*time.Second)
	p, _, err := c.Fence(ctx, topic, topic, 0)
	if err != nil {
		t.Fatal(err)
	}
	var buf FetchBuffer
	var batch Batch
	next, seen := int64(0), 0
	for i := range 200 {
		batch.Reset()
		batch.Add(int64(i), nil, fmt.Appendf(nil, "%d", i), nil)
		cut.after.Store(int64(i * 7 % 400)) // the connection dies after so many more bytes written, or at once
		if _, err := p.Publish(ctx, &batch); err != nil {
			t.Fatal(err)
		}
		res, err := c.Fetch(ctx, FetchRequest{Topic: topic, Offset: next}, &buf)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range res.Records {
			if string(r.Value) != fmt.Sprint(seen) {
				t.Fatalf("record %q, want %d: one was lost or doubled", r.Value, seen)
			}
			seen++
		}
		next = res.Next
	}
	if seen != 200 || retried.Load() == 0 {
		t.Errorf("%d of 200 records, %d retries", seen, retried.Load())
	}
}

// cutter dials connections that break once: after the bytes that are left, and before the answer is read.
type cutter struct{ after atomic.Int64 }

func (k *cutter) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	return &cutConn{Conn: conn, k: k}, err
}

type cutConn struct {
	net.Conn
	k *cutter
}

func (c *cutConn) Write(p []byte) (int, error) {
	if left := c.k.after.Load(); left > 0 {
		if c.k.after.Add(-int64(len(p))) <= 0 {
			c.k.after.Store(0)
			_, _ = c.Conn.Write(p) // the broker gets it, we never hear of it
			time.Sleep(time.Millisecond)
			_ = c.Conn.Close()
		} else {
			return c.Conn.Write(p)
		}
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

// deleteBelow has the broker forget records, as retention does.
func deleteBelow(t *testing.T, c *Conn, topic string, offset int64) {
	t.Helper()
	res, err := c.transport.RoundTrip(within(t, 10*time.Second), c.addr, &deleteRecords{topic: topic, offset: offset, clientID: c.cfg.ClientID})
	if err != nil {
		t.Fatal(err)
	}
	answer := res.(*deleteRecords).answer
	if !bytes.HasSuffix(answer, []byte{0, 0}) {
		t.Fatalf("delete records: answer % x", answer)
	}
}
