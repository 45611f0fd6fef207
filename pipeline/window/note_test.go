package window

import (
	"testing"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// A payment that is noted once more, after its decision was published, stands in
// the logs once: in the tail of the journal, and where its segment is sealed.
func TestWhatIsNotedAgainStandsInTheLogsOnce(t *testing.T) {
	opts := Options{Features: memoryFeatures(), SegmentBytes: 64 << 10}
	opts.fillDefaults()
	s := opened(t, opts)
	it := paying("t-1", "u1", morning, 100)
	appended(t, s, it)
	again := func() {
		t.Helper()
		mark := Mark{Tx: it.Hash, Verdict: payment.Approve, Offset: 7}
		if err := s.Decided(t.Context(), []Mark{mark}); err != nil {
			t.Fatal(err)
		}
		if err := s.Note(t.Context(), []*Item{onceMore(it)}); err != nil {
			t.Fatal(err)
		}
		for _, of := range s.Entities() {
			entries := 0
			if err := s.Log(t.Context(), of, s.Key().EntityKey(of, it.Tx), func(e LogEntry) bool {
				if e.Words.Kind == "transaction" && e.Words.Time == it.Tx.EventTime {
					entries++
				}
				return true
			}); err != nil {
				t.Fatal(err)
			}
			if key := s.Key().EntityKey(of, it.Tx); key != 0 && entries != 1 {
				t.Errorf("the log of the %s has %d entries of one payment", of, entries)
			}
		}
	}
	again()
	for i := range 1000 {
		other := paying("o", "u2", morning.Add(1), 100)
		other.Tx.ID += string(rune('a' + i))
		appended(t, s, other)
	}
	if len(s.journal.segments) < 2 {
		t.Fatalf("%d segments: nothing was sealed", len(s.journal.segments))
	}
	again()
}
