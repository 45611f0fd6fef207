package main

import (
	"slices"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

func TestStreamIsTheSameHoweverItIsTaken(t *testing.T) {
	const n = 5000
	whole, parts := newStream(1, 1000, step), newStream(1, 1000, step)
	want, got := make([]payment.Transaction, n), make([]payment.Transaction, n)
	whole.next(want)
	for from, size := 0, 1; from < n; from, size = from+size, size+7 {
		parts.next(got[from:min(from+size, n)])
	}
	for i := range want {
		for _, k := range kinds {
			if e := (window.Entity{First: k}); e.ID(&got[i]) != e.ID(&want[i]) || e.ID(&got[i]) == "" {
				t.Fatalf("transaction %d: %s %q, want %q", i, e, e.ID(&got[i]), e.ID(&want[i]))
			}
		}
		if got[i].ID != want[i].ID || got[i].Amount != want[i].Amount || got[i].EventTime != want[i].EventTime {
			t.Fatalf("transaction %d: %v, want %v", i, got[i], want[i])
		}
	}
}

func TestEveryTransactionIsOneMoreAndLater(t *testing.T) {
	s := newStream(1, 1000, step)
	txs := make([]payment.Transaction, 5000)
	s.next(txs)
	payers, ids := map[string]bool{}, map[string]bool{}
	for i := range txs {
		if want := streamStart.Add(time.Duration(i) * step); txs[i].EventTime != want {
			t.Fatalf("transaction %d at %v, want %v", i, txs[i].EventTime, want)
		}
		if i < 1000 {
			payers[txs[i].Payer.AccountID] = true
		}
		ids[txs[i].ID] = true
	}
	if len(payers) != 1000 || len(ids) != len(txs) {
		t.Fatalf("%d of 1000 payers in the first 1000 transactions, %d ids of %d transactions", len(payers), len(ids), len(txs))
	}
}

// Neighbours that roll the same dice would pay from the same accounts.
func TestTransactionsAreIndependent(t *testing.T) {
	s := newStream(1, 1000, step)
	txs := make([]payment.Transaction, 101_000)
	s.next(txs)
	txs = txs[1000:] // in which everybody paid once, in order
	same := 0
	sizes := map[string]int{}
	for i := range txs {
		if i > 0 && txs[i].Payer.AccountID == txs[i-1].Payer.AccountID {
			same++
		}
		sizes[txs[i].Payer.AccountID]++
	}
	if same < 50 || same > 200 { // 100 are expected of 100,000 that choose among 1000
		t.Errorf("%d transactions have the payer of the one before, want about 100", same)
	}
	counts := make([]int, 0, len(sizes))
	for _, n := range sizes {
		counts = append(counts, n)
	}
	if least, most := slices.Min(counts), slices.Max(counts); len(counts) != 1000 || least < 50 || most > 160 {
		t.Errorf("%d payers have %d to %d transactions each, want 1000 with about 100", len(counts), least, most)
	}
}
