package ruletest

import (
	"fmt"
	"io"
	"strings"
)

// Write prints what failed, a line for each expectation that was not met, with
// the line of the file and what the rules came to; and how many passed.
func (r *Report) Write(w io.Writer) {
	for i := range r.Results {
		if result := &r.Results[i]; !result.Passed() {
			fmt.Fprintf(w, "FAIL %s:%d: %s\n%s\n", result.Test.File, result.Test.Line, result.Test.Name, result.details())
		}
	}
	failed := r.Failed()
	fmt.Fprintf(w, "%d tests: %d passed, %d failed\n", len(r.Results), len(r.Results)-failed, failed)
}

// details tells what was wanted, what came, and why.
func (r *Result) details() string {
	var b strings.Builder
	for _, f := range r.Failures {
		b.WriteString(f.text())
	}
	for _, rule := range r.Why {
		fmt.Fprintf(&b, "  rule %s: %s\n", rule.Rule, rule.Came)
		for _, c := range rule.Clauses {
			fmt.Fprintf(&b, "    %-7s  %s", c.Came, c.Text)
			if len(c.Values) > 0 {
				fmt.Fprintf(&b, "  (%s)", strings.Join(c.Values, ", "))
			}
			b.WriteString("\n")
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func (f *Failure) text() string {
	if f.Expected == nil {
		return "  " + f.Got + "\n"
	}
	x := f.Expected
	return fmt.Sprintf("  %s:%d:%d: %s: wanted %s, got %s\n%s\n", x.File, x.Line, x.Column, x.Key, x.Want, f.Got, indented(x.Excerpt))
}

func indented(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") }

// Write prints how many mutants were noticed, and the place of each that was not.
func (m *Mutation) Write(w io.Writer) {
	for _, s := range m.Survived {
		fmt.Fprintf(w, "%s:%d:%d: no test notices %s instead of %s (rule %s)\n", s.File, s.Line, s.Column, s.To, s.From, s.Rule)
	}
	fmt.Fprintf(w, "%d mutants: %d noticed, %d not\n", m.Mutants, m.Mutants-len(m.Survived), len(m.Survived))
}
