// Package ruletest runs the tests that stand beside the rules of a ruleset. Each
// is played as a file of records through pipeline.Replay, on a store in memory
// of its own: what is tested is the gate, not a model of it.
package ruletest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
	"github.com/sluice-risk/sluice/rules"
)

// Result is what came of one test.
type Result struct {
	Test     *rules.Test `json:"test"`
	Failures []Failure   `json:"failures"`
	Why      []Reading   `json:"why,omitempty"` // of a test that failed: see why
}

// Passed tells whether everything came as expected.
func (r *Result) Passed() bool { return len(r.Failures) == 0 }

// Failure is one expectation that was not met.
type Failure struct {
	Expected *rules.Expectation `json:"expected"` // nil where the test could not be played
	Got      string             `json:"got"`      // what came instead; or why it could not be played
}

// Reading is what a rule came to, with its parts and what these looked at.
type Reading struct {
	Rule    string          `json:"rule"`
	Came    string          `json:"came"` // true, false, unknown; "did not apply"
	Clauses []ClauseReading `json:"clauses"`
}

// ClauseReading is what one part of a condition came to.
type ClauseReading struct {
	Text   string   `json:"text"`
	Came   string   `json:"came"`
	Values []string `json:"values"` // "card.attempts_10m = 5", the features in it
}

// Report is what came of all tests, in their order, and what they looked at.
type Report struct {
	Results  []Result `json:"results"`
	Coverage Coverage `json:"coverage"`
}

// Failed counts the tests that failed.
func (r *Report) Failed() (n int) {
	for i := range r.Results {
		if !r.Results[i].Passed() {
			n++
		}
	}
	return n
}

// Run plays all tests of a ruleset. An error means that they could not be
// played; a test that fails is none.
func Run(ctx context.Context, set *rules.Ruleset, tests []rules.Test) (*Report, error) {
	probed := set.Probed()
	p, err := newPlayer(probed.Rules)
	if err != nil {
		return nil, err
	}
	defer p.close()
	report := &Report{Coverage: newCoverage(probed.Clauses)}
	for i := range tests {
		result, err := p.judge(ctx, &tests[i], probed, &report.Coverage)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", tests[i].File, tests[i].Name, err)
		}
		report.Results = append(report.Results, result)
	}
	return report, nil
}

// judge plays one test in all its languages.
func (p *player) judge(ctx context.Context, t *rules.Test, probed *rules.Probed, coverage *Coverage) (Result, error) {
	result := Result{Test: t}
	for i, language := range t.Languages {
		d, refused, err := p.play(ctx, t, language)
		if err != nil {
			return result, err
		}
		if refused != "" {
			result.Failures = append(result.Failures, Failure{Got: refused})
			return result, nil
		}
		seen := probed.Seen(d)
		if i == 0 {
			coverage.add(seen)
		}
		met := len(result.Failures)
		result.Failures = append(result.Failures, unmet(t, language, i == 0, d)...)
		if len(result.Failures) > met && result.Why == nil {
			result.Why = why(t, d, probed, seen)
		}
	}
	return result, nil
}

// unmet returns the expectations of a decision that are not met. First is the
// decision that all of them are about which name no language.
func unmet(t *rules.Test, language string, first bool, d *payment.Decision) (out []Failure) {
	for i := range t.Expected {
		x := &t.Expected[i]
		if x.Language != language && (x.Language != "" || !first) {
			continue
		}
		if got, ok := x.Check(d); !ok {
			out = append(out, Failure{x, got})
		}
	}
	return out
}

// why explains the rules that were expected, and those that were true; where
// there is none of either, those that came nearest.
func why(t *rules.Test, d *payment.Decision, probed *rules.Probed, seen map[int]window.Truth) (out []Reading) {
	about := map[string]bool{}
	for i := range t.Expected {
		for _, name := range t.Expected[i].Names {
			about[name] = true
		}
	}
	for _, r := range d.Reasons {
		about[r.Rule] = true
	}
	for _, r := range d.Shadow {
		about[r.Rule] = true
	}
	delete(about, "") // a reason that no rule gives
	if len(about) == 0 {
		about = nearest(probed, seen)
	}
	for i := range probed.Clauses {
		c := &probed.Clauses[i]
		if !about[c.Rule] {
			continue
		}
		came := "did not apply"
		if truth, ok := seen[i]; ok {
			came = truthWords[truth]
		}
		if c.Whole {
			out = append(out, Reading{Rule: c.Rule, Came: came})
			if i+1 < len(probed.Clauses) && !probed.Clauses[i+1].Whole {
				continue // its parts follow
			}
		}
		reading := &out[len(out)-1]
		if reading.Came == "did not apply" {
			continue
		}
		part := ClauseReading{Text: c.Text, Came: came}
		for _, name := range c.Names {
			if shown, ok := probed.Rules.Shown(name, d); ok {
				part.Values = append(part.Values, name+" = "+shown)
			}
		}
		reading.Clauses = append(reading.Clauses, part)
	}
	return out
}

// shownNearest is how many rules are explained where none was true.
const shownNearest = 3

// nearest are the rules that apply with the fewest parts that are not true.
func nearest(probed *rules.Probed, seen map[int]window.Truth) map[string]bool {
	missed := map[string]int{}
	var ids []string
	for i, c := range probed.Clauses {
		truth, applies := seen[i]
		switch {
		case applies && c.Whole:
			ids = append(ids, c.Rule)
			missed[c.Rule] = 0
			if i+1 == len(probed.Clauses) || probed.Clauses[i+1].Whole { // its own only part
				missed[c.Rule] = 1
			}
		case applies && truth != window.True:
			missed[c.Rule]++
		}
	}
	slices.SortStableFunc(ids, func(a, b string) int { return missed[a] - missed[b] })
	about := map[string]bool{}
	for _, id := range ids[:min(len(ids), shownNearest)] {
		about[id] = true
	}
	return about
}

var truthWords = [...]string{window.False: "false", window.True: "true", window.Unknown: "unknown"}

// player plays tests by one ruleset, one after the other.
type player struct {
	replay pipeline.Replay
}

// newPlayer returns a player; close it.
func newPlayer(set *rules.Ruleset) (*player, error) {
	decisions, err := os.CreateTemp("", "sluice-test-*")
	if err != nil {
		return nil, err
	}
	config := pipeline.DefaultConfig()
	return &player{pipeline.Replay{Rules: set, Evidence: pipeline.EvidenceAll, Limits: config.Limits(), Windows: config.Windows, Decisions: decisions}}, nil
}

func (p *player) close() {
	_ = p.replay.Decisions.Close()
	_ = os.Remove(p.replay.Decisions.Name())
}

// errNoDecision: the gate answered nothing, which it must not.
var errNoDecision = errors.New("no decision came for the payment that was sent")

// play plays a test and returns the decision of the payment that it sends, or
// why a record of it was refused.
func (p *player) play(ctx context.Context, t *rules.Test, language string) (d *payment.Decision, refused string, err error) {
	if _, err := p.replay.Decisions.Seek(0, 0); err != nil {
		return nil, "", err
	}
	if err := p.replay.Decisions.Truncate(0); err != nil {
		return nil, "", err
	}
	sent := []byte(`"transaction_id":"` + rules.SentID + `"`)
	p.replay.DeadLetter = func(_ int64, record []byte, why *payment.Refusal) {
		if refused == "" {
			refused = fmt.Sprintf("a record is refused, %v: %s", why, record)
		}
	}
	var failed error
	p.replay.Decided = func(decision []byte) {
		if d != nil || !bytes.Contains(decision, sent) {
			return // a later revision, or what came before
		}
		d = new(payment.Decision)
		failed = json.Unmarshal(slices.Clone(decision), d)
	}
	_, err = p.replay.Run(ctx, bytes.NewReader(t.Records(language)))
	switch {
	case err != nil, failed != nil:
		return nil, "", errors.Join(err, failed)
	case refused != "":
		return nil, refused, nil
	case d == nil:
		return nil, "", errNoDecision
	}
	return d, "", nil
}
