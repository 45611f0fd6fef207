package rules

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// testFields are the fields of a payment as tests may write them, with the paths
// of the record that they set. The first ones are short forms.
var testFields = map[string]string{
	"payer": "payer.account_id", "payee": "payee.account_id", "card": "instrument.token", "device": "device.id", "ip": "device.ip",
	"terminal": "terminal.id", "order": "order_id", "email": "payer.email", "phone": "payer.phone", "mcc": "payee.mcc",
	"bin": "instrument.bin", "bank": "instrument.bank",

	"type": "type", "channel": "channel", "order_id": "order_id", "locale": "locale", "original_transaction_id": "original_transaction_id",
	"payer.account_id": "payer.account_id", "payer.country": "payer.country", "payer.email": "payer.email", "payer.phone": "payer.phone",
	"payee.account_id": "payee.account_id", "payee.merchant_id": "payee.merchant_id", "payee.mcc": "payee.mcc", "payee.country": "payee.country",
	"instrument.kind": "instrument.kind", "instrument.token": "instrument.token", "instrument.bin": "instrument.bin", "instrument.bank": "instrument.bank",
	"terminal.id": "terminal.id", "terminal.country": "terminal.country",
	"device.id": "device.id", "device.ip": "device.ip", "device.country": "device.country", "device.lat": "device.lat", "device.lon": "device.lon",
	"amount": "amount", "auth.methods": "auth.methods", "accepts": "accepts",
}

// testGroups are the fields that hold others.
var testGroups = []string{"attributes", "auth", "device", "instrument", "payee", "payer", "terminal"}

var attributePattern = regexp.MustCompile(`^[A-Za-z0-9_]{1,64}$`)

// changes reads the fields of a payment, and hands the keys that are none to
// those who read them.
func (f *testFiles) changes(n node, what string, others map[string]func(node)) testPayment {
	out := testPayment{}
	for _, e := range n.entries(what) {
		if read, ok := others[e.key]; ok {
			read(e.value)
			continue
		}
		if slices.Contains(testGroups, e.key) && isMapping(e.value) {
			for _, inner := range e.value.entries(e.key) {
				f.change(out, e.key+"."+inner.key, inner, nil)
			}
			continue
		}
		f.change(out, e.key, e, others)
	}
	return out
}

func isMapping(n node) bool {
	switch n.ast.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return true
	}
	return false
}

// change reads one field into a payment.
func (f *testFiles) change(to testPayment, key string, e entry, others map[string]func(node)) {
	path, known := testFields[key]
	if name, ok := strings.CutPrefix(key, "attributes."); ok {
		path, known = key, attributePattern.MatchString(name)
	}
	if !known {
		words := slices.AppendSeq(slices.Collect(maps.Keys(testFields)), maps.Keys(others))
		e.value.suggest(e.at, didYouMean(key, words), "a payment has no field %s", key)
		return
	}
	if _, ok := e.value.ast.(*ast.NullNode); ok {
		to[path] = nil
		return
	}
	switch path {
	case "type":
		to[path], _ = e.value.choice("type", payment.TypeNames()...)
	case "amount":
		m, _ := f.set.rates.writtenMoney(e.value, "amount") // a mistake is an amount too: it is told once
		to[path] = map[string]any{"value": m.Value, "currency": m.Currency.String()}
	case "device.lat", "device.lon":
		if v, ok := e.value.degrees(key); ok {
			to[path] = v
		}
	case "auth.methods":
		to[path] = e.value.words("a method")
	case "accepts":
		var all []string
		for _, v := range e.value.oneOrMore() {
			if s, ok := v.choice("accepts", "hold", "step_up"); ok {
				all = append(all, s)
			}
		}
		to[path] = append([]string{}, all...)
	default:
		s, ok := e.value.text(key)
		if ok && s == "" {
			e.value.suggest(e.value.place(), "write null for a payment without it", "%s is empty", key)
		}
		to[path] = s
		if key == "card" {
			to["instrument.kind"] = "card"
		}
	}
}

// degrees reads a latitude or longitude.
func (n node) degrees(what string) (float64, bool) {
	switch v := n.ast.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		if d, err := strconv.ParseFloat(v.GetToken().Value, 64); err == nil && d >= -180 && d <= 180 {
			return d, true
		}
	}
	n.at(n.place(), "%s must be degrees, such as 31.2", what)
	return 0, false
}
