package broker

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// Message is a record to be produced.
type Message struct {
	Key     []byte
	Value   []byte
	Headers []Header
	Time    int64 // ms since 1970; 0: now
}

// ByKey lets Produce choose the partition by the key's murmur2 hash, as Kafka's Java client does; records without a
// key are spread at random.
const ByKey = -1

// MaxBatchBytes is a Batch's Size that every broker accepts unless it is configured otherwise (its default is 1 MiB). One
// that is built record by record stays below it if it is published once another record might not fit.
const MaxBatchBytes = 1_000_000

// MessageTooLargeError is a batch that exceeds the broker's or the topic's max.message.bytes. Nothing of it was
// written.
type MessageTooLargeError struct {
	Topic     string
	Partition int
	Size      int // bytes of the encoded batch
	Records   int
}

func (e *MessageTooLargeError) Error() string {
	return fmt.Sprintf("topic %s partition %d: a batch of %d records and %d bytes is larger than the broker accepts (max.message.bytes)",
		e.Topic, e.Partition, e.Records, e.Size)
}

// Produce writes messages to a partition, or ByKey, and returns once all in-sync replicas have them. Within a partition
// they keep their order. It is for dead letters, traffic and tests: a retry after a lost acknowledgement may write a
// batch twice, which a Publisher never does. On an error some of the messages may have been written.
func (c *Conn) Produce(ctx context.Context, topic string, partition int, messages []Message) error {
	if partition != ByKey {
		return c.producePartition(ctx, topic, partition, messages)
	}
	n, err := c.Partitions(ctx, topic)
	if err != nil {
		return err
	}
	shares := share(messages, n)
	errs := make([]error, n)
	var running sync.WaitGroup
	for p, part := range shares {
		if len(part) > 0 {
			running.Go(func() { errs[p] = c.producePartition(ctx, topic, p, part) })
		}
	}
	running.Wait()
	return errors.Join(errs...)
}

// share deals messages out to n partitions by their keys.
func share(messages []Message, n int) [][]Message {
	shares := make([][]Message, n)
	partitions := make([]int, n)
	for p := range partitions {
		partitions[p] = p
	}
	var balancer kafka.Murmur2Balancer
	for _, m := range messages {
		p := balancer.Balance(kafka.Message{Key: m.Key}, partitions...)
		shares[p] = append(shares[p], m)
	}
	return shares
}

func (c *Conn) producePartition(ctx context.Context, topic string, partition int, messages []Message) error {
	batch := c.batches.Get().(*Batch)
	defer c.batches.Put(batch)
	batch.Reset()
	now := time.Now().UnixMilli()
	for _, m := range messages {
		if m.Time == 0 {
			m.Time = now
		}
		if batch.Len() > 0 && batch.Size()+m.size() > MaxBatchBytes {
			if _, err := c.send(ctx, topic, partition, batch, batch.seal(-1, -1, -1), nil); err != nil {
				return err
			}
			batch.Reset()
		}
		batch.Add(m.Time, m.Key, m.Value, m.Headers)
	}
	if batch.Len() == 0 {
		return nil
	}
	_, err := c.send(ctx, topic, partition, batch, batch.seal(-1, -1, -1), nil)
	return err
}

// size is what m takes in a batch at most.
func (m *Message) size() int {
	const lengths = 6 * binary.MaxVarintLen32
	n := lengths + len(m.Key) + len(m.Value)
	for _, h := range m.Headers {
		n += lengths + len(h.Key) + len(h.Value)
	}
	return n
}

// send sends the sealed batch until it is acknowledged, an error does not heal, or ctx ends; before, if given, is
// called ahead of every attempt. It returns the offset of the batch's first record, or -1 where the broker did not say.
//
// kafka-go may go on reading the bytes of a request that we gave up, so those are then never used again.
func (c *Conn) send(ctx context.Context, topic string, partition int, batch *Batch, sealed []byte, before func() error) (base int64, err error) {
	givenUp := false
	err = c.retry(ctx, fmt.Sprintf("publish to %s/%d", topic, partition), func() error {
		if before != nil {
			if err := before(); err != nil {
				return err
			}
		}
		res, err := c.client.RawProduce(ctx, &kafka.RawProduceRequest{
			Topic:        topic,
			Partition:    partition,
			RequiredAcks: kafka.RequireAll,
			RawRecords:   protocol.RawRecordSet{Reader: bytes.NewReader(sealed)},
		})
		if err != nil {
			givenUp = givenUp || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
			return err
		}
		base = res.BaseOffset
		return res.Error
	})
	if errors.Is(err, kafka.MessageSizeTooLarge) || errors.Is(err, kafka.RecordListTooLarge) {
		err = &MessageTooLargeError{Topic: topic, Partition: partition, Size: batch.Size(), Records: batch.Len()}
	}
	if givenUp {
		batch.abandon()
	}
	return base, err
}
