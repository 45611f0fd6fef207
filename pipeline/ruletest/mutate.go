package ruletest

import (
	"context"
	"errors"
	"slices"

	"github.com/sluice-risk/sluice/rules"
)

// Mutation is what tests made of the mutants of a ruleset.
type Mutation struct {
	Mutants  int            `json:"mutants"`  // that are rulesets
	Survived []rules.Mutant `json:"survived"` // that no test noticed
}

// Mutate plays the tests by every mutant of a ruleset whose tests pass. Progress,
// if not nil, is called with how many mutants are done and how many there are.
func Mutate(ctx context.Context, set *rules.Ruleset, tests []rules.Test, progress func(done, all int)) (Mutation, error) {
	var out Mutation
	all := set.Mutants()
	for i, m := range all {
		if progress != nil {
			progress(i, len(all))
		}
		mutated, err := set.Mutate(m)
		if problems := (rules.Problems)(nil); errors.As(err, &problems) {
			continue // no ruleset: loading it notices
		}
		if err != nil {
			return out, err
		}
		out.Mutants++
		killed, err := kills(ctx, mutated, nearFirst(tests, m.Rule))
		if err != nil {
			return out, err
		}
		if !killed {
			out.Survived = append(out.Survived, m)
		}
	}
	return out, nil
}

// nearFirst puts the tests that name a rule before the others: one of them is
// likely to notice.
func nearFirst(tests []rules.Test, rule string) []*rules.Test {
	var near, far []*rules.Test
	for i := range tests {
		t := &tests[i]
		if slices.ContainsFunc(t.Expected, func(x rules.Expectation) bool { return slices.Contains(x.Names, rule) }) {
			near = append(near, t)
		} else {
			far = append(far, t)
		}
	}
	return append(near, far...)
}

// kills tells whether some test fails.
func kills(ctx context.Context, set *rules.Ruleset, tests []*rules.Test) (bool, error) {
	p, err := newPlayer(set)
	if err != nil {
		return false, err
	}
	defer p.close()
	for _, t := range tests {
		for i, language := range t.Languages {
			d, refused, err := p.play(ctx, t, language)
			if err != nil {
				return false, err
			}
			if refused != "" || len(unmet(t, language, i == 0, d)) > 0 {
				return true, nil
			}
		}
	}
	return false, nil
}
