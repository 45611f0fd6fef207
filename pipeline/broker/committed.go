package broker

import (
	"context"
	"errors"
	"slices"

	"github.com/segmentio/kafka-go"
)

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
