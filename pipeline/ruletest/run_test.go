package ruletest_test

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sluice-risk/sluice/pipeline/ruletest"
	"github.com/sluice-risk/sluice/rules"
)

// run loads a folder and plays its tests.
func run(t *testing.T, folder fstest.MapFS) *ruletest.Report {
	t.Helper()
	set, err := rules.LoadFS(folder)
	if err != nil {
		t.Fatal(err)
	}
	tests, err := rules.LoadTests(set, folder)
	if err != nil {
		t.Fatal(err)
	}
	report, err := ruletest.Run(t.Context(), set, tests)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// block returns the block of YAML in a text that begins with a line.
func block(t *testing.T, text, begin string) []byte {
	t.Helper()
	_, rest, ok := strings.Cut(text, "```yaml\n"+begin)
	inside, _, closed := strings.Cut(rest, "```")
	if !ok || !closed {
		t.Fatalf("the README has no block that begins with %q", begin)
	}
	return []byte(begin + inside)
}

// The rule and the test that the README shows, word for word.
func TestReadmeExamplePasses(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	features, rest, _ := strings.Cut(string(block(t, string(readme), "features:\n")), "rules:\n")
	report := run(t, fstest.MapFS{
		"features/card.yaml":   {Data: []byte(features)},
		"rules/card.yaml":      {Data: []byte("rules:\n" + rest)},
		"rules/card_test.yaml": {Data: block(t, string(readme), "base: {type: payment")},
	})
	if len(report.Results) != 1 || report.Failed() != 0 {
		t.Errorf("%d tests, failures: %+v", len(report.Results), report.Results[0].Failures)
	}
}

// Texts are looked at in each language, a payment that the gate refuses fails its
// test, and shadow rules are told apart from those that act.
func TestWhatADecisionSaysIsHeldAgainstTheTest(t *testing.T) {
	report := run(t, fstest.MapFS{
		"rules/a.yaml": {Data: []byte(`rules:
  - id: large
    when: 'amount >= CNY(100)'
    verdict: block
    payer_code: NO
    payer_message: {en: "Not today.", zh-CN: "今天不行。"}
  - id: watched
    when: 'amount >= CNY(50)'
    verdict: hold
    mode: shadow
`)},
		"rules/a_test.yaml": {Data: []byte(`base: {type: payment, amount: CNY(100), payer: u1}
tests:
  - name: told in both
    send: {}
    expect: {rules: [large], shadow: [watched], payer_message: {en: "Not today.", zh-CN: "今天不行。"}}
  - name: told wrongly in one
    send: {}
    expect: {payer_message: {en: "Not today.", zh-CN: "Not today."}}
  - name: no address
    send: {ip: somewhere}
    expect: {verdict: block}
  - name: watched only
    send: {amount: CNY(50)}
    expect: {verdict: approve, shadow: []}
`)},
	})
	var got []string
	for i := range report.Results {
		for _, f := range report.Results[i].Failures {
			key := "refused"
			if f.Expected != nil {
				key = f.Expected.Key
			}
			got = append(got, report.Results[i].Test.Name+"/"+key)
		}
	}
	want := "told wrongly in one/payer_message.zh-CN no address/refused watched only/shadow"
	if strings.Join(got, " ") != want {
		t.Errorf("failed: %s\nwant:   %s", strings.Join(got, " "), want)
	}
	// Each test counts once, in however many languages; one that was refused does not.
	for i, want := range []ruletest.Seen{{True: 2, False: 1}, {True: 3}} {
		if r := report.Coverage.Rules[i]; r.Seen != want || len(r.Clauses) != 1 || r.Clauses[0].Seen != want {
			t.Errorf("coverage %+v, want %+v", r, want)
		}
	}
	if got := report.Coverage.Percent(); got != 75 {
		t.Errorf("%v %% of the clauses' sides, want 75", got)
	}
}
