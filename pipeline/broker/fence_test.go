package broker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
)

func oneRecord(text string) *Batch {
	var b Batch
	b.Add(time.Now().UnixMilli(), nil, []byte(text), nil)
	return &b
}

func TestOnlyTheNewestPublisherCanPublish(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		ctx := within(t, 30*time.Second)
		topic := newTopic(t, c, 1, nil)
		older, fence, err := c.Fence(ctx, topic, topic, 0)
		if err != nil || fence != 1 {
			t.Fatalf("fence %d, %v; want 1, after the marker", fence, err)
		}
		for i := range 3 {
			if base, err := older.Publish(ctx, oneRecord("older")); err != nil || base != int64(1+i) {
				t.Fatalf("base %d, %v; want %d", base, err, 1+i)
			}
		}
		newer, fence, err := c.Fence(ctx, topic, topic, 0)
		if err != nil || fence != 5 {
			t.Fatalf("fence %d, %v; want 5: marker, 3 records, marker", fence, err)
		}
		for range 2 { // and it stays refused
			if _, err := older.Publish(ctx, oneRecord("late")); !errors.Is(err, ErrFenced) {
				t.Errorf("the older one: %v, want ErrFenced", err)
			}
		}
		if base, err := newer.Publish(ctx, oneRecord("newer")); err != nil || base != 5 {
			t.Errorf("the newer one: base %d, %v", base, err)
		}
		for _, r := range readAll(t, c, topic, 0, 0) {
			if string(r.Value) == "late" {
				t.Errorf("the late record is on the log, at %d", r.Offset)
			}
		}
	})
}

// The acknowledgement is lost, and the same batch under the same sequence is sent again.
func TestBatchSentAgainIsOnTheLogOnce(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		ctx := within(t, 30*time.Second)
		topic := newTopic(t, c, 1, nil)
		p, _, err := c.Fence(ctx, topic, topic, 0)
		if err != nil {
			t.Fatal(err)
		}
		batch := encode(sampleRecords(10))
		first, err := p.Publish(ctx, batch)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			p.sequence = 0 // as if the answer had not come
			again, err := p.Publish(ctx, batch)
			if err != nil || again != first {
				t.Fatalf("again: base %d, %v; want the first one's %d", again, err, first)
			}
		}
		if base, err := p.Publish(ctx, oneRecord("next")); err != nil || base != first+10 {
			t.Errorf("the next batch: base %d, %v; want %d", base, err, first+10)
		}
		if got := readAll(t, c, topic, 0, 0); len(got) != 11 {
			t.Errorf("%d records on the log, want 11", len(got))
		}
	})
}

func TestPublisherWithAGapIsLostUntilFencedAgain(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		ctx := within(t, 30*time.Second)
		topic := newTopic(t, c, 1, nil)
		p, _, err := c.Fence(ctx, topic, topic, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Publish(ctx, oneRecord("0")); err != nil {
			t.Fatal(err)
		}
		p.sequence = 5 // a batch before this one never arrived
		for range 2 {
			if _, err := p.Publish(ctx, oneRecord("gap")); !errors.Is(err, ErrPublisherLost) {
				t.Errorf("after a gap: %v, want ErrPublisherLost", err)
			}
		}
		if p, _, err = c.Fence(ctx, topic, topic, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Publish(ctx, oneRecord("1")); err != nil {
			t.Errorf("after fencing again: %v", err)
		}
	})
}

// A batch whose fate is unknown may be on the log under its number; another one with that number would be dropped.
func TestPublisherWhoseCallWasCutShortIsLost(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		ctx := within(t, 30*time.Second)
		topic := newTopic(t, c, 1, nil)
		p, _, err := c.Fence(ctx, topic, topic, 0)
		if err != nil {
			t.Fatal(err)
		}
		cut, cancel := context.WithCancel(ctx)
		cancel()
		batch := oneRecord("unknown")
		if _, err := p.Publish(cut, batch); !errors.Is(err, context.Canceled) {
			t.Fatalf("cut short: %v", err)
		}
		if _, err := p.Publish(ctx, oneRecord("other")); !errors.Is(err, ErrPublisherLost) {
			t.Errorf("afterwards: %v, want ErrPublisherLost", err)
		}
	})
}

func TestBatchThatIsTooLargeIsNamedAndHarmsNothing(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		ctx := within(t, 30*time.Second)
		topic := newTopic(t, c, 1, nil)
		p, _, err := c.Fence(ctx, topic, topic, 0)
		if err != nil {
			t.Fatal(err)
		}
		var large Batch
		large.Add(1, nil, make([]byte, 3<<20), nil)
		var tooLarge *MessageTooLargeError
		if _, err := p.Publish(ctx, &large); !errors.As(err, &tooLarge) || tooLarge.Size != large.Size() {
			t.Fatalf("3 MiB: %v, want MessageTooLargeError of %d bytes", err, large.Size())
		}
		if _, err := p.Publish(ctx, oneRecord("small")); err != nil {
			t.Errorf("a small batch afterwards: %v", err)
		}
		if err := c.Produce(ctx, topic, 0, []Message{{Value: make([]byte, 3<<20)}}); !errors.As(err, &tooLarge) {
			t.Errorf("Produce: %v, want MessageTooLargeError", err)
		}
	})
}

// A lane that runs for weeks keeps its producer known to coordinator and log, and one that was fenced while it slept
// hears so before it sends.
func TestRenewalKeepsTheSequenceAndFindsOutAboutANewOwner(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		ctx := within(t, 30*time.Second)
		topic := newTopic(t, c, 1, nil)
		p, _, err := c.Fence(ctx, topic, topic, 0)
		if err != nil {
			t.Fatal(err)
		}
		p.renewEvery = 0 // before every batch
		for i := range 5 {
			if _, err := p.Publish(ctx, oneRecord(fmt.Sprint(i))); err != nil {
				t.Fatalf("batch %d: %v", i, err)
			}
		}
		if got := readAll(t, c, topic, 0, 0); len(got) != 5 {
			t.Errorf("%d records, want 5", len(got))
		}
		if _, end, _ := c.Offsets(ctx, topic, 0); end < 10 {
			t.Errorf("the log ends at %d: there are no markers of renewals in it", end)
		}
		if _, _, err := c.Fence(ctx, topic, topic, 0); err != nil {
			t.Fatal(err)
		}
		if err := p.renew(ctx); !errors.Is(err, ErrFenced) {
			t.Errorf("renewal after another fence: %v, want ErrFenced", err)
		}
	})
}

func TestSequenceWrapsWhereKafkasDoes(t *testing.T) {
	c := open(t, Config{Brokers: []string{realBroker(t, brokerEnv)}}) // kfake wraps one number too early
	ctx := within(t, 30*time.Second)
	topic := newTopic(t, c, 1, nil)
	p, _, err := c.Fence(ctx, topic, topic, 0)
	if err != nil {
		t.Fatal(err)
	}
	// Another producer id, which the log does not know and so takes at any sequence.
	session, err := c.client.InitProducerID(ctx, &kafka.InitProducerIDRequest{ProducerID: -1, ProducerEpoch: -1})
	if err != nil || session.Error != nil {
		t.Fatal(err, session)
	}
	p.producerID, p.epoch, p.sequence = int64(session.Producer.ProducerID), int16(session.Producer.ProducerEpoch), math.MaxInt32-14
	for i := range 4 {
		if _, err := p.Publish(ctx, encode(sampleRecords(10))); err != nil {
			t.Fatalf("batch %d, whose next sequence is %d: %v", i, p.sequence, err)
		}
	}
	if p.sequence != 25 {
		t.Errorf("sequence %d after 40 records from 2^31-15, want 25", p.sequence)
	}
}

// Epochs of a producer id end; the one after the last belongs to a fresh id, and the old one must be fenced for it.
func TestFenceHoldsWhereEpochsEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("asks the coordinator for 32,767 epochs")
	}
	c := open(t, Config{Brokers: []string{realBroker(t, brokerEnv)}}) // kfake forgets an id whose epochs have ended
	ctx := within(t, 10*time.Minute)
	topic := newTopic(t, c, 1, nil)
	older := &Publisher{conn: c, transactionalID: topic, topic: topic, renewEvery: renewEvery}
	for older.epoch < fencingOnly-1 {
		if err := older.init(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := older.mark(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := older.Publish(ctx, oneRecord("older")); err != nil {
		t.Fatal(err)
	}
	newer, fence, err := c.Fence(ctx, topic, topic, 0)
	if err != nil {
		t.Fatal(err)
	}
	if newer.producerID == older.producerID || newer.epoch != 0 {
		t.Errorf("the newer one is %d/%d, the older %d/%d: want a fresh id at epoch 0", newer.producerID, newer.epoch, older.producerID, older.epoch)
	}
	if _, err := older.Publish(ctx, oneRecord("late")); !errors.Is(err, ErrFenced) {
		t.Errorf("the older one: %v, want ErrFenced", err)
	}
	if base, err := newer.Publish(ctx, oneRecord("newer")); err != nil || base != fence {
		t.Errorf("the newer one: base %d, %v; want %d", base, err, fence)
	}
}
