package rules

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// TestRemarksAreMadeAtTheirPlace loads the folders in testdata/remarks: each an
// archive of a good ruleset and of what is worth a second look in it.
func TestRemarksAreMadeAtTheirPlace(t *testing.T) {
	archives, err := filepath.Glob("testdata/remarks/*.txtar")
	if err != nil || len(archives) < 5 {
		t.Fatalf("%d archives, %v", len(archives), err)
	}
	at, _ := payment.ParseTime("2026-11-24T00:00:00Z")
	for _, name := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			archive, folder, want := txtar.Parse(content), fstest.MapFS{}, -1
			for i, f := range archive.Files {
				if f.Name == "want" {
					want = i
					continue
				}
				folder[f.Name] = &fstest.MapFile{Data: f.Data}
			}
			set, err := LoadFS(folder)
			if err != nil {
				t.Fatal(err)
			}
			got := set.Remarks(at).Error() + "\n"
			if *update {
				if want < 0 {
					want = len(archive.Files)
					archive.Files = append(archive.Files, txtar.File{Name: "want"})
				}
				archive.Files[want].Data = []byte(got)
				if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want < 0 || string(archive.Files[want].Data) != got {
				t.Errorf("got\n%s", got)
			}
		})
	}
}
