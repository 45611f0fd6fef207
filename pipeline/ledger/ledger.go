// Package ledger knows which transactions have been decided, and with which
// bytes. The truth is the topic risk.decisions; an Index is what one process
// keeps of it, rebuilt from its own journal and the end of the topic.
package ledger

import (
	"fmt"
	"math"
	"sync"

	"github.com/dchest/siphash"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
	"github.com/sluice-risk/sluice/pipeline/window/table"
)

// Index finds decisions by transaction. It is shared by all lanes of a process:
// a transaction that two lanes meet at once is decided by the one that claims
// it, and the other waits.
type Index struct {
	earlier func(window.TxHash) (window.Mark, bool) // knows what the index has forgotten

	mu sync.Mutex
	// The latest marks, and those before them. When marks has atHand of them, it
	// takes the place of older, whose marks are then asked of earlier.
	marks, older *table.Table[window.TxHash, mark]
	claims       map[window.TxHash]*Claims
	recent       recent
	touched      uint64       // what LookAhead has read, so that it is not optimised away
	since        payment.Time // see Complete
	newest       payment.Time // event time among marks, and among older
	newestOlder  payment.Time
	atHand       int
}

// mark is a window.Mark without its hash, which is the key.
type mark struct {
	fingerprint uint64
	offset      int64
	bytes       place // of the decision, in Index.recent
	partition   int32
	verdict     payment.Verdict
	latest      payment.Verdict // of the latest revision
	invalid     bool
	isDefault   bool
	revised     bool // there is a later revision
}

// marksAtHand is how many marks are kept at hand at the least, if nobody says else.
const marksAtHand = 1 << 18

// New returns an empty index that keeps the bytes of the latest decisions, up
// to a ceiling in bytes; older ones are read again from the topic. It keeps the
// latest marks; earlier returns those that it has forgotten.
func New(ceiling int, earlier func(window.TxHash) (window.Mark, bool)) *Index {
	return &Index{earlier: earlier, marks: new(table.Table[window.TxHash, mark]), older: new(table.Table[window.TxHash, mark]),
		claims: map[window.TxHash]*Claims{}, recent: recent{ceiling: ceiling}, since: math.MaxInt64, atHand: marksAtHand}
}

// KeepAtHand sets how many marks are kept at hand at the least, from now on.
func (x *Index) KeepAtHand(marks int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.atHand = max(1, marks)
}

// find returns a mark that is at hand.
func (x *Index) find(h window.TxHash) *mark {
	if k := x.marks.Find(h.Lo, h); k != nil {
		return k
	}
	return x.older.Find(h.Lo, h)
}

// LookAhead reads where some transactions will be looked up, so that Claim and
// Settle find those places in the processor's cache.
func (x *Index) LookAhead(marks []window.Mark) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.lookAhead(marks)
}

func (x *Index) lookAhead(marks []window.Mark) {
	for i := range marks {
		if at := x.marks.Peek(marks[i].Tx.Lo); at != nil {
			x.touched += at.fingerprint
		}
	}
}

// Claims are the transactions that one batch of one lane is deciding.
type Claims struct {
	done    chan struct{} // closed when they are settled or given up
	hashes  []window.TxHash
	blocked []window.TxHash // of hashes, those that Blocks has told
}

// NewClaims returns an empty set of claims.
func NewClaims() *Claims { return &Claims{done: make(chan struct{})} }

// Done is closed when the claims are settled or given up.
func (c *Claims) Done() <-chan struct{} { return c.done }

// Len is the number of transactions that are claimed.
func (c *Claims) Len() int { return len(c.hashes) }

// Claim looks a transaction up for a batch. Either it was decided (found), or
// somebody is deciding it (by: these claims, which may be the caller's own), or
// it belongs to the caller from now on.
func (x *Index) Claim(h window.TxHash, c *Claims) (m window.Mark, found bool, by *Claims) {
	if m, found = x.Find(h); found {
		return m, true, nil
	}
	return x.ClaimAtHand(h, c)
}

// ClaimAtHand is Claim by what is in memory alone: it waits for nobody, and does
// not know what was forgotten (see Complete).
func (x *Index) ClaimAtHand(h window.TxHash, c *Claims) (m window.Mark, found bool, by *Claims) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if k := x.find(h); k != nil { // meanwhile
		return k.mark(h), true, nil
	}
	if by = x.claims[h]; by == nil {
		x.claims[h] = c
		c.hashes = append(c.hashes, h)
	}
	return window.Mark{}, false, by
}

// Unclaim gives one transaction of some claims back before it was decided. Who
// waits for it looks again when the rest is settled.
func (x *Index) Unclaim(h window.TxHash, c *Claims) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.claims[h] == c {
		delete(x.claims, h)
	}
}

// Began says that from an event time on the index is told of every decision:
// its lanes, and those who follow other members, begin there.
func (x *Index) Began(since payment.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.since = since
}

// Complete tells whether a transaction with an event time would be at hand if it
// had been decided. Of older ones the store knows more; without Began, of all.
func (x *Index) Complete(eventTime payment.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return eventTime > x.since
}

func (k *mark) mark(h window.TxHash) window.Mark {
	return window.Mark{Tx: h, Fingerprint: k.fingerprint, Verdict: k.verdict, Invalid: k.invalid, Partition: k.partition, Offset: k.offset,
		Default: k.isDefault, Revised: k.revised, Latest: k.latest}
}

// AtHand is Find by what is in memory alone.
func (x *Index) AtHand(h window.TxHash) (m window.Mark, found bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if k := x.find(h); k != nil {
		return k.mark(h), true
	}
	return m, false
}

// Find returns what is known of the decision of a transaction.
func (x *Index) Find(h window.TxHash) (m window.Mark, found bool) {
	x.mu.Lock()
	k := x.find(h)
	if k != nil {
		m, found = k.mark(h), true
	}
	x.mu.Unlock()
	if !found {
		m, found = x.earlier(h)
	}
	return m, found
}

// Known reports whether a transaction was decided.
func (x *Index) Known(h window.TxHash) bool {
	_, found := x.Find(h)
	return found
}

// Len is the number of decided transactions that are at hand.
func (x *Index) Len() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.marks.Len() + x.older.Len()
}

// Add indexes a decision that stands in the topic, and keeps its bytes if they
// are given. The first decision of a transaction is the one that counts.
func (x *Index) Add(m window.Mark, decision []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.add(&m, decision)
}

func (x *Index) add(m *window.Mark, decision []byte) {
	if m.Offset < 0 {
		return
	}
	k := x.find(m.Tx)
	if k == nil {
		if x.marks.Len() >= x.atHand {
			x.since = max(x.since, x.newestOlder) // what older held is forgotten
			x.marks, x.older = new(table.Table[window.TxHash, mark]), x.marks
			x.newest, x.newestOlder = 0, x.newest
		}
		k, _ = x.marks.Add(m.Tx.Lo, m.Tx)
		*k = mark{fingerprint: m.Fingerprint, offset: m.Offset, partition: m.Partition, verdict: m.Verdict, latest: m.Verdict, invalid: m.Invalid,
			isDefault: m.Default, revised: m.Revised}
		x.newest = max(x.newest, m.EventTime)
	}
	if m.Default && !k.revised && k.partition == m.Partition && k.offset == m.Offset {
		k.isDefault = true // the store knows its place, and not that
	}
	if len(decision) > 0 && !x.recent.holds(k.bytes) {
		k.bytes = x.recent.put(decision)
	}
}

// Revise notes that a later revision of a transaction stands in the topic. It
// returns false for one that is not at hand.
func (x *Index) Revise(h window.TxHash, verdict payment.Verdict) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	k := x.find(h)
	if k != nil {
		k.revised, k.latest = true, verdict
	}
	return k != nil
}

// Settle ends claims: their decisions are published, as the marks say, with
// these bytes. Those who wait for them look again.
func (x *Index) Settle(c *Claims, marks []window.Mark, decision func(i int) []byte) {
	x.mu.Lock()
	x.lookAhead(marks)
	for i := range marks {
		x.add(&marks[i], decision(i))
	}
	x.mu.Unlock()
	x.giveUp(c)
}

// Clear ends all claims that were not settled. It is called when no lane works,
// and what became of their decisions is read from the topic before one does.
func (x *Index) Clear() {
	x.mu.Lock()
	left := map[*Claims]bool{}
	for _, c := range x.claims {
		left[c] = true
	}
	x.mu.Unlock()
	for c := range left {
		x.giveUp(c)
	}
}

func (x *Index) giveUp(c *Claims) {
	x.mu.Lock()
	for _, h := range c.hashes {
		if x.claims[h] == c { // one that was given back may be another's by now
			delete(x.claims, h)
		}
	}
	c.hashes = c.hashes[:0]
	x.mu.Unlock()
	close(c.done)
}

// Recent returns a copy of the bytes of a decision if they are still at hand.
func (x *Index) Recent(h window.TxHash) ([]byte, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	k := x.find(h)
	if k == nil || !x.recent.holds(k.bytes) {
		return nil, false
	}
	return append([]byte(nil), x.recent.at(k.bytes)...), true
}

// Fingerprint is the keyed hash of what must not differ under one id: type,
// amount, payer, payee and instrument.
func Fingerprint(key window.Key, s *payment.Summary) uint64 {
	var buf [640]byte
	b := buf[:0]
	for _, part := range [...]string{s.Type, s.Payer, s.Payee, s.Instrument, s.Amount.Currency.String()} {
		b = append(b, byte(len(part)), byte(len(part)>>8))
		b = append(b, part...)
	}
	for shift := 0; shift < 64; shift += 8 {
		b = append(b, byte(s.Amount.Value>>shift))
	}
	hi, lo := key.Halves()
	return siphash.Hash(hi, lo, b)
}

// MarkOf reads from a record of risk.decisions what the index keeps of it, and
// its revision: that of a later one says only Tx and Latest.
func MarkOf(key window.Key, partition int32, offset int64, value []byte) (m window.Mark, revision int, err error) {
	err = glimpse(value, func(d *payment.Decision) {
		m = window.Mark{Tx: key.Tx(d.TransactionID), Latest: d.Verdict, Partition: partition, Offset: offset, EventTime: d.EventTime}
		if revision = d.Revision; revision == 1 {
			m.Fingerprint, m.Verdict = Fingerprint(key, &d.Transaction), d.Verdict
			m.Invalid, m.Default = d.Source == payment.SourceInvalid, d.Source == payment.SourceDefaultDeadline
		}
	})
	if err != nil {
		return m, 0, fmt.Errorf("decision at %d/%d: %w", partition, offset, err)
	}
	return m, revision, nil
}

// glimpse reads a decision, without what it rests on, for a moment: f must keep
// nothing of it.
func glimpse(value []byte, f func(d *payment.Decision)) error {
	var reader payment.DecisionReader
	var d payment.Decision
	if err := reader.Read(value, &d); err != nil {
		return err
	}
	f(&d)
	return nil
}
