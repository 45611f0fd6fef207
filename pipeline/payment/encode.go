package payment

import "strconv"

// Append appends the transaction as one line of JSON, as a payment service
// would send it, without a line feed. Times are in UTC.
func (t *Transaction) Append(b []byte) []byte {
	b = append(b, `{"v":1`...)
	b = appendText(b, "transaction_id", t.ID)
	b = appendText(b, "type", t.Type.String())
	b = appendText(b, "channel", t.Channel)
	b = appendTime(b, "event_time", t.EventTime)
	b = appendTime(b, "decide_by", t.DecideBy)
	b = appendInt(appendName(b, "amount", '{'), "value", t.Amount.Value)
	b = append(appendText(b, "currency", t.Amount.Currency.String()), '}')
	b = appendText(b, "order_id", t.OrderID)
	b = appendObject(b, "payer", "account_id", t.Payer.AccountID, "country", t.Payer.Country, "email", t.Payer.Email, "phone", t.Payer.Phone)
	b = appendObject(b, "payee", "account_id", t.Payee.AccountID, "merchant_id", t.Payee.MerchantID, "mcc", t.Payee.MCC, "country", t.Payee.Country)
	b = appendObject(b, "instrument", "kind", t.Instrument.Kind, "token", t.Instrument.Token, "bin", t.Instrument.BIN, "bank", t.Instrument.Bank)
	b = appendObject(b, "terminal", "id", t.Terminal.ID, "country", t.Terminal.Country)
	if v := &t.Device; v.Located || v.ID != "" || v.IP != "" || v.Country != "" {
		b = appendName(b, "device", '{')
		b = appendText(b, "id", v.ID)
		b = appendText(b, "ip", v.IP)
		b = appendText(b, "country", v.Country)
		if v.Located {
			b = appendFloat(appendKey(b, "lat"), v.Lat)
			b = appendFloat(appendKey(b, "lon"), v.Lon)
		}
		b = append(b, '}')
	}
	if len(t.AuthMethods) > 0 {
		b = append(appendList(appendName(b, "auth", '{'), "methods", t.AuthMethods), '}')
	}
	if t.Accepts != 0 {
		b = appendName(b, "accepts", '[')
		if t.Accepts&AcceptsHold != 0 {
			b = appendString(b, "hold")
		}
		if t.Accepts&AcceptsStepUp != 0 {
			b = appendString(comma(b), "step_up")
		}
		b = append(b, ']')
	}
	b = appendText(b, "original_transaction_id", t.OriginalTransactionID)
	b = appendText(b, "locale", t.Locale)
	if len(t.Attributes) > 0 {
		b = appendName(b, "attributes", '{')
		for _, a := range t.Attributes {
			b = append(appendString(comma(b), a.Name), ':')
			b = appendString(b, a.Value)
		}
		b = append(b, '}')
	}
	return append(b, '}')
}

// appendObject appends an object of texts, given as names and values in turn;
// absent texts are left out, and the object too when nothing is in it.
func appendObject(b []byte, name string, pairs ...string) []byte {
	start := len(b)
	b = appendName(b, name, '{')
	empty := len(b)
	for i := 0; i < len(pairs); i += 2 {
		b = appendText(b, pairs[i], pairs[i+1])
	}
	if len(b) == empty {
		return b[:start]
	}
	return append(b, '}')
}

// Append appends the outcome as one line of JSON without a line feed.
func (o *Outcome) Append(b []byte) []byte {
	b = append(b, `{"v":1`...)
	b = appendText(b, "outcome_id", o.ID)
	b = appendText(b, "transaction_id", o.TransactionID)
	b = appendText(b, "outcome", o.Kind.String())
	b = appendTime(b, "event_time", o.EventTime)
	b = appendObject(b, "payer", "account_id", o.PayerID)
	if o.Amount.Currency != 0 {
		b = appendInt(appendName(b, "amount", '{'), "value", o.Amount.Value)
		b = append(appendText(b, "currency", o.Amount.Currency.String()), '}')
	}
	b = appendText(b, "source", o.Source)
	if o.StandIn {
		b = strconv.AppendBool(appendKey(b, "stand_in"), true)
	}
	return append(b, '}')
}

// Append appends the control as one line of JSON without a line feed.
func (c *Control) Append(b []byte) []byte {
	b = append(b, `{"v":1`...)
	b = appendText(b, "control_id", c.ID)
	b = appendText(b, "control", c.Kind.String())
	b = appendTime(b, "event_time", c.EventTime)
	b = appendText(b, "by", c.By)
	b = appendText(b, "why", c.Why)
	b = appendText(b, "of", c.Of)
	b = appendTime(b, "from", c.From)
	b = appendTime(b, "until", c.Until)
	b = appendTime(b, "effective_at", c.EffectiveAt)
	b = appendText(b, "list", c.List)
	b = appendText(b, "value", c.Value)
	b = appendText(b, "rule", c.Rule)
	b = appendText(b, "ruleset", c.Ruleset)
	b = appendText(b, "instead_of", c.InsteadOf)
	b = appendObject(b, "match", "channel", c.Match.Channel, "instrument.bank", c.Match.Bank, "payee.account_id", c.Match.Payee,
		"payer", c.Snooze.Payer, "payee", c.Snooze.Payee, "card", c.Snooze.Card, "device", c.Snooze.Device)
	return append(b, '}')
}
