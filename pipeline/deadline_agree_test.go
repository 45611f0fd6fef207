package pipeline

import (
	"context"
	"testing"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// asked is a shared store that notes what it was asked to agree to.
type asked struct {
	Shared
	hashes []window.TxHash
}

func (s *asked) First(_ context.Context, hashes []window.TxHash, _ [][]byte) ([][]byte, error) {
	s.hashes = append(s.hashes, hashes...)
	return make([][]byte, len(hashes)), nil
}

// A verdict that was made after its deadline is not one that members agree on: its
// default is said instead, and what they had agreed on would stand.
func TestMembersAgreeOnNoVerdictThatIsTooLate(t *testing.T) {
	const now = payment.Time(1000)
	store := &asked{}
	e := &Engine{gate: &Gate{Shared: store, Now: func() payment.Time { return now }}}
	inTime, late, default_ := &answer{deadline: now, decidedAt: now, source: payment.SourceRules}, &answer{deadline: now - 1, decidedAt: now, source: payment.SourceRules},
		&answer{deadline: now - 1, decidedAt: now, source: payment.SourceDefaultDeadline}
	default_.mark.Default = true
	for i, a := range []*answer{inTime, late, default_} {
		a.decide, a.mark.Tx = true, window.TxHash{Lo: uint64(i)}
		a.state.Store(judged)
	}
	var b Batch
	if err := e.first(t.Context(), []*answer{inTime, late, default_}, &b); err != nil {
		t.Fatal(err)
	}
	if len(store.hashes) != 2 || store.hashes[0].Lo != 0 || store.hashes[1].Lo != 2 || late.agreed || !inTime.agreed {
		t.Errorf("members were asked about %v; agreed on the one in time %v, on the late one %v", store.hashes, inTime.agreed, late.agreed)
	}
	if !b.unagreed {
		t.Error("the store will not hear what was said")
	}
}
