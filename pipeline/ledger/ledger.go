// Package ledger knows which transactions have been decided, and with which
// bytes. The truth is the topic risk.decisions; an Index is what one process
// keeps of it, rebuilt from its own journal and the end of the topic.
package ledger

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/dchest/siphash"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// Index finds decisions by transaction. It is shared by all lanes of a process:
// a transaction that two lanes meet at once is decided by the one that claims
// it, and the other waits.
type Index struct {
	mu      sync.Mutex
	marks   map[window.TxHash]mark
	claims  map[window.TxHash]*Claims
	recent  map[window.TxHash][]byte // bytes of the latest decisions
	order   []window.TxHash          // of recent, oldest first, from head
	head    int
	bytes   int
	ceiling int // bytes that recent may hold
}

// mark is a window.Mark without its hash, which is the key.
type mark struct {
	fingerprint uint64
	offset      int64
	partition   int32
	verdict     payment.Verdict
	invalid     bool
}

// New returns an empty index that keeps the bytes of the latest decisions, up
// to a ceiling in bytes; older ones are read again from the topic.
func New(ceiling int) *Index {
	return &Index{
		marks: map[window.TxHash]mark{}, claims: map[window.TxHash]*Claims{}, recent: map[window.TxHash][]byte{}, ceiling: ceiling,
	}
}

// Claims are the transactions that one batch of one lane is deciding.
type Claims struct {
	done   chan struct{} // closed when they are settled or given up
	hashes []window.TxHash
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
	x.mu.Lock()
	defer x.mu.Unlock()
	if k, ok := x.marks[h]; ok {
		return k.mark(h), true, nil
	}
	if by = x.claims[h]; by == nil {
		x.claims[h] = c
		c.hashes = append(c.hashes, h)
	}
	return window.Mark{}, false, by
}

func (k mark) mark(h window.TxHash) window.Mark {
	return window.Mark{Tx: h, Fingerprint: k.fingerprint, Verdict: k.verdict, Invalid: k.invalid, Partition: k.partition, Offset: k.offset}
}

// Known reports whether a transaction was decided.
func (x *Index) Known(h window.TxHash) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, ok := x.marks[h]
	return ok
}

// Len is the number of decided transactions.
func (x *Index) Len() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.marks)
}

// Add indexes a decision that stands in the topic, and keeps its bytes if they
// are given. The first decision of a transaction is the one that counts.
func (x *Index) Add(m window.Mark, decision []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.add(m)
	if decision != nil {
		x.remember(m.Tx, decision)
	}
}

func (x *Index) add(m window.Mark) {
	if _, ok := x.marks[m.Tx]; !ok && m.Offset >= 0 {
		x.marks[m.Tx] = mark{m.Fingerprint, m.Offset, m.Partition, m.Verdict, m.Invalid}
	}
}

// Settle ends claims: their decisions are published, as the marks say, with
// these bytes. Those who wait for them look again.
func (x *Index) Settle(c *Claims, marks []window.Mark, decision func(i int) []byte) {
	x.mu.Lock()
	for i := range marks {
		x.add(marks[i])
		x.remember(marks[i].Tx, decision(i))
	}
	x.mu.Unlock()
	x.GiveUp(c)
}

// GiveUp ends claims that were not settled; what became of their decisions is
// read from the topic before anybody decides again.
func (x *Index) GiveUp(c *Claims) {
	x.mu.Lock()
	for _, h := range c.hashes {
		delete(x.claims, h)
	}
	c.hashes = c.hashes[:0]
	x.mu.Unlock()
	close(c.done)
}

func (x *Index) remember(h window.TxHash, decision []byte) {
	if _, ok := x.recent[h]; ok || len(decision) > x.ceiling {
		return
	}
	x.recent[h] = append([]byte(nil), decision...)
	x.order = append(x.order, h)
	x.bytes += len(decision)
	for x.bytes > x.ceiling {
		old := x.order[x.head]
		x.head++
		x.bytes -= len(x.recent[old])
		delete(x.recent, old)
	}
	if x.head > 4096 && x.head > len(x.order)/2 {
		x.order = append(x.order[:0], x.order[x.head:]...)
		x.head = 0
	}
}

// Recent returns the bytes of a decision if they are still at hand.
func (x *Index) Recent(h window.TxHash) ([]byte, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	b, ok := x.recent[h]
	return b, ok
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

// MarkOf reads from a record of risk.decisions what the index keeps of it; ok is
// false for a later revision, which is not the verdict.
func MarkOf(key window.Key, partition int32, offset int64, value []byte) (m window.Mark, ok bool, err error) {
	var d payment.Decision
	if err := json.Unmarshal(value, &d); err != nil {
		return m, false, fmt.Errorf("decision at %d/%d: %w", partition, offset, err)
	}
	if d.Revision != 1 {
		return m, false, nil
	}
	return window.Mark{
		Tx: key.Tx(d.TransactionID), Fingerprint: Fingerprint(key, &d.Transaction), Verdict: d.Verdict,
		Invalid: d.Source == payment.SourceInvalid, Partition: partition, Offset: offset,
	}, true, nil
}
