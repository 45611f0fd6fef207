package rules

import (
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

func TestDefaultOfThePolicyHasACeilingForApprovals(t *testing.T) {
	set, err := LoadFS(fstest.MapFS{"policy.yaml": {Data: []byte(`
when_late: {payment: {approve_up_to: CNY(500), else: hold}, transfer: hold, withdrawal: block, top_up: approve}
if_cannot_hold: {transit: approve, default: block}
`)}})
	if err != nil {
		t.Fatal(err)
	}
	cny, _ := payment.ParseCurrency("CNY")
	xau, _ := payment.ParseCurrency("USD") // without a rate
	for _, c := range []struct {
		name     string
		tx       payment.Transaction
		want     payment.Verdict
		expires  time.Duration
		reasons  string
		payerSay string
	}{
		{"at the ceiling", payment.Transaction{Type: payment.TypePayment, Amount: payment.Money{Value: 500_00, Currency: cny}}, payment.Approve, 0, "DEADLINE//0/", ""},
		{"above the ceiling", payment.Transaction{Type: payment.TypePayment, Amount: payment.Money{Value: 500_01, Currency: cny}}, payment.Hold, 24 * time.Hour, "DEADLINE//0/", "NOT_NOW"},
		{"no rate", payment.Transaction{Type: payment.TypePayment, Amount: payment.Money{Value: 1, Currency: xau}}, payment.Hold, 24 * time.Hour, "DEADLINE//0/", "NOT_NOW"},
		{"a type that is held", payment.Transaction{Type: payment.TypeTransfer, Amount: payment.Money{Value: 1, Currency: cny}}, payment.Hold, 24 * time.Hour, "DEADLINE//0/", "NOT_NOW"},
		{"a type that is blocked", payment.Transaction{Type: payment.TypeWithdrawal, Amount: payment.Money{Value: 1, Currency: cny}}, payment.Block, 0, "DEADLINE//0/", "NOT_NOW"},
		{"a type that is approved", payment.Transaction{Type: payment.TypeTopUp, Amount: payment.Money{Value: 1 << 40, Currency: cny}}, payment.Approve, 0, "DEADLINE//0/", ""},
		{"a turnstile cannot hold", payment.Transaction{Type: payment.TypeTransfer, Channel: "transit", Accepts: payment.AcceptsStated, Amount: payment.Money{Value: 1, Currency: cny}},
			payment.Approve, 0, "DEADLINE//0/ CANNOT_HOLD//0/", ""},
		{"a till cannot hold", payment.Transaction{Type: payment.TypeTransfer, Channel: "pos", Accepts: payment.AcceptsStated, Amount: payment.Money{Value: 1, Currency: cny}},
			payment.Block, 0, "DEADLINE//0/ CANNOT_HOLD//0/", "NOT_NOW"},
	} {
		var d payment.Decision
		d.Reset()
		set.Default(&c.tx, &d)
		if d.Verdict != c.want || d.Source != payment.SourceDefaultDeadline || d.Final || reasons(&d) != c.reasons || d.PayerCode != c.payerSay || d.Versions.Rules != set.Hash() {
			t.Errorf("%s: %s", c.name, d.Append(nil))
		}
		if c.want == payment.Hold && (!slices.Equal(d.Hold.Needs, []string{"review"}) || d.Hold.ExpiresAt != c.tx.EventTime.Add(c.expires) || d.Hold.OnExpiry != payment.Block) {
			t.Errorf("%s: hold %+v", c.name, d.Hold)
		}
	}
}

func TestRulesSayWhatTheyDoWithoutTheirFeatures(t *testing.T) {
	const rules = `
  - {id: skips, verdict: block, when: "card.a_1h >= 3"}
  - {id: fires, verdict: hold, when: "amount > CNY(1) and card.a_1h >= 3", without_features: hit}
`
	without := func(in *Input) { in.Without = []bool{true} }
	for _, c := range []struct {
		name    string
		change  func(*Input)
		want    payment.Verdict
		unknown int
	}{
		{"had, and few", func(in *Input) { in.Features[0] = payment.IntValue(1) }, payment.Approve, 0},
		{"had, and many", func(in *Input) { in.Features[0] = payment.IntValue(3) }, payment.Block, 0},
		{"absent because the payment names no card", func(*Input) {}, payment.Approve, 2},
		{"not to be had", without, payment.Hold, 1},
		{"not to be had, and it could not fire anyway", func(in *Input) { without(in); in.Amount = 1 }, payment.Approve, 1},
		{"too late for windows", func(in *Input) { in.Late, in.Tx.Instrument.Kind, in.Tx.Instrument.Token = true, "card", "c-1" }, payment.Hold, 1},
		{"too late for windows, without a card", func(in *Input) { in.Late = true }, payment.Approve, 2},
	} {
		in := bare()
		in.Amount, in.HasAmount = 100_00, true
		c.change(in)
		if d, e := decide(t, noThresholds, rules, in); d.Verdict != c.want || len(e.Unknown()) != c.unknown {
			t.Errorf("%s: %s, %d unknown", c.name, d.Verdict, len(e.Unknown()))
		}
	}
}
