package rules

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write what is printed into the golden files")

// TestEveryMistakeIsShownAtItsPlace loads the folders in testdata/problems, each
// an archive of files and of what must be printed about them.
func TestEveryMistakeIsShownAtItsPlace(t *testing.T) {
	archives, err := filepath.Glob("testdata/problems/*.txtar")
	if err != nil || len(archives) < 40 {
		t.Fatalf("%d archives, %v", len(archives), err)
	}
	for _, name := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			archive := txtar.Parse(content)
			folder := fstest.MapFS{}
			want := -1
			for i, f := range archive.Files {
				if f.Name == "want" {
					want = i
					continue
				}
				data := strings.NewReplacer("<TAB>", "\t", "<CR>", "\r").Replace(string(f.Data))
				folder[f.Name] = &fstest.MapFile{Data: []byte(data)}
			}
			_, err = LoadFS(folder)
			var problems Problems
			if !errors.As(err, &problems) {
				t.Fatalf("%v is no Problems", err)
			}
			got := problems.Error() + "\n"
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
