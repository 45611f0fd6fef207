package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/sluice-risk/sluice/benchmarks/ruleset"
	"github.com/sluice-risk/sluice/pipeline/broker"
)

// course is where all arms run: one broker, the topics of this run, a temporary
// folder. Its connection is the observer's; arms have their own.
type course struct {
	name       string // begins the names of topics and groups
	brokers    []string
	partitions int
	tmp        string

	conn   *broker.Conn
	client *kafka.Client
	made   int
	topics []string // to be deleted
	groups []string
}

func (c *course) open(ctx context.Context) (err error) {
	if c.conn, err = broker.Open(broker.Config{Brokers: c.brokers, ClientID: "sluice-bench"}); err != nil {
		return err
	}
	c.client = &kafka.Client{Addr: kafka.TCP(c.brokers...), Timeout: 10 * time.Second}
	return os.CopyFS(c.rules(), ruleset.Files)
}

// rules is the folder of the ruleset.
func (c *course) rules() string { return filepath.Join(c.tmp, "ruleset") }

// close deletes what the run has left on the broker.
func (c *course) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var errs []error
	if len(c.topics) > 0 {
		_, err := c.client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: c.topics})
		errs = append(errs, err)
	}
	if len(c.groups) > 0 {
		_, err := c.client.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: c.groups})
		errs = append(errs, err)
	}
	c.conn.Close()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("delete the topics and groups of this run (%s…): %w", c.name, err)
	}
	return nil
}

// topic makes a topic that nobody has used.
func (c *course) topic(ctx context.Context, what string) (string, error) {
	c.made++
	name := fmt.Sprintf("%s-%d-%s", c.name, c.made, what)
	c.topics = append(c.topics, name)
	return name, c.conn.EnsureTopics(ctx, []broker.Topic{{
		Name: name, Partitions: c.partitions, Replication: 1, Configs: map[string]string{"retention.ms": "-1"},
	}}, true)
}

// heat is one run of one arm: it takes every record of in to out, to the same
// partition number, and commits as group.
type heat struct {
	*course
	in, out, group string
	dir            string // for what the arm keeps; removed afterwards
}

func (c *course) heat(ctx context.Context, in, arm string) (h heat, err error) {
	h = heat{course: c, in: in}
	if h.out, err = c.topic(ctx, arm); err != nil {
		return h, err
	}
	h.group = h.out
	c.groups = append(c.groups, h.group)
	h.dir, err = os.MkdirTemp(c.tmp, arm+"-*")
	return h, err
}

// run runs an arm beside an observer, until the observer returns, which then
// stops the arm. An arm that ends by itself is an error.
func (h *heat) run(ctx context.Context, a *arm, observe func(context.Context) error) error {
	watching, stopWatching := context.WithCancelCause(ctx)
	defer stopWatching(nil)
	running, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() {
		err := a.run(running, h)
		if running.Err() == nil {
			stopWatching(fmt.Errorf("%s stopped before its time: %w", a.name, errors.Join(err, errEnded)))
		}
		done <- err
	}()
	err := observe(watching)
	if cause := context.Cause(watching); cause != nil {
		err = cause
	}
	stop()
	return errors.Join(err, <-done, os.RemoveAll(h.dir))
}

var errEnded = errors.New("ended")

// load puts all records of l on a topic.
func (c *course) load(ctx context.Context, topic string, l *load) error {
	for p, records := range l.records {
		if err := c.conn.Produce(ctx, topic, p, records); err != nil {
			return err
		}
	}
	return nil
}

// committed is how many records of a topic a group has settled.
func (c *course) committed(ctx context.Context, group, topic string) (int64, error) {
	all := make([]int, c.partitions)
	for p := range all {
		all[p] = p
	}
	res, err := c.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: all}})
	if err != nil || res.Error != nil {
		return 0, errors.Join(err, res.Error)
	}
	var sum int64
	for _, p := range res.Topics[topic] {
		if p.Error != nil {
			return 0, p.Error
		}
		sum += max(0, p.CommittedOffset)
	}
	return sum, nil
}
