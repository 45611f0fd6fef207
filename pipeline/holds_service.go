package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// newHoldDesk makes the desk of a service, once its gate is there.
func newHoldDesk(config *Config, holds *HoldsConfig, g *Gate, conn *broker.Conn, reg prometheus.Registerer) *holdDesk {
	key := g.Store.Key()
	k := &holdDesk{
		holds: ledger.NewHolds(key, ledger.HoldsOptions{First: g.Ledger.Find, WarnAfter: float64(holds.WarnPercent) / 100}),
		decided: func(id string) (payment.Verdict, bool) {
			mark, known := g.Ledger.Find(key.Tx(id))
			return mark.Verdict, known
		},
		conn: conn, topics: &config.Topics, group: config.Kafka.Group, limits: config.Limits(), config: *holds, wait: config.Windows.OutcomesWait,
		now: g.Now, time: g.kafkaTime, lost: g.passOver, refused: g.Metrics.refuse, raise: g.Alerts.Raise, resolve: g.Alerts.Resolve,
		metrics: newHoldMetrics(reg), log: g.Log,
	}
	reg.MustRegister(newHoldCollector(k))
	return k
}

// generation prepares the work about holds of a generation with its lanes, which
// are fenced and know what stands on the topic. What the lanes publish from now on
// they tell Holds.Published themselves.
func (k *holdDesk) generation(ctx context.Context, g *broker.Generation, lanes []*lane) (*holdShift, error) {
	committed, err := k.conn.Committed(ctx, k.group, k.topics.Transactions)
	if err != nil {
		return nil, err
	}
	ends, err := k.conn.TopicOffsets(ctx, k.topics.Decisions)
	if err != nil {
		return nil, err
	}
	var history []topicRange
	for p, r := range ends {
		from := r.First
		if p < len(committed) {
			from = max(from, heldFrom(committed[p].Metadata))
		}
		history = append(history, topicRange{Partition: int32(p), From: from, To: r.End})
	}
	revisions := laneRevisions{lanes: map[int32]*lane{}, holds: k.holds}
	var owned []int32
	for _, l := range lanes {
		owned = append(owned, int32(l.partition))
		revisions.lanes[int32(l.partition)] = l
	}
	return k.shift(ctx, g, owned, history, &revisions)
}

// The metadata of a commit ends with where the oldest open hold of the partition
// stands on risk.decisions, or where the next decision will: from there on the
// topic is read for holds.

// withHeld adds it to the metadata; end is the end of the partition.
func (k *holdDesk) withHeld(metadata string, partition int, end int64) string {
	if oldest, ok := k.holds.Oldest(int32(partition)); ok {
		end = min(end, oldest)
	}
	return fmt.Sprintf("%s held=%d", metadata, end)
}

// heldFrom reads it; 0 where it is not there.
func heldFrom(metadata string) int64 {
	_, text, _ := strings.Cut(metadata, " held=")
	from, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return from
}

// withoutHeld is the metadata without it.
func withoutHeld(metadata string) string {
	before, _, _ := strings.Cut(metadata, " held=")
	return before
}

// laneRevisions publishes later revisions through the lanes of a generation. It
// implements reviser.
type laneRevisions struct {
	lanes map[int32]*lane
	holds *ledger.Holds
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
	texts, marks := make([][]byte, len(decisions)), make([]window.Mark, len(decisions))
	for i, d := range decisions {
		verdict := d.Verdict
		if texts[i] = winners[revisionOf(d)]; texts[i] == nil {
			texts[i] = d.Append(nil)
		} else if m, _, err := ledger.MarkOf(l.gate.Store.Key(), partition, -1, texts[i]); err == nil {
			verdict = m.Latest
		}
		a := &answer{}
		a.tx.ID, a.tx.Payer.AccountID, marks[i].Latest = d.TransactionID, d.Transaction.Payer, verdict
		if err := l.add(ctx, said{a: a, decision: texts[i], verdict: verdict, revision: d.Revision, at: &marks[i]}); err != nil {
			return err
		}
	}
	if err := l.flush(ctx); err != nil {
		return err
	}
	for i, d := range decisions {
		if err := r.holds.Published(partition, marks[i].Offset, texts[i]); err != nil {
			return err
		}
		l.gate.Ledger.Revise(l.gate.Store.Key().Tx(d.TransactionID), marks[i].Latest)
		l.gate.Notices.Revised(texts[i])
	}
	return nil
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
