package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// newDesk makes what this member does about holds part of the service.
func (s *Service) newDesk(reg prometheus.Registerer) *holdDesk {
	k := &holdDesk{holds: s.gate.Holds, key: s.gate.Store.Key, conn: s.conn, topics: &s.config.Topics, group: s.config.Kafka.Group, limits: s.gate.Limits,
		config: s.config.Holds, wait: s.config.Windows.OutcomesWait, now: func() payment.Time { return s.gate.Now() }, time: s.gate.kafkaTime,
		decided: func(id string) (payment.Verdict, bool) {
			m, known := s.gate.Ledger.Find(s.gate.Store.Key().Tx(id))
			return m.Verdict, known
		},
		lost: s.gate.passOver, refused: s.gate.Metrics.refuse, raise: s.told.alerts.Raise, resolve: s.told.alerts.Resolve,
		metrics: newHoldMetrics(reg), log: s.log}
	reg.MustRegister(newHoldCollector(k))
	return k
}

// startShift prepares what a generation does about holds. The open holds of its
// own partitions are read from where the last owner's commit says; those of
// others only to judge what is said about them.
func (s *Service) startShift(ctx context.Context, g *broker.Generation, lanes []*lane) (*holdShift, error) {
	own := &laneRevisions{lanes: map[int32]*lane{}}
	var owned []int32
	var history []topicRange
	for _, l := range lanes {
		own.lanes[int32(l.partition)] = l
		owned = append(owned, int32(l.partition))
		history = append(history, l.history)
	}
	if s.others != nil {
		all, err := s.conn.Committed(ctx, s.config.Kafka.Group, s.config.Topics.Transactions)
		if err != nil {
			return nil, err
		}
		for _, a := range all {
			if note := readMetadata(a.Metadata, storeName(s.gate.Store.Key()), 1<<63); note.ours && own.lanes[int32(a.Partition)] == nil {
				history = append(history, topicRange{Partition: int32(a.Partition), From: note.holds, To: s.others.began(a.Partition)})
			}
		}
	}
	return s.desk.shift(ctx, g, owned, history, own)
}

// laneRevisions publishes later revisions through the lanes of a generation. It
// implements reviser.
type laneRevisions struct {
	lanes map[int32]*lane
}

// Revise implements reviser. Where members share a store, a revision is claimed
// there first: a payment that came in two partitions has its decision in both, and
// both owners revise it, with the same bytes. While the store is away nobody can
// be asked, and no hold waits for it.
func (r *laneRevisions) Revise(ctx context.Context, partition int32, next func() []*payment.Decision) error {
	l := r.lanes[partition]
	if l == nil {
		return fmt.Errorf("the partition has no lane here: %w", broker.ErrPublisherLost)
	}
	winners, err := l.claimLater(ctx, next)
	if err != nil {
		return err
	}
	l.mu.Lock() // not while the store is asked: the watch must not wait for it
	defer l.mu.Unlock()
	decisions := next()
	texts := make([][]byte, len(decisions))
	for i, d := range decisions {
		verdict := d.Verdict
		if texts[i] = winners[revisionOf(d)]; texts[i] == nil {
			texts[i] = d.Append(nil)
		} else if m, _, err := ledger.MarkOf(l.gate.Store.Key(), partition, -1, texts[i]); err == nil {
			verdict = m.Latest
		}
		a := &answer{}
		a.tx.ID, a.tx.Payer.AccountID, a.hash = d.TransactionID, d.Transaction.Payer, l.gate.Store.Key().Tx(d.TransactionID)
		if err := l.add(ctx, said{a: a, decision: texts[i], verdict: verdict, revision: d.Revision}); err != nil {
			return err
		}
	}
	if err := l.flush(ctx); err != nil {
		return err
	}
	for i := range decisions {
		l.gate.Notices.Revised(texts[i])
	}
	return nil
}

// Pending implements reviser. While the store is away nothing can be made, and
// holds expire as they should.
func (r *laneRevisions) Pending(partition int32) bool {
	l := r.lanes[partition]
	return l != nil && l.pace.isDeferred(l.partition) && !l.gate.Store.Health().Away
}

// revisionOf names a revision among all.
func revisionOf(d *payment.Decision) string { return d.TransactionID + "\n" + strconv.Itoa(d.Revision) }

// claimLater asks a shared store who was first to make the next revisions, and
// returns the bytes of those that others have made, by revisionOf.
func (l *lane) claimLater(ctx context.Context, next func() []*payment.Decision) (winners map[string][]byte, err error) {
	if l.gate.Shared == nil {
		return nil, nil
	}
	decisions := next()
	if len(decisions) == 0 {
		return nil, nil
	}
	hashes, texts := make([]window.TxHash, len(decisions)), make([][]byte, len(decisions))
	for i, d := range decisions {
		hashes[i], texts[i] = revisionHash(l.gate.Store.Key(), d.TransactionID, d.Revision), d.Append(nil)
	}
	first, err := l.gate.Shared.First(ctx, hashes, texts)
	if errors.Is(err, window.ErrAway) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask the store who was first to revise: %w", err)
	}
	winners = map[string][]byte{}
	for i, w := range first {
		if winners[revisionOf(decisions[i])] = w; w == nil {
			winners[revisionOf(decisions[i])] = texts[i]
		}
	}
	return winners, nil
}
