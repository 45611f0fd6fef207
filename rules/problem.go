package rules

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one mistake in a ruleset, at the place where a person mends it.
type Problem struct {
	File         string // slash-separated, relative to the ruleset's folder
	Line, Column int    // from 1; columns count characters; 0 where the whole file is meant
	Message      string
	Excerpt      string // the source line with a mark under the place, two lines; "" where there is no place
	Suggestion   string // what to do about it; "" when nothing is near
}

// String prints the problem as a compiler does: place and message, the line
// with a mark, the suggestion.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": " + p.Message)
	if p.Excerpt != "" {
		b.WriteString("\n" + p.Excerpt)
	}
	if p.Suggestion != "" {
		b.WriteString("\n  " + p.Suggestion)
	}
	return b.String()
}

// Problems are all the mistakes of one ruleset, sorted by file, line and column.
type Problems []Problem

// Error prints every problem, one after the other.
func (ps Problems) Error() string {
	texts := make([]string, len(ps))
	for i, p := range ps {
		texts[i] = p.String()
	}
	return strings.Join(texts, "\n")
}

// sorted returns the problems in their order, each once.
func (ps Problems) sorted() Problems {
	out := slices.Clone(ps)
	slices.SortStableFunc(out, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.Compact(out)
}
