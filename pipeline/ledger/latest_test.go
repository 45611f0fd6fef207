package ledger

import (
	"testing"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

func TestTheLatestVerdictIsThatOfTheLastRevision(t *testing.T) {
	x := New(1<<10, func(h window.TxHash) (window.Mark, bool) {
		return window.Mark{Verdict: payment.Approve}, h == hash(3)
	})
	latest := func(i int, want payment.Verdict) {
		t.Helper()
		if v, known := x.Latest(hash(i)); v != want || known != (want != 0) {
			t.Errorf("the verdict on %d is %s (known: %v), want %s", i, v, known, want)
		}
	}
	latest(1, 0)
	c := NewClaims()
	x.Claim(hash(1), c)
	latest(1, 0) // it is being decided
	x.Settle(c, []window.Mark{{Tx: hash(1), Verdict: payment.Hold, Offset: 4}}, func(int) []byte { return nil })
	latest(1, payment.Hold)
	x.Revise(hash(1), payment.Block)
	latest(1, payment.Block)
	if m, _ := x.Find(hash(1)); m.Verdict != payment.Hold {
		t.Errorf("the first verdict is %s now", m.Verdict)
	}
	x.Revise(hash(2), payment.Block) // nobody knows it
	latest(2, 0)
	latest(3, payment.Approve) // the index has forgotten it
}

func TestABlockIsKnownBeforeItIsPublished(t *testing.T) {
	x := New(1<<10, forgotten)
	c := NewClaims()
	x.Claim(hash(1), c)
	x.Blocks(c, hash(1))
	if v, known := x.Latest(hash(1)); v != payment.Block || !known {
		t.Errorf("the verdict is %s (known: %v)", v, known)
	}
	x.Clear() // the lane has failed: nobody knows
	if v, known := x.Latest(hash(1)); known {
		t.Errorf("the verdict is %s, and its claims have ended", v)
	}
}
