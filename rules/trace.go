package rules

import (
	"cmp"
	"slices"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// Trace is what one ruleset made of one transaction, for people and for whoever
// shows it to them: every rule with its clauses and the values these looked at,
// and how far those that missed were from firing. Nothing of it is in the hot
// path: it is asked for one decision at a time.
type Trace struct {
	Reasons    []ReasonTrace    `json:"reasons,omitempty"`    // of the decision, in its order, in words
	Lists      []ListHit        `json:"lists,omitempty"`      // that block the transaction
	Rules      []RuleTrace      `json:"rules"`                // all, in the order of the files
	Exempts    []ExemptTrace    `json:"exempts,omitempty"`    // that were asked, because one of their rules was true
	Thresholds []ThresholdTrace `json:"thresholds,omitempty"` // of points, for this type and channel
	Controls   []string         `json:"controls,omitempty"`   // ids of those that took part
	Nearest    []string         `json:"nearest,omitempty"`    // the rules that missed, the nearest to firing first
}

// ReasonTrace is one reason of the decision with what it means.
type ReasonTrace struct {
	Code  string `json:"code"`
	Rule  string `json:"rule,omitempty"`
	Words string `json:"words"`
}

// Came is what became of a rule.
type Came string

// What can become of a rule.
const (
	CameHit        Came = "hit"         // it was true, and counts if it is live
	CameMiss       Came = "miss"        // it was false
	CameUnknown    Came = "unknown"     // it met something absent, and did not fire
	CameFailed     Came = "failed"      // it met an error, and took no part
	CameExempt     Came = "exempt"      // it was true, and an exempt switched it off
	CameOff        Came = "off"         // it was not asked: a control has disabled or snoozed it
	CameNotApplied Came = "not_applied" // it is about other types or channels
	CameDisabled   Came = "disabled"    // mode: disabled
)

// RuleTrace is what a rule came to.
type RuleTrace struct {
	Rule        string          `json:"rule"` // its id
	Description string          `json:"description,omitempty"`
	Owner       string          `json:"owner,omitempty"`
	File        string          `json:"file"`
	Line        int             `json:"line"` // of its condition
	Mode        string          `json:"mode"` // live, shadow, disabled
	Verdict     payment.Verdict `json:"verdict,omitempty"`
	Points      int             `json:"points,omitempty"`
	Came        Came            `json:"came"`
	Why         string          `json:"why,omitempty"`       // of what is neither hit nor miss, in words
	Exempt      string          `json:"exempt,omitempty"`    // that switched it off
	Control     string          `json:"control,omitempty"`   // that disabled or snoozed it
	Condition   *ClauseTrace    `json:"condition,omitempty"` // of a rule that applies
	// Distance is, of a miss or an unknown, how far it was from firing: one for each
	// clause that would have to come out otherwise, and up to one more by how far its
	// value was off.
	Distance float64  `json:"distance,omitempty"`
	Features []string `json:"features,omitempty"` // that its condition looks at, by full name
}

// ExemptTrace is what an exempt came to.
type ExemptTrace struct {
	Exempt    string       `json:"exempt"` // its id
	Why       string       `json:"why,omitempty"`
	Until     payment.Time `json:"until,omitzero"` // 0: without end
	InForce   bool         `json:"in_force"`
	Ended     bool         `json:"ended,omitempty"` // the payment is not before Until
	Rules     []string     `json:"rules"`           // that were true, and that it names
	Condition *ClauseTrace `json:"condition"`
}

// ThresholdTrace is a threshold of points.
type ThresholdTrace struct {
	Points  int             `json:"points"`
	Verdict payment.Verdict `json:"verdict"`
	Got     int             `json:"got"` // the points of this transaction
	Met     bool            `json:"met"`
}

// ListHit is the entry by which a transaction is on a list.
type ListHit struct {
	List    string       `json:"list"`
	Value   string       `json:"value"` // of the entry, as written: of an address the network that holds it
	Why     string       `json:"why,omitempty"`
	By      string       `json:"by,omitempty"`
	Until   payment.Time `json:"until,omitzero"`    // 0: without end
	Control string       `json:"control,omitempty"` // that added it; "" of the list's file
}

// Tracer traces transactions by one ruleset. It holds scratch: not for concurrent use.
type Tracer struct {
	evaluator *Evaluator
	rules     []tracedClause // the conditions, by index of rule
	features  [][]string     // the features that each looks at
	exempts   []tracedClause
	decision  payment.Decision
	compiler  *tracing
}

// NewTracer returns a tracer of the ruleset.
func (s *Ruleset) NewTracer() *Tracer {
	set, written := assemble(s.files, &report{}) // it has loaded before: there is no problem
	set.live, set.shadow = newIndex(set.rules, live), newIndex(set.rules, shadow)
	t := &Tracer{evaluator: set.NewEvaluator(), compiler: &tracing{lang: written.lang, set: set}}
	for i := range written.written {
		t.rules = append(t.rules, t.compiler.condition(written.written[i].when))
		names := []string{}
		for _, slot := range set.rules[i].reads {
			names = append(names, set.features[slot].FullName())
		}
		t.features = append(t.features, names)
	}
	for _, x := range written.exempts {
		t.exempts = append(t.exempts, t.compiler.condition(x.src))
	}
	return t
}

// Trace decides a transaction as an Evaluator does and says how. The input is
// that of the decision.
func (t *Tracer) Trace(in *Input) *Trace {
	e, d := t.evaluator, &t.decision
	d.Reset()
	e.Decide(in, d)
	set := e.set
	out := &Trace{Rules: make([]RuleTrace, len(set.rules)), Controls: slices.Clone(d.Evidence.Controls)}
	for i := range set.rules {
		out.Rules[i] = t.rule(i)
	}
	for i := range set.exempts {
		if e.exempts[i] != notYetAsked {
			out.Exempts = append(out.Exempts, t.exempt(i, out.Rules))
		}
	}
	for _, l := range set.blocking {
		if hit := e.facts.blocked(l); hit != nil {
			out.Lists = append(out.Lists, hitOf(l, hit))
		}
	}
	for i := range set.policy.Thresholds {
		if p := &set.policy.Thresholds[i]; p.Points > 0 && p.Applies.matches(in.Tx.Type, in.Tx.Channel) {
			out.Thresholds = append(out.Thresholds, ThresholdTrace{p.Points, p.Verdict, d.Points.N, d.Points.N >= p.Points})
		}
	}
	for i := range d.Reasons {
		out.Reasons = append(out.Reasons, ReasonTrace{d.Reasons[i].Code, d.Reasons[i].Rule, t.words(&d.Reasons[i], in)})
	}
	out.Nearest = nearestOf(out.Rules)
	return out
}

// nearestOf sorts the rules that missed by how far they were from firing.
func nearestOf(rules []RuleTrace) []string {
	var missed []*RuleTrace
	for i := range rules {
		if r := &rules[i]; r.Came == CameMiss || r.Came == CameUnknown {
			missed = append(missed, r)
		}
	}
	slices.SortStableFunc(missed, func(a, b *RuleTrace) int { return cmp.Compare(a.Distance, b.Distance) })
	var ids []string
	for _, r := range missed {
		ids = append(ids, r.Rule)
	}
	return ids
}

// rule says what the rule of an index came to in the evaluator.
func (t *Tracer) rule(i int) RuleTrace {
	e, r, c := t.evaluator, &t.evaluator.set.rules[i], &t.rules[i]
	out := RuleTrace{Rule: r.id, Description: r.description, Owner: r.owner, File: c.file, Line: c.line, Mode: modeWord(r.mode),
		Verdict: r.verdict, Points: r.points, Features: t.features[i], Came: CameMiss}
	tx := e.facts.Tx
	switch {
	case r.mode == disabled:
		out.Came, out.Why = CameDisabled, "mode: disabled"
		return out
	case !r.applies.matches(tx.Type, tx.Channel):
		out.Came, out.Why = CameNotApplied, appliesWords(&r.applies)
		return out
	}
	out.Condition = c.trace(&e.facts)
	switch control, off := e.over.silences(int32(i), tx); {
	case off:
		out.Came, out.Control, out.Why = CameOff, control, "the control "+control+" has switched it off"
	case slices.Contains(e.failed, i):
		out.Came, out.Why = CameFailed, "it met an error, and took no part"
	case slices.Contains(e.hits, i):
		out.Came = CameHit
		if out.Condition.Came != TruthTrue {
			out.Why = "its features could not be had, and it says without_features: hit"
		}
	case slices.Contains(e.unknown, i):
		out.Came, out.Why = CameUnknown, "it met something absent"
	case slices.Contains(e.passed, i):
		x := r.exempts[slices.IndexFunc(r.exempts, func(x int) bool { return e.exempts[x] == inForce })]
		out.Came, out.Exempt, out.Why = CameExempt, e.set.exempts[x].id, "the exempt "+e.set.exempts[x].id+" has switched it off"
	}
	if out.Came == CameMiss || out.Came == CameUnknown {
		out.Distance = out.Condition.distance()
	}
	return out
}

// appliesWords says which payments a rule is about.
func appliesWords(a *AppliesTo) string {
	if len(a.Types) == 0 {
		return "it applies " + a.String()
	}
	return "it applies to " + a.String()
}

// modeWord is the mode as rule files write it.
func modeWord(m mode) string {
	switch m {
	case shadow:
		return "shadow"
	case disabled:
		return "disabled"
	}
	return "live"
}

// exempt says what the exempt of an index came to; rules are those of the trace.
func (t *Tracer) exempt(i int, rules []RuleTrace) ExemptTrace {
	e, x := t.evaluator, &t.evaluator.set.exempts[i]
	out := ExemptTrace{Exempt: x.id, Why: x.why, InForce: e.exempts[i] == inForce, Ended: e.facts.Tx.EventTime >= x.until,
		Rules: []string{}, Condition: t.exempts[i].trace(&e.facts)}
	if x.until != never {
		out.Until = x.until
	}
	for j := range rules {
		if (rules[j].Came == CameHit || rules[j].Came == CameExempt) && slices.Contains(e.set.rules[j].exempts, i) {
			out.Rules = append(out.Rules, rules[j].Rule)
		}
	}
	return out
}

func hitOf(l *namedList, e *listEntry) ListHit {
	out := ListHit{List: l.name, Value: e.value, Why: e.why, By: e.by, Control: e.control}
	if e.until != never {
		out.Until = e.until
	}
	return out
}

// words says what a reason means.
func (t *Tracer) words(r *payment.DecisionReason, in *Input) string {
	set := t.evaluator.set
	p := &set.policy
	switch {
	case r.Rule != "":
		words := set.rules[slices.Index(set.ids, r.Rule)].description
		if r.Detail == "" || words == "" {
			return r.Detail + words
		}
		return r.Detail + ". " + words
	case r.Code == reasonNoRate:
		return "the amount has no rate from " + in.Tx.Amount.Currency.String() + " into " + p.BaseCurrency.String() + ", and the policy (no_rate) says " + p.NoRate.String()
	case r.Code == reasonPoints:
		return r.Detail + " meet a threshold of the policy"
	case r.Code == reasonDuplicate:
		return "it repeats the payment " + r.Detail
	case r.Code == reasonCannotHold:
		return "the caller cannot do what the hold needs, and the policy (if_cannot_hold) says " + p.IfCannotHold(in.Tx.Channel).String()
	}
	return r.Detail
}

// Shown writes the value of a feature, by its slot, for people; "" where it is
// absent, or the hash of an identifier.
func (t *Tracer) Shown(slot int, v payment.Value) string {
	feature := &t.evaluator.set.features[slot]
	term := featureTerm(slot, feature)
	if term.kind == identifier {
		return ""
	}
	in := Input{Features: make([]payment.Value, slot+1)}
	in.Features[slot] = v
	_, shown := t.compiler.reader(term, inSeconds(feature))(&facts{Input: in})
	return shown
}

// About says what the feature of a slot is, without its entity: count over 10m.
func (t *Tracer) About(slot int) string {
	f := &t.evaluator.set.features[slot]
	what := f.Aggregate.String()
	if f.Field != nil {
		what += "(" + f.Field.Name + ")"
	}
	switch {
	case f.Calendar == window.CalendarDay:
		what += " since local midnight"
	case f.Calendar == window.CalendarMonth:
		what += " since the first of the month"
	case f.Length == 0:
		what += " as far back as logs reach"
	default:
		what += " over " + formatDuration(f.Length)
	}
	if f.Delay > 0 {
		what += ", ending " + formatDuration(f.Delay) + " before"
	}
	return what
}

// inSeconds tells whether the value of a feature is a length of time.
func inSeconds(f *window.Feature) bool {
	return f.Aggregate == window.SinceFirst || f.Aggregate == window.SinceLast
}
