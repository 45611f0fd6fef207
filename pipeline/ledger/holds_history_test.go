package ledger

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// holdModel is one transaction as the contract tells it, kept in the plainest way.
type holdModel struct {
	revision  int
	verdict   payment.Verdict
	review    bool // still needed
	stepUp    bool
	reviewed  bool // met before
	proved    bool
	everHeld  bool
	isDefault payment.Source
	over      bool
	expires   payment.Time
	onExpiry  payment.Verdict
	used      []string
}

// says is the model's next revision in words, as short has them without reasons.
func (m *holdModel) says(source payment.Source, corrects payment.Source) string {
	m.revision++
	s := fmt.Sprintf("%d %s by %s", m.revision, m.verdict, source)
	if m.verdict == payment.Hold {
		m.everHeld = true
		switch {
		case m.stepUp && m.review:
			s += " needs step_up+review"
		case m.stepUp:
			s += " needs step_up"
		default:
			s += " needs review"
		}
	}
	if corrects != "" {
		s += " corrects " + string(corrects)
	}
	if m.verdict != payment.Hold {
		s += " final"
	}
	return s
}

func (m *holdModel) waits(at payment.Time) string {
	switch {
	case m.verdict == payment.Hold && at < m.expires:
		return ""
	case m.everHeld:
		return "after_end"
	}
	return "not_held"
}

func (m *holdModel) settle(v payment.Verdict) {
	m.over, m.verdict = true, v
}

func (m *holdModel) reviewedBy(id, kind string, at payment.Time) string {
	if slices.Contains(m.used, id) {
		return "repeated"
	}
	if why := m.waits(at); why != "" {
		return why
	}
	if kind == "release" && !m.review {
		return "not_needed"
	}
	m.used = append(m.used, id)
	switch {
	case kind == "reject":
		m.settle(payment.Block)
	case m.stepUp:
		m.review, m.reviewed = false, true
	default:
		m.settle(payment.Approve)
	}
	return m.says(payment.SourceReview, "")
}

func (m *holdModel) stepped(id, kind string, at payment.Time) string {
	if slices.Contains(m.used, id) {
		return "repeated"
	}
	why := m.waits(at)
	if why == "not_held" || why == "" && !m.stepUp {
		return "noted"
	}
	if end := m.verdict; why != "" {
		if end == payment.Hold {
			end = m.onExpiry
		}
		if (kind == "step_up_passed") == (end == payment.Approve) {
			return "noted"
		}
		return why
	}
	m.used = append(m.used, id)
	switch {
	case kind == "step_up_failed":
		m.settle(payment.Block)
	case m.review:
		m.stepUp, m.proved = false, true
	default:
		m.settle(payment.Approve)
	}
	return m.says(payment.SourceStepUp, "")
}

func (m *holdModel) corrected(truth *payment.Decision) string {
	if m.isDefault == "" || m.over {
		return "none"
	}
	review, stepUp := slices.Contains(truth.Hold.Needs, "review") && !m.reviewed, slices.Contains(truth.Hold.Needs, "step_up") && !m.proved
	v := truth.Verdict
	if v == payment.Hold && !review && !stepUp {
		v = payment.Approve
	}
	if v == m.verdict && (v != payment.Hold || review == m.review && stepUp == m.stepUp) {
		return "none"
	}
	was := m.isDefault
	m.isDefault, m.verdict, m.review, m.stepUp, m.expires, m.onExpiry = "", v, review, stepUp, truth.Hold.ExpiresAt, truth.Hold.OnExpiry
	return m.says(payment.SourceRules, was)
}

// Any interleaving of reviews, step-ups, expiries, corrections, repeats of any of
// them and restarts gives the chain of revisions that the contract tells: each
// once, in order.
func TestAnyHistoryGivesOneChainOfRevisions(t *testing.T) {
	for seed := range uint64(300) {
		if h := (&holdHistory{topic: newTopic(t), r: rand.New(rand.NewPCG(seed, 6))}); !h.run() {
			t.Fatalf("seed %d", seed)
		}
	}
}

type holdHistory struct {
	*topic
	r      *rand.Rand
	now    payment.Time
	models []*holdModel
	done   map[int]bool // their chains were over when the topic was read again
}

func (h *holdHistory) run() bool {
	h.now, h.done = began, map[int]bool{}
	var past []func() // what may come again
	for range 150 {
		h.now += payment.Time(h.r.IntN(20_000)) * 1e6
		h.expire()
		switch n := h.r.IntN(10); {
		case n < 2 || len(h.models) == 0:
			h.begin()
		case n == 2 && h.r.IntN(4) == 0:
			h.again()
		case n == 3 && len(past) > 0:
			past[h.r.IntN(len(past))]()
		default:
			i := h.r.IntN(len(h.models))
			act := h.act(i)
			act()
			past = append(past, act)
		}
		if h.t.Failed() {
			return false
		}
	}
	return h.inOrder()
}

// begin decides a new payment.
func (h *holdHistory) begin() {
	id := len(h.models)
	m := &holdModel{}
	verdict := payment.Verdict(1 + h.r.IntN(3))
	source := payment.SourceRules
	if verdict != payment.Hold || h.r.IntN(3) == 0 {
		source = []payment.Source{payment.SourceDefaultDeadline, payment.SourceDefaultError}[h.r.IntN(2)]
		m.isDefault = source
	}
	d := h.decision(id, verdict)
	d.Source = source
	m.verdict, m.review, m.stepUp, m.expires, m.onExpiry = verdict, slices.Contains(d.Hold.Needs, "review"), slices.Contains(d.Hold.Needs, "step_up"), d.Hold.ExpiresAt, d.Hold.OnExpiry
	m.says(source, "")
	h.models = append(h.models, m)
	h.publish(d)
}

func (h *holdHistory) decision(id int, v payment.Verdict) *payment.Decision {
	needs := [][]string{{"review"}, {"step_up"}, {"step_up", "review"}}[h.r.IntN(3)]
	d := decided(fmt.Sprint(id), v, payment.SourceRules, needs...)
	if v == payment.Hold {
		d.Hold.ExpiresAt, d.Hold.OnExpiry = h.now+payment.Time(1+h.r.IntN(600))*1e9, []payment.Verdict{payment.Approve, payment.Block}[h.r.IntN(2)]
	}
	return d
}

// act makes something that can happen to a payment, now or again later.
func (h *holdHistory) act(i int) func() {
	m, id := h.models[i], fmt.Sprint(h.r.Uint64())
	var words []string
	var truth *payment.Decision
	switch h.r.IntN(6) {
	case 0, 1:
		words = []string{"release", id}
	case 2:
		words = []string{"reject", id}
	case 3:
		words = []string{"step_up_passed", id}
	case 4:
		words = []string{"step_up_failed", id}
	default:
		truth = h.decision(i, payment.Verdict(1+h.r.IntN(3)))
	}
	return func() {
		if h.done[i] {
			return // nothing is kept of it but the Index, which knows that it has ended
		}
		var got, want string
		var next *payment.Decision
		at := h.now
		ruled := func(r Ruling) {
			switch r.Answer {
			case Changes:
				next = r.Next
			case Refused:
				got = string(r.Reason)
			default:
				got = [...]string{Unknown: "unknown", Noted: "noted", Repeated: "repeated"}[r.Answer]
			}
		}
		switch {
		case truth != nil:
			want = m.corrected(truth)
			next, _ = h.holds.Correct(truth)
			got = "none"
		case words[0] == "release" || words[0] == "reject":
			want = m.reviewedBy(words[1], words[0], at)
			r := review(words[0], words[1])
			r.TransactionID = fmt.Sprint(i)
			ruled(h.holds.Review(r, at, at))
		default:
			want = m.stepped(words[1], words[0], at)
			o := stepUp(words[0], words[1])
			o.TransactionID = fmt.Sprint(i)
			ruled(h.holds.StepUp(o, at, at))
		}
		if next != nil {
			got = plain(next)
			h.publish(next)
		}
		if got != want {
			h.t.Errorf("payment %d, %v %v: %s, want %s", i, words, truth != nil, got, want)
		}
	}
}

// plain is short without reasons.
func plain(d *payment.Decision) string {
	c := *d
	c.Reasons = c.Reasons[:1]
	return short(&c)
}

func (h *holdHistory) expire() {
	next := h.holds.Expire(0, h.now, h.now, 1000)
	h.publish(next...)
	got := map[string]string{}
	for _, d := range next {
		got[d.TransactionID] = plain(d)
	}
	for i, m := range h.models {
		if m.verdict != payment.Hold || m.expires > h.now {
			continue
		}
		m.settle(m.onExpiry)
		if want := m.says(payment.SourceExpiry, ""); got[fmt.Sprint(i)] != want {
			h.t.Errorf("payment %d expired: %q, want %s", i, got[fmt.Sprint(i)], want)
		}
		delete(got, fmt.Sprint(i))
	}
	for id, d := range got {
		h.t.Errorf("payment %s: %s, and it does not expire", id, d)
	}
}

// again restarts, or hands the topic to another member: what it reads is the
// same. What is not read again is over, but for defaults, which the caller reads.
func (h *holdHistory) again() {
	h.restart()
	for i, m := range h.models {
		if _, known := h.holds.Latest(window.Key{}.Tx(fmt.Sprint(i))); known {
			continue
		}
		if m.verdict == payment.Hold {
			h.t.Errorf("payment %d is on hold and was forgotten", i)
		}
		if m.isDefault != "" && !m.over {
			h.holds = NewHolds(window.Key{}, HoldsOptions{}) // a default still waits for its real verdict: the whole topic is read
			for at, r := range h.records {
				if err := h.holds.Saw(0, int64(at), r); err != nil {
					h.t.Error(err)
				}
			}
			return
		}
		h.done[i] = true
	}
}

// inOrder checks the topic itself: each revision once, in order, none behind a final one.
func (h *holdHistory) inOrder() bool {
	last := map[string]payment.Decision{}
	for _, r := range h.records {
		var d payment.Decision
		if err := json.Unmarshal(r, &d); err != nil {
			h.t.Error(err)
		}
		before := last[d.TransactionID]
		if d.Revision != before.Revision+1 || before.Final && before.Source != payment.SourceDefaultDeadline && before.Source != payment.SourceDefaultError {
			h.t.Errorf("%s follows %s", short(&d), short(&before))
		}
		last[d.TransactionID] = d
	}
	for i, m := range h.models {
		if d := last[fmt.Sprint(i)]; d.Revision != m.revision || d.Verdict != m.verdict {
			h.t.Errorf("payment %d ends as %s, want revision %d, %s", i, plain(&d), m.revision, m.verdict)
		}
	}
	return !h.t.Failed()
}
