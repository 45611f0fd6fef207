package explain

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// ShownEvents is how many events behind a value are listed where nobody says otherwise.
const ShownEvents = 5

// Question is what is asked of a file.
type Question struct {
	// Replay says how the file is replayed: its Rules, Limits, Windows, RulesKept,
	// Until and Progress. The rest is set here.
	Replay      pipeline.Replay
	Transaction string
	Events      int // how many are listed behind each value, and how many distinct values; 0: all
}

// NotFoundError says that no record of the file is the transaction.
type NotFoundError struct {
	Transaction string
	Nearest     []string // ids that look like it, the nearest first
}

// Error implements error.
func (e *NotFoundError) Error() string {
	text := fmt.Sprintf("transaction %s is not in the file", e.Transaction)
	if len(e.Nearest) > 0 {
		text += "; near to it are " + strings.Join(e.Nearest, ", ")
	}
	return text
}

// Answer replays the records of r and explains the transaction that is asked
// about. The whole file is replayed: what came after the decision is told too. A
// transaction that is not there is a NotFoundError.
func (q *Question) Answer(ctx context.Context, r io.Reader) (_ *Explanation, err error) {
	a := &answering{Question: q, ctx: ctx, id: []byte(q.Transaction), ids: near{asked: q.Transaction},
		names: newNames(q.Replay.Rules), kinds: map[int64]payment.RecordKind{}, controls: map[string]Control{},
		out: Explanation{Transaction: q.Transaction}, decoder: payment.Decoder{Limits: q.Replay.Limits}}
	p := q.Replay
	if p.Decisions, err = os.CreateTemp("", "sluice-explain-*"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Decisions.Close(), os.Remove(p.Decisions.Name())) }()
	p.Evidence = pipeline.EvidenceNone
	p.Line, p.Judged, p.DeadLetter, p.Decided = a.line, a.judged, a.refused, a.decided
	if _, err := p.Run(ctx, r); err != nil {
		return nil, err
	}
	if a.failed != nil {
		return nil, a.failed
	}
	if len(a.out.Occurrences) == 0 {
		return nil, &NotFoundError{q.Transaction, a.ids.nearest()}
	}
	a.settle()
	return &a.out, nil
}

// answering is a Question under way. Its methods are called by the replay, one
// after the other.
type answering struct {
	*Question
	ctx      context.Context
	id       []byte
	decoder  payment.Decoder
	tx       payment.Transaction
	kinds    map[int64]payment.RecordKind // of the lines that name the transaction
	names    *names
	ids      near
	controls map[string]Control // all of the file
	out      Explanation
	failed   error
}

// anyTime is a Kafka time for records that are only read here: what it makes of
// their event times does not matter.
const anyTime payment.Time = math.MaxInt64 / 2

// line looks whether a record is about the transaction.
func (a *answering) line(line int64, kind payment.RecordKind, record []byte) {
	if kind == payment.RecordControl {
		a.control(line, record)
		return
	}
	if !bytes.Contains(record, a.id) && bytes.IndexByte(record, '\\') < 0 { // an id may be written with escapes
		return
	}
	switch kind {
	case payment.RecordTransaction:
		_ = a.decoder.Transaction(record, anyTime, &a.tx) // its refusal is told by the replay
		if a.tx.ID == a.Transaction {
			a.kinds[line] = kind
			a.out.Occurrences = append(a.out.Occurrences, Occurrence{Line: line})
		}
	case payment.RecordOutcome:
		var o payment.Outcome
		_ = a.decoder.Outcome(record, anyTime, &o)
		if o.TransactionID == a.Transaction {
			a.kinds[line] = kind
			a.out.Heard = append(a.out.Heard, Heard{Line: line, What: o.Kind.String(), EventTime: o.EventTime})
		}
	case payment.RecordReview:
		var v payment.Review
		_ = a.decoder.Review(record, anyTime, &v)
		if v.TransactionID == a.Transaction {
			a.kinds[line] = kind
			a.out.Heard = append(a.out.Heard, Heard{Line: line, What: v.Kind.String(), EventTime: v.EventTime})
		}
	}
}

// control keeps what a control says, in case it takes part.
func (a *answering) control(line int64, record []byte) {
	var c payment.Control
	_ = a.decoder.Control(record, anyTime, &c) // one that was refused takes part in nothing
	if _, again := a.controls[c.ID]; again || c.ID == "" {
		return
	}
	about := c.Rule
	if c.List != "" {
		about = c.List + " " + c.Value
	}
	a.controls[strings.Clone(c.ID)] = Control{Control: strings.Clone(c.ID), Kind: c.Kind.String(), About: strings.Clone(about), By: strings.Clone(c.By),
		Why: strings.Clone(c.Why), EventTime: c.EventTime, Until: c.Until, Line: line}
}

// refused notes why a record about the transaction could not be used.
func (a *answering) refused(line int64, record []byte, why *payment.Refusal) {
	kind, about := a.kinds[line]
	switch {
	case !about:
		if kind, _ := a.decoder.Peek(record); kind == payment.RecordTransaction && bytes.Contains(record, a.id) && a.broken(record) {
			a.out.Occurrences = append(a.out.Occurrences, Occurrence{Line: line, Came: cameRefused, Reason: why.Reason, Field: why.Field})
		}
	case kind == payment.RecordTransaction:
		at := slices.IndexFunc(a.out.Occurrences, func(o Occurrence) bool { return o.Line == line })
		a.out.Occurrences[at] = Occurrence{Line: line, Came: cameRefused, Reason: why.Reason, Field: why.Field}
	default:
		at := slices.IndexFunc(a.out.Heard, func(h Heard) bool { return h.Line == line })
		a.out.Heard[at].Reason = why.Reason
	}
}

// broken tells whether a record is so broken that nothing says whose it is.
func (a *answering) broken(record []byte) bool {
	_ = a.decoder.Transaction(record, anyTime, &a.tx)
	return a.tx.ID == "" && a.tx.Payer.AccountID == ""
}

// What became of a record.
const (
	cameDecided  = "decided"
	cameRepeated = "repeated"
	cameRefused  = "refused"
)

// decided takes the transaction's decisions.
func (a *answering) decided(decision []byte) {
	if !bytes.Contains(decision, a.id) && bytes.IndexByte(decision, '\\') < 0 {
		return
	}
	var d payment.Decision
	if err := json.Unmarshal(decision, &d); err != nil {
		a.failed = fmt.Errorf("a decision cannot be read: %w", err)
		return
	}
	switch {
	case d.TransactionID != a.Transaction:
	case d.Revision > 1:
		a.out.Revisions = append(a.out.Revisions, Revision{d.Revision, d.Verdict, d.Source, d.Final, d.DecidedAt})
	case a.out.Decision == nil:
		a.out.Decision = bytes.Clone(decision)
	}
}

// judged explains the transaction where the rules judge it.
func (a *answering) judged(j *pipeline.Judged) {
	a.names.learn(j)
	if tx := j.Transaction(); tx.ID != a.Transaction {
		if len(a.out.Occurrences) == 0 {
			a.ids.add(tx.ID)
		}
		return
	}
	if err := a.explain(j); err != nil {
		a.failed = err
	}
	for i := range a.out.Occurrences {
		if o := &a.out.Occurrences[i]; o.Line == j.Line {
			o.Came = cameDecided
		}
	}
}

// settle completes what can be said when the whole file has been read.
func (a *answering) settle() {
	slices.SortStableFunc(a.out.Occurrences, func(x, y Occurrence) int { return int(x.Line - y.Line) })
	for i := range a.out.Occurrences {
		if o := &a.out.Occurrences[i]; o.Came == "" {
			o.Came = cameRepeated
		}
	}
	if a.out.Trace == nil {
		return
	}
	for _, id := range a.out.Trace.Controls {
		if c, ok := a.controls[id]; ok {
			a.out.Controls = append(a.out.Controls, c)
		}
	}
}
