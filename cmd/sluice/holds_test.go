package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// decidedNow is a record of risk.decisions, as a gate writes it.
func decidedNow(id string, revision int, v payment.Verdict, lasts time.Duration, needs ...string) broker.Message {
	now := payment.TimeOf(time.Now())
	cny, _ := payment.ParseCurrency("CNY")
	d := payment.Decision{TransactionID: id, Revision: revision, Verdict: v, Source: payment.SourceRules, Final: v != payment.Hold, EventTime: now, DecidedAt: now.Add(-90 * time.Minute),
		Reasons:     []payment.DecisionReason{{Code: "CARD_TESTING"}, {Code: "UNUSUAL_AMOUNT"}},
		Transaction: payment.Summary{Payer: "u-7", Amount: payment.Amount{Value: 12850, Currency: cny}}}
	if v == payment.Hold {
		d.Hold = payment.HoldTerms{Needs: needs, ExpiresAt: now.Add(lasts), OnExpiry: payment.Block}
	}
	if revision > 1 {
		d.Source = payment.SourceReview
	}
	return broker.Message{Key: []byte("u-7"), Value: d.Append(nil), Headers: []broker.Header{{Key: "transaction_id", Value: []byte(id)},
		{Key: "revision", Value: strconv.AppendInt(nil, int64(revision), 10)}, {Key: "verdict", Value: []byte(v.String())}}}
}

// Who works the queue sees what waits, for what, how long it has, and who works
// on it; what is settled is gone.
func TestHoldsAreListedTheMostUrgentFirst(t *testing.T) {
	g := newGate(t, demoRules, "")
	if status, out, log := ended(t, "holds", "list", "--config", g.file); status != exitFine || !strings.Contains(out, "no payment is on hold") {
		t.Fatalf("status %d: %s%s", status, out, log)
	}
	g.send(g.decisions(), 0, decidedNow("later", 1, payment.Hold, 26*time.Hour, "step_up", "review"), decidedNow("done", 1, payment.Hold, time.Hour, "review"),
		decidedNow("fine", 1, payment.Approve, 0), decidedNow("done", 2, payment.Approve, 0), broker.Message{Value: []byte("{")})
	g.send(g.decisions(), 3, decidedNow("soon", 1, payment.Hold, 10*time.Minute, "review"), decidedNow("over", 1, payment.Hold, -time.Second, "step_up"))
	for _, args := range [][]string{{"claim", "soon", "--reviewer", "ann"}, {"note", "soon", "--reviewer", "ann", "--note", "payer called"},
		{"escalate", "later", "--reviewer", "bob"}, {"claim", "later", "--reviewer", "bob"}, {"unclaim", "later", "--reviewer", "bob"}} {
		if status, _, log := ended(t, append(append([]string{"holds"}, args...), "--config", g.file)...); status != exitFine {
			t.Fatalf("holds %v: status %d: %s", args, status, log)
		}
	}
	_, out, _ := ended(t, "holds", "list", "--config", g.file)
	var got []string
	for line := range strings.Lines(out) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := []string{"transaction age left then needs amount payer reasons worked by",
		"over 1h30m overdue block step_up CNY 128.50 u-7 CARD_TESTING,UNUSUAL_AMOUNT -",
		"soon 1h30m ", "later 1h30m 2"}
	for i, w := range want {
		if i >= len(got) || !strings.HasPrefix(got[i], w) {
			t.Errorf("line %d is %q, want %q", i, got, w)
		}
	}
	if !strings.HasSuffix(got[2], "review CNY 128.50 u-7 CARD_TESTING,UNUSUAL_AMOUNT ann") || !strings.HasSuffix(got[3], "step_up,review CNY 128.50 u-7 CARD_TESTING,UNUSUAL_AMOUNT - (escalated)") {
		t.Errorf("%q", got)
	}
	_, out, _ = ended(t, "holds", "list", "--config", g.file, "--format", "json")
	var lines []holdLine
	for line := range strings.Lines(strings.TrimSpace(out)) {
		var l holdLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	if len(lines) != 3 || lines[1].Transaction != "soon" || lines[1].ClaimedBy == nil || *lines[1].ClaimedBy != "ann" || !slices.Equal(lines[1].Notes, []string{"ann: payer called"}) ||
		lines[1].Left < 500 || lines[1].Left > 600 || lines[0].Left >= 0 || lines[2].ClaimedBy != nil || !lines[2].Escalated || lines[2].Age < 5400 || lines[2].Revision != 1 || lines[2].OnExpiry != "block" {
		t.Errorf("%s", out)
	}
	_, out, _ = ended(t, "holds", "list", "--config", g.file, "--since", "1ns")
	if !strings.Contains(out, "no payment is on hold") {
		t.Errorf("since just now: %s", out)
	}
}

// What a reviewer types is one record that the gate can read; its id is printed.
func TestAReviewFromTheCommandLineIsOneRecord(t *testing.T) {
	g := newGate(t, demoRules, "")
	status, id, log := ended(t, "holds", "release", "t-1", "--config", g.file, "--reviewer", "ann", "--label", "genuine", "--note", "payer called back", "--payer", "u-7")
	if id = strings.TrimSpace(id); status != exitFine || !strings.HasPrefix(id, "r-") {
		t.Fatalf("status %d: %s%s", status, id, log)
	}
	_, second, _ := ended(t, "holds", "reject", "t-1", "--config", g.file, "--reviewer", "bob")
	var records []broker.Record
	for _, some := range g.all(g.reviews()) {
		records = append(records, some...)
	}
	if len(records) != 2 {
		t.Fatalf("%d records", len(records))
	}
	for _, r := range records {
		var review payment.Review
		decoder := payment.Decoder{Limits: payment.DefaultLimits()}
		if refusal := decoder.Review(r.Value, payment.TimeOf(time.Now()), &review); refusal != nil {
			t.Fatalf("%s: %v", r.Value, refusal)
		}
		if since := time.Since(review.EventTime.Std()); since < 0 || since > time.Minute {
			t.Errorf("it was made %v ago", since)
		}
		review.EventTime = 0
		got := fmt.Sprintf("%s %+v", r.Key, review)
		want := fmt.Sprintf("u-7 %+v", payment.Review{ID: id, TransactionID: "t-1", Kind: payment.ReviewRelease, Label: "genuine", PayerID: "u-7", Reviewer: "ann", Note: "payer called back"})
		if review.Kind == payment.ReviewReject {
			want = fmt.Sprintf("t-1 %+v", payment.Review{ID: strings.TrimSpace(second), TransactionID: "t-1", Kind: payment.ReviewReject, Reviewer: "bob"})
		}
		if got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
	for _, wrong := range [][]string{{"release", "t-1", "--reviewer", ""}, {"note", "t-1", "--reviewer", "ann"}, {"release", "t-1", "--reviewer", "ann", "--label", "nice"}, {"claim", "t-1", "--reviewer", strings.Repeat("x", 200)}} {
		if status, _, log := ended(t, append(append([]string{"holds"}, wrong...), "--config", g.file)...); status != exitUsage || !strings.Contains(log, "sluice: ") {
			t.Errorf("holds %v: status %d: %s", wrong, status, log)
		}
	}
}
