package ruletest

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/sluice-risk/sluice/pipeline/window"
	"github.com/sluice-risk/sluice/rules"
)

// Coverage is what the payments that tests sent made of every rule. What was
// given before them is not counted: nothing is expected of it.
type Coverage struct {
	Rules []RuleCoverage `json:"rules"` // disabled ones are left out
	place []*Seen        // by clause
}

// RuleCoverage counts for one rule.
type RuleCoverage struct {
	Rule    string           `json:"rule"`
	Seen    Seen             `json:"seen"`
	Clauses []ClauseCoverage `json:"clauses"` // what and and or join, or the condition itself
}

// ClauseCoverage counts for one part of a condition.
type ClauseCoverage struct {
	Text   string `json:"text"`
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Seen   Seen   `json:"seen"`
}

// Seen counts tests by what something came to.
type Seen struct {
	True    int `json:"true"`
	False   int `json:"false"`
	Unknown int `json:"unknown"`
}

// sides is how many of the two that count were seen: true, and false.
func (s Seen) sides() int { return min(s.True, 1) + min(s.False, 1) }

func newCoverage(clauses []rules.Clause) Coverage {
	var c Coverage
	for i := range clauses {
		at := &clauses[i]
		if at.Whole {
			c.Rules = append(c.Rules, RuleCoverage{Rule: at.Rule})
		}
		r := &c.Rules[len(c.Rules)-1]
		if !at.Whole || i+1 == len(clauses) || clauses[i+1].Whole {
			r.Clauses = append(r.Clauses, ClauseCoverage{Text: at.Text, File: at.File, Line: at.Line, Column: at.Column})
		}
	}
	rule, clause := -1, 0
	c.place = make([]*Seen, 0, 2*len(clauses))
	for i := range clauses { // in a second pass: nothing moves any more
		if clauses[i].Whole {
			rule, clause = rule+1, 0
			c.place = append(c.place, &c.Rules[rule].Seen)
		} else {
			c.place = append(c.place, &c.Rules[rule].Clauses[clause].Seen)
			clause++
		}
	}
	return c
}

// add counts one decision.
func (c *Coverage) add(seen map[int]window.Truth) {
	for i, truth := range seen {
		c.place[i].count(truth)
	}
	for i := range c.Rules { // a condition of one part is that part
		if r := &c.Rules[i]; len(r.Clauses) == 1 {
			r.Clauses[0].Seen = r.Seen
		}
	}
}

func (s *Seen) count(truth window.Truth) {
	switch truth {
	case window.True:
		s.True++
	case window.False:
		s.False++
	default:
		s.Unknown++
	}
}

// Percent is the share of the clauses' two sides, true and false, that tests
// have seen; 100 without rules.
func (c *Coverage) Percent() float64 {
	all, seen := 0, 0
	for i := range c.Rules {
		for _, clause := range c.Rules[i].Clauses {
			all, seen = all+2, seen+clause.Seen.sides()
		}
	}
	if all == 0 {
		return 100
	}
	return 100 * float64(seen) / float64(all)
}

// Write prints a table: a line for each rule, and one for each clause of which a
// side is missing.
func (c *Coverage) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "rule\thit\tpassed\tunknown\tclauses")
	for i := range c.Rules {
		r := &c.Rules[i]
		sides := 0
		for _, clause := range r.Clauses {
			sides += clause.Seen.sides()
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d of %d\n", r.Rule, r.Seen.True, r.Seen.False, r.Seen.Unknown, sides, 2*len(r.Clauses))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for i := range c.Rules {
		for _, clause := range c.Rules[i].Clauses {
			for _, side := range []struct {
				word  string
				times int
			}{{"true", clause.Seen.True}, {"false", clause.Seen.False}} {
				if side.times == 0 {
					fmt.Fprintf(w, "%s:%d:%d: never %s: %s\n", clause.File, clause.Line, clause.Column, side.word, clause.Text)
				}
			}
		}
	}
	return nil
}
