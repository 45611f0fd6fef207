package pipeline

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-risk/sluice/pipeline/window"
)

// cursor is how far a lane is. There are two: a record is *answered* when its
// decision (or dead letter) is acknowledged, and *folded* when besides its
// entries are durable in every log and, if it was given a default, its real
// verdict has been made. What is committed is the folded cursor: after a crash
// everything behind it is read again.
//
// Between the committed offset and the end the records stand in spans, without
// gaps. Neighbours that are alike are joined, so that their number is bounded
// however long a store is away.
type cursor struct {
	mu        sync.Mutex
	spans     []span      // from the durable one on, in order
	durable   settlement  // below it everything is folded and durable
	committed int64       // what was committed last
	inherited int64       // in risk.decisions: those before it belong to records that were folded by an earlier owner
	force     bool        // commit once more, though the offset may be lower
	reopened  int         // so often
	past      []milestone // where durable was, in the order of time; the first is of an earlier owner
	limit     int64       // nothing is committed beyond it; -1: no limit
}

// milestone is where a cursor was: what a store has acknowledged since then belongs
// to records from next on. That is not the same as their age, since a backlog is
// folded late.
type milestone struct {
	at              time.Time
	next, decisions int64
}

// Milestones are so far apart at the least, in the time in which a lane gets on, and
// so many are kept.
const (
	milestoneEvery = 500 * time.Millisecond
	maxMilestones  = 256
)

// span is some records that follow each other.
type span struct {
	from, next int64
	state      spanState
	answered   bool   // if it is to be folded: all its records have their answer
	decisions  int64  // every decision on these records stands at this offset in risk.decisions, or behind
	ordinal    uint64 // of the store, when it was folded
	reopened   int    // when somebody took it: what he has done since may be lost where it was reopened meanwhile
}

type spanState uint8

const (
	inFlight spanState = iota
	unfolded           // the folder is to read it again
	folded
)

// settlement is a point between two micro-batches.
type settlement struct {
	next      int64  // the first record after it
	decisions int64  // the offset in risk.decisions below which the journal has every decision
	ordinal   uint64 // of the store, when the batch was noted
}

func newCursor(next, decisions int64) *cursor {
	return &cursor{durable: settlement{next: next, decisions: decisions}, committed: next, inherited: decisions, limit: -1,
		past: []milestone{{next: next, decisions: decisions}}}
}

// inherit says where the cursor was a loss bound before the commit with which an
// earlier owner has left it.
func (c *cursor) inherit(safe milestone) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.past[0].next, c.past[0].decisions = min(safe.next, c.past[0].next), min(safe.decisions, c.past[0].decisions)
}

// asOf returns where the cursor was at a time, or before.
func (c *cursor) asOf(t time.Time) milestone {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.past[0]
	for _, later := range c.past[1:] {
		if !later.at.After(t) {
			m = later
		}
	}
	m.next, m.decisions = min(m.next, c.durable.next), min(m.decisions, c.durable.decisions)
	return m
}

// pass notes where the cursor is.
func (c *cursor) pass(now time.Time) {
	last := &c.past[len(c.past)-1]
	if last.next == c.durable.next || now.Sub(last.at) < milestoneEvery {
		return
	}
	if len(c.past) == maxMilestones {
		c.past = slices.Delete(c.past, 0, 1)
	}
	c.past = append(c.past, milestone{now, c.durable.next, c.durable.decisions})
}

// end is the record after all spans.
func (c *cursor) end() int64 {
	if n := len(c.spans); n > 0 {
		return c.spans[n-1].next
	}
	return c.durable.next
}

// begin adds the records that were fetched next; decisions is the end of
// risk.decisions at this time.
func (c *cursor) begin(next, decisions int64) span {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := span{from: c.end(), next: next, decisions: decisions, reopened: c.reopened}
	c.spans = append(c.spans, s)
	return s
}

// settle says that the front is done with a span: it is folded, or left to the folder.
func (c *cursor) settle(s span, deferred, answered bool, ordinal uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.spans, func(other span) bool { return other.from == s.from })
	if i < 0 {
		return // it was set back behind it: see restart
	}
	to := &c.spans[i]
	if to.state = folded; deferred || s.reopened != c.reopened {
		to.state = unfolded
	}
	to.answered, to.ordinal = answered, ordinal
	c.join()
}

// join joins neighbours that are alike.
func (c *cursor) join() {
	out := c.spans[:0]
	for _, s := range c.spans {
		if n := len(out); n > 0 && s.state != inFlight && out[n-1].state == s.state && out[n-1].answered == s.answered && (s.state == unfolded || n > 1) {
			out[n-1].next, out[n-1].ordinal = s.next, max(out[n-1].ordinal, s.ordinal)
			continue
		}
		out = append(out, s)
	}
	c.spans = out
}

// unfolded returns the first span that the folder is to read again. One behind a
// span that is in flight must wait for it: were it folded first, its partition would
// be as far as that one, and then be set back when the other is left to the folder
// as well, and partitions would wait for each other for ever.
func (c *cursor) unfolded() (s span, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.IndexFunc(c.spans, func(s span) bool { return s.state != folded }); i >= 0 && c.spans[i].state == unfolded {
		s = c.spans[i]
		s.reopened = c.reopened
		return s, true
	}
	return span{}, false
}

// unanswered returns the first span that the folder is to answer. It does not wait for
// what is to be folded before: that may be the work of minutes.
func (c *cursor) unanswered() (s span, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.spans, func(s span) bool { return s.state == unfolded && !s.answered })
	if i < 0 {
		return span{}, false
	}
	s = c.spans[i]
	s.reopened = c.reopened
	return s, true
}

// foldedTo says that the folder has folded the records of its span up to one.
func (c *cursor) foldedTo(s span, next int64, ordinal uint64) {
	c.advance(s, next, func(part *span) { part.state, part.ordinal = folded, ordinal })
}

// answeredTo says that the folder has answered the records of its span up to one.
func (c *cursor) answeredTo(s span, next int64) {
	c.advance(s, next, func(part *span) { part.answered = true })
}

// advance changes the first part of an unfolded span.
func (c *cursor) advance(s span, next int64, change func(*span)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.spans, func(other span) bool { return other.from <= s.from && s.from < other.next && other.state == unfolded })
	if i < 0 || s.reopened != c.reopened {
		return
	}
	if rest := c.spans[i]; next < rest.next {
		rest.from = next
		c.spans[i].next = next
		c.spans = slices.Insert(c.spans, i+1, rest)
	}
	change(&c.spans[i])
	c.join()
}

// reopen lets the folder read again from a record on that was folded before,
// because the store has lost something. decisions is where their decisions begin.
func (c *cursor) reopen(from, decisions int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reopened++
	for i := range c.spans {
		if c.spans[i].state == folded {
			c.spans[i].state, c.spans[i].answered = unfolded, true
		}
	}
	if from < c.durable.next {
		again := span{from: from, next: c.durable.next, state: unfolded, answered: true, decisions: min(decisions, c.durable.decisions)}
		c.spans = slices.Insert(c.spans, 0, again)
		c.durable = settlement{next: from, decisions: again.decisions}
		c.force = true
	}
	c.join()
}

// restart begins once more at an earlier record.
func (c *cursor) restart(next int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spans, c.durable.next, c.force, c.limit = c.spans[:0], next, true, -1
}

// holdAt lets nothing be committed beyond a record until the cursor is restarted.
func (c *cursor) holdAt(next int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.limit < 0 || next < c.limit {
		c.limit = next
	}
	c.force = true
}

// idle tells whether everything that was fetched is folded.
func (c *cursor) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !slices.ContainsFunc(c.spans, func(s span) bool { return s.state != folded })
}

// whole tells whether nothing is left to the folder.
func (c *cursor) whole() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !slices.ContainsFunc(c.spans, func(s span) bool { return s.state == unfolded })
}

// behind counts the records that are answered, or being answered, and not folded.
func (c *cursor) behind() (records int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if s.state == unfolded {
			records += s.next - s.from
		}
	}
	return records
}

// ready returns what may be committed now that the store is durable up to an
// ordinal; ok is false where that was committed already.
func (c *cursor) ready(durable uint64) (s settlement, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.spans) > 0 && c.spans[0].state == folded && c.spans[0].ordinal <= durable {
		c.durable.next, c.durable.ordinal = c.spans[0].next, c.spans[0].ordinal
		c.durable.decisions = c.spans[0].decisions
		c.spans = slices.Delete(c.spans, 0, 1)
	}
	if len(c.spans) > 0 {
		c.durable.decisions = c.spans[0].decisions
	}
	c.pass(time.Now())
	s = c.durable
	if c.limit >= 0 {
		s.next = min(s.next, c.limit)
	}
	return s, s.next != c.committed || c.force
}

// moved tells whether an offset was not committed yet.
func (c *cursor) moved(next int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return next != c.committed || c.force
}

func (c *cursor) committedTo(next int64) {
	c.mu.Lock()
	c.committed, c.force = next, false
	c.mu.Unlock()
}

// The metadata of a commit says up to where the journal has indexed the
// partition of risk.decisions, which journal that is, how long it was, which
// servers it stood on, where the oldest open hold stands, and where the cursor was a
// loss bound before.

func metadata(store, servers string, s settlement, holds int64, safe milestone) string {
	if servers == "" {
		servers = "?"
	}
	return fmt.Sprintf("4 %s %d %d %s %d %d %d", store, s.decisions, s.ordinal, servers, min(holds, s.decisions), safe.next, safe.decisions)
}

// commitNote is what the metadata of a commit says.
type commitNote struct {
	decisions int64     // where the index must be completed from
	ours      bool      // the commit was made with this journal as it is now, not with another one or before it was put back to an earlier state
	servers   string    // see window.Store.Incarnation; "" where that is not known
	holds     int64     // where open holds must be looked for from
	safe      milestone // where the cursor was a loss bound before, without a time
}

func readMetadata(meta, store string, written uint64) (n commitNote) {
	parts := strings.Fields(meta)
	if len(parts) != 8 || parts[0] != "4" || parts[1] != store {
		return n
	}
	decisions, err := strconv.ParseInt(parts[2], 10, 64)
	ordinal, err2 := strconv.ParseUint(parts[3], 10, 64)
	holds, err3 := strconv.ParseInt(parts[5], 10, 64)
	next, err4 := strconv.ParseInt(parts[6], 10, 64)
	safe, err5 := strconv.ParseInt(parts[7], 10, 64)
	if errors.Join(err, err2, err3, err4, err5) != nil || min(decisions, holds, next, safe) < 0 || ordinal > written {
		return n
	}
	return commitNote{decisions, true, parts[4], holds, milestone{next: next, decisions: safe}}
}

// storeName tells one journal from another without giving its key away.
func storeName(key window.Key) string {
	h := key.Tx("store")
	return strconv.FormatUint(h.Hi, 36)
}
