package payment

import "fmt"

// Reason names one way in which a record cannot be used. The set is closed: it
// is the label of the refusal metric and the `reason` header of a dead letter.
type Reason string

// The reasons for which a record is refused.
const (
	ReasonEmpty            Reason = "empty"             // no bytes, or white space only
	ReasonTooLarge         Reason = "too_large"         // more bytes than Limits.RecordBytes
	ReasonNotJSON          Reason = "not_json"          // not one JSON object
	ReasonInvalidUTF8      Reason = "invalid_utf8"      // a byte sequence or escape that is no character
	ReasonTooDeep          Reason = "too_deep"          // objects or arrays nested deeper than 16
	ReasonDuplicateKey     Reason = "duplicate_key"     // one name twice in one object
	ReasonMissingField     Reason = "missing_field"     // a required field is absent, null or ""
	ReasonWrongType        Reason = "wrong_type"        // a string where a number belongs, and so on
	ReasonUnknownVersion   Reason = "unknown_version"   // `v` is not 1
	ReasonUnknownType      Reason = "unknown_type"      // `type` is outside its closed set
	ReasonMalformedChannel Reason = "malformed_channel" // not a short identifier
	ReasonAmountNegative   Reason = "amount_negative"   // below zero
	ReasonAmountOverflow   Reason = "amount_overflow"   // above 2^63-1 minor units
	ReasonUnknownCurrency  Reason = "unknown_currency"  // no active ISO 4217 code
	ReasonBadTime          Reason = "bad_time"          // not an RFC 3339 time with an offset
	ReasonFutureTime       Reason = "future_time"       // later than the record's Kafka time allows
	ReasonDecideByEarly    Reason = "decide_by_early"   // decide_by before event_time
	ReasonBadCountry       Reason = "bad_country"       // no ISO 3166-1 alpha-2 code
	ReasonBadIP            Reason = "bad_ip"            // neither IPv4 nor IPv6
	ReasonBadLocation      Reason = "bad_location"      // latitude or longitude out of range
	ReasonTooLong          Reason = "too_long"          // an identifier or text over its length
	ReasonControlCharacter Reason = "control_character" // an identifier holds one
	ReasonTooManyFields    Reason = "too_many_fields"   // more attributes or list items than the contract allows
	ReasonUnknownOutcome   Reason = "unknown_outcome"   // `outcome` is outside its closed set
	ReasonUnknownReview    Reason = "unknown_review"    // `review` or its label is outside its closed set
	ReasonUnknownControl   Reason = "unknown_control"   // `control` or a name in its match is outside its closed set
	ReasonUntilEarly       Reason = "until_early"       // `until` is not after `from` or `effective_at`
	ReasonExpired          Reason = "expired"           // a control that had ended when it came
	ReasonBadHash          Reason = "bad_hash"          // no hash of a ruleset
	ReasonOlderThanLedger  Reason = "older_than_ledger" // could have been decided and forgotten
	ReasonIDConflict       Reason = "id_conflict"       // the id was decided with other content
	ReasonUnmatched        Reason = "unmatched"         // an outcome or review whose transaction never came
	ReasonNotHeld          Reason = "not_held"          // a review of a transaction that was never on hold
	ReasonNotNeeded        Reason = "not_needed"        // a release of a hold that waits for no review
	ReasonAfterEnd         Reason = "after_end"         // a review or step-up of a hold that has ended
)

// Reasons returns the closed set, in the order in which it is documented.
func Reasons() []Reason {
	return []Reason{ReasonEmpty, ReasonTooLarge, ReasonNotJSON, ReasonInvalidUTF8, ReasonTooDeep, ReasonDuplicateKey,
		ReasonMissingField, ReasonWrongType, ReasonUnknownVersion, ReasonUnknownType, ReasonMalformedChannel,
		ReasonAmountNegative, ReasonAmountOverflow, ReasonUnknownCurrency, ReasonBadTime, ReasonFutureTime,
		ReasonDecideByEarly, ReasonBadCountry, ReasonBadIP, ReasonBadLocation, ReasonTooLong, ReasonControlCharacter,
		ReasonTooManyFields, ReasonUnknownOutcome, ReasonUnknownReview, ReasonUnknownControl, ReasonUntilEarly,
		ReasonExpired, ReasonBadHash, ReasonOlderThanLedger, ReasonIDConflict, ReasonUnmatched, ReasonNotHeld, ReasonNotNeeded, ReasonAfterEnd}
}

// Refusal says why a record cannot be used: the reason and the field that it
// concerns ("" where it concerns the record as a whole).
type Refusal struct {
	Reason Reason
	Field  string
}

// Error implements error.
func (r *Refusal) Error() string {
	if r.Field == "" {
		return string(r.Reason)
	}
	return fmt.Sprintf("%s: %s", r.Field, r.Reason)
}
