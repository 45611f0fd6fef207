package window

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// The kinds of journal records.
const (
	recordEntry   byte = 'T' // a transaction
	recordMark    byte = 'D' // its decision
	recordOutcome byte = 'O'
	recordForget  byte = 'F' // parked outcomes were given up
)

var errShort = errors.New("a record is shorter than its fields")

// The fields of a record in the order in which they are written: the codec
// appends when it writes and consumes when it reads, so that both directions
// are one list of fields.
type codec struct {
	b       []byte
	reading bool
	short   bool
}

func (c *codec) take(n int) []byte {
	if len(c.b) < n {
		c.short = true
		return make([]byte, n)
	}
	v := c.b[:n]
	c.b = c.b[n:]
	return v
}

func (c *codec) u64(v *uint64) {
	if c.reading {
		*v = binary.LittleEndian.Uint64(c.take(8))
	} else {
		c.b = binary.LittleEndian.AppendUint64(c.b, *v)
	}
}

func field64[T ~int64 | ~uint64](c *codec, v *T) {
	u := uint64(*v)
	c.u64(&u)
	*v = T(u)
}

func field32[T ~int32 | ~uint32](c *codec, v *T) {
	if c.reading {
		*v = T(binary.LittleEndian.Uint32(c.take(4)))
	} else {
		c.b = binary.LittleEndian.AppendUint32(c.b, uint32(*v))
	}
}

func field16[T ~uint16](c *codec, v *T) {
	if c.reading {
		*v = T(binary.LittleEndian.Uint16(c.take(2)))
	} else {
		c.b = binary.LittleEndian.AppendUint16(c.b, uint16(*v))
	}
}

func field8[T ~uint8](c *codec, v *T) {
	if c.reading {
		*v = T(c.take(1)[0])
	} else {
		c.b = append(c.b, byte(*v))
	}
}

func (c *codec) flag(v *bool) {
	var u uint8
	if *v {
		u = 1
	}
	field8(c, &u)
	*v = u != 0
}

func (c *codec) hash(v *TxHash) {
	c.u64(&v.Hi)
	c.u64(&v.Lo)
}

func (c *codec) bytes(v *[]byte) {
	n := uint32(len(*v))
	field32(c, &n)
	if c.reading {
		*v = append([]byte(nil), c.take(int(min(n, maxRecord)))...)
	} else {
		c.b = append(c.b, *v...)
	}
}

func (c *codec) text(v *string) {
	n := uint32(len(*v))
	field32(c, &n)
	if c.reading {
		*v = string(c.take(int(min(n, maxRecord))))
	} else {
		c.b = append(c.b, *v...)
	}
}

// word is a text of the store's vocabulary.
func (c *codec) word(w *words, v *word) {
	text := w.text(*v)
	c.text(&text)
	if c.reading {
		*v = w.id(text)
	}
}

// currency is written as its code, which outlives the table of currencies.
func (c *codec) currency(v *payment.Currency) {
	code := v.String()
	c.text(&code)
	if c.reading {
		*v, _ = payment.ParseCurrency(code)
	}
}

func (c *codec) entry(w *words, e *entry) {
	c.hash(&e.hash)
	field64(c, &e.time)
	field64(c, &e.base)
	field64(c, &e.original)
	c.currency(&e.currency)
	field8(c, &e.kind)
	c.flag(&e.based)
	c.flag(&e.located)
	if e.located {
		field32(c, &e.lat)
		field32(c, &e.lon)
	}
	c.word(w, &e.channel)
	c.word(w, &e.mcc)
	c.word(w, &e.instrumentKind)
	field16(c, &e.payerCountry)
	field16(c, &e.payeeCountry)
	field16(c, &e.deviceCountry)
	field16(c, &e.terminalCountry)
	var named uint16 // one bit for each kind that the transaction names
	for k, h := range e.refs {
		if h != 0 {
			named |= 1 << k
		}
	}
	field16(c, &named)
	for k := range e.refs {
		if named&(1<<k) != 0 {
			c.u64(&e.refs[k])
		}
	}
}

func (c *codec) mark(m *Mark) {
	c.hash(&m.Tx)
	c.u64(&m.Fingerprint)
	field8(c, &m.Verdict)
	c.flag(&m.Invalid)
	field32(c, &m.Partition)
	field64(c, &m.Offset)
}

func (c *codec) outcome(r *outcomeRecord) {
	c.hash(&r.tx)
	c.hash(&r.identity)
	field64(c, &r.time)
	field8(c, &r.kind)
	c.flag(&r.waits)
	if r.waits {
		r.parked.Tx = r.tx
		field64(c, &r.parked.Since)
		c.text(&r.parked.Source.Topic)
		field32(c, &r.parked.Source.Partition)
		field64(c, &r.parked.Source.Offset)
		c.bytes(&r.parked.Source.Key)
		c.bytes(&r.parked.Source.Value)
	}
}

// write adds a record made of the fields that add lists.
func (j *journal) write(kind byte, add func(*codec)) {
	j.put(kind, func(b []byte) []byte {
		c := codec{b: b}
		add(&c)
		return c.b
	})
}

func (j *journal) putEntry(e *entry, w *words) {
	j.write(recordEntry, func(c *codec) { c.entry(w, e) })
}
func (j *journal) putMark(m *Mark) { j.write(recordMark, func(c *codec) { c.mark(m) }) }
func (j *journal) putOutcome(r *outcomeRecord) {
	j.write(recordOutcome, func(c *codec) { c.outcome(r) })
}
func (j *journal) putForget(before payment.Time) {
	j.write(recordForget, func(c *codec) { field64(c, &before) })
}

// recover repeats what one record says.
func (s *Embedded) recover(record []byte, onMark func(Mark)) error {
	c := codec{b: record[1:], reading: true}
	switch record[0] {
	case recordEntry:
		var e entry
		if c.entry(&s.vocab, &e); c.short {
			return errShort
		}
		e.decidedAt = everything
		if _, twice := s.find(e.hash); twice {
			return errors.New("a transaction stands twice")
		}
		n := s.add(e)
		s.place(n)
		s.fold(n)
		s.unpark(n)
	case recordMark:
		var m Mark
		if c.mark(&m); c.short {
			return errShort
		}
		s.mark(&m)
		if onMark != nil {
			onMark(m)
		}
	case recordOutcome:
		var r outcomeRecord
		if c.outcome(&r); c.short {
			return errShort
		}
		s.applyOutcome(&r)
	case recordForget:
		var before payment.Time
		if field64(&c, &before); c.short {
			return errShort
		}
		s.forgetParked(before)
	default:
		return fmt.Errorf("unknown kind of record %q", record[0])
	}
	return nil
}
