package window

import "github.com/sluice-risk/sluice/pipeline/payment"

// Field is a fact about an event that `where`, `distinct` and `last` can name.
type Field struct {
	Name  string
	Kind  payment.ValueKind // String, Int, Bool or Ref
	Money bool              // an amount in minor units: of the base currency, or of the event's own for amount_original
	Doc   string            // one line, for the documentation that is made from this table
	// Get reads the fact; the zero Value is absent.
	Get func(*Event) payment.Value
	// Changes tells that the fact can change after the event: by an outcome
	// (status, fraud) or by the decision (verdict).
	ChangesByOutcome, ChangesByVerdict bool
}

// Fields returns every field, in the order in which it is documented. The
// transaction's own field of the same meaning has the same name in rules where
// both exist.
func Fields() []Field {
	text := func(name, doc string, get func(*Event) string) Field {
		return Field{Name: name, Kind: payment.String, Doc: doc, Get: func(e *Event) payment.Value {
			if s := get(e); s != "" {
				return payment.StringValue(s)
			}
			return payment.Value{}
		}}
	}
	ref := func(k Kind) Field {
		return Field{Name: k.String(), Kind: payment.Ref, Doc: "the " + k.String() + "; for distinct and last", Get: func(e *Event) payment.Value {
			if h := e.entry.ref(k); h != 0 {
				return payment.RefValue(h)
			}
			return payment.Value{}
		}}
	}
	status := text("status", "pending, or the last outcome as of the transaction that looks", func(e *Event) string { return e.status.String() })
	status.ChangesByOutcome = true
	verdict := text("verdict", "approve, hold or block; pending until it is decided", func(e *Event) string {
		if e.verdict == 0 {
			return "pending"
		}
		return e.verdict.String()
	})
	verdict.ChangesByVerdict = true
	return []Field{
		{Name: "amount", Kind: payment.Int, Money: true, Doc: "in the base currency; absent without a rate", Get: func(e *Event) payment.Value {
			if !e.entry.based() {
				return payment.Value{}
			}
			return payment.IntValue(e.entry.base())
		}},
		{Name: "amount_original", Kind: payment.Int, Money: true, Doc: "as sent, in minor units of its own currency", Get: func(e *Event) payment.Value {
			return payment.IntValue(e.entry.original())
		}},
		text("currency", "ISO 4217 code as sent", func(e *Event) string { return e.entry.currency() }),
		text("type", "payment, transfer, withdrawal, top_up or refund", func(e *Event) string { return e.entry.paymentType().String() }),
		text("channel", "as sent", func(e *Event) string { return e.entry.text(textChannel) }),
		status,
		verdict,
		{Name: "fraud", Kind: payment.Bool, ChangesByOutcome: true, Doc: "the last of fraud_confirmed and fraud_cleared was fraud_confirmed", Get: func(e *Event) payment.Value {
			return payment.BoolValue(e.fraud)
		}},
		text("mcc", "the payee's merchant category", func(e *Event) string { return e.entry.text(textMCC) }),
		text("instrument_kind", "card, balance, …", func(e *Event) string { return e.entry.text(textInstrumentKind) }),
		text("country", "where it took place: the terminal's country, or else the device's", func(e *Event) string {
			if c := e.entry.country(terminalCountry); c != 0 {
				return c.String()
			}
			return e.entry.country(deviceCountry).String()
		}),
		text("payer_country", "the payer's home", func(e *Event) string { return e.entry.country(payerCountry).String() }),
		text("payee_country", "the payee's home", func(e *Event) string { return e.entry.country(payeeCountry).String() }),
		text("device_country", "where the device was", func(e *Event) string { return e.entry.country(deviceCountry).String() }),
		text("terminal_country", "where the terminal stands", func(e *Event) string { return e.entry.country(terminalCountry).String() }),
		ref(Payer), ref(Payee), ref(Instrument), ref(Card), ref(Device), ref(IP), ref(Terminal), ref(Email), ref(Phone), ref(BIN), ref(Order), ref(Bank),
	}
}
