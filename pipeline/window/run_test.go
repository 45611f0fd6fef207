package window

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Transactions that are appended together get the values, and the positions, of
// being appended one by one: with late ones, repeats within and across calls,
// outcomes that wait and outcomes in between.
func TestFoldingTogetherIsFoldingOneByOne(t *testing.T) {
	features := testFeatures(t)
	var plain []Feature
	for i := range features {
		if f := features[i].Feature; !f.ReadsVerdict { // those are never appended together
			plain = append(plain, f)
		}
	}
	open := func() *Embedded {
		s, err := Open(Options{Features: plain, Lateness: 40 * 24 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 3))
		together, oneByOne := open(), open()
		clock := payment.Time(1_800_000_000e9)
		var sent []payment.Transaction
		for range 60 {
			var txs []payment.Transaction
			for range 1 + rng.IntN(12) {
				clock += payment.Time(rng.IntN(600)) * payment.Time(time.Second)
				if len(sent) > 0 && rng.IntN(6) == 0 {
					txs = append(txs, sent[rng.IntN(len(sent))])
					continue
				}
				tx := payment.Transaction{ID: fmt.Sprint("t", len(sent)), Type: payment.TypePayment, Channel: "web", EventTime: clock - payment.Time(rng.IntN(3))*payment.Time(time.Hour)}
				tx.Payer.AccountID, tx.Payee.AccountID = fmt.Sprint("p", rng.IntN(3)), fmt.Sprint("m", rng.IntN(2))
				tx.Instrument.Token, tx.Instrument.Kind = fmt.Sprint("c", rng.IntN(3)), "card"
				sent, txs = append(sent, tx), append(txs, tx)
			}
			items, singles := make([]*Item, len(txs)), make([]*Item, len(txs))
			for i := range txs {
				amount := rng.Int64N(1000)
				items[i] = &Item{Tx: &txs[i], KafkaTime: clock, Base: amount, Based: true}
				singles[i] = &Item{Tx: &txs[i], KafkaTime: clock, Base: amount, Based: true}
				if err := oneByOne.Append(t.Context(), singles[i:i+1]); err != nil {
					t.Fatal(err)
				}
			}
			if err := together.Append(t.Context(), items); err != nil {
				t.Fatal(err)
			}
			for i := range items {
				if !slices.Equal(items[i].Positions, singles[i].Positions) {
					t.Fatalf("seed %d: %s stands at %v, one by one at %v", seed, txs[i].ID, items[i].Positions, singles[i].Positions)
				}
				for k := range items[i].Values {
					if !same(items[i].Values[k], singles[i].Values[k]) {
						t.Fatalf("seed %d: %s of %s differs from that of folding one by one", seed, plain[k].FullName(), txs[i].ID)
					}
				}
			}
			of := fmt.Sprint("t", rng.IntN(len(sent)+10)) // some have not come yet
			for _, s := range []*Embedded{together, oneByOne} {
				err := s.Outcomes(t.Context(), []*OutcomeItem{{Outcome: &payment.Outcome{
					ID: fmt.Sprint(of, clock), TransactionID: of, Kind: payment.OutcomeTechnicalFailure, EventTime: clock,
				}}})
				if err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
