package payment

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
)

// NoticeKind says what happened to the payment that a payer is told about.
type NoticeKind uint8

// What payers are told about. An approval that was never in doubt is no news.
const (
	NoticeHeld     NoticeKind = iota + 1 // it waits for the payer or for a person
	NoticeBlocked                        // it was declined
	NoticeReleased                       // it waited, and goes on
	NoticeFailed                         // it was approved, and came to nothing
	NoticeRefunded                       // money comes back
)

var noticeKindNames = [...]string{"", "held", "blocked", "released", "failed", "refunded"}

// NoticeKindNames returns the closed set as it is written.
func NoticeKindNames() []string { return append([]string(nil), noticeKindNames[1:]...) }

// String returns the name as it is written.
func (k NoticeKind) String() string { return noticeKindNames[k] }

// UnmarshalText implements encoding.TextUnmarshaler. A name outside the closed
// set is a *Refusal.
func (k *NoticeKind) UnmarshalText(b []byte) error {
	return unmarshalName(b, k, noticeKindNames[:], "kind")
}

// Notice is a record of risk.notices: what a payer is told, in words that are
// safe to show. Append writes it and encoding/json reads it.
type Notice struct {
	V             int         `json:"v"`
	NoticeID      string      `json:"notice_id"` // the same for the same news: show it once
	TransactionID string      `json:"transaction_id"`
	Payer         NoticePayer `json:"payer"`
	Kind          NoticeKind  `json:"kind"`
	Code          string      `json:"code"`       // the payer_code: for the texts of an app of its own
	Language      string      `json:"language"`   // of the texts, BCP 47; "" where it is not known
	Message       string      `json:"message"`    // what happened
	Next          string      `json:"next"`       // what the payer can do; "" when nothing
	EventTime     Time        `json:"event_time"` // of the transaction, or of its outcome
}

// NoticePayer is whom a notice is for.
type NoticePayer struct {
	AccountID string `json:"account_id"`
}

// AppendDecisionNoticeID appends the hash that names the notice of a decision:
// the first 16 bytes, in hexadecimal, of SHA-256 over the decision id, a line
// feed, and the kind.
func AppendDecisionNoticeID(b []byte, decisionID string, kind NoticeKind) []byte {
	return appendNoticeID(b, append([]byte(decisionID), '\n'), kind)
}

// AppendOutcomeNoticeID appends the hash that names the notice of an outcome:
// the first 16 bytes, in hexadecimal, of SHA-256 over transaction id, outcome,
// outcome id, nanosecond and amount in minor units, each followed by a line
// feed, and the kind. Identical outcomes have one notice.
func AppendOutcomeNoticeID(b []byte, o *Outcome, kind NoticeKind) []byte {
	in := append([]byte(o.TransactionID), '\n')
	in = append(append(in, o.Kind.String()...), '\n')
	in = append(append(in, o.ID...), '\n')
	in = append(strconv.AppendInt(in, int64(o.EventTime), 10), '\n')
	in = append(strconv.AppendInt(in, o.Amount.Value, 10), '\n')
	return appendNoticeID(b, in, kind)
}

func appendNoticeID(b, of []byte, kind NoticeKind) []byte {
	sum := sha256.Sum256(append(of, kind.String()...))
	return hex.AppendEncode(b, sum[:16])
}

// Append appends the notice as one line of JSON, without a line feed: fields in
// the order of the contract, absent ones left out.
func (n *Notice) Append(b []byte) []byte {
	b = append(b, `{"v":1`...)
	b = appendText(b, "notice_id", n.NoticeID)
	b = appendText(b, "transaction_id", n.TransactionID)
	b = appendObject(b, "payer", "account_id", n.Payer.AccountID)
	b = appendText(b, "kind", n.Kind.String())
	b = appendText(b, "code", n.Code)
	b = appendText(b, "language", n.Language)
	b = appendText(b, "message", n.Message)
	b = appendText(b, "next", n.Next)
	return append(appendTime(b, "event_time", n.EventTime), '}')
}
