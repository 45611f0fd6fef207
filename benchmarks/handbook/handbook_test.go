package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"
)

// handbookData is the folder of the data set. It is not part of the repository:
// without it a test is skipped, unless CI has promised it.
func handbookData(t *testing.T) string {
	t.Helper()
	folder, err := dataFolder()
	switch {
	case errors.Is(err, errNoData) && (os.Getenv("CI") == "" || os.Getenv("HANDBOOK_DATA") == ""):
		t.Skipf("features are not held against the published ones: %v", err)
	case err != nil:
		t.Fatal(err)
	}
	return folder
}

// TestHandbookFeaturesAreThePublishedOnes replays all transactions. When a label
// arrives must not matter as long as it is known when it counts, seven days later.
func TestHandbookFeaturesAreThePublishedOnes(t *testing.T) {
	folder := handbookData(t)
	for name, delay := range map[string]time.Duration{"labels when they become known": labelDelay, "labels at once": 0} {
		t.Run(name, func(t *testing.T) {
			r := run{folder: folder, delay: delay}
			found, err := r.run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			report(t, found.problems())
			if found.transactions != 756_562 || len(found.files[0].rows) != 201_295 || len(found.files[1].rows) != 9_834 {
				t.Errorf("%d transactions, %d and %d published rows: not the data set that the README describes",
					found.transactions, len(found.files[0].rows), len(found.files[1].rows))
			}
			for _, id := range ties {
				if !found.has(id) {
					t.Errorf("no published row of transaction %s, which is a known tie", id)
				}
			}
			t.Logf("%d transactions in %v", found.transactions, found.took.Round(time.Millisecond))
		})
	}
}

// report fails the test for each problem, and says only how many where they are many.
func report(t *testing.T, problems []string) {
	t.Helper()
	const shown = 20
	for _, p := range problems[:min(shown, len(problems))] {
		t.Error(p)
	}
	if n := len(problems) - shown; n > 0 {
		t.Errorf("and %d more", n)
	}
}

// TestComparisonSeesTheLastPublishedDigit keeps the comparison itself honest: it
// must fail where a value is off by a digit, a row is missing, or a tie is equal.
func TestComparisonSeesTheLastPublishedDigit(t *testing.T) {
	mean, count := &columns[3], &columns[2]
	for _, c := range []struct {
		column          *column
		published, ours float64
		equal           bool
	}{
		{mean, 30.1418095, 30.14180954, true}, {mean, 30.1418095, 30.14180956, false},
		{mean, 0.0434782609, 1. / 23, true}, {mean, 0.0434782609, 1./23 + 1e-10, false},
		{mean, 0, 0, true}, {mean, 0, 1e-6, false}, {mean, 8.8817842e-15, 0, true},
		{count, 30, 30, true}, {count, 30, 31, false},
	} {
		if got := c.column.equals(c.published, c.ours); got != c.equal {
			t.Errorf("%s: published %v, ours %v: equal is %t", c.column.name, c.published, c.ours, got)
		}
	}
	row := make([]float64, len(columns))
	row[8] = 1 // a feature of the terminal
	f := &published{name: "file", rows: map[string][]float64{"1": row, "2": row, ties[0]: make([]float64, len(columns))}}
	c := newComparison(f)
	zeros := `"reasons":[],"evidence":{"features":{"payer.transactions_1d":0,"payer.average_1d":0,"payer.transactions_7d":0,"payer.average_7d":0,` +
		`"payer.transactions_30d":0,"payer.average_30d":0,"terminal.transactions_1d":0,"terminal.fraud_share_1d":0,"terminal.transactions_7d":0,` +
		`"terminal.fraud_share_7d":0,"terminal.transactions_30d":0,"terminal.fraud_share_30d":0}}}`
	c.add([]byte(`{"transaction_id":"1",` + zeros))
	c.add([]byte(`{"transaction_id":"` + ties[0] + `",` + zeros))
	want := []string{
		"file: 3 rows, 2 decisions",
		"transaction 1: TERMINAL_ID_NB_TX_1DAY_WINDOW: published 1, here 0",
		"transaction " + ties[0] + ": equal, though the published file has its tie the other way round",
	}
	if got := c.problems(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestLabelsComeWhenTheyAreKnown holds the order of the records.
func TestLabelsComeWhenTheyAreKnown(t *testing.T) {
	all := func(yield func(purchase, error) bool) {
		for i, p := range []purchase{
			{id: "fraud", at: 1e9, customer: "c", terminal: "t", cents: 5, fraud: true},
			{id: "before", at: 8e9}, {id: "same second", at: 11e9}, {id: "last fraud", at: 12e9, fraud: true},
		} {
			if !yield(p, nil) {
				t.Fatalf("ended at %d", i)
			}
		}
	}
	order := func(delay time.Duration) (got []string) {
		for r, err := range records(all, delay) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(transactionID(r.value))+[]string{"", " known"}[r.kind])
		}
		return got
	}
	if got, want := order(10*time.Second), []string{"fraud", "before", "fraud known", "same second", "last fraud", "last fraud known"}; !slices.Equal(got, want) {
		t.Errorf("ten seconds later: %q, want %q", got, want)
	}
	if got, want := order(0), []string{"fraud", "fraud known", "before", "same second", "last fraud", "last fraud known"}; !slices.Equal(got, want) {
		t.Errorf("at once: %q, want %q", got, want)
	}
}

// within bounds what a test waits for.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
