package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// deadLetter is a record that could not be used, byte for byte, with the reason
// and its place in headers. Its own time is in a header too: the topic may not
// accept what the record's topic did.
func deadLetter(topic string, r *broker.Record, why *payment.Refusal) broker.Message {
	return broker.Message{Key: r.Key, Value: r.Value, Headers: []broker.Header{
		{Key: "reason", Value: []byte(why.Reason)},
		{Key: "field", Value: []byte(why.Field)},
		{Key: "topic", Value: []byte(topic)},
		{Key: "partition", Value: strconv.AppendInt(nil, int64(r.Partition), 10)},
		{Key: "offset", Value: strconv.AppendInt(nil, r.Offset, 10)},
		{Key: "timestamp", Value: strconv.AppendInt(nil, r.Time, 10)},
	}}
}

// produceDeadLetters writes dead letters. One that the topic cannot take whole,
// because the record was larger than a record there may be, is cut, and says so:
// a record that nobody can use must not stop a partition.
func produceDeadLetters(ctx context.Context, conn *broker.Conn, topic string, messages []broker.Message) error {
	if len(messages) == 0 {
		return nil
	}
	err := conn.Produce(ctx, topic, broker.ByKey, messages)
	var tooLarge *broker.MessageTooLargeError
	if errors.As(err, &tooLarge) {
		err = nil
		for _, m := range messages {
			if err = produceCut(ctx, conn, topic, m); err != nil {
				break
			}
		}
	}
	if err != nil {
		return fmt.Errorf("publish dead letters: %w", err)
	}
	return nil
}

// leastDeadLetter is how much of a record is worth to be kept.
const leastDeadLetter = 1 << 10

// produceCut writes one dead letter, with less of its value each time that it is too large.
func produceCut(ctx context.Context, conn *broker.Conn, topic string, m broker.Message) error {
	whole, headers := m.Value, m.Headers
	for {
		err := conn.Produce(ctx, topic, broker.ByKey, []broker.Message{m})
		var tooLarge *broker.MessageTooLargeError
		if !errors.As(err, &tooLarge) || len(m.Value) <= leastDeadLetter && len(m.Key) == 0 {
			return err
		}
		m.Value = whole[:min(len(m.Value)/2, 512<<10)]
		if len(m.Key) > leastDeadLetter {
			m.Key = nil // a key as large as that is no account
		}
		m.Headers = append(headers[:len(headers):len(headers)],
			broker.Header{Key: "truncated", Value: []byte("true")},
			broker.Header{Key: "value_bytes", Value: strconv.AppendInt(nil, int64(len(whole)), 10)})
	}
}
