package pipeline

import (
	"fmt"
	"io"
	"slices"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// replayedHolds lets reviews, step-ups and expiry act in a file, by its Kafka
// time: a revision is written where it happens. The state is the live one.
type replayedHolds struct {
	replay  *replaying
	holds   *ledger.Holds
	parked  map[string][]*petition // by the transaction that they came before
	written []byte
}

func newReplayedHolds(p *replaying) *replayedHolds {
	return &replayedHolds{replay: p, holds: ledger.NewHolds(p.gate.Store.Key(), ledger.HoldsOptions{}), parked: map[string][]*petition{}}
}

// expire ends the holds whose time is up.
func (h *replayedHolds) expire(now payment.Time) error {
	for {
		next := h.holds.Expire(0, now, 0, holdBatch)
		for _, d := range next {
			if err := h.revise(d); err != nil {
				return err
			}
		}
		if len(next) < holdBatch {
			return nil
		}
	}
}

// decided takes in a first decision that was just written, and what came before it.
func (h *replayedHolds) decided(a *answer, decision []byte) error {
	if err := h.holds.Published(0, a.mark.Offset, decision); err != nil {
		return err
	}
	waiting, ok := h.parked[a.tx.ID]
	if !ok {
		return nil
	}
	delete(h.parked, a.tx.ID)
	for _, p := range waiting {
		if p.at.Add(h.replay.Windows.OutcomesWait) < a.kafkaTime {
			h.unmatched(p)
			continue
		}
		if err := h.act(p, a.kafkaTime, a.mark.Verdict); err != nil {
			return err
		}
	}
	return nil
}

// take lets a review act, or an outcome if it is a step-up.
func (h *replayedHolds) take(r *broker.Record, review bool) error {
	now := h.replay.gate.kafkaTime(r)
	if err := h.expire(now); err != nil {
		return err
	}
	p, refusal := petitionOf(r, review, now, h.replay.Limits)
	switch {
	case refusal != nil && review:
		h.replay.refuse(r.Offset, r.Value, refusal)
		return nil
	case refusal != nil, p == nil:
		return nil // outcomes are refused by their decoder
	}
	mark, known := h.replay.gate.Ledger.Find(h.replay.gate.Store.Key().Tx(p.id))
	if !known {
		h.parked[p.id] = append(h.parked[p.id], p)
		return nil
	}
	return h.act(p, now, mark.Verdict)
}

// act lets a petition act whose transaction is decided; first is its first verdict.
func (h *replayedHolds) act(p *petition, now payment.Time, first payment.Verdict) error {
	ruling := p.ask(h.holds, now)
	var refusal *payment.Refusal
	switch ruling.Answer {
	case ledger.Changes:
		if err := h.revise(ruling.Next); err != nil {
			return err
		}
	case ledger.Unknown:
		refusal = p.idle(first)
	case ledger.Refused:
		refusal = &payment.Refusal{Reason: ruling.Reason, Field: "transaction_id"}
	}
	switch {
	case refusal != nil:
		h.replay.refuse(p.record.Offset, p.record.Value, refusal)
	case p.review != nil:
		h.replay.sum.Reviews++
	}
	return nil
}

// revise writes a later revision.
func (h *replayedHolds) revise(d *payment.Decision) error {
	h.written = d.Append(h.written[:0])
	at := h.replay.offset
	if err := h.replay.write(h.written); err != nil {
		return err
	}
	if d.Final {
		h.replay.sum.Ended[howEnded(d)]++
	}
	return h.holds.Published(0, at, h.written)
}

func (h *replayedHolds) unmatched(p *petition) {
	if p.review != nil { // a step-up is an outcome too, and is given up with the others
		h.replay.refuse(p.record.Offset, p.record.Value, &payment.Refusal{Reason: payment.ReasonUnmatched, Field: "transaction_id"})
	}
}

// giveUp ends, at the end of the file, what has waited too long.
func (h *replayedHolds) giveUp() {
	before := h.replay.sum.At.Add(-h.replay.Windows.OutcomesWait)
	var lost []*petition
	for _, waiting := range h.parked {
		for _, p := range waiting {
			if p.at < before {
				lost = append(lost, p)
			}
		}
	}
	slices.SortFunc(lost, func(a, b *petition) int { return int(a.record.Offset - b.record.Offset) })
	for _, p := range lost {
		h.unmatched(p)
	}
}

// writeHolds tells what became of holds, in words.
func (s *ReplaySummary) writeHolds(w io.Writer) {
	if s.Reviews > 0 {
		fmt.Fprintf(w, "  reviews: %d\n", s.Reviews)
	}
	if len(s.Ended) == 0 && s.Open == 0 {
		return
	}
	fmt.Fprint(w, "  holds:")
	for _, how := range holdEnds {
		if n := s.Ended[how]; n > 0 {
			fmt.Fprintf(w, " %d %s,", n, how)
		}
	}
	fmt.Fprintf(w, " %d open at the end\n", s.Open)
}
