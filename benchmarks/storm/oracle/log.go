package oracle

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math/bits"
	"slices"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// At is a place in a log: the segment above the offset.
type At uint64

// String is the place as evidence writes it.
func (a At) String() string { return fmt.Sprintf("%d/%d", a>>32, a&(1<<32-1)) }

func atOf(segment, offset uint64) At { return At(segment<<32 | offset) }

// TxID is the hash of a transaction id, as entries hold it.
type TxID [2]uint64

// Logs are the logs of all entities, by "KIND:KEY" with 16 hexadecimal digits.
type Logs map[string]*Log

func logName(kind string, key uint64) string { return fmt.Sprintf("%s:%016x", kind, key) }

// Log is the log of one entity: its transactions by (event time, arrival).
type Log struct {
	events  []event
	of      map[TxID]int32 // places in events
	again   int            // entries of a transaction that stood there before, byte for byte: a fold counts them once
	altered []At           // entries of a transaction that stood there before with other bytes
	retold  int            // entries of an outcome that stood there before
	orphans int            // outcomes before their transaction
	void    int            // bytes behind seals
}

func newLog() *Log { return &Log{of: map[TxID]int32{}} }

// event is the first entry of a transaction.
type event struct {
	at       At
	time     payment.Time
	tx       TxID
	base     int64
	based    bool
	refs     [refKinds]uint64
	order    uint64
	channel  string
	sum      uint64    // of the entry's bytes
	outcomes []outcome // in the order of the log
}

// outcome is the first entry of an outcome.
type outcome struct {
	at       At
	time     payment.Time
	kind     payment.OutcomeKind
	identity TxID
}

// The references that the oracle looks at, by their bits in an entry.
const (
	refPayer, refPayee, refCard, refDevice, refIP = 0, 1, 3, 4, 5

	refKinds = 6
	refOrder = 10
)

// The kinds of entries.
const (
	kindTransaction = 'T'
	kindOutcome     = 'O'
	kindSeal        = 'S'
)

// split returns the first entry of bytes, by its length.
func split(data []byte) (entry []byte, ok bool) {
	if len(data) < 8 {
		return nil, false
	}
	n := binary.LittleEndian.Uint32(data)
	if n < 8 || uint64(n) > uint64(len(data)) {
		return nil, false
	}
	return data[:n], true
}

// readTransaction reads an entry of kind T; sums are of one seed.
func readTransaction(at At, e []byte, seed maphash.Seed) (event, error) {
	u64 := func(i int) uint64 { return binary.LittleEndian.Uint64(e[i:]) }
	if len(e) < 64 {
		return event{}, fmt.Errorf("%d bytes are no transaction", len(e))
	}
	ev := event{at: at, time: payment.Time(u64(8)), tx: TxID{u64(16), u64(24)}, base: int64(u64(32)), based: e[5]&1 != 0, sum: maphash.Bytes(seed, e)}
	next := 64
	if e[5]&2 != 0 { // located
		next += 8
	}
	named := binary.LittleEndian.Uint16(e[6:])
	if len(e) < next+8*bits.OnesCount16(named)+int(e[59]) {
		return event{}, fmt.Errorf("%d bytes are too few for what they say", len(e))
	}
	for ; named != 0; named &= named - 1 {
		switch kind := bits.TrailingZeros16(named); {
		case kind < refKinds:
			ev.refs[kind] = u64(next)
		case kind == refOrder:
			ev.order = u64(next)
		}
		next += 8
	}
	ev.channel = string(e[next : next+int(e[59])])
	return ev, nil
}

// readOutcome reads an entry of kind O and the transaction that it is about.
func readOutcome(at At, e []byte) (of TxID, o outcome, err error) {
	u64 := func(i int) uint64 { return binary.LittleEndian.Uint64(e[i:]) }
	if len(e) < 56 {
		return of, o, fmt.Errorf("%d bytes are no outcome", len(e))
	}
	return TxID{u64(16), u64(24)}, outcome{at, payment.Time(u64(8)), payment.OutcomeKind(e[5]), TxID{u64(40), u64(48)}}, nil
}

// addTransaction takes the next entry of the log.
func (l *Log) addTransaction(ev event) {
	i, known := l.of[ev.tx]
	switch {
	case !known:
		l.of[ev.tx] = int32(len(l.events))
		l.events = append(l.events, ev)
	case l.events[i].sum == ev.sum:
		l.again++
	default:
		l.altered = append(l.altered, ev.at)
	}
}

func (l *Log) addOutcome(tx TxID, o outcome) {
	i, ok := l.of[tx]
	if !ok {
		l.orphans++
		return
	}
	of := &l.events[i]
	if slices.ContainsFunc(of.outcomes, func(was outcome) bool { return was.identity == o.identity }) {
		l.retold++
		return
	}
	of.outcomes = append(of.outcomes, o)
}

// order sorts the events once all entries are added.
func (l *Log) order() {
	slices.SortFunc(l.events, func(a, b event) int {
		if a.time != b.time {
			return int(max(-1, min(1, a.time-b.time)))
		}
		return int(max(-1, min(1, int64(a.at)-int64(b.at))))
	})
	for i := range l.events {
		l.of[l.events[i].tx] = int32(i)
	}
}
