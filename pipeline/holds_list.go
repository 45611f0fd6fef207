package pipeline

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// OpenHold is a payment on hold, for people to look at.
type OpenHold struct {
	ledger.OpenHold
	Notes []string // by whom, and what was noted, in the order of the topic
}

// ReadHolds folds risk.decisions and risk.reviews, from a time on, into the holds
// that are open, the one that expires first in front. It reads what there is
// now and nothing else: no gate need be running. onProgress, if given, is told how
// many records of decisions are read, of how many. Errors: those of the broker.
func ReadHolds(ctx context.Context, conn *broker.Conn, topics *Topics, since time.Time, onProgress func(done, of int64)) ([]OpenHold, error) {
	holds := ledger.NewHolds(window.Key{}, ledger.HoldsOptions{})
	if err := readSince(ctx, conn, topics.Decisions, since, onProgress, func(r *broker.Record) {
		_ = holds.Saw(int32(r.Partition), r.Offset, r.Value) // what cannot be read is no hold
	}); err != nil {
		return nil, err
	}
	notes := map[string][]string{}
	decoder := payment.Decoder{Limits: payment.DefaultLimits()}
	if err := readSince(ctx, conn, topics.Reviews, since, nil, func(r *broker.Record) {
		var review payment.Review
		if decoder.Review(r.Value, payment.Time(r.Time*1e6), &review) != nil {
			return
		}
		holds.Note(&review)
		if review.Note != "" {
			id := strings.Clone(review.TransactionID)
			notes[id] = append(notes[id], review.Reviewer+": "+review.Note)
		}
	}); err != nil {
		return nil, err
	}
	var all []OpenHold
	holds.Each(func(h ledger.OpenHold) {
		all = append(all, OpenHold{OpenHold: h, Notes: notes[h.Decision.TransactionID]})
	})
	slices.SortFunc(all, func(a, b OpenHold) int {
		return cmp.Or(cmp.Compare(a.Decision.Hold.ExpiresAt, b.Decision.Hold.ExpiresAt), cmp.Compare(a.Decision.TransactionID, b.Decision.TransactionID))
	})
	return all, nil
}

// readSince reads all partitions of a topic from a Kafka time up to their present
// ends, one after the other. Most decisions are approvals, which their header says.
func readSince(ctx context.Context, conn *broker.Conn, topic string, since time.Time, onProgress func(done, of int64), visit func(*broker.Record)) error {
	from, err := conn.OffsetsAt(ctx, topic, since.UnixMilli())
	if err != nil {
		return err
	}
	ends, err := conn.TopicOffsets(ctx, topic)
	if err != nil {
		return err
	}
	var done, of int64
	for p := range from {
		of += ends[p].End - from[p]
	}
	for p := range from {
		if _, err := conn.ReadRange(ctx, topic, p, from[p], ends[p].End, func(r broker.Record) error {
			if done++; onProgress != nil && done%1024 == 0 {
				onProgress(done, of)
			}
			if !firstApproval(r.Headers) {
				visit(&r)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// firstApproval tells by its headers that a decision is revision 1 and no hold.
func firstApproval(headers []broker.Header) bool {
	first, hold := false, true
	for _, h := range headers {
		switch h.Key {
		case "revision":
			first = bytes.Equal(h.Value, firstRevision)
		case "verdict":
			hold = !bytes.Equal(h.Value, verdictHeader[payment.Approve]) && !bytes.Equal(h.Value, verdictHeader[payment.Block])
		}
	}
	return first && !hold
}
