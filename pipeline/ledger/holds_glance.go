package ledger

import (
	"bytes"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// A decision is read for each payment, and few of them are holds. Its fields
// have a fixed order, so what matters stands in front and can be had without a
// parser. Inside a JSON string a quote is escaped, so that `"revision":` with its
// quotes can only be the key.

// head is the front of a decision.
type head struct {
	revision int
	verdict  payment.Verdict
	default1 defaultKind // its source, if that is no real verdict
}

var (
	headID       = []byte(",\"transaction_id\":\"")
	headRevision = []byte(",\"revision\":")
	headVerdict  = []byte(",\"verdict\":\"")
	headSource   = []byte(",\"source\":\"")
)

// glance reads the front of a decision; ok is false where it does not look as we
// write it. id is a view into value, nil where it is written with escapes.
func glance(value []byte) (id []byte, h head, ok bool) {
	at := bytes.Index(value, headID)
	if at < 0 {
		return nil, h, false
	}
	rest := value[at+len(headID):]
	at = bytes.Index(rest, headRevision)
	if at < 1 {
		return nil, h, false
	}
	id, rest = rest[:at-1], rest[at+len(headRevision):]
	if bytes.IndexByte(id, '\\') >= 0 {
		id = nil
	}
	for len(rest) > 0 && '0' <= rest[0] && rest[0] <= '9' && h.revision < 1<<20 {
		h.revision, rest = 10*h.revision+int(rest[0]-'0'), rest[1:]
	}
	word := func(key []byte) (w []byte) {
		rest, ok = bytes.CutPrefix(rest, key)
		if end := bytes.IndexByte(rest, '"'); ok && end >= 0 {
			w, rest = rest[:end], rest[end+1:]
			return w
		}
		ok = false
		return nil
	}
	verdict := word(headVerdict)
	if !ok {
		return nil, h, false
	}
	source := word(headSource)
	if !ok || h.revision < 1 {
		return nil, h, false
	}
	h.verdict, ok = payment.ParseVerdict(string(verdict))
	h.default1 = defaultKindOf(source)
	return id, h, ok
}

// essential is a decision without what it rests on, which its next revision does
// not repeat and which is most of its bytes: a copy of its own.
func essential(value []byte) []byte {
	for _, key := range []string{`,"evidence":`, `,"shadow":`} {
		if at := bytes.Index(value, []byte(key)); at >= 0 {
			return append(append(make([]byte, 0, at+1), value[:at]...), '}')
		}
	}
	return bytes.Clone(value)
}
