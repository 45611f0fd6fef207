package window

import (
	"fmt"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// A feature without a window sees the first event, however long ago it was, and
// a restart does not change what it sees.
func TestAFeatureWithoutAWindowReachesBackToTheFirstEvent(t *testing.T) {
	opts := Options{Dir: t.TempDir(), Features: []Feature{
		{Entity: Entity{First: Payer}, Name: "since_first", Aggregate: SinceFirst},
		{Entity: Entity{First: Payer}, Name: "events_1h", Aggregate: Count, Length: time.Hour},
	}}
	store, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	begin := payment.Time(1_800_000_000e9)
	for i, day := range []int{0, 1, 20, 21, 40, 41, 60} {
		if i == 4 {
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}
			if store, err = Open(opts); err != nil {
				t.Fatal(err)
			}
		}
		tx := payment.Transaction{ID: fmt.Sprint("t", i), Type: payment.TypePayment, EventTime: begin.Add(time.Duration(day) * 24 * time.Hour)}
		tx.Payer.AccountID = "u"
		it := &Item{Tx: &tx, KafkaTime: tx.EventTime}
		if err := store.Append(t.Context(), []*Item{it}); err != nil {
			t.Fatal(err)
		}
		if got := it.Values[0].Float(); got != float64(day)*86400 {
			t.Errorf("day %d: the first event was %v days ago", day, got/86400)
		}
		if got := it.Values[1].Int(); got != 1 {
			t.Errorf("day %d: %d events within an hour", day, got)
		}
	}
}
