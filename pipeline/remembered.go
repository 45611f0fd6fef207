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
	lead   int   // decisions that were read, less payments that were looked for
	latest map[window.TxHash]window.Mark
	before map[window.TxHash]window.Mark // as many, read earlier
	buffer broker.FetchBuffer
}

// mostLead is how many decisions a folder reads beyond those that it looks for. Of a
// payment that was decided elsewhere it finds nothing in them.
const mostLead = 1 << 14

// find returns what was said of a transaction.
func (r *remembered) find(index *ledger.Index, h window.TxHash) (m window.Mark, found bool) {
	if m, found = index.AtHand(h); found {
		return m, true
	}
	if m, found = r.latest[h]; found {
		return m, true
	}
	if m, found = r.before[h]; found {
		return m, true
	}
	return index.Find(h) // it was decided long before
}

// put keeps what was said of a transaction first.
func (r *remembered) put(m window.Mark) {
	if r.latest == nil || len(r.latest) >= 2*mostLead {
		r.latest, r.before = map[window.TxHash]window.Mark{}, r.latest
	}
	if _, known := r.latest[m.Tx]; !known {
		r.latest[m.Tx] = m
	}
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
		_, read := r.latest[a.hash]
		_, readBefore := r.before[a.hash]
		if !known && !read && !readBefore {
			n++
		}
	}
	return n
}

// remember reads on in the decisions until it knows what was said of a batch.
func (l *lane) remember(ctx context.Context, b *Batch, s span) error {
	r, index := &l.folder.remembered, l.gate.Ledger
	if s.from < r.from { // set back: see cursor.reopen
		r.next, r.near, r.lead = s.decisions, 0, 0
	}
	r.from, r.lead = s.from, max(0, r.lead-len(b.answers))
	missing := r.missing(index, b, l.partition)
	if missing == 0 {
		return nil
	}
	if from := max(s.decisions, r.near-mostLead/2); r.next < from {
		r.next, r.lead = from, 0
	}
	for missing > 0 && r.next < l.end.Load() && r.lead < mostLead {
		got, err := l.conn.Fetch(ctx, broker.FetchRequest{Topic: l.topics.Decisions, Partition: l.partition, Offset: r.next}, &r.buffer)
		if outside := (*broker.OffsetOutOfRangeError)(nil); errors.As(err, &outside) && outside.First > r.next {
			r.next = outside.First
			continue
		}
		if err != nil {
			return fmt.Errorf("read what was decided before: %w", err)
		}
		for i := range got.Records {
			d := &got.Records[i]
			m, revision, err := ledger.MarkOf(l.gate.Store.Key(), int32(l.partition), d.Offset, d.Value)
			if err == nil && revision == 1 {
				r.put(m)
			}
		}
		r.next = got.Next
		r.lead += len(got.Records)
		missing = r.missing(index, b, l.partition)
	}
	return nil
}
