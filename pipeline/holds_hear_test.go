package pipeline

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// underWay is a reviser in whose partition a decision is under way: it stands on
// the topic, and its owner has not heard so yet.
type underWay struct {
	instantReviser
	decision *payment.Decision
}

func (u *underWay) Revise(ctx context.Context, partition int32, next func() []*payment.Decision) error {
	if d := u.decision; d != nil {
		u.decision = nil
		if err := u.holds.Saw(partition, 50, d.Append(nil)); err != nil {
			return err
		}
	}
	return u.instantReviser.Revise(ctx, partition, next)
}

// A payment is approved by default, and held by its real verdict. A reviewer who
// sees the hold, and is faster than its acknowledgement, is not told that there is
// none; and who reads it for another member waits until that one can have heard.
func TestAReviewIsNotRefusedWhileItsHoldIsUnderWay(t *testing.T) {
	holds := ledger.NewHolds(window.Key{}, ledger.HoldsOptions{})
	now := payment.TimeOf(time.Now())
	first := onHold("t-1", time.Hour, "review")
	first.Verdict, first.Source, first.Hold = payment.Approve, payment.SourceDefaultDeadline, payment.HoldTerms{}
	if err := holds.Saw(0, 1, first.Append(nil)); err != nil {
		t.Fatal(err)
	}
	held := onHold("t-1", time.Hour, "review")
	held.Revision, held.Corrects = 2, payment.SourceDefaultDeadline
	r := &underWay{instantReviser: instantReviser{holds: holds, began: time.Now()}, decision: held}
	desk := &holdDesk{key: func() window.Key { return window.Key{} }, holds: holds, now: func() payment.Time { return now },
		metrics: newHoldMetrics(prometheus.NewRegistry()), decided: func(string) (payment.Verdict, bool) { return payment.Approve, true }}
	petitioned := func() *petition {
		return &petition{id: "t-1", at: now, read: now, review: &payment.Review{ID: "r", TransactionID: "t-1", Kind: payment.ReviewRelease}}
	}
	stranger := &petitionReader{holdShift: &holdShift{holdDesk: desk, reviser: r}}
	if done, err := stranger.look(t.Context(), petitioned()); done || err != nil {
		t.Errorf("who does not own the partition is done at once: %v, %v", done, err)
	}
	owner := &petitionReader{holdShift: &holdShift{holdDesk: desk, reviser: r, owns: map[int32]bool{0: true}}}
	if done, err := owner.look(t.Context(), petitioned()); !done || err != nil {
		t.Errorf("done %v, %v", done, err)
	}
	if len(r.made) != 1 || r.made[0][:len("t-1 approve")] != "t-1 approve" {
		t.Errorf("revisions %s", fmt.Sprint(r.made))
	}
}
