package rules

import (
	"slices"
	"strconv"
	"time"
	"unsafe"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// Input is what rules look at for one transaction.
type Input struct {
	Tx        *payment.Transaction
	Amount    int64           // minor units of the base currency, if HasAmount
	HasAmount bool            // false: the currency has no rate
	Features  []payment.Value // by slot
	Late      bool            // it was too late for every window, so that all features are absent
	Duplicate *Duplicate      // the earlier payment that it repeats; nil: none
	// Without tells, by slot, which features could not be had, though the
	// transaction names their entity: the store is away. nil: none.
	Without []bool
	// Since returns, for the feature of a slot, the event time from which on the
	// logs of its entity are whole: what reach(...) asks. nil: they were always
	// there, and every window is seen whole.
	Since func(slot int) payment.Time
	// Hash returns the keyed hash under which the windows know the
	// transaction's identifier of a kind, 0 when it names none. Called only by
	// rules that compare last(...) of an identifier; may be nil without such.
	Hash func(kind window.Kind) uint64
	// Overrides is what people changed at run time; nil: nothing.
	Overrides *Overrides
}

// Evaluator decides transactions by one ruleset. It holds scratch: one for each
// lane, not for concurrent use.
type Evaluator struct {
	set   *Ruleset
	facts facts

	hits, unknown, failed []int   // of the last Decide, by index of rule
	liveHits              int     // how many of hits are live: the shadow ones come after
	liveUnknown           int     //
	liveFailed            int     //
	causes                []cause // scratch of Decide
	details               []byte  // what the reasons of the last decision show

	given, over   *Overrides  // the last ones given, and those as they lie over set
	listed        bool        // a list blocks the present transaction
	passed        []int       // the rules that were switched off for the last Decide
	exempts       []exemption // what is known of each for the present transaction
	exemptBy      []string    // ids of those that switched a rule off
	failedExempts []string    // ids of those that met an error
}

// cause is one reason of a decision while it is put in order.
type cause struct {
	verdict payment.Verdict
	points  int
	rule    int32 // its index; or one of those below
}

// What causes a verdict besides rules.
const (
	causeNoRate    int32 = -1
	causePoints    int32 = -2
	causeDuplicate int32 = -3
)

// The reasons that no rule gives.
const (
	reasonNoRate     = "NO_RATE"     // the amount has no rate into the base currency
	reasonPoints     = "POINTS"      // the sum of points met a threshold
	reasonCannotHold = "CANNOT_HOLD" // the caller cannot hold, so that the policy decided
)

// NewEvaluator returns an evaluator of the ruleset.
func (s *Ruleset) NewEvaluator() *Evaluator {
	return &Evaluator{set: s, exempts: make([]exemption, len(s.exempts))}
}

// Hits returns the indexes of the rules that the last Decide found true, live
// ones before shadow ones. Valid until the next Decide.
func (e *Evaluator) Hits() []int { return e.hits }

// Unknown returns the indexes of the rules that met an absent value and did not
// fire, live ones before shadow ones. Valid until the next Decide.
func (e *Evaluator) Unknown() []int { return e.unknown }

// Failed returns the indexes of the rules that met an error and took no part,
// live ones before shadow ones. Valid until the next Decide.
func (e *Evaluator) Failed() []int { return e.failed }

// Passed returns the indexes of the rules that were switched off for the last
// transaction: not evaluated, because they are disabled or snoozed, or true and
// exempt; live ones before shadow ones. Valid until the next Decide.
func (e *Evaluator) Passed() []int { return e.passed }

// Decide fills the verdict of a decision that was Reset, and everything that it
// rests on except features, positions and times: Verdict, Source, Final,
// Points, Reasons, PayerCode, PayerMessage, Hold, Degraded, Versions,
// Evidence.Unknown, Evidence.Failed, Evidence.Exempt, Evidence.Controls and
// Shadow. The details of the reasons are
// views into the evaluator: they are valid until its next Decide.
func (e *Evaluator) Decide(in *Input, d *payment.Decision) {
	e.facts.reset(in)
	e.lay(in.Overrides)
	e.hits, e.unknown, e.failed = e.hits[:0], e.unknown[:0], e.failed[:0]
	e.causes, e.details = e.causes[:0], e.details[:0]
	tx := in.Tx

	e.listed = e.lists(d)
	e.run(e.set.live.find(tx.Type, tx.Channel))
	e.liveHits, e.liveUnknown, e.liveFailed = len(e.hits), len(e.unknown), len(e.failed)
	e.decide(d)

	// From here on the verdict stands: a shadow rule sees nothing that it could change.
	e.run(e.set.shadow.find(tx.Type, tx.Channel))
	for _, i := range e.hits[e.liveHits:] {
		d.Shadow = append(d.Shadow, payment.ShadowResult{Rule: e.set.ids[i], Verdict: e.set.rules[i].verdict})
	}
}

// run evaluates some rules into hits, unknown and failed.
func (e *Evaluator) run(rules []int32) {
	for next := 0; next < len(rules); {
		next = e.runFrom(rules, next)
	}
}

// runFrom evaluates rules until the end, or until one fails, and returns where
// to go on: one recover for all, so that it costs nothing where none fails.
func (e *Evaluator) runFrom(rules []int32, next int) (after int) {
	at := next
	defer func() {
		if recover() != nil {
			e.failed = append(e.failed, int(rules[at]))
			after = at + 1
		}
	}()
	for ; at < len(rules); at++ {
		i := rules[at]
		if control, off := e.over.silences(i, e.facts.Tx); off {
			e.facts.took(control)
			e.passed = append(e.passed, int(i))
			continue
		}
		switch e.set.rules[i].when(&e.facts) {
		case window.True:
			e.hit(i)
		case window.Unknown:
			if e.withoutFeatures(&e.set.rules[i]) {
				e.hit(i)
			} else {
				e.unknown = append(e.unknown, int(i))
			}
		}
	}
	return at
}

// decide makes the verdict of what the live rules found.
func (e *Evaluator) decide(d *payment.Decision) {
	set, tx := e.set, e.facts.Tx
	d.Source = payment.SourceRules
	d.Versions.Rules, d.Versions.Rates = set.hash, set.ratesVersion
	for _, i := range e.unknown {
		d.Evidence.Unknown = append(d.Evidence.Unknown, set.ids[i])
	}
	for _, i := range e.failed {
		d.Evidence.Failed = append(d.Evidence.Failed, set.ids[i])
	}
	d.Evidence.Failed = append(d.Evidence.Failed, e.failedExempts...)
	d.Evidence.Exempt = append(d.Evidence.Exempt, e.exemptBy...)
	d.Evidence.Controls = append(d.Evidence.Controls, e.facts.controls...)
	if len(e.failed)+len(e.failedExempts) > 0 {
		d.Degraded = append(d.Degraded, payment.DegradedRuleFailed)
	}

	d.Points = payment.Count{Present: true}
	for _, i := range e.hits {
		r := &set.rules[i]
		d.Points.N += r.points
		e.cause(cause{r.verdict, r.points, int32(i)})
	}
	if !e.facts.HasAmount {
		e.cause(cause{set.policy.NoRate, 0, causeNoRate})
	}
	if v := set.policy.pointsVerdict(d.Points.N, tx); v != 0 {
		e.cause(cause{v, 0, causePoints})
	}
	e.duplicate()

	d.Verdict = payment.Approve
	if len(e.causes) > 0 {
		d.Verdict = max(d.Verdict, e.causes[0].verdict)
		if e.causes[0].rule == causeDuplicate {
			d.Source = payment.SourceDuplicate
		}
	}
	e.reasons(d)
	if e.listed {
		d.Verdict, d.Source = payment.Block, payment.SourceList
	}
	if d.Verdict == payment.Hold {
		e.holdTerms(d)
		cannot := !tx.Accepts.CanHold() || slices.Contains(d.Hold.Needs, needStepUp) && !tx.Accepts.CanStepUp()
		if cannot {
			d.Verdict = set.policy.IfCannotHold(tx.Channel)
			d.Hold = payment.HoldTerms{Needs: d.Hold.Needs[:0], Methods: d.Hold.Methods[:0]}
			d.Reasons = append(d.Reasons, payment.DecisionReason{Code: reasonCannotHold})
		}
	}
	d.Final = d.Verdict != payment.Hold
	if d.Verdict != payment.Approve && !e.listed {
		e.payerTexts(d)
	}
}

// cause puts a cause in its place: by strictness, then by points, both falling,
// then in the order of coming.
func (e *Evaluator) cause(c cause) {
	at := len(e.causes)
	for at > 0 && (e.causes[at-1].verdict < c.verdict || e.causes[at-1].verdict == c.verdict && e.causes[at-1].points < c.points) {
		at--
	}
	e.causes = slices.Insert(e.causes, at, c)
}

// pointsVerdict is the strictest verdict of the thresholds that a sum of points meets.
func (p *Policy) pointsVerdict(points int, tx *payment.Transaction) payment.Verdict {
	var v payment.Verdict
	for i := range p.Thresholds {
		t := &p.Thresholds[i]
		if t.Points > 0 && points >= t.Points && t.Verdict > v && t.Applies.matches(tx.Type, tx.Channel) {
			v = t.Verdict
		}
	}
	return v
}

// reasons writes the causes into the decision.
func (e *Evaluator) reasons(d *payment.Decision) {
	for _, c := range e.causes {
		from := len(e.details)
		reason := payment.DecisionReason{Points: c.points}
		switch c.rule {
		case causeNoRate:
			reason.Code = reasonNoRate
		case causePoints:
			reason.Code = reasonPoints
			e.details = append(strconv.AppendInt(e.details, int64(d.Points.N), 10), " points"...)
		case causeDuplicate:
			reason.Code = reasonDuplicate
			e.details = e.facts.Duplicate.append(e.details)
		default:
			r := &e.set.rules[c.rule]
			reason.Code, reason.Rule = r.reason, r.id
			e.detail(r)
		}
		reason.Detail = view(e.details[from:])
		d.Reasons = append(d.Reasons, reason)
	}
}

// detail writes what a rule shows; one that panics shows nothing more.
func (e *Evaluator) detail(r *rule) {
	if len(r.detail) == 0 {
		return
	}
	defer func() { _ = recover() }()
	e.details = r.detail.append(&e.facts, e.details)
}

// view is b as a string that shares its bytes. They are not written again until
// the next Decide: append only adds after them, or copies them away.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// What a hold can wait for.
const (
	needStepUp = "step_up"
	needReview = "review"
)

// holdTerms joins the terms of everything that holds: all needs, all methods,
// the longest time, and block if any says so.
func (e *Evaluator) holdTerms(d *payment.Decision) {
	var stepUp, review bool
	h := &d.Hold
	var longest time.Duration
	for _, c := range e.causes {
		if c.verdict != payment.Hold {
			continue
		}
		terms := holdTerms{review: true, lasts: e.set.policy.Hold.Review.For, onExpiry: e.set.policy.Hold.Review.OnExpiry}
		if c.rule >= 0 {
			terms = e.set.rules[c.rule].hold
		}
		stepUp, review = stepUp || terms.stepUp, review || terms.review
		for _, m := range terms.methods {
			if !slices.Contains(h.Methods, m) {
				h.Methods = append(h.Methods, m)
			}
		}
		longest = max(longest, terms.lasts)
		h.OnExpiry = max(h.OnExpiry, terms.onExpiry)
	}
	if stepUp {
		h.Needs = append(h.Needs, needStepUp)
	}
	if review {
		h.Needs = append(h.Needs, needReview)
	}
	h.ExpiresAt = e.facts.Tx.EventTime.Add(longest)
}

// payerTexts takes what the payer is told from the first among the causes that has
// something to say: a rule, or a duplicate payment.
func (e *Evaluator) payerTexts(d *payment.Decision) {
	for _, c := range e.causes {
		if c.rule >= 0 {
			r := &e.set.rules[c.rule]
			d.PayerCode, d.PayerMessage = r.payerCode, messageIn(r.messages, e.facts.Tx.Locale)
			return
		}
		if c.rule == causeDuplicate {
			d.PayerCode, d.PayerMessage = payerCodeDuplicate, messageIn(e.set.policy.Duplicates.told, e.facts.Tx.Locale)
			return
		}
	}
}
