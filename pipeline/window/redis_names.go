package window

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"
)

// names makes the names of keys, from the prefix and the version of the layout:
// "sluice:1:".
type names string

func namesOf(prefix string) names { return names(prefix + ":1:") }

func (n names) key() string      { return string(n) + "key" }
func (n names) owner() string    { return string(n) + "owner" }
func (n names) kinds() string    { return string(n) + "kinds" }
func (n names) outages() string  { return string(n) + "outages" }
func (n names) waiting() string  { return string(n) + "waiting" }
func (n names) progress() string { return string(n) + "progress" }

func (n names) probe(i int) string { return string(n) + "probe:" + strconv.Itoa(i) }

// log and head of an entity are in one slot of a cluster, and so are tx and
// parked of a transaction: what one connection is told about them in order
// happens in order.
func (n names) log(kind string, key uint64, segment uint32) string {
	b := n.entity("log:{", kind, key)
	return string(strconv.AppendUint(append(b, "}:"...), uint64(segment), 10))
}

func (n names) head(kind string, key uint64) string {
	return string(append(n.entity("head:{", kind, key), '}'))
}

func (n names) entity(what, kind string, key uint64) []byte {
	b := make([]byte, 0, 96)
	b = append(append(append(append(b, n...), what...), kind...), ':')
	var raw [8]byte
	binary.BigEndian.PutUint64(raw[:], key)
	return hex.AppendEncode(b, raw[:])
}

func (n names) tx(h TxHash) string       { return string(n) + "tx:{" + h.hex() + "}" }
func (n names) parked(h TxHash) string   { return string(n) + "parked:{" + h.hex() + "}" }
func (n names) seen(id TxHash) string    { return string(n) + "seen:" + id.hex() }
func (n names) decision(h TxHash) string { return string(n) + "dec:" + h.hex() }

// hex is the hash as it stands in the names of keys: 32 hexadecimal digits.
func (h TxHash) hex() string {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:], h.Hi)
	binary.BigEndian.PutUint64(raw[8:], h.Lo)
	return hex.EncodeToString(raw[:])
}

func parseTxHash(text string) (h TxHash, ok bool) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != 16 {
		return h, false
	}
	return TxHash{binary.BigEndian.Uint64(raw), binary.BigEndian.Uint64(raw[8:])}, true
}

// bytes is the key as keyOf reads it.
func (k Key) bytes() []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, k.k0), k.k1)
}
