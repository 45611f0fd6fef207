package window

import (
	"context"
	"errors"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window/disk"
)

// Store keeps the event logs of all entities and folds them into features. It
// is safe for use by many lanes at once; what one call appends to a log is
// contiguous there.
type Store interface {
	// Append puts transactions into the logs of their entities, each once, and
	// fills in the rest of every item, in order: each sees what stands before it in
	// the logs, and itself. On an error nothing is said of the items; what was
	// appended of them is found again when they come again.
	Append(ctx context.Context, items []*Item) error
	// Note is the first half of Append and View the second, for a backlog: between
	// the two other members note theirs. What View shows a transaction are all
	// events up to its own time that were noted by then.
	Note(ctx context.Context, items []*Item) error
	View(ctx context.Context, items []*Item) error
	// Peek fills in items from memory alone, for payments that cannot wait for a
	// store that is away: it reads nothing, and waits for no call that is under way
	// longer than that computes. Values are as of what this member had folded, and
	// what it has peeked at since; Item.Stale and Item.Without say what they lack.
	// Positions are zero. Nothing of it is kept: the items are to be appended later.
	Peek(items []*Item)
	// Health tells whether the store is away: then each call that needs it fails at
	// once, with an error that wraps ErrAway. Back returns a channel that is closed
	// when it is no longer away, already closed while it is not. Who waits for it
	// waits for the end of his own context too: a store that is closed never comes
	// back.
	Health() Health
	Back() <-chan struct{}
	// Epoch begins with 1 and grows when the store may have lost what it had
	// acknowledged. That of an embedded store never does: it does not open then.
	Epoch() uint64
	// Incarnation names the servers that hold the store now: another name than
	// before means that what was acknowledged before may be lost. It changes no later
	// than Epoch does, and has no spaces; "" where it is not known at the moment.
	Incarnation() string
	// Holds reports whether a transaction stands in the logs. One that was decided
	// and does not was late, or its entry was lost.
	Holds(ctx context.Context, tx TxHash) (bool, error)
	// Decided notes the verdicts of transactions and where their decisions stand.
	Decided(ctx context.Context, marks []Mark) error
	// Earlier returns what was noted of the decision of a transaction.
	Earlier(tx TxHash) (Mark, bool)
	// Outcomes notes what became of transactions.
	Outcomes(ctx context.Context, items []*OutcomeItem) error
	// Parked returns the outcomes that have waited for their transaction since
	// before a time; ForgetParked gives up exactly these.
	Parked(ctx context.Context, before payment.Time) ([]Parked, error)
	ForgetParked(ctx context.Context, before payment.Time) error
	// Outage marks an outage, or takes the mark back where Until is before From.
	Outage(ctx context.Context, o Outage) error
	// Use replaces the features. The next Append fills the values of the new ones,
	// exactly, as far back as the logs reach: see Since.
	Use(ctx context.Context, features []Feature) error
	// Since is the event time from which on the logs of a kind of entity are whole.
	Since(Entity) payment.Time
	// Written counts what was appended so far; Durable is the count up to which a
	// crash of the machine loses nothing.
	Written() uint64
	Durable() uint64
	// Key is the secret under which the store hashes identifiers.
	Key() Key
	// Entities are the kinds whose logs features look at, in a fixed order.
	Entities() []Entity
	// ReadsVerdicts tells that some feature looks at the verdicts of earlier
	// transactions: those of one entity must then be decided one after the other.
	ReadsVerdicts() bool
	// Size tells what the store takes.
	Size() Size
	// Log calls yield for each entry of an entity's log, in its order.
	Log(ctx context.Context, of Entity, key uint64, yield func(LogEntry) bool) error
	// Close syncs and closes; the store is not used again.
	Close() error
}

// Size is what a store takes.
type Size struct {
	FoldBytes int64 // of memory, in folds
	Entities  int   // of which a fold is in memory
	Evicted   int64 // folds that were given up for others
	Loaded    int64 // folds that were made from a log
	LogBytes  int64 // of the journal on the disk, or of entries that were read from Redis
}

// Item is a transaction on its way through the store.
type Item struct {
	Tx        *payment.Transaction
	KafkaTime payment.Time // of its record
	Base      int64        // minor units of the base currency, if Based
	Based     bool

	Hash TxHash
	Late bool // too late for every window: it entered none and has no features
	// Positions are those in the logs of its entities, in the order of
	// Store.Entities, up to which its values look; zero where it names no entity.
	// They are of its own first entry, or of a later one where View was told to wait.
	Positions []payment.Position
	Values    []payment.Value // by slot; its capacity is reused
	// Approximate names the values that are not exact.
	Approximate []Approximation
	// Earlier are the charges before its own that it may repeat, by event time:
	// filled by Append, or else by Note, where a feature asks for them. The store
	// makes new ones for each item.
	Earlier []Earlier
	// Of Peek. Stale tells that some value came from memory only. Without tells of
	// each slot whether the value cannot be had, although the transaction names the
	// entity; nil where all can. Other calls leave false and nil.
	Stale   bool
	Without []bool

	number  uint64 // of its entry
	known   bool   // it was in the logs before
	asked   bool   // for Earlier
	without []bool // the memory of Without
}

// begin makes an item ready to be appended.
func (it *Item) begin(values, entities int) {
	it.reset(values, entities)
	it.Earlier, it.asked = nil, false
}

// reset makes an item ready to be filled.
func (it *Item) reset(values, entities int) {
	it.Values = resize(it.Values, values)
	it.Positions = resize(it.Positions, entities)
	it.Approximate = it.Approximate[:0]
	it.Stale, it.Without = false, nil
}

// resize returns n zeros, in the memory of s if it is large enough.
func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	s = s[:n]
	clear(s)
	return s
}

// Mark is what the store keeps of a decision.
type Mark struct {
	Tx          TxHash
	Fingerprint uint64 // of what must not differ under the same id
	Verdict     payment.Verdict
	Invalid     bool  // a block with source `invalid`
	Partition   int32 // of the decisions topic
	Offset      int64 // in it; negative: not published yet
	// What only the ledger's index knows, and no store keeps.
	EventTime payment.Time
	Default   bool            // its source is a default: the real verdict may follow
	Revised   bool            // there is a later revision
	Latest    payment.Verdict // of the latest revision
}

// OutcomeItem is an outcome on its way through the store.
type OutcomeItem struct {
	Outcome *payment.Outcome
	Since   payment.Time // when it came: it waits for its transaction from then on
	Known   bool         // its transaction was refused: no log will ever hold it
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

// LogEntry is an entry of an entity's log, for people to read.
type LogEntry struct {
	Position payment.Position
	Words    Words
}

// Options configures a store.
type Options struct {
	Dir      string        // of an embedded one; "": in memory only, nothing is kept
	ReadOnly bool          // look at Dir beside its owner and change nothing: all that writes returns ErrReadOnly
	Owner    string        // the consumer group and the topics to which the store belongs
	Features []Feature     //
	Lateness time.Duration // a transaction later than this (by its record's Kafka time) enters no window
	// LateInMemory is how late a payment may be to be served from memory; for a
	// later one an embedded store reads the logs of its entities, unless these are
	// long: memory then holds all that Lateness needs.
	LateInMemory time.Duration
	// Keep is how far back logs reach at the least; a feature without a window
	// looks back so far.
	Keep time.Duration
	// KeepMarks is how long decisions are known by their transaction.
	KeepMarks time.Duration
	// Memory bounds what folds may take, in bytes.
	Memory int64
	// HotEvents is from how many events on an entity is hot: see hot.go.
	HotEvents int
	// ExactDistinct is how many distinct values are counted exactly.
	ExactDistinct int
	// SyncEvery is how often the journal is synced to the disk in the background.
	SyncEvery time.Duration
	// Files is where an embedded store writes; nil: the system's file system.
	Files disk.Files
	// SegmentBytes is when the journal begins another file.
	SegmentBytes int64
	// OnHealth is called when the store goes away, and when it is back, never twice at
	// the same time and by no call of the store. It must not close the store.
	OnHealth func(Health)
	// OnProgress is called now and then while the store reads its journal.
	OnProgress func(done, total int64)
}

func (o *Options) fillDefaults() {
	fill := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	fill(&o.Lateness, 7*24*time.Hour)
	fill(&o.LateInMemory, time.Hour)
	fill(&o.Keep, 90*24*time.Hour)
	fill(&o.SyncEvery, 20*time.Millisecond)
	if o.Files == nil {
		o.Files = disk.System{}
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 16 << 20
	}
	if o.Memory == 0 {
		o.Memory = 4 << 30
	}
	if o.HotEvents == 0 {
		o.HotEvents = 1 << 18
	}
	if o.ExactDistinct == 0 {
		o.ExactDistinct = 1 << 16
	}
}

// slack is kept beyond what late payments need, because payments may be ahead
// of Kafka's time.
const slack = 24 * time.Hour

// Errors of a store that cannot be used.
var (
	ErrLocked  = errors.New("another process uses this store")
	ErrOwner   = errors.New("the store belongs to another consumer group or to other topics")
	ErrCorrupt = errors.New("the journal is damaged")
	ErrVersion = errors.New("the journal was written by an earlier version; begin with an empty folder, earlier decisions are read from their topic")
)
