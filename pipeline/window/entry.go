package window

import (
	"encoding/binary"
	"math"
	"math/bits"
	"unsafe"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// An entry is one item of a log, as bytes that are the same in the journal and
// in Redis, little endian:
//
//	0  length   uint32, of the whole entry
//	4  kind     byte
//
// and then, by kind,
//
//	T, a transaction                        O, an outcome               D, a verdict
//	 5  flags: 1 based, 2 located            5  kind of outcome          5  verdict
//	 6  named  uint16, a bit for each ref    6  –                        6  flags: 1 invalid, 2 published
//	 8  event time, ns since 1970            8  its event time           8  event time of the transaction
//	16  transaction, 128 bits               16  transaction             16  transaction
//	32  amount in the base currency         32  event time of that      32  ends here in Redis; in the journal
//	40  amount as sent                      40  identity, 128 bits          32 fingerprint, 40 offset,
//	48  currency, 3 letters as a number     56  ends here in Redis;         48 partition, 56 transaction's ref
//	50  countries of payer, payee,              in the journal
//	    device, terminal: 2 letters each        56 transaction's ref
//	58  type, lengths of channel, mcc,
//	    instrument kind: a byte each
//	64  latitude, longitude in 1e-7
//	    degrees, int32, if located
//	 …  a ref of 64 bits for each bit of named
//	 …  channel, mcc, instrument kind
//
//	S, a seal: 5 – 8 unused. What stands behind it in its segment is void.
//
// An entry is read where it stands, without decoding; it holds no pointer.
type entry []byte

// The kinds of entries.
const (
	entryTransaction byte = 'T'
	entryOutcome     byte = 'O'
	entryVerdict     byte = 'D'
	entrySeal        byte = 'S'
)

const (
	transactionHeader = 64
	outcomeSize       = 56
	verdictSize       = 32
	sealSize          = 8

	flagBased     = 1
	flagLocated   = 2
	flagInvalid   = 1
	flagPublished = 2
)

func (e entry) u16(at int) uint16 { return binary.LittleEndian.Uint16(e[at:]) }
func (e entry) u64(at int) uint64 { return binary.LittleEndian.Uint64(e[at:]) }

func (e entry) kind() byte            { return e[4] }
func (e entry) time() payment.Time    { return payment.Time(e.u64(8)) }
func (e entry) tx() TxHash            { return TxHash{e.u64(16), e.u64(24)} }
func (e entry) based() bool           { return e[5]&flagBased != 0 }
func (e entry) located() bool         { return e[5]&flagLocated != 0 }
func (e entry) base() int64           { return int64(e.u64(32)) }
func (e entry) original() int64       { return int64(e.u64(40)) }
func (e entry) currency() string      { return letterTriple(e.u16(48)) }
func (e entry) country(n int) country { return country(e.u16(50 + 2*n)) }
func (e entry) paymentType() payment.Type {
	return payment.Type(e[58])
}

// The countries of an entry.
const (
	payerCountry = iota
	payeeCountry
	deviceCountry
	terminalCountry
)

// place is where the device was, in 1e-7 degrees.
func (e entry) place() (lat, lon int32) {
	v := e.u64(transactionHeader)
	return int32(v), int32(v >> 32)
}

func (e entry) refsAt() int {
	if e.located() {
		return transactionHeader + 8
	}
	return transactionHeader
}

// ref is the hash of what the transaction names for a kind, 0 where nothing.
func (e entry) ref(k Kind) uint64 {
	named := e.u16(6)
	if named&(1<<k) == 0 {
		return 0
	}
	return e.u64(e.refsAt() + 8*bits.OnesCount16(named&(1<<k-1)))
}

// The texts of an entry.
const (
	textChannel = iota
	textMCC
	textInstrumentKind
)

// text is one of the texts; it is a view of the entry.
func (e entry) text(n int) string {
	at := e.refsAt() + 8*bits.OnesCount16(e.u16(6))
	for i := range n {
		at += int(e[59+i])
	}
	return unsafe.String(unsafe.SliceData(e[at:]), int(e[59+n]))
}

// What an outcome or a verdict says.
func (e entry) outcome() payment.OutcomeKind { return payment.OutcomeKind(e[5]) }
func (e entry) identity() TxHash             { return TxHash{e.u64(40), e.u64(48)} }
func (e entry) verdict() payment.Verdict     { return payment.Verdict(e[5]) }

// txTime is the event time of the transaction that an outcome or a verdict is about.
func (e entry) txTime() payment.Time {
	if e.kind() == entryOutcome {
		return payment.Time(e.u64(32))
	}
	return payment.Time(e.u64(8))
}

// nextEntry returns the first entry of a log and what is behind it; ok is false
// where it is cut or is no entry.
func nextEntry(log []byte) (e entry, rest []byte, ok bool) {
	if len(log) < sealSize {
		return nil, log, false
	}
	n := binary.LittleEndian.Uint32(log)
	if n < sealSize || uint64(n) > uint64(len(log)) {
		return nil, log, false
	}
	e = log[:n:n]
	return e, log[n:], e.valid()
}

// valid tells whether an entry has the fields of its kind.
func (e entry) valid() bool {
	switch e.kind() {
	case entryTransaction:
		if len(e) < transactionHeader {
			return false
		}
		return e.refsAt()+8*bits.OnesCount16(e.u16(6))+int(e[59])+int(e[60])+int(e[61]) <= len(e) && e.u16(6) < 1<<kinds
	case entryOutcome:
		return len(e) >= outcomeSize
	case entryVerdict:
		return len(e) >= verdictSize
	case entryParked:
		return len(e) >= outcomeSize
	}
	return true
}

// appendTransaction appends the entry of a transaction.
func appendTransaction(b []byte, key Key, it *Item) []byte {
	t := it.Tx
	at := len(b)
	var flags byte
	if it.Based {
		flags |= flagBased
	}
	if t.Device.Located {
		flags |= flagLocated
	}
	var refs [kinds]uint64
	var named uint16
	for k := range refs {
		if refs[k] = key.RefOf(Kind(k), t); refs[k] != 0 {
			named |= 1 << k
		}
	}
	b = append(b, 0, 0, 0, 0, entryTransaction, flags)
	b = binary.LittleEndian.AppendUint16(b, named)
	b = binary.LittleEndian.AppendUint64(b, uint64(t.EventTime))
	b = it.Hash.append(b)
	b = binary.LittleEndian.AppendUint64(b, uint64(it.Base))
	b = binary.LittleEndian.AppendUint64(b, uint64(t.Amount.Value))
	b = binary.LittleEndian.AppendUint16(b, tripleOf(t.Amount.Currency.String()))
	for _, code := range [...]string{t.Payer.Country, t.Payee.Country, t.Device.Country, t.Terminal.Country} {
		b = binary.LittleEndian.AppendUint16(b, uint16(countryOf(code)))
	}
	texts := [...]string{short(t.Channel), short(t.Payee.MCC), short(t.Instrument.Kind)}
	b = append(b, byte(t.Type), byte(len(texts[0])), byte(len(texts[1])), byte(len(texts[2])), 0, 0)
	if t.Device.Located {
		b = binary.LittleEndian.AppendUint32(b, uint32(int32(math.Round(t.Device.Lat*1e7))))
		b = binary.LittleEndian.AppendUint32(b, uint32(int32(math.Round(t.Device.Lon*1e7))))
	}
	for _, ref := range refs {
		if ref != 0 {
			b = binary.LittleEndian.AppendUint64(b, ref)
		}
	}
	for _, text := range texts {
		b = append(b, text...)
	}
	return endEntry(b, at)
}

// short cuts a text to what a length of one byte can say; the decoder allows less.
func short(text string) string { return text[:min(len(text), math.MaxUint8)] }

// endEntry writes the length of the entry that begins at a place.
func endEntry(b []byte, at int) []byte {
	binary.LittleEndian.PutUint32(b[at:], uint32(len(b)-at))
	return b
}

func appendOutcome(b []byte, r *outcomeRecord) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0, entryOutcome, byte(r.kind), 0, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.time))
	b = r.tx.append(b)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.txTime))
	b = r.identity.append(b)
	return endEntry(b, at)
}

func appendVerdict(b []byte, m *Mark, txTime payment.Time) []byte {
	at := len(b)
	var flags byte
	if m.Invalid {
		flags |= flagInvalid
	}
	if m.Offset >= 0 {
		flags |= flagPublished
	}
	b = append(b, 0, 0, 0, 0, entryVerdict, byte(m.Verdict), flags, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(txTime))
	b = m.Tx.append(b)
	return endEntry(b, at)
}

func appendSeal(b []byte) []byte {
	return append(b, sealSize, 0, 0, 0, entrySeal, 0, 0, 0)
}

// country is a two-letter code; zero is absent.
type country uint16

func countryOf(code string) country {
	if len(code) != 2 {
		return 0
	}
	return country(code[0]-'A')*26 + country(code[1]-'A') + 1
}

func (c country) String() string {
	if c == 0 || int(c) > 26*26 {
		return ""
	}
	return letterPairs[(c-1)*2 : (c-1)*2+2]
}

// letterPairs holds AA, AB, … ZZ.
var letterPairs = func() string {
	b := make([]byte, 0, 26*26*2)
	for x := byte('A'); x <= 'Z'; x++ {
		for y := byte('A'); y <= 'Z'; y++ {
			b = append(b, x, y)
		}
	}
	return string(b)
}()

// tripleOf is a three-letter code as a number; zero is absent.
func tripleOf(code string) uint16 {
	if len(code) != 3 {
		return 0
	}
	return (uint16(code[0]-'A')*26+uint16(code[1]-'A'))*26 + uint16(code[2]-'A') + 1
}

// letterTriple is the code of tripleOf, as the table of currencies holds it.
func letterTriple(n uint16) string {
	if n == 0 {
		return ""
	}
	n--
	code := [3]byte{'A' + byte(n/676), 'A' + byte(n/26%26), 'A' + byte(n%26)}
	c, _ := payment.ParseCurrency(unsafe.String(&code[0], 3))
	return c.String()
}
