package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// What reviewers and payers do becomes the next revision, once; what changes no
// verdict is no revision; and what is left of the needs is waited for.
func TestReviewsAndStepUpsBecomeLaterRevisions(t *testing.T) {
	h := newHoldsTopics(t)
	m := h.member(0, 1)
	m.decide(0, onHold("released", time.Hour, "review"), onHold("rejected", time.Hour, "review"), onHold("both", time.Hour, "step_up", "review"))
	m.decide(1, onHold("proved", time.Hour, "step_up"), onHold("failed", time.Hour, "step_up"))
	now := time.Now()
	// Not in the partitions of their transactions: correctness rests on no key.
	h.send(h.topics.Reviews, 1, now, reviewOf("released", "claim", "c"), reviewOf("released", "release", "r"), reviewOf("released", "release", "r"), reviewOf("rejected", "reject", "s"), reviewOf("both", "release", "b"))
	h.send(h.topics.Outcomes, 0, now, stepUpOf("proved", "step_up_passed", "p"), stepUpOf("proved", "settled", "x"), stepUpOf("failed", "step_up_failed", "f"), stepUpOf("proved", "step_up_passed", "p"))
	for id, want := range map[string]string{
		"released": "1 hold rules, 2 approve review", "rejected": "1 hold rules, 2 block review",
		"proved": "1 hold rules, 2 approve step_up", "failed": "1 hold rules, 2 block step_up",
	} {
		if got := h.ends(id, 2); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
	h.ends("both", 2)
	h.send(h.topics.Outcomes, 1, now, stepUpOf("both", "step_up_passed", "q"))
	if got := h.ends("both", 3); got != "1 hold rules, 2 hold review, 3 approve step_up" {
		t.Error(got)
	}
	m.settles(h.topics.Reviews, 1, 5)
	m.settles(h.topics.Outcomes, 0, 4)
	m.settles(h.topics.Outcomes, 1, 1)
	for id, chain := range h.chains() {
		for i, d := range chain {
			if d.Revision != i+1 {
				t.Errorf("%s: %s", id, chainWords(chain))
			}
		}
	}
	if letters := h.letters(0); len(letters) > 0 {
		t.Errorf("dead letters: %v", letters)
	}
	for name, want := range map[string]float64{
		"sluice_reviews_total{became=used,review=release}": 3, "sluice_reviews_total{became=noted,review=claim}": 1, "sluice_reviews_total{became=refused,review=release}": 0,
		"sluice_holds_ended_total{how=released}": 1, "sluice_holds_ended_total{how=rejected}": 1, "sluice_holds_ended_total{how=step_up_passed}": 2,
		"sluice_holds_ended_total{how=step_up_failed}": 1, "sluice_holds_ended_total{how=expired}": 0, "sluice_holds_open{needs=review}": 0,
	} {
		if got := m.gathered(name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

// gathered is a metric by name and labels.
func (m *holdsMember) gathered(name string) float64 {
	m.t.Helper()
	families, err := m.metrics.Gather()
	if err != nil {
		m.t.Fatal(err)
	}
	for _, f := range families {
		for _, metric := range f.Metric {
			var labels []string
			for _, l := range metric.Label {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			if f.GetName()+"{"+strings.Join(labels, ",")+"}" == name {
				return metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
	}
	m.t.Fatalf("there is no metric %s", name)
	return 0
}

// A review that nobody can use is a dead letter with its reason, and an alert:
// once, though every member reads it, and once over a restart.
func TestAReviewThatNobodyCanUseIsRefusedOnce(t *testing.T) {
	h := newHoldsTopics(t)
	first, second := h.member(0), h.member(1)
	first.decide(0, onHold("gone", time.Hour, "review"), onHold("proof", time.Hour, "step_up"), approved("fine"))
	now := time.Now()
	h.send(h.topics.Reviews, 0, now, reviewOf("gone", "reject", "r"))
	h.ends("gone", 2)
	h.send(h.topics.Reviews, 1, now, reviewOf("gone", "release", "s"), reviewOf("fine", "release", "t"), `{"review":"bless"}`, reviewOf("proof", "release", "u"), reviewOf("gone", "reject", "r"), reviewOf("fine", "note", "n"))
	h.send(h.topics.Outcomes, 1, now, stepUpOf("fine", "step_up_passed", "o"), `{"outcome":"step_up_passed"}`, stepUpOf("gone", "step_up_passed", "p"))
	want := []string{"after_end payments.outcomes/1/2", "after_end risk.reviews/1/0", "not_held risk.reviews/1/1", "not_needed risk.reviews/1/3", "unknown_review risk.reviews/1/2"}
	if got := h.letters(5); !slices.Equal(got, want) {
		t.Errorf("dead letters %v, want %v", got, want)
	}
	second.settles(h.topics.Reviews, 1, 6)
	second.settles(h.topics.Outcomes, 1, 3)
	first.settles(h.topics.Reviews, 0, 1)
	if n := second.alerted("review_refused"); n != 5 || first.alerted("") != 0 || second.alerted("release by reviewer-7 of transaction gone cannot be used: transaction_id: after_end") != 1 {
		t.Errorf("%d alerts: %v; the other member has %v", n, second.alerts, first.alerts)
	}
	first.stop()
	second.stop()
	third := h.member(0, 1)
	third.decide(0, onHold("next", time.Hour, "review"))
	h.send(h.topics.Reviews, 1, now, reviewOf("next", "release", "v"))
	h.ends("next", 2)
	if got := h.letters(0); !slices.Equal(got, want) || third.alerted("") != 0 {
		t.Errorf("after a restart: dead letters %v, alerts %v", got, third.alerts)
	}
}

// A review or step-up before its transaction waits for it, also while the member
// dies; one that never finds it is a dead letter in the end.
func TestWhatComesBeforeItsTransactionWaitsForIt(t *testing.T) {
	h := newHoldsTopics(t)
	m := h.member(0, 1)
	now := time.Now()
	h.send(h.topics.Reviews, 0, now, reviewOf("late", "claim", "c"), reviewOf("late", "release", "r"), reviewOf("late", "reject", "s"))
	h.send(h.topics.Outcomes, 1, now, stepUpOf("slow", "step_up_passed", "o"))
	m.decide(1, approved("other"))
	h.send(h.topics.Reviews, 0, now, reviewOf("other", "note", "n"))
	for m.gathered("sluice_reviews_total{became=noted,review=note}") == 0 {
		time.Sleep(time.Millisecond) // a counter tells nobody
	}
	if at := m.commit(h.topics.Reviews, 0); at != 0 {
		t.Fatalf("reviews that wait were committed: %d", at)
	}
	if at := m.commit(h.topics.Outcomes, 1); at > 0 {
		t.Fatalf("a step-up that waits was committed: %d", at)
	}
	m.stop()
	m = h.member(0, 1)
	m.decide(0, onHold("late", time.Hour, "review"), onHold("slow", time.Hour, "step_up"))
	if got := h.ends("late", 2); got != "1 hold rules, 2 approve review" {
		t.Error(got)
	}
	if got := h.ends("slow", 2); got != "1 hold rules, 2 approve step_up" {
		t.Error(got)
	}
	m.settles(h.topics.Reviews, 0, 4)
	if got := h.letters(1); fmt.Sprint(got) != "[after_end risk.reviews/0/2]" {
		t.Errorf("dead letters %v", got)
	}

	m.stop()
	m = h.newMember()
	m.desk.wait = 300 * time.Millisecond
	m.take(0, 1)
	h.send(h.topics.Reviews, 1, now, reviewOf("never", "release", "x"), reviewOf("never", "claim", "y"))
	h.send(h.topics.Outcomes, 0, now, stepUpOf("never", "step_up_passed", "z")) // its lane sees to it
	if got := h.letters(3); fmt.Sprint(got) != "[after_end risk.reviews/0/2 unmatched risk.reviews/1/0 unmatched risk.reviews/1/1]" {
		t.Errorf("dead letters %v", got)
	}
	m.settles(h.topics.Reviews, 1, 2)
	m.settles(h.topics.Outcomes, 0, 1)
	if m.alerted("unmatched") != 2 {
		t.Errorf("alerts %v", m.alerts)
	}
}

// Two members, two reviewers for each hold, step-ups and expiries all at once, and
// members that die before a revision is published, or lose their partitions: each
// revision is made once, in order, and each review is used or refused.
func TestRevisionsAreMadeOnceWhoeverDies(t *testing.T) {
	h := newHoldsTopics(t)
	r := rand.New(rand.NewPCG(1, 2))
	const holds = 60
	a, b := h.member(0), h.member(1)
	for i := range holds {
		needs := [][]string{{"review"}, {"step_up", "review"}, {"step_up"}}[i%3]
		lasts := time.Hour
		if i%10 == 9 {
			lasts = time.Second
		}
		owner := []*holdsMember{a, b}[i%2]
		owner.decide(int32(i%2), onHold(fmt.Sprint("t", i), lasts, needs...))
	}
	var calls atomic.Int32
	mayDie := func(int32) error {
		if calls.Add(1)%5 == 0 {
			return errors.New("killed")
		}
		return nil
	}
	records := [holdsPartitions][2][]string{}
	for partition := range holdsPartitions {
		for _, i := range r.Perm(holds) {
			id := fmt.Sprint("t", i)
			kind := []string{"release", "reject"}[r.IntN(2)]
			records[partition][0] = append(records[partition][0], reviewOf(id, kind, fmt.Sprint("r", partition, i)))
			records[partition][1] = append(records[partition][1], stepUpOf(id, "step_up_passed", fmt.Sprint("o", partition, i)))
		}
	}
	const rounds = 6
	for round := range rounds { // members die while they work on what has come, and the partitions move
		a.dies(mayDie)
		b.dies(mayDie)
		for partition := range holdsPartitions {
			from, to := round*holds/rounds, (round+1)*holds/rounds
			h.send(h.topics.Reviews, partition, time.Now(), records[partition][0][from:to]...)
			h.send(h.topics.Outcomes, partition, time.Now(), records[partition][1][from:to]...)
		}
		for _, m := range []*holdsMember{a, b} {
			for partition := range holdsPartitions {
				m.commit(h.topics.Reviews, partition)
				m.commit(h.topics.Outcomes, partition)
			}
			m.stop()
		}
		if round%2 == 0 {
			a, b = h.member(1), h.member(0)
		} else {
			a, b = h.member(0), h.member(1)
		}
	}
	for partition, m := range []*holdsMember{a, b} {
		m.settles(h.topics.Reviews, partition, holds)
		m.settles(h.topics.Outcomes, partition, holds)
	}
	for i := range holds { // those that wait for a review had one; what is left expires
		if i%10 == 9 {
			h.ends(fmt.Sprint("t", i), 2)
		}
	}

	used := map[string]int{}
	for id, chain := range h.chains() {
		for i, d := range chain {
			if d.Revision != i+1 || d.Final != (i == len(chain)-1) {
				t.Errorf("%s: %s", id, chainWords(chain))
			}
			used[d.SettledBy.ReviewID]++
		}
		if last := chain[len(chain)-1]; !last.Final {
			t.Errorf("%s waits still: %s", id, chainWords(chain))
		}
	}
	refused := map[string]bool{}
	for _, letter := range h.letters(0) {
		refused[letter[strings.Index(letter, " ")+1:]] = true
	}
	for _, record := range h.read(h.topics.Reviews) {
		var review payment.Review
		decoder := payment.Decoder{Limits: payment.DefaultLimits()}
		if refusal := decoder.Review(record.Value, payment.TimeOf(time.Now()), &review); refusal != nil {
			t.Fatal(refusal)
		}
		place := fmt.Sprintf("%s/%d/%d", h.topics.Reviews, record.Partition, record.Offset)
		if n := used[review.ID]; n > 1 || (n == 1) == refused[place] {
			t.Errorf("review %s at %s made %d revisions; refused: %v", review.ID, place, n, refused[place])
		}
	}
}

// instantReviser publishes to a slice, and tells when.
type instantReviser struct {
	holds *ledger.Holds
	made  []string
	began time.Time
}

func (r *instantReviser) Revise(_ context.Context, partition int32, next func() []*payment.Decision) error {
	for _, d := range next() {
		r.made = append(r.made, fmt.Sprintf("%s %s %s", d.TransactionID, d.Verdict, time.Since(r.began)))
		if err := r.holds.Saw(partition, int64(len(r.made)), d.Append(nil)); err != nil {
			return err
		}
	}
	return nil
}

// A hold ends on time: when no traffic flows, when it was opened while an earlier
// expiry was waited for, and after a restart; and only by its owner.
func TestExpiryFiresOnTimeWithoutTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		holds := ledger.NewHolds(window.Key{}, ledger.HoldsOptions{})
		r := &instantReviser{holds: holds, began: time.Now()}
		desk := &holdDesk{holds: holds, now: func() payment.Time { return payment.TimeOf(time.Now()) }, metrics: newHoldMetrics(prometheus.NewRegistry())}
		start := func() func() {
			ctx, cancel := context.WithCancel(t.Context())
			var work sync.WaitGroup
			shift := &holdShift{holdDesk: desk, reviser: r, owns: map[int32]bool{0: true, 2: true}}
			work.Go(func() {
				if err := shift.expire(ctx, ctx); err != nil {
					t.Error(err)
				}
			})
			return func() {
				cancel()
				work.Wait()
			}
		}
		opened := int64(0)
		open := func(id string, partition int32, lasts time.Duration) {
			d := onHold(id, lasts, "review")
			d.Hold.OnExpiry = payment.Verdict(1 + 2*(opened%2))
			opened++
			if err := holds.Saw(partition, 1000+opened, d.Append(nil)); err != nil {
				t.Fatal(err)
			}
		}
		stop := start()
		open("long", 0, 26*time.Hour)
		open("short", 2, 3*time.Second)
		open("foreign", 1, time.Second)
		time.Sleep(time.Second)
		open("soon", 0, time.Second)
		time.Sleep(9 * time.Second)
		stop()
		open("down", 0, 5*time.Second) // and it expires while nobody works
		time.Sleep(50 * time.Second)
		stop = start()
		time.Sleep(26 * time.Hour)
		stop()
		want := "[soon block 2s short block 3s down approve 1m0s long approve 26h0m0s]"
		if got := fmt.Sprint(r.made); got != want {
			t.Errorf("expired: %s\nwant     %s", got, want)
		}
	})
}

// An expiry waits for the readers of reviews to come as far, but not for ever.
func TestExpiryWaitsForReadersWithinReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		holds := ledger.NewHolds(window.Key{}, ledger.HoldsOptions{})
		r := &instantReviser{holds: holds, began: time.Now()}
		desk := &holdDesk{holds: holds, now: func() payment.Time { return payment.TimeOf(time.Now()) }, metrics: newHoldMetrics(prometheus.NewRegistry())}
		reader := &petitionReader{}
		shift := &holdShift{holdDesk: desk, reviser: r, owns: map[int32]bool{0: true}, readers: []*petitionReader{reader}}
		for i, lasts := range []time.Duration{time.Second, 10 * time.Second} {
			if err := holds.Saw(0, int64(i), onHold(fmt.Sprint("t", i), lasts, "review").Append(nil)); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		work.Go(func() {
			if err := shift.expire(ctx, ctx); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if len(r.made) > 0 {
			t.Errorf("%v, and nobody had read the reviews before", r.made)
		}
		reader.readTo.Store(int64(desk.now()))
		time.Sleep(5 * time.Minute) // the reader stands still
		cancel()
		work.Wait()
		if len(r.made) != 2 || !strings.HasPrefix(r.made[0], "t0 block 5") || !strings.HasPrefix(r.made[1], "t1 block 35") {
			t.Errorf("expired: %v", r.made)
		}
	})
}

// The gate was away: a review that was sent before the hold's end counts, and one
// that was sent after it does not, though both are read long after.
func TestAReviewCountsByWhenItWasSent(t *testing.T) {
	h := newHoldsTopics(t)
	m := h.member(0, 1)
	ended := time.Now().Add(-10 * time.Minute)
	for _, id := range []string{"before", "after", "proof"} {
		d := onHold(id, 0, "review")
		if id == "proof" {
			d.Hold.Needs = []string{"step_up"}
		}
		d.EventTime = payment.TimeOf(ended.Add(-time.Hour))
		d.Hold.ExpiresAt = payment.TimeOf(ended)
		m.stop()
		m.decide(0, d)
	}
	h.send(h.topics.Reviews, 0, ended.Add(-time.Minute), strings.Replace(reviewOf("before", "release", "r"), time.Now().UTC().Format("2006-01-02T15"), ended.Add(-time.Hour).UTC().Format("2006-01-02T15"), 1))
	h.send(h.topics.Reviews, 1, ended.Add(time.Minute), strings.Replace(reviewOf("after", "release", "s"), time.Now().UTC().Format("2006-01-02T15"), ended.Add(-time.Hour).UTC().Format("2006-01-02T15"), 1))
	h.send(h.topics.Outcomes, 1, ended.Add(-time.Second), strings.Replace(stepUpOf("proof", "step_up_passed", "o"), time.Now().UTC().Format("2006-01-02T15"), ended.Add(-time.Hour).UTC().Format("2006-01-02T15"), 1))
	h.member(0, 1)
	for id, want := range map[string]string{"before": "1 hold rules, 2 approve review", "after": "1 hold rules, 2 block expiry", "proof": "1 hold rules, 2 approve step_up"} {
		if got := h.ends(id, 2); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
	if got := h.letters(1); fmt.Sprint(got) != "[after_end risk.reviews/1/0]" {
		t.Errorf("dead letters %v", got)
	}
}

// Holds that nobody works are seen: an alert, until somebody claims them, and who
// has claimed them is known after a restart.
func TestHoldsThatNobodyWorksAreAlerted(t *testing.T) {
	h := newHoldsTopics(t)
	m := h.member(0, 1)
	m.desk.config.LongQueue = 3
	old := onHold("old", 6*time.Minute, "step_up", "review")
	old.DecidedAt = old.DecidedAt.Add(-30 * time.Minute)
	m.decide(0, old, onHold("new", time.Hour, "review"), onHold("payer", time.Second, "step_up"))
	m.desk.attend(m.desk.now())
	if m.alerted("holds_expiring: 1 holds are unclaimed, and 80 % of their time is up; the next hold expires at 20") != 1 || m.alerted("holds_unworked") != 0 {
		t.Errorf("alerts %v", m.alerts)
	}
	if open, unworked := m.gathered("sluice_holds_open{needs=review_and_step_up}"), m.gathered("sluice_holds_unworked{needs=review_and_step_up}"); open != 1 || unworked != 1 {
		t.Errorf("%v open, %v unworked", open, unworked)
	}
	if age := m.gathered("sluice_hold_oldest_seconds{needs=review_and_step_up}"); age < 1800 || age > 1900 {
		t.Errorf("the oldest is %v seconds old", age)
	}
	if left := m.gathered("sluice_hold_time_left_seconds{needs=review_and_step_up}"); left < 200 || left > 360 {
		t.Errorf("%v seconds are left", left)
	}
	h.send(h.topics.Reviews, 0, time.Now(), reviewOf("old", "claim", "c"))
	m.settles(h.topics.Reviews, 0, 1)
	m.desk.attend(m.desk.now())
	if len(m.standing) != 0 {
		t.Errorf("alerts stand: %v", m.standing)
	}
	m.stop()
	m = h.newMember()
	m.desk.config.LongQueue = 2
	m.take(0, 1)
	h.send(h.topics.Reviews, 0, time.Now(), reviewOf("old", "note", "n"))
	m.settles(h.topics.Reviews, 0, 2)
	m.desk.attend(m.desk.now())
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.standing) != 1 || m.standing[payment.AlertHoldsUnworked] != "2 holds wait for a review" {
		t.Errorf("after a restart alerts stand: %v", m.standing)
	}
}

func TestHoldSettingsAreChecked(t *testing.T) {
	if c := DefaultHoldsConfig(); c.Validate() != nil {
		t.Error(c.Validate())
	}
	err := (&HoldsConfig{WarnPercent: 101}).Validate()
	if err == nil || !strings.Contains(err.Error(), "holds.warn_percent: 101") || !strings.Contains(err.Error(), "holds.long_queue: 0") {
		t.Error(err)
	}
}

// Pending implements reviser.
func (r *instantReviser) Pending(int32) bool { return false }
