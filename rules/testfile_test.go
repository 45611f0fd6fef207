package rules

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// testedFolder is a ruleset with one rule, and the files of tests given.
func testedFolder(t *testing.T, tests map[string]string) (fstest.MapFS, *Ruleset) {
	t.Helper()
	folder := fstest.MapFS{
		"features/card.yaml": {Data: []byte("features:\n  - {entity: card, name: attempts, windows: [10m], value: count}\n  - {entity: payer, name: device, value: last(device)}\n" +
			"  - {entity: payer, name: spent, windows: [1d], value: sum}\n")},
		"rules/card.yaml": {Data: []byte("rules:\n  - id: card-testing\n    verdict: hold\n    when: |\n      card.attempts_10m >= 5\n      and (amount < CNY(10.5) or not has(payer.country))\n")},
	}
	for name, content := range tests {
		folder[name] = &fstest.MapFile{Data: []byte(content)}
	}
	set, err := LoadFS(folder)
	if err != nil {
		t.Fatal(err)
	}
	return folder, set
}

// TestEveryMistakeInATestIsShownAtItsPlace reads the files of tests in
// testdata/testproblems, each with what must be printed about it.
func TestEveryMistakeInATestIsShownAtItsPlace(t *testing.T) {
	archives, err := filepath.Glob("testdata/testproblems/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("%d archives, %v", len(archives), err)
	}
	for _, name := range archives {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		archive := txtar.Parse(content)
		folder, set := testedFolder(t, map[string]string{"rules/card_test.yaml": string(archive.Files[0].Data)})
		_, err = LoadTests(set, folder)
		var problems Problems
		if !errors.As(err, &problems) {
			t.Fatalf("%s: %v is no Problems", name, err)
		}
		got := problems.Error() + "\n"
		if *update {
			archive.Files = append(archive.Files[:1], txtar.File{Name: "want", Data: []byte(got)})
			if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if string(archive.Files[1].Data) != got {
			t.Errorf("%s: got\n%s", name, got)
		}
	}
}

func TestFilesOfTestsDoNotChangeTheHash(t *testing.T) {
	_, bare := testedFolder(t, nil)
	_, tested := testedFolder(t, map[string]string{"a_test.yaml": "x: y", "rules/b_test.yaml": "{", "lists/c_test.yaml": "", "features/d_test.yaml": "1"})
	if bare.Hash() != tested.Hash() || bare.Hash() != tested.Probed().Rules.Hash() {
		t.Errorf("%s without tests, %s with, %s probed", bare.Hash(), tested.Hash(), tested.Probed().Rules.Hash())
	}
}

func TestRecordsOfATestStandByTime(t *testing.T) {
	folder, set := testedFolder(t, map[string]string{"rules/card_test.yaml": `base: {type: payment, amount: CNY(8), payer: "u{n}", payer.country: CN, card: c1}
tests:
  - name: one
    given:
      - {at: -1m, times: 2, every: 10s, id: p, payer.country: null}
      - {at: -2m, amount: USD(1.50), attributes: {basket: "3"}}
      - {outcome: settled, of: p, at: -50s}
      - {outcome: declined_by_bank, of: p, at: -50s}
    send: {at: 1m, locale: en}
    expect: {verdict: hold}
`})
	tests, err := LoadTests(set, folder)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"amount":{"currency":"USD","value":150},"attributes":{"basket":"3"},"event_time":"2026-11-23T11:58:00Z","instrument":{"kind":"card","token":"c1"},"payer":{"account_id":"u1","country":"CN"},"transaction_id":"given-2-1","type":"payment","v":1}
{"amount":{"currency":"CNY","value":800},"event_time":"2026-11-23T11:59:00Z","instrument":{"kind":"card","token":"c1"},"payer":{"account_id":"u1"},"transaction_id":"given-1-1","type":"payment","v":1}
{"amount":{"currency":"CNY","value":800},"event_time":"2026-11-23T11:59:10Z","instrument":{"kind":"card","token":"c1"},"payer":{"account_id":"u2"},"transaction_id":"given-1-2","type":"payment","v":1}
{"v":1,"transaction_id":"given-1-1","outcome":"settled","event_time":"2026-11-23T11:59:10Z"}
{"v":1,"transaction_id":"given-1-2","outcome":"settled","event_time":"2026-11-23T11:59:10Z"}
{"v":1,"transaction_id":"given-1-1","outcome":"declined_by_bank","event_time":"2026-11-23T11:59:10Z"}
{"v":1,"transaction_id":"given-1-2","outcome":"declined_by_bank","event_time":"2026-11-23T11:59:10Z"}
{"amount":{"currency":"CNY","value":800},"event_time":"2026-11-23T12:01:00Z","instrument":{"kind":"card","token":"c1"},"locale":"zh-CN","payer":{"account_id":"u{n}","country":"CN"},"transaction_id":"sent","type":"payment","v":1}
`
	if got := string(tests[0].Records("zh-CN")); got != want {
		t.Errorf("got\n%s", got)
	}
}

// A probe sees each clause, and the decision is the one that the ruleset gives.
func TestProbesSeeEveryClauseAndChangeNothing(t *testing.T) {
	_, set := testedFolder(t, nil)
	probed := set.Probed()
	var texts []string
	for _, c := range probed.Clauses {
		texts = append(texts, c.Text)
	}
	if got, want := strings.Join(texts, "\n"), "card.attempts_10m >= 5 and (amount < CNY(10.5) or not has(payer.country))\ncard.attempts_10m >= 5\namount < CNY(10.5)\nnot has(payer.country)"; got != want {
		t.Errorf("clauses\n%s", got)
	}
	for _, c := range []struct {
		attempts payment.Value
		amount   int64
		want     map[int]window.Truth
	}{
		{payment.IntValue(5), 1049, map[int]window.Truth{0: window.True, 1: window.True, 2: window.True, 3: window.True}},
		{payment.IntValue(4), 1050, map[int]window.Truth{0: window.False, 1: window.False, 2: window.False, 3: window.True}},
		{payment.Value{}, 1050, map[int]window.Truth{0: window.Unknown, 1: window.Unknown, 2: window.False, 3: window.True}},
	} {
		in := &Input{Tx: &payment.Transaction{Type: payment.TypePayment}, Amount: c.amount, HasAmount: true, Features: make([]payment.Value, len(set.Features()))}
		in.Features[0] = c.attempts
		var plain, d payment.Decision
		plain.Reset()
		d.Reset()
		set.NewEvaluator().Decide(in, &plain)
		probed.Rules.NewEvaluator().Decide(in, &d)
		if got := probed.Seen(&d); !maps.Equal(got, c.want) {
			t.Errorf("%v and %d: saw %v, want %v", c.attempts.Int(), c.amount, got, c.want)
		}
		if string(plain.Append(nil)) != string(d.Append(nil)) {
			t.Errorf("%s\nprobed: %s", plain.Append(nil), d.Append(nil))
		}
	}
}

func TestMutantsMoveEveryThresholdAndOperator(t *testing.T) {
	_, set := testedFolder(t, nil)
	var got []string
	for _, m := range set.Mutants() {
		got = append(got, m.From+" "+m.To)
		mutated, err := set.Mutate(m)
		if err != nil || mutated.Hash() == set.Hash() {
			t.Errorf("%+v: %v", m, err)
		}
	}
	if want := []string{">= >", "5 4", "5 6", "and or", "< <=", "10.5 10.4", "10.5 10.6", "or and"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
