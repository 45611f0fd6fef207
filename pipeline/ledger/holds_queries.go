package ledger

import (
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// Note takes in what a reviewer did that changes no verdict: claim, unclaim,
// escalate. Others, and those about transactions that are not on hold, change nothing.
func (h *Holds) Note(r *payment.Review) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := h.open[h.key.Tx(r.TransactionID)]
	if o == nil {
		return
	}
	claimant := o.claimant
	switch r.Kind {
	case payment.ReviewClaim:
		claimant = string([]byte(r.Reviewer)) // it may be a view into a record
	case payment.ReviewUnclaim:
		claimant = ""
	case payment.ReviewEscalate:
		o.escalated = true
	}
	if claimant != o.claimant {
		q := h.queue(o)
		q.remove(o)
		o.claimant = claimant
		q.add(o, h.warn)
	}
}

// Oldest is where the first revision of the oldest open hold of a partition
// stands; from here on the topic must be read again by whoever knows nothing. ok
// is false where no hold is open.
func (h *Holds) Oldest(partition int32) (offset int64, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.parts[partition]; p != nil {
		for i := range p {
			if all := p[i].heaps[byPlace].all; len(all) > 0 && (!ok || all[0].first < offset) {
				offset, ok = all[0].first, true
			}
		}
	}
	return offset, ok
}

// Queue says how the open holds stand that wait for the same.
type Queue struct {
	Open     int          // how many
	Since    payment.Time // when the one was held whose first revision comes first; 0 without any
	Expires  payment.Time // the earliest expiry; 0 without any
	Unworked int          // nobody has claimed them, and most of their time is up
}

// Queue returns how the holds of a partition stand that have these needs.
func (h *Holds) Queue(partition int32, needs Needs, now payment.Time) (s Queue) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.parts[partition]
	if p == nil {
		return s
	}
	q := &p[needs&allNeeds]
	if s.Open = len(q.heaps[byPlace].all); s.Open == 0 {
		return s
	}
	s.Since, s.Expires = q.heaps[byPlace].all[0].since, q.heaps[byExpiry].all[0].expires
	s.Unworked = q.heaps[byWarning].countUpTo(now, func(o *hold) payment.Time { return o.warning(h.warn) })
	return s
}

// OpenHold is an open hold for people to look at.
type OpenHold struct {
	Decision  *payment.Decision // the latest revision, without evidence
	Since     payment.Time
	Claimant  string // the reviewer who has claimed it, "" for none
	Escalated bool
}

// Each calls visit for every open hold, in no order. visit must not call Holds.
func (h *Holds) Each(visit func(OpenHold)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.open {
		visit(OpenHold{Decision: o.decision(), Since: o.since, Claimant: o.claimant, Escalated: o.escalated})
	}
}

// Open is the number of open holds, of all partitions.
func (h *Holds) Open() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.open)
}

// Waits tells whether a transaction is on hold.
func (h *Holds) Waits(tx window.TxHash) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open[tx] != nil
}
