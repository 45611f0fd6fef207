package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"
)

// TopicSettings are the settings of one topic that are in force, whoever set them: the topic itself, or the broker's
// defaults.
type TopicSettings struct {
	Topic       string
	Replication int               // copies of the partition that has the fewest, those that are away included; 0: not known
	Configs     map[string]string // by Kafka's names, such as min.insync.replicas; nil: not known
	Unknown     error             // why a part is not known: no such topic, or we may not ask; nil otherwise
}

// Settings asks the cluster for the settings of topics, and answers in their order. What the cluster will not tell is
// Unknown and no error. Errors: the end of ctx, or a cluster that cannot be reached as we are configured.
func (c *Conn) Settings(ctx context.Context, topics []string) ([]TopicSettings, error) {
	all := make([]TopicSettings, len(topics))
	byName := make(map[string]*TopicSettings, len(topics))
	for i, topic := range topics {
		all[i].Topic, byName[topic] = topic, &all[i]
	}
	if err := c.copies(ctx, topics, byName); err != nil {
		return nil, err
	}
	err := c.configs(ctx, topics, byName)
	if code := kafka.Error(0); errors.As(err, &code) && ctx.Err() == nil { // the cluster did answer: that it does not say
		for i := range all {
			all[i].unknown(err)
		}
		err = nil
	}
	return all, err
}

func (t *TopicSettings) unknown(err error) {
	if t.Unknown == nil {
		t.Unknown = err
	}
}

// copies counts the replicas of each topic's partitions.
func (c *Conn) copies(ctx context.Context, topics []string, byName map[string]*TopicSettings) error {
	const what = "copies of topics"
	return c.retry(ctx, what, func() error {
		res, err := c.client.Metadata(ctx, &kafka.MetadataRequest{Topics: topics})
		if err != nil {
			c.refresh()
			return err
		}
		for _, t := range res.Topics {
			to := byName[t.Name]
			if to == nil {
				continue
			}
			if to.Replication, to.Unknown = 0, nil; t.Error != nil {
				to.Unknown = c.named(what, fmt.Errorf("topic %s: %w", t.Name, t.Error))
			}
			for i, p := range t.Partitions {
				if n := len(p.Replicas); i == 0 || n < to.Replication {
					to.Replication = n
				}
			}
		}
		return nil
	})
}

// maxSettingsTries bounds how often a broker is asked that does not know a topic which
// another one knows: the topic may be gone by now.
const maxSettingsTries = 8

// configs asks for all settings: a broker leaves out those whose names it does not know.
func (c *Conn) configs(ctx context.Context, topics []string, byName map[string]*TopicSettings) error {
	const what = "settings of topics"
	req := &kafka.DescribeConfigsRequest{}
	for _, topic := range topics {
		req.Resources = append(req.Resources, kafka.DescribeConfigRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic})
	}
	tries := 0
	return c.retry(ctx, what, func() error {
		res, err := c.client.DescribeConfigs(ctx, req)
		if err != nil {
			return err
		}
		tries++
		for _, r := range res.Resources {
			to := byName[r.ResourceName]
			if to == nil {
				continue
			}
			if errors.Is(r.Error, kafka.UnknownTopicOrPartition) && to.Replication > 0 && tries < maxSettingsTries {
				return r.Error // another broker knows it: this one has not heard yet that it was made
			}
			if r.Error != nil {
				to.unknown(c.named(what, fmt.Errorf("topic %s: %w", to.Topic, r.Error)))
				continue
			}
			to.Configs = make(map[string]string, len(r.ConfigEntries))
			for _, e := range r.ConfigEntries {
				to.Configs[e.ConfigName] = e.ConfigValue
			}
		}
		return nil
	})
}
