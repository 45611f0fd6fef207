package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// GroupConfig says which group to join and how patient it is with its members.
type GroupConfig struct {
	Group          string
	Topics         []string
	SessionTimeout time.Duration // silence after which a member has lost its partitions; default 10 s
	// HeartbeatInterval is also how long a member may go on before it hears that the group rebalances, and the group
	// waits for the last of them: the gap in verdicts when somebody comes or goes. Default a third of SessionTimeout, at
	// most 250 ms.
	HeartbeatInterval time.Duration
	RebalanceTimeout  time.Duration // how long the group waits for a member to drain before it goes on; default 30 s

	// OnWait, if set, is told why the member has no generation at the moment and tries again.
	OnWait func(err error)
}

func (g GroupConfig) withDefaults() GroupConfig {
	if g.SessionTimeout == 0 {
		g.SessionTimeout = 10 * time.Second
	}
	if g.HeartbeatInterval == 0 {
		g.HeartbeatInterval = min(g.SessionTimeout/3, 250*time.Millisecond)
	}
	if g.RebalanceTimeout == 0 {
		g.RebalanceTimeout = 30 * time.Second
	}
	if g.OnWait == nil {
		g.OnWait = func(error) {}
	}
	return g
}

// ErrGenerationEnded: the group has gone on without this generation; its partitions may be another member's, and what
// it commits is refused. It is also the cause of a generation's context that ended so.
var ErrGenerationEnded = errors.New("the group's generation has ended")

// Assignment is a partition that this member owns for one generation.
type Assignment struct {
	Topic     string
	Partition int
	Offset    int64  // committed: where to read on; -1 when nothing was committed yet
	Metadata  string // committed with it
}

// Commit is what has been settled of a partition: everything below Offset. Metadata comes back with the Assignment of
// the next owner; brokers take up to 4 KiB.
type Commit struct {
	Topic     string
	Partition int
	Offset    int64
	Metadata  string
}

// Generation is the membership between two rebalances. Its methods may be called from many goroutines.
type Generation struct {
	ID       int
	MemberID string
	Assigned []Assignment

	conn  *Conn
	group string
}

// JoinGroup is a member of the group until ctx ends. It calls run once for each generation, also where no partition is
// left for this member; run's context ends with the generation (cause ErrGenerationEnded) or with ctx. Partitions with the same number of all topics go to the same
// member where the topics have equally many.
//
// run then drains and returns; until it has, the member neither leaves nor joins anew, and heartbeats go on if it was
// ctx that ended. So run may still commit, under a context of its own. After that the member leaves the group, and its
// partitions are free at once.
//
// A run that returns ErrFenced, ErrPublisherLost or ErrGenerationEnded makes the member leave and join again, with
// backoff. Any other error, or nil before its context ended, ends the membership and is returned. JoinGroup returns nil after ctx ended.
// Topics that do not exist are a *MissingTopicsError.
func (c *Conn) JoinGroup(ctx context.Context, cfg GroupConfig, run func(ctx context.Context, g *Generation) error) error {
	cfg = cfg.withDefaults()
	var b backoff
	for {
		joined := time.Now()
		err := c.member(ctx, cfg, run)
		if ctx.Err() != nil && (err == nil || errors.Is(err, ctx.Err()) || outdated(err)) {
			return nil
		}
		if !outdated(err) {
			return err
		}
		cfg.OnWait(err)
		if time.Since(joined) > time.Minute {
			b = backoff{}
		}
		b.wait(ctx)
	}
}

// member joins, lives through generations, and has left the group when it returns.
func (c *Conn) member(ctx context.Context, cfg GroupConfig, run func(context.Context, *Generation) error) error {
	// kafka-go's group has connections of its own, with poorer errors, and joins for topics that do not exist.
	var topics []Topic
	for _, name := range cfg.Topics {
		topics = append(topics, Topic{Name: name})
	}
	if err := c.EnsureTopics(ctx, topics, false); err != nil {
		return err
	}
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID:                cfg.Group,
		Brokers:           c.cfg.Brokers,
		Topics:            cfg.Topics,
		Dialer:            &kafka.Dialer{ClientID: c.cfg.ClientID, Timeout: dialTimeout, TLS: c.tls, SASLMechanism: c.sasl},
		GroupBalancers:    []kafka.GroupBalancer{kafka.RangeGroupBalancer{}},
		HeartbeatInterval: cfg.HeartbeatInterval,
		SessionTimeout:    cfg.SessionTimeout,
		RebalanceTimeout:  cfg.RebalanceTimeout,
		JoinGroupBackoff:  backoffFirst, // on top of our own
		StartOffset:       kafka.FirstOffset,

		WatchPartitionChanges:  true,
		PartitionWatchInterval: metadataTTL,
	})
	if err != nil {
		return fmt.Errorf("join group %s: %w", cfg.Group, err)
	}
	defer func() { _ = group.Close() }() // leaves the group; its error is always nil

	var b backoff
	for {
		gen, err := group.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			err = c.named("join group "+cfg.Group, err)
			if !heals(err) && !rejoins(err) {
				return err
			}
			cfg.OnWait(err)
			b.wait(ctx)
			continue
		}
		b = backoff{}
		ended, err := c.live(ctx, cfg, gen, run)
		if err != nil || !ended {
			return err
		}
	}
}

// outdated: the group or the log has gone on without this member, which has to join, or to fence, anew.
func outdated(err error) bool {
	return errors.Is(err, ErrFenced) || errors.Is(err, ErrPublisherLost) || errors.Is(err, ErrGenerationEnded)
}

// rejoins: answers to which the way to go is to join again.
func rejoins(err error) bool {
	for _, code := range []kafka.Error{kafka.RebalanceInProgress, kafka.IllegalGeneration, kafka.UnknownMemberId, kafka.MemberIDRequired} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// live calls run for one generation and waits until it has returned. ended says that the generation, and not the
// member's whole life, came to its end.
func (c *Conn) live(ctx context.Context, cfg GroupConfig, gen *kafka.Generation, run func(context.Context, *Generation) error) (ended bool, err error) {
	type result struct {
		ended bool
		err   error
	}
	done := make(chan result, 1)
	gen.Start(func(genCtx context.Context) {
		runCtx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		stop := context.AfterFunc(genCtx, func() { cancel(ErrGenerationEnded) })
		defer stop()
		drained := c.beatWhileDraining(ctx, genCtx, cfg, gen)

		err := c.runGeneration(runCtx, cfg.Group, gen, run)
		drained()
		hasEnded := genCtx.Err() != nil && ctx.Err() == nil
		if hasEnded && (errors.Is(err, context.Canceled) || outdated(err)) {
			err = nil // that is how a run learns of it
		}
		done <- result{hasEnded, err}
		// A function that returns ends the generation, and kafka-go would join the next one; so it stays until
		// the generation ends or the group is left.
		<-genCtx.Done()
	})
	res := <-done
	return res.ended, res.err
}

// beatWhileDraining sends heartbeats from when a generation has ended until drained is called. kafka-go's own end with
// the generation, and the coordinator takes a member for dead that drains longer than its session: the group would go on
// without it, and be called together once more when it comes to join.
func (c *Conn) beatWhileDraining(ctx, genCtx context.Context, cfg GroupConfig, gen *kafka.Generation) (drained func()) {
	beating, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var beats sync.WaitGroup
	beats.Go(func() {
		select {
		case <-beating.Done():
			return
		case <-genCtx.Done():
		}
		tick := time.NewTicker(cfg.HeartbeatInterval)
		defer tick.Stop()
		for {
			res, err := c.client.Heartbeat(beating, &kafka.HeartbeatRequest{GroupID: cfg.Group, GenerationID: gen.ID, MemberID: gen.MemberID})
			if err == nil {
				err = res.Error
			}
			if errors.Is(err, kafka.UnknownMemberId) || errors.Is(err, kafka.IllegalGeneration) {
				return // the group has gone on
			}
			select {
			case <-beating.Done():
				return
			case <-tick.C:
			}
		}
	})
	return func() {
		cancel()
		beats.Wait()
	}
}

func (c *Conn) runGeneration(ctx context.Context, group string, gen *kafka.Generation, run func(context.Context, *Generation) error) error {
	g := &Generation{ID: int(gen.ID), MemberID: gen.MemberID, conn: c, group: group}
	asked := make(map[string][]int)
	for topic, partitions := range gen.Assignments {
		for _, p := range partitions {
			asked[topic] = append(asked[topic], p.ID)
		}
	}
	if len(asked) > 0 {
		var err error
		if g.Assigned, err = c.committed(ctx, group, asked); err != nil {
			return err
		}
	}
	return run(ctx, g)
}

// committed returns what the group has committed of the partitions asked for, sorted by topic and partition. kafka-go's
// own Generation leaves the metadata out.
func (c *Conn) committed(ctx context.Context, group string, asked map[string][]int) (assigned []Assignment, err error) {
	err = c.retry(ctx, "committed offsets of group "+group, func() error {
		assigned = nil
		res, err := c.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: group, Topics: asked})
		if err != nil {
			return err
		}
		if res.Error != nil {
			return res.Error
		}
		for topic, partitions := range res.Topics {
			for _, p := range partitions {
				if p.Error != nil {
					return p.Error
				}
				assigned = append(assigned, Assignment{Topic: topic, Partition: p.Partition, Offset: p.CommittedOffset, Metadata: p.Metadata})
			}
		}
		return nil
	})
	slices.SortFunc(assigned, func(a, b Assignment) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return assigned, err
}

// Commit stores what is settled. A commit of a generation that the group has left behind is ErrGenerationEnded, and
// nothing was stored. Other failures are retried until ctx ends.
func (g *Generation) Commit(ctx context.Context, commits []Commit) error {
	if len(commits) == 0 {
		return nil
	}
	topics := make(map[string][]kafka.OffsetCommit)
	for _, m := range commits {
		topics[m.Topic] = append(topics[m.Topic], kafka.OffsetCommit{Partition: m.Partition, Offset: m.Offset, Metadata: m.Metadata})
	}
	err := g.conn.retry(ctx, "commit for group "+g.group, func() error {
		res, err := g.conn.client.OffsetCommit(ctx, &kafka.OffsetCommitRequest{
			GroupID: g.group, GenerationID: g.ID, MemberID: g.MemberID, Topics: topics,
		})
		if err != nil {
			return err
		}
		for _, partitions := range res.Topics {
			for _, p := range partitions {
				if p.Error != nil {
					return p.Error
				}
			}
		}
		return nil
	})
	if err != nil && rejoins(err) {
		return fmt.Errorf("%w: %w", ErrGenerationEnded, err)
	}
	return err
}

// Member is who is in a group, as the broker tells it.
type Member struct {
	ID       string // given by the coordinator, for one membership
	ClientID string
	Host     string
}

// Members returns who is in a group, also those that died and whose session has not run out yet; none of a group that
// does not exist.
func (c *Conn) Members(ctx context.Context, group string) (members []Member, err error) {
	err = c.retry(ctx, "describe group "+group, func() error {
		res, err := c.client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{group}})
		if err != nil {
			return err
		}
		if len(res.Groups) != 1 {
			return kafka.GroupCoordinatorNotAvailable
		}
		if err := res.Groups[0].Error; err != nil && !errors.Is(err, kafka.GroupIdNotFound) {
			return err
		}
		members = nil
		for _, m := range res.Groups[0].Members {
			members = append(members, Member{ID: m.MemberID, ClientID: m.ClientID, Host: m.ClientHost})
		}
		return nil
	})
	return members, err
}

// Others returns the group's other members.
func (g *Generation) Others(ctx context.Context) ([]Member, error) {
	all, err := g.conn.Members(ctx, g.group)
	return slices.DeleteFunc(all, func(m Member) bool { return m.ID == g.MemberID }), err
}
