package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
	"github.com/sluice-risk/sluice/rules"
)

// Service is a gate that decides the payments of a Kafka cluster.
type Service struct {
	config   Config
	gate     *Gate
	conn     *broker.Conn
	log      *slog.Logger
	check    *settingsCheck
	told     *told     // alerts and notices
	wentAway time.Time // the store, last; watchStore's own
	ground   atomic.Pointer[ground]
	working  atomic.Bool // lanes are deciding
	desk     *holdDesk   // about holds
	others   *follower   // of the decisions of other members; nil where there are none
	rulesets *rulesetBook
	watcher  *rules.Watcher // of the ruleset's folder; nil where it is not watched
	// reloading is held by a reload: the folder as it was read last is what counts.
	reloading sync.Mutex
}

// NewService loads the ruleset, or the last good one where its folder holds a bad
// one, opens the store, and prepares the connection. It does not talk to the
// broker yet.
func NewService(ctx context.Context, config Config, reg prometheus.Registerer, log *slog.Logger) (*Service, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	watcher := config.watcher() // before the load, so that no change is missed
	rs, refused, err := config.startRuleset()
	if err != nil {
		return nil, err
	}
	evidence, err := ParseEvidence(config.Evidence)
	if err != nil {
		return nil, err
	}
	store, err := OpenStore(ctx, &config, rs.Features(), log)
	if err != nil {
		return nil, err
	}
	index := ledger.New(config.Ledger.RecentBytes, store.Earlier)
	metrics := NewMetrics(reg)
	metrics.store(reg, store)
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
	s := &Service{config: config, conn: conn, log: log, told: newTold(&config, conn, rs, reg, log), watcher: watcher}
	s.check = newSettingsCheck(&s.config, conn, reg, log)
	s.gate = &Gate{
		Rules: rs, Store: store, Ledger: index, Limits: config.Limits(), Evidence: evidence, Metrics: metrics, Log: log,
		Earlier: s.earlier, clock: newClock(machineClock()),
	}
	s.gate.Now = s.gate.clock.now
	s.gate.Alerts, s.gate.Watchdog, s.gate.Notices = s.told.alerts, s.told.watchdog, s.told.notices
	s.check.alert = s.alertOf(payment.AlertBrokerSettings)
	metrics.health(reg, s.gate)
	s.gate.Shared, _ = store.(Shared)
	s.gate.Holds = ledger.NewHolds(store.Key(), ledger.HoldsOptions{First: index.Find, WarnAfter: float64(config.Holds.WarnPercent) / 100})
	s.desk = s.newDesk(reg)
	if s.gate.Shared != nil {
		s.others = &follower{s: s, next: map[int]int64{}, first: map[int]int64{}}
	}
	s.gate.newest.Store(rs)
	s.gate.Controls.Kept = config.rulesKept()
	s.gate.Controls.Alert = func(code payment.AlertCode, summary string) { s.told.alerts.Raise(code, summary, NoPartition) }
	s.startWith(rs, refused)
	return s, nil
}

// startWith begins with a ruleset; refused is why it is not that of the folder, nil
// where it is.
func (s *Service) startWith(rs *rules.Ruleset, refused error) {
	c, by := &s.gate.Controls, ByFolder
	if refused != nil {
		by = ByLastGood
	}
	s.rulesets = newRulesetBook(&s.config, rs, by, s.gate.Metrics, s.log)
	c.stored, c.Switched = rs, s.rulesets.switched
	c.Found = func() {
		if s.rulesets.report().Refused == nil {
			s.told.alerts.Resolve(payment.AlertBadRuleset, NoPartition)
		}
	}
	s.gate.loaded(rs, s.rulesets.folder)
	s.gate.Metrics.resolve(rs)
	s.gate.Metrics.ruleset(rs)
	if refused != nil {
		s.log.Error("the ruleset of the folder is refused: the gate starts with the last good one", "folder", s.rulesets.folder, "hash", rs.Hash(), "error", refused)
		s.gate.Metrics.reload("last_good")
		s.refuse(refused)
	}
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
		mark, revision, err := ledger.MarkOf(s.gate.Store.Key(), m.Partition, r.Offset, r.Value)
		if err != nil || revision != 1 {
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
	stopTelling := s.told.start()
	defer func() {
		stopTelling()
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
		Group: s.config.Kafka.Group, Topics: []string{t.Transactions, t.Outcomes, t.Reviews}, SessionTimeout: s.config.Kafka.SessionTimeout,
		OnWait: func(err error) { s.log.Warn("waiting for the group", "error", err) },
	}
	if s.gate.Shared == nil {
		if err := s.awaitEmptyGroup(ctx); err != nil {
			return err
		}
	} else if err := s.others.begin(ctx); err != nil {
		return unlessOver(ctx, err)
	}
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { s.check.follow(watching) })
	watch.Go(func() { s.watchRules(watching) })
	err = s.conn.JoinGroup(ctx, group, s.generation)
	stop()
	watch.Wait()
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
