package window

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// An outcome waits for its payment, which comes; the machine crashes when the disk
// has the payment and not what stands behind it. The outcome counts all the same,
// once, wherever the write was cut.
func TestOutcomeThatACrashCutFromItsPaymentCounts(t *testing.T) {
	l := ledger{opts: Options{Dir: t.TempDir(), Features: journalFeatures(), SyncEvery: time.Hour}}
	s := opened(t, l.opts)
	first := l.item(0)
	if err := s.Outcomes(t.Context(), []*OutcomeItem{outcomeOf("t0", "o", first.Tx.EventTime)}); err != nil {
		t.Fatal(err)
	}
	waits := s.Written() & (1<<32 - 1)
	appended(t, s, first)
	crashed := copyOf(t, l.opts.Dir)
	tail := filesIn(t, crashed, "journal-*")[0]
	whole, err := os.ReadFile(tail)
	if err != nil {
		t.Fatal(err)
	}
	mark, err := os.ReadFile(filepath.Join(crashed, "SYNCED"))
	if err != nil {
		t.Fatal(err)
	}
	alone := 0
	for at := int(waits); at <= len(whole); at += unit {
		if err := errors.Join(os.WriteFile(tail, whole[:at], 0o600), os.WriteFile(filepath.Join(crashed, "SYNCED"), mark, 0o600)); err != nil {
			t.Fatal(err)
		}
		opts := l.opts
		opts.Dir = crashed
		again, err := Open(opts)
		if err != nil {
			t.Fatal(err)
		}
		if held, err := again.Holds(t.Context(), again.Key().Tx("t0")); err != nil {
			t.Fatal(err)
		} else if held && at < len(whole) {
			alone++
		}
		appended(t, again, l.item(0)) // comes again from Kafka
		it := appended(t, again, l.item(1))
		if got, want := asJSON(it.Values[2]), "1"; got != want {
			t.Errorf("cut at byte %d of %d: the card has %s failed payments, want %s", at, len(whole), got, want)
		}
		if waiting, err := again.Parked(t.Context(), maxTime); err != nil || len(waiting) != 0 {
			t.Errorf("cut at byte %d of %d: %d outcomes wait, %v", at, len(whole), len(waiting), err)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if alone == 0 {
		t.Error("no cut was between the payment and its outcome: the test proves nothing")
	}
}
