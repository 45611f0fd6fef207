package ledger

import (
	"slices"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// Latest returns the latest verdict that is known on a transaction: that of its
// last revision where Revise has told one, else the first. Of one that is being
// decided now only a block is known, once Blocks has said so; false where nothing
// is.
func (x *Index) Latest(h window.TxHash) (v payment.Verdict, known bool) {
	x.mu.Lock()
	k, c := x.find(h), x.claims[h]
	switch {
	case k != nil && k.latest != 0:
		v = k.latest
	case k != nil:
		v = k.verdict
	case c != nil && slices.Contains(c.blocked, h):
		v = payment.Block
	}
	x.mu.Unlock()
	if k != nil || c != nil {
		return v, v != 0
	}
	if m, found := x.earlier(h); found {
		return m.Verdict, true
	}
	return 0, false
}

// Revise tells the verdict of a later revision of a decision that Add or Settle
// has told; revisions come in order. Of a transaction that the index has
// forgotten, what earlier returns must say it.
func (x *Index) Revise(h window.TxHash, v payment.Verdict) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if k := x.find(h); k != nil {
		k.latest = v
	}
}

// Blocks tells that a transaction of these claims will be blocked; it is not
// published yet. It holds until the claims end.
func (x *Index) Blocks(c *Claims, h window.TxHash) {
	x.mu.Lock()
	defer x.mu.Unlock()
	c.blocked = append(c.blocked, h)
}
