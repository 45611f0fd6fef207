package rules

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// slots sets features by their full names; the others are absent.
func slots(t testing.TB, set *Ruleset, values map[string]payment.Value) []payment.Value {
	t.Helper()
	out := make([]payment.Value, len(set.Features()))
	found := 0
	for i := range set.Features() {
		if v, ok := values[set.Features()[i].FullName()]; ok {
			out[i] = v
			found++
		}
	}
	if found != len(values) {
		t.Fatalf("the ruleset has %d of the %d features that the test sets", found, len(values))
	}
	return out
}

// ordinary is a payment by card on the web about which no rule of the fixture
// has anything to say, with every feature present.
func ordinary(t testing.TB, set *Ruleset) (*Input, *payment.Transaction) {
	tx := &payment.Transaction{ID: "t-1", Type: payment.TypePayment, Channel: "web", Locale: "en-GB"}
	at, _ := payment.ParseTime("2026-11-23T12:15:30.123+08:00")
	tx.EventTime = at
	cny, _ := payment.ParseCurrency("CNY")
	tx.Amount = payment.Money{Value: 128_50, Currency: cny}
	tx.Payer.AccountID, tx.Payer.Country, tx.Payer.Email = "u-1", "CN", "someone@example.com"
	tx.Payee.AccountID, tx.Payee.MCC, tx.Payee.Country = "m-1", "5812", "CN"
	tx.Instrument.Kind, tx.Instrument.Token = "card", "c-1"
	tx.Terminal.ID, tx.Terminal.Country = "t-9", "CN"
	tx.Device.ID = "d-1"
	tx.OrderID, tx.Instrument.BIN = "o-1", "622202"
	tx.AuthMethods = []string{"password", "fingerprint"}
	return &Input{Tx: tx, Amount: 128_50, HasAmount: true, Hash: func(k window.Kind) uint64 {
		if k == window.Device {
			return 77
		}
		return 1
	}, Features: slots(t, set, map[string]payment.Value{
		"card.attempts_10m": payment.IntValue(1), "card.attempts_1h": payment.IntValue(2), "card.attempts_1d": payment.IntValue(3),
		"card.spent_1h": payment.IntValue(128_50), "card.spent_1d": payment.IntValue(400_00), "card.spent_calendar_day": payment.IntValue(400_00),
		"card.countries_1d": payment.IntValue(1), "card.merchants_1h": payment.IntValue(1), "card.speed": payment.FloatValue(3.5),
		"payer.count_10m": payment.IntValue(1), "payer.count_1d": payment.IntValue(1), "payer.count_30d": payment.IntValue(40),
		"payer.spent_1d": payment.IntValue(400_00), "payer.mean_30d": payment.FloatValue(9_512.25), "payer.devices_7d": payment.IntValue(1),
		"payer.last_device": payment.RefValue(77), "payer.idle": payment.FloatValue(3600), "payer_payee.count_30d": payment.IntValue(3),
		"payee.fraud_share_30d": payment.FloatValue(0.001), "device.payers_1d": payment.IntValue(1),
	})}, tx
}

func TestDecideAllocatesNothing(t *testing.T) {
	set := loadFixture(t)
	e := set.NewEvaluator()
	var d payment.Decision
	in, _ := ordinary(t, set)
	quiet := func() {
		d.Reset()
		e.Decide(in, &d)
	}
	quiet()
	if d.Verdict != payment.Approve || len(d.Reasons) != 0 || len(d.Evidence.Unknown) != 0 {
		t.Fatalf("the ordinary payment is not ordinary: %s", d.Append(nil))
	}
	if n := testing.AllocsPerRun(1000, quiet); n != 0 {
		t.Errorf("%v allocations where no rule hits", n)
	}
	in.Features = append([]payment.Value(nil), in.Features...)
	in.Features[0], in.Amount = payment.IntValue(7), 9_99
	quiet()
	if d.Verdict != payment.Hold || d.Reasons[0].Detail != "7 attempts in 10 minutes" {
		t.Fatalf("the card test was not found: %s", d.Append(nil))
	}
	if n := testing.AllocsPerRun(1000, quiet); n != 0 {
		t.Errorf("%v allocations where a rule hits and shows its detail", n)
	}
	in.Overrides = said(t, set,
		`"control":"list_add","list":"vip","value":"u-1","why":"w"`, `"control":"list_remove","list":"networks","value":"198.51.100.0/24"`,
		`"control":"rule_disable","rule":"mule","why":"w","until":"2027-01-01T00:00:00Z"`,
		`"control":"snooze","rule":"card-attempts-hour","why":"w","until":"2027-01-01T00:00:00Z","match":{"card":"c-1","payer":"u-1"}`)
	in.Tx.Device.Addr = netip.MustParseAddr("198.51.100.130")
	quiet()
	if d.Verdict != payment.Block || d.Source != payment.SourceList || len(d.Evidence.Controls) != 3 || len(d.Evidence.Exempt) != 1 {
		t.Fatalf("lists and overrides do not take part: %s", d.Append(nil))
	}
	if n := testing.AllocsPerRun(1000, quiet); n != 0 {
		t.Errorf("%v allocations with lists, exempts and overrides", n)
	}
}

func BenchmarkDecide(b *testing.B) {
	set := loadFixture(b)
	in, tx := ordinary(b, set)
	run := func(name string, change func()) {
		b.Run(name, func(b *testing.B) {
			change()
			e := set.NewEvaluator()
			var d payment.Decision
			b.ReportAllocs()
			for b.Loop() {
				d.Reset()
				e.Decide(in, &d)
			}
			b.ReportMetric(float64(len(set.live.find(tx.Type, tx.Channel))), "rules")
		})
	}
	run("no hit", func() {})
	run("hit", func() { in.Features[0], in.Amount = payment.IntValue(7), 9_99 })
	run("hit under a list, with overrides", func() {
		in.Overrides = said(b, set, `"control":"list_add","list":"vip","value":"u-1","why":"w"`,
			`"control":"snooze","rule":"mule","why":"w","until":"2027-01-01T00:00:00Z","match":{"card":"c-1","payer":"u-1"}`)
		in.Tx.Device.Addr = netip.MustParseAddr("198.51.100.130")
	})
	run("absent", func() { in.Features = make([]payment.Value, len(in.Features)) })
}

// decide loads rules over the test features with a policy, and decides.
func decide(t *testing.T, policy, rules string, in *Input) (*payment.Decision, *Evaluator) {
	t.Helper()
	files := fstest.MapFS{"features/a.yaml": {Data: []byte(testFeatures)}, "rules/a.yaml": {Data: []byte("rules:\n" + rules)}}
	if policy != "" {
		files["policy.yaml"] = &fstest.MapFile{Data: []byte(policy)}
	}
	set, err := LoadFS(files)
	if err != nil {
		t.Fatal(err)
	}
	e := set.NewEvaluator()
	d := &payment.Decision{}
	d.Reset()
	e.Decide(in, d)
	if d.Versions.Rules != set.Hash() || d.Source != payment.SourceRules || !d.Points.Present || d.Final != (d.Verdict != payment.Hold) {
		t.Errorf("%s", d.Append(nil))
	}
	return d, e
}

// reasons writes the reasons of a decision in one line.
func reasons(d *payment.Decision) string {
	var words []string
	for _, r := range d.Reasons {
		words = append(words, fmt.Sprintf("%s/%s/%d/%s", r.Code, r.Rule, r.Points, r.Detail))
	}
	return strings.Join(words, " ")
}

const noThresholds = "thresholds: []\n"

func TestStrictestVerdictWinsAndReasonsAreInOrder(t *testing.T) {
	in := bare()
	in.Features[0] = payment.IntValue(3)
	d, e := decide(t, noThresholds, `
  - {id: points-20, points: 20, when: "card.a_1h == 3"}
  - {id: hold-0, verdict: hold, when: "card.a_1h == 3", payer_code: HOLD, payer_message: {en: held}}
  - {id: points-50, points: 50, when: "card.a_1h == 3"}
  - {id: never, verdict: block, when: "card.a_1h == 4"}
  - {id: block-10, verdict: block, points: 10, when: "card.a_1h == 3", reason: B, payer_code: BLOCK, payer_message: {en: blocked}}
  - {id: unknown, verdict: block, when: "card.b_1h == 4"}
  - {id: hold-5, verdict: hold, points: 5, when: "card.a_1h == 3"}
  - {id: block-11, verdict: block, points: 11, when: "card.a_1h == 3", detail: "{card.a_1h} of {amount}, not {card.b_1h}"}
  - {id: hold-0b, verdict: hold, when: "card.a_1h == 3"}
  - {id: other-type, verdict: block, applies_to: {type: [transfer]}, when: "card.a_1h == 3"}
`, in)
	want := "BLOCK_11/block-11/11/3 of CNY 12.50, not unknown B/block-10/10/ HOLD_5/hold-5/5/ HOLD_0/hold-0/0/ HOLD_0B/hold-0b/0/ POINTS_50/points-50/50/ POINTS_20/points-20/20/"
	if got := reasons(d); got != want || d.Verdict != payment.Block || d.Points.N != 96 {
		t.Errorf("got  %s\nwant %s\n%s", got, want, d.Append(nil))
	}
	if d.PayerCode != "" || d.PayerMessage != "" {
		t.Errorf("the leading rule says nothing to the payer, and the decision says %q", d.PayerMessage)
	}
	if len(d.Hold.Needs) != 0 || d.Hold.ExpiresAt != 0 {
		t.Error("a block has terms of a hold")
	}
	if fmt.Sprint(d.Evidence.Unknown, e.Unknown(), len(e.Hits()), len(e.Failed())) != "[unknown] [5] 7 0" {
		t.Error(d.Evidence.Unknown, e.Unknown(), e.Hits())
	}
}

func TestNothingHitApproves(t *testing.T) {
	d, _ := decide(t, "", "  - {id: a, verdict: block, when: \"amount > CNY(100)\"}\n", bare())
	if d.Verdict != payment.Approve || !d.Final || d.Points.N != 0 || len(d.Reasons)+len(d.Hold.Needs)+len(d.Degraded)+len(d.Shadow) != 0 {
		t.Errorf("%s", d.Append(nil))
	}
}

func TestPointsMeetThresholds(t *testing.T) {
	rules := `
  - {id: a, points: 50, when: "amount > CNY(1)", payer_code: A}
  - {id: b, points: 40, when: "amount > CNY(2)"}
`
	for policy, want := range map[string]string{
		"":               "hold POINTS//0/90 points A/a/50/ B/b/40/", // 80 holds by default
		"thresholds: []": "approve A/a/50/ B/b/40/",
		"thresholds: [{points: 91, verdict: block}]":                                                            "approve A/a/50/ B/b/40/",
		"thresholds: [{points: 90, verdict: block}, {points: 50, verdict: hold}]":                               "block POINTS//0/90 points A/a/50/ B/b/40/",
		"thresholds: [{points: 90, verdict: block, applies_to: {type: refund}}, {points: 50, verdict: hold}]":   "hold POINTS//0/90 points A/a/50/ B/b/40/",
		"thresholds: [{score: 1, verdict: block}]":                                                              "approve A/a/50/ B/b/40/",
		"thresholds: [{points: 90, verdict: block, applies_to: {channel: [qr]}}, {points: 100, verdict: hold}]": "approve A/a/50/ B/b/40/",
	} {
		d, _ := decide(t, policy, rules, bare())
		if got := d.Verdict.String() + " " + reasons(d); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", policy, got, want)
		}
		if (d.PayerCode == "A") != (d.Verdict != payment.Approve) {
			t.Errorf("%s: payer code %q", policy, d.PayerCode)
		}
	}
}

func TestWithoutARateThePolicyDecides(t *testing.T) {
	rules := "  - {id: a, verdict: block, when: \"amount > CNY(1)\"}\n  - {id: b, points: 5, when: \"currency == \\\"CNY\\\"\"}\n"
	for policy, want := range map[string]string{
		noThresholds:       "hold NO_RATE//0/ B/b/5/ [review]",
		"no_rate: approve": "approve NO_RATE//0/ B/b/5/ []",
		"no_rate: block":   "block NO_RATE//0/ B/b/5/ []",
	} {
		in := bare()
		in.HasAmount = false
		d, _ := decide(t, policy, rules, in)
		if got := fmt.Sprint(d.Verdict, " ", reasons(d), " ", d.Hold.Needs); got != want || len(d.Evidence.Unknown) != 1 {
			t.Errorf("%s: got %s, want %s", policy, got, want)
		}
	}
}

func TestHoldTermsAreJoined(t *testing.T) {
	in := bare()
	for rules, want := range map[string]string{
		`{id: a, verdict: hold, when: "amount > CNY(1)"}`:                                                                            "[review] [] 24h0m0s block",
		`{id: a, verdict: hold, when: "amount > CNY(1)", hold: {needs: step_up}}`:                                                    "[step_up] [] 3m0s block",
		`{id: a, verdict: hold, when: "amount > CNY(1)", hold: {needs: [review, step_up]}}`:                                          "[step_up review] [] 24h0m0s block",
		`{id: a, verdict: hold, when: "amount > CNY(1)", hold: {needs: step_up, methods: [otp, face], for: 2m, on_expiry: approve}}`: "[step_up] [otp face] 2m0s approve",
		`{id: a, verdict: hold, when: "amount > CNY(1)", hold: {needs: step_up, methods: [otp, face], for: 2m, on_expiry: approve}}
  - {id: b, verdict: hold, when: "amount > CNY(2)", hold: {needs: [step_up], methods: [face, password], for: 5m}}`: "[step_up] [otp face password] 5m0s block",
		`{id: a, verdict: hold, when: "amount > CNY(1)", hold: {needs: step_up, for: 2m, on_expiry: approve}}
  - {id: b, verdict: hold, when: "amount > CNY(2)", hold: {for: 1h, on_expiry: approve}}`: "[step_up review] [] 1h0m0s approve",
		`{id: a, verdict: hold, when: "amount > CNY(1)", hold: {needs: step_up, for: 2m}}
  - {id: b, points: 80, when: "amount > CNY(2)"}`: "[step_up review] [] 24h0m0s block",
	} {
		d, _ := decide(t, "", "  - "+rules+"\n", in)
		got := fmt.Sprint(d.Hold.Needs, " ", d.Hold.Methods, " ", d.Hold.ExpiresAt.Std().Sub(in.Tx.EventTime.Std()), " ", d.Hold.OnExpiry)
		if got != want {
			t.Errorf("%s\ngot  %s\nwant %s", rules, got, want)
		}
	}
}

func TestCallerWhoCannotHoldGetsThePolicysVerdict(t *testing.T) {
	review := `  - {id: a, verdict: hold, when: "amount > CNY(1)", payer_code: A}` + "\n"
	stepUp := `  - {id: a, verdict: hold, when: "amount > CNY(1)", payer_code: A, hold: {needs: step_up}}` + "\n"
	both := `  - {id: a, verdict: hold, when: "amount > CNY(1)", payer_code: A, hold: {needs: [step_up, review]}}` + "\n"
	for _, c := range []struct {
		rules, channel string
		accepts        payment.Accepts
		want           string
	}{
		{review, "web", 0, "hold A"},
		{review, "web", payment.AcceptsStated | payment.AcceptsHold, "hold A"},
		{review, "web", payment.AcceptsStated | payment.AcceptsStepUp, "block A CANNOT_HOLD"},
		{review, "web", payment.AcceptsStated, "block A CANNOT_HOLD"},
		{review, "transit", payment.AcceptsStated, "approve A CANNOT_HOLD"},
		{review, "transit", 0, "hold A"},
		{stepUp, "web", payment.AcceptsStated | payment.AcceptsHold, "block A CANNOT_HOLD"},
		{stepUp, "web", payment.AcceptsStated | payment.AcceptsHold | payment.AcceptsStepUp, "hold A"},
		{both, "web", payment.AcceptsStated | payment.AcceptsHold, "block A CANNOT_HOLD"}, // one of the needs can never be met
		{both, "web", payment.AcceptsStated | payment.AcceptsHold | payment.AcceptsStepUp, "hold A"},
	} {
		in := bare()
		in.Tx.Channel, in.Tx.Accepts = c.channel, c.accepts
		d, _ := decide(t, "", c.rules, in)
		got := d.Verdict.String()
		for _, r := range d.Reasons {
			got += " " + r.Code
		}
		if got != c.want || (len(d.Hold.Needs) > 0) != (d.Verdict == payment.Hold) || (d.PayerCode == "A") != (d.Verdict != payment.Approve) {
			t.Errorf("%+v: %s", c, d.Append(nil))
		}
	}
}

func TestPayerIsToldInTheirLanguage(t *testing.T) {
	rules := `  - {id: a, verdict: block, when: "amount > CNY(1)", payer_message: {%s}}` + "\n"
	for _, c := range [][3]string{
		{"de: d, zh: z, zh-TW: t, en: e", "zh-TW", "t"}, {"de: d, zh: z, zh-TW: t, en: e", "zh-CN", "z"}, {"de: d, zh: z, en: e", "ZH", "z"},
		{"de: d, zh: z, en: e", "fr-FR", "e"}, {"de: d, zh: z, en: e", "", "e"}, {"de: d, zh: z", "fr", "d"}, {"de: d", "en-GB", "d"},
	} {
		in := bare()
		in.Tx.Locale = c[1]
		if d, _ := decide(t, "", fmt.Sprintf(rules, c[0]), in); d.PayerMessage != c[2] {
			t.Errorf("%v: %s", c, d.PayerMessage)
		}
	}
}

func TestDetailsShowValuesAsPeopleReadThem(t *testing.T) {
	in := bare()
	in.Features[0], in.Features[2], in.Features[3], in.Features[4], in.Features[6] = payment.IntValue(-3), payment.FloatValue(0.126), payment.IntValue(5), payment.FloatValue(1249.6), payment.BoolValue(true)
	in.Tx.AuthMethods = []string{"otp", "face"}
	in.Tx.Amount.Value, in.Tx.Amount.Currency = 1250, mustCurrency("JPY")
	rules := `  - {id: a, verdict: block, when: "amount > CNY(1)", detail: "%s"}` + "\n"
	for detail, want := range map[string]string{
		"": "", "plain": "plain", "{amount}": "CNY 12.50", "{amount_original}": "JPY 1250", "{card.a_1h}{card.a_1h} x": "-3-3 x", "{card.b_1h}": "unknown",
		"{card.share_1h}": "0.13", "{card.s_1h}": "CNY 0.05", "{card.m_1h}!": "CNY 12.50!", "{card.f}": "true", "{auth.methods}": "otp, face", "{payer.account_id}, {payer.country}": "u, unknown",
		"{attributes.x}": "unknown", "{type}": "payment", "{hour}:00": "23:00", "{device.lat}": "unknown",
	} {
		d, _ := decide(t, "time_zone: Asia/Shanghai\n", fmt.Sprintf(rules, detail), in)
		if d.Reasons[0].Detail != want {
			t.Errorf("%s: %q, want %q", detail, d.Reasons[0].Detail, want)
		}
	}
	for v, want := range map[float64]string{0: "0", 1: "1", 0.5: "0.5", -0.001: "0", 1234.567: "1234.57", 100: "100"} {
		if got := string(appendDecimal(nil, v)); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

func TestShadowRulesChangeNothingButTheRecord(t *testing.T) {
	acting := `
  - {id: a, verdict: hold, points: 10, when: "amount > CNY(1)"}
  - {id: off, verdict: block, mode: disabled, when: "amount > CNY(1)"}
`
	plain, _ := decide(t, "", acting, bare())
	with, e := decide(t, "", acting+`
  - {id: s1, verdict: block, points: 90, mode: shadow, when: "amount > CNY(1)", payer_message: {en: no}}
  - {id: s2, points: 90, mode: shadow, when: "amount > CNY(1)"}
  - {id: s3, verdict: block, mode: shadow, when: "card.a_1h > 1"}
  - {id: s4, verdict: block, mode: shadow, when: "abs(amount * 9223372036854775807) > CNY(1)"}
`, bare())
	if got := fmt.Sprint(with.Shadow); got != "[{s1 block} {s2 }]" {
		t.Errorf("shadow: %s", got)
	}
	if got := fmt.Sprint(e.Hits(), e.Unknown(), e.Failed()); got != "[0 2 3] [4] [5]" {
		t.Errorf("hits, unknown, failed: %s", got)
	}
	with.Shadow, with.Versions = nil, plain.Versions
	if got, want := string(with.Append(nil)), string(plain.Append(nil)); got != want {
		t.Errorf("with shadow rules\n%s\nwithout\n%s", got, want)
	}
}

func TestRulesOfOtherTypesAndChannelsAreNotEvaluated(t *testing.T) {
	rules := `
  - {id: all, points: 1, when: "amount > CNY(1)"}
  - {id: web, points: 2, applies_to: {channel: web}, when: "amount > CNY(1)"}
  - {id: qr-or-web, points: 4, applies_to: {channel: [qr, web]}, when: "amount > CNY(1)"}
  - {id: refund, points: 8, applies_to: {type: refund}, when: "amount > CNY(1)"}
  - {id: payment-web, points: 16, applies_to: {type: [payment, top_up], channel: web}, when: "amount > CNY(1)"}
`
	for _, c := range []struct {
		kind    payment.Type
		channel string
		want    int
	}{
		{payment.TypePayment, "web", 1 + 2 + 4 + 16}, {payment.TypePayment, "qr", 1 + 4}, {payment.TypePayment, "face", 1}, {payment.TypePayment, "", 1},
		{payment.TypeRefund, "web", 1 + 2 + 4 + 8}, {payment.TypeRefund, "new-channel", 1 + 8}, {payment.TypeTopUp, "web", 1 + 2 + 4 + 16},
	} {
		in := bare()
		in.Tx.Type, in.Tx.Channel = c.kind, c.channel
		if d, _ := decide(t, noThresholds, rules, in); d.Points.N != c.want {
			t.Errorf("%v: %d points", c, d.Points.N)
		}
	}
}

func TestAFailureWithoutAValueIsContained(t *testing.T) {
	in := bare()
	in.Features[5] = payment.RefValue(1)
	in.Hash = nil // a caller's mistake
	d, _ := decide(t, noThresholds, `
  - {id: a, verdict: block, when: "card.d != device.id"}
  - {id: b, verdict: hold, when: "amount > CNY(1)"}
`, in)
	if d.Verdict != payment.Hold || fmt.Sprint(d.Evidence.Failed) != "[a]" {
		t.Errorf("%s", d.Append(nil))
	}
}

// firesWithoutAllocating decides an input for which one rule fires.
func firesWithoutAllocating(t *testing.T, e *Evaluator, in *Input) {
	t.Helper()
	var d payment.Decision
	decide := func() {
		d.Reset()
		e.Decide(in, &d)
	}
	decide()
	if len(e.Hits()) != 1 {
		t.Fatalf("the rule did not fire: %s", d.Append(nil))
	}
	if n := testing.AllocsPerRun(1000, decide); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
