package window

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// A feature without a value says why; and what the log cannot tell is an error.
func TestWhyAValueIsAbsentIsSaid(t *testing.T) {
	fields := map[string]*Field{}
	for _, f := range Fields() {
		fields[f.Name] = &f
	}
	features := []Feature{
		{Entity: Entity{First: Payer}, Name: "speed", Aggregate: SpeedKMH},
		{Entity: Entity{First: Payer}, Name: "device", Aggregate: Last, Field: fields["device"]},
		{Entity: Entity{First: Payer}, Name: "sum", Aggregate: Sum, Length: time.Hour},
		{Entity: Entity{First: Payer}, Name: "avg", Aggregate: Avg, Length: time.Hour},
		{Entity: Entity{First: Payer}, Name: "spread", Aggregate: StdDev, Length: time.Hour},
		{Entity: Entity{First: Payer, Second: Device, Pair: true}, Name: "count", Aggregate: Count, Length: time.Hour},
	}
	store, err := Open(Options{Features: features})
	if err != nil {
		t.Fatal(err)
	}
	const start = payment.Time(1_800_000_000e9)
	pay := func(id string, at payment.Time, base int64, change func(*Item)) *Item {
		t.Helper()
		tx := &payment.Transaction{ID: id, Type: payment.TypePayment, EventTime: at}
		tx.Payer.AccountID = "u"
		it := &Item{Tx: tx, KafkaTime: max(at, start), Base: base, Based: base > 0}
		change(it)
		if err := store.Append(t.Context(), []*Item{it}); err != nil {
			t.Fatal(err)
		}
		return it
	}
	check := func(it *Item, want map[string]string) {
		t.Helper()
		for slot := range features {
			b, err := store.Behind(t.Context(), it, slot)
			if err != nil {
				t.Fatal(err)
			}
			name := features[slot].Name
			if !strings.Contains(b.Absent, want[name]) || (want[name] == "") != (b.Absent == "") {
				t.Errorf("%s: %s is absent because %q, not %q", it.Tx.ID, name, b.Absent, want[name])
			}
			if (b.Absent == "") != (it.Values[slot].Kind() != payment.Absent) {
				t.Errorf("%s: %s is %s, and absent because %q", it.Tx.ID, name, it.Values[slot].AppendJSON(nil), b.Absent)
			}
		}
	}
	located := func(it *Item) { it.Tx.Device.Located, it.Tx.Device.Lat = true, 31 }
	first := pay("a", start, 0, func(*Item) {})
	check(first, map[string]string{"speed": "where its device is", "device": "no event before it", "avg": "has a rate", "count": "names no device"})
	check(pay("b", start+1e9, 100, located), map[string]string{"speed": "no event before it", "device": "says no device", "count": "names no device"})
	check(pay("c", start+2e9, 100, located), map[string]string{"device": "says no device", "count": "names no device"})
	check(pay("d", start+3e9, math.MaxInt64, located), map[string]string{"device": "says no device", "sum": "2^63", "count": "names no device"})
	late := pay("e", start-payment.Time(8*24*time.Hour), 100, located)
	const why = "came 8d after its event time, and windows wait for 7d"
	check(late, map[string]string{"speed": why, "device": why, "sum": why, "avg": why, "spread": why, "count": "names no device"})
	check(first, map[string]string{"speed": "where its device is", "device": "no event before it", "avg": "has a rate", "count": "names no device"}) // as it was
	if _, err := store.Behind(t.Context(), first, len(features)); err == nil {
		t.Error("a slot without a feature is no error")
	}
}
