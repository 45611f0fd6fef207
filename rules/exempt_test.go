package rules

import (
	"fmt"
	"testing"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

const exempts = `rules:
  - {id: a, tags: [card, travel], verdict: hold, points: 50, when: 'amount > CNY(1)'}
  - {id: b, tags: [card], points: 40, when: 'amount > CNY(1)'}
  - {id: c, points: 5, when: 'amount > CNY(1)'}
  - {id: s, tags: [card], verdict: block, mode: shadow, when: 'amount > CNY(1)'}
exempt:
  - {id: by-id, when: 'payer.country == "CN"', from: {rules: [a]}, until: 2026-11-22, why: w}
  - {id: by-tag, when: 'payer.country == "DE"', from: {tags: [card]}}
  - {id: fails, when: 'abs(amount * 9223372036854775807) > CNY(1)', from: {rules: [c]}}
  - {id: late, when: 'card.a_1h < 3', from: {rules: [c]}}
`

func TestAnExemptSwitchesOffWhatItNames(t *testing.T) {
	set := withLists(t, "time_zone: Asia/Shanghai\n", exempts)
	for _, c := range []struct {
		country, at string
		want        string
	}{
		{"FR", "", "hold 95 [] [s]"}, // three rules and their threshold
		{"", "", "hold 95 [] [s]"},
		{"CN", "2026-11-22T23:59:59.9+08:00", "approve 45 [by-id] [s]"},
		{"CN", "2026-11-23T00:00:00+08:00", "hold 95 [] [s]"},
		{"DE", "", "approve 5 [by-tag] []"},
	} {
		in := bare()
		in.Tx.Payer.Country = c.country
		if c.at != "" {
			in.Tx.EventTime, _ = payment.ParseTime(c.at)
		}
		d := decided(set, in)
		shadows := []string{}
		for _, s := range d.Shadow {
			shadows = append(shadows, s.Rule)
		}
		if got := fmt.Sprint(d.Verdict, " ", d.Points.N, " ", d.Evidence.Exempt, " ", shadows); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.country, c.at, got, c.want)
		}
		if fmt.Sprint(d.Evidence.Failed, d.Degraded) != "[fails] [rule_failed]" {
			t.Errorf("an exempt that fails is not said: %s", d.Append(nil))
		}
	}
	in := bare()
	in.Features[0] = payment.IntValue(2)
	if d := decided(set, in); fmt.Sprint(d.Points.N, d.Evidence.Exempt) != "90 [late]" {
		t.Errorf("%s", d.Append(nil))
	}
}
