package pipeline

import (
	"context"
	"fmt"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// backlog decides those of b.fresh from a place on that are past their deadline
// and in one slice of event time: first they are noted in the logs, then, when
// all partitions have noted theirs, windows are read as of each. It returns how
// many they were, 0 where the first can still be answered in time.
func (e *Engine) backlog(ctx context.Context, b *Batch, at int) (n int, err error) {
	if e.pace == nil || !e.overdue(b.of[at]) {
		return 0, nil
	}
	end := e.pace.sliceEnd(b.of[at].tx.EventTime)
	for n = 1; at+n < len(b.of) && e.overdue(b.of[at+n]) && b.of[at+n].tx.EventTime < end; n++ {
	}
	items, answers := b.fresh[at:at+n], b.of[at:at+n]
	if err := e.gate.Store.Note(ctx, items); err != nil {
		return n, fmt.Errorf("note in the entities' logs: %w", err)
	}
	if at+n == len(b.of) { // the slice may go on in the next batch
		end = items[0].Tx.EventTime
		for _, it := range items {
			end = max(end, it.Tx.EventTime)
		}
	}
	if err := e.pace.noted(ctx, e.partition, end, false); err != nil {
		return n, err
	}
	if err := e.pace.await(ctx, e.partition, end); err != nil {
		return n, err
	}
	if err := e.gate.Store.View(ctx, items); err != nil {
		return n, fmt.Errorf("read the entities' logs: %w", err)
	}
	return n, e.judgeAll(ctx, answers, b)
}

// overdue tells whether nobody can answer a transaction in time any more.
func (e *Engine) overdue(a *answer) bool {
	return a.decide && e.gate.Now != nil && e.deadline(a) < e.gate.Now()
}

// deadline is what the payment says, or what the policy gives its type.
func (e *Engine) deadline(a *answer) payment.Time {
	if a.tx.DecideBy != 0 {
		return a.tx.DecideBy
	}
	return max(a.tx.EventTime, a.kafkaTime).Add(e.rules.Policy().DecideWithin(a.tx.Type))
}
