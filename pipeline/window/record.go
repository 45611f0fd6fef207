package window

import (
	"encoding/binary"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// What a journal holds beside the entries of logs: an outcome or a verdict has
// the number of its transaction behind it (and a verdict its place among the
// decisions), and there are
//
//	P  an outcome that waits for its transaction, with its record
//	F  those that waited since before a time are given up
//	A  an outage, or the end of one
//	U  the transactions at the beginning of a segment that have no verdict yet
//	B  the beginning of a segment is complete; up to which event time logs were given up
//
// What is not found by a key (P, A, U) is written again at the beginning of each
// segment, B last, so that the tail alone says it all: from B on, or else with
// the segment before it.
const (
	entryParked    byte = 'P'
	entryForget    byte = 'F'
	entryOutage    byte = 'A'
	entryUndecided byte = 'U'
	entryBegun     byte = 'B'

	journalOutcomeSize = outcomeSize + 8
	journalVerdictSize = verdictSize + 32
)

// outcomeRecord is an outcome on its way into a log.
type outcomeRecord struct {
	tx, identity TxHash
	time         payment.Time
	txTime       payment.Time
	kind         payment.OutcomeKind
}

// about returns the entry of the transaction that an entry is about, nil where
// there is none, or it is not kept.
func (j *journal) about(e entry) entry {
	var number uint64
	switch {
	case e.kind() == entryOutcome && len(e) >= journalOutcomeSize:
		number = e.u64(outcomeSize)
	case e.kind() == entryVerdict && len(e) >= journalVerdictSize:
		number = e.u64(verdictSize + 24)
	}
	if number == 0 {
		return nil
	}
	return j.at(number)
}

func (j *journal) putOutcome(r *outcomeRecord, tx uint64) (entry, uint64) {
	return j.put(func(b []byte) []byte {
		at := len(b)
		return endEntry(binary.LittleEndian.AppendUint64(appendOutcome(b, r), tx), at)
	})
}

func (j *journal) putMark(m *Mark, txTime payment.Time, tx uint64) (entry, uint64) {
	return j.put(func(b []byte) []byte {
		at := len(b)
		b = appendVerdict(b, m, txTime)
		b = binary.LittleEndian.AppendUint64(b, m.Fingerprint)
		b = binary.LittleEndian.AppendUint64(b, uint64(m.Offset))
		b = binary.LittleEndian.AppendUint64(b, uint64(uint32(m.Partition)))
		return endEntry(binary.LittleEndian.AppendUint64(b, tx), at)
	})
}

// mark reads what a verdict of the journal says of a decision.
func (e entry) mark() Mark {
	return Mark{Tx: e.tx(), Verdict: e.verdict(), Invalid: e[6]&flagInvalid != 0,
		Fingerprint: e.u64(verdictSize), Offset: int64(e.u64(verdictSize + 8)), Partition: int32(e.u64(verdictSize + 16))}
}

func appendRest(b []byte, kind byte, add func([]byte) []byte) []byte {
	at := len(b)
	return endEntry(add(append(b, 0, 0, 0, 0, kind, 0, 0, 0)), at)
}

func appendBytes[T ~[]byte | ~string](b []byte, v T) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(v)))
	return append(b, v...)
}

// reader takes fields from an entry.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || len(r.b) < n {
		r.short = true
		return make([]byte, max(0, min(n, 16)))
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u64() uint64   { return binary.LittleEndian.Uint64(r.take(8)) }
func (r *reader) hash() TxHash  { return TxHash{r.u64(), r.u64()} }
func (r *reader) bytes() []byte { return r.take(int(binary.LittleEndian.Uint32(r.take(4)))) }

// appendParked keeps the identity where an outcome has it.
func appendParked(b []byte, p *parked) []byte {
	return appendRest(b, entryParked, func(b []byte) []byte {
		b = binary.LittleEndian.AppendUint64(b, uint64(p.outcome.time))
		b = p.outcome.tx.append(b)
		b = binary.LittleEndian.AppendUint64(b, uint64(p.outcome.kind))
		b = p.outcome.identity.append(b)
		b = binary.LittleEndian.AppendUint64(b, uint64(p.Since))
		b = appendBytes(b, p.Source.Topic)
		b = binary.LittleEndian.AppendUint64(b, uint64(uint32(p.Source.Partition)))
		b = binary.LittleEndian.AppendUint64(b, uint64(p.Source.Offset))
		return appendBytes(appendBytes(b, p.Source.Key), p.Source.Value)
	})
}

func readParked(e []byte) (p parked, ok bool) {
	r := reader{b: e[8:]}
	p.outcome.time = payment.Time(r.u64())
	p.outcome.tx = r.hash()
	p.outcome.kind = payment.OutcomeKind(r.u64())
	p.outcome.identity = r.hash()
	p.Tx, p.Since = p.outcome.tx, payment.Time(r.u64())
	p.Source.Topic = string(r.bytes())
	p.Source.Partition = int32(r.u64())
	p.Source.Offset = int64(r.u64())
	p.Source.Key = append([]byte(nil), r.bytes()...)
	p.Source.Value = append([]byte(nil), r.bytes()...)
	return p, !r.short
}

func appendOutage(b []byte, o *Outage) []byte {
	return appendRest(b, entryOutage, func(b []byte) []byte {
		b = binary.LittleEndian.AppendUint64(b, uint64(o.From))
		b = binary.LittleEndian.AppendUint64(b, uint64(o.Until))
		return appendBytes(appendBytes(appendBytes(appendBytes(b, o.ID), o.Channel), o.Bank), o.Payee)
	})
}

func readOutage(e []byte) (o Outage, ok bool) {
	r := reader{b: e[8:]}
	o.From, o.Until = payment.Time(r.u64()), payment.Time(r.u64())
	o.ID, o.Channel, o.Bank, o.Payee = string(r.bytes()), string(r.bytes()), string(r.bytes()), string(r.bytes())
	return o, !r.short
}

func appendForget(b []byte, before payment.Time) []byte {
	return appendRest(b, entryForget, func(b []byte) []byte {
		return binary.LittleEndian.AppendUint64(b, uint64(before))
	})
}

func appendBegun(b []byte, gone payment.Time) []byte {
	return appendRest(b, entryBegun, func(b []byte) []byte {
		return binary.LittleEndian.AppendUint64(b, uint64(gone))
	})
}

func appendUndecided(b []byte, numbers []uint64) []byte {
	return appendRest(b, entryUndecided, func(b []byte) []byte {
		for _, n := range numbers {
			b = binary.LittleEndian.AppendUint64(b, n)
		}
		return b
	})
}
