package pipeline

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
	"github.com/sluice-risk/sluice/rules"
)

// Replay takes the records of a file, in order, through the very steps of the
// live path. The file's Kafka time is the highest event time so far; nothing
// looks at a clock.
type Replay struct {
	Rules    *rules.Ruleset
	Evidence Evidence
	Limits   payment.Limits
	Windows  WindowConfig
	// RulesKept is the folder of the rulesets that a control may activate; "" for none.
	RulesKept string
	// Until ends the replay before the first record with a later event time; 0: never.
	Until payment.Time
	// Decisions is where decisions go, a line each; it is read again where a
	// transaction comes twice.
	Decisions *os.File
	// DeadLetter, if set, is called for each record that cannot be used; line
	// counts from 1.
	DeadLetter func(line int64, record []byte, why *payment.Refusal)
	// Decided, if set, is called for each decision, in order; the bytes are valid
	// during the call.
	Decided func(decision []byte)
	// Line, if set, is called for each line that is not empty, before it is used;
	// the bytes are valid during the call.
	Line func(line int64, kind payment.RecordKind, record []byte)
	// Judged, if set, is called for each transaction that the rules have judged.
	Judged func(*Judged)
	// Progress, if set, is called now and then.
	Progress func(ReplaySummary)
}

// ReplaySummary counts what a replay did.
type ReplaySummary struct {
	Lines    int64
	Bytes    int64
	Verdicts map[string]int64 // decisions by verdict, repeats included
	Refused  map[payment.Reason]int64
	Outcomes map[window.OutcomeStatus]int64
	Reviews  int64            // that were used, or changed no verdict and need not
	Ended    map[string]int64 // holds by how they ended: released, rejected, step_up_passed, step_up_failed, expired
	Open     int              // holds at the end
	Missing  string           // hash of the last ruleset that a control activated and that is not in RulesKept
	At       payment.Time     // Kafka time of the last record
}

// endOfTime is 2200-01-01T00:00:00Z; no payment is later.
const endOfTime = payment.Time(7_258_118_400e9)

// fileBatch is how many transactions of a file are decided together.
const fileBatch = 256

// replaying is a Replay under way.
type replaying struct {
	*Replay
	gate     *Gate
	engine   *Engine
	outcomes *OutcomeDecoder
	holds    *replayedHolds
	peek     payment.Decoder
	batch    Batch
	records  []broker.Record // transactions that are not decided yet
	lines    []byte          // their bytes
	out      *bufio.Writer
	offset   int64 // of the next decision, in bytes
	sum      ReplaySummary
}

// Run replays all records of r.
func (p *Replay) Run(ctx context.Context, r io.Reader) (ReplaySummary, error) {
	store, err := window.Open(p.Windows.options(p.Rules.Features()))
	if err != nil {
		return ReplaySummary{}, err
	}
	run := &replaying{Replay: p, out: bufio.NewWriterSize(p.Decisions, 1<<20),
		peek: payment.Decoder{Limits: p.Limits},
		sum:  ReplaySummary{Verdicts: map[string]int64{}, Refused: map[payment.Reason]int64{}, Outcomes: map[window.OutcomeStatus]int64{}, Ended: map[string]int64{}}}
	run.gate = &Gate{Rules: p.Rules, Store: store, Ledger: ledger.New(64<<20, store.Earlier), Limits: p.Limits, Evidence: p.Evidence, Earlier: run.earlier}
	run.gate.Controls.Kept, run.gate.Controls.folder = p.RulesKept, p.Rules
	p.showJudged(run.gate, store)
	run.engine, run.outcomes = run.gate.NewEngine(), run.gate.NewOutcomeDecoder()
	run.holds = newReplayedHolds(run)
	err = run.all(ctx, r)
	run.sum.Open = run.holds.holds.Open()
	return run.sum, errors.Join(err, run.out.Flush(), store.Close())
}

func (p *replaying) all(ctx context.Context, r io.Reader) error {
	lines := bufio.NewReaderSize(r, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		atEnd := errors.Is(err, io.EOF)
		if len(line) == 0 && atEnd {
			break
		}
		if err != nil && !atEnd {
			return fmt.Errorf("line %d: %w", p.sum.Lines+1, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		done, err := p.line(ctx, bytes.TrimRight(line, "\r\n"), int64(len(line)))
		if err != nil {
			return fmt.Errorf("line %d: %w", p.sum.Lines, err)
		}
		if done {
			break
		}
		if p.Progress != nil && p.sum.Lines%4096 == 0 {
			p.Progress(p.sum)
		}
	}
	if err := p.decide(ctx); err != nil {
		return err
	}
	if err := p.holds.expire(p.sum.At); err != nil {
		return err
	}
	p.holds.giveUp()
	return p.gate.GiveUpOutcomes(ctx, p.sum.At.Add(-p.Windows.OutcomesWait), func(lost []window.Source) error {
		for _, s := range lost {
			p.refuse(s.Offset, s.Value, &payment.Refusal{Reason: payment.ReasonUnmatched, Field: "transaction_id"})
		}
		return nil
	})
}

// line takes one line; done tells that the time has come to an end.
func (p *replaying) line(ctx context.Context, line []byte, size int64) (done bool, err error) {
	p.sum.Lines++
	p.sum.Bytes += size
	if len(line) == 0 {
		return false, nil // the end of a file, or a gap that somebody left for the eye
	}
	kind, eventTime := p.peek.Peek(line)
	if p.Until != 0 && eventTime > p.Until {
		return true, nil
	}
	if p.Line != nil {
		p.Line(p.sum.Lines, kind, line)
	}
	if eventTime < endOfTime { // a clock gone mad must not make all the rest too old
		p.sum.At = max(p.sum.At, eventTime)
	}
	// Kafka's time has milliseconds; rounded down, nothing becomes late that is not.
	record := broker.Record{Offset: p.sum.Lines, Time: int64(p.sum.At / 1e6), Value: line}
	switch kind {
	case payment.RecordTransaction:
		if err := p.gate.SettleControls(ctx); err != nil {
			return false, err
		}
		p.sum.Missing = p.gate.Controls.missing
		at := len(p.lines)
		p.lines = append(p.lines, line...)
		record.Value = p.lines[at:len(p.lines):len(p.lines)]
		p.records = append(p.records, record)
		if len(p.records) >= fileBatch {
			return false, p.decide(ctx)
		}
	case payment.RecordOutcome:
		if err := p.decide(ctx); err != nil {
			return false, err
		}
		if err := p.outcomes.Take(ctx, "", []broker.Record{record}, func(r *broker.Record, why *payment.Refusal) {
			p.refuse(r.Offset, r.Value, why)
		}); err != nil {
			return false, err
		}
		for _, it := range p.outcomes.list {
			p.sum.Outcomes[it.Status]++
		}
		return false, p.holds.take(&record, false)
	case payment.RecordControl:
		if err := p.decide(ctx); err != nil {
			return false, err
		}
		refusal, err := p.gate.Control(ctx, &p.peek, &record)
		if err != nil {
			return false, err
		}
		if refusal != nil {
			p.refuse(record.Offset, record.Value, refusal)
		}
	case payment.RecordReview:
		if err := p.decide(ctx); err != nil {
			return false, err
		}
		return false, p.holds.take(&record, true)
	}
	return false, nil
}

// decide decides the transactions that wait, and writes their decisions.
func (p *replaying) decide(ctx context.Context) error {
	if len(p.records) == 0 {
		return nil
	}
	b := &p.batch
	if _, _, err := p.engine.Decide(ctx, p.records, b); err != nil {
		return err
	}
	for i := range b.answers {
		a := &b.answers[i]
		if err := p.holds.expire(a.kafkaTime); err != nil {
			return err
		}
		if a.refusal != nil {
			p.refuse(p.records[i].Offset, p.records[i].Value, a.refusal)
		}
		if len(a.bytes) == 0 {
			continue
		}
		if a.decide {
			a.mark.Offset = p.offset
		}
		if err := p.write(a.bytes); err != nil {
			return err
		}
		p.sum.Verdicts[a.mark.Verdict.String()]++
		if a.decide {
			if err := p.holds.decided(a, a.bytes); err != nil {
				return err
			}
		}
	}
	if err := p.gate.Settle(ctx, b); err != nil {
		return err
	}
	p.records, p.lines = p.records[:0], p.lines[:0]
	return nil
}

func (p *replaying) write(decision []byte) error {
	if p.Decided != nil {
		p.Decided(decision)
	}
	if _, err := p.out.Write(decision); err != nil {
		return err
	}
	p.offset += int64(len(decision)) + 1
	return p.out.WriteByte('\n')
}

func (p *replaying) refuse(line int64, record []byte, why *payment.Refusal) {
	p.sum.Refused[why.Reason]++
	if p.DeadLetter != nil {
		p.DeadLetter(line, record, why)
	}
}

// earlier reads a decision again from the file that it was written to.
func (p *replaying) earlier(_ context.Context, m window.Mark) ([]byte, error) {
	if err := p.out.Flush(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(io.NewSectionReader(p.Decisions, m.Offset, 1<<30)).ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	return line[:len(line)-1], nil
}

// Write tells the summary in words, for a terminal.
func (s ReplaySummary) Write(w io.Writer, took time.Duration) {
	fmt.Fprintf(w, "%d records in %v", s.Lines, took.Round(time.Millisecond))
	if took > 0 {
		fmt.Fprintf(w, " (%.0f a second)", float64(s.Lines)/took.Seconds())
	}
	fmt.Fprintf(w, "\n  approve %d, hold %d, block %d\n", s.Verdicts["approve"], s.Verdicts["hold"], s.Verdicts["block"])
	if n := s.Outcomes[window.OutcomeCounted] + s.Outcomes[window.OutcomeRepeated] + s.Outcomes[window.OutcomeParked] + s.Outcomes[window.OutcomeIdle]; n > 0 {
		fmt.Fprintf(w, "  outcomes: %d counted, %d repeated, %d came before their transaction\n",
			s.Outcomes[window.OutcomeCounted], s.Outcomes[window.OutcomeRepeated], s.Outcomes[window.OutcomeParked])
	}
	for _, r := range payment.Reasons() {
		if n := s.Refused[r]; n > 0 {
			fmt.Fprintf(w, "  refused: %d %s\n", n, r)
		}
	}
	if s.Missing != "" {
		fmt.Fprintf(w, "  a control activated the ruleset %s, which is not here (--rules-kept): the one before stayed\n", s.Missing)
	}
	s.writeHolds(w)
}
