package payment

import "net/netip"

// Type is the closed set of transaction types. Zero means absent.
type Type uint8

// The types of a transaction.
const (
	TypePayment Type = iota + 1
	TypeTransfer
	TypeWithdrawal
	TypeTopUp
	TypeRefund
)

var typeNames = [...]string{"", "payment", "transfer", "withdrawal", "top_up", "refund"}

// TypeNames returns the closed set as it is written.
func TypeNames() []string { return append([]string(nil), typeNames[1:]...) }

// ParseType returns the type of a name.
func ParseType(name string) (Type, bool) { return parseName[Type](name, typeNames[:]) }

// String returns the name as it is written.
func (t Type) String() string { return typeNames[t] }

// parseName finds a name in a table whose index 0 is the absent value.
func parseName[T ~uint8](name string, names []string) (T, bool) {
	for i := 1; i < len(names); i++ {
		if names[i] == name {
			return T(i), true
		}
	}
	return 0, false
}

// Accepts says what the caller can do with a verdict besides settling or declining.
type Accepts uint8

// What a caller can do. AcceptsStated marks that the field was sent at all:
// without it the caller can do everything.
const (
	AcceptsStated Accepts = 1 << iota
	AcceptsHold
	AcceptsStepUp
)

// CanHold reports whether the caller can hold a payment.
func (a Accepts) CanHold() bool { return a&AcceptsStated == 0 || a&AcceptsHold != 0 }

// CanStepUp reports whether the caller can ask the payer for another proof.
func (a Accepts) CanStepUp() bool { return a&AcceptsStated == 0 || a&AcceptsStepUp != 0 }

// Attribute is one entry of the free attributes of a transaction.
type Attribute struct{ Name, Value string }

// Transaction is one payment attempt, decoded and checked. Absent strings are
// "". Its strings may point into the record that it was decoded from (or into
// the decoder): it is valid until that record or decoder is used again.
type Transaction struct {
	ID        string
	Type      Type
	Channel   string // a short identifier; "" when absent
	EventTime Time
	DecideBy  Time // absent: the policy's time for the type
	Amount    Money
	OrderID   string
	Payer     struct{ AccountID, Country, Email, Phone string }
	Payee     struct{ AccountID, MerchantID, MCC, Country string }
	// Instrument is what is charged; Kind is an identifier such as card or balance.
	Instrument struct{ Kind, Token, BIN, Bank string }
	Terminal   struct{ ID, Country string }
	Device     struct {
		ID, IP, Country string
		Addr            netip.Addr // of IP, unmapped
		Lat, Lon        float64    // degrees
		Located         bool       // both were sent
	}
	AuthMethods           []string
	Accepts               Accepts
	OriginalTransactionID string // of the payment that a refund returns
	Locale                string // BCP 47
	Attributes            []Attribute
}

// Reset empties t and keeps its slices.
func (t *Transaction) Reset() {
	*t = Transaction{AuthMethods: t.AuthMethods[:0], Attributes: t.Attributes[:0]}
}

// Attribute returns the value of a free attribute, "" when absent.
func (t *Transaction) Attribute(name string) string {
	for i := range t.Attributes {
		if t.Attributes[i].Name == name {
			return t.Attributes[i].Value
		}
	}
	return ""
}

// Identified reports whether a refused transaction can still be answered: its
// id and its payer were read.
func (t *Transaction) Identified() bool { return t.ID != "" && t.Payer.AccountID != "" }
