package pipeline

import (
	"context"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
	"github.com/sluice-risk/sluice/rules"
)

// Judged is a transaction of a replay at the moment when the rules have judged
// it: all that its decision rests on. What it points to is valid during the call
// that it is given to.
type Judged struct {
	Line  int64          // of the file, from 1
	Rules *rules.Ruleset // in force
	Input *rules.Input
	Key   window.Key // under which the input's hashes were made

	item  *window.Item
	store *window.Embedded
}

// Behind returns what the value of a feature is made of, by its slot.
func (j *Judged) Behind(ctx context.Context, slot int) (window.Behind, error) {
	return j.store.Behind(ctx, j.item, slot)
}

// Approximate returns how the value of a feature is not exact; false where it is.
func (j *Judged) Approximate(slot int) (window.Approximation, bool) {
	for _, a := range j.item.Approximate {
		if a.Slot == slot {
			return a, true
		}
	}
	return window.Approximation{}, false
}

// Transaction is the one that was judged.
func (j *Judged) Transaction() *payment.Transaction { return j.item.Tx }

// showJudged lets the owner of a replay see what its gate judges.
func (p *Replay) showJudged(g *Gate, store *window.Embedded) {
	if p.Judged == nil {
		return
	}
	g.judged = func(set *rules.Ruleset, a *answer, in *rules.Input) {
		p.Judged(&Judged{Line: a.offset, Rules: set, Input: in, Key: store.Key(), item: &a.item, store: store})
	}
}
