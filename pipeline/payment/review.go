package payment

import (
	"crypto/sha256"
	"encoding/hex"
)

// Append appends the review as one line of JSON without a line feed.
func (r *Review) Append(b []byte) []byte {
	b = append(b, `{"v":1`...)
	b = appendText(b, "review_id", r.ID)
	b = appendText(b, "transaction_id", r.TransactionID)
	b = appendText(b, "review", r.Kind.String())
	b = appendText(b, "label", r.Label)
	b = appendTime(b, "event_time", r.EventTime)
	b = appendObject(b, "payer", "account_id", r.PayerID)
	b = appendText(b, "reviewer", r.Reviewer)
	b = appendText(b, "note", r.Note)
	return append(b, '}')
}

// Identity names the review, so that the same one counts once: its review_id,
// or a hash of its content where it has none.
func (r *Review) Identity() string {
	if r.ID != "" {
		return r.ID
	}
	return contentID(r.Append(nil))
}

// Identity names the outcome, so that the same one counts once: its outcome_id,
// or a hash of its content where it has none.
func (o *Outcome) Identity() string {
	if o.ID != "" {
		return o.ID
	}
	return contentID(o.Append(nil))
}

// contentID is the first 16 bytes of SHA-256 over a record as we would write it.
func contentID(record []byte) string {
	sum := sha256.Sum256(record)
	return hex.EncodeToString(sum[:16])
}
