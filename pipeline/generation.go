package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/window"
	"golang.org/x/sync/errgroup"
)

// drainFor is how long a lane may take to settle what it has fetched.
const drainFor = 20 * time.Second

// generation works on the partitions that the group has given us: it fences
// them all, completes the ledger from what earlier owners published, and only
// then lets lanes decide.
func (s *Service) generation(ctx context.Context, g *broker.Generation) error {
	s.gate.Metrics.generations.Inc()
	if s.gate.Shared == nil {
		if err := s.alone(ctx, g); err != nil {
			return err
		}
	}
	s.ground.Store(groundOf(s.gate.Store)) // before anything is committed or taken over
	drain, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(drainFor, cancel) })
	defer stop()

	var lanes []*lane
	var outcomes []*outcomeLane
	var reviews []*reviewCommit
	prepare, inner := errgroup.WithContext(ctx)
	prepare.SetLimit(8)
	written := s.gate.Store.Written() // by the journal as it was found, before anything is added
	if s.gate.Shared != nil {
		written = math.MaxUint64 // each member counts for itself
	}
	decisions, err := s.conn.Partitions(ctx, s.config.Topics.Decisions)
	if err != nil {
		return unlessOver(ctx, err)
	}
	transactions, outcomePartitions, err := s.partitions(ctx)
	if err != nil {
		return unlessOver(ctx, err)
	}
	pace := newPace(transactions+outcomePartitions, &s.config.Windows, s.patience(), s.gate.Now, s.gate.Shared)
	pace.over = ctx.Done()
	givesUp := false // of several members the one with the first partition of outcomes looks for lost ones
	undecided := 0
	for _, a := range g.Assigned {
		if a.Offset < 0 {
			a.Offset = broker.FirstOffset
		}
		if a.Topic == s.config.Topics.Reviews {
			reviews = append(reviews, &reviewCommit{partition: a.Partition, committed: a.Offset})
			continue // see holds.go
		}
		if a.Topic == s.config.Topics.Outcomes {
			l := &outcomeLane{gate: s.gate, conn: s.conn, topics: &s.config.Topics, partition: a.Partition, from: a.Offset, metadata: a.Metadata, pace: pace, paced: transactions + a.Partition}
			outcomes = append(outcomes, l)
			givesUp = givesUp || a.Partition == 0
			prepare.Go(func() error {
				first, err := s.enter(inner, pace, l.paced, a)
				if err != nil {
					return err
				}
				l.from = max(l.from, first)
				s.takeOutcomes(l, written)
				return nil
			})
			continue
		}
		if a.Partition >= decisions {
			undecided++
			s.log.Error("a partition is not decided: a decision goes to the partition number of its transaction, and there is none; add partitions to the topic of decisions",
				"topic", a.Topic, "partition", a.Partition, "decisions_topic", s.config.Topics.Decisions, "decisions_partitions", decisions)
			continue
		}
		l := s.newLane(a, pace)
		lanes = append(lanes, l)
		prepare.Go(func() error {
			first, err := s.enter(inner, pace, l.partition, a)
			if err != nil {
				return err
			}
			l.from = max(l.from, first)
			return s.takeOver(inner, l, a, written)
		})
	}
	ours := map[int]*lane{}
	for _, l := range lanes {
		ours[l.partition] = l
	}
	var controls []*controlReader
	prepare.Go(func() (err error) {
		controls, err = s.controls(inner, givesUp)
		return err
	})
	if s.others != nil {
		prepare.Go(func() error { return s.others.hurry(inner, ours, time.Second) })
	}
	if err := prepare.Wait(); err != nil {
		return unlessOver(ctx, err)
	}
	shift, err := s.startShift(ctx, g, lanes)
	if err != nil {
		return unlessOver(ctx, err)
	}
	s.working.Store(true)
	defer s.working.Store(false)
	s.log.Info("deciding", "partitions", len(lanes), "generation", g.ID)

	work, failed := errgroup.WithContext(ctx)
	for _, l := range lanes {
		work.Go(func() error { return stopOthers(cancel, l.run(failed, drain)) })
	}
	for _, l := range outcomes {
		work.Go(func() error { return stopOthers(cancel, l.run(failed, drain)) })
	}
	if givesUp {
		work.Go(func() error {
			return giveUpOutcomes(failed, s.gate, s.conn, &s.config.Topics, s.config.Windows.OutcomesWait)
		})
	}
	work.Go(func() error { return pace.keepTelling(failed) })
	work.Go(func() error { return shift.run(failed, drain) })
	work.Go(func() error { return s.watchStore(failed, lanes, outcomes) })
	if s.others != nil {
		work.Go(func() error { return s.others.others(failed, ours) })
	}
	for _, c := range controls {
		work.Go(func() error { return c.follow(failed) })
	}
	committing, stopCommits := context.WithCancel(drain)
	var commits errgroup.Group
	commits.Go(func() error { return s.commitNowAndThen(committing, g, &settling{lanes, outcomes, reviews, shift}) })
	if undecided > 0 {
		work.Go(func() error { return s.awaitPartitions(failed, decisions) })
	}
	err = work.Wait()
	if s.others != nil {
		for _, l := range lanes {
			s.others.seen(l.partition, l.end.Load()) // somebody else writes there from now on
		}
	}
	s.gate.Ledger.Clear() // what is claimed still is looked up on the topic before anybody decides again
	stopCommits()
	_ = commits.Wait() // its errors are those of the generation, and are logged
	s.commitLast(drain, g, &settling{lanes, outcomes, reviews, shift})
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

// partitions counts those of transactions and of outcomes.
func (s *Service) partitions(ctx context.Context) (transactions, outcomes int, err error) {
	if transactions, err = s.conn.Partitions(ctx, s.config.Topics.Transactions); err != nil {
		return 0, 0, err
	}
	outcomes, err = s.conn.Partitions(ctx, s.config.Topics.Outcomes)
	return transactions, outcomes, err
}

// enter lets a partition take part in the pace; one that is empty from where we
// begin is caught up, and nobody waits for it.
func (s *Service) enter(ctx context.Context, p *pace, id int, a broker.Assignment) (first int64, err error) {
	p.join(id)
	first, end, err := s.conn.Offsets(ctx, a.Topic, a.Partition)
	if err != nil {
		return 0, err
	}
	if end <= max(first, a.Offset) {
		p.noted(id, farAhead, true)
	}
	return first, nil
}

// newLane makes the worker of a partition.
func (s *Service) newLane(a broker.Assignment, p *pace) *lane {
	l := &lane{gate: s.gate, conn: s.conn, topics: &s.config.Topics, partition: a.Partition, from: a.Offset, engine: s.gate.NewEngine(),
		maxBatch: s.config.Windows.BatchSize, pace: p, watch: newWatch(s.config.Deadlines.Margin), folder: newFolder(s.gate.NewEngine(), s.config.Windows.BatchSize)}
	for _, e := range []*Engine{l.engine, l.folder.engine} {
		e.pace, e.partition = p, l.partition
	}
	l.queue.init()
	return l
}

// takeOutcomes makes the cursor of a lane of outcomes, and sets it back where the
// store may have lost something since the last commit.
func (s *Service) takeOutcomes(l *outcomeLane, written uint64) {
	l.cursor = newCursor(l.from, 0)
	note := readMetadata(l.metadata, storeName(s.gate.Store.Key()), written)
	if !note.ours {
		return
	}
	l.cursor.inherit(note.safe)
	if !s.ground.Load().holds(note.servers) {
		l.reread(note.safe.next)
	}
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
	note := readMetadata(a.Metadata, storeName(key), written)
	from := note.decisions
	if !note.ours && a.Offset >= 0 {
		s.log.Warn("the journal is not the one with which offsets were committed, or was put back to an earlier state: "+
			"earlier decisions are read from the topic and stand, but windows know nothing of what the journal lacks",
			"topic", t, "partition", l.partition, "store", s.config.storeName())
	}
	if from > fence {
		s.log.Error("the topic of decisions ends before what the journal knows of it: it was made anew, or has lost its end. Payments that the journal knows "+
			"cannot be answered again; if the topic is new, give the gate a new store", "topic", t, "partition", l.partition, "end", fence, "journal", from)
		from = 0
	}
	if s.others != nil {
		if err := s.others.catchUp(ctx, l.partition, from); err != nil {
			return err
		}
	}
	l.history = topicRange{Partition: int32(l.partition), From: min(note.holds, from), To: from}
	l.end.Store(fence)
	l.cursor = newCursor(l.from, from)
	if _, l.inherited, err = s.conn.Offsets(ctx, l.topics.Transactions, l.partition); err != nil {
		return err
	}
	if note.ours {
		l.cursor.inherit(note.safe)
		if !s.ground.Load().holds(note.servers) {
			l.reread(note.safe) // the store may have lost something between that commit and now
		}
	}
	l.before = answered{from: l.from, end: l.inherited}
	var found []window.Mark
	began, err := s.conn.ReadRange(ctx, t, l.partition, from, fence, func(r broker.Record) error {
		m, revision, err := ledger.MarkOf(key, int32(l.partition), r.Offset, r.Value)
		if err == nil {
			err = s.gate.Holds.Saw(int32(l.partition), r.Offset, r.Value)
		}
		switch {
		case err != nil:
			s.log.Error("a record of the ledger cannot be read; it is passed over", "topic", t, "partition", l.partition, "offset", r.Offset, "error", err)
		case revision > 1:
			s.gate.Ledger.Revise(m.Tx, m.Latest)
			s.gate.Notices.Revised(r.Value)
		default:
			l.before.saw(&r, m.Tx)
			earlier, noted := s.gate.Store.Earlier(m.Tx)
			if noted && (earlier.Partition != m.Partition || earlier.Offset != m.Offset) {
				// Stored bytes that were published again: what is to be said after them is
				// said where they stand first.
				earlier.EventTime, earlier.Latest = m.EventTime, m.Latest
				s.gate.Ledger.Add(earlier, r.Value)
				return nil
			}
			if _, atHand := s.gate.Ledger.AtHand(m.Tx); !noted && !atHand {
				found = append(found, m)
			}
			// Known ones too: their records were not committed, so their bytes are wanted again at once.
			s.gate.Ledger.Add(m, r.Value)
			s.gate.Notices.Revised(r.Value)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if began > from && (from > 0 || a.Offset > 0) {
		s.log.Warn("the ledger has a hole: its topic no longer holds decisions that the journal lacks", "topic", t, "partition", l.partition, "from", from, "to", began)
	}
	err = s.gate.Store.Decided(ctx, found)
	if err == nil && s.gate.Shared != nil { // what the store may have lost, or heard otherwise, it knows again
		err = s.gate.stand(ctx, s.conn, t, l.partition, from, fence)
	}
	if errors.Is(err, window.ErrAway) {
		l.folder.standFrom(from)
		err = nil
	}
	return err
}
