package rules

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"
)

func TestASavedRulesetIsLoadedAsItWas(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kept")
	set := loadFixture(t)
	if _, err := Saved(dir, set.Hash()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was never saved: %v", err)
	}
	for range 2 {
		if err := set.Save(dir); err != nil {
			t.Fatal(err)
		}
	}
	again, err := Saved(dir, set.Hash())
	if err != nil || again.Hash() != set.Hash() || again.OrderOfDecision() != set.OrderOfDecision() {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(filepath.Join(savedIn(dir, set.Hash()), "rules", "more.yaml"), []byte("rules: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Saved(dir, set.Hash()); err == nil {
		t.Error("a ruleset whose files were changed is given out under its old hash")
	}
}

func TestSavedRulesetsDoNotGrowForEver(t *testing.T) {
	dir := t.TempDir()
	var first, last string
	for i := range savedRulesets + 3 {
		set, err := LoadFS(fstest.MapFS{"policy.yaml": {Data: fmt.Appendf(nil, "no_rate: block # %d\n", i)}})
		if err != nil {
			t.Fatal(err)
		}
		if err := set.Save(dir); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(int64(1_000_000+i), 0)
		if i == 0 {
			first, at = set.Hash(), time.Now().Add(time.Hour) // in use all the time
		}
		last = set.Hash()
		if err := os.Chtimes(savedIn(dir, set.Hash()), at, at); err != nil {
			t.Fatal(err)
		}
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != savedRulesets {
		t.Errorf("%d are kept, %v", len(names), err)
	}
	for _, hash := range []string{first, last} {
		if _, err := Saved(dir, hash); err != nil {
			t.Error(err)
		}
	}
}
