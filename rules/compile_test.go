package rules

import (
	"math"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// The features of the tests here: a and b are counts, s and m money, d a device.
const testFeatures = `features:
  - {entity: card, name: a, windows: [1h], value: count}
  - {entity: card, name: b, windows: [1h], value: count}
  - {entity: card, name: share, windows: [1h], value: share(fraud)}
  - {entity: card, name: s, windows: [1h], value: sum}
  - {entity: card, name: m, windows: [1h], value: avg}
  - {entity: card, name: d, value: last(device)}
  - {entity: card, name: f, value: last(fraud)}
  - {entity: card, name: c, value: last(currency)}
`

// ruleFor loads a ruleset of one rule that blocks on a condition.
func ruleFor(condition string) (*Ruleset, error) {
	return LoadFS(fstest.MapFS{
		"policy.yaml":     {Data: []byte("time_zone: Asia/Shanghai\n")},
		"rates.yaml":      {Data: []byte("base: CNY\nrates: {USD: 7.10, JPY: 0.047, KWD: 23.15}\n")},
		"features/a.yaml": {Data: []byte(testFeatures)},
		"rules/a.yaml": {Data: []byte("rules:\n  - id: a\n    verdict: block\n    when: |\n      " +
			strings.ReplaceAll(condition, "\n", "\n      ") + "\n")},
	})
}

// judge returns what a condition says of an input.
func judge(t *testing.T, condition string, in *Input) window.Truth {
	t.Helper()
	set, err := ruleFor(condition)
	if err != nil {
		t.Fatalf("%s: %v", condition, err)
	}
	e := set.NewEvaluator()
	var d payment.Decision
	d.Reset()
	e.Decide(in, &d)
	switch {
	case len(e.Failed()) > 0:
		t.Fatalf("%s failed", condition)
	case len(e.Hits()) > 0:
		return window.True
	case len(e.Unknown()) > 0:
		return window.Unknown
	}
	return window.False
}

// bare is a payment of 12.50 CNY with nothing but what the contract requires,
// and no features.
func bare() *Input {
	tx := &payment.Transaction{ID: "t", Type: payment.TypePayment, Amount: payment.Money{Value: 1250, Currency: mustCurrency("CNY")}}
	tx.Payer.AccountID = "u"
	tx.EventTime, _ = payment.ParseTime("2026-11-22T23:30:00+08:00") // a Sunday
	return &Input{Tx: tx, Amount: 1250, HasAmount: true, Features: make([]payment.Value, 8), Hash: func(window.Kind) uint64 { return 0 }}
}

func TestAbsentIsUnknownAsInSQL(t *testing.T) {
	const f, tr, u = window.False, window.True, window.Unknown
	in := bare()
	in.Features[0] = payment.IntValue(3) // card.a_1h; everything else is absent
	for condition, want := range map[string]window.Truth{
		"card.a_1h == 3": tr, "card.a_1h != 3": f,
		"card.b_1h == 3": u, "card.b_1h != 3": u, "card.b_1h > 3": u, "not (card.b_1h > 3)": u, "3 < card.b_1h": u,
		"not (payer.country == \"CN\")": u, "payer.country != \"CN\"": u, "payer.country != payee.country": u,
		"payer.country in [\"CN\"]": u, "payer.country not in [\"CN\"]": u, "\"otp\" in auth.methods": u, "not (\"otp\" in auth.methods)": u,
		"payer.email contains \"x\"": u, "payer.email matches \"x\"": u, "len(payer.email) > 0": u,
		"card.b_1h in 1..5": u, "card.b_1h in [1, 2]": u, "attributes.x == \"1\"": u,

		"card.b_1h > 3 and card.a_1h == 3": u, "card.b_1h > 3 and card.a_1h == 4": f, "card.a_1h == 4 and card.b_1h > 3": f, "card.a_1h == 3 and card.b_1h > 3": u,
		"card.b_1h > 3 or card.a_1h == 3": tr, "card.b_1h > 3 or card.a_1h == 4": u, "card.a_1h == 3 or card.b_1h > 3": tr, "card.a_1h == 4 or card.b_1h > 3": u,
		"card.b_1h > 3 and card.s_1h > CNY(1)": u, "card.b_1h > 3 or card.s_1h > CNY(1)": u, "(card.b_1h > 3) == (card.a_1h == 3)": u,

		"has(card.a_1h)": tr, "has(card.b_1h)": f, "not has(card.b_1h)": tr, "has(card.d)": f, "has(card.f)": f, "has(payer.country)": f, "has(auth.methods)": f,
		"has(amount)": tr, "has(amount_original)": tr, "has(device.lat)": f,
		"(card.b_1h ?? 0) == 0": tr, "(card.a_1h ?? 0) == 3": tr, "(card.b_1h ?? card.a_1h) == 3": tr, "(card.b_1h ?? card.b_1h) == 3": u,
		"(payer.country ?? \"CN\") == \"CN\"": tr, "(card.f ?? true)": tr, "((card.b_1h > 3) ?? false)": f, "((card.a_1h > 2) ?? false)": tr,
		"(card.s_1h ?? CNY(5)) == CNY(5)": tr, "(card.m_1h ?? CNY(5)) == CNY(5)": tr,

		"card.a_1h + card.b_1h > 0": u, "-card.b_1h < 0": u, "abs(card.b_1h) > 0": u, "min(card.a_1h, card.b_1h) == 3": u,
		"card.a_1h / (card.a_1h - 3) > 1": u, "not (card.a_1h / (card.a_1h - 3) > 1)": u, "card.a_1h % (card.a_1h - 3) == 0": u,
		"(card.a_1h == 3 ? card.b_1h : 1) == 1": u, "(card.a_1h == 4 ? card.b_1h : 1) == 1": tr, "(card.b_1h == 4 ? 1 : 1) == 1": u,
		"card.f": u, "not card.f": u, "card.f or card.a_1h == 3": tr,
		"card.d == device.id": u, "card.c == currency": u,
	} {
		if got := judge(t, condition, in); got != want {
			t.Errorf("%s: %s, want %s", condition, truthWord(got), truthWord(want))
		}
	}
}

func TestMoneyIsTyped(t *testing.T) {
	in := bare()
	in.Features[0], in.Features[3], in.Features[4] = payment.IntValue(3), payment.IntValue(3750), payment.FloatValue(1250)
	for condition, want := range map[string]bool{
		"amount == CNY(12.50)": true, "amount == CNY(12.5)": true, "amount > CNY(12.49)": true, "amount >= USD(1.76)": true, "amount < USD(1.77)": true,
		"amount * 3 == card.s_1h": true, "3 * amount == card.s_1h": true, "amount * 1.5 == CNY(18.75)": true, "amount / 2 == CNY(6.25)": true,
		"card.s_1h / amount == 3": true, "card.s_1h / amount + 1 == 4": true, "card.s_1h - amount == CNY(25)": true, "card.s_1h + CNY(0.01) == CNY(37.51)": true,
		"amount == card.m_1h": true, "card.m_1h * card.a_1h == card.s_1h": true, "max(amount, card.s_1h) == CNY(37.50)": true, "abs(amount - CNY(20)) == CNY(7.50)": true,
		"-amount == CNY(0) - CNY(12.50)": true, "amount in [CNY(12.50), CNY(1)]": true, "amount not in [USD(1)]": true,
		"amount_original == CNY(12.50)": true, "CNY(12) < amount_original": true, "JPY(265) < amount": true, "JPY(266) == amount": true, "JPY(267) > amount": true,
		"KWD(0.540) == amount": true, "KWD(0.541) > amount": true, "(card.a_1h > 1 ? amount : CNY(1)) == CNY(12.5)": true,
	} {
		if got := judge(t, condition, in); got != window.TruthOf(want) {
			t.Errorf("%s: %s", condition, truthWord(got))
		}
	}
	for _, condition := range []string{
		"amount > 10", "10 < amount", "amount + 1 > CNY(1)", "amount * amount > CNY(1)", "1 / amount > 1", "amount % 2 == 0", "amount / 2 == 5",
		"card.s_1h / amount == CNY(3)", "amount == \"12.50\"", "max(amount, 5) > CNY(1)", "amount in [12.50]", "(amount ?? 0) > CNY(1)", "amount_original > amount",
		"amount_original + CNY(1) > CNY(2)", "amount_original == 5", "len(amount) > 1", "amount", "EUR(5) < amount", "CNY(1.001) < amount", "JPY(1.5) < amount", "CNY(-1) < amount",
		"CNY(card.a_1h) < amount", "CNY() < amount", "CNY(1, 2) < amount", "CNY(99999999999999999999) < amount",
	} {
		if _, err := ruleFor(condition); err == nil {
			t.Errorf("%s was accepted", condition)
		}
	}
}

func TestMoneyInAnotherCurrencyIsUnknownNotConverted(t *testing.T) {
	in := bare()
	in.Tx.Amount = payment.Money{Value: 500, Currency: mustCurrency("USD")}
	for condition, want := range map[string]window.Truth{
		"amount_original > CNY(1)": window.Unknown, "amount_original == USD(5)": window.True, "amount_original < USD(5)": window.False,
		"not (amount_original > CNY(1))": window.Unknown,
	} {
		if got := judge(t, condition, in); got != want {
			t.Errorf("%s: %s, want %s", condition, truthWord(got), truthWord(want))
		}
	}
}

func TestIntegersAreComparedExactly(t *testing.T) {
	in := bare()
	in.Amount = 1<<53 + 1
	in.Features[3] = payment.IntValue(1 << 53)
	if judge(t, "amount > card.s_1h", in) != window.True || judge(t, "amount == card.s_1h", in) != window.False {
		t.Error("2^53 + 1 and 2^53 were taken for equal")
	}
	if judge(t, "amount - card.s_1h == CNY(0.01)", in) != window.True {
		t.Error("a difference lost its last unit")
	}
}

func TestOverflowFailsTheRuleAndNoOther(t *testing.T) {
	for _, condition := range []string{
		"amount + amount > CNY(1)", "amount * 2 > CNY(1)", "0 - card.a_1h - 2 > 0", "-card.b_1h > 0", "abs(card.b_1h) > 0", "card.b_1h * -1 > 0", "card.b_1h - 1 < 0", "card.a_1h * card.b_1h > 0",
	} {
		set, err := LoadFS(fstest.MapFS{"features/a.yaml": {Data: []byte(testFeatures)}, "rules/a.yaml": {Data: []byte(
			"rules:\n  - {id: a, verdict: block, when: '" + condition + "'}\n  - {id: b, verdict: hold, when: 'card.a_1h > 1'}\n")}})
		if err != nil {
			t.Fatal(err)
		}
		in := bare()
		in.Amount, in.Features[0], in.Features[1] = math.MaxInt64-1, payment.IntValue(math.MaxInt64), payment.IntValue(math.MinInt64)
		e := set.NewEvaluator()
		var d payment.Decision
		d.Reset()
		e.Decide(in, &d)
		if len(e.Failed()) != 1 || len(d.Evidence.Failed) != 1 || d.Evidence.Failed[0] != "a" || len(d.Degraded) != 1 || d.Degraded[0] != payment.DegradedRuleFailed {
			t.Errorf("%s: %s", condition, d.Append(nil))
		}
		if d.Verdict != payment.Hold || len(e.Hits()) != 1 {
			t.Errorf("%s stopped the rule after it: %s", condition, d.Append(nil))
		}
	}
}

func TestIdentifiersAreComparedByTheirHash(t *testing.T) {
	in := bare()
	asked := 0
	in.Hash = func(k window.Kind) uint64 {
		asked++
		if k != window.Device {
			t.Errorf("the hash of a %s was asked for", k)
		}
		return 42
	}
	for kept, want := range map[uint64]bool{42: true, 43: false} {
		in.Features[5] = payment.RefValue(kept)
		if judge(t, "card.d == device.id", in) != window.TruthOf(want) || judge(t, "device.id != card.d", in) != window.TruthOf(!want) {
			t.Errorf("%d was not told from 42", kept)
		}
	}
	if asked != 4 {
		t.Errorf("asked %d times", asked)
	}
	judge(t, "card.a_1h > 1 or amount > CNY(1)", in)
	if asked != 4 {
		t.Error("a rule without an identifier asked for a hash")
	}
	in.Hash = func(window.Kind) uint64 { return 0 }
	if judge(t, "card.d != device.id", in) != window.Unknown {
		t.Error("a payment without a device differs from the last device")
	}
}

func TestNamesReadTheTransaction(t *testing.T) {
	in := bare()
	tx := in.Tx
	tx.Type, tx.Channel, tx.OrderID, tx.Locale, tx.OriginalTransactionID = payment.TypeRefund, "qr", "o", "zh-CN", "t0"
	tx.Payer.Country, tx.Payer.Email, tx.Payer.Phone = "CN", "a@b.c", "+86"
	tx.Payee.AccountID, tx.Payee.MerchantID, tx.Payee.MCC, tx.Payee.Country = "m", "mm", "5812", "JP"
	tx.Instrument.Kind, tx.Instrument.Token, tx.Instrument.BIN, tx.Instrument.Bank = "card", "c", "622202", "icbc"
	tx.Terminal.ID, tx.Terminal.Country = "t9", "HK"
	tx.Device.ID, tx.Device.IP, tx.Device.Country, tx.Device.Lat, tx.Device.Lon, tx.Device.Located = "d", "203.0.113.7", "SG", 31.25, -121.5, true
	tx.AuthMethods = []string{"password", "otp"}
	tx.Attributes = []payment.Attribute{{Name: "basket_size", Value: "3"}}
	for _, condition := range []string{
		`type == "refund"`, `channel == "qr"`, `currency == "CNY"`, `order_id == "o"`, `locale == "zh-CN"`, `original_transaction_id == "t0"`,
		`payer.account_id == "u"`, `payer.country == "CN"`, `payer.email == "a@b.c"`, `payer.phone == "+86"`,
		`payee.account_id == "m"`, `payee.merchant_id == "mm"`, `payee.mcc == "5812"`, `payee.country == "JP"`,
		`instrument.kind == "card"`, `instrument.token == "c"`, `instrument.bin == "622202"`, `instrument.bank == "icbc"`,
		`terminal.id == "t9"`, `terminal.country == "HK"`, `device.id == "d"`, `device.ip == "203.0.113.7"`, `device.country == "SG"`,
		`device.lat == 31.25`, `device.lon < -121`, `"otp" in auth.methods`, `len(auth.methods) == 2`, `attributes.basket_size == "3"`, `attributes["basket_size"] == "3"`,
		`hour == 23`, `weekday == 7`, `hour in 22..23 and weekday in [6, 7]`, `amount == CNY(12.5)`, `amount_original == CNY(12.5)`,
		`payer.email endsWith ".c" && payer.email startsWith "a" && payer.email contains "@" && payer.email matches "^a@"`, `!(payer.country == "JP")`,
		`payer.country not contains "X"`, `1 < len(payer.email) < 6`, `payer.country < payee.country`,
	} {
		if judge(t, condition, in) != window.True {
			t.Errorf("%s is not true", condition)
		}
	}
}

func TestWhereSeesWhatItNeedsAndNeverStopsTheFold(t *testing.T) {
	_, err := LoadFS(fstest.MapFS{"features/a.yaml": {Data: []byte(`features:
  - {entity: card, name: g, windows: [1h], value: count, where: 'amount_original * 1 > CNY(5)'}
`)}})
	if err == nil || !strings.Contains(err.Error(), "needs numbers or money") {
		t.Fatalf("amount_original was multiplied: %v", err)
	}
	set, err := LoadFS(fstest.MapFS{"features/a.yaml": {Data: []byte(`features:
  - {entity: card, name: a, windows: [1h], value: count, where: 'status == "pending" or fraud'}
  - {entity: card, name: b, windows: [1h], value: share(verdict == "block")}
  - {entity: card, name: c, windows: [1h], value: count, where: 'verdict == "hold" and type in ["payment"]'}
  - {entity: card, name: d, windows: [1h], value: distinct(status)}
  - {entity: card, name: e, windows: [1h], delay: 2d, value: sum}
  - {entity: payer_payee, name: f, value: last(device)}
  - {entity: card, name: g, windows: [1h], value: count, where: 'fraud ? 9223372036854775807 + len(status) > 5 : 9223372036854775807 + len(verdict) > 5'}
`)}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct{ status, verdict bool }{{true, false}, {false, true}, {false, true}, {true, false}, {false, false}, {false, false}, {true, true}} {
		if f := set.Features()[i]; f.ReadsStatus != want.status || f.ReadsVerdict != want.verdict {
			t.Errorf("%s: reads status %v, verdict %v", f.FullName(), f.ReadsStatus, f.ReadsVerdict)
		}
	}
	event := &window.Event{} // pending, undecided, no fraud
	if got := set.Features()[0].Where(event); got != window.True {
		t.Errorf("a new event is pending, and its condition is %s", truthWord(got))
	}
	if got := set.Features()[1].Condition(event); got != window.False {
		t.Errorf("a new event is not blocked, and the share says %s", truthWord(got))
	}
	if got := set.Features()[6].Where(event); got != window.Unknown {
		t.Errorf("a condition that overflows is %s, not unknown", truthWord(got))
	}
	if f := set.Features()[4]; f.Delay.Hours() != 48 || f.Length.Hours() != 1 || f.FullName() != "card.e_1h" {
		t.Errorf("%+v", f)
	}
	if f := set.Features()[5]; f.FullName() != "payer_payee.f" || f.Length != 0 || f.Field.Name != "device" {
		t.Errorf("%+v", f)
	}
}
