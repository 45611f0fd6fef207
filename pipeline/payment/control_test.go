package payment

import "testing"

const (
	hashA = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	hashB = "sha256:fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
)

func TestControlFieldsAreRead(t *testing.T) {
	at := parseTime(t, "2026-11-26T00:00:00Z")
	d := Decoder{Limits: DefaultLimits(), Batch: true}
	for record, want := range map[string]Control{
		`{"v":1,"control_id":"k-1","control":"outage","event_time":"2026-11-23T01:00:00Z","by":"ops","why":"bank\ndown",` +
			`"from":"2026-11-23T08:10:00+08:00","until":"2026-11-23T00:50:00.5Z","match":{"instrument.bank":"icbc","channel":"qr","payee.account_id":"m-88"}}`: {
			ID: "k-1", Kind: ControlOutage, EventTime: parseTime(t, "2026-11-23T01:00:00Z"), By: "ops", Why: "bank\ndown",
			From: parseTime(t, "2026-11-23T00:10:00Z"), Until: parseTime(t, "2026-11-23T00:50:00.5Z"),
			Match: OutageMatch{Channel: "qr", Bank: "icbc", Payee: "m-88"}},
		`{"control_id":"k-2","control":"outage_end","event_time":"2026-11-23T02:00:00Z","by":"ops","of":"k-1"}`: {
			ID: "k-2", Kind: ControlOutageEnd, EventTime: parseTime(t, "2026-11-23T02:00:00Z"), By: "ops", Of: "k-1"},
		`{"control_id":"k-3","control":"list_add","event_time":"2026-11-23T02:00:00Z","by":"a","why":"w","list":"l","value":"付","until":"2027-01-01T00:00:00Z"}`: {
			ID: "k-3", Kind: ControlListAdd, EventTime: parseTime(t, "2026-11-23T02:00:00Z"), By: "a", Why: "w", List: "l", Value: "付",
			Until: parseTime(t, "2027-01-01T00:00:00Z"), EffectiveAt: parseTime(t, "2026-11-23T02:00:00Z")},
		`{"control_id":"k-4","control":"snooze","event_time":"2026-11-23T02:00:00Z","effective_at":"2026-11-24T00:00:00Z","by":"a","why":"w","rule":"r",` +
			`"until":"2027-01-01T00:00:00Z","match":{"payer":"u","payee":"m","card":"c","device":"d"}}`: {
			ID: "k-4", Kind: ControlSnooze, EventTime: parseTime(t, "2026-11-23T02:00:00Z"), By: "a", Why: "w", Rule: "r", Snooze: SnoozeMatch{"u", "m", "c", "d"},
			Until: parseTime(t, "2027-01-01T00:00:00Z"), EffectiveAt: parseTime(t, "2026-11-24T00:00:00Z")},
		`{"control_id":"k-5","control":"ruleset_activate","event_time":"2026-11-23T02:00:00Z","by":"a","why":"w","ruleset":"` + hashA + `","instead_of":"` + hashB + `"}`: {
			ID: "k-5", Kind: ControlRulesetActivate, EventTime: parseTime(t, "2026-11-23T02:00:00Z"), By: "a", Why: "w", Ruleset: hashA, InsteadOf: hashB},
	} {
		got := Control{Why: "of the record before", Match: OutageMatch{Bank: "abc"}, Snooze: SnoozeMatch{Payer: "p"}, Rule: "r"}
		if r := d.Control([]byte(record), at, &got); r != nil || got != want {
			t.Errorf("%s\nis read as %+v (%v)\nwant       %+v", record, got, r, want)
		}
		var again Control
		if r := d.Control(got.Append(nil), at, &again); r != nil || again != got {
			t.Errorf("written and read again: %+v (%v)\nwant %+v", again, r, got)
		}
	}
}

// An outage that concerned one payment too many would hide failures that count.
func TestOutageConcernsOnlyWhereAllThatItNamesHolds(t *testing.T) {
	for _, test := range []struct {
		match                OutageMatch
		channel, bank, payee string
		want                 bool
	}{
		{OutageMatch{Bank: "icbc"}, "qr", "icbc", "m-88", true},
		{OutageMatch{Bank: "icbc"}, "", "icbc", "", true},
		{OutageMatch{Bank: "icbc"}, "icbc", "boc", "icbc", false},
		{OutageMatch{Bank: "icbc"}, "qr", "", "m-88", false},
		{OutageMatch{Channel: "qr"}, "qr", "", "", true},
		{OutageMatch{Channel: "qr"}, "qr2", "icbc", "m-88", false},
		{OutageMatch{Payee: "m-88"}, "qr", "icbc", "m-88", true},
		{OutageMatch{Payee: "m-88"}, "qr", "icbc", "M-88", false},
		{OutageMatch{Channel: "qr", Bank: "icbc", Payee: "m-88"}, "qr", "icbc", "m-88", true},
		{OutageMatch{Channel: "qr", Bank: "icbc", Payee: "m-88"}, "web", "icbc", "m-88", false},
		{OutageMatch{Channel: "qr", Bank: "icbc", Payee: "m-88"}, "qr", "boc", "m-88", false},
		{OutageMatch{Channel: "qr", Bank: "icbc", Payee: "m-88"}, "qr", "icbc", "m-89", false},
		{OutageMatch{}, "qr", "icbc", "m-88", false},
		{OutageMatch{}, "", "", "", false},
	} {
		if got := test.match.Matches(test.channel, test.bank, test.payee); got != test.want {
			t.Errorf("%+v of (%q, %q, %q): %v", test.match, test.channel, test.bank, test.payee, got)
		}
	}
}

// A refusal outlives the record: what it names is no view into bytes that are used again.
func TestRefusedNameOfAMatchOutlivesItsRecord(t *testing.T) {
	d := Decoder{Limits: DefaultLimits()}
	record := []byte(`{"control_id":"k-1","match":{"device.id":"d-31"}}`)
	r := d.Control(record, parseTime(t, corpusTime), new(Control))
	clear(record)
	if r == nil || *r != (Refusal{ReasonUnknownControl, "match.device.id"}) {
		t.Errorf("%v", r)
	}
}
