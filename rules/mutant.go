package rules

import (
	"errors"
	"maps"
	"math/big"
	"slices"
	"strings"

	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser/lexer"
)

// Mutant is one small change of one rule's condition. If no test fails with it,
// no test holds that place.
type Mutant struct {
	Rule   string `json:"rule"` // its id
	File   string `json:"file"`
	Line   int    `json:"line"`   // from 1
	Column int    `json:"column"` // from 1
	From   string `json:"from"`   // what stands there
	To     string `json:"to"`     // what is put there instead
}

// neighbours are what an operator is mistaken for.
var neighbours = map[string]string{
	"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==",
	"and": "or", "or": "and", "&&": "||", "||": "&&"}

// Mutants returns the changes that tests should notice, in the order of files
// and of places in them: every number of a condition, moved by one in its last
// digit, down and up; and every comparison, and and or, replaced by its
// neighbour. Disabled rules are left out.
func (s *Ruleset) Mutants() []Mutant {
	_, written := assemble(s.files, &report{})
	var out []Mutant
	for i := range written.written {
		src := written.written[i].when
		if written.rules[i].mode == disabled {
			continue
		}
		tokens, _ := lexer.Lex(file.NewSource(src.text))
		for _, t := range tokens {
			from := string([]rune(src.text)[t.From:t.To])
			var to []string
			switch t.Kind {
			case lexer.Number:
				to = steps(from)
			case lexer.Operator:
				if other, ok := neighbours[from]; ok {
					to = []string{other}
				}
			}
			at := src.at(span{t.From, t.To})
			for _, instead := range to {
				out = append(out, Mutant{Rule: written.rules[i].id, File: at.src.name, Line: at.line, Column: at.column, From: from, To: instead})
			}
		}
	}
	return out
}

// steps returns a decimal moved by one in its last digit, down and up; never
// below zero, and nothing for other notations.
func steps(number string) (out []string) {
	text := strings.ReplaceAll(number, "_", "")
	if !plainDecimal.MatchString(text) {
		return nil
	}
	_, fraction, _ := strings.Cut(text, ".")
	value, _ := new(big.Rat).SetString(text)
	step := new(big.Rat).SetFrac(big.NewInt(1), pow10(len(fraction)))
	for _, moved := range []*big.Rat{new(big.Rat).Sub(value, step), new(big.Rat).Add(value, step)} {
		if moved.Sign() >= 0 {
			out = append(out, moved.FloatString(len(fraction)))
		}
	}
	return out
}

// errNoSuchPlace: a mutant of other files.
var errNoSuchPlace = errors.New("what the mutant changes is not there")

// Mutate loads the ruleset with one change. A mutant that is no ruleset, such as
// one with a condition that is always true, is Problems.
func (s *Ruleset) Mutate(m Mutant) (*Ruleset, error) {
	lines := strings.Split(string(s.files[m.File]), "\n")
	if m.Line < 1 || m.Line > len(lines) {
		return nil, errNoSuchPlace
	}
	line, from := []rune(lines[m.Line-1]), []rune(m.From)
	begin, end := m.Column-1, m.Column-1+len(from)
	if begin < 0 || end > len(line) || !slices.Equal(line[begin:end], from) {
		return nil, errNoSuchPlace
	}
	lines[m.Line-1] = string(line[:begin]) + m.To + string(line[end:])
	files := maps.Clone(s.files)
	files[m.File] = []byte(strings.Join(lines, "\n"))
	r := &report{}
	set := build(files, r)
	if len(r.problems) > 0 {
		return nil, r.problems.sorted()
	}
	return set, nil
}
