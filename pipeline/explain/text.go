package explain

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/rules"
)

// ShownNearest is how many of the rules that missed are printed.
const ShownNearest = 3

// Write prints the explanation for people. Without all, the rules that were
// true, unknown or switched off and the nearest of those that missed are printed,
// with the features that they look at; with all, every rule and feature.
func (x *Explanation) Write(w io.Writer, all bool) error {
	t := &text{Explanation: x, all: all, shown: map[string]bool{}}
	if x.Decision != nil {
		if err := json.Unmarshal(x.Decision, &t.decision); err != nil {
			return fmt.Errorf("read the decision: %w", err)
		}
	}
	t.head()
	t.reasons()
	if x.Trace != nil {
		t.lists()
		t.thresholds()
		t.rules()
		t.features()
	}
	t.after()
	_, err := io.WriteString(w, t.out.String())
	return err
}

// text is an explanation while it is printed.
type text struct {
	*Explanation
	decision payment.Decision
	all      bool
	shown    map[string]bool // the features that the rules look at that were printed
	out      strings.Builder
}

func (t *text) line(indent int, format string, args ...any) {
	t.out.WriteString(strings.TrimRight(strings.Repeat(" ", indent)+fmt.Sprintf(format, args...), " ") + "\n")
}

// section begins a section with a blank line before it.
func (t *text) section(title string) { t.out.WriteString("\n" + title + "\n") }

// head says what was decided about what.
func (t *text) head() {
	d := &t.decision
	if t.Decision == nil {
		t.line(0, "%s: no decision", t.Transaction)
	} else {
		t.line(0, "%s: %s, source %s", t.Transaction, d.Verdict, d.Source)
		t.payment()
	}
	for _, o := range t.Occurrences {
		switch o.Came {
		case cameDecided:
			t.line(2, "line %d: decided here", o.Line)
		case cameRepeated:
			t.line(2, "line %d: the same decision again", o.Line)
		default:
			t.line(2, "line %d: refused, %s", o.Line, (&payment.Refusal{Reason: o.Reason, Field: o.Field}).Error())
		}
	}
	if t.Decision == nil {
		return
	}
	if len(d.Degraded) > 0 {
		t.line(2, "degraded: %s", strings.Join(d.Degraded, ", "))
	}
	if d.Verdict == payment.Hold {
		methods := ""
		if len(d.Hold.Methods) > 0 {
			methods = " (by " + strings.Join(d.Hold.Methods, ", ") + ")"
		}
		t.line(2, "waits for %s%s until %s, then %s", strings.Join(d.Hold.Needs, ", "), methods, d.Hold.ExpiresAt, d.Hold.OnExpiry)
	}
	if d.PayerCode != "" {
		t.line(2, "the payer reads: %s %s", d.PayerCode, d.PayerMessage)
	}
	t.line(2, "ruleset %s", d.Versions.Rules)
}

// payment says who pays whom.
func (t *text) payment() {
	s := &t.decision.Transaction
	words := []string{s.Type}
	if s.Channel != "" {
		words = append(words, "on "+s.Channel)
	}
	if amount := t.Amount; amount != "" {
		if t.BaseAmount != "" && t.BaseAmount != amount {
			amount += " (" + t.BaseAmount + ")"
		}
		words = append(words, "of "+amount)
	}
	words = append(words, "by "+s.Payer)
	if s.Payee != "" {
		words = append(words, "to "+s.Payee)
	}
	t.line(2, "%s, %s", strings.TrimSpace(strings.Join(words, " ")), t.decision.EventTime)
}

// reasons are said in words; where the rules were not asked, as they stand.
func (t *text) reasons() {
	if len(t.decision.Reasons) == 0 {
		return
	}
	t.section("reasons")
	for i := range t.decision.Reasons {
		r := &t.decision.Reasons[i]
		words, of := r.Detail, ""
		if t.Trace != nil && i < len(t.Trace.Reasons) {
			words = t.Trace.Reasons[i].Words
		}
		if r.Rule != "" {
			of = " (" + r.Rule
			if r.Points > 0 {
				of += fmt.Sprintf(", %d points", r.Points)
			}
			of += ")"
		}
		if words != "" {
			of += ": "
		}
		t.line(2, "%s%s%s", r.Code, of, words)
	}
}

func (t *text) lists() {
	if len(t.Trace.Lists) == 0 {
		return
	}
	t.section("lists that block")
	for i := range t.Trace.Lists {
		l := &t.Trace.Lists[i]
		t.line(2, "%s: %s", l.List, entry(l))
	}
}

// entry says an entry of a list: its value, and who put it there until when.
func entry(l *rules.ListHit) string {
	words := []string{l.Value}
	if l.Until != 0 {
		words = append(words, "until "+l.Until.String())
	}
	if l.By != "" {
		words = append(words, "by "+l.By)
	}
	if l.Why != "" {
		words = append(words, l.Why)
	}
	if l.Control != "" {
		words = append(words, "control "+l.Control)
	}
	return strings.Join(words, ", ")
}

func (t *text) thresholds() {
	if len(t.Trace.Thresholds) == 0 {
		return
	}
	t.section(fmt.Sprintf("points: %d", t.decision.Points.N))
	for _, h := range t.Trace.Thresholds {
		if h.Met {
			t.line(2, "%d or more: %s (met)", h.Points, h.Verdict)
		} else {
			t.line(2, "%d or more: %s (%d short)", h.Points, h.Verdict, h.Points-h.Got)
		}
	}
}

// rules prints the rules by what became of them.
func (t *text) rules() {
	t.group("rules that were true", func(r *rules.RuleTrace) bool { return r.Came == rules.CameHit && r.Mode == "live" }, t.whole)
	t.group("rules that were true in shadow: they change no verdict", func(r *rules.RuleTrace) bool { return r.Came == rules.CameHit && r.Mode != "live" }, t.whole)
	t.group("rules that were true, and switched off by an exempt", func(r *rules.RuleTrace) bool { return r.Came == rules.CameExempt }, t.whole)
	t.exempts()
	t.group("rules that a control has switched off", func(r *rules.RuleTrace) bool { return r.Came == rules.CameOff }, t.whole)
	t.controls()
	t.group("rules that met an error", func(r *rules.RuleTrace) bool { return r.Came == rules.CameFailed }, t.whole)
	if t.all {
		t.group("rules that were unknown, and so did not fire", func(r *rules.RuleTrace) bool { return r.Came == rules.CameUnknown }, t.whole)
		t.group("rules that missed", func(r *rules.RuleTrace) bool { return r.Came == rules.CameMiss }, t.whole)
	} else {
		t.group("rules that were unknown, and so did not fire", func(r *rules.RuleTrace) bool { return r.Came == rules.CameUnknown }, t.missing)
		t.nearest()
	}
	t.unasked()
}

// group prints the rules of one kind, if there are any.
func (t *text) group(title string, in func(*rules.RuleTrace) bool, show func(*rules.RuleTrace)) {
	begun := false
	for i := range t.Trace.Rules {
		r := &t.Trace.Rules[i]
		if !in(r) {
			continue
		}
		if !begun {
			t.section(title)
			begun = true
		}
		show(r)
	}
}

// title is the line of a rule: what it does, and where it stands.
func (t *text) title(r *rules.RuleTrace) {
	does := r.Verdict.String()
	if r.Points > 0 {
		if does != "" {
			does += ", "
		}
		does += fmt.Sprintf("%d points", r.Points)
	}
	if r.Mode == "shadow" {
		does += ", shadow"
	}
	t.line(2, "%s: %s (%s:%d)", r.Rule, does, r.File, r.Line)
	for _, f := range r.Features {
		t.shown[f] = true
	}
}

// whole prints a rule with all its clauses.
func (t *text) whole(r *rules.RuleTrace) {
	t.title(r)
	if r.Why != "" && r.Came != rules.CameUnknown {
		t.line(4, "%s", r.Why)
	}
	t.clauses(r.Condition)
}

// clauses prints a condition; what and joins at its top needs no heading.
func (t *text) clauses(c *rules.ClauseTrace) {
	if c.Op == "and" {
		for i := range c.Parts {
			t.clause(4, &c.Parts[i])
		}
		return
	}
	t.clause(4, c)
}

func (t *text) clause(indent int, c *rules.ClauseTrace) {
	if len(c.Parts) > 0 {
		t.line(indent, "%-7s  %s", c.Came, map[string]string{"and": "all of", "or": "any of", "not": "not"}[c.Op])
		for i := range c.Parts {
			t.clause(indent+9, &c.Parts[i])
		}
		return
	}
	t.line(indent, "%-7s  %s%s", c.Came, c.Text, seen(c))
}

// seen says in parentheses what a clause looked at.
func seen(c *rules.ClauseTrace) string {
	var words []string
	for i := range c.Operands {
		o := &c.Operands[i]
		switch {
		case o.Absent == "":
			words = append(words, fmt.Sprintf("%s = %s", o.Text, o.Shown))
		case c.Came == rules.TruthError && o.Computed:
			words = append(words, fmt.Sprintf("%s: %s", o.Text, o.Absent))
		default:
			words = append(words, fmt.Sprintf("%s is unknown: %s", o.Text, o.Absent))
		}
	}
	if c.Entry != nil {
		words = append(words, "on the list as "+entry(c.Entry))
	}
	if len(words) == 0 {
		return ""
	}
	return "  (" + strings.Join(words, "; ") + ")"
}

// missing prints a rule with what would have to come out otherwise.
func (t *text) missing(r *rules.RuleTrace) {
	t.title(r)
	for _, c := range r.Condition.Missing() {
		t.line(4, "%s", orText(c))
	}
}

func orText(c *rules.ClauseTrace) string {
	if c.Needs != "" {
		return c.Needs
	}
	return fmt.Sprintf("%s was %s", c.Text, c.Came)
}

// nearest prints the rules that missed by least.
func (t *text) nearest() {
	n, missed := 0, 0
	for _, id := range t.Trace.Nearest {
		r := &t.Trace.Rules[slices.IndexFunc(t.Trace.Rules, func(r rules.RuleTrace) bool { return r.Rule == id })]
		if r.Came != rules.CameMiss {
			continue
		}
		if missed++; n == ShownNearest {
			continue
		}
		if n++; n == 1 {
			t.section("the nearest rules that missed")
		}
		t.missing(r)
	}
	if missed > n {
		t.line(2, "and %d more that missed (--all)", missed-n)
	}
}

func (t *text) exempts() {
	if len(t.Trace.Exempts) == 0 {
		return
	}
	t.section("exempts that were asked")
	for i := range t.Trace.Exempts {
		x := &t.Trace.Exempts[i]
		state := "not in force"
		switch {
		case x.InForce:
			state = "in force"
		case x.Ended:
			state = "has ended"
		}
		if x.Until != 0 {
			state += ", until " + x.Until.String()
		}
		if x.Why != "" {
			state += ", " + x.Why
		}
		t.line(2, "%s: %s (from %s)", x.Exempt, state, strings.Join(x.Rules, ", "))
		t.clauses(x.Condition)
	}
}

func (t *text) controls() {
	if len(t.Trace.Controls) == 0 {
		return
	}
	t.section("controls that took part")
	for _, id := range t.Trace.Controls {
		at := slices.IndexFunc(t.Controls, func(c Control) bool { return c.Control == id })
		if at < 0 {
			t.line(2, "%s", id)
			continue
		}
		c := &t.Controls[at]
		words := fmt.Sprintf("%s: %s %s", id, c.Kind, c.About)
		if c.By != "" {
			words += ", by " + c.By
		}
		if c.Until != 0 {
			words += ", until " + c.Until.String()
		}
		if c.Why != "" {
			words += ", " + c.Why
		}
		t.line(2, "%s (line %d)", words, c.Line)
	}
}

// unasked names, in short, the rules that were not about this payment.
func (t *text) unasked() {
	var order []string
	by := map[string][]string{}
	for i := range t.Trace.Rules {
		if r := &t.Trace.Rules[i]; r.Came == rules.CameNotApplied || r.Came == rules.CameDisabled {
			if by[r.Why] == nil {
				order = append(order, r.Why)
			}
			by[r.Why] = append(by[r.Why], r.Rule)
		}
	}
	if len(order) == 0 {
		return
	}
	t.section("rules that were not asked")
	for _, why := range order {
		t.line(2, "%s: %s", strings.Join(by[why], ", "), why)
	}
}

// features prints the features that the printed rules look at, or all. Of an
// entity that the payment does not name, the rules have said so.
func (t *text) features() {
	begun := false
	for i := range t.Features {
		f := &t.Features[i]
		if !t.all && (!t.shown[f.Feature] || f.ID == "") {
			continue
		}
		if !begun {
			t.section("features")
			begun = true
		}
		t.feature(f)
	}
}

func (t *text) feature(f *Feature) {
	if f.Absent != "" {
		t.line(2, "%s is unknown: %s", f.Feature, f.Absent)
	} else {
		t.line(2, "%s = %s", f.Feature, f.Shown)
	}
	if f.ID == "" {
		return
	}
	if f.To != 0 {
		t.line(4, "%s, of %s %s, after %s until %s", f.About, f.Entity, f.ID, f.From, f.To)
	}
	if f.Approximate != "" {
		t.line(4, "not exact: %s", f.Approximate)
	}
	if len(f.Values) > 0 {
		words := make([]string, len(f.Values))
		for i, v := range f.Values {
			words[i] = fmt.Sprintf("%s (%d)", v.Value, v.Events)
		}
		if f.MoreValues > 0 {
			words = append(words, fmt.Sprintf("and %d more", f.MoreValues))
		}
		t.line(4, "values, with their events: %s", strings.Join(words, ", "))
	}
	for i := range f.Events {
		t.event(&f.Events[i])
	}
	if f.More > 0 {
		t.line(4, "and %d more", f.More)
	}
	if f.LeftOut > 0 {
		t.line(4, "%d left out by where, or by an outage", f.LeftOut)
	}
	if f.NoRate > 0 {
		t.line(4, "%d without a rate into the base currency", f.NoRate)
	}
	if f.NoValue > 0 {
		t.line(4, "%d that do not say it", f.NoValue)
	}
}

func (t *text) event(e *Event) {
	amount := e.Amount
	if e.Base != "" {
		amount += " (" + e.Base + ")"
	}
	words := fmt.Sprintf("%s  %s  %s  %s", e.Time, e.Position, amount, e.Transaction)
	if e.Value != "" {
		words += "  " + e.Value
	}
	if e.Status != "" {
		words += "  " + e.Status
	}
	if e.Own {
		words += "  (this payment)"
	}
	t.line(4, "%s", words)
}

// after says what came later.
func (t *text) after() {
	if len(t.Revisions)+len(t.Heard) == 0 {
		return
	}
	t.section("what became of it")
	for _, h := range t.Heard {
		words := ""
		if h.Reason != "" {
			words = ": refused, " + string(h.Reason)
		}
		t.line(2, "%s  %s (line %d)%s", h.EventTime, h.What, h.Line, words)
	}
	for _, r := range t.Revisions {
		final := ""
		if r.Final {
			final = ", final"
		}
		t.line(2, "%s  revision %d: %s, source %s%s", r.DecidedAt, r.Revision, r.Verdict, r.Source, final)
	}
}
