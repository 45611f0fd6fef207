package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/segmentio/kafka-go"
)

// Topic is a topic that must exist, and how to make it if it may be made.
type Topic struct {
	Name        string
	Partitions  int               // 0: as the broker has it
	Replication int               // at most: a cluster of fewer brokers has one copy on each; 0: as the broker has it
	MinInSync   int               // copies that must have a record before it is acknowledged; less where one could then not be away; 0: as the broker has it
	Configs     map[string]string // such as retention.ms
}

// MissingTopicsError lists all topics that are needed and do not exist.
type MissingTopicsError struct{ Topics []string }

func (e *MissingTopicsError) Error() string {
	return "topics are missing: " + strings.Join(e.Topics, ", ")
}

// EnsureTopics checks that all topics exist and every partition of them has a leader, and waits for the latter.
// Missing ones are made if create is set, else all of them are named in one *MissingTopicsError.
// A topic that exists is left as it is, whatever its settings.
func (c *Conn) EnsureTopics(ctx context.Context, topics []Topic, create bool) error {
	var names []string
	for _, t := range topics {
		names = append(names, t.Name)
	}
	missing, err := c.missing(ctx, names)
	if err == nil && len(missing) > 0 { // the layout may be older than the topics
		c.transport.CloseIdleConnections()
		missing, err = c.missing(ctx, names)
	}
	if err != nil {
		return err
	}
	if len(missing) > 0 && !create {
		return c.named("look for topics", &MissingTopicsError{Topics: missing})
	}
	if len(missing) > 0 {
		topics = slices.Clone(topics)
		topics = slices.DeleteFunc(topics, func(t Topic) bool { return !slices.Contains(missing, t.Name) })
		if err := c.createTopics(ctx, topics); err != nil {
			return err
		}
	}
	for _, name := range names {
		if _, err := c.Partitions(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// missing returns the names that the cluster does not know, in the order given.
func (c *Conn) missing(ctx context.Context, names []string) (missing []string, err error) {
	err = c.retry(ctx, "look for topics", func() error {
		missing = nil
		res, err := c.client.Metadata(ctx, &kafka.MetadataRequest{Topics: names})
		if err != nil {
			c.refresh()
			return err
		}
		for _, t := range res.Topics {
			if errors.Is(t.Error, kafka.UnknownTopicOrPartition) {
				missing = append(missing, t.Name)
			}
		}
		return nil
	})
	return missing, err
}

// Brokers returns how many brokers the cluster has.
func (c *Conn) Brokers(ctx context.Context) (n int, err error) {
	err = c.retry(ctx, "look for brokers", func() error {
		res, err := c.client.Metadata(ctx, &kafka.MetadataRequest{})
		if err != nil {
			c.refresh()
			return err
		}
		n = len(res.Brokers)
		return nil
	})
	return n, err
}

func (c *Conn) createTopics(ctx context.Context, topics []Topic) error {
	brokers, err := c.Brokers(ctx)
	if err != nil {
		return err
	}
	var req kafka.CreateTopicsRequest
	for _, t := range topics {
		k := kafka.TopicConfig{Topic: t.Name, NumPartitions: t.Partitions, ReplicationFactor: min(t.Replication, max(1, brokers))}
		if t.Partitions == 0 {
			k.NumPartitions = -1
		}
		if t.Replication == 0 {
			k.ReplicationFactor = -1
		}
		if inSync := min(t.MinInSync, k.ReplicationFactor-1); inSync > 1 {
			k.ConfigEntries = append(k.ConfigEntries, kafka.ConfigEntry{ConfigName: "min.insync.replicas", ConfigValue: strconv.Itoa(inSync)})
		}
		for _, name := range slices.Sorted(maps.Keys(t.Configs)) {
			k.ConfigEntries = append(k.ConfigEntries, kafka.ConfigEntry{ConfigName: name, ConfigValue: t.Configs[name]})
		}
		req.Topics = append(req.Topics, k)
	}
	return c.retry(ctx, "create topics", func() error {
		res, err := c.client.CreateTopics(ctx, &req)
		if err != nil {
			return err
		}
		for _, t := range topics {
			if err := res.Errors[t.Name]; err != nil && !errors.Is(err, kafka.TopicAlreadyExists) {
				return fmt.Errorf("topic %s: %w", t.Name, err)
			}
		}
		return nil
	})
}

// Partitions returns how many partitions the topic has. It waits until each of them has a leader.
func (c *Conn) Partitions(ctx context.Context, topic string) (n int, err error) {
	err = c.retry(ctx, "partitions of "+topic, func() error {
		res, err := c.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
		if err != nil {
			c.refresh()
			return err
		}
		t := res.Topics[0]
		if t.Error != nil {
			return t.Error
		}
		if len(t.Partitions) == 0 {
			return kafka.UnknownTopicOrPartition
		}
		for _, p := range t.Partitions {
			if p.Error != nil {
				return p.Error
			}
			if p.Leader.Host == "" {
				return kafka.LeaderNotAvailable
			}
		}
		n = len(t.Partitions)
		return nil
	})
	return n, err
}

// OffsetRange is what a partition holds: records from First up to, not including, End.
type OffsetRange struct{ First, End int64 }

// Offsets returns the first offset that the partition still holds and the one that the next record will get.
func (c *Conn) Offsets(ctx context.Context, topic string, partition int) (first, end int64, err error) {
	ranges, err := c.offsets(ctx, topic, []int{partition})
	if err != nil {
		return 0, 0, err
	}
	return ranges[0].First, ranges[0].End, nil
}

// TopicOffsets returns the offsets of every partition of the topic, by partition number.
func (c *Conn) TopicOffsets(ctx context.Context, topic string) ([]OffsetRange, error) {
	n, err := c.Partitions(ctx, topic)
	if err != nil {
		return nil, err
	}
	partitions := make([]int, n)
	for p := range partitions {
		partitions[p] = p
	}
	return c.offsets(ctx, topic, partitions)
}

// OffsetsAt returns for every partition of the topic, by number, the first offset whose record has a time of at (ms since
// 1970) or later; the partition's end where there is none.
func (c *Conn) OffsetsAt(ctx context.Context, topic string, at int64) ([]int64, error) {
	ranges, err := c.TopicOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	offsets := make([]int64, len(ranges))
	var asked []kafka.OffsetRequest
	for p := range ranges {
		asked = append(asked, kafka.OffsetRequest{Partition: p, Timestamp: max(at, 0)})
	}
	err = c.retry(ctx, "offsets by time of "+topic, func() error {
		res, err := c.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: asked}})
		if err != nil {
			return err
		}
		for p := range ranges {
			offsets[p] = ranges[p].End
		}
		for _, p := range res.Topics[topic] {
			if p.Error != nil {
				return unasked(p.Error)
			}
			for offset := range p.Offsets {
				if p.Partition < len(offsets) && offset >= 0 {
					offsets[p.Partition] = min(offset, ranges[p.Partition].End)
				}
			}
		}
		return nil
	})
	return offsets, err
}

// unasked translates what kafka-go says of partitions whose broker it could not ask
// for offsets, which heals: that the broker itself did not know what was wrong.
func unasked(err error) error {
	if errors.Is(err, kafka.Unknown) {
		return fmt.Errorf("the connection broke: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// offsets answers in the order of partitions.
func (c *Conn) offsets(ctx context.Context, topic string, partitions []int) ([]OffsetRange, error) {
	var asked []kafka.OffsetRequest
	for _, p := range partitions {
		asked = append(asked, kafka.FirstOffsetOf(p), kafka.LastOffsetOf(p))
	}
	ranges := make([]OffsetRange, len(partitions))
	err := c.retry(ctx, "offsets of "+topic, func() error {
		res, err := c.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: asked}})
		if err != nil {
			return err
		}
		answered := 0
		for _, p := range res.Topics[topic] {
			if p.Error != nil {
				return unasked(p.Error)
			}
			if i := slices.Index(partitions, p.Partition); i >= 0 {
				ranges[i] = OffsetRange{First: p.FirstOffset, End: p.LastOffset}
				answered++
			}
		}
		if answered != len(partitions) {
			return kafka.UnknownTopicOrPartition
		}
		return nil
	})
	return ranges, err
}
