package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
	"golang.org/x/sync/errgroup"
)

// Service is a gate that decides the payments of a Kafka cluster.
type Service struct {
	config  Config
	gate    *Gate
	conn    *broker.Conn
	log     *slog.Logger
	working atomic.Bool // lanes are deciding
}

// NewService loads the ruleset, opens the store, and prepares the connection.
// It does not talk to the broker yet.
func NewService(config Config, reg prometheus.Registerer, log *slog.Logger) (*Service, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	rs, err := config.ruleset()
	if err != nil {
		return nil, err
	}
	evidence, err := ParseEvidence(config.Evidence)
	if err != nil {
		return nil, err
	}
	index := ledger.New(config.Ledger.RecentBytes)
	opened := time.Now()
	store, err := window.Open(window.Options{
		Dir: config.storeDir(), Owner: config.owner(), Features: rs.Features(),
		Lateness: config.Windows.Lateness, OnMark: func(m window.Mark) { index.Add(m, nil) },
		OnProgress: func(done, total int64) {
			if time.Since(opened) > 2*time.Second {
				log.Info("reading the journal", "done_mb", done>>20, "of_mb", total>>20)
				opened = time.Now()
			}
		},
	})
	if err != nil {
		return nil, err
	}
	metrics := NewMetrics(reg, rs)
	var lastRetry atomic.Int64
	kafka := config.brokerConfig()
	kafka.OnRetry = func(what string, err error) {
		metrics.retries.Inc()
		if now := time.Now().Unix(); lastRetry.Swap(now) != now { // a line a second is enough
			log.Warn("the broker did not answer as hoped; trying again", "what", what, "error", err)
		}
	}
	conn, err := broker.Open(kafka)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	s := &Service{config: config, conn: conn, log: log}
	s.gate = &Gate{
		Rules: rs, Store: store, Ledger: index, Limits: config.Limits(), Evidence: evidence, Metrics: metrics, Log: log,
		Now: func() payment.Time { return payment.TimeOf(time.Now()) }, Earlier: s.earlier,
	}
	return s, nil
}

// Gate returns what the service decides with.
func (s *Service) Gate() *Gate { return s.gate }

// Decided is the number of transactions that are known to be decided.
func (s *Service) Decided() int { return s.gate.Ledger.Len() }

// Ready reports whether payments are being decided.
func (s *Service) Ready() bool { return s.working.Load() }

// earlier reads a decision from its topic. Those that stand behind it are kept
// at hand: a producer that sends again sends many, and in order.
func (s *Service) earlier(ctx context.Context, m window.Mark) (decision []byte, err error) {
	var buffer broker.FetchBuffer
	got, err := s.conn.Fetch(ctx, broker.FetchRequest{Topic: s.config.Topics.Decisions, Partition: int(m.Partition), Offset: m.Offset, MaxBytes: 256 << 10}, &buffer)
	if outside := (*broker.OffsetOutOfRangeError)(nil); err != nil && !errors.As(err, &outside) {
		return nil, err
	}
	for i := range got.Records {
		r := &got.Records[i]
		mark, first, err := ledger.MarkOf(s.gate.Store.Key(), m.Partition, r.Offset, r.Value)
		if err != nil || !first {
			continue
		}
		if r.Offset == m.Offset && mark.Tx == m.Tx {
			decision = append([]byte(nil), r.Value...)
		}
		s.gate.Ledger.Add(mark, r.Value)
	}
	if decision == nil {
		s.log.Error("a decision is gone from the ledger's topic: its transaction came again and cannot be answered; keep the topic longer",
			"topic", s.config.Topics.Decisions, "partition", m.Partition, "offset", m.Offset)
		return nil, errForgotten
	}
	return decision, nil
}

// Run decides payments until ctx ends, then settles what was fetched, commits
// it, leaves the group, and closes the store.
func (s *Service) Run(ctx context.Context) (err error) {
	defer func() {
		s.conn.Close()
		err = errors.Join(err, s.gate.Store.Close())
	}()
	t := &s.config.Topics
	if err := s.conn.EnsureTopics(ctx, t.needed(), t.Create); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if n, err := s.conn.Brokers(ctx); err == nil && t.Create && n < t.Replication {
		s.log.Warn("the cluster has fewer brokers than topics.replication asks for: topics that were made have a copy on each, no more", "brokers", n, "replication", t.Replication)
	}
	if err := s.checkPartitions(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	group := broker.GroupConfig{
		Group: s.config.Kafka.Group, Topics: []string{t.Transactions, t.Outcomes}, SessionTimeout: s.config.Kafka.SessionTimeout,
		OnWait: func(err error) { s.log.Warn("waiting for the group", "error", err) },
	}
	if err := s.awaitEmptyGroup(ctx); err != nil {
		return err
	}
	err = s.conn.JoinGroup(ctx, group, s.generation)
	s.log.Info("stopped deciding, and left the group", "group", group.Group)
	return err
}

// checkPartitions makes sure that a decision can go to the partition number of
// its transaction.
func (s *Service) checkPartitions(ctx context.Context) error {
	t := &s.config.Topics
	in, err := s.conn.Partitions(ctx, t.Transactions)
	if err != nil {
		return err
	}
	out, err := s.conn.Partitions(ctx, t.Decisions)
	if err != nil {
		return err
	}
	if out < in {
		return fmt.Errorf("topic %s has %d partitions and %s has %d: a decision goes to the partition number of its transaction; add partitions to %s",
			t.Decisions, out, t.Transactions, in, t.Decisions)
	}
	return nil
}

// drainFor is how long a lane may take to settle what it has fetched.
const drainFor = 20 * time.Second

// generation works on the partitions that the group has given us: it fences
// them all, completes the ledger from what earlier owners published, and only
// then lets lanes decide.
func (s *Service) generation(ctx context.Context, g *broker.Generation) error {
	s.gate.Metrics.generations.Inc()
	if err := s.alone(ctx, g); err != nil {
		return err
	}
	drain, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(drainFor, cancel) })
	defer stop()

	var lanes []*lane
	var outcomes []*outcomeLane
	prepare, inner := errgroup.WithContext(ctx)
	prepare.SetLimit(8)
	written := s.gate.Store.Written() // by the journal as it was found, before anything is added
	decisions, err := s.conn.Partitions(ctx, s.config.Topics.Decisions)
	if err != nil {
		return unlessOver(ctx, err)
	}
	undecided := 0
	for _, a := range g.Assigned {
		if a.Offset < 0 {
			a.Offset = broker.FirstOffset
		}
		if a.Topic == s.config.Topics.Outcomes {
			outcomes = append(outcomes, &outcomeLane{gate: s.gate, conn: s.conn, topics: &s.config.Topics, partition: a.Partition, from: a.Offset, cursor: newCursor(a.Offset, 0)})
			continue
		}
		if a.Partition >= decisions {
			undecided++
			s.log.Error("a partition is not decided: a decision goes to the partition number of its transaction, and there is none; add partitions to the topic of decisions",
				"topic", a.Topic, "partition", a.Partition, "decisions_topic", s.config.Topics.Decisions, "decisions_partitions", decisions)
			continue
		}
		l := &lane{gate: s.gate, conn: s.conn, topics: &s.config.Topics, partition: a.Partition, from: a.Offset, engine: s.gate.NewEngine(), maxBatch: s.config.Windows.BatchSize}
		lanes = append(lanes, l)
		prepare.Go(func() error { return s.takeOver(inner, l, a, written) })
	}
	if err := prepare.Wait(); err != nil {
		return unlessOver(ctx, err)
	}
	s.working.Store(true)
	defer s.working.Store(false)
	s.log.Info("deciding", "partitions", len(lanes), "generation", g.ID, "decided_before", s.gate.Ledger.Len())

	work, failed := errgroup.WithContext(ctx)
	for _, l := range lanes {
		work.Go(func() error { return stopOthers(cancel, l.run(failed, drain)) })
	}
	for _, l := range outcomes {
		work.Go(func() error { return stopOthers(cancel, l.run(failed, drain)) })
	}
	work.Go(func() error {
		return giveUpOutcomes(failed, s.gate, s.conn, &s.config.Topics, s.config.Windows.OutcomesWait)
	})
	committing, stopCommits := context.WithCancel(drain)
	var commits errgroup.Group
	commits.Go(func() error { return s.commitNowAndThen(committing, g, lanes, outcomes) })
	if undecided > 0 {
		work.Go(func() error { return s.awaitPartitions(failed, decisions) })
	}
	err = work.Wait()
	s.gate.Ledger.Clear() // what is claimed still is looked up on the topic before anybody decides again
	stopCommits()
	_ = commits.Wait() // its errors are those of the generation, and are logged
	s.commitLast(drain, g, lanes, outcomes)
	if err != nil && ctx.Err() == nil {
		s.log.Error("the lanes stop", "error", err)
	}
	return err
}

// unlessOver passes over an error that only says that the time was up.
func unlessOver(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// awaitPartitions ends the generation once the topic of decisions has grown, so
// that the next one decides all partitions.
func (s *Service) awaitPartitions(ctx context.Context, had int) error {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if n, err := s.conn.Partitions(ctx, s.config.Topics.Decisions); err == nil && n > had {
			return fmt.Errorf("topic %s has %d partitions now: %w", s.config.Topics.Decisions, n, broker.ErrGenerationEnded)
		}
	}
}

// stopOthers ends the draining of all lanes when one has failed: what it had
// published is not known, so nobody may go on with what it had claimed.
func stopOthers(stop func(), err error) error {
	if err != nil {
		stop()
	}
	return err
}

// takeOver fences a partition of decisions and completes the ledger from it.
func (s *Service) takeOver(ctx context.Context, l *lane, a broker.Assignment, written uint64) error {
	t := s.config.Topics.Decisions
	key := s.gate.Store.Key()
	publisher, fence, err := s.conn.Fence(ctx, fmt.Sprintf("%s/%d", s.config.Kafka.Group, l.partition), t, l.partition)
	if err != nil {
		return err
	}
	l.publisher = publisher
	from, ours := decisionsFrom(a.Metadata, storeName(key), written)
	if !ours && a.Offset >= 0 {
		s.log.Warn("the journal is not the one with which offsets were committed, or was put back to an earlier state: "+
			"earlier decisions are read from the topic and stand, but windows know nothing of what the journal lacks",
			"topic", t, "partition", l.partition, "store", s.config.Store)
	}
	if from > fence {
		s.log.Error("the topic of decisions ends before what the journal knows of it: it was made anew, or has lost its end. Payments that the journal knows "+
			"cannot be answered again; if the topic is new, give the gate a new store", "topic", t, "partition", l.partition, "end", fence, "journal", from)
		from = 0
	}
	var found []window.Mark
	began, err := s.conn.ReadRange(ctx, t, l.partition, from, fence, func(r broker.Record) error {
		m, first, err := ledger.MarkOf(key, int32(l.partition), r.Offset, r.Value)
		if err != nil {
			s.log.Error("a record of the ledger cannot be read; it is passed over", "topic", t, "partition", l.partition, "offset", r.Offset, "error", err)
			return nil
		}
		if !first {
			return nil
		}
		if !s.gate.Ledger.Known(m.Tx) {
			found = append(found, m)
		}
		// Known ones too: their records were not committed, so their bytes are wanted again at once.
		s.gate.Ledger.Add(m, r.Value)
		return nil
	})
	if err != nil {
		return err
	}
	if began > from && (from > 0 || a.Offset > 0) {
		s.log.Warn("the ledger has a hole: its topic no longer holds decisions that the journal lacks", "topic", t, "partition", l.partition, "from", from, "to", began)
	}
	if err := s.gate.Store.Decided(found); err != nil {
		return err
	}
	l.cursor = newCursor(a.Offset, fence)
	return nil
}

// commitEvery is how often offsets are committed at the most: a commit after
// every batch costs two thirds of the throughput, and the ledger makes what is
// read again harmless.
const commitEvery = 100 * time.Millisecond

func (s *Service) commitNowAndThen(ctx context.Context, g *broker.Generation, lanes []*lane, outcomes []*outcomeLane) error {
	tick := time.NewTicker(commitEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := s.commit(ctx, g, lanes, outcomes); err != nil && ctx.Err() == nil {
			s.log.Warn("offsets were not committed", "error", err)
			if errors.Is(err, broker.ErrGenerationEnded) {
				return err
			}
		}
	}
}

func (s *Service) commit(ctx context.Context, g *broker.Generation, lanes []*lane, outcomes []*outcomeLane) error {
	durable := s.gate.Store.Durable()
	name := storeName(s.gate.Store.Key())
	var commits []broker.Commit
	var done []*cursor
	add := func(topic string, partition int, c *cursor) {
		if at, ok := c.ready(durable); ok {
			commits = append(commits, broker.Commit{Topic: topic, Partition: partition, Offset: at.next, Metadata: metadata(name, at)})
			done = append(done, c)
		}
	}
	for _, l := range lanes {
		add(s.config.Topics.Transactions, l.partition, l.cursor)
	}
	for _, l := range outcomes {
		add(s.config.Topics.Outcomes, l.partition, l.cursor)
	}
	if len(commits) == 0 {
		return nil
	}
	if err := g.Commit(ctx, commits); err != nil {
		return err
	}
	for i, c := range done {
		c.committedTo(commits[i].Offset)
	}
	return nil
}

// commitLast waits until the journal is durable and commits where the lanes stopped.
func (s *Service) commitLast(ctx context.Context, g *broker.Generation, lanes []*lane, outcomes []*outcomeLane) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for written := s.gate.Store.Written(); s.gate.Store.Durable() < written; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	if err := s.commit(ctx, g, lanes, outcomes); err != nil && !errors.Is(err, broker.ErrGenerationEnded) {
		s.log.Warn("the last offsets were not committed; their records will be read again", "error", err)
	}
}
