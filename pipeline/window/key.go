package window

import (
	"crypto/rand"
	"encoding/binary"
	"unsafe"

	"github.com/dchest/siphash"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// TxHash is the keyed hash of a transaction id: 128 bits of SipHash-2-4
// (Aumasson, Bernstein 2012).
type TxHash struct{ Hi, Lo uint64 }

func (h TxHash) append(b []byte) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, h.Hi), h.Lo)
}

// Key is the secret under which identifiers are hashed, so that nobody who
// chooses identifiers can choose where they meet.
type Key struct{ k0, k1 uint64 }

// newKey makes a key that nobody can guess.
func newKey() (Key, error) {
	var b [16]byte
	_, err := rand.Read(b[:])
	return keyOf(b[:]), err
}

// keyOf reads a key from 16 bytes.
func keyOf(b []byte) Key {
	return Key{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}
}

// Halves returns the two halves of the key, for hashes that others keep beside the logs.
func (k Key) Halves() (uint64, uint64) { return k.k0, k.k1 }

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

// RefOf hashes what a transaction names for a kind; 0 where it names nothing.
func (k Key) RefOf(kind Kind, t *payment.Transaction) uint64 {
	switch kind {
	case IP:
		return k.refOfIP(t)
	case Charge:
		return k.chargeOf(t)
	}
	return k.Ref(kind, kindID(kind, t))
}

// refOfIP hashes the address itself, so that its spellings meet.
func (k Key) refOfIP(t *payment.Transaction) uint64 {
	if t.Device.IP == "" {
		return 0
	}
	b := t.Device.Addr.As16()
	return max(1, siphash.Hash(k.k0^kindKey(IP), k.k1, b[:]))
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
	binary.LittleEndian.PutUint64(both[:], a)
	binary.LittleEndian.PutUint64(both[8:], b)
	return max(1, siphash.Hash(k.k1, k.k0, both[:]))
}

// entity is the key of the entity that an entry names, 0 where it names none.
func (k Key) entity(of Entity, e entry) uint64 {
	if of.Pair {
		return k.pair(e.ref(of.First), e.ref(of.Second))
	}
	if of.First == Charge {
		return k.chargeIn(e)
	}
	return e.ref(of.First)
}

// EntityKey is the key of the entity that a transaction names, 0 where it names none.
func (k Key) EntityKey(of Entity, t *payment.Transaction) uint64 {
	if of.Pair {
		return k.pair(k.RefOf(of.First, t), k.RefOf(of.Second, t))
	}
	return k.RefOf(of.First, t)
}

// text hashes a short text, for counting distinct ones.
func (k Key) text(text string) uint64 { return siphash.Hash(k.k0, k.k1, bytesOf(text)) }

// bytesOf views a string as bytes, which nobody may change.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
