package window

import "github.com/sluice-risk/sluice/pipeline/payment"

// Event is one transaction of a log as a transaction at some later (or the same)
// moment sees it: predicates and fields read it.
type Event struct {
	entry   entry
	status  payment.OutcomeKind
	verdict payment.Verdict
	fraud   bool
}

// elem is one item of an entity's ring, 24 bytes without pointers: an event, a
// tile of many events (see hot.go), or an outcome.
//
// Of an event, ref holds, from the lowest bit: the number under which the store
// finds its entry, 36 bits; its standing as of the moment of the fold, which is
// status (4), fraud (1), verdict (2) and whether that is published; whether it is a tile; what
// group.shareBits gives out; and whether the amount is based.
//
// Of an outcome, time is its event time, amount the low half of its identity,
// and ref the number of the event, the kind (4 bits), and the event's status and
// fraud before the outcome became known.
type elem struct {
	time   payment.Time
	amount int64 // minor units of the base currency, if based; of a tile the time of its first event
	ref    uint64
}

const (
	numberBits = 36
	numberMask = 1<<numberBits - 1

	standingShift  = numberBits
	standingMask   = 1<<5 - 1 // status and fraud
	verdictShift   = standingShift + 5
	publishedBit   = 1 << (verdictShift + 2)
	tileBit        = publishedBit << 1
	firstJudgedBit = tileBit << 1
	basedBit       = 1 << 63

	outcomeKindShift = numberBits
	beforeShift      = outcomeKindShift + 4
)

func (e *elem) number() uint64 { return e.ref & numberMask }

// standing is what outcomes have made of an event: its status, and whether it is fraud.
type standing uint8

const fraudStanding = 1 << 4

func (s standing) status() payment.OutcomeKind { return payment.OutcomeKind(s & 15) }
func (s standing) fraud() bool                 { return s&fraudStanding != 0 }

// after is the standing once an outcome is known: the status is the last outcome,
// and the label is the last of those that say whether it was fraud.
func (s standing) after(kind payment.OutcomeKind) standing {
	fraud := s & fraudStanding
	switch kind {
	case payment.OutcomeFraudConfirmed:
		fraud = fraudStanding
	case payment.OutcomeFraudCleared:
		fraud = 0
	}
	return standing(kind) | fraud
}

func (e *elem) standing() standing        { return standing(e.ref >> standingShift & standingMask) }
func (e *elem) verdict() payment.Verdict  { return payment.Verdict(e.ref >> verdictShift & 3) }
func (e *elem) kind() payment.OutcomeKind { return payment.OutcomeKind(e.ref >> outcomeKindShift & 15) }
func (e *elem) before() standing          { return standing(e.ref >> beforeShift & standingMask) }

func (e *elem) setStanding(s standing) {
	e.ref = e.ref&^(standingMask<<standingShift) | uint64(s)<<standingShift
}

func (e *elem) setVerdict(v payment.Verdict, published bool) {
	e.ref = e.ref&^(3<<verdictShift|publishedBit) | uint64(v)<<verdictShift
	if published {
		e.ref |= publishedBit
	}
}

func (e *elem) setBefore(s standing) {
	e.ref = e.ref&^(standingMask<<beforeShift) | uint64(s)<<beforeShift
}
