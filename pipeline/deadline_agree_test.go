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

// gone is a shared store that is away.
type gone struct{ Shared }

func (gone) First(context.Context, []window.TxHash, [][]byte) ([][]byte, error) {
	return nil, window.ErrAway
}

// While the store is away the folder is left the corrections that it can make; the
// verdict on a payment that could not be used before is said by who has made it.
func TestOnlyWhatTheFolderMakesGoodIsLeftToIt(t *testing.T) {
	store, err := window.Open(window.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	l := &lane{gate: &Gate{Shared: gone{}, Store: store}}
	part := make([]answer, 2)
	late, repaired := &part[0], &part[1]
	late.decide, late.bytes = true, (&payment.Decision{Verdict: payment.Block, Source: payment.SourceRules}).Append(nil)
	late.toldAt = window.Mark{Verdict: payment.Approve, Default: true}
	late.state.Store(forestalled)
	repaired.corrects, repaired.revision = payment.SourceInvalid, []byte("{}")
	var b Batch
	if err := l.correctTold(t.Context(), &b, part, 1); err != nil {
		t.Fatal(err)
	}
	if late.revision != nil || !b.deferred {
		t.Errorf("the correction %s of a default is said without the store's word; left to the folder %v", late.revision, b.deferred)
	}
	if repaired.revision == nil {
		t.Error("the verdict on a payment that could be used at last is lost")
	}
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
