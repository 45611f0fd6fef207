package payment

import (
	"bytes"
	"encoding/json"
	"testing"
)

func alertCodeNames() (names []string) {
	for _, c := range AlertCodes() {
		names = append(names, c.String())
	}
	return names
}

// schemaExample is the first example of a published schema, as one line.
func schemaExample(t *testing.T, name string) []byte {
	t.Helper()
	text, _ := Schema(name)
	var doc struct{ Examples []json.RawMessage }
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	var line bytes.Buffer
	if err := json.Compact(&line, doc.Examples[0]); err != nil {
		t.Fatal(err)
	}
	return line.Bytes()
}

func TestAlertOfTheContractIsWrittenByteForByte(t *testing.T) {
	a := Alert{V: 1, Severity: SeverityCritical, Code: AlertStoreAway, Since: parseTime(t, "2026-11-23T00:15:30.123Z"), Member: "gate-1",
		Summary:   "redis://10.0.0.7:6379 does not answer: verdicts rest on what this member has in memory",
		Partition: Count{N: 3, Present: true}, Runbook: "deploy/runbooks/store_away.md", State: AlertFiring}
	a.AlertID = string(AppendAlertID(nil, a.Code, a.Member, "", a.Partition.N, a.Since))
	want := schemaExample(t, "alert")
	if got := a.Append(nil); !bytes.Equal(got, want) {
		t.Errorf("written as\n%s\nwant\n%s", got, want)
	}
	var read Alert
	if err := json.Unmarshal(want, &read); err != nil || read != a {
		t.Errorf("read as %+v, %v", read, err)
	}
}

func TestNoticeOfTheContractIsWrittenByteForByte(t *testing.T) {
	n := Notice{V: 1, TransactionID: "42000012342026112300001", Payer: NoticePayer{"u-1001"}, Kind: NoticeHeld, Code: "CONFIRM_IT_IS_YOU",
		Language: "en", Message: "We need to know that it is you who is paying.", Next: "Please confirm the payment in your app.",
		EventTime: parseTime(t, "2026-11-23T00:15:30.123Z")}
	n.NoticeID = string(AppendDecisionNoticeID(nil, decisionID(n.TransactionID, 1), n.Kind))
	want := schemaExample(t, "notice")
	if got := n.Append(nil); !bytes.Equal(got, want) {
		t.Errorf("written as\n%s\nwant\n%s", got, want)
	}
	var read Notice
	if err := json.Unmarshal(want, &read); err != nil || read != n {
		t.Errorf("read as %+v, %v", read, err)
	}
}

func TestAlertWrittenReadAndWrittenAgainIsTheSame(t *testing.T) {
	r, schema := seeded(t), compileSchema(t, "alert")
	codes := AlertCodes()
	for range 2_000 {
		a := Alert{V: 1, Code: codes[r.IntN(len(codes))], Severity: Severity(1 + r.IntN(3)), State: AlertState(1 + r.IntN(2)),
			Summary: randomText(r) + "x", Member: randomText(r) + "x", Runbook: randomText(r) + "x", Since: randomTime(r),
			Partition: Count{N: r.IntN(3), Present: r.IntN(2) == 0}}
		a.AlertID = string(AppendAlertID(nil, a.Code, a.Member, randomText(r), a.Partition.N, a.Since))
		var read Alert
		againTheSame(t, schema.Validate, a.Append(nil), &read, read.Append)
	}
}

func TestNoticeWrittenReadAndWrittenAgainIsTheSame(t *testing.T) {
	r, schema := seeded(t), compileSchema(t, "notice")
	maybe := func(s string) string {
		if r.IntN(2) == 0 {
			return ""
		}
		return s
	}
	for range 2_000 {
		n := Notice{V: 1, TransactionID: randomText(r) + "x", Payer: NoticePayer{randomText(r) + "x"}, Kind: NoticeKind(1 + r.IntN(5)), Code: "NOT_NOW",
			Language: maybe("zh-CN"), Message: randomText(r) + "x", Next: maybe(randomText(r)), EventTime: randomTime(r)}
		n.NoticeID = string(AppendDecisionNoticeID(nil, n.TransactionID, n.Kind))
		var read Notice
		againTheSame(t, schema.Validate, n.Append(nil), &read, read.Append)
	}
}

// againTheSame reads what was written into read and lets again, a method of
// read, write it. validate judges what was written.
func againTheSame(t *testing.T, validate func(any) error, written []byte, read any, again func([]byte) []byte) {
	t.Helper()
	if err := json.Unmarshal(written, read); err != nil {
		t.Fatalf("%s: %v", written, err)
	}
	if got := again(nil); !bytes.Equal(got, written) {
		t.Fatalf("written as\n%s\nand again as\n%s", written, got)
	}
	var doc any
	if err := json.Unmarshal(written, &doc); err != nil {
		t.Fatal(err)
	}
	if err := validate(doc); err != nil {
		t.Fatalf("%s: %v", written, err)
	}
}

func TestNamesOutsideTheirClosedSetAreNotRead(t *testing.T) {
	for _, bad := range []string{`{"code":"store_gone"}`, `{"code":""}`, `{"severity":"fatal"}`, `{"severity":""}`, `{"state":"ended"}`} {
		if err := json.Unmarshal([]byte(bad), new(Alert)); err == nil {
			t.Errorf("%s is read", bad)
		}
	}
	for _, bad := range []string{`{"kind":"approved"}`, `{"kind":""}`} {
		if err := json.Unmarshal([]byte(bad), new(Notice)); err == nil {
			t.Errorf("%s is read", bad)
		}
	}
}

// Two outcomes that count twice are two pieces of news; the same one twice is one.
func TestNoticeIDTellsOutcomesApartThatCountTwice(t *testing.T) {
	base := Outcome{ID: "o-1", TransactionID: "t-1", Kind: OutcomeRefunded, EventTime: 7, Amount: Money{Value: 500}, Source: "chargeback"}
	id := func(o Outcome, k NoticeKind) string { return string(AppendOutcomeNoticeID(nil, &o, k)) }
	seen := map[string]string{id(base, NoticeRefunded): "the first"}
	same := base
	same.Source = "another channel"
	if id(same, NoticeRefunded) != id(base, NoticeRefunded) {
		t.Error("who says it makes another notice of it")
	}
	for name, change := range map[string]func(*Outcome){
		"outcome_id":  func(o *Outcome) { o.ID = "o-2" },
		"transaction": func(o *Outcome) { o.TransactionID = "t-2" },
		"kind":        func(o *Outcome) { o.Kind = OutcomeCancelled },
		"time":        func(o *Outcome) { o.EventTime++ },
		"amount":      func(o *Outcome) { o.Amount.Value++ },
	} {
		o := base
		change(&o)
		if other, taken := seen[id(o, NoticeRefunded)]; taken {
			t.Errorf("another %s has the notice of %s", name, other)
		}
		seen[id(o, NoticeRefunded)] = name
	}
	if id(base, NoticeFailed) == id(base, NoticeRefunded) {
		t.Error("two kinds have one id")
	}
}

func TestAlertIDNamesOneAlertOfOneMember(t *testing.T) {
	seen := map[string]bool{}
	for _, code := range []AlertCode{AlertStoreAway, AlertRuleStorm} {
		for _, member := range []string{"gate-1", "gate-2"} {
			for _, about := range []string{"", "card-testing"} {
				for _, partition := range []int{-1, 0, 1} {
					for _, since := range []Time{1, 2} {
						seen[string(AppendAlertID(nil, code, member, about, partition, since))] = true
					}
				}
			}
		}
	}
	if len(seen) != 2*2*2*3*2 {
		t.Errorf("%d ids", len(seen))
	}
}

func TestEveryAlertCodeHasASeverityAndAName(t *testing.T) {
	if len(AlertCodes()) != int(AlertNoticesDropped) {
		t.Fatalf("%d codes", len(AlertCodes()))
	}
	seen := map[string]bool{}
	for _, c := range AlertCodes() {
		if seen[c.String()] || c.String() == "" || c.Severity() == 0 {
			t.Errorf("%d: name %q, severity %d", c, c, c.Severity())
		}
		seen[c.String()] = true
	}
}
