package rules

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// historyFeatures are those of the examples in doc.go: what a card did in an
// hour, and what a payer usually spends.
const historyFeatures = `
  - {entity: card, name: declined, windows: [1h], value: count, where: 'status == "declined_by_bank"'}
  - {entity: card, name: attempts, windows: [1h], value: count}
  - {entity: payer, name: mean, windows: [30d], delay: 1s, value: avg}
  - {entity: payer, name: spread, windows: [30d], delay: 1s, value: stddev}
`

// history is the standing of those features: absent where a value is nil.
func history(declined, attempts any, mean, spread any) []payment.Value {
	values := make([]payment.Value, 4)
	for i, v := range []any{declined, attempts, mean, spread} {
		switch v := v.(type) {
		case int:
			values[i] = payment.IntValue(int64(v))
		case float64:
			values[i] = payment.FloatValue(v)
		}
	}
	return values
}

// at is a bare payment at a time.
func at(t *testing.T, when string) *Input {
	t.Helper()
	in := bare()
	var ok bool
	if in.Tx.EventTime, ok = payment.ParseTime(when); !ok {
		t.Fatalf("%s is no time", when)
	}
	return in
}

// located is a bare payment from a device at a place.
func located(lat, lon float64) *Input {
	in := bare()
	in.Tx.Device.Lat, in.Tx.Device.Lon, in.Tx.Device.Located = lat, lon, true
	return in
}

// TestDocumentedExamplesHold takes every example of a function from doc.go, and
// shows a payment for which it is true, one for which it is false, and one for
// which it is unknown if there is such a payment.
func TestDocumentedExamplesHold(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	with := func(values []payment.Value) *Input {
		in := bare() // of 12.50
		in.Features = values
		return in
	}
	for example, payments := range map[string][3]*Input{
		`time_between("22:00", "06:00")`:                           {at(t, "2026-11-22T15:00:00Z"), at(t, "2026-11-22T22:00:00Z")},
		`time_between("22:00", "06:00", "Europe/Berlin")`:          {at(t, "2026-11-22T22:00:00Z"), at(t, "2026-11-22T15:00:00Z")},
		`weekday("Asia/Tokyo") in 6..7 and hour("Asia/Tokyo") < 6`: {at(t, "2026-11-20T15:00:00Z"), at(t, "2026-11-20T14:59:59Z")},
		`ratio(card.declined_1h, card.attempts_1h) > 0.5`:          {with(history(3, 5, nil, nil)), with(history(1, 2, nil, nil)), with(history(0, 0, nil, nil))},
		`z_score(amount, payer.mean_30d, payer.spread_30d) > 4 and reach(payer.mean_30d) >= 20 * 86400`: {
			with(history(nil, nil, 850.0, 99.0)), with(history(nil, nil, 850.0, 101.0)), with(history(nil, nil, 850.0, 0.0))},
		`km_between(device.lat, device.lon, 31.23, 121.47) > 100`: {located(39.9, 116.4), located(31.3, 120.6), bare()},
	} {
		if !strings.Contains(string(doc), "//\t"+example) {
			t.Errorf("doc.go has no example %s", example)
		}
		set := reaching(t, historyFeatures, example)
		for i, want := range []window.Truth{window.True, window.False, window.Unknown} {
			in := payments[i]
			if in == nil {
				continue
			}
			if len(in.Features) != 4 {
				in.Features = make([]payment.Value, 4)
			}
			if got := atOnce(set, in); got != want {
				t.Errorf("%s: payment %d is %s, want %s", example, i, truthWord(got), truthWord(want))
			}
		}
	}
}

func TestNightReachesOverMidnight(t *testing.T) {
	for when, in := range map[string]map[string]bool{
		`time_between("22:00", "06:00", "UTC")`: {"21:59:59.999": false, "22:00:00": true, "23:59:59.999": true, "00:00:00": true, "05:59:59.999": true, "06:00:00": false, "12:00:00": false},
		`time_between("06:00", "22:00", "UTC")`: {"05:59:59.999": false, "06:00:00": true, "21:59:59.999": true, "22:00:00": false, "00:00:00": false},
		`time_between("22:30", "00:00", "UTC")`: {"22:29:59.999": false, "22:30:00": true, "23:59:59.999": true, "00:00:00": false},
		`time_between("00:00", "00:01", "UTC")`: {"00:00:59.999": true, "00:01:00": false, "23:59:59.999": false},
	} {
		for clock, want := range in {
			if got := judge(t, when, at(t, "2026-11-23T"+clock+"Z")); got != window.TruthOf(want) {
				t.Errorf("%s at %s: %s", when, clock, truthWord(got))
			}
		}
	}
}

// Berlin leaves out 02:00 to 03:00 on 2026-03-29 at 01:00 UTC, and has it twice on
// 2026-10-25, at 00:00 and at 01:00 UTC. Lord Howe Island moves by half an hour.
func TestLocalTimeIsRightWhereClocksAreChanged(t *testing.T) {
	for _, c := range []struct{ when, utc string }{
		{`hour("Europe/Berlin") == 1`, "2026-03-29T00:59:59Z"},
		{`hour("Europe/Berlin") == 3`, "2026-03-29T01:00:00Z"},
		{`not time_between("02:00", "03:00", "Europe/Berlin")`, "2026-03-29T00:59:59Z"},
		{`not time_between("02:00", "03:00", "Europe/Berlin")`, "2026-03-29T01:00:00Z"},
		{`time_between("22:00", "06:00", "Europe/Berlin")`, "2026-03-29T03:59:59Z"},
		{`not time_between("22:00", "06:00", "Europe/Berlin")`, "2026-03-29T04:00:00Z"}, // 05:00 on the day before
		{`time_between("22:00", "06:00", "Europe/Berlin")`, "2026-03-28T04:59:59Z"},

		{`not time_between("02:00", "03:00", "Europe/Berlin")`, "2026-10-24T23:59:59Z"},
		{`time_between("02:00", "03:00", "Europe/Berlin") and hour("Europe/Berlin") == 2`, "2026-10-25T00:30:00Z"},
		{`time_between("02:00", "03:00", "Europe/Berlin") and hour("Europe/Berlin") == 2`, "2026-10-25T01:30:00Z"},
		{`not time_between("02:00", "03:00", "Europe/Berlin")`, "2026-10-25T02:00:00Z"},
		{`weekday("Europe/Berlin") == 7 and hour("Europe/Berlin") == 0`, "2026-10-24T22:00:00Z"},
		{`weekday("Europe/Berlin") == 1 and hour("Europe/Berlin") == 0`, "2026-10-25T23:00:00Z"}, // that Sunday had 25 hours

		{`time_between("01:30", "02:00", "Australia/Lord_Howe")`, "2026-04-04T14:45:00Z"},
		{`time_between("01:30", "02:00", "Australia/Lord_Howe")`, "2026-04-04T15:15:00Z"},
		{`time_between("05:45", "06:00", "Asia/Kathmandu") and hour("Asia/Kathmandu") == 5`, "2026-01-01T00:00:00Z"},
		{`hour == 0 and hour("UTC") == 16 and weekday == 3 and weekday("UTC") == 2 and time_between("00:00", "00:01")`, "2026-11-24T16:00:00Z"},
	} {
		if got := judge(t, c.when, at(t, c.utc)); got != window.True {
			t.Errorf("%s at %s: %s", c.when, c.utc, truthWord(got))
		}
	}
}

// The clock of the policy's zone is read once a payment, and never kept for the next.
func TestEveryPaymentHasItsOwnTime(t *testing.T) {
	set, err := ruleFor(`time_between("22:00", "06:00") and hour("UTC") >= hour("UTC")`)
	if err != nil {
		t.Fatal(err)
	}
	e := set.NewEvaluator()
	for when, want := range map[string]int{"2026-11-22T23:30:00+08:00": 1, "2026-11-22T12:30:00+08:00": 0, "2026-11-23T05:30:00+08:00": 1} {
		var d payment.Decision
		d.Reset()
		e.Decide(at(t, when), &d)
		if len(e.Hits()) != want {
			t.Errorf("%s: %d hits", when, len(e.Hits()))
		}
	}
}

func TestRatioAndScoreAreUnknownWhereTheyHaveNoMeaning(t *testing.T) {
	const f, tr, u = window.False, window.True, window.Unknown
	for _, c := range []struct {
		when   string
		values []payment.Value
		want   window.Truth
	}{
		{"ratio(card.declined_1h, card.attempts_1h) == 0.25", history(1, 4, nil, nil), tr},
		{"ratio(card.declined_1h, card.attempts_1h) >= 0", history(1, 0, nil, nil), u},
		{"not (ratio(card.declined_1h, card.attempts_1h) >= 0)", history(0, 0, nil, nil), u},
		{"(ratio(card.declined_1h, card.attempts_1h) ?? 0) == 0", history(1, 0, nil, nil), tr},
		{"ratio(card.declined_1h, card.attempts_1h) >= 0", history(nil, 4, nil, nil), u},
		{"ratio(card.declined_1h, card.attempts_1h) >= 0", history(1, nil, nil, nil), u},
		{"ratio(amount, payer.mean_30d) == 2.5", history(nil, nil, 500.0, nil), tr},
		{"ratio(amount, CNY(5)) == 2.5", history(nil, nil, nil, nil), tr},

		{"z_score(amount, payer.mean_30d, payer.spread_30d) == 2", history(nil, nil, 1000.0, 125.0), tr},
		{"z_score(amount, payer.mean_30d, payer.spread_30d) == -2", history(nil, nil, 1500.0, 125.0), tr},
		{"z_score(amount, payer.mean_30d, payer.spread_30d) > 2", history(nil, nil, 1000.0, 125.0), f},
		{"z_score(amount, payer.mean_30d, payer.spread_30d) > 0", history(nil, nil, 1000.0, 0.0), u},
		{"z_score(amount, payer.mean_30d, payer.spread_30d) > 0", history(nil, nil, 1000.0, nil), u},
		{"z_score(amount, payer.mean_30d, payer.spread_30d) > 0", history(nil, nil, nil, 125.0), u},
		{"z_score(card.attempts_1h, 3.5, 0.5) == 1", history(nil, 4, nil, nil), tr},
		{"z_score(card.attempts_1h, 3.5, card.declined_1h - 5) == 1", history(1, 4, nil, nil), u}, // -4
	} {
		in := bare()
		in.Features = c.values
		if got := atOnce(reaching(t, historyFeatures, c.when), in); got != c.want {
			t.Errorf("%s: %s, want %s", c.when, truthWord(got), truthWord(c.want))
		}
	}
}

func TestKilometresAreThoseOfTheGreatCircle(t *testing.T) {
	for _, c := range []struct {
		lat1, lon1, lat2, lon2, km float64
	}{
		{0, 0, 0, 0, 0},
		{0, 0, 0, 90, 6371 * math.Pi / 2},
		{90, 0, -90, 77, 6371 * math.Pi},
		{0, 179.5, 0, -179.5, 6371 * math.Pi / 180}, // over the date line
		{52.5186, 13.4083, 48.8567, 2.3508, 877.5},  // Berlin to Paris
		{31.2304, 121.4737, 39.9042, 116.4074, 1068},
	} {
		when := fmt.Sprintf("abs(km_between(device.lat, device.lon, %v, %v) - %v) < %v", c.lat2, c.lon2, c.km, 0.001*c.km+1e-6)
		if judge(t, when, located(c.lat1, c.lon1)) != window.True {
			t.Errorf("%s is not true at %v, %v", when, c.lat1, c.lon1)
		}
	}
	for _, unknown := range []string{
		"km_between(device.lat * 3, device.lon, 0, 0) >= 0",
		"km_between(device.lat, device.lon * 3, 0, 0) >= 0",
		"km_between(0, 0, device.lat * 3, device.lon) >= 0",
	} {
		if got := judge(t, unknown, located(31, 121)); got != window.Unknown {
			t.Errorf("%s is %s: there is no such place", unknown, truthWord(got))
		}
	}
	if got := judge(t, "km_between(device.lat, device.lon, 1, 1) >= 0", bare()); got != window.Unknown {
		t.Errorf("a device without a place is at %s", truthWord(got))
	}
}

func TestFunctionsAllocateNothing(t *testing.T) {
	set, err := LoadFS(fstest.MapFS{
		"policy.yaml":     {Data: []byte("time_zone: Asia/Shanghai\n")},
		"features/a.yaml": {Data: []byte("features:" + historyFeatures)},
		"rules/a.yaml": {Data: []byte(`rules:
  - id: a
    verdict: hold
    when: |
      time_between("22:00", "06:00") and time_between("12:00", "18:00", "Europe/Berlin") and hour("America/New_York") == 10
      and weekday("America/New_York") == 7 and km_between(device.lat, device.lon, 31.2, 121.5) > 100
      and ratio(card.declined_1h, card.attempts_1h) > 0.5 and z_score(amount, payer.mean_30d, payer.spread_30d) > 2
`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	in := located(39.9, 116.4)
	in.Features = history(3, 4, 500.0, 100.0)
	firesWithoutAllocating(t, set.NewEvaluator(), in)
}
