package broker

// The fence: why a woken zombie cannot publish.
//
// A member that is frozen past its session timeout loses its partitions without knowing. When it wakes, a batch that it
// had begun may be on its way already, long before it hears that it was expelled. Were that batch accepted, the
// partition of decisions would hold two verdicts for one payment. So the log itself must refuse it.
//
// Kafka remembers, in each partition's log, the highest epoch of every producer id that wrote to it, and refuses
// batches with a lower one. Whoever takes a partition over does this, under a transactional id that belongs to the
// partition and not to the member:
//
//  1. InitProducerID: the coordinator hands out the id's producer id with an epoch above all earlier ones. From now on
//     it refuses the predecessor; but the partition, which the predecessor writes to without asking the coordinator, has
//     not heard of the new epoch yet.
//  2. AddPartitionsToTxn and EndTxn(abort): an empty transaction. To end it, the coordinator writes a marker with
//     the new epoch into the partition. With the marker the log has the new epoch: a batch of the predecessor is either
//     before the marker, or refused.
//  3. The coordinator answers EndTxn before the marker is written. So we read the partition until we see the marker with
//     our id and epoch. The offset after it is the fence: all that predecessors ever published lies below it, and
//     whoever has read up to it knows every decision there is.
//
// The batches that follow are no transaction; they only carry id, epoch and a sequence number, which is how Kafka also
// recognises a batch that is sent again because its acknowledgement was lost.
//
// Where this could leak, and what closes it:
//
//   - The log forgets a producer that wrote nothing for producer.id.expiration.ms (a day), and the coordinator forgets a
//     transactional id without transactions for transactional.id.expiration.ms (7 days): the next owner would then get
//     another producer id, whose markers do not concern this one. A Publisher therefore renews: it repeats step 2
//     before it publishes once renewEvery has passed by the wall clock, which both refreshes and asks the coordinator.
//     Someone who was fenced hears it there. A zombie that slept in between was cut off by the broker meanwhile
//     (connections.max.idle.ms), and comes past this check before it sends again.
//   - Epochs end at 32,767, and then the coordinator goes on with a fresh producer id at epoch 0. Fence uses the last
//     epoch of an id only to write the marker, never to publish, and then takes the fresh id; so there is no publisher
//     left that the fresh id would have to fence.
//   - A batch whose fate is unknown (its context ended) leaves the sequence unknown, and another batch under the same
//     number would be taken for it. Publish then refuses all further use: fence again, and read what is there.

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/segmentio/kafka-go"
)

var (
	// ErrFenced: another member has fenced this partition since; this one must stop publishing to it.
	ErrFenced = errors.New("fenced: the partition has a newer owner")
	// ErrPublisherLost: what the broker has no longer matches what this Publisher knows; the partition must be
	// fenced and read again.
	ErrPublisherLost = errors.New("publisher lost: the partition must be fenced and read again")
)

const (
	// renewEvery is well below the least time after which Kafka forgets a producer (a day, unless configured otherwise).
	renewEvery = time.Hour
	// fencingOnly is the last epoch that Kafka hands out of a producer id.
	fencingOnly = math.MaxInt16 - 1
	// transactionTimeout is how long the coordinator leaves a transaction open whose owner died within a fence.
	transactionTimeout = 30 * time.Second
)

// Publisher writes to one partition behind a fence, each batch once. It belongs to one goroutine.
type Publisher struct {
	conn            *Conn
	transactionalID string
	topic           string
	partition       int

	producerID int64
	epoch      int16
	sequence   int32     // of the next batch's first record
	renewed    time.Time // by the wall clock: the monotonic one stands still while a machine sleeps
	renewEvery time.Duration
	lost       error // once set, the answer to every further call
}

// Fence makes the caller the only one who can publish on the partition under this transactional id, and returns the
// offset below which everything lies that earlier owners published. Errors: ErrFenced if another member did the same
// meanwhile, the end of ctx, or what no retry heals.
func (c *Conn) Fence(ctx context.Context, transactionalID, topic string, partition int) (p *Publisher, fence int64, err error) {
	for {
		p = &Publisher{conn: c, transactionalID: transactionalID, topic: topic, partition: partition, renewEvery: renewEvery}
		if err := p.init(ctx); err != nil {
			return nil, 0, err
		}
		_, end, err := c.Offsets(ctx, topic, partition)
		if err != nil {
			return nil, 0, err
		}
		if err := p.mark(ctx); err != nil {
			return nil, 0, err
		}
		fence, err := p.awaitMarker(ctx, end)
		if err != nil {
			return nil, 0, err
		}
		if p.epoch < fencingOnly {
			return p, fence, nil
		}
	}
}

func (p *Publisher) init(ctx context.Context) error {
	return p.conn.retry(ctx, p.doing("fence"), func() error {
		res, err := p.conn.client.InitProducerID(ctx, &kafka.InitProducerIDRequest{
			TransactionalID:      p.transactionalID,
			TransactionTimeoutMs: int(transactionTimeout.Milliseconds()),
			ProducerID:           -1,
			ProducerEpoch:        -1,
		})
		if err != nil {
			return err
		}
		p.producerID, p.epoch = int64(res.Producer.ProducerID), int16(res.Producer.ProducerEpoch)
		return res.Error
	})
}

// mark has the coordinator write a marker with our epoch into the partition, as the end of an empty transaction.
func (p *Publisher) mark(ctx context.Context) error {
	err := p.conn.retry(ctx, p.doing("fence"), func() error { return p.emptyTransaction(ctx) })
	if err == nil {
		p.renewed = time.Now().Round(0)
	}
	return p.verdict(err)
}

func (p *Publisher) emptyTransaction(ctx context.Context) error {
	added, err := p.conn.client.AddPartitionsToTxn(ctx, &kafka.AddPartitionsToTxnRequest{
		TransactionalID: p.transactionalID,
		ProducerID:      int(p.producerID),
		ProducerEpoch:   int(p.epoch),
		Topics:          map[string][]kafka.AddPartitionToTxn{p.topic: {{Partition: p.partition}}},
	})
	if err != nil {
		return err
	}
	for _, t := range added.Topics[p.topic] {
		if t.Error != nil {
			return t.Error
		}
	}
	ended, err := p.conn.client.EndTxn(ctx, &kafka.EndTxnRequest{
		TransactionalID: p.transactionalID,
		ProducerID:      int(p.producerID),
		ProducerEpoch:   int(p.epoch),
	})
	if err != nil {
		return err
	}
	return ended.Error
}

// awaitMarker reads the partition from an offset below the marker on and returns the offset after the marker.
func (p *Publisher) awaitMarker(ctx context.Context, from int64) (fence int64, err error) {
	var buf FetchBuffer
	for {
		res, err := p.conn.exchangeFetch(ctx, FetchRequest{
			Topic: p.topic, Partition: p.partition, Offset: from, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: 500 * time.Millisecond,
		}, &buf)
		if err != nil {
			return 0, err
		}
		for set := res.set; len(set) >= batchHeader; {
			total := atLeaderEpoch + int(binary.BigEndian.Uint32(set[atBatchLength:]))
			if total < batchHeader || total > len(set) {
				break
			}
			after := int64(binary.BigEndian.Uint64(set)) + int64(binary.BigEndian.Uint32(set[atLastOffsetDelta:])) + 1
			if after > from && p.isMarker(set) {
				return after, nil
			}
			from = max(from, after)
			set = set[total:]
		}
	}
}

func (p *Publisher) isMarker(batch []byte) bool {
	return binary.BigEndian.Uint16(batch[atAttributes:])&attributeControl != 0 &&
		int64(binary.BigEndian.Uint64(batch[atProducerID:])) == p.producerID &&
		int16(binary.BigEndian.Uint16(batch[atProducerEpoch:])) == p.epoch
}

// Publish writes the batch once, whatever is sent again on the way, and returns the offset of its first record once all
// in-sync replicas have it (-1 if the broker recognised a resent batch without saying where it is). It tries until ctx
// ends.
//
// Errors: ErrFenced; ErrPublisherLost, also for every call after one that ended with ctx or another error, because
// what became of its batch is not known; *MessageTooLargeError, after which the Publisher can be used on.
func (p *Publisher) Publish(ctx context.Context, batch *Batch) (base int64, err error) {
	if p.lost != nil {
		return -1, p.lost
	}
	if batch.Len() == 0 {
		return -1, nil
	}
	records := batch.Len()
	base, err = p.conn.send(ctx, p.topic, p.partition, batch, batch.seal(p.producerID, p.epoch, p.sequence), func() error {
		return p.renew(ctx)
	})
	if errors.Is(err, kafka.DuplicateSequenceNumber) {
		err = nil // it is on the log already, more than five batches ago
	}
	if err = p.verdict(err); err != nil {
		if tooLarge := (*MessageTooLargeError)(nil); !errors.As(err, &tooLarge) {
			p.lost = err
			if !errors.Is(err, ErrFenced) && !errors.Is(err, ErrPublisherLost) {
				p.lost = fmt.Errorf("%w, after: %w", ErrPublisherLost, err)
			}
		}
		return -1, err
	}
	p.sequence = int32((int64(p.sequence) + int64(records)) & math.MaxInt32)
	return base, nil
}

// renew repeats the empty transaction when the last one is long ago, see the top of this file.
func (p *Publisher) renew(ctx context.Context) error {
	if since := time.Since(p.renewed); since >= 0 && since < p.renewEvery {
		return nil
	}
	return p.mark(ctx)
}

// verdict translates the broker's ways to say that this Publisher is no longer the one.
func (p *Publisher) verdict(err error) error {
	if errors.Is(err, ErrFenced) || errors.Is(err, ErrPublisherLost) {
		return err
	}
	for _, code := range []kafka.Error{kafka.InvalidProducerEpoch, kafka.ProducerFenced} {
		if errors.Is(err, code) {
			return fmt.Errorf("%w: %w", ErrFenced, err)
		}
	}
	for _, code := range []kafka.Error{
		kafka.OutOfOrderSequenceNumber, kafka.UnknownProducerId, kafka.InvalidProducerIDMapping, kafka.InvalidTransactionState,
	} {
		if errors.Is(err, code) {
			return fmt.Errorf("%w: %w", ErrPublisherLost, err)
		}
	}
	return err
}

func (p *Publisher) doing(what string) string {
	return fmt.Sprintf("%s %s/%d as %s", what, p.topic, p.partition, p.transactionalID)
}
