package pipeline

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// newDesk makes what this member does about holds part of the service.
func (s *Service) newDesk(reg prometheus.Registerer) *holdDesk {
	k := &holdDesk{holds: s.gate.Holds, conn: s.conn, topics: &s.config.Topics, group: s.config.Kafka.Group, limits: s.gate.Limits,
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

// revisers are the lanes of a generation, by their partition.
type revisers map[int32]*lane

// Revise implements reviser.
func (r revisers) Revise(ctx context.Context, partition int32, next func() []*payment.Decision) error {
	l := r[partition]
	if l == nil {
		return fmt.Errorf("partition %d of the decisions is not ours", partition)
	}
	return l.Revise(ctx, partition, next)
}

// startShift prepares what a generation does about holds. The open holds of its
// own partitions are read from where the last owner's commit says; those of
// others only to judge what is said about them.
func (s *Service) startShift(ctx context.Context, g *broker.Generation, lanes []*lane) (*holdShift, error) {
	own := revisers{}
	var owned []int32
	var history []topicRange
	for _, l := range lanes {
		own[int32(l.partition)] = l
		owned = append(owned, int32(l.partition))
		history = append(history, l.history)
	}
	if s.others != nil {
		all, err := s.conn.Committed(ctx, s.config.Kafka.Group, s.config.Topics.Transactions)
		if err != nil {
			return nil, err
		}
		for _, a := range all {
			if note := readMetadata(a.Metadata, storeName(s.gate.Store.Key()), 1<<63); note.ours && own[int32(a.Partition)] == nil {
				history = append(history, topicRange{Partition: int32(a.Partition), From: note.holds, To: s.others.began(a.Partition)})
			}
		}
	}
	return s.desk.shift(ctx, g, owned, history, own)
}
