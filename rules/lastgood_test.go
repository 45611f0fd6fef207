package rules

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestTheLastGoodRulesetIsThatOfTheFolder(t *testing.T) {
	f := folder{t, t.TempDir()}
	kept := filepath.Join(t.TempDir(), "kept")
	if _, err := LastGood(kept, "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("where nothing was kept: %v", err)
	}
	var sets []*Ruleset
	for _, id := range []string{"one", "two"} {
		f.rule(id)
		set, err := Load(f.dir)
		f.must(err)
		f.must(set.Save(kept))
		f.must(set.NoteLastGood(kept, "a"))
		sets = append(sets, set)
	}
	f.must(sets[0].Save(kept)) // it is in use again, and not what the folder holds
	last, err := LastGood(kept, "a")
	if err != nil || last.Hash() != sets[1].Hash() {
		t.Errorf("the last good one is %v, %v", last, err)
	}
	if _, err := LastGood(kept, "b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of another folder: %v", err)
	}
	hashes, err := SavedHashes(kept)
	if err != nil || len(hashes) != 2 {
		t.Errorf("kept are %v, %v", hashes, err)
	}
	f.must(os.WriteFile(filepath.Join(savedIn(kept, sets[1].Hash()), "rules", "a.yaml"), []byte(ruleOf("three")), 0o600))
	if _, err := LastGood(kept, "a"); err == nil {
		t.Error("files that somebody changed are the last good ruleset")
	}
}

func TestFeaturesAreTheSameOnlyWhereNothingThatMakesThemHasChanged(t *testing.T) {
	base := map[string]string{
		"rules/a.yaml":    ruleOf("one"),
		"features/f.yaml": "features: [{entity: payer, name: n, windows: [1h], value: count, where: 'amount > CNY(10)'}]\n",
		"rates.yaml":      "base: CNY\nrates: {USD: 7}\n",
		"policy.yaml":     "no_rate: hold\n",
	}
	load := func(name, content string) *Ruleset {
		f := folder{t, t.TempDir()}
		for n, c := range base {
			f.write(n, c)
		}
		if name != "" {
			f.write(name, content)
		}
		set, err := Load(f.dir)
		f.must(err)
		return set
	}
	old := load("", "")
	for _, tc := range []struct {
		name, content string
		same          bool
	}{
		{"", "", true},
		{"rules/a.yaml", ruleOf("two"), true},
		{"lists/l.yaml", "list: l\ntype: payer\nentries: []\n", true},
		{"features/f.yaml", "features: [{entity: payer, name: n, windows: [1h], value: count, where: 'amount > CNY(11)'}]\n", false},
		{"features/g.yaml", "features: [{entity: payer, name: m, windows: [1h], value: count}]\n", false},
		{"rates.yaml", "base: CNY\nrates: {USD: 8}\n", false},
		{"policy.yaml", "no_rate: block\n", true},
		{"policy.yaml", "duplicates: {verdict: block}\n", true},
		{"policy.yaml", "duplicates: {within: 2m}\n", false},
		{"policy.yaml", "duplicates: {verdict: approve}\n", false},
		{"policy.yaml", "time_zone: Asia/Shanghai\n", false},
	} {
		set := load(tc.name, tc.content)
		if old.SameFeatures(set) != tc.same || set.SameFeatures(old) != tc.same {
			t.Errorf("with another %s the features are the same: %v", tc.name, !tc.same)
		}
	}
}
