package window

import (
	"crypto/rand"
	"encoding/binary"
	"math"
	"unsafe"

	"github.com/dchest/siphash"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// entry is one transaction as every log of its entities keeps it: all that
// features can look at, without pointers.
type entry struct {
	time     payment.Time
	hash     TxHash
	ordinal  uint64 // its place in the one order of everything that was appended
	base     int64  // minor units of the base currency, if based
	original int64  // minor units of currency
	refs     [kinds]uint64
	lat, lon int32 // 1e-7 degrees, if located

	decidedAt uint64 // the ordinal of its verdict
	outcomes  uint32 // the first of its outcomes in the arena, plus one

	channel, mcc, instrumentKind                               word
	payerCountry, payeeCountry, deviceCountry, terminalCountry country
	currency                                                   payment.Currency
	kind                                                       payment.Type
	verdict                                                    payment.Verdict
	based, located, published                                  bool // published: so is the verdict
}

// TxHash is the keyed hash of a transaction id: 128 bits of SipHash-2-4
// (Aumasson, Bernstein 2012).
type TxHash struct{ Hi, Lo uint64 }

// Key is the secret under which identifiers are hashed, so that nobody who
// chooses identifiers can choose where they meet.
type Key struct{ k0, k1 uint64 }

// newKey makes a key that nobody can guess.
func newKey() (Key, error) {
	var b [16]byte
	_, err := rand.Read(b[:])
	return Key{binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:])}, err
}

// Tx hashes a transaction id.
func (k Key) Tx(id string) TxHash {
	hi, lo := siphash.Hash128(k.k0, k.k1, bytesOf(id))
	return TxHash{hi, lo}
}

// Ref hashes an identifier of one kind; 0 for an absent one. The kind is part
// of the key: a payer and a payee of the same name are two entities.
func (k Key) Ref(kind Kind, id string) uint64 {
	if id == "" {
		return 0
	}
	return max(1, siphash.Hash(k.k0^kindKey(kind), k.k1, bytesOf(id)))
}

// kindKey spreads a kind over 64 bits; its odd factor is 2^64 over the golden ratio.
func kindKey(k Kind) uint64 { return (uint64(k) + 1) * golden }

const golden = 0x9e3779b97f4a7c15

// pair hashes two references into the key of their pair; 0 where either is absent.
func (k Key) pair(a, b uint64) uint64 {
	if a == 0 || b == 0 {
		return 0
	}
	var both [16]byte
	for i := range 8 {
		both[i], both[8+i] = byte(a>>(8*i)), byte(b>>(8*i))
	}
	return max(1, siphash.Hash(k.k1, k.k0, both[:]))
}

// fill makes the entry of a transaction.
func (e *entry) fill(key Key, w *words, hash TxHash, t *payment.Transaction, base int64, based bool) {
	*e = entry{
		time: t.EventTime, hash: hash, base: base, based: based, decidedAt: everything,
		original: t.Amount.Value, currency: t.Amount.Currency, kind: t.Type,
		channel: w.id(t.Channel), mcc: w.id(t.Payee.MCC), instrumentKind: w.id(t.Instrument.Kind),
		payerCountry: countryOf(t.Payer.Country), payeeCountry: countryOf(t.Payee.Country),
		deviceCountry: countryOf(t.Device.Country), terminalCountry: countryOf(t.Terminal.Country),
	}
	for k := range e.refs {
		e.refs[k] = key.RefOf(Kind(k), t)
	}
	if t.Device.Located {
		e.located = true
		e.lat, e.lon = int32(math.Round(t.Device.Lat*1e7)), int32(math.Round(t.Device.Lon*1e7))
	}
}

// refOfIP hashes the address itself, so that its spellings meet.
func refOfIP(key Key, t *payment.Transaction) uint64 {
	if t.Device.IP == "" {
		return 0
	}
	b := t.Device.Addr.As16()
	return max(1, siphash.Hash(key.k0^kindKey(IP), key.k1, b[:]))
}

// Event is one entry of a log as a transaction at some later (or the same)
// moment sees it: predicates and fields read it.
type Event struct {
	entry   *entry
	words   *words
	status  payment.OutcomeKind
	verdict payment.Verdict
	fraud   bool
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
	if c == 0 {
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

// Halves returns the two halves of the key, for hashes that others keep beside the logs.
func (k Key) Halves() (uint64, uint64) { return k.k0, k.k1 }

// RefOf hashes what a transaction names for a kind; 0 where it names nothing.
func (k Key) RefOf(kind Kind, t *payment.Transaction) uint64 {
	if kind == IP {
		return refOfIP(k, t)
	}
	return k.Ref(kind, kindID(kind, t))
}

// bytesOf views a string as bytes, which nobody may change.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
