package window

import (
	"strings"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Kind is a kind of entity that a transaction can name.
type Kind uint8

// The kinds of entities. A card is an instrument of that kind: a payment by
// card belongs to both.
const (
	Payer Kind = iota
	Payee
	Instrument
	Card
	Device
	IP
	Terminal
	Email
	Phone
	BIN
	Order
	Bank
	kinds // those that an entry has a reference to
	// Charge is made of several fields: see charge.go.
	Charge = kinds
)

var kindNames = [...]string{"payer", "payee", "instrument", "card", "device", "ip", "terminal", "email", "phone", "bin", "order", "bank", Charge: "charge"}

// String returns the name as rule files write it.
func (k Kind) String() string { return kindNames[k] }

// ParseKind returns the kind of a name.
func ParseKind(name string) (Kind, bool) {
	for k, n := range kindNames {
		if n == name {
			return Kind(k), true
		}
	}
	return 0, false
}

// Entity is what a feature is about: something of one kind, or a pair.
type Entity struct {
	First, Second Kind
	Pair          bool
}

// ParseEntity reads a kind, or two kinds joined by an underscore.
func ParseEntity(name string) (Entity, bool) {
	if k, ok := ParseKind(name); ok {
		return Entity{First: k}, true
	}
	first, second, _ := strings.Cut(name, "_")
	a, ok1 := ParseKind(first)
	b, ok2 := ParseKind(second)
	return Entity{a, b, true}, ok1 && ok2 && a != b && a != Charge && b != Charge
}

// EntityNames returns the names of all kinds; pairs are any two joined by an
// underscore, a charge excepted.
func EntityNames() []string { return append([]string(nil), kindNames[:]...) }

// String returns the name as rule files write it.
func (e Entity) String() string {
	if e.Pair {
		return e.First.String() + "_" + e.Second.String()
	}
	return e.First.String()
}

// ID returns the identifier under which t names the entity, "" when it does
// not; the two of a pair are joined by a bar, for people to read. (Their key is
// made of the hashes of both: there (1, 23) is not (12, 3).)
func (e Entity) ID(t *payment.Transaction) string {
	a := kindID(e.First, t)
	if !e.Pair || a == "" {
		return a
	}
	b := kindID(e.Second, t)
	if b == "" {
		return ""
	}
	return a + "|" + b
}

// kindID returns what t names for a kind, "" where nothing: an empty name is no entity.
func kindID(k Kind, t *payment.Transaction) string {
	switch k {
	case Payer:
		return t.Payer.AccountID
	case Payee:
		return t.Payee.AccountID
	case Instrument:
		return t.Instrument.Token
	case Card:
		if t.Instrument.Kind == "card" {
			return t.Instrument.Token
		}
	case Device:
		return t.Device.ID
	case IP:
		return t.Device.IP
	case Terminal:
		return t.Terminal.ID
	case Email:
		return t.Payer.Email
	case Phone:
		return t.Payer.Phone
	case BIN:
		return t.Instrument.BIN
	case Order:
		return t.OrderID
	case Bank:
		return t.Instrument.Bank
	case Charge:
		return chargeID(t)
	}
	return ""
}
