package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestGuideForAnalystsIsRunAsItStands runs the commands of the guide one after the
// other; what it shows after them must be in what they print.
func TestGuideForAnalystsIsRunAsItStands(t *testing.T) {
	guide, err := os.ReadFile("../../rules/README.md")
	if err != nil {
		t.Fatal(err)
	}
	rulesets, err := filepath.Abs("../../deploy/rulesets")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	printed, shown := "", 0
	for _, block := range regexp.MustCompile("(?ms)^```(sh|text)\n(.*?)^```$").FindAllStringSubmatch(string(guide), -1) {
		if block[1] == "sh" {
			sh := exec.Command("bash", "-euo", "pipefail", "-c", block[2])
			sh.Dir, sh.Env = dir, append(os.Environ(), "PATH="+filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"), "RULESETS="+rulesets)
			out, err := sh.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s\n%s", err, block[2], out)
			}
			printed = string(out)
			continue
		}
		for line := range strings.Lines(block[2]) {
			if shown++; !strings.Contains(printed, strings.TrimSuffix(line, "\n")) {
				t.Errorf("the guide shows %q, printed is\n%s", line, printed)
			}
		}
	}
	if shown < 10 {
		t.Errorf("the guide shows %d lines of what is printed", shown)
	}
}
