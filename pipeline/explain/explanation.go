// Package explain says why one payment was decided as it was: which rules were
// true and by which values, which events stand behind these values, and how far
// the nearest other rules were from firing.
//
// An Explanation is one structure with two readers: Write prints it, and as JSON
// it is what a page shows. What rules came to is found where rules are compiled
// (rules.Tracer), what stands behind a feature where its log is
// (window.Embedded.Behind); here both are put together for one transaction of a
// replay.
package explain

import (
	"encoding/json"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/rules"
)

// Explanation is why a transaction was decided as it was.
type Explanation struct {
	Transaction string       `json:"transaction_id"`
	Occurrences []Occurrence `json:"occurrences"` // its records, in the order of the file
	// Decision is revision 1 as it was published, without evidence; absent where
	// there was none.
	Decision   json.RawMessage `json:"decision,omitempty"`
	Amount     string          `json:"amount,omitempty"`      // as sent, for people
	BaseAmount string          `json:"base_amount,omitempty"` // in the base currency; "" without a rate
	Duplicate  *Duplicate      `json:"duplicate,omitempty"`   // the earlier payment that it repeats
	Trace      *rules.Trace    `json:"trace,omitempty"`       // absent where no rules were asked
	Features   []Feature       `json:"features,omitempty"`    // those of the ruleset's files, in their order
	Controls   []Control       `json:"controls,omitempty"`    // that took part, where the file has their records
	Revisions  []Revision      `json:"revisions,omitempty"`   // that came later
	Heard      []Heard         `json:"heard,omitempty"`       // outcomes and reviews that name it
}

// Occurrence is one record of the transaction.
type Occurrence struct {
	Line   int64          `json:"line"` // of the file, from 1
	Came   string         `json:"came"` // decided; repeated: the same decision again; refused
	Reason payment.Reason `json:"reason,omitempty"`
	Field  string         `json:"field,omitempty"`
}

// Duplicate is the earlier payment that a transaction repeats.
type Duplicate struct {
	Transaction string       `json:"transaction_id,omitempty"`
	EventTime   payment.Time `json:"event_time"`
}

// Feature is the value that one feature had, and the events behind it.
type Feature struct {
	Feature string        `json:"feature"`          // its full name
	About   string        `json:"about"`            // count over 10m
	Entity  string        `json:"entity"`           // card
	ID      string        `json:"id,omitempty"`     // c-7f; "" where the payment names none
	Value   payment.Value `json:"value"`            // null where it is absent, or an identifier; money in minor units
	Shown   string        `json:"shown,omitempty"`  // for people
	Absent  string        `json:"absent,omitempty"` // why it has no value, in words
	// The window is (From, To].
	From payment.Time `json:"from,omitzero"`
	To   payment.Time `json:"to,omitzero"`

	Events []Event `json:"events,omitempty"` // that took part, the latest first
	More   int     `json:"more,omitempty"`   // that took part and are not listed
	// Values are those that distinct found, the most frequent first.
	Values     []ValueCount `json:"values,omitempty"`
	MoreValues int          `json:"more_values,omitempty"`

	LeftOut     int      `json:"left_out,omitempty"` // events of the window that its where, or an outage, leaves out
	NoRate      int      `json:"no_rate,omitempty"`  // that have no amount in the base currency
	NoValue     int      `json:"no_value,omitempty"` // that do not say what distinct looks at
	Approximate string   `json:"approximate,omitempty"`
	Rules       []string `json:"rules,omitempty"` // that look at it, of those that apply
}

// Event is one event behind a value.
type Event struct {
	Time        payment.Time `json:"time"`
	Position    string       `json:"position"` // segment/offset in the log
	Transaction string       `json:"transaction_id"`
	Amount      string       `json:"amount"`           // as sent, for people
	Base        string       `json:"base,omitempty"`   // in the base currency where that is another one; "" without a rate
	Status      string       `json:"status,omitempty"` // where the feature looks at it
	Value       string       `json:"value,omitempty"`  // what distinct and last look at; of share, whether its condition holds
	Own         bool         `json:"own,omitempty"`    // it is the transaction itself

	amount int64 // minor units of the base currency, if based
	based  bool
}

// ValueCount is one of the values that distinct found.
type ValueCount struct {
	Value  string `json:"value"`
	Events int    `json:"events"`
}

// Control is something that people changed at run time.
type Control struct {
	Control   string       `json:"control_id"`
	Kind      string       `json:"control"`
	About     string       `json:"about,omitempty"` // the rule, or the list and the value
	By        string       `json:"by,omitempty"`
	Why       string       `json:"why,omitempty"`
	EventTime payment.Time `json:"event_time"`
	Until     payment.Time `json:"until,omitzero"`
	Line      int64        `json:"line"`
}

// Revision is a later revision of the decision.
type Revision struct {
	Revision  int             `json:"revision"`
	Verdict   payment.Verdict `json:"verdict"`
	Source    payment.Source  `json:"source"`
	Final     bool            `json:"final"`
	DecidedAt payment.Time    `json:"decided_at"`
}

// Heard is an outcome or a review of the transaction.
type Heard struct {
	Line      int64          `json:"line"`
	What      string         `json:"what"` // settled, release, …
	EventTime payment.Time   `json:"event_time"`
	Reason    payment.Reason `json:"reason,omitempty"` // why it could not be used
}
