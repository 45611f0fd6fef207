package ledger

import (
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
	"github.com/sluice-risk/sluice/pipeline/window/table"
)

// Holds knows which transactions may get another revision, and makes it: of a
// hold that a review, a step-up or its expiry settles, and of a default that the
// real verdict corrects.
//
// It is a fold over risk.decisions and nothing else. Saw and Published are the only
// ways in: Review, StepUp, Expire and Correct look at the state and change nothing, so a
// revision that was made and never published leaves no trace, and whoever has
// read the topic makes the same one. What is published is told before anybody
// asks again; the caller's lock sees to that.
//
//	revision 1: hold ──release, step_up_passed──▶ hold, with what is left of its needs
//	                 ──the last need is met─────▶ approve, final
//	                 ──reject, step_up_failed───▶ block, final
//	                 ──expires_at───────────────▶ on_expiry, final
//	revision 1: default ──the real verdict differs──▶ the real verdict, corrects: default_deadline
//
// A default that somebody has settled is not corrected any more: what a person
// decided later stands, and so does what the caller was told is final.
//
// All methods may be called from many goroutines.
type Holds struct {
	key   window.Key
	first func(window.TxHash) (window.Mark, bool)
	warn  float64 // share of a hold's time after which it should have been worked
	soon  chan struct{}

	mu    sync.Mutex
	open  map[window.TxHash]*hold
	parts map[int32]*queues
	// What is known of those that are not on hold: defaults that the real verdict
	// may correct, and those that have ended lately.
	defaults, ended lately
}

// HoldsOptions are what a Holds needs. All may be left out.
type HoldsOptions struct {
	// First tells where the first decision of a transaction stands, as
	// Index.Find does. Stored bytes that were published again stand elsewhere, and
	// open no hold; without First the caller must not pass them to Saw.
	First func(window.TxHash) (window.Mark, bool)
	// WarnAfter is the share of a hold's time, 0 to 1, after which it counts as
	// unworked if no reviewer has claimed it. 0: never.
	WarnAfter float64
}

// NewHolds returns Holds that have seen nothing. key is that of the store.
func NewHolds(key window.Key, o HoldsOptions) *Holds {
	return &Holds{key: key, first: o.First, warn: o.WarnAfter, soon: make(chan struct{}, 1),
		open: map[window.TxHash]*hold{}, parts: map[int32]*queues{},
		defaults: newLately(1 << 20), ended: newLately(1 << 18)}
}

// ErrUnseen says that no revision of a transaction is known: read its decision
// again, pass it to Saw, and ask again.
var ErrUnseen = errors.New("no revision of the transaction is known")

// chain is what the revisions of one transaction add up to.
type chain struct {
	offset    int64 // where the latest revision stands
	partition int32
	revision  int32     // the latest
	used      [3]uint64 // the reviews and outcomes that made revisions, as Holds.identity has them
	verdict   payment.Verdict
	default1  defaultKind // what revision 1 was, until it is corrected
	passed    Needs       // met
	held      bool        // it was on hold once
	settled   bool        // finally, by a review, a step-up or its expiry
}

// defaultKind is a source that is no real verdict. Zero is every other source.
type defaultKind uint8

var defaultSources = [...]payment.Source{"", payment.SourceDefaultDeadline, payment.SourceDefaultError, payment.SourceInvalid}

func defaultKindOf[T ~string | ~[]byte](source T) defaultKind {
	for k := range defaultSources {
		if k > 0 && string(defaultSources[k]) == string(source) {
			return defaultKind(k)
		}
	}
	return 0
}

// hold is a chain whose latest revision is a hold.
type hold struct {
	chain
	text      []byte       // the latest revision, without what the next one does not repeat
	since     payment.Time // when it was first held
	expires   payment.Time
	first     int64  // where its first revision stands, or the first that was seen
	claimant  string // the reviewer who has claimed it, "" for none
	needs     Needs
	escalated bool
	at        [heapKinds]int32 // its places in the heaps of its queue, from 1; 0: in none
}

// Published takes in a revision that this process has just published, and nobody
// before: it is Saw without asking whether it is a repeat.
func (h *Holds) Published(partition int32, offset int64, value []byte) error {
	return h.take(partition, offset, value, false)
}

// Saw takes in a revision of any transaction, as it was read from the topic.
// Revisions may come again, and older ones after newer ones; they change nothing.
// Most, which are real verdicts and no holds, cost a glance. An error says that
// the bytes are no decision.
//
// Call it before the decision is told to the Index: who finds a hold there asks here.
func (h *Holds) Saw(partition int32, offset int64, value []byte) error {
	return h.take(partition, offset, value, h.first != nil)
}

func (h *Holds) take(partition int32, offset int64, value []byte, mayRepeat bool) error {
	id, head, ok := glance(value)
	if ok && head.revision == 1 && head.verdict != payment.Hold && id != nil {
		if head.default1 == 0 {
			return nil
		}
		if tx := h.key.Tx(string(id)); !mayRepeat || !h.repeats(tx, partition, offset) {
			h.sawDefault(tx, chain{offset: offset, partition: partition, revision: 1, verdict: head.verdict, default1: head.default1})
		}
		return nil
	}
	err := glimpse(value, func(d *payment.Decision) {
		if d.Revision == 1 && d.Verdict != payment.Hold && defaultKindOf(d.Source) == 0 {
			return
		}
		tx := h.key.Tx(d.TransactionID)
		if d.Revision > 1 || !mayRepeat || !h.repeats(tx, partition, offset) {
			h.saw(tx, chain{offset: offset, partition: partition}, value, d)
		}
	})
	if err != nil {
		return fmt.Errorf("decision at %d/%d: %w", partition, offset, err)
	}
	return nil
}

// sawDefault takes in a revision 1 that is a default, and no hold.
func (h *Holds) sawDefault(tx window.TxHash, c chain) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.find(tx) == nil {
		h.defaults.put(tx, c)
	}
}

// saw takes in a revision that is a hold, a default, or a later one; at is where
// it stands.
func (h *Holds) saw(tx window.TxHash, at chain, value []byte, d *payment.Decision) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := at
	if known := h.find(tx); known != nil {
		if int32(d.Revision) <= known.revision {
			known.learn(h, d)
			h.sawAgain(tx, at.partition, at.offset)
			return
		}
		c = *known
		c.offset, c.partition = at.offset, at.partition
	}
	c.follow(h, d)
	o := h.open[tx]
	if d.Verdict != payment.Hold {
		if o != nil {
			h.close(tx, o)
		}
		h.put(tx, c)
		return
	}
	h.hold(tx, o, c, value, d)
}

// follow moves a chain on to a revision.
func (c *chain) follow(h *Holds, d *payment.Decision) {
	c.revision, c.verdict, c.settled = int32(d.Revision), d.Verdict, false
	if d.Revision == 1 {
		c.default1 = defaultKindOf(d.Source)
	}
	if d.Corrects != "" {
		c.default1 = 0
	}
	c.learn(h, d)
	switch d.Source {
	case payment.SourceReview, payment.SourceStepUp, payment.SourceExpiry:
		c.settled = d.Final
	}
}

// learn takes from a revision, be it the latest or an earlier one that is read
// later, what no revision takes back.
func (c *chain) learn(h *Holds, d *payment.Decision) {
	c.held = c.held || d.Verdict == payment.Hold
	switch d.Source {
	case payment.SourceReview:
		c.passed |= Review
		c.use(h.identity(d.SettledBy.ReviewID))
	case payment.SourceStepUp:
		c.passed |= StepUp
		c.use(h.identity(d.SettledBy.OutcomeID))
	case payment.SourceExpiry:
	default:
		return
	}
	c.held = true
}

// use remembers what made a revision.
func (c *chain) use(identity uint64) {
	for i := range c.used {
		if c.used[i] == 0 || c.used[i] == identity {
			c.used[i] = identity
			return
		}
	}
	c.used[len(c.used)-1] = identity
}

func (c *chain) hasUsed(identity uint64) bool {
	for _, u := range c.used {
		if u == identity {
			return true
		}
	}
	return false
}

// identity is how a chain remembers a review or an outcome; never 0.
func (h *Holds) identity(id string) uint64 { return h.key.Tx(id).Lo | 1 }

// find returns what is known of a transaction, until the next change.
func (h *Holds) find(tx window.TxHash) *chain {
	if o := h.open[tx]; o != nil {
		return &o.chain
	}
	if c := h.defaults.find(tx); c != nil {
		return c
	}
	return h.ended.find(tx)
}

// repeats tells whether a revision 1 of which nothing is known is no first one:
// stored bytes that were published again, long after its chain had ended. It may
// ask the store, so it holds no lock meanwhile.
func (h *Holds) repeats(tx window.TxHash, partition int32, offset int64) bool {
	h.mu.Lock()
	known := h.find(tx) != nil
	h.mu.Unlock()
	if known {
		return false
	}
	m, decided := h.first(tx)
	return decided && m.Offset >= 0 && (m.Partition != partition || m.Offset != offset)
}

// sawAgain: an older revision of a hold tells from where on the topic must be read.
func (h *Holds) sawAgain(tx window.TxHash, partition int32, offset int64) {
	o := h.open[tx]
	if o == nil || o.partition != partition || offset >= o.first {
		return
	}
	q := h.queue(o)
	q.remove(o)
	o.first = offset
	q.add(o, h.warn)
}

// put remembers a chain that is not on hold.
func (h *Holds) put(tx window.TxHash, c chain) {
	if c.default1 != 0 {
		h.defaults.put(tx, c)
		return
	}
	h.defaults.remove(tx)
	h.ended.put(tx, c)
}

// close takes a hold out of its queue.
func (h *Holds) close(tx window.TxHash, o *hold) {
	h.queue(o).remove(o)
	delete(h.open, tx)
}

// hold opens a hold, or moves an open one on.
func (h *Holds) hold(tx window.TxHash, o *hold, c chain, value []byte, d *payment.Decision) {
	if o == nil {
		o = &hold{since: d.DecidedAt, first: c.offset}
		h.open[tx] = o
		h.defaults.remove(tx)
		h.ended.remove(tx)
	} else {
		h.queue(o).remove(o)
		if o.partition != c.partition {
			o.first = c.offset
		}
	}
	o.chain, o.text, o.needs, o.expires = c, essential(value), NeedsOf(d.Hold.Needs), d.Hold.ExpiresAt
	if o.needs == 0 {
		o.needs = Review // whatever it waits for, a person can see to it
	}
	if o.expires == 0 {
		o.expires = math.MaxInt64
	}
	q := h.queue(o)
	q.add(o, h.warn)
	if q.heaps[byExpiry].all[0] == o {
		select {
		case h.soon <- struct{}{}:
		default:
		}
	}
}

// queue is where an open hold stands.
func (h *Holds) queue(o *hold) *queue {
	p := h.parts[o.partition]
	if p == nil {
		p = newQueues()
		h.parts[o.partition] = p
	}
	return &p[o.needs&allNeeds]
}

// lately remembers chains, the latest ones at the least: when fresh has size of
// them it takes the place of older, whose chains are forgotten.
type lately struct {
	size         int
	fresh, older *table.Table[window.TxHash, chain]
}

func newLately(size int) lately {
	return lately{size: size, fresh: new(table.Table[window.TxHash, chain]), older: new(table.Table[window.TxHash, chain])}
}

func (l *lately) find(tx window.TxHash) *chain {
	if c := l.fresh.Find(tx.Lo, tx); c != nil {
		return c
	}
	return l.older.Find(tx.Lo, tx)
}

func (l *lately) put(tx window.TxHash, c chain) {
	if l.fresh.Len() >= l.size {
		l.fresh, l.older = new(table.Table[window.TxHash, chain]), l.fresh
	}
	to, _ := l.fresh.Add(tx.Lo, tx)
	*to = c
}

func (l *lately) remove(tx window.TxHash) {
	l.fresh.Delete(tx.Lo, tx)
	l.older.Delete(tx.Lo, tx)
}
