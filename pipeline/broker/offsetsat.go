package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
)

// OffsetsAt returns, by partition number, the offset of the first record whose
// Kafka time is at or after a time; where there is none, the end of the partition.
func (c *Conn) OffsetsAt(ctx context.Context, topic string, at time.Time) ([]int64, error) {
	ranges, err := c.TopicOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	offsets := make([]int64, len(ranges))
	asked := make([]kafka.OffsetRequest, len(ranges))
	for p := range ranges {
		asked[p] = kafka.TimeOffsetOf(p, at)
	}
	err = c.retry(ctx, "offsets of "+topic+" by time", func() error {
		res, err := c.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: asked}})
		if err != nil {
			return err
		}
		answers := res.Topics[topic]
		if len(answers) != len(ranges) {
			return kafka.UnknownTopicOrPartition
		}
		for _, p := range answers {
			if p.Error != nil {
				return p.Error
			}
			offsets[p.Partition] = ranges[p.Partition].End // nothing is as late, and the answer names no offset
			for offset := range p.Offsets {
				if offset >= 0 {
					offsets[p.Partition] = offset
				}
			}
		}
		return nil
	})
	return offsets, err
}

// Committed returns what a group has committed of all partitions of a topic, by
// partition number; Offset is -1 where that is nothing. Anybody may ask.
func (c *Conn) Committed(ctx context.Context, group, topic string) ([]Assignment, error) {
	n, err := c.Partitions(ctx, topic)
	if err != nil {
		return nil, err
	}
	all := make([]int, n)
	for p := range all {
		all[p] = p
	}
	committed, err := c.committed(ctx, group, map[string][]int{topic: all})
	if err != nil && !errors.Is(err, kafka.GroupIdNotFound) { // which some brokers say of a group that never was
		return nil, err
	}
	for p := range n { // a group that never was has no answer for anything
		if p >= len(committed) || committed[p].Partition != p {
			committed = slices.Insert(committed, p, Assignment{Topic: topic, Partition: p, Offset: -1})
		}
	}
	return committed, nil
}
