package window

import (
	"iter"
	"math"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// reread computes the features of a transaction that was appended before, as it
// found them then: from what stands before it in the logs of its entities.
func (s *Embedded) reread(it *Item) {
	own := s.journal.at(it.number)
	for i, f := range s.folders {
		if !s.replay(f, i, it, own, f.lateness) {
			s.replay(f, i, it, own, forever)
		}
	}
}

// forever is how late a payment may be where nothing is too late.
const forever = math.MaxInt64

// replay folds the log of one entity once more on the side, up to the first entry
// of a transaction, since the entity has moved on, and reads its features. It
// reports false where the transaction is so late that such a fold has dropped what
// it should see. Where nothing is too late, the fold takes only what its windows
// cover, so that this costs no more than they hold.
func (s *Embedded) replay(f *folder, kind int, it *Item, own entry, lateness time.Duration) bool {
	key := s.journal.key.entity(f.entity, own)
	if key == 0 {
		return true
	}
	aside := f.aside(lateness)
	if lateness != forever {
		aside.lateInMemory = f.lateInMemory
	}
	n := aside.begin(key)
	for number, e := range s.logOf(f, key) {
		if lateness == forever && !f.covers(own, e) {
			continue
		}
		at, _ := aside.apply(n, e, number)
		if e.kind() != entryTransaction || e.tx() != it.Hash {
			continue
		}
		if !aside.whole(aside.foldOf(n), own.time()) {
			return false
		}
		aside.seek(n, own.time(), at+1)
		aside.read(n, at, it)
		segment, offset := s.journal.position(number)
		it.Positions[kind] = payment.Position{Segment: segment, Offset: offset}
		break
	}
	return true
}

// replayNoted reads the features of a transaction that is far behind, as of all
// that was noted by now.
func (s *Embedded) replayNoted(f *folder, kind int, it *Item, own entry) {
	key := s.journal.key.entity(f.entity, own)
	aside := f.aside(forever)
	n := aside.begin(key)
	for number, e := range s.logOf(f, key) {
		if f.covers(own, e) {
			aside.apply(n, e, number)
		}
	}
	if at, ok := aside.findTx(aside.foldOf(n), own.time(), own.tx()); ok {
		aside.seek(n, own.time(), at+1)
		aside.read(n, at, it)
		it.Positions[kind] = s.end()
	}
}

// covers tells whether a window that ends with a transaction can see an entry, or
// it can be an earlier charge.
func (f *folder) covers(own, e entry) bool {
	return e.kind() != entryTransaction || (e.time() <= own.time() || f.within > 0) && e.time() > own.time().Add(-f.reach)
}

// logOf goes through the log of an entity: the numbers of its entries, and these.
func (s *Embedded) logOf(f *folder, key uint64) iter.Seq2[uint64, entry] {
	return func(yield func(uint64, entry) bool) {
		head := s.index.tail.head(key)
		if n, ok := f.find(key); ok && f.foldOf(n).log.segment == s.journal.tail().number {
			head = f.foldOf(n).log.offset
		}
		for _, number := range s.index.tail.numbers(s.index.numbers(nil, key), head) {
			if e := s.journal.at(number); e != nil && !yield(number, e) {
				return
			}
		}
	}
}
