package rules

import (
	"strings"
	"testing"
	"testing/fstest"
)

// Several folders make up one ruleset; a feature may stand in each that needs it.
func TestSeveralFoldersMakeUpOneRuleset(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	features := "features:\n  - {entity: card, name: attempts, windows: [10m], value: count, where: 'status != \"technical_failure\"'}\n"
	cards := fstest.MapFS{
		"policy.yaml":         file("base_currency: CNY\n"),
		"features/cards.yaml": file(features),
		"rules/cards.yaml":    file("rules:\n  - {id: cards-many, verdict: hold, when: 'card.attempts_10m > 5'}\n"),
	}
	shops := fstest.MapFS{
		"policy.yaml":         file("base_currency: CNY\n"),
		"features/shops.yaml": file(strings.Replace(features, "[10m]", "[10m, 1h]", 1)),
		"rules/shops.yaml":    file("rules:\n  - {id: shops-many, verdict: hold, when: 'card.attempts_1h > 9 and card.attempts_10m > 2'}\n"),
	}
	set, err := LoadFS(cards, shops)
	if err != nil {
		t.Fatal(err)
	}
	if len(set.RuleIDs()) != 2 || len(set.OwnFeatures()) != 2 {
		t.Errorf("rules %v, %d features", set.RuleIDs(), len(set.OwnFeatures()))
	}
	again, err := LoadFS(shops, cards)
	if err != nil || again.Hash() != set.Hash() {
		t.Errorf("in another order it is another ruleset: %v", err)
	}

	for name, c := range map[string]struct {
		change func(map[string]*fstest.MapFile)
		want   string
	}{
		"another definition": {func(f map[string]*fstest.MapFile) {
			f["features/shops.yaml"] = file(strings.Replace(features, "!=", "==", 1))
		}, "the name card.attempts_10m is taken by the feature at features/cards.yaml:2"},
		"twice in one file": {func(f map[string]*fstest.MapFile) {
			own := strings.Replace(features, "name: attempts", "name: tries", 1)
			f["features/shops.yaml"] = file(string(shops["features/shops.yaml"].Data) + strings.Repeat(strings.TrimPrefix(own, "features:\n"), 2))
		}, "the name card.tries_10m is taken by the feature at features/shops.yaml:3"},
		"another policy": {func(f map[string]*fstest.MapFile) { f["policy.yaml"] = file("base_currency: USD\n") },
			"the folders that make up the ruleset have different files of this name"},
		"an id twice": {func(f map[string]*fstest.MapFile) {
			f["rules/shops.yaml"] = file("rules:\n  - {id: cards-many, verdict: hold, when: 'card.attempts_10m > 5'}\n")
		}, "the id cards-many is taken"},
	} {
		changed := fstest.MapFS{}
		for name, f := range shops {
			changed[name] = f
		}
		c.change(changed)
		if _, err := LoadFS(cards, changed); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
