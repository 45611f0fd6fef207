package pipeline

import (
	"context"
	"fmt"

	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// Batch is a micro-batch of one lane: what became of each record, in order. Its
// memory is reused; its strings point into the records that it was made from,
// which must live as long.
type Batch struct {
	decoder payment.Decoder // its own: what it decoded lives until the batch is published
	claims  *ledger.Claims
	answers []answer
	fresh   []*window.Item // to be counted now, in order
	of      []*answer      // the answer of each item of fresh
	marks   []window.Mark
	marked  []*answer // the answer of each mark
	invalid []*answer // those that are blocked because they cannot be used
	// Scratch of Engine.first.
	hashes    []window.TxHash
	decisions [][]byte
	out       []byte // the decisions, back to back
}

// answer is one record on its way through the steps.
type answer struct {
	item      window.Item
	tx        payment.Transaction
	key       []byte // of the record
	kafkaTime payment.Time
	decideBy  payment.Time
	summary   payment.Summary
	refusal   *payment.Refusal // to be dead-lettered
	mark      window.Mark      // for the ledger, or of the earlier decision
	decide    bool             // decided now, for the first time
	repeat    bool             // decided before: the stored bytes go out again
	repeatOf  int              // the answer in this batch that it repeats, -1 for none
	from, to  int              // the decision in Batch.out; equal: none
}

func (b *Batch) reset(n int, limits payment.Limits) {
	b.decoder.Limits, b.decoder.Batch = limits, true
	b.decoder.Release()
	if cap(b.answers) < n {
		b.answers = make([]answer, 0, n) // never grows while items point into it
	}
	b.claims, b.answers, b.fresh, b.out = ledger.NewClaims(), b.answers[:0], b.fresh[:0], b.out[:0]
	b.of, b.marks, b.invalid = b.of[:0], b.marks[:0], b.invalid[:0]
}

func (b *Batch) add(key []byte) *answer {
	b.answers = b.answers[:len(b.answers)+1]
	a := &b.answers[len(b.answers)-1]
	*a = answer{tx: a.tx, item: window.Item{Values: a.item.Values, Positions: a.item.Positions, Approximate: a.item.Approximate}, key: key, repeatOf: -1}
	return a
}

// index returns the answer that claimed a transaction.
func (b *Batch) index(h window.TxHash) int {
	for i := range b.answers {
		if b.answers[i].decide && b.answers[i].mark.Tx == h {
			return i
		}
	}
	return -1
}

// write encodes the decision of an answer.
func (b *Batch) write(a *answer, d *payment.Decision) {
	a.mark.Verdict, a.decideBy = d.Verdict, d.DecideBy
	a.from = len(b.out)
	b.out = d.Append(b.out)
	a.to = len(b.out)
}

func (b *Batch) decision(a *answer) []byte { return b.out[a.from:a.to] }

// Verdict is the verdict of record i, zero where it has none.
func (b *Batch) Verdict(i int) payment.Verdict { return b.answers[i].mark.Verdict }

// Settle notes the decisions of a batch once they are published and their marks
// say where: first in the journal, then in the ledger, where their claims end.
// On an error the claims stand.
func (g *Gate) Settle(ctx context.Context, b *Batch) error {
	b.marks, b.marked = b.marks[:0], b.marked[:0]
	for i := range b.answers {
		if a := &b.answers[i]; a.decide {
			b.marks, b.marked = append(b.marks, a.mark), append(b.marked, a)
		}
	}
	if err := g.Store.Decided(ctx, b.marks); err != nil {
		return fmt.Errorf("note decisions in the journal: %w", err)
	}
	g.Ledger.Settle(b.claims, b.marks, func(i int) []byte { return b.decision(b.marked[i]) })
	return nil
}
