package payment

import "testing"

// What we write of a review, we and its schema read.
func TestReviewsAreReadAsTheyAreWritten(t *testing.T) {
	at := parseTime(t, "2026-11-26T00:00:00Z")
	schema := compileSchema(t, "review")
	for _, want := range []Review{
		{ID: "r-1", TransactionID: "t\"1", Kind: ReviewRelease, Label: "genuine", EventTime: at, PayerID: "u-1", Reviewer: "reviewer-7", Note: "line\nand line"},
		{TransactionID: "t-1", Kind: ReviewUnclaim, EventTime: at - 1, Reviewer: "ü"},
	} {
		record := want.Append(nil)
		if _, err := judge(schema, record); err != nil {
			t.Errorf("%s: %v", record, err)
		}
		var got Review
		d := Decoder{Limits: DefaultLimits()}
		if refusal := d.Review(record, at, &got); refusal != nil || got != want {
			t.Errorf("%s is read as %+v (%v)", record, got, refusal)
		}
	}
}

// A record without an id is named by its content, the same on every member.
func TestIdentityIsTheIDOrTheContent(t *testing.T) {
	r := Review{TransactionID: "t-1", Kind: ReviewRelease, EventTime: 1_800_000_000e9, Reviewer: "ann"}
	o := Outcome{TransactionID: "t-1", Kind: OutcomeStepUpPassed, EventTime: 1_800_000_000e9}
	if got, want := r.Identity()+" "+o.Identity(), "09e9bfacf94ccf85230cb76f908abcee 12854134ef27e872eaafc951893d7f67"; got != want {
		t.Errorf("the identities are %s, want %s", got, want)
	}
	same, other := r, r
	other.Kind = ReviewReject
	if same.Identity() != r.Identity() || other.Identity() == r.Identity() {
		t.Error("content does not tell reviews apart")
	}
	r.ID, o.ID = "r-1", "o-1"
	if r.Identity() != "r-1" || o.Identity() != "o-1" {
		t.Errorf("%s, %s", r.Identity(), o.Identity())
	}
}
