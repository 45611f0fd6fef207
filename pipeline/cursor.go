package pipeline

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/sluice-risk/sluice/pipeline/window"
)

// cursor is how far a lane is. A record is *answered* when its decision (or dead
// letter) is acknowledged, and *folded* when its entries are durable in the
// journal. What is committed is the lower of the two; the journal is synced in
// the background, so nothing waits for a disk.
type cursor struct {
	mu        sync.Mutex
	waiting   []settlement // answered, not yet known to be durable; oldest first
	durable   settlement   // the last one that is both
	committed int64        // what was committed last
}

// settlement is a point between two micro-batches.
type settlement struct {
	next      int64  // the first record after it
	decisions int64  // the offset in risk.decisions below which the journal has every decision
	ordinal   uint64 // of the store, when the batch was noted
}

func newCursor(next, decisions int64) *cursor {
	return &cursor{durable: settlement{next: next, decisions: decisions}, committed: next}
}

// settled moves the answered cursor; decisions is -1 where none was published.
func (c *cursor) settled(next, decisions int64, ordinal uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if decisions < 0 {
		decisions = c.last().decisions
	}
	c.waiting = append(c.waiting, settlement{next, decisions, ordinal})
}

func (c *cursor) last() settlement {
	if n := len(c.waiting); n > 0 {
		return c.waiting[n-1]
	}
	return c.durable
}

// ready returns what may be committed now that the store is durable up to an
// ordinal; ok is false where that was committed already.
func (c *cursor) ready(durable uint64) (s settlement, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.waiting) > 0 && c.waiting[0].ordinal <= durable {
		c.durable = c.waiting[0]
		c.waiting = c.waiting[1:]
	}
	return c.durable, c.durable.next != c.committed
}

func (c *cursor) committedTo(next int64) {
	c.mu.Lock()
	c.committed = next
	c.mu.Unlock()
}

// The metadata of a commit says up to where the journal has indexed the
// partition of risk.decisions, which journal that is, and how long it was.

func metadata(store string, s settlement) string {
	return fmt.Sprintf("1 %s %d %d", store, s.decisions, s.ordinal)
}

// decisionsFrom is where the index must be completed from. It is 0, and ours is
// false, when the commit was not made with this journal as it is now: with
// another one, with none, or before it was put back to an earlier state.
func decisionsFrom(meta, store string, written uint64) (from int64, ours bool) {
	parts := strings.Fields(meta)
	if len(parts) != 4 || parts[0] != "1" || parts[1] != store {
		return 0, false
	}
	decisions, err := strconv.ParseInt(parts[2], 10, 64)
	ordinal, err2 := strconv.ParseUint(parts[3], 10, 64)
	if err != nil || err2 != nil || decisions < 0 || ordinal > written {
		return 0, false
	}
	return decisions, true
}

// storeName tells one journal from another without giving its key away.
func storeName(key window.Key) string {
	h := key.Tx("store")
	return strconv.FormatUint(h.Hi, 36)
}
