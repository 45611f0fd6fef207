package ledger

import (
	"cmp"
	"slices"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// Latest returns the latest verdict that is known on a transaction: that of its
// last revision. Of one that is being
// decided now only a block is known, once Blocks has said so; false where nothing
// is.
func (x *Index) Latest(h window.TxHash) (v payment.Verdict, known bool) {
	x.mu.Lock()
	k, c := x.find(h), x.claims[h]
	switch {
	case k != nil:
		v = k.latest
	case c != nil && slices.Contains(c.blocked, h):
		v = payment.Block
	}
	x.mu.Unlock()
	if k != nil || c != nil {
		return v, v != 0
	}
	if m, found := x.earlier(h); found {
		return cmp.Or(m.Latest, m.Verdict), true
	}
	return 0, false
}

// Blocks tells that a transaction of these claims will be blocked; it is not
// published yet. It holds until the claims end.
func (x *Index) Blocks(c *Claims, h window.TxHash) {
	x.mu.Lock()
	defer x.mu.Unlock()
	c.blocked = append(c.blocked, h)
}
