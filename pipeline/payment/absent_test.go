package payment

import "testing"

// An amount that cannot be read is absent from its decision: zero would be an
// amount, and that of an account verification.
func TestAnAmountThatCannotBeReadIsAbsentNotZero(t *testing.T) {
	for value, reason := range map[string]Reason{`-1`: ReasonAmountNegative, `9223372036854775808`: ReasonAmountOverflow, `1.5`: ReasonWrongType, `"100"`: ReasonWrongType} {
		d := Decoder{Limits: DefaultLimits()}
		var tx Transaction
		record := `{"transaction_id":"t","type":"payment","event_time":"2026-11-23T00:00:00Z","amount":{"value":` + value + `,"currency":"CNY"},"payer":{"account_id":"u"}}`
		refusal := d.Transaction([]byte(record), 1_795_392_000e9, &tx)
		if refusal == nil || refusal.Reason != reason || refusal.Field != "amount.value" {
			t.Errorf("%s: %v, want %s", value, refusal, reason)
		}
		if s := SummaryOf(&tx); !tx.Identified() || s.Amount != (Amount{}) {
			t.Errorf("%s: identified %v, amount %+v", value, tx.Identified(), s.Amount)
		}
	}
}
