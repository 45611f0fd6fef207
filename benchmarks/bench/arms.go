package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"golang.org/x/sync/errgroup"
)

// arm is one way from a topic to another.
type arm struct {
	name string
	what string // in words, for the report
	// run works until ctx ends.
	run func(ctx context.Context, h *heat) error
}

const (
	sluiceArm        = "sluice"
	readerWriterArm  = "reader-writer"
	readersWriterArm = "readers-writer"
	fetchProduceArm  = "fetch-produce"
)

func arms() []*arm {
	return []*arm{
		{sluiceArm, "the service: 5 entities, 20 features, 20 rules, embedded store with its journal", runSluice},
		{readerWriterArm, "copy with one Reader and one Writer, batches of 500, asynchronous commits", func(ctx context.Context, h *heat) error {
			return runReaderWriter(ctx, h, 1, time.Millisecond)
		}},
		{readersWriterArm, "the same with a Reader for each partition, so that each batch is of one partition", func(ctx context.Context, h *heat) error {
			return runReaderWriter(ctx, h, h.partitions, 10*time.Millisecond)
		}},
		{fetchProduceArm, "copy with Fetch + Produce, commits at most ten times a second", runFetchProduce},
	}
}

func armNamed(name string) *arm {
	for _, a := range arms() {
		if a.name == name {
			return a
		}
	}
	return nil
}

func armNames() string {
	var names []string
	for _, a := range arms() {
		names = append(names, a.name)
	}
	return strings.Join(names, ", ")
}

// runSluice is the service as `sluice run` has it.
func runSluice(ctx context.Context, h *heat) error {
	c := pipeline.DefaultConfig()
	c.Kafka.Brokers, c.Kafka.Group = h.brokers, h.group
	c.Topics = pipeline.Topics{
		Create: true, Partitions: h.partitions, Replication: 1,
		Transactions: h.in, Decisions: h.out, Outcomes: h.out + "-outcomes", Reviews: h.out + "-reviews", Controls: h.out + "-controls", Notices: h.out + "-notices", Alerts: h.out + "-alerts", DeadLetters: h.out + "-dead-letters",
	}
	h.topics = append(h.topics, c.Topics.Outcomes, c.Topics.Controls, c.Topics.DeadLetters)
	c.Store, c.Rules, c.HTTP = "pebble:"+h.dir, h.rules(), ""
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := pipeline.NewService(ctx, c, prometheus.NewRegistry(), log)
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// commitEvery is how often the copies commit at the most; Sluice has the same.
const commitEvery = 100 * time.Millisecond

// runReaderWriter is the copy that kafka-go's documentation leads to, tuned:
// large queues, batches of 500 without waiting for them to fill, commits in the
// background. What a writer has of one partition waits for up to linger until
// there are 500: with one reader, whose batches are of all partitions, that is
// always so; with one for each partition, hardly ever in a backlog.
func runReaderWriter(ctx context.Context, h *heat, readers int, linger time.Duration) error {
	const batch = 500
	transport := &kafka.Transport{ClientID: "sluice-bench-copy"} // its own: the default one may have a layout from before the topic was made
	defer transport.CloseIdleConnections()
	writer := &kafka.Writer{
		Addr: kafka.TCP(h.brokers...), Topic: h.out, RequiredAcks: kafka.RequireAll, Transport: transport,
		BatchSize: batch, BatchTimeout: linger, BatchBytes: 1_000_000,
		Balancer: kafka.BalancerFunc(func(m kafka.Message, _ ...int) int { return m.Partition }),
	}
	work, ctx := errgroup.WithContext(ctx)
	for range readers {
		reader := kafka.NewReader(kafka.ReaderConfig{
			Brokers: h.brokers, GroupID: h.group, Topic: h.in, StartOffset: kafka.FirstOffset,
			QueueCapacity: 16 * batch, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: 10 * time.Millisecond,
			CommitInterval: commitEvery, ReadBatchTimeout: 10 * time.Second, JoinGroupBackoff: 100 * time.Millisecond,
			HeartbeatInterval: 3 * time.Second, SessionTimeout: 10 * time.Second,
		})
		read := make(chan kafka.Message, batch)
		work.Go(func() error {
			defer close(read)
			for {
				m, err := reader.FetchMessage(ctx)
				if err != nil {
					return err
				}
				select {
				case read <- m:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		})
		work.Go(func() error {
			err := writeBatches(ctx, reader, writer, read, batch)
			return errors.Join(err, reader.Close())
		})
	}
	err := work.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, writer.Close())
}

// writeBatches writes what has been read, as much as there is up to a batch.
func writeBatches(ctx context.Context, reader *kafka.Reader, writer *kafka.Writer, read <-chan kafka.Message, batch int) error {
	var got, out []kafka.Message
	for m := range read {
		got = append(got[:0], m)
		for more := true; more && len(got) < batch; {
			select {
			case m, more = <-read:
				if more {
					got = append(got, m)
				}
			default:
				more = false
			}
		}
		out = out[:0]
		for i := range got {
			out = append(out, kafka.Message{Partition: got[i].Partition, Key: got[i].Key, Value: got[i].Value, Time: got[i].Time})
		}
		if err := writer.WriteMessages(ctx, out...); err != nil {
			return err
		}
		if err := reader.CommitMessages(ctx, got...); err != nil {
			return err
		}
	}
	return nil
}

// runFetchProduce is the leanest copy that we know: each partition by itself,
// the bytes moved from the fetched batch into the next one, no client in between.
func runFetchProduce(ctx context.Context, h *heat) error {
	conn, err := broker.Open(broker.Config{Brokers: h.brokers, ClientID: "sluice-bench-copy"})
	if err != nil {
		return err
	}
	defer conn.Close()
	group := broker.GroupConfig{Group: h.group, Topics: []string{h.in}}
	return conn.JoinGroup(ctx, group, func(ctx context.Context, g *broker.Generation) error {
		work, ctx := errgroup.WithContext(ctx)
		for _, a := range g.Assigned {
			work.Go(func() error { return copyPartition(ctx, h, conn, g, a) })
		}
		return work.Wait()
	})
}

func copyPartition(ctx context.Context, h *heat, conn *broker.Conn, g *broker.Generation, a broker.Assignment) error {
	publisher, _, err := conn.Fence(ctx, fmt.Sprintf("%s/%d", h.group, a.Partition), h.out, a.Partition)
	if err != nil {
		return err
	}
	var buf broker.FetchBuffer
	var batch broker.Batch
	next, committed := max(0, a.Offset), time.Now()
	commit := func() error {
		committed = time.Now()
		return g.Commit(ctx, []broker.Commit{{Topic: a.Topic, Partition: a.Partition, Offset: next}})
	}
	due := false
	for {
		// Where nothing comes, what is due is committed all the same.
		got, err := conn.Fetch(ctx, broker.FetchRequest{Topic: h.in, Partition: a.Partition, Offset: next, MaxBytes: 512 << 10, MaxWait: commitEvery}, &buf)
		if err != nil {
			return err
		}
		batch.Reset()
		for i := range got.Records {
			r := &got.Records[i]
			batch.Add(r.Time, r.Key, r.Value, nil)
		}
		if _, err := publisher.Publish(ctx, &batch); err != nil {
			return err
		}
		next, due = got.Next, due || len(got.Records) > 0
		if due && time.Since(committed) >= commitEvery {
			if err := commit(); err != nil {
				return err
			}
			due = false
		}
	}
}
