package traffic

import "github.com/sluice-risk/sluice/pipeline/payment"

// Event is one record of the stream.
type Event struct {
	Time  payment.Time       // its event time
	Kind  payment.RecordKind // what the record is, and so which topic it belongs to
	Key   string             // the payer's account id, the key of its Kafka record
	Value []byte             // the record: one JSON object without a line feed; the caller's to keep, not to change
	Label Label              // what the transaction, or that of the outcome, truly is
}

// Label names the fraud that a transaction is part of; "" is a genuine one. It
// is never part of a record: who decides must find out.
type Label string

// The frauds that are played.
const (
	// Genuine is no fraud.
	Genuine Label = ""
	// CardTesting is many small attempts on one card, from one device, at one web
	// merchant, and then a large one.
	CardTesting Label = "card_testing"
	// AccountTakeover is a payer's account on a new device in another country, and
	// a large amount that goes to somebody the payer never paid.
	AccountTakeover Label = "account_takeover"
	// CompromisedTerminal is the use, days later and elsewhere, of cards that were
	// copied at one terminal. The payments at that terminal are genuine.
	CompromisedTerminal Label = "compromised_terminal"
	// MuleFanIn is many payers who transfer to one new account, which then withdraws.
	MuleFanIn Label = "mule_fan_in"
	// AmountSpike is a payment of more than five times what its payer usually pays.
	AmountSpike Label = "amount_spike"
	// ImpossibleTravel is a payment within minutes of another one, too far away
	// for the payer to have travelled.
	ImpossibleTravel Label = "impossible_travel"
	// DuplicateCharge is the same payer, payee, amount and order again, under a
	// new transaction id, within 60 seconds.
	DuplicateCharge Label = "duplicate_charge"
	// RefundAbuse is the many refunds of one payer who has just bought. The
	// purchases are genuine.
	RefundAbuse Label = "refund_abuse"
)

// Labels returns the frauds that are played, Genuine not among them.
func Labels() []Label {
	return []Label{CardTesting, AccountTakeover, CompromisedTerminal, MuleFanIn, AmountSpike, ImpossibleTravel, DuplicateCharge, RefundAbuse}
}
