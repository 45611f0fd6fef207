package window

import "github.com/sluice-risk/sluice/pipeline/payment"

// Nearly every charge comes once. A fold for each would be made and never looked
// at again, so where nothing but EarlierCharges looks at charges, one that is new
// only gets its place in the index, and a fold when it comes a second time.

// unseen tells that no entry has a key.
func (s *Embedded) unseen(key uint64) bool {
	s.run.numbers = s.index.numbers(s.run.numbers[:0], key)
	return len(s.run.numbers) == 0 && s.index.tail.head(key) == 0
}

// secondCharge returns the fold of a charge that was unseen when its run began;
// none if it still is: then this is its first, and stands in its log now.
func (s *Embedded) secondCharge(f *folder, kind int, key uint64, it *Item) uint32 {
	if n, ok := f.find(key); ok {
		return n
	}
	if s.index.tail.head(key) != 0 {
		return s.load(f, key)
	}
	s.index.tail.add(key, it.number)
	it.asked = true
	segment, offset := s.journal.position(it.number)
	it.Positions[kind] = payment.Position{Segment: segment, Offset: offset}
	return none
}
