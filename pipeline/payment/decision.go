package payment

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Verdict is what happens to a payment, ordered by strictness. Zero means absent.
type Verdict uint8

// The verdicts, from the mildest to the strictest.
const (
	Approve Verdict = iota + 1
	Hold
	Block
)

var verdictNames = [...]string{"", "approve", "hold", "block"}

// ParseVerdict returns the verdict of a name.
func ParseVerdict(name string) (Verdict, bool) { return parseName[Verdict](name, verdictNames[:]) }

// String returns the name as it is written.
func (v Verdict) String() string { return verdictNames[v] }

// MarshalText implements encoding.TextMarshaler.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (v *Verdict) UnmarshalText(b []byte) error {
	got, ok := ParseVerdict(string(b))
	if !ok {
		return &Refusal{Reason: ReasonWrongType, Field: "verdict"}
	}
	*v = got
	return nil
}

// Source says what made a decision.
type Source string

// The sources of a decision.
const (
	SourceRules           Source = "rules"
	SourceModel           Source = "model"
	SourceList            Source = "list"
	SourceDuplicate       Source = "duplicate"
	SourceInvalid         Source = "invalid"
	SourceDefaultDeadline Source = "default_deadline"
	SourceDefaultError    Source = "default_error"
	SourceReview          Source = "review"
	SourceStepUp          Source = "step_up"
	SourceExpiry          Source = "expiry"
)

// What a decision can lack, as `degraded` says it.
const (
	DegradedLate       = "late"        // too late for every window: it entered none
	DegradedBehind     = "behind"      // some lane is far back: values are as of what was known
	DegradedRuleFailed = "rule_failed" // a rule met an error and took no part
	// The ladder of what is left when the store is away, or is slower than the deadline.
	DegradedStale      = "stale_features" // windows are as this member has them in memory
	DegradedNoFeatures = "no_features"    // the windows of some entity, or of all, could not be had
	// DegradedUnshared: the store could not be asked whether another member had
	// decided this transaction before.
	DegradedUnshared = "unshared"
)

// DegradedNames returns everything that a decision can lack.
func DegradedNames() []string {
	return []string{DegradedLate, DegradedBehind, DegradedRuleFailed, DegradedStale, DegradedNoFeatures, DegradedUnshared}
}

// Sources returns all sources of a decision.
func Sources() []Source {
	return []Source{SourceRules, SourceModel, SourceList, SourceDuplicate, SourceInvalid, SourceDefaultDeadline, SourceDefaultError, SourceReview, SourceStepUp, SourceExpiry}
}

// DecisionReason is one cause of a verdict.
type DecisionReason struct {
	Code   string `json:"code"`   // stable
	Rule   string `json:"rule"`   // the rule's id
	Points int    `json:"points"` // that the rule gave
	Detail string `json:"detail"` // for people, with the values seen
}

// HoldTerms says what a held payment waits for.
type HoldTerms struct {
	Needs     []string `json:"needs"`   // step_up, review
	Methods   []string `json:"methods"` // of the step-up
	ExpiresAt Time     `json:"expires_at"`
	OnExpiry  Verdict  `json:"on_expiry"`
}

// Settled names what made a later revision. One of its IDs is set, or none for an expiry.
type Settled struct {
	ReviewID  string `json:"review_id"`
	Reviewer  string `json:"reviewer"`
	Label     string `json:"label"` // fraud, genuine, unknown
	OutcomeID string `json:"outcome_id"`
	Outcome   string `json:"outcome"` // step_up_passed, step_up_failed
}

// Summary is the part of a transaction that its decision repeats.
type Summary struct {
	Type       string `json:"type"`
	Channel    string `json:"channel"`
	Amount     Amount `json:"amount"`
	Payer      string `json:"payer"`
	Payee      string `json:"payee"`
	Instrument string `json:"instrument"`
	Device     string `json:"device"`
	OrderID    string `json:"order_id"`
}

// Amount is Money as it is written; Currency 0 means absent.
type Amount struct {
	Value    int64    `json:"value"`
	Currency Currency `json:"currency"`
}

// Versions names what a decision was made with.
type Versions struct {
	Rules string `json:"rules"`
	Model string `json:"model"`
	Rates string `json:"rates"`
}

// ShadowResult is what a shadow rule would have done.
type ShadowResult struct {
	Rule    string  `json:"rule"`
	Verdict Verdict `json:"verdict"`
}

// Decision is one revision of what was decided about a transaction. Append
// writes it and encoding/json reads it; a lane reuses one, with its slices.
type Decision struct {
	V             int              `json:"v"`
	DecisionID    string           `json:"decision_id"` // DecisionID(TransactionID, Revision); Append computes it
	TransactionID string           `json:"transaction_id"`
	Revision      int              `json:"revision"` // from 1
	Verdict       Verdict          `json:"verdict"`
	Source        Source           `json:"source"`
	Final         bool             `json:"final"`    // no later revision is expected
	Corrects      Source           `json:"corrects"` // of a later revision: the source of the one that was no real verdict
	Points        Count            `json:"points"`   // of the rules
	Score         Count            `json:"score"`    // of the model, 0 to 100
	Reasons       []DecisionReason `json:"reasons"`
	PayerCode     string           `json:"payer_code"`
	PayerMessage  string           `json:"payer_message"`
	Hold          HoldTerms        `json:"hold"`       // of a hold only
	SettledBy     Settled          `json:"settled_by"` // of a later revision of a hold
	Transaction   Summary          `json:"transaction"`
	EventTime     Time             `json:"event_time"`
	ReceivedAt    Time             `json:"received_at"` // the record's Kafka time, cut back to the member's clock
	DecidedAt     Time             `json:"decided_at"`
	DecideBy      Time             `json:"decide_by"`
	Degraded      []string         `json:"degraded"`
	Versions      Versions         `json:"versions"`
	Evidence      Evidence         `json:"evidence"`
	Shadow        []ShadowResult   `json:"shadow"`
}

// Count is a number that may be absent, which is not zero.
type Count struct {
	N       int
	Present bool
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *Count) UnmarshalJSON(b []byte) error {
	c.Present = true
	return json.Unmarshal(b, &c.N)
}

// Evidence is what a decision rests on.
type Evidence struct {
	Features    NamedValues        `json:"features"`    // the features that are present, by full name
	Positions   PositionList       `json:"positions"`   // the transaction's place in the log of each of its entities
	Approximate []ApproximateValue `json:"approximate"` // the features among them that are not exact
	Unknown     []string           `json:"unknown"`     // rules that met an absent value and did not fire
	Failed      []string           `json:"failed"`      // rules that met an error and took no part
	Exempt      []string           `json:"exempt"`      // exempts that switched off a rule that was true
	Controls    []string           `json:"controls"`    // ids of the controls that took part
}

func (e *Evidence) empty() bool {
	return len(e.Features) == 0 && len(e.Positions) == 0 && len(e.Approximate) == 0 && len(e.Unknown) == 0 && len(e.Failed) == 0 &&
		len(e.Exempt) == 0 && len(e.Controls) == 0
}

// Clear empties e and keeps its slices.
func (e *Evidence) Clear() {
	*e = Evidence{e.Features[:0], e.Positions[:0], e.Approximate[:0], e.Unknown[:0], e.Failed[:0], e.Exempt[:0], e.Controls[:0]}
}

// NamedValue is a value under its full name, such as card.attempts_10m.
type NamedValue struct {
	Name  string
	Value Value
}

// NamedValues is an object of values that keeps its order.
type NamedValues []NamedValue

// UnmarshalJSON implements json.Unmarshaler.
func (n *NamedValues) UnmarshalJSON(b []byte) error {
	return eachField(b, func(name string, dec *json.Decoder) error {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return err
		}
		var v Value
		if err := v.UnmarshalJSON(raw); err != nil {
			return err
		}
		*n = append(*n, NamedValue{name, v})
		return nil
	})
}

// EntityPosition is the place of a transaction in the log of one of its entities.
type EntityPosition struct {
	Kind, ID string // card, c-7f
	Position Position
}

// PositionList is the object "kind:id" to "segment/offset".
type PositionList []EntityPosition

// UnmarshalJSON implements json.Unmarshaler.
func (l *PositionList) UnmarshalJSON(b []byte) error {
	return eachField(b, func(name string, dec *json.Decoder) error {
		var text string
		if err := dec.Decode(&text); err != nil {
			return err
		}
		kind, id, _ := strings.Cut(name, ":")
		p := EntityPosition{Kind: kind, ID: id}
		_, err := fmt.Sscanf(text, "%d/%d", &p.Position.Segment, &p.Position.Offset)
		*l = append(*l, p)
		return err
	})
}

// Position is a place in a log: entries are ordered by segment, then offset.
type Position struct {
	Segment uint32
	Offset  uint64
}

// Before reports whether p comes before q.
func (p Position) Before(q Position) bool {
	return p.Segment < q.Segment || p.Segment == q.Segment && p.Offset < q.Offset
}

// ApproximateValue says how far a feature can be from exact, and why.
type ApproximateValue struct {
	Feature    string        // its full name, as in Evidence.Features
	Method     string        // hyperloglog, tiles
	Error      float64       // the standard error as a share of the value, above 0; 0 when absent
	Resolution time.Duration // what a border of the window is rounded to, above 0; 0 when absent
}

// UnmarshalJSON implements json.Unmarshaler.
func (a *ApproximateValue) UnmarshalJSON(b []byte) error {
	var written struct {
		Feature    string  `json:"feature"`
		Method     string  `json:"method"`
		Error      float64 `json:"error"`
		Resolution string  `json:"resolution"`
	}
	if err := json.Unmarshal(b, &written); err != nil {
		return err
	}
	*a = ApproximateValue{Feature: written.Feature, Method: written.Method, Error: written.Error}
	if written.Resolution == "" {
		return nil
	}
	var err error
	a.Resolution, err = time.ParseDuration(written.Resolution)
	return err
}

func (a *ApproximateValue) append(b []byte) []byte {
	b = appendText(append(b, '{'), "feature", a.Feature)
	b = appendText(b, "method", a.Method)
	if a.Error != 0 {
		b = appendFloat(appendKey(b, "error"), a.Error)
	}
	if a.Resolution != 0 {
		b = appendText(b, "resolution", a.Resolution.String())
	}
	return append(b, '}')
}

// eachField reads an object in its order.
func eachField(b []byte, field func(name string, dec *json.Decoder) error) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return errors.Join(err, errors.New("not an object"))
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return err
		}
		if err := field(name.(string), dec); err != nil {
			return err
		}
	}
	return nil
}

// Reset empties d and keeps its slices.
func (d *Decision) Reset() {
	d.Evidence.Clear()
	*d = Decision{V: 1, Revision: 1, Reasons: d.Reasons[:0], Degraded: d.Degraded[:0], Shadow: d.Shadow[:0], Evidence: d.Evidence,
		Hold: HoldTerms{Needs: d.Hold.Needs[:0], Methods: d.Hold.Methods[:0]}}
}

// SummaryOf is the part of t that its decision repeats.
func SummaryOf(t *Transaction) Summary {
	amount := Amount{t.Amount.Value, t.Amount.Currency}
	if amount.Currency == 0 {
		amount.Value = 0 // not written, and so not read back
	}
	return Summary{Type: t.Type.String(), Channel: t.Channel, Amount: amount,
		Payer: t.Payer.AccountID, Payee: t.Payee.AccountID, Instrument: t.Instrument.Token, Device: t.Device.ID, OrderID: t.OrderID}
}

// AppendDecisionID appends the hash that names a revision: the first 16 bytes,
// in hexadecimal, of SHA-256 over the transaction id, a line feed, and the
// revision in decimal.
func AppendDecisionID(b []byte, transactionID string, revision int) []byte {
	var buf [maxID*4 + 24]byte
	in := append(buf[:0], transactionID...)
	in = append(in, '\n')
	in = strconv.AppendInt(in, int64(revision), 10)
	sum := sha256.Sum256(in)
	return hex.AppendEncode(b, sum[:16])
}

// Append appends the decision as one line of JSON, without a line feed: fields
// in the order of the contract, absent ones left out.
func (d *Decision) Append(b []byte) []byte {
	b = append(b, `{"v":1,"decision_id":"`...)
	b = AppendDecisionID(b, d.TransactionID, d.Revision)
	b = appendText(append(b, '"'), "transaction_id", d.TransactionID)
	b = appendInt(b, "revision", int64(d.Revision))
	b = appendText(b, "verdict", d.Verdict.String())
	b = appendText(b, "source", string(d.Source))
	b = strconv.AppendBool(append(b, `,"final":`...), d.Final)
	b = appendText(b, "corrects", string(d.Corrects))
	if d.Points.Present {
		b = appendInt(b, "points", int64(d.Points.N))
	}
	if d.Score.Present {
		b = appendInt(b, "score", int64(d.Score.N))
	}
	if len(d.Reasons) > 0 {
		b = append(b, `,"reasons":[`...)
		for i := range d.Reasons {
			r := &d.Reasons[i]
			b = append(b, `{"code":`...)
			b = appendString(b, r.Code)
			b = appendText(b, "rule", r.Rule)
			if r.Points != 0 {
				b = appendInt(b, "points", int64(r.Points))
			}
			b = append(appendText(b, "detail", r.Detail), '}', ',')
		}
		b[len(b)-1] = ']'
	}
	b = appendText(b, "payer_code", d.PayerCode)
	b = appendText(b, "payer_message", d.PayerMessage)
	if d.Verdict == Hold {
		b = appendList(append(b, `,"hold":{`...), "needs", d.Hold.Needs)
		if len(d.Hold.Methods) > 0 {
			b = appendList(append(b, ','), "methods", d.Hold.Methods)
		}
		b = appendTime(b, "expires_at", d.Hold.ExpiresAt)
		b = append(appendText(b, "on_expiry", d.Hold.OnExpiry.String()), '}')
	}
	if by := &d.SettledBy; *by != (Settled{}) {
		b = append(b, `,"settled_by":{`...)
		b = appendText(b, "review_id", by.ReviewID)
		b = appendText(b, "reviewer", by.Reviewer)
		b = appendText(b, "label", by.Label)
		b = appendText(b, "outcome_id", by.OutcomeID)
		b = append(appendText(b, "outcome", by.Outcome), '}')
	}
	b = d.Transaction.append(append(b, `,"transaction":`...))
	b = appendTime(b, "event_time", d.EventTime)
	b = appendTime(b, "received_at", d.ReceivedAt)
	b = appendTime(b, "decided_at", d.DecidedAt)
	b = appendTime(b, "decide_by", d.DecideBy)
	if len(d.Degraded) > 0 {
		b = appendList(append(b, ','), "degraded", d.Degraded)
	}
	b = append(b, `,"versions":{`...)
	b = appendText(b, "rules", d.Versions.Rules)
	b = appendText(b, "model", d.Versions.Model)
	b = append(appendText(b, "rates", d.Versions.Rates), '}')
	if !d.Evidence.empty() {
		b = d.Evidence.append(append(b, `,"evidence":`...))
	}
	if len(d.Shadow) > 0 {
		b = append(b, `,"shadow":[`...)
		for i := range d.Shadow {
			b = appendText(append(b, '{'), "rule", d.Shadow[i].Rule)
			b = append(appendText(b, "verdict", d.Shadow[i].Verdict.String()), '}', ',')
		}
		b[len(b)-1] = ']'
	}
	return append(b, '}')
}

func (s *Summary) append(b []byte) []byte {
	b = appendText(append(b, '{'), "type", s.Type)
	b = appendText(b, "channel", s.Channel)
	if s.Amount.Currency != 0 {
		b = appendInt(appendName(b, "amount", '{'), "value", s.Amount.Value)
		b = append(appendText(b, "currency", s.Amount.Currency.String()), '}')
	}
	b = appendText(b, "payer", s.Payer)
	b = appendText(b, "payee", s.Payee)
	b = appendText(b, "instrument", s.Instrument)
	b = appendText(b, "device", s.Device)
	return append(appendText(b, "order_id", s.OrderID), '}')
}

func (e *Evidence) append(b []byte) []byte {
	b = append(b, '{')
	if len(e.Features) > 0 {
		b = appendName(b, "features", '{')
		for i := range e.Features {
			b = e.Features[i].Value.AppendJSON(appendKey(b, e.Features[i].Name))
		}
		b = append(b, '}')
	}
	if len(e.Positions) > 0 {
		b = appendName(b, "positions", '{')
		for i := range e.Positions {
			p := &e.Positions[i]
			b = append(comma(b), '"')
			b = append(appendEscaped(append(append(b, p.Kind...), ':'), p.ID), '"', ':', '"')
			b = append(strconv.AppendUint(b, uint64(p.Position.Segment), 10), '/')
			b = append(strconv.AppendUint(b, p.Position.Offset, 10), '"')
		}
		b = append(b, '}')
	}
	if len(e.Approximate) > 0 {
		b = appendName(b, "approximate", '[')
		for i := range e.Approximate {
			b = e.Approximate[i].append(comma(b))
		}
		b = append(b, ']')
	}
	if len(e.Unknown) > 0 {
		b = appendList(comma(b), "unknown", e.Unknown)
	}
	if len(e.Failed) > 0 {
		b = appendList(comma(b), "failed", e.Failed)
	}
	if len(e.Exempt) > 0 {
		b = appendList(comma(b), "exempt", e.Exempt)
	}
	if len(e.Controls) > 0 {
		b = appendList(comma(b), "controls", e.Controls)
	}
	return append(b, '}')
}
