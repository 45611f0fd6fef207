package rules

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// OrderOfDecision describes, for people, in which order a decision is made, with
// what this ruleset has at each step.
func (s *Ruleset) OrderOfDecision() string {
	p := &s.policy
	var counts [disabled + 1]int
	for i := range s.rules {
		counts[s.rules[i].mode]++
	}
	var b strings.Builder
	step := 0
	line := func(format string, args ...any) {
		step++
		fmt.Fprintf(&b, "%d. "+format+"\n", append([]any{step}, args...)...)
	}
	line("A transaction that cannot be read is refused: block, source invalid.")
	line("One that was decided before gets the same decision again.")
	line("Lists that block by themselves, and nothing lifts that:%s", cmp.Or(s.listsText(true), " there are none."))
	line("%s", &p.Duplicates)
	line("Rules: %d live, %d in shadow, %d disabled. Those that apply to its type and channel are evaluated; all that are true count.%s",
		counts[live], counts[shadow], counts[disabled], s.askedText())
	line("An exempt switches off rules that are true, and lifts no list:%s", s.exemptsText())
	line("Without a rate into %s: %s.", p.BaseCurrency, p.NoRate)
	line("The points of all rules that are true are added, and meet the thresholds:%s", p.thresholdText(func(t *Threshold) bool { return t.Points > 0 }))
	line("The strictest verdict of all these wins: block, then hold, then approve.")
	line("A hold on a channel where the caller cannot hold becomes: %s.", p.cannotHoldText())
	line("Rules in shadow are evaluated last and only recorded.")
	line("A transaction whose time is up before gets a default by its type (when_late), and the verdict of the rules later, if that differs:%s", p.lateText())
	line("Checked, and without effect in this version: caps, thresholds on a score, actions.")
	return b.String()
}

// listsText lists those that block by themselves, or the others.
func (s *Ruleset) listsText(block bool) string {
	var b strings.Builder
	for _, l := range s.lists {
		if l.blocks == block {
			fmt.Fprintf(&b, "\n   %s: %s, %d entries", l.name, l.kind, len(l.entries.all))
		}
	}
	return b.String()
}

func (s *Ruleset) askedText() string {
	if lists := s.listsText(false); lists != "" {
		return " They can ask the lists:" + lists
	}
	return ""
}

func (s *Ruleset) exemptsText() string {
	var b strings.Builder
	for i := range s.exempts {
		x := &s.exempts[i]
		var from []string
		for j := range s.rules {
			if slices.Contains(s.rules[j].exempts, i) {
				from = append(from, s.rules[j].id)
			}
		}
		if x.score {
			from = append(from, "the score")
		}
		fmt.Fprintf(&b, "\n   %s: from %s", x.id, join(from))
		if x.until != never {
			fmt.Fprintf(&b, ", until %s", x.until)
		}
		if x.why != "" {
			fmt.Fprintf(&b, " (%s)", x.why)
		}
	}
	if b.Len() == 0 {
		return " there are none."
	}
	return b.String()
}

func (p *Policy) thresholdText(which func(*Threshold) bool) string {
	var b strings.Builder
	for i := range p.Thresholds {
		t := &p.Thresholds[i]
		if !which(t) {
			continue
		}
		fmt.Fprintf(&b, "\n   %d points: %s", t.Points, t.Verdict)
		if about := t.Applies.String(); about != "" {
			fmt.Fprintf(&b, " (%s)", about)
		}
	}
	if b.Len() == 0 {
		return " there are none."
	}
	return b.String()
}

func (p *Policy) lateText() string {
	var b strings.Builder
	for _, name := range payment.TypeNames() {
		t, _ := payment.ParseType(name)
		switch late := p.whenLate[t]; {
		case late.ApproveUpTo > 0:
			fmt.Fprintf(&b, "\n   %s: approve up to %s(%s), else %s", name, p.BaseCurrency, p.BaseCurrency.AppendMajor(nil, late.ApproveUpTo), late.Else)
		default:
			fmt.Fprintf(&b, "\n   %s: %s", name, late.Else)
		}
	}
	return b.String()
}

func (p *Policy) cannotHoldText() string {
	var words []string
	for _, v := range []payment.Verdict{payment.Approve, payment.Block} {
		var channels []string
		for c, got := range p.cannotHold {
			if got == v {
				channels = append(channels, c)
			}
		}
		if len(channels) > 0 {
			slices.Sort(channels)
			words = append(words, fmt.Sprintf("%s on %s", v, join(channels)))
		}
	}
	return join(append(words, p.cannotHoldBy.String()+" otherwise"))
}

// String names the transactions that are meant, "" for all.
func (a *AppliesTo) String() string {
	var words []string
	for _, t := range a.Types {
		words = append(words, t.String())
	}
	if len(a.Channels) > 0 {
		words = append(words, "on "+strings.Join(a.Channels, ", "))
	}
	return strings.Join(words, ", ")
}
