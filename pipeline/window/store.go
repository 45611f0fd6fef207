package window

import (
	"errors"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Store keeps the event logs of all entities and folds them into features. It
// is safe for use by many lanes at once; what one call appends is contiguous in
// the order that positions define.
type Store interface {
	// Append puts transactions into the logs of their entities, each once, and
	// fills in the rest of every item. On an error nothing was appended.
	Append(items []*Item) error
	// Holds reports whether a transaction stands in the logs. One that was decided
	// and does not was late, or its entry was lost with the end of the journal.
	Holds(tx TxHash) bool
	// Decided notes the verdicts of transactions and where their decisions stand.
	Decided(marks []Mark) error
	// Outcomes notes what became of transactions.
	Outcomes(items []*OutcomeItem) error
	// Parked returns the outcomes that have waited for their transaction since
	// before a time; ForgetParked gives up exactly these.
	Parked(before payment.Time) []Parked
	ForgetParked(before payment.Time) error
	// Written is the ordinal after everything appended so far; Durable is the
	// ordinal up to which a crash of the machine loses nothing.
	Written() uint64
	Durable() uint64
	// Key is the secret under which the store hashes identifiers.
	Key() Key
	// Entities are the kinds whose logs features look at, in a fixed order.
	Entities() []Entity
	// ReadsVerdicts tells that some feature looks at the verdicts of earlier
	// transactions: those of one entity must then be decided one after the other.
	ReadsVerdicts() bool
	// Close syncs and closes; the store is not used again.
	Close() error
}

// Item is a transaction on its way through the store.
type Item struct {
	Tx        *payment.Transaction
	KafkaTime payment.Time // of its record
	Base      int64        // minor units of the base currency, if Based
	Based     bool

	Hash     TxHash
	Late     bool             // too late for every window: it entered none and has no features
	Position payment.Position // of its first occurrence, in the log of each of its entities
	Values   []payment.Value  // by slot; its capacity is reused
}

// Mark is what the store keeps of a decision.
type Mark struct {
	Tx          TxHash
	Fingerprint uint64 // of what must not differ under the same id
	Verdict     payment.Verdict
	Invalid     bool  // a block with source `invalid`
	Partition   int32 // of the decisions topic
	Offset      int64 // in it
}

// OutcomeItem is an outcome on its way through the store.
type OutcomeItem struct {
	Outcome *payment.Outcome
	Since   payment.Time // when it came: it waits for its transaction from then on
	Known   bool         // its transaction was decided, even if no log holds it
	Source  Source       // of its record, kept while it is parked

	Status OutcomeStatus
}

// Source is a record by its place, and the record itself.
type Source struct {
	Topic     string
	Partition int32
	Offset    int64
	Key       []byte
	Value     []byte
}

// OutcomeStatus says what became of an outcome.
type OutcomeStatus uint8

// What can become of an outcome.
const (
	OutcomeCounted  OutcomeStatus = iota // it changed what windows count
	OutcomeRepeated                      // an identical one was there before
	OutcomeParked                        // it waits for its transaction
	OutcomeIdle                          // its transaction stands in no log
)

// Parked is an outcome that waits for its transaction.
type Parked struct {
	Tx     TxHash
	Since  payment.Time
	Source Source
}

// Options configures an embedded store.
type Options struct {
	Dir      string        // "": in memory only, nothing is kept
	Owner    string        // the consumer group and the topics to which the directory belongs
	Features []Feature     //
	Lateness time.Duration // a transaction later than this (by its record's Kafka time) enters no window
	// SyncEvery is how often the journal is synced to the disk in the background.
	SyncEvery time.Duration
	// SegmentBytes is when the journal begins another file.
	SegmentBytes int64
	// OnMark is called for each decision that the journal holds, while the store opens.
	OnMark func(Mark)
	// OnProgress is called now and then while the store reads its journal.
	OnProgress func(done, total int64)
}

func (o *Options) fillDefaults() {
	if o.Lateness == 0 {
		o.Lateness = 7 * 24 * time.Hour
	}
	if o.SyncEvery == 0 {
		o.SyncEvery = 20 * time.Millisecond
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 256 << 20
	}
}

// Errors of a store that cannot be used.
var (
	ErrLocked  = errors.New("another process uses this store")
	ErrOwner   = errors.New("the store belongs to another consumer group or to other topics")
	ErrCorrupt = errors.New("the journal is damaged")
)
