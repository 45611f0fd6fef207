package window

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"time"

	"github.com/dchest/siphash"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// parked is an outcome that came before its transaction.
type parked struct {
	Parked
	outcome outcomeRecord
}

// waiting is the outcomes that wait, by their transaction.
type waiting map[TxHash][]parked

func (w waiting) add(p parked) {
	if !slices.ContainsFunc(w[p.Tx], func(q parked) bool { return q.outcome.identity == p.outcome.identity }) {
		w[p.Tx] = append(w[p.Tx], p)
	}
}

func (w waiting) remove(tx, identity TxHash) {
	w.drop(tx, func(p parked) bool { return p.outcome.identity == identity })
}

func (w waiting) forget(before payment.Time) {
	for tx := range w {
		w.drop(tx, func(p parked) bool { return p.Since < before })
	}
}

func (w waiting) drop(tx TxHash, which func(parked) bool) {
	if w[tx] = slices.DeleteFunc(w[tx], which); len(w[tx]) == 0 {
		delete(w, tx)
	}
}

// Outcomes implements Store.
func (s *Embedded) Outcomes(_ context.Context, items []*OutcomeItem) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for some := range slices.Chunk(items, 256) { // one that waits keeps its whole record
		if err := s.outcomes(some); err != nil {
			return err
		}
	}
	return nil
}

func (s *Embedded) outcomes(items []*OutcomeItem) error {
	if err := s.roll(); err != nil {
		return err
	}
	var counted []counting
	var waits []parked
	var fresh []TxHash
	for _, it := range items {
		r := s.journal.key.outcome(it.Outcome)
		if slices.Contains(fresh, r.identity) || s.outcomeKnown(r.identity) {
			it.Status = OutcomeRepeated
			continue
		}
		tx, logged := s.findTx(r.tx)
		switch {
		case logged:
			it.Status = OutcomeCounted
			r.txTime = s.journal.at(tx).time()
			_, n := s.journal.putOutcome(&r, tx)
			counted = append(counted, counting{r.identity, n, tx})
		case it.Known:
			it.Status = OutcomeIdle
			continue
		default:
			it.Status = OutcomeParked
			p := parked{Parked{Tx: r.tx, Since: it.Since, Source: it.Source.clone()}, r}
			_, n := s.journal.put(func(b []byte) []byte { return appendParked(b, &p) })
			counted = append(counted, counting{r.identity, n, 0})
			waits = append(waits, p)
		}
		fresh = append(fresh, r.identity)
	}
	if err := s.journal.flush(); err != nil {
		return err
	}
	for _, c := range counted {
		s.index.tail.add(identityKey(c.identity), c.number)
		if c.tx != 0 {
			s.tell(s.journal.at(c.number), c.number, s.journal.at(c.tx), func(k indexedKind) bool { return k.outcomes })
		}
	}
	for _, p := range waits {
		s.parked.add(p)
	}
	return nil
}

// counting is an outcome that was appended, and the number of its transaction,
// 0 where it waits for it.
type counting struct {
	identity   TxHash
	number, tx uint64
}

// outcomeKnown tells whether an identical outcome was there before.
func (s *Embedded) outcomeKnown(identity TxHash) bool {
	for _, n := range s.numbers(identityKey(identity)) {
		if e := s.journal.at(n); e != nil && (e.kind() == entryOutcome || e.kind() == entryParked) && e.identity() == identity {
			return true
		}
	}
	return false
}

// outcome is the record of an outcome.
func (k Key) outcome(o *payment.Outcome) outcomeRecord {
	return outcomeRecord{tx: k.Tx(o.TransactionID), identity: k.identity(o), time: o.EventTime, kind: o.Kind}
}

// identity is the hash of what makes two outcomes the same.
func (k Key) identity(o *payment.Outcome) TxHash {
	var buf [512]byte
	b := buf[:0]
	for _, part := range [...]string{o.TransactionID, o.ID, o.Source} {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	b = append(b, byte(o.Kind))
	b = binary.AppendVarint(b, int64(o.EventTime))
	b = binary.AppendVarint(b, o.Amount.Value)
	b = append(b, o.Amount.Currency.String()...)
	hi, lo := siphash.Hash128(k.k1, k.k0, b)
	return TxHash{hi, lo}
}

// Parked implements Store.
func (s *Embedded) Parked(_ context.Context, before payment.Time) ([]Parked, error) {
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
	return old, nil
}

// ForgetParked implements Store.
func (s *Embedded) ForgetParked(_ context.Context, before payment.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.roll(); err != nil {
		return err
	}
	s.journal.put(func(b []byte) []byte { return appendForget(b, before) })
	if err := s.journal.flush(); err != nil {
		return err
	}
	s.parked.forget(before)
	return nil
}

func (s Source) clone() Source {
	s.Key = append([]byte(nil), s.Key...)
	s.Value = append([]byte(nil), s.Value...)
	return s
}

// reach is how far back the features look at the most.
func (m *memory) reach() (d time.Duration) {
	for _, f := range m.folders {
		d = max(d, f.reach)
	}
	return d
}
