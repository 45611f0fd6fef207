package rules

import (
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// scalar is a text in a YAML file that has places inside: an expression or a
// template.
type scalar struct {
	node
	text  string
	whole string // the YAML value, of which text is a part
	from  int    // where in it text begins, in characters
}

// scalar reads a text like node.text.
func (n node) scalar(what string) (scalar, bool) {
	s, ok := n.text(what)
	return scalar{n, s, s, 0}, ok
}

// part is the piece of s between two byte offsets of its text.
func (s scalar) part(from, to int) scalar {
	return scalar{s.node, s.text[from:to], s.whole, s.from + utf8.RuneCountInString(s.text[:from])}
}

// expression reads the text of an expression. It must be quoted or a block: a
// plain one loses everything after " #", and YAML reads a leading ! as a tag.
func (n node) expression(what string) (scalar, bool) {
	switch v := n.ast.(type) {
	case *ast.LiteralNode:
		return scalar{n, v.Value.Value, v.Value.Value, 0}, true
	case *ast.StringNode:
		if t := v.GetToken().Type; t == token.DoubleQuoteType || t == token.SingleQuoteType {
			return scalar{n, v.Value, v.Value, 0}, true
		}
	case *ast.MappingNode, *ast.MappingValueNode, *ast.SequenceNode, *ast.NullNode:
		n.at(n.place(), "%s must be an expression, not %s", what, n.what())
		return scalar{}, false
	}
	p := n.place()
	rest := []rune(n.src.line(p.line))
	rest = rest[min(p.column-1, len(rest)):]
	p.width = len([]rune(strings.TrimRight(string(rest), " ")))
	n.suggest(p, "put it in single quotes, or write "+what+": | and the expression on the next line, indented",
		"%s must be quoted or a block: YAML cuts a plain text at \" #\" and reads signs such as ! at its start", what)
	return scalar{}, false
}

// span is a part of a scalar's text, in characters from its start.
type span struct{ from, to int }

// at is the place in the file of a part of the text.
func (s scalar) at(part span) place {
	spots := s.spots()
	first := spots[min(max(s.from+part.from, 0), len(spots)-1)]
	last := spots[min(max(s.from+part.to, 0), len(spots)-1)]
	p := place{s.src, first.line, first.column, 1}
	if last.line == first.line {
		p.width = max(1, last.column-first.column)
	} else {
		p.width = utf8.RuneCountInString(s.src.line(first.line)) - first.column + 1
	}
	return p
}

// spot is where one character of a scalar stands in the file.
type spot struct{ line, column int }

// spots returns the spot of every character of the value, and one after the last.
func (s scalar) spots() []spot {
	t := s.ast.GetToken()
	switch v := s.ast.(type) {
	case *ast.LiteralNode:
		if strings.HasPrefix(t.Value, "|") {
			return s.literalSpots(v.GetToken().Position.Line + 1)
		}
		return s.walk(t.Position.Line+1, 1, 0)
	case *ast.StringNode:
		switch t.Type {
		case token.DoubleQuoteType:
			return s.walk(t.Position.Line, t.Position.Column+1, '"')
		case token.SingleQuoteType:
			return s.walk(t.Position.Line, t.Position.Column+1, '\'')
		}
	}
	return s.walk(t.Position.Line, t.Position.Column, 0)
}

// literalSpots is for block scalars with |: each line of the text is the end of
// one line of the file.
func (s scalar) literalSpots(line int) []spot {
	var out []spot
	for i, text := range strings.Split(s.whole, "\n") {
		n := utf8.RuneCountInString(text)
		indent := max(0, utf8.RuneCountInString(s.src.line(line+i))-n)
		for c := 0; c <= n; c++ {
			out = append(out, spot{line + i, indent + c + 1})
		}
	}
	return out
}

// walk follows the text through the file, over escapes (as the quote has them)
// and over the line breaks that YAML folds into a space.
func (s scalar) walk(line, column int, quote rune) []spot {
	var out []spot
	row := []rune(s.src.line(line))
	newline := func() {
		line++
		row = []rune(s.src.line(line))
		column = 1
		for column <= len(row) && row[column-1] == ' ' {
			column++
		}
	}
	if quote == 0 && column == 1 {
		line--
		newline()
	}
	for _, v := range s.whole {
		for found := false; !found; {
			var c rune
			if column <= len(row) {
				c = row[column-1]
			}
			blank := v == ' ' || v == '\n'
			switch {
			case c == 0 && !blank && line < len(s.src.lines):
				newline() // several breaks fold into fewer
			case c == 0:
				out, found = append(out, spot{line, column}), true
				newline()
			case quote == '"' && c == '\\' && column == len(row):
				newline() // an escaped break is nothing
			case quote == '"' && c == '\\':
				out, found = append(out, spot{line, column}), true
				column += escapeLength(row[column])
			case quote == '\'' && c == '\'':
				out, found = append(out, spot{line, column}), true
				column += 2
			case c == v:
				out, found = append(out, spot{line, column}), true
				column++
			case c == ' ' && strings.TrimSpace(string(row[column-1:])) == "":
				column = len(row) + 1 // blanks at the end of a line fold away
			default: // indentation that the text keeps
				out, found = append(out, spot{line, column}), true
			}
		}
	}
	return append(out, spot{line, column})
}

// escapeLength is how many characters an escape takes, with its backslash.
func escapeLength(letter rune) int {
	switch letter {
	case 'x':
		return 4
	case 'u':
		return 6
	case 'U':
		return 10
	}
	return 2
}
