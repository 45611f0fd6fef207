package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

const (
	began   = payment.Time(1_800_000_000e9)
	expires = began + payment.Time(time.Hour)
)

// topic is one partition of risk.decisions with the Holds that follow it.
type topic struct {
	t       *testing.T
	records [][]byte
	holds   *Holds
}

func newTopic(t *testing.T) *topic {
	return &topic{t: t, holds: NewHolds(window.Key{}, HoldsOptions{})}
}

// publish appends decisions to the topic, and tells the Holds.
func (p *topic) publish(ds ...*payment.Decision) {
	p.t.Helper()
	for _, d := range ds {
		p.records = append(p.records, d.Append(nil))
		if err := p.holds.Saw(0, int64(len(p.records)-1), p.records[len(p.records)-1]); err != nil {
			p.t.Fatal(err)
		}
	}
}

// restart forgets everything and reads the topic again from the oldest open hold on.
func (p *topic) restart() {
	p.t.Helper()
	from, ok := p.holds.Oldest(0)
	if !ok {
		from = int64(len(p.records))
	}
	p.holds = NewHolds(window.Key{}, HoldsOptions{})
	for at := from; at < int64(len(p.records)); at++ {
		if err := p.holds.Saw(0, at, p.records[at]); err != nil {
			p.t.Fatal(err)
		}
	}
}

// decided is a revision 1: the verdict, and of a hold its needs.
func decided(id string, v payment.Verdict, source payment.Source, needs ...string) *payment.Decision {
	d := &payment.Decision{TransactionID: id, Revision: 1, Verdict: v, Source: source, Final: v != payment.Hold,
		Points: payment.Count{N: 40, Present: true}, Reasons: []payment.DecisionReason{{Code: "CARD_TESTING", Rule: "card-testing", Points: 40, Detail: "6 attempts"}},
		Transaction: payment.Summary{Type: "payment", Channel: "web", Payer: "u-1"}, EventTime: began, ReceivedAt: began + 5e6, DecidedAt: began + 6e6, DecideBy: began + 300e6,
		Degraded: []string{"stale_features"}, Versions: payment.Versions{Rules: "sha256:1"}, Evidence: payment.Evidence{Unknown: []string{"x"}}, Shadow: []payment.ShadowResult{{Rule: "s", Verdict: payment.Block}}}
	if v != payment.Approve {
		d.PayerCode, d.PayerMessage = "TRY_ANOTHER_WAY", "Please try another way to pay."
	}
	if v == payment.Hold {
		d.Hold = payment.HoldTerms{Needs: needs, ExpiresAt: expires, OnExpiry: payment.Block}
		if slices.Contains(needs, "step_up") {
			d.Hold.Methods = []string{"otp"}
		}
	}
	return d
}

func held(id string, needs ...string) *payment.Decision {
	return decided(id, payment.Hold, payment.SourceRules, needs...)
}

func review(kind, id string) *payment.Review {
	k, _ := payment.ParseReviewKind(kind)
	return &payment.Review{ID: id, TransactionID: "t", Kind: k, Label: "genuine", Reviewer: "reviewer-7", EventTime: began}
}

func stepUp(kind, id string) *payment.Outcome {
	k, _ := payment.ParseOutcomeKind(kind)
	return &payment.Outcome{ID: id, TransactionID: "t", Kind: k, EventTime: began}
}

// short is what a test looks at of a decision: revision, verdict, source, needs,
// what it corrects, whether it is final, and its reasons.
func short(d *payment.Decision) string {
	if d == nil {
		return "none"
	}
	s := fmt.Sprintf("%d %s by %s", d.Revision, d.Verdict, d.Source)
	if d.Verdict == payment.Hold {
		s += " needs " + strings.Join(d.Hold.Needs, "+")
	}
	if d.Corrects != "" {
		s += " corrects " + string(d.Corrects)
	}
	if d.Final {
		s += " final"
	}
	for _, r := range d.Reasons[1:] {
		s += " " + r.Code
	}
	return s
}

// Each line is a history of one transaction: its revision 1, then what happens,
// and what each thing leads to: the next revision, or what the ruling is.
func TestEveryTransitionOfAHold(t *testing.T) {
	const late = expires // what happens at the moment of expiry comes after it
	type step struct {
		what string // release ID, reject ID, note, claim, step_up_passed ID, step_up_failed ID, expire, real VERDICT [NEEDS], with ! when late
		want string
	}
	for _, c := range []struct {
		first *payment.Decision
		steps []step
	}{
		{held("t", "review"), []step{{"release r", "2 approve by review final RELEASED"}, {"release r", "repeated"}, {"release s", "after_end"}, {"reject s", "after_end"}, {"expire!", "none"}}},
		{held("t", "review"), []step{{"reject r", "2 block by review final REJECTED"}, {"release s", "after_end"}, {"reject r", "repeated"}}},
		{held("t", "review"), []step{{"claim c", "noted"}, {"note n", "noted"}, {"escalate e", "noted"}, {"unclaim u", "noted"}, {"release r", "2 approve by review final RELEASED"}, {"note m", "noted"}}},
		{held("t", "review"), []step{{"step_up_passed o", "noted"}, {"step_up_failed p", "noted"}, {"expire", "none"}, {"expire!", "2 block by expiry final EXPIRED"}, {"release r", "after_end"}}},
		{held("t", "review"), []step{{"release r!", "after_end"}, {"reject s!", "after_end"}, {"expire!", "2 block by expiry final EXPIRED"}}},
		{held("t", "step_up"), []step{{"step_up_passed o", "2 approve by step_up final STEP_UP_PASSED"}, {"step_up_passed o", "repeated"}, {"step_up_passed p", "noted"}, {"step_up_failed q", "after_end"}}},
		{held("t", "step_up"), []step{{"step_up_failed o", "2 block by step_up final STEP_UP_FAILED"}, {"step_up_passed p", "after_end"}, {"step_up_failed q", "noted"}}},
		{held("t", "step_up"), []step{{"release r", "not_needed"}, {"step_up_passed o!", "after_end"}, {"step_up_failed p!", "noted"}, {"reject r", "2 block by review final REJECTED"}}},
		{held("t", "step_up", "review"), []step{{"release r", "2 hold by review needs step_up"}, {"release r", "repeated"}, {"release s", "not_needed"}, {"step_up_passed o", "3 approve by step_up final STEP_UP_PASSED"}, {"release r", "repeated"}, {"step_up_passed o", "repeated"}}},
		{held("t", "step_up", "review"), []step{{"step_up_passed o", "2 hold by step_up needs review"}, {"step_up_passed o", "repeated"}, {"step_up_passed p", "noted"}, {"step_up_failed q", "noted"}, {"release r", "3 approve by review final RELEASED"}}},
		{held("t", "step_up", "review"), []step{{"release r", "2 hold by review needs step_up"}, {"reject s", "3 block by review final REJECTED"}, {"release r", "repeated"}, {"reject s", "repeated"}}},
		{held("t", "step_up", "review"), []step{{"step_up_passed o", "2 hold by step_up needs review"}, {"expire!", "3 block by expiry final EXPIRED"}, {"step_up_passed o", "repeated"}, {"release r", "after_end"}}},
		{held("t", "step_up", "review"), []step{{"step_up_failed o", "2 block by step_up final STEP_UP_FAILED"}}},
		{held("t", "review"), []step{{"real approve", "none"}, {"real block", "none"}}}, // it was no default

		// Defaults, and the real verdict.
		{decided("t", payment.Approve, payment.SourceDefaultDeadline), []step{{"real approve", "none"}, {"release r", "not_held"}, {"step_up_passed o", "noted"}, {"claim c", "noted"}, {"real block", "2 block by rules corrects default_deadline final"}, {"real block", "none"}, {"real approve", "none"}, {"reject r", "not_held"}}},
		{decided("t", payment.Approve, payment.SourceDefaultError), []step{{"real hold review", "2 hold by rules needs review corrects default_error"}, {"real approve", "none"}, {"release r", "3 approve by review final RELEASED"}, {"real block", "none"}}},
		{decided("t", payment.Block, payment.SourceInvalid), []step{{"real block", "none"}, {"real approve", "2 approve by rules corrects invalid final"}, {"real approve", "none"}}},
		{decided("t", payment.Hold, payment.SourceDefaultDeadline, "review"), []step{{"real hold review", "none"}, {"real approve", "2 approve by rules corrects default_deadline final"}, {"release r", "after_end"}, {"expire!", "none"}}},
		{decided("t", payment.Hold, payment.SourceDefaultDeadline, "review"), []step{{"real hold step_up", "2 hold by rules needs step_up corrects default_deadline"}, {"release r", "not_needed"}, {"step_up_passed o", "3 approve by step_up final STEP_UP_PASSED"}}},
		{decided("t", payment.Hold, payment.SourceDefaultDeadline, "review"), []step{{"release r", "2 approve by review final RELEASED"}, {"real block", "none"}, {"release r", "repeated"}}},
		{decided("t", payment.Hold, payment.SourceDefaultDeadline, "review"), []step{{"expire!", "2 block by expiry final EXPIRED"}, {"real approve", "none"}}},
		{decided("t", payment.Hold, payment.SourceDefaultDeadline, "step_up", "review"), []step{{"release r", "2 hold by review needs step_up"}, {"real hold review", "3 approve by rules corrects default_deadline final"}, {"release r", "repeated"}}},
		{decided("t", payment.Hold, payment.SourceDefaultDeadline, "step_up", "review"), []step{{"release r", "2 hold by review needs step_up"}, {"real hold step_up+review", "none"}, {"real block", "3 block by rules corrects default_deadline final"}}},
	} {
		for _, restarts := range []bool{false, true} {
			p := newTopic(t)
			p.publish(c.first)
			last := c.first
			for _, s := range c.steps {
				words := strings.Fields(strings.TrimSuffix(s.what, "!"))
				at := began + 1e9
				if strings.HasSuffix(s.what, "!") {
					at = late
				}
				if restarts {
					old := p.holds
					p.restart()
					if _, known := p.holds.Latest(window.Key{}.Tx("t")); !known {
						p.holds = old // it had ended, and what ended lately is not read again
					}
				}
				got, next := apply(p.holds, words, at, last)
				if got != s.want {
					t.Fatalf("%s, restarts %v: %s: %s, want %s", short(c.first), restarts, s.what, got, s.want)
				}
				if next != nil {
					check(t, last, next)
					p.publish(next)
					last = next
				}
			}
		}
	}
}

// apply lets one thing happen.
func apply(h *Holds, words []string, at payment.Time, last *payment.Decision) (got string, next *payment.Decision) {
	ruled := func(r Ruling) (string, *payment.Decision) {
		switch r.Answer {
		case Changes:
			return short(r.Next), r.Next
		case Refused:
			return string(r.Reason), nil
		}
		return [...]string{Unknown: "unknown", Noted: "noted", Repeated: "repeated"}[r.Answer], nil
	}
	switch words[0] {
	case "expire":
		if all := h.Expire(0, at, at, 10); len(all) > 0 {
			return short(all[0]), all[0]
		}
		return "none", nil
	case "real":
		v, _ := payment.ParseVerdict(words[1])
		var needs []string
		if len(words) > 2 {
			needs = strings.Split(words[2], "+")
		}
		next, err := h.Correct(decided(last.TransactionID, v, payment.SourceRules, needs...))
		if err != nil {
			return err.Error(), nil
		}
		return short(next), next
	case "step_up_passed", "step_up_failed":
		return ruled(h.StepUp(stepUp(words[0], words[1]), at, at))
	default:
		return ruled(h.Review(review(words[0], words[1]), at, at))
	}
}

// check holds a later revision against the one before it.
func check(t *testing.T, before, d *payment.Decision) {
	t.Helper()
	if d.TransactionID != before.TransactionID || d.Transaction != before.Transaction || d.EventTime != before.EventTime || d.Revision != before.Revision+1 || d.Points != before.Points {
		t.Errorf("it is not the next revision of the same payment:\n%s\n%s", before.Append(nil), d.Append(nil))
	}
	if (d.Verdict == payment.Hold) == d.Final || (d.Verdict == payment.Hold) != (len(d.Hold.Needs) > 0) || (d.PayerCode == "") != (d.Verdict == payment.Approve) {
		t.Errorf("it contradicts itself: %s", d.Append(nil))
	}
	told := map[string]string{"approve": "", "block": "DECLINED", "hold step_up": "CONFIRM_IT_IS_YOU", "hold review": "UNDER_REVIEW"}[strings.TrimSpace(d.Verdict.String()+" "+strings.Join(d.Hold.Needs, "+"))]
	if d.Corrects == "" && (d.PayerCode != told || d.PayerMessage != "") {
		t.Errorf("the payer is told %q %q, want %q", d.PayerCode, d.PayerMessage, told)
	}
	if d.Verdict == payment.Hold && (d.Hold.ExpiresAt != expires || slices.Contains(d.Hold.Needs, "step_up") != (len(d.Hold.Methods) > 0)) {
		t.Errorf("its terms are wrong: %s", d.Append(nil))
	}
	by := d.SettledBy
	switch d.Source {
	case payment.SourceReview:
		if by.ReviewID == "" || by.Reviewer != "reviewer-7" || by.Label != "genuine" || by.OutcomeID != "" {
			t.Errorf("it was settled by %+v", by)
		}
	case payment.SourceStepUp:
		if by.OutcomeID == "" || by.Outcome == "" || by.ReviewID != "" {
			t.Errorf("it was settled by %+v", by)
		}
	default:
		if by != (payment.Settled{}) {
			t.Errorf("%s was settled by %+v", d.Source, by)
		}
	}
	if d.Corrects == "" && (len(d.Degraded) > 0 || len(d.Shadow) > 0 || len(d.Evidence.Unknown) > 0) {
		t.Errorf("it repeats what it does not rest on: %s", d.Append(nil))
	}
}

// A review that names itself with nothing but its content is one review all the same.
func TestAReviewWithoutAnIDCountsOnce(t *testing.T) {
	p := newTopic(t)
	p.publish(held("t", "step_up", "review"))
	r := review("release", "")
	ruling := p.holds.Review(r, began, began)
	p.publish(ruling.Next)
	if ruling = p.holds.Review(r, began, began); ruling.Answer != Repeated {
		t.Fatalf("the same review again: %+v", ruling)
	}
	r.EventTime++
	if ruling = p.holds.Review(r, began, began); ruling.Answer != Refused {
		t.Fatalf("another review: %+v", ruling)
	}
}

// What is made and not published, because the lane lost its fence, has not happened.
func TestARevisionThatWasNotPublishedNeverWas(t *testing.T) {
	p := newTopic(t)
	p.publish(held("t", "review"))
	for range 2 {
		if r := p.holds.Review(review("release", "r"), began, began); r.Answer != Changes || r.Next.Revision != 2 {
			t.Fatalf("%+v", r)
		}
	}
	if all := p.holds.Expire(0, expires, expires, 5); len(all) != 1 || all[0].Revision != 2 {
		t.Fatalf("%v", all)
	}
}

// Stored bytes that are published again, long after the hold had ended and was
// forgotten, do not open it again.
func TestRepeatedBytesOpenNoHold(t *testing.T) {
	index := New(1<<10, forgotten)
	o := HoldsOptions{First: index.Find}
	value := held("t", "review").Append(nil)
	mark, _, err := MarkOf(window.Key{}, 0, 5, value)
	if err != nil {
		t.Fatal(err)
	}
	first := NewHolds(window.Key{}, o)
	if err := first.Saw(0, 5, value); err != nil || first.Open() != 1 {
		t.Fatalf("%d holds are open (%v), want 1", first.Open(), err)
	}
	index.Add(mark, value)
	if err := first.Saw(0, 5, value); err != nil || first.Open() != 1 {
		t.Fatalf("the same record opened another one (%v)", err)
	}
	h := NewHolds(window.Key{}, o) // after a restart behind its end
	for _, place := range []struct {
		partition int32
		offset    int64
	}{{0, 900}, {3, 1}} {
		if err := h.Saw(place.partition, place.offset, value); err != nil || h.Open() != 0 {
			t.Fatalf("a repeat at %+v opened the hold again (%v)", place, err)
		}
	}
	if err := h.Saw(0, 5, value); err != nil || h.Open() != 1 {
		t.Fatalf("the first decision opened no hold (%v)", err)
	}
}

func TestHoldsAreReadAgainFromTheOldestThatIsOpen(t *testing.T) {
	p := newTopic(t)
	if _, ok := p.holds.Oldest(0); ok {
		t.Fatal("nothing is open")
	}
	for i, needs := range [][]string{{"review"}, {"step_up"}, {"step_up", "review"}, {"review"}} {
		p.publish(decided(fmt.Sprint("a", i), payment.Approve, payment.SourceRules), held(fmt.Sprint("t", i), needs...))
	}
	for _, end := range []struct {
		id   string
		want int64
	}{{"", 1}, {"t1", 1}, {"t0", 5}, {"t2", 7}} {
		if end.id != "" {
			p.publish(p.holds.Review(&payment.Review{ID: end.id, TransactionID: end.id, Kind: payment.ReviewReject, Reviewer: "r"}, began, began).Next)
		}
		if at, ok := p.holds.Oldest(0); !ok || at != end.want {
			t.Errorf("after the end of %q the oldest is at %d (%v), want %d", end.id, at, ok, end.want)
		}
	}
	if _, ok := p.holds.Oldest(1); ok {
		t.Error("another partition has open holds")
	}
}

// Who takes over reads the end of the topic first, and the rest while payments are
// decided already: the order of reading changes nothing.
func TestEarlierRevisionsMayBeReadLater(t *testing.T) {
	p := newTopic(t)
	p.publish(decided("t", payment.Hold, payment.SourceDefaultDeadline, "step_up", "review"))
	p.publish(p.holds.StepUp(stepUp("step_up_passed", "o"), began, began).Next)
	next, err := p.holds.Correct(decided("t", payment.Hold, payment.SourceRules, "step_up", "review"))
	if err != nil || next != nil {
		t.Fatalf("%s (%v)", short(next), err)
	}
	late := NewHolds(window.Key{}, HoldsOptions{})
	for _, at := range []int64{1, 0, 0} {
		if err := late.Saw(0, at, p.records[at]); err != nil {
			t.Fatal(err)
		}
		if first, ok := late.Oldest(0); !ok || first != at {
			t.Errorf("the topic is needed from %d (%v), want %d", first, ok, at)
		}
	}
	if r := late.StepUp(stepUp("step_up_passed", "o"), began, began); r.Answer != Repeated {
		t.Errorf("%+v", r)
	}
	r := late.Review(review("release", "r"), began, began)
	if short(r.Next) != "3 approve by review final RELEASED" {
		t.Fatal(short(r.Next))
	}
	// Read backwards, the end first, it is over, and knows what was used.
	late = NewHolds(window.Key{}, HoldsOptions{})
	p.publish(r.Next)
	for at := int64(2); at >= 0; at-- {
		if err := late.Saw(0, at, p.records[at]); err != nil {
			t.Fatal(err)
		}
	}
	if again := late.StepUp(stepUp("step_up_passed", "o"), began, began); again.Answer != Repeated || late.Open() != 0 {
		t.Errorf("%+v, %d open", again, late.Open())
	}
}

func TestExpiryIsInOrderAndNamesTheNext(t *testing.T) {
	p := newTopic(t)
	for i, minutes := range []int{30, 10, 20, 10, 50} {
		d := held(fmt.Sprint("t", i), [][]string{{"review"}, {"step_up"}, {"step_up", "review"}}[i%3]...)
		d.Hold.ExpiresAt = began + payment.Time(minutes)*60e9
		d.Hold.OnExpiry = []payment.Verdict{payment.Block, payment.Approve}[i%2]
		p.publish(d)
		select {
		case <-p.holds.Sooner():
		default:
			if i < 4 && i != 2 && i != 3 {
				t.Errorf("nobody was told of hold %d, the earliest of its queue", i)
			}
		}
	}
	if at, ok := p.holds.NextExpiry(0); !ok || at != began+600e9 {
		t.Fatalf("the next expiry is at %v (%v)", at, ok)
	}
	var got []string
	all := p.holds.Expire(0, began+1800e9, 0, 3)
	for _, d := range all {
		got = append(got, fmt.Sprint(d.TransactionID, " ", d.Verdict, " ", d.DecidedAt.Std().Sub(began.Std())))
	}
	if want := "[t1 approve 10m0s t3 approve 10m0s t2 block 20m0s]"; fmt.Sprint(got) != want {
		t.Fatalf("expired: %v, want %s", got, want)
	}
	p.publish(all...)
	if all = p.holds.Expire(0, began+1800e9, 0, 3); len(all) != 1 || all[0].TransactionID != "t0" {
		t.Fatalf("then %v expired", all)
	}
	if n := p.holds.Open(); n != 2 {
		t.Fatalf("%d are open", n)
	}
}

func TestQueuesSayWhatNobodyWorks(t *testing.T) {
	h := NewHolds(window.Key{}, HoldsOptions{WarnAfter: .8})
	for i := range 10 {
		d := held(fmt.Sprint("t", i), "review")
		d.DecidedAt, d.Hold.ExpiresAt = began+payment.Time(i)*60e9, began+payment.Time(i)*60e9+1000e9
		if err := h.Saw(2, int64(i), d.Append(nil)); err != nil {
			t.Fatal(err)
		}
	}
	unworked := func(after time.Duration) Queue { return h.Queue(2, Review, began.Add(after)) }
	if q := unworked(799 * time.Second); q != (Queue{Open: 10, Since: began, Expires: began + 1000e9}) {
		t.Errorf("%+v", q)
	}
	if q := unworked(800*time.Second + 3*time.Minute); q.Unworked != 4 {
		t.Errorf("%+v, want 4 unworked", q)
	}
	for _, r := range []struct{ id, kind string }{{"t0", "claim"}, {"t1", "claim"}, {"t1", "unclaim"}, {"t2", "note"}, {"t9", "claim"}, {"t77", "claim"}} {
		k, _ := payment.ParseReviewKind(r.kind)
		h.Note(&payment.Review{TransactionID: r.id, Kind: k, Reviewer: "reviewer-7"})
	}
	if q := unworked(800*time.Second + 3*time.Minute); q.Unworked != 3 || q.Open != 10 {
		t.Errorf("%+v, want 3 unworked", q)
	}
	if q := unworked(time.Hour); q.Unworked != 8 {
		t.Errorf("%+v, want 8 unworked", q)
	}
	claimed := 0
	h.Each(func(o OpenHold) {
		if o.Claimant == "reviewer-7" && (o.Decision.TransactionID == "t0" || o.Decision.TransactionID == "t9") && o.Decision.Revision == 1 {
			claimed++
		}
	})
	if claimed != 2 {
		t.Errorf("%d of 2 claims are seen", claimed)
	}
	if q := h.Queue(1, Review, expires); q != (Queue{}) {
		t.Errorf("another partition has %+v", q)
	}
}

// A million open holds take about a gigabyte, and the garbage collector little time.
func TestAHoldTakesLittleMoreThanItsBytes(t *testing.T) {
	const n = 20_000
	var before, after runtime.MemStats
	d := held("42000012342026112300001", "step_up", "review")
	d.Versions = payment.Versions{Rules: "sha256:" + strings.Repeat("a", 64), Rates: "sha256:" + strings.Repeat("b", 64)}
	d.Evidence.Unknown = []string{strings.Repeat("long", 400)}
	h := NewHolds(window.Key{}, HoldsOptions{WarnAfter: .8})
	runtime.GC()
	runtime.ReadMemStats(&before)
	size := 0
	for i := range n {
		d.TransactionID = fmt.Sprintf("420000123420261123%05d", i)
		value := d.Append(nil)
		size = len(essential(value))
		if err := h.Saw(0, int64(i), value); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := int(after.HeapAlloc-before.HeapAlloc) / n
	t.Logf("a hold of %d bytes takes %d", size, each)
	if each > size+size/5+300 || h.Open() != n {
		t.Errorf("a hold of %d bytes takes %d", size, each)
	}
}

func TestWhatIsNotKnownIsSaid(t *testing.T) {
	p := newTopic(t)
	p.publish(decided("a", payment.Approve, payment.SourceRules), decided("b", payment.Block, payment.SourceRules))
	for _, id := range []string{"a", "b", "c"} {
		r := review("release", "r")
		r.TransactionID = id
		if got := p.holds.Review(r, began, began); got.Answer != Unknown {
			t.Errorf("%s: %+v", id, got)
		}
		if _, err := p.holds.Correct(decided(id, payment.Block, payment.SourceRules)); !errors.Is(err, ErrUnseen) {
			t.Errorf("%s: %v", id, err)
		}
		if _, ok := p.holds.Latest(window.Key{}.Tx(id)); ok {
			t.Errorf("%s is known", id)
		}
	}
	if err := p.holds.Saw(0, 9, []byte(`{"revision":`)); err == nil {
		t.Error("a broken decision was taken in")
	}
}

func TestLatestIsTheLastRevisionPublished(t *testing.T) {
	p := newTopic(t)
	tx := window.Key{}.Tx("t")
	p.publish(held("t", "step_up", "review"))
	if l, ok := p.holds.Latest(tx); !ok || l.Settled || l.Revision != 1 {
		t.Fatalf("%+v", l)
	}
	p.publish(p.holds.StepUp(stepUp("step_up_passed", "o"), began, began).Next)
	l, ok := p.holds.Latest(tx)
	if !ok || !l.Settled || l.Offset != 1 || l.Revision != 2 || l.Verdict != payment.Hold || short(l.Decision) != "2 hold by step_up needs review" || l.Decision.SettledBy.OutcomeID != "o" {
		t.Fatalf("%+v", l)
	}
	p.publish(p.holds.Review(review("release", "r"), began, began).Next)
	if l, ok = p.holds.Latest(tx); !ok || l.Offset != 2 || l.Revision != 3 || l.Verdict != payment.Approve || l.Decision != nil {
		t.Fatalf("%+v", l)
	}
	p.publish(decided("d", payment.Approve, payment.SourceDefaultDeadline))
	if l, ok = p.holds.Latest(window.Key{}.Tx("d")); !ok || l.Default != payment.SourceDefaultDeadline || l.Verdict != payment.Approve {
		t.Fatalf("%+v", l)
	}
}

func BenchmarkSaw(b *testing.B) {
	h := NewHolds(window.Key{}, HoldsOptions{})
	for name, d := range map[string]*payment.Decision{"approve": decided("t", payment.Approve, payment.SourceRules), "hold": held("t", "review")} {
		value := d.Append(nil)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				if err := h.Saw(0, int64(i), value); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Whatever the ids and texts, a glance says what the whole decision says.
func TestAGlanceReadsWhatTheParserReads(t *testing.T) {
	for _, id := range []string{"t-1", `a","revision":7,"verdict":"block","source":"rules`, `back\slash`, "ü", "\u2028", `"`} {
		for _, d := range []*payment.Decision{held(id, "review"), decided(id, payment.Approve, payment.SourceDefaultDeadline), decided(id, payment.Block, payment.SourceInvalid)} {
			d.Revision = 12
			value := d.Append(nil)
			var want payment.Decision
			if err := json.Unmarshal(value, &want); err != nil {
				t.Fatal(err)
			}
			got, h, ok := glance(value)
			if !ok || h.revision != 12 || h.verdict != want.Verdict || h.default1 != defaultKindOf(want.Source) || got != nil && string(got) != want.TransactionID {
				t.Errorf("%s: %q %+v %v", value, got, h, ok)
			}
			if strings.ContainsAny(id, `"\`) != (got == nil) {
				t.Errorf("%q: a glance reads the id %q", id, got)
			}
			var cut payment.Decision
			if err := json.Unmarshal(essential(value), &cut); err != nil || cut.TransactionID != id || cut.Evidence.Unknown != nil || cut.Shadow != nil || cut.Versions != want.Versions {
				t.Errorf("%s is cut to %s (%v)", value, essential(value), err)
			}
		}
	}
	for _, broken := range []string{"", "{}", `{"v":1,"transaction_id":"t","revision":1`, `,"transaction_id":"t","revision":x,"verdict":"hold","source":"rules"`} {
		if _, _, ok := glance([]byte(broken)); ok {
			t.Errorf("%q was read", broken)
		}
	}
}
