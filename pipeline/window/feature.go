package window

import (
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Truth is a truth value of three-valued logic, as in SQL.
type Truth uint8

// The truth values.
const (
	False Truth = iota
	True
	Unknown
)

// TruthOf converts a boolean.
func TruthOf(b bool) Truth {
	if b {
		return True
	}
	return False
}

// Not is True for False, False for True, and Unknown for Unknown.
func (t Truth) Not() Truth { return [...]Truth{True, False, Unknown}[t] }

// Aggregate is how the events of a window become one value.
type Aggregate uint8

// The aggregates. Count to SinceFirst include the transaction itself; Last to
// SpeedKMH look at the events before it.
const (
	Count Aggregate = iota
	Sum
	Avg
	Min
	Max
	StdDev
	Distinct
	Share
	SinceFirst
	Last
	SinceLast
	SpeedKMH
	earlier // fills Item.Earlier: see EarlierCharges
)

var aggregateNames = [...]string{"count", "sum", "avg", "min", "max", "stddev", "distinct", "share", "since_first", "last", "since_last", "speed_kmh", "earlier"}

// AggregateNames returns the names as feature files write them; distinct, share
// and last take an argument in parentheses.
func AggregateNames() []string { return append([]string(nil), aggregateNames[:earlier]...) }

// ParseAggregate returns the aggregate of a name.
func ParseAggregate(name string) (Aggregate, bool) {
	for a, n := range aggregateNames[:earlier] {
		if n == name {
			return Aggregate(a), true
		}
	}
	return 0, false
}

// String returns the name as feature files write it.
func (a Aggregate) String() string { return aggregateNames[a] }

// Calendar is a window that begins at local midnight instead of having a length.
type Calendar uint8

// The calendar windows.
const (
	NotCalendar   Calendar = iota
	CalendarDay            // since the last local midnight
	CalendarMonth          // since local midnight of the first of the month
)

// Predicate judges one event of a log as of one moment.
type Predicate func(*Event) Truth

// Feature is one named number about an entity: an aggregate over a window.
type Feature struct {
	Entity    Entity
	Name      string         // with the window, without the entity: attempts_10m
	Aggregate Aggregate      //
	Field     *Field         // of Distinct and Last
	Length    time.Duration  // of the window; 0 with NotCalendar: as far as the log reaches
	Calendar  Calendar       //
	Location  *time.Location // of a calendar window
	Delay     time.Duration  // how long before the transaction the window ends
	Where     Predicate      // which events count; nil: all. Unknown does not count
	Condition Predicate      // of Share
	Within    time.Duration  // of EarlierCharges
	// The predicates look at facts that change after the event: its status (with
	// the fraud label) or its verdict.
	ReadsStatus, ReadsVerdict bool
}

// FullName is the name by which rules read the feature: card.attempts_10m.
func (f *Feature) FullName() string { return f.Entity.String() + "." + f.Name }

// Type tells what the feature's value is where it is present, and whether it is
// an amount in minor units of the base currency. Count, Distinct are Int; Sum,
// Min, Max are Int money; Avg and StdDev are Float money; Share, SinceFirst,
// SinceLast (seconds), SpeedKMH are Float; Last has the type of its field.
func (f *Feature) Type() (kind payment.ValueKind, money bool) {
	switch f.Aggregate {
	case Count, Distinct:
		return payment.Int, false
	case Sum, Min, Max:
		return payment.Int, true
	case Avg, StdDev:
		return payment.Float, true
	case Last:
		return f.Field.Kind, f.Field.Money
	}
	return payment.Float, false
}

// Reach is how far back from a transaction the feature looks at the most.
func (f *Feature) Reach() time.Duration {
	switch f.Calendar {
	case CalendarDay:
		return f.Delay + 25*time.Hour
	case CalendarMonth:
		return f.Delay + 31*24*time.Hour + time.Hour
	}
	return f.Delay + f.Length
}
