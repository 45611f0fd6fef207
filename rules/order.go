package rules

import (
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
	line("%s", &p.Duplicates)
	line("Rules: %d live, %d in shadow, %d disabled. Those that apply to its type and channel are evaluated; all that are true count.",
		counts[live], counts[shadow], counts[disabled])
	line("Without a rate into %s: %s.", p.BaseCurrency, p.NoRate)
	line("The points of all rules that are true are added, and meet the thresholds:%s", p.thresholdText(func(t *Threshold) bool { return t.Points > 0 }))
	line("The strictest verdict of all these wins: block, then hold, then approve.")
	line("A hold on a channel where the caller cannot hold becomes: %s.", p.cannotHoldText())
	line("Rules in shadow are evaluated last and only recorded.")
	line("Checked, and without effect in this version: caps, when_late, thresholds on a score, without_features, actions.")
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
