package pipeline

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// What the front has said of a payment the ledger's index knows while it is among
// the latest. A backlog, or what comes in while a store is away, can be longer: then
// the folder, which comes behind, finds nothing there, and a store knows the place
// of a decision, if that much, and not that it was a default. So the folder reads
// the partition of decisions along with its records. Both are in nearly the same
// order, so that what it needs lies a little ahead of what it has read.

// remembered is what a folder has read of risk.decisions. It belongs to the folder.
type remembered struct {
	from   int64 // of records: behind it the folder has not been yet
	next   int64 // of decisions: the first that was not read
	near   int64 // of decisions: about there the folder is
	vain   int64 // of records: before it nobody searches back again
	unused int   // of the following: those that nobody has asked for yet
	latest map[window.TxHash]*firstDecision
	before map[window.TxHash]*firstDecision // as many, read earlier
	buffer broker.FetchBuffer
}

// firstDecision is what was said of a transaction first.
type firstDecision struct {
	mark window.Mark
	used bool // the folder has asked for it
}

// mostUnused is how many decisions a folder reads beyond those that it looks for. Of
// a payment that was decided elsewhere it finds nothing in them.
const mostUnused = 1 << 14

// at returns what was read of a transaction, nil for nothing.
func (r *remembered) at(h window.TxHash) *firstDecision {
	if d := r.latest[h]; d != nil {
		return d
	}
	return r.before[h]
}

// find returns what was said of a transaction.
func (r *remembered) find(index *ledger.Index, h window.TxHash) (m window.Mark, found bool) {
	if m, found = index.AtHand(h); found {
		return m, true
	}
	if d := r.at(h); d != nil {
		if !d.used {
			d.used = true
			r.unused--
		}
		return d.mark, true
	}
	return index.Find(h) // it was decided long before
}

// put keeps what was said of a transaction first.
func (r *remembered) put(m window.Mark) {
	if r.at(m.Tx) != nil {
		return
	}
	if r.latest == nil || len(r.latest) >= 2*mostUnused {
		for _, d := range r.before {
			if !d.used {
				r.unused--
			}
		}
		r.latest, r.before = map[window.TxHash]*firstDecision{}, r.latest
	}
	r.latest[m.Tx] = &firstDecision{mark: m}
	r.unused++
}

// missing counts the payments of a batch of which nothing is known. Those that are
// known tell where in the decisions the folder is.
func (r *remembered) missing(index *ledger.Index, b *Batch, partition int) (n int) {
	for i := range b.answers {
		a := &b.answers[i]
		if !a.usable {
			continue
		}
		m, known := index.AtHand(a.hash)
		if known && m.Default && int(m.Partition) == partition {
			r.near = max(r.near, m.Offset)
		}
		if !known && r.at(a.hash) == nil {
			n++
		}
	}
	return n
}

// remember reads on in the decisions until it knows what was said of a batch.
func (l *lane) remember(ctx context.Context, b *Batch, s span) error {
	r, index := &l.folder.remembered, l.gate.Ledger
	if s.from < r.from { // set back: see cursor.reopen
		r.next, r.near, r.vain = s.decisions, 0, 0
	}
	r.from = s.from
	missing := r.missing(index, b, l.partition)
	if missing == 0 {
		return nil
	}
	r.next = max(r.next, s.decisions, r.near-mostUnused/2)
	for missing > 0 && r.next < l.end.Load() && r.unused < mostUnused {
		next, err := l.readDecisions(ctx, r.next, r.put)
		if err != nil {
			return err
		}
		r.next = next
		missing = r.missing(index, b, l.partition)
	}
	if missing > 0 && s.from >= r.vain {
		return l.searchBack(ctx, b, s)
	}
	return nil
}

// searchBack looks for what was said of a batch in all decisions behind the folder:
// what was left unanswered while a store was away has its decisions out of order.
// Who finds nothing does not look again for a while.
func (l *lane) searchBack(ctx context.Context, b *Batch, s span) error {
	r, index := &l.folder.remembered, l.gate.Ledger
	wanted := map[window.TxHash]bool{}
	for i := range b.answers {
		if a := &b.answers[i]; a.usable && r.at(a.hash) == nil {
			if _, known := index.AtHand(a.hash); !known {
				wanted[a.hash] = true
			}
		}
	}
	found := 0
	for next := s.decisions; next < r.next && found < len(wanted); {
		var err error
		next, err = l.readDecisions(ctx, next, func(m window.Mark) {
			if wanted[m.Tx] && r.at(m.Tx) == nil {
				r.put(m)
				found++
			}
		})
		if err != nil {
			return err
		}
	}
	if found == 0 {
		r.vain = s.from + mostUnused
	}
	return nil
}

// readDecisions gives the first decisions from an offset on, as many as one fetch
// brings, and returns where to read on.
func (l *lane) readDecisions(ctx context.Context, from int64, first func(window.Mark)) (next int64, err error) {
	got, err := l.conn.Fetch(ctx, broker.FetchRequest{Topic: l.topics.Decisions, Partition: l.partition, Offset: from}, &l.folder.remembered.buffer)
	if outside := (*broker.OffsetOutOfRangeError)(nil); errors.As(err, &outside) && outside.First > from {
		return outside.First, nil
	}
	if err != nil {
		return from, fmt.Errorf("read what was decided before: %w", err)
	}
	for i := range got.Records {
		d := &got.Records[i]
		if m, revision, err := ledger.MarkOf(l.gate.Store.Key(), int32(l.partition), d.Offset, d.Value); err == nil && revision == 1 {
			first(m)
		}
	}
	return got.Next, nil
}
