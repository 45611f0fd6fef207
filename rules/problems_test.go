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
	eachArchive(t, "problems", 40, func(t *testing.T, folder fstest.MapFS) string {
		_, err := LoadFS(folder)
		var problems Problems
		if !errors.As(err, &problems) {
			t.Fatalf("%v is no Problems", err)
		}
		return problems.Error() + "\n"
	})
}

// eachArchive prints something of every folder in an archive of testdata, of which
// there are so many at the least: it must be what stands there under want.
func eachArchive(t *testing.T, in string, least int, prints func(*testing.T, fstest.MapFS) string) {
	archives, err := filepath.Glob("testdata/" + in + "/*.txtar")
	if err != nil || len(archives) < least {
		t.Fatalf("%d archives, %v", len(archives), err)
	}
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
				data := strings.NewReplacer("<TAB>", "\t", "<CR>", "\r").Replace(string(f.Data))
				folder[f.Name] = &fstest.MapFile{Data: []byte(data)}
			}
			got := prints(t, folder)
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
