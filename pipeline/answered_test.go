package pipeline

import (
	"testing"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// A record was answered where a decision on its transaction names its offset. What a
// topic held before it was made anew, and headers that nobody can read, say nothing.
func TestOnlyARecordThatADecisionNamesWasAnswered(t *testing.T) {
	first, other := window.TxHash{Hi: 1, Lo: 42}, window.TxHash{Hi: 1, Lo: 68}
	s := answered{from: 100, end: 200}
	for offset, tx := range map[string]window.TxHash{"100": first, "150": other, "199": first, "99": first, "200": first, "-1": first, "1e2": first, "": first} {
		s.saw(&broker.Record{Headers: []broker.Header{{Key: "revision", Value: []byte("1")}, {Key: "offset", Value: []byte(offset)}}}, tx)
	}
	s.saw(&broker.Record{Headers: []broker.Header{{Key: "verdict", Value: []byte("120")}}}, first)
	for _, c := range []struct {
		offset int64
		tx     window.TxHash
		want   bool
	}{
		{100, first, true}, {150, other, true}, {199, first, true},
		{150, first, false}, {100, other, false}, {120, first, false}, {99, first, false}, {200, first, false}, {101, first, false}, {-1, first, false},
	} {
		if got := s.has(c.offset, c.tx); got != c.want {
			t.Errorf("record %d of %v was answered: %v", c.offset, c.tx, got)
		}
	}
}
