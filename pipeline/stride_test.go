package pipeline

import "testing"

// A folder whose store fails again and again takes less at once, so that it gets on
// between two failures; once it gets on, it takes more.
func TestAFolderTakesStridesThatItCanEnd(t *testing.T) {
	s := stride{records: 500, most: 500}
	const canEnd = 60 // records, until the store fails again
	folded, tries := 0, 0
	for ; folded < 10_000; tries++ {
		if tries == 1000 {
			t.Fatalf("%d records are folded after %d tries", folded, tries)
		}
		if s.records > canEnd {
			s.failed()
			continue
		}
		folded += s.records
		s.done()
	}
	if tries > 2*10_000/(canEnd/2) {
		t.Errorf("it took %d tries", tries)
	}
	for range 10 {
		s.failed()
	}
	if s.records < 1 || s.records > shortestStride {
		t.Errorf("the shortest stride is %d records", s.records)
	}
	for range 10 {
		s.done()
	}
	if s.records != 500 {
		t.Errorf("with a store that answers it takes %d records", s.records)
	}
	if s := (stride{records: 1, most: 1}); true {
		if s.failed(); s.records != 1 {
			t.Errorf("of batches of one record it takes %d", s.records)
		}
	}
}
