package view

import (
	"strings"
	"testing"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Decisions are lines that a person can read, refused records are not passed
// over in silence, and totals count all that was seen.
func TestTheStreamShowsWhatHappens(t *testing.T) {
	var out strings.Builder
	s := Stream{Out: &out}
	cny, _ := payment.ParseCurrency("CNY")
	var d payment.Decision
	for i, v := range []payment.Verdict{payment.Approve, payment.Hold} {
		d.Reset()
		d.TransactionID, d.Verdict, d.Source = "t", v, payment.SourceRules
		d.Transaction = payment.Summary{Channel: "qr", Amount: payment.Amount{Value: 12850, Currency: cny}}
		d.ReceivedAt = payment.Time(1_800_000_000e9)
		d.DecidedAt = d.ReceivedAt + payment.Time(1_500_000+i*7_200_000_000_000) // the second one was played from the past
		if v == payment.Hold {
			d.Reasons = append(d.Reasons, payment.DecisionReason{Code: "CARD_TESTING", Detail: "6 attempts"})
		}
		s.Decision(&broker.Record{Value: d.Append(nil)})
	}
	d.Reset()
	d.TransactionID, d.Verdict, d.Source, d.EventTime = "t", payment.Hold, payment.SourceDefaultDeadline, payment.Time(1_800_000_000e9)
	s.Decision(&broker.Record{Value: d.Append(nil), Time: 1_800_000_000_250}) // a default does not say when it was made
	s.DeadLetter(&broker.Record{Headers: []broker.Header{{Key: "reason", Value: []byte("id_conflict")}, {Key: "field", Value: []byte("transaction_id")}}})
	s.DeadLetter(&broker.Record{Headers: []broker.Header{{Key: "receipt", Value: []byte("done")}}}) // nothing was refused
	s.Decision(&broker.Record{Value: []byte("{")})
	s.Totals()
	got := out.String()
	if n := strings.Count(got, "dead letter:"); n != 1 {
		t.Errorf("%d dead letters of one:\n%s", n, got)
	}
	for _, want := range []string{
		"08:00:00.001  qr                  CNY 128.50  approve      1.5",
		"10:00:00.001  qr                  CNY 128.50  hold           -  CARD_TESTING (6 attempts)",
		"08:00:00.250                               -  hold       250.0  \n",
		"dead letter: id_conflict transaction_id\n",
		"a decision cannot be read: ",
		"── 3 payments, ", "approve 1 (33.3 %) · hold 2 (66.7 %) · block 0 (0.0 %) · p50 1.5 ms, p99 1.5 ms",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}
