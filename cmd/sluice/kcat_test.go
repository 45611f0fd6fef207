package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// readmeKafka is the address that the README uses.
const readmeKafka = "127.0.0.1:9092"

// A user with a client that nobody here wrote sends payments and reads their
// verdicts. What is run is what the README shows, word for word.
func TestExchangeWithKcatOfTheReadmeWorks(t *testing.T) {
	tools := t.TempDir()
	if err := os.Symlink(findKcat(t), filepath.Join(tools, "kcat")); err != nil {
		t.Fatal(err)
	}
	script := kcatScript(t, "../../README.md")
	p, kafka := sandboxed(t, "--traffic", "none")
	p.prints("time (UTC)")
	sh := exec.Command("bash", "-euo", "pipefail", "-c", strings.ReplaceAll(script, readmeKafka, kafka))
	sh.Env = append(bareEnv(), "PATH="+tools+string(os.PathListSeparator)+os.Getenv("PATH"))
	out, err := sh.CombinedOutput()
	if err != nil {
		t.Fatalf("%s\n%v\n%s", script, err, out)
	}
	decisions := map[string]payment.Decision{}
	for line := range strings.Lines(string(out)) {
		var d payment.Decision
		if json.Unmarshal([]byte(line), &d) == nil && d.TransactionID != "" {
			decisions[d.TransactionID] = d
		}
	}
	verdicts := map[payment.Verdict]int{}
	for _, d := range decisions {
		verdicts[d.Verdict]++
	}
	if verdicts[payment.Approve] == 0 || verdicts[payment.Hold] == 0 {
		t.Errorf("the README shows an approved and a held payment; these are the verdicts: %v", verdicts)
	}
	p.prints("hold ") // the sandbox shows it too
	interrupt(t, p)
}

// findKcat returns the path of kcat; without it the test is skipped, and in CI it fails.
func findKcat(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("SLUICE_TEST_KCAT"); path != "" {
		return path
	}
	path, err := exec.LookPath("kcat")
	if err != nil && os.Getenv("CI") != "" {
		t.Fatal("there is no kcat: CI must have it")
	}
	if err != nil {
		t.Skip("there is no kcat; `make test` installs it")
	}
	return path
}

// kcatScript is what the console block with kcat in a file has its reader type:
// lines behind "$ ", and behind "> " where a command goes on. The sandbox runs
// already.
func kcatScript(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range strings.Split(string(text), "```console\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		if !strings.Contains(block, "kcat -") || !strings.Contains(block, readmeKafka) {
			continue
		}
		var script strings.Builder
		for line := range strings.Lines(block) {
			typed, first := strings.CutPrefix(line, "$ ")
			if !first {
				var more bool
				if typed, more = strings.CutPrefix(line, "> "); !more {
					continue
				}
			}
			if !strings.Contains(typed, "sluice sandbox") {
				script.WriteString(typed)
			}
		}
		return script.String()
	}
	t.Fatalf("%s shows no exchange with kcat on %s", file, readmeKafka)
	return ""
}
