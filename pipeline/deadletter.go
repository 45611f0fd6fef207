package pipeline

import (
	"context"
	"fmt"
	"strconv"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// deadLetter is a record that could not be used, byte for byte, with the reason
// and its place in headers.
func deadLetter(topic string, r *broker.Record, why *payment.Refusal) broker.Message {
	return broker.Message{Key: r.Key, Value: r.Value, Time: r.Time, Headers: []broker.Header{
		{Key: "reason", Value: []byte(why.Reason)},
		{Key: "field", Value: []byte(why.Field)},
		{Key: "topic", Value: []byte(topic)},
		{Key: "partition", Value: strconv.AppendInt(nil, int64(r.Partition), 10)},
		{Key: "offset", Value: strconv.AppendInt(nil, r.Offset, 10)},
	}}
}

func produceDeadLetters(ctx context.Context, conn *broker.Conn, topic string, messages []broker.Message) error {
	if len(messages) == 0 {
		return nil
	}
	if err := conn.Produce(ctx, topic, broker.ByKey, messages); err != nil {
		return fmt.Errorf("publish dead letters: %w", err)
	}
	return nil
}
