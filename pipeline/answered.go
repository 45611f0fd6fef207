package pipeline

import (
	"strconv"
	"unsafe"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// A partition comes to its next owner with records that were answered and are not
// folded: he reads them again to fold them. Each first decision says in a header
// which record it answers, so that it is not said once more. Otherwise a member that
// falls behind would make all that follow him publish what he had published, and
// fall behind further.

// answersHeader holds the offset of the record that a first decision answers, in the
// partition of transactions that has the number of its own.
const answersHeader = "offset"

// answered is what earlier owners have answered of the records from an offset on.
type answered struct {
	from, end int64    // no record outside of these is looked after
	tags      []uint32 // by record, of its transaction; 0: it was not answered
}

// tag tells transactions apart: a topic that was made anew has other records at the
// offsets of the old ones.
func tag(tx window.TxHash) uint32 { return uint32(tx.Lo) | 1 }

// saw notes what a decision of an earlier owner answers.
func (s *answered) saw(r *broker.Record, tx window.TxHash) {
	for _, h := range r.Headers {
		if h.Key != answersHeader {
			continue
		}
		offset, err := strconv.ParseInt(unsafe.String(unsafe.SliceData(h.Value), len(h.Value)), 10, 64)
		if err != nil || offset < s.from || offset >= s.end {
			return
		}
		if n := int(offset - s.from); n >= len(s.tags) {
			s.tags = append(s.tags, make([]uint32, n+1-len(s.tags))...)
		}
		s.tags[offset-s.from] = tag(tx)
	}
}

// has tells whether a record was answered by an earlier owner.
func (s *answered) has(offset int64, tx window.TxHash) bool {
	n := offset - s.from
	return n >= 0 && n < int64(len(s.tags)) && s.tags[n] == tag(tx)
}

// decode reads records into a batch, and notes which of them were answered before.
func (l *lane) decode(records []broker.Record, b *Batch) {
	l.gate.Decode(records, b)
	for i := range b.answers {
		a := &b.answers[i]
		a.heard = a.tx.Identified() && l.before.has(a.offset, a.hash)
	}
}
