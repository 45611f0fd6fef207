package pipeline_test

import (
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// The ledger knows a payment whose entry a store has lost: its outcome waits for
// the payment to come back, and only that of a refused one does not.
func TestOutcomeOfAPaymentThatTheStoreHasLostWaitsForIt(t *testing.T) {
	store, err := window.Open(window.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	config := pipeline.DefaultConfig()
	gate := &pipeline.Gate{Store: store, Ledger: ledger.New(0, func(window.TxHash) (window.Mark, bool) { return window.Mark{}, false }), Limits: config.Limits()}
	for id, invalid := range map[string]bool{"decided": false, "refused": true} {
		gate.Ledger.Add(window.Mark{Tx: store.Key().Tx(id), Verdict: payment.Approve, Invalid: invalid}, nil)
		outcome := `{"v":1,"outcome_id":"o-1","transaction_id":"` + id + `","outcome":"settled","event_time":"2026-11-25T10:00:00Z","payer":{"account_id":"u-1"}}`
		records := []broker.Record{{Time: time.Date(2026, 11, 25, 10, 0, 1, 0, time.UTC).UnixMilli(), Key: []byte("u-1"), Value: []byte(outcome)}}
		if err := gate.NewOutcomeDecoder().Take(t.Context(), "outcomes", records, func(_ *broker.Record, r *payment.Refusal) { t.Error(r) }); err != nil {
			t.Fatal(err)
		}
	}
	waiting, err := store.Parked(t.Context(), payment.TimeOf(time.Now().Add(100*365*24*time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	if len(waiting) != 1 || waiting[0].Tx != store.Key().Tx("decided") {
		t.Fatalf("outcomes of these wait: %v", waiting)
	}
}
