package window

import (
	"encoding/binary"
	"math/bits"
	"strconv"
	"strings"
	"time"

	"github.com/dchest/siphash"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// A charge is what a payer would pay twice: one amount in one currency, to one
// payee, by one type of transaction. It is an entity like others, and its log
// tells what stood before a transaction, on whichever member that came in. A
// refund is no charge, and neither is what names no payer or no payee: no two
// payments ever meet in somebody who is not named.
//
// The order is no part of it, since a payment without one may repeat a payment
// with one.

// charge is the key of a charge, 0 where there is none; currency as in an entry.
func (k Key) charge(t payment.Type, payer, payee uint64, amount int64, currency uint16) uint64 {
	if payer == 0 || payee == 0 || t == payment.TypeRefund {
		return 0
	}
	var b [27]byte
	b[0] = byte(t)
	binary.LittleEndian.PutUint64(b[1:], payer)
	binary.LittleEndian.PutUint64(b[9:], payee)
	binary.LittleEndian.PutUint64(b[17:], uint64(amount))
	binary.LittleEndian.PutUint16(b[25:], currency)
	return max(1, siphash.Hash(k.k0^kindKey(Charge), k.k1, b[:]))
}

// chargeOf is the key of a transaction's charge.
func (k Key) chargeOf(t *payment.Transaction) uint64 {
	return k.charge(t.Type, k.RefOf(Payer, t), k.RefOf(Payee, t), t.Amount.Value, tripleOf(t.Amount.Currency.String()))
}

// chargeIn is the key of the charge in an entry.
func (k Key) chargeIn(e entry) uint64 {
	return k.charge(e.paymentType(), e.ref(Payer), e.ref(Payee), e.original(), e.u16(48))
}

// chargeID is a charge for people to read, "" where there is none.
func chargeID(t *payment.Transaction) string {
	if t.Type == payment.TypeRefund || t.Payer.AccountID == "" || t.Payee.AccountID == "" {
		return ""
	}
	return strings.Join([]string{t.Type.String(), t.Payer.AccountID, t.Payee.AccountID,
		strconv.FormatInt(t.Amount.Value, 10), t.Amount.Currency.String()}, "|")
}

// EarlierCharges is the feature that fills Item.Earlier. It has no value that
// rules could read.
func EarlierCharges(within time.Duration) Feature {
	return Feature{Entity: Entity{First: Charge}, Name: "earlier", Aggregate: earlier, Within: within, ReadsStatus: true}
}

// Earlier is a transaction that stands in the log of a charge before another
// one, and may be the same payment: both name the same order; or one of them
// names none, and their event times are near each other.
type Earlier struct {
	Tx        TxHash
	ID        string // of the transaction; "" where the store does not have it
	EventTime payment.Time
	SameOrder bool
	Status    payment.OutcomeKind // as of the transaction that looks
	// Decision is the first decision on it, where members share the store and one
	// of them has made it; its bytes may be kept.
	Decision []byte
}

// mostEarlier is how many charges are looked at, the latest by event time: a log
// of a charge that is longer belongs to a machine, and is not read to its end for
// each payment.
const mostEarlier = 1024

// readEarlier fills in what stands before the item in the log of its charge: all
// that the fold holds, whatever its event time, because it was folded up to the
// item's own position and no further. Once it was read, it stands: a View has
// folded more.
func (f *folder) readEarlier(fd *fold, own uint64, it *Item) {
	if it.asked {
		return
	}
	it.asked = true
	if fd.events.n == 1 {
		return // most payments
	}
	here := f.h.entryAt(fd.events.at(f.ringsOf(fd), own).number())
	order := here.ref(Order)
	from := fd.events.first
	if fd.events.n > mostEarlier {
		from = fd.events.end() - mostEarlier
	}
	for i := from; i < fd.events.end(); i++ {
		el := fd.events.at(f.ringsOf(fd), i)
		near := nearby(el.time, here.time(), f.within)
		if i == own || el.ref&tileBit != 0 || order == 0 && !near {
			continue
		}
		e := f.h.entryAt(el.number())
		if e == nil {
			continue // it has left the log
		}
		theirs := e.ref(Order)
		same := order != 0 && theirs == order
		if !same && (order != 0 && theirs != 0 || !near) {
			continue
		}
		it.Earlier = append(it.Earlier, Earlier{Tx: e.tx(), ID: e.name(), EventTime: e.time(), SameOrder: same, Status: el.standing().status()})
	}
}

// nearby tells whether two times are no farther apart than a length of time.
func nearby(a, b payment.Time, within time.Duration) bool {
	return max(a, b) <= min(a, b).Add(within)
}

// noteEarlier is readEarlier for an item whose windows are read later.
func (f *folder) noteEarlier(n uint32, own uint64, it *Item) {
	if f.within == 0 {
		return
	}
	fd := f.foldOf(n)
	f.seek(n, fd.events.at(f.ringsOf(fd), own).time, own+1)
	f.readEarlier(fd, own, it)
}

// hidden makes an empty fold that nobody finds by a key.
func (f *folder) hidden() uint32 {
	n := f.number()
	*f.foldOf(n) = fold{page: n / foldPage, used: true, fresh: true, at: minTime, from: minTime}
	return n
}

// appendNamed appends the entry of a transaction with its id as text behind all
// fields, for those that repeat it to name it. The journal has it so, and on Redis
// what stands under the transaction and in the log of its charge: who finds an
// earlier charge there may be faster than the member that put it there. The logs of
// other entities do without.
func appendNamed(b []byte, key Key, it *Item) []byte {
	at := len(b)
	return endEntry(append(appendTransaction(b, key, it), it.Tx.ID...), at)
}

// maxName is the longest id, in bytes.
const maxName = 4 * 128

// name is the id of a transaction, "" where the entry is without.
func (e entry) name() string {
	at := e.refsAt() + 8*bits.OnesCount16(e.u16(6)) + int(e[59]) + int(e[60]) + int(e[61])
	return string(e[at:])
}
