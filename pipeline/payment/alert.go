package payment

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
)

// Severity says how soon a person has to look at an alert.
type Severity uint8

// The severities, from the mildest on.
const (
	SeverityInfo     Severity = iota + 1 // in working hours
	SeverityWarning                      // today
	SeverityCritical                     // now: payments or verdicts suffer
)

var severityNames = [...]string{"", "info", "warning", "critical"}

// SeverityNames returns the closed set as it is written.
func SeverityNames() []string { return append([]string(nil), severityNames[1:]...) }

// String returns the name as it is written.
func (s Severity) String() string { return severityNames[s] }

// UnmarshalText implements encoding.TextUnmarshaler. A name outside the closed
// set is a *Refusal.
func (s *Severity) UnmarshalText(b []byte) error {
	return unmarshalName(b, s, severityNames[:], "severity")
}

// AlertState says whether an alert still holds.
type AlertState uint8

// The states of an alert.
const (
	AlertFiring AlertState = iota + 1
	AlertResolved
)

var alertStateNames = [...]string{"", "firing", "resolved"}

// AlertStateNames returns the closed set as it is written.
func AlertStateNames() []string { return append([]string(nil), alertStateNames[1:]...) }

// String returns the name as it is written.
func (s AlertState) String() string { return alertStateNames[s] }

// UnmarshalText implements encoding.TextUnmarshaler. A name outside the closed
// set is a *Refusal.
func (s *AlertState) UnmarshalText(b []byte) error {
	return unmarshalName(b, s, alertStateNames[:], "state")
}

// AlertCode is the closed set of what operations and analysts are told. Each
// has a page in deploy/runbooks.
type AlertCode uint8

// What is told. Some are states, which last until the gate says that they are
// over; the others are events (see Event).
const (
	AlertDegradedOperation AlertCode = iota + 1 // decisions lack something they normally use
	AlertDeadlineDefaults                       // payments get the policy's default instead of a verdict
	AlertRuleStorm                              // a rule stops far more than its usual share
	AlertIDConflict                             // an id came again with other content
	AlertHoldsExpiring                          // holds are about to expire
	AlertHoldsUnworked                          // holds wait and nobody works them
	AlertStoreAway                              // the store does not answer
	AlertStoreLost                              // the store has lost what it had
	AlertBrokerSettings                         // settings of the broker fall short
	AlertClockSkew                              // a clock is wrong
	AlertBadRuleset                             // a ruleset was refused; the last good one stays
	AlertControlRefused                         // a control could not be used
	AlertReviewRefused                          // a review could not be used
	AlertStrangeChannel                         // payments on a channel that the policy does not name
	AlertLedgerHole                             // the ledger's topic lacks decisions
	AlertMemberSkew                             // members work with different rulesets or settings
	AlertPayerFlood                             // a payer would have got too many notices
	AlertNoticesDropped                         // notices were given up
)

// alertKinds is what each code is, by code.
var alertKinds = [...]struct {
	name     string
	severity Severity
	event    bool
}{
	{},
	{"degraded_operation", SeverityWarning, false},
	{"deadline_defaults", SeverityCritical, false},
	{"rule_storm", SeverityCritical, false},
	{"id_conflict", SeverityWarning, true},
	{"holds_expiring", SeverityWarning, false},
	{"holds_unworked", SeverityWarning, false},
	{"store_away", SeverityCritical, false},
	{"store_lost", SeverityCritical, true},
	{"broker_settings", SeverityWarning, false},
	{"clock_skew", SeverityWarning, false},
	{"bad_ruleset", SeverityWarning, false},
	{"control_refused", SeverityWarning, true},
	{"review_refused", SeverityWarning, true},
	{"strange_channel", SeverityInfo, true},
	{"ledger_hole", SeverityCritical, true},
	{"member_skew", SeverityWarning, false},
	{"payer_flood", SeverityInfo, true},
	{"notices_dropped", SeverityWarning, true},
}

// AlertCodes returns the closed set, in the order in which it is documented.
func AlertCodes() []AlertCode {
	all := make([]AlertCode, 0, len(alertKinds)-1)
	for c := AlertDegradedOperation; int(c) < len(alertKinds); c++ {
		all = append(all, c)
	}
	return all
}

// String returns the code as it is written.
func (c AlertCode) String() string { return alertKinds[c].name }

// Severity returns how soon a person has to look at it.
func (c AlertCode) Severity() Severity { return alertKinds[c].severity }

// Event tells that the code reports something that happened, such as a record
// that was refused: nobody says when it is over, and it is over when it has not
// happened again for a while. The others are states.
func (c AlertCode) Event() bool { return alertKinds[c].event }

// UnmarshalText implements encoding.TextUnmarshaler. A name outside the closed
// set is a *Refusal.
func (c *AlertCode) UnmarshalText(b []byte) error {
	for _, known := range AlertCodes() {
		if known.String() == string(b) {
			*c = known
			return nil
		}
	}
	return &Refusal{Reason: ReasonWrongType, Field: "code"}
}

// Alert is a record of risk.alerts. Append writes it and encoding/json reads it.
type Alert struct {
	V         int        `json:"v"`
	AlertID   string     `json:"alert_id"` // the same from the first record to the one that says resolved
	Severity  Severity   `json:"severity"`
	Code      AlertCode  `json:"code"`
	Summary   string     `json:"summary"`   // one line for people
	Since     Time       `json:"since"`     // when it began
	Member    string     `json:"member"`    // who says so
	Partition Count      `json:"partition"` // of payments.transactions, where it concerns one
	Runbook   string     `json:"runbook"`   // path or URL of the page that says what to do
	State     AlertState `json:"state"`
}

// AppendAlertID appends the hash that names an alert: the first 16 bytes, in
// hexadecimal, of SHA-256 over the code, the member, what it is about, the
// partition (-1 for none) and the nanosecond of its beginning, each but the last
// followed by a line feed. about is "" unless the code can concern several
// things at once, such as rules.
func AppendAlertID(b []byte, code AlertCode, member, about string, partition int, since Time) []byte {
	in := append([]byte(code.String()), '\n')
	in = append(append(in, member...), '\n')
	in = append(append(in, about...), '\n')
	in = append(strconv.AppendInt(in, int64(partition), 10), '\n')
	in = strconv.AppendInt(in, int64(since), 10)
	sum := sha256.Sum256(in)
	return hex.AppendEncode(b, sum[:16])
}

// Append appends the alert as one line of JSON, without a line feed: fields in
// the order of the contract, absent ones left out.
func (a *Alert) Append(b []byte) []byte {
	b = append(b, `{"v":1`...)
	b = appendText(b, "alert_id", a.AlertID)
	b = appendText(b, "severity", a.Severity.String())
	b = appendText(b, "code", a.Code.String())
	b = appendText(b, "summary", a.Summary)
	b = appendTime(b, "since", a.Since)
	b = appendText(b, "member", a.Member)
	if a.Partition.Present {
		b = appendInt(b, "partition", int64(a.Partition.N))
	}
	b = appendText(b, "runbook", a.Runbook)
	return append(appendText(b, "state", a.State.String()), '}')
}

// unmarshalName reads one of the names of a closed set whose index 0 is the absent value.
func unmarshalName[T ~uint8](b []byte, to *T, names []string, field string) error {
	got, ok := parseName[T](string(b), names)
	if !ok {
		return &Refusal{Reason: ReasonWrongType, Field: field}
	}
	*to = got
	return nil
}
