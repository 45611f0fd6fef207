package rules

import (
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// facts is what rules see of one transaction.
type facts struct {
	Input
	controls []string // ids of the controls that took part in the decision
	key      []byte   // scratch of holds
	local    bool     // now is that of this transaction
	now      moment   // in the policy's zone
}

// reset takes the next transaction.
func (f *facts) reset(in *Input) {
	f.Input = *in
	f.local, f.controls = false, f.controls[:0]
}

// clock reads the clock of a zone; that of the policy's once for each transaction
// that asks for it.
func clock(home *time.Location) func(*time.Location) func(*facts) moment {
	return func(zone *time.Location) func(*facts) moment {
		if zone != home {
			return func(f *facts) moment { return momentOf(f.Tx.EventTime.Std(), zone) }
		}
		return func(f *facts) moment {
			if !f.local {
				f.now, f.local = momentOf(f.Tx.EventTime.Std(), home), true
			}
			return f.now
		}
	}
}

// ruleNames is the language of rules: the fields of the transaction by their
// paths, local time, and every feature by its full name.
func ruleNames(features []window.Feature, policy *Policy, r *rates) *language[facts] {
	names := map[string]term[facts]{
		"amount": integerTerm(true, func(f *facts) (int64, bool) { return f.Amount, f.HasAmount }),
		"amount_original": {
			kind:     original,
			integer:  func(f *facts) (int64, bool) { return f.Tx.Amount.Value, true },
			currency: func(f *facts) payment.Currency { return f.Tx.Amount.Currency },
		},
		"auth.methods": {kind: list, list: func(f *facts) ([]string, bool) { return f.Tx.AuthMethods, len(f.Tx.AuthMethods) > 0 }},
		"device.lat":   floatTerm(false, func(f *facts) (float64, bool) { return f.Tx.Device.Lat, f.Tx.Device.Located }),
		"device.lon":   floatTerm(false, func(f *facts) (float64, bool) { return f.Tx.Device.Lon, f.Tx.Device.Located }),
		"hour":         hourOf(clock(policy.Location)(policy.Location)),
		"weekday":      weekdayOf(clock(policy.Location)(policy.Location)),
	}
	if policy.Location == nil {
		for _, name := range []string{"hour", "weekday"} {
			t := names[name]
			t.refuse = name + " is local time, and the policy has no time_zone\nwrite time_zone in policy.yaml, such as time_zone: Asia/Shanghai"
			names[name] = t
		}
	}
	texts := []struct {
		name string
		get  func(*payment.Transaction) string
		of   []window.Kind // whom it names
	}{
		{"type", func(t *payment.Transaction) string { return t.Type.String() }, nil},
		{"channel", func(t *payment.Transaction) string { return t.Channel }, nil},
		{"currency", func(t *payment.Transaction) string { return t.Amount.Currency.String() }, nil},
		{"order_id", func(t *payment.Transaction) string { return t.OrderID }, []window.Kind{window.Order}},
		{"locale", func(t *payment.Transaction) string { return t.Locale }, nil},
		{"original_transaction_id", func(t *payment.Transaction) string { return t.OriginalTransactionID }, nil},
		{"payer.account_id", func(t *payment.Transaction) string { return t.Payer.AccountID }, []window.Kind{window.Payer}},
		{"payer.country", func(t *payment.Transaction) string { return t.Payer.Country }, nil},
		{"payer.email", func(t *payment.Transaction) string { return t.Payer.Email }, []window.Kind{window.Email}},
		{"payer.phone", func(t *payment.Transaction) string { return t.Payer.Phone }, []window.Kind{window.Phone}},
		{"payee.account_id", func(t *payment.Transaction) string { return t.Payee.AccountID }, []window.Kind{window.Payee}},
		{"payee.merchant_id", func(t *payment.Transaction) string { return t.Payee.MerchantID }, nil},
		{"payee.mcc", func(t *payment.Transaction) string { return t.Payee.MCC }, nil},
		{"payee.country", func(t *payment.Transaction) string { return t.Payee.Country }, nil},
		{"instrument.kind", func(t *payment.Transaction) string { return t.Instrument.Kind }, nil},
		{"instrument.token", func(t *payment.Transaction) string { return t.Instrument.Token }, []window.Kind{window.Instrument, window.Card}},
		{"instrument.bin", func(t *payment.Transaction) string { return t.Instrument.BIN }, []window.Kind{window.BIN}},
		{"instrument.bank", func(t *payment.Transaction) string { return t.Instrument.Bank }, []window.Kind{window.Bank}},
		{"terminal.id", func(t *payment.Transaction) string { return t.Terminal.ID }, []window.Kind{window.Terminal}},
		{"terminal.country", func(t *payment.Transaction) string { return t.Terminal.Country }, nil},
		{"device.id", func(t *payment.Transaction) string { return t.Device.ID }, []window.Kind{window.Device}},
		{"device.ip", func(t *payment.Transaction) string { return t.Device.IP }, []window.Kind{window.IP}},
		{"device.country", func(t *payment.Transaction) string { return t.Device.Country }, nil},
	}
	for _, field := range texts {
		get := field.get
		t := textTerm(func(f *facts) (string, bool) {
			s := get(f.Tx)
			return s, s != ""
		})
		t.names = field.of
		names[field.name] = t
	}
	for slot := range features {
		t := featureTerm(slot, &features[slot])
		t.reach = reachOf(slot, &features[slot])
		names[features[slot].FullName()] = t
	}
	return &language[facts]{
		names: names,
		attribute: func(name string) term[facts] {
			return textTerm(func(f *facts) (string, bool) {
				s := f.Tx.Attribute(name)
				return s, s != ""
			})
		},
		own:    func(f *facts, k window.Kind) uint64 { return f.Hash(k) },
		short:  shortNames(names),
		inList: inList,
		clock:  clock(policy.Location),
		zone:   policy.Location,
		rates:  r,
	}
}

// featureTerm reads the value of a feature from its slot.
func featureTerm(slot int, feature *window.Feature) term[facts] {
	k, money := feature.Type()
	switch k {
	case payment.Int: // most clauses: without the detour over a copy of the value
		return integerTerm(money, func(f *facts) (int64, bool) {
			v := &f.Features[slot]
			return v.Int(), v.Kind() == payment.Int
		})
	case payment.Float:
		return floatTerm(money, func(f *facts) (float64, bool) {
			v := &f.Features[slot]
			return v.Float(), v.Kind() == payment.Float
		})
	}
	t := valueTerm(k, money, func(f *facts) payment.Value { return f.Features[slot] })
	if k == payment.Ref {
		t.entity, _ = window.ParseKind(feature.Field.Name)
	}
	return t
}

// eventNames is the language of where and share: the facts about one event of a log.
func eventNames(r *rates) *language[window.Event] {
	names := map[string]term[window.Event]{}
	fields := window.Fields()
	byName := map[string]*window.Field{}
	for i := range fields {
		byName[fields[i].Name] = &fields[i]
	}
	for name, field := range byName {
		t := valueTerm(field.Kind, field.Money, field.Get)
		switch {
		case field.Kind == payment.Ref:
			t.entity, _ = window.ParseKind(name)
		case name == "amount_original":
			currency := byName["currency"].Get
			t.kind, t.money = original, false
			t.currency = func(e *window.Event) payment.Currency {
				v := currency(e)
				c, _ := payment.ParseCurrency(v.Str())
				return c
			}
		}
		names[name] = t
	}
	return &language[window.Event]{names: names, rates: r}
}
