package window

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/dchest/siphash"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// parked is an outcome that came before its transaction.
type parked struct {
	Parked
	time payment.Time
	kind payment.OutcomeKind
}

// outcomeRecord is an outcome as the journal keeps it.
type outcomeRecord struct {
	tx, identity TxHash
	time         payment.Time
	kind         payment.OutcomeKind
	waits        bool // for its transaction: then the rest is kept too
	parked       Parked
}

// Outcomes implements Store.
func (s *Embedded) Outcomes(items []*OutcomeItem) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	records := make([]outcomeRecord, 0, len(items))
	for _, it := range items {
		o := it.Outcome
		r := outcomeRecord{tx: s.key.Tx(o.TransactionID), identity: s.identity(o), time: o.EventTime, kind: o.Kind}
		_, logged := s.find(r.tx)
		switch _, repeated := s.seen[r.identity]; {
		case repeated:
			it.Status = OutcomeRepeated
			continue
		case logged:
			it.Status = OutcomeCounted
		case it.Known:
			it.Status = OutcomeIdle
			continue
		default:
			it.Status = OutcomeParked
			r.waits = true
			r.parked = Parked{Tx: r.tx, Since: it.Since, Source: it.Source.clone()}
		}
		s.seen[r.identity] = struct{}{}
		records = append(records, r)
	}
	if s.journal != nil && len(records) > 0 {
		for i := range records {
			s.journal.putOutcome(&records[i])
		}
		if err := s.journal.flush(); err != nil {
			for i := range records {
				delete(s.seen, records[i].identity)
			}
			return err
		}
	}
	for i := range records {
		s.applyOutcome(&records[i])
	}
	return nil
}

// identity is the hash of what makes two outcomes the same.
func (s *Embedded) identity(o *payment.Outcome) TxHash {
	var buf [512]byte
	b := buf[:0]
	for _, part := range [...]string{o.TransactionID, o.ID, o.Source} {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	b = append(b, byte(o.Kind))
	b = binary.AppendVarint(b, int64(o.EventTime))
	b = binary.AppendVarint(b, o.Amount.Value)
	b = binary.AppendUvarint(b, uint64(o.Amount.Currency))
	hi, lo := siphash.Hash128(s.key.k1, s.key.k0, b)
	return TxHash{hi, lo}
}

// applyOutcome gives an outcome its place in the order and its effect.
func (s *Embedded) applyOutcome(r *outcomeRecord) {
	s.seen[r.identity] = struct{}{}
	if r.waits {
		s.ordinal++
		s.parked[r.tx] = append(s.parked[r.tx], parked{r.parked, r.time, r.kind})
		return
	}
	if n, ok := s.find(r.tx); ok {
		s.chainOutcome(n, r.time, r.kind)
	} else {
		s.ordinal++
	}
}

// chainOutcome puts an outcome behind those that its transaction has, and into
// the folds of the transaction's entities.
func (s *Embedded) chainOutcome(n uint32, t payment.Time, kind payment.OutcomeKind) {
	number := uint32(len(s.chain))
	s.chain = append(s.chain, outcome{time: t, ordinal: s.ordinal, of: n, kind: kind})
	s.ordinal++
	e := s.entry(n)
	link := &e.outcomes
	for *link != 0 {
		link = &s.chain[*link-1].next
	}
	*link = number + 1
	for _, f := range s.folders {
		if entity, ok := f.find(f.keyOf(s.key, e)); ok {
			f.insertOutcome(entity, number, &s.chain[number])
		}
	}
}

// unpark lets the outcomes that waited for a transaction take effect, right
// behind its entry.
func (s *Embedded) unpark(n uint32) {
	if len(s.parked) == 0 {
		return
	}
	h := s.entry(n).hash
	for _, p := range s.parked[h] {
		s.chainOutcome(n, p.time, p.kind)
	}
	delete(s.parked, h)
}

// Parked implements Store.
func (s *Embedded) Parked(before payment.Time) []Parked {
	s.mu.Lock()
	defer s.mu.Unlock()
	var old []Parked
	for _, list := range s.parked {
		for i := range list {
			if list[i].Since < before {
				old = append(old, list[i].Parked)
			}
		}
	}
	slices.SortFunc(old, func(a, b Parked) int { return cmp.Compare(a.Source.Offset, b.Source.Offset) })
	return old
}

// ForgetParked implements Store.
func (s *Embedded) ForgetParked(before payment.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal != nil {
		s.journal.putForget(before)
		if err := s.journal.flush(); err != nil {
			return err
		}
	}
	s.forgetParked(before)
	return nil
}

func (s *Embedded) forgetParked(before payment.Time) {
	s.ordinal++
	for h, list := range s.parked {
		list = slices.DeleteFunc(list, func(p parked) bool { return p.Since < before })
		if s.parked[h] = list; len(list) == 0 {
			delete(s.parked, h)
		}
	}
}

func (s Source) clone() Source {
	s.Key = append([]byte(nil), s.Key...)
	s.Value = append([]byte(nil), s.Value...)
	return s
}
