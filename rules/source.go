package rules

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// source is one file of a ruleset as text, for the excerpts of its problems.
type source struct {
	name  string
	lines []string // without line ends
}

func newSource(name string, content []byte) *source {
	lines := strings.Split(string(content), "\n")
	for i := range lines {
		lines[i] = strings.TrimSuffix(lines[i], "\r")
	}
	return &source{name, lines}
}

// line returns line n, from 1; "" beyond the end.
func (s *source) line(n int) string {
	if n < 1 || n > len(s.lines) {
		return ""
	}
	return s.lines[n-1]
}

// place is a piece of one line of a file. Columns and widths count characters.
type place struct {
	src                 *source
	line, column, width int
}

// widest is how much of a long line an excerpt shows.
const widest = 110

// excerpt shows the line with a mark under the place.
func (p place) excerpt() string {
	text := []rune(strings.ReplaceAll(p.src.line(p.line), "\t", " "))
	at := min(p.column-1, len(text))
	width := max(1, min(p.width, len(text)-at))
	before, after := "", ""
	if len(text) > widest {
		from := max(0, min(at-widest/3, len(text)-widest))
		if from > 0 {
			before = "…"
		}
		to := min(len(text), from+widest)
		if to < len(text) {
			after = "…"
		}
		text, at = text[from:to], at-from
		width = max(1, min(width, len(text)-at))
	}
	return fmt.Sprintf("%4d | %s%s%s\n     | %s%s^%s", p.line, before, string(text), after,
		strings.Repeat(" ", utf8.RuneCountInString(before)), strings.Repeat(" ", at), strings.Repeat("~", width-1))
}

// problem describes a mistake at the place.
func (p place) problem(suggestion, format string, args ...any) Problem {
	out := Problem{File: p.src.name, Line: p.line, Column: p.column, Message: fmt.Sprintf(format, args...), Suggestion: suggestion}
	if p.line > 0 {
		out.Excerpt = p.excerpt()
	}
	return out
}

// report gathers the problems of one ruleset while it is loaded.
type report struct {
	problems Problems
	// heard, where set, is told the name of every mapping that is read, and the
	// keys that it may have: what Schema says is held against that.
	heard func(what string, keys []string)
}

// at notes a mistake at a place.
func (r *report) at(p place, format string, args ...any) {
	r.problems = append(r.problems, p.problem("", format, args...))
}

// suggest notes a mistake at a place with what to do about it.
func (r *report) suggest(p place, suggestion, format string, args ...any) {
	r.problems = append(r.problems, p.problem(suggestion, format, args...))
}

// file notes a mistake about a file as a whole.
func (r *report) file(name, suggestion, format string, args ...any) {
	r.problems = append(r.problems, Problem{File: name, Message: fmt.Sprintf(format, args...), Suggestion: suggestion})
}

// placeText writes a place as file:line.
func placeText(p place) string { return fmt.Sprintf("%s:%d", p.src.name, p.line) }

// join lists words.
func join(words []string) string { return strings.Join(words, ", ") }
