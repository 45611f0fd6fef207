package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// Batch is a micro-batch of one lane: what became of each record, in order. Its
// memory is reused; its strings point into the records that it was made from,
// which must live as long.
type Batch struct {
	decoder payment.Decoder // its own: what it decoded lives until the batch is published
	claims  *ledger.Claims  // of the part that is being decided
	answers []answer
	begin   int            // the part that is being decided begins here
	fresh   []*window.Item // of the part: to be counted now, in order
	of      []*answer      // the answer of each item of fresh
	marks   []window.Mark
	marked  []*answer      // the answer of each mark
	view    []*window.Item // scratch of the folder
	invalid []*answer      // of the part: those that are answered without windows
	// Scratch of Engine.first.
	hashes    []window.TxHash
	decisions [][]byte
	asked     []*answer
	out       []byte // the decisions, back to back

	// What the part leaves to the lane's folder (see folder.go).
	deferred   bool // some payment is not in the windows yet, or has no real verdict
	unanswered bool // some payment has no decision yet
	unagreed   bool // the store was not asked, or did not say, whether a decision is the first
}

// answer is one record on its way through the steps.
type answer struct {
	item      window.Item
	tx        payment.Transaction
	key       []byte // of the record
	offset    int64  // of the record
	heard     bool   // what is said of it again stands on the topic already, as the answer of this record: see answered.go
	kafkaTime payment.Time
	deadline  payment.Time // when its decision must be out
	summary   payment.Summary
	hash      window.TxHash    // of its id, if usable
	usable    bool             // it was decoded without a refusal
	refusal   *payment.Refusal // to be dead-lettered
	again     bool             // an operator has sent it once more, after it could not be used
	mark      window.Mark      // for the ledger, or of the earlier decision
	decide    bool             // decided now, for the first time
	agreed    bool             // the shared store has it as the first decision
	repeat    bool             // decided before: the stored bytes go out again
	repeatOf  int              // the answer in this batch that it repeats, -1 for none
	corrects  payment.Source   // a later revision is decided now: of a decision with this source
	source    payment.Source   // of bytes
	decidedAt payment.Time     // of bytes
	bytes     []byte           // the decision, in Batch.out; none: it has no answer
	revision  []byte           // the later one that corrects, in Batch.out

	state   atomic.Uint32 // who answers it: see deadline.go
	told    []byte        // what the watch has published
	toldAt  window.Mark   // and where
	toldNew bool          // for the first time
	toldWhy cause         // if that is a default
	why     cause         // if bytes are a default
	late    bool          // a default that the front gives for its verdict, which came too late
}

// The states of an answer that is decided for the first time. Who moves it on
// from open or judged alone may publish it; the lane's front and its watch do so
// by compare-and-swap.
const (
	open        uint32 = iota // nobody has looked it up yet, or it is a repeat
	deciding                  // the front has claimed it, and it has no verdict yet
	judged                    // its bytes are there, and will not change
	taken                     // the front publishes its bytes
	forestalled               // the watch publishes a default, or what had been decided before
	hastened                  // the watch publishes its bytes: time was up before the front could
)

func (a *answer) move(from, to uint32) bool { return a.state.CompareAndSwap(from, to) }

// wasTold tells whether the watch has answered it.
func (a *answer) wasTold() bool { s := a.state.Load(); return s == forestalled || s == hastened }

func (b *Batch) reset(n int, limits payment.Limits) {
	b.decoder.Limits, b.decoder.Batch = limits, true
	b.decoder.Release()
	if cap(b.answers) < n {
		b.answers = make([]answer, 0, n) // never grows while items point into it
	}
	b.answers, b.out, b.begin = b.answers[:0], b.out[:0], 0
	b.deferred, b.unanswered, b.unagreed = false, false, false
}

// part makes the batch ready to decide the answers from one on.
func (b *Batch) part(from int) {
	b.begin, b.claims = from, ledger.NewClaims()
	b.fresh, b.of, b.marks, b.invalid = b.fresh[:0], b.of[:0], b.marks[:0], b.invalid[:0]
}

func (b *Batch) add(key []byte) *answer {
	b.answers = b.answers[:len(b.answers)+1]
	a := &b.answers[len(b.answers)-1]
	*a = answer{tx: a.tx, item: window.Item{Values: a.item.Values, Positions: a.item.Positions, Approximate: a.item.Approximate}, key: key, repeatOf: -1}
	return a
}

// index returns the answer of the part that claimed a transaction.
func (b *Batch) index(h window.TxHash) int {
	for i := b.begin; i < len(b.answers); i++ {
		if b.answers[i].decide && b.answers[i].mark.Tx == h {
			return i
		}
	}
	return -1
}

// write encodes the decision of an answer.
func (b *Batch) write(a *answer, d *payment.Decision) {
	a.mark.Verdict, a.mark.Latest, a.mark.Default = d.Verdict, d.Verdict, d.Source == payment.SourceDefaultDeadline
	a.source, a.decidedAt = d.Source, d.DecidedAt
	from := len(b.out)
	b.out = d.Append(b.out)
	a.bytes = b.out[from:len(b.out):len(b.out)]
}

// correct encodes the real verdict of an answer that was given another decision
// before, if that differs.
func (b *Batch) correct(a *answer, d *payment.Decision) {
	if a.corrects == payment.SourceDefaultDeadline && !differs(a.mark.Verdict, d) {
		return
	}
	d.Revision, d.Corrects = 2, a.corrects
	a.mark.Latest = d.Verdict
	from := len(b.out)
	b.out = d.Append(b.out)
	a.revision = b.out[from:len(b.out):len(b.out)]
}

// differs tells whether the real verdict is another one than the default. A hold
// is another one if it waits for more, or for something else, than a review.
func differs(given payment.Verdict, d *payment.Decision) bool {
	return d.Verdict != given || d.Verdict == payment.Hold && !slices.Equal(d.Hold.Needs, []string{"review"})
}

// copyIn makes bytes that were decided elsewhere the decision of an answer.
func (b *Batch) copyIn(a *answer, decision []byte) {
	from := len(b.out)
	b.out = append(b.out, decision...)
	a.bytes = b.out[from:len(b.out):len(b.out)]
}

// Verdict is the verdict of record i, zero where it has none.
func (b *Batch) Verdict(i int) payment.Verdict { return b.answers[i].mark.Verdict }

// Decode reads records into a batch.
func (g *Gate) Decode(records []broker.Record, b *Batch) {
	b.reset(len(records), g.Limits)
	policy := g.ruleset().Policy()
	for i := range records {
		r, a := &records[i], b.add(records[i].Key)
		a.offset = r.Offset
		a.kafkaTime = g.kafkaTime(r)
		a.refusal = b.decoder.Transaction(r.Value, a.kafkaTime, &a.tx)
		a.summary = payment.SummaryOf(&a.tx)
		if a.tx.Identified() {
			a.hash = g.Store.Key().Tx(a.tx.ID)
			a.mark.Tx, a.usable = a.hash, a.refusal == nil
		}
		if a.deadline = a.tx.DecideBy; a.deadline == 0 {
			a.deadline = max(a.tx.EventTime, a.kafkaTime).Add(policy.DecideWithin(a.tx.Type))
		}
		for _, h := range r.Headers {
			a.again = a.again || h.Key == resubmitted
		}
	}
}

// resubmitted is the header of a record that an operator took from dead letters
// and sent once more.
const resubmitted = "resubmitted"

// Settle notes the decisions of a batch once they are published and their marks
// say where: first in the journal, then in the ledger, where their claims end.
// On an error the claims stand.
func (g *Gate) Settle(ctx context.Context, b *Batch) error { return g.settle(ctx, b, b.answers) }

// settle is Settle of a part. Where the store is away, its folder notes them later.
func (g *Gate) settle(ctx context.Context, b *Batch, part []answer) error {
	b.marks, b.marked = b.marks[:0], b.marked[:0]
	for i := range part {
		if a := &part[i]; a.decide && a.mark.Offset >= 0 {
			b.marks, b.marked = append(b.marks, a.mark), append(b.marked, a)
		}
	}
	if err := g.Store.Decided(ctx, b.marks); errors.Is(err, window.ErrAway) {
		b.deferred = true
	} else if err != nil {
		return fmt.Errorf("note decisions in the journal: %w", err)
	}
	g.Ledger.Settle(b.claims, b.marks, func(i int) []byte { return b.marked[i].bytes })
	return nil
}
