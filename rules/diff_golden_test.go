package rules

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"
)

// loadSide loads the files of an archive that stand in a folder.
func loadSide(t *testing.T, archive *txtar.Archive, folder string) *Ruleset {
	t.Helper()
	files := fstest.MapFS{}
	for _, f := range archive.Files {
		if name, ok := strings.CutPrefix(f.Name, folder+"/"); ok {
			files[name] = &fstest.MapFile{Data: f.Data}
		}
	}
	set, err := LoadFS(files)
	if err != nil {
		t.Fatalf("%s: %v", folder, err)
	}
	return set
}

// TestEveryChangeIsSaidInWords compares the two rulesets of each archive in
// testdata/diff.
func TestEveryChangeIsSaidInWords(t *testing.T) {
	archives, err := filepath.Glob("testdata/diff/*.txtar")
	if err != nil || len(archives) < 6 {
		t.Fatalf("%d archives, %v", len(archives), err)
	}
	for _, name := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			archive := txtar.Parse(content)
			from, to := loadSide(t, archive, "old"), loadSide(t, archive, "new")
			got := ChangesText(Diff(from, to))
			if *update {
				if last := len(archive.Files) - 1; archive.Files[last].Name == "want" {
					archive.Files = archive.Files[:last]
				}
				archive.Files = append(archive.Files, txtar.File{Name: "want", Data: []byte(got)})
				if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if last := archive.Files[len(archive.Files)-1]; last.Name != "want" || string(last.Data) != got {
				t.Errorf("got\n%s", got)
			}
			for _, set := range []*Ruleset{from, to} {
				if same := Diff(set, set); len(same) > 0 {
					t.Errorf("from a ruleset to itself:\n%s", ChangesText(same))
				}
			}
			for _, c := range Diff(from, to) {
				if c.Text == "" || c.What == "" || c.Change == "" || c.Group.Title() == "" {
					t.Errorf("incomplete: %+v", c)
				}
			}
		})
	}
}
