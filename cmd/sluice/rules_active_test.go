package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline"
)

// sluice runs a command that must end with a status, and returns what it prints.
func sluice(t *testing.T, status int, args ...string) string {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = bareEnv()
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != status {
		t.Fatalf("sluice %s ends with status %d, not %d:\n%s%s", strings.Join(args, " "), got, status, out, &complaints)
	}
	return string(out) + complaints.String()
}

// A ruleset is deployed by writing its files, looked at, taken back, and listed, on a gate that runs.
func TestRulesetsAreFollowedListedAndRolledBack(t *testing.T) {
	dir := t.TempDir()
	ruleset := filepath.Join(dir, "rules")
	deploy := func(verdict string) {
		t.Helper()
		write(t, filepath.Join(ruleset, "rules", "large.yaml"), "rules:\n  - {id: large, verdict: "+verdict+", when: 'amount > CNY(10)'}\n")
	}
	deploy("hold")
	p, kafka := sandboxed(t, "--dir", filepath.Join(dir, "sandbox"), "--rules", ruleset, "--traffic", "none")
	url := strings.TrimSuffix(strings.Fields(p.prints("health "))[1], "/healthz,")
	p.prints("time (UTC)") // it decides
	report := func() (r pipeline.RulesetReport) {
		t.Helper()
		_, body := get(t, url+"/ruleset")
		if err := json.Unmarshal([]byte(body), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	until := func(what string, is func(pipeline.RulesetReport) bool) pipeline.RulesetReport {
		t.Helper()
		for began := time.Now(); ; time.Sleep(20 * time.Millisecond) { // a member tells nobody what it has in force
			r := report()
			if is(r) {
				return r
			}
			if time.Since(began) > 20*time.Second {
				t.Fatalf("it never comes to this: %s; %+v", what, r)
			}
		}
	}
	first := report().InForce.Ruleset
	if out := sluice(t, exitFine, "rules", "active", "--url", url); !strings.Contains(out, short(first)) || !strings.Contains(out, "folder  it") {
		t.Errorf("active prints\n%s", out)
	}
	if out := sluice(t, exitUsage, "rules", "rollback", "--url", url, "--why", "w", "--brokers", kafka); !strings.Contains(out, "no member knows of a ruleset before") {
		t.Errorf("with nothing before it, rollback says\n%s", out)
	}

	deploy("block")
	second := until("the second one is in force", func(r pipeline.RulesetReport) bool { return r.InForce.Ruleset != first }).InForce.Ruleset
	write(t, filepath.Join(ruleset, "rules", "more.yaml"), "rules: [{id: more, verdict: hold, when: 'amuont > CNY(10)'}]\n")
	until("the bad one is refused", func(r pipeline.RulesetReport) bool { return r.Refused != nil })
	out := sluice(t, exitBad, "rules", "active", "--url", url)
	if !strings.Contains(out, "a bad one") || !strings.Contains(out, "rules/more.yaml:1:") || !strings.Contains(out, "goes on with "+short(second)) {
		t.Errorf("active prints\n%s", out)
	}
	if status, body := get(t, url+"/readyz"); status != http.StatusOK {
		t.Errorf("a typo makes the gate not ready: %s", body)
	}

	out = sluice(t, exitFine, "rules", "rollback", "--url", url, "--why", "blocks everybody", "--by", "nina", "--brokers", kafka)
	if !strings.Contains(out, first+" is in force on all members") {
		t.Errorf("rollback prints\n%s", out)
	}
	if r := report(); r.InForce.Ruleset != first || r.InForce.By != pipeline.ByControl {
		t.Errorf("after a rollback: %+v", r.InForce)
	}
	lines := strings.Split(sluice(t, exitFine, "rules", "history", "--url", url), "\n")
	if len(lines) != 5 || !strings.Contains(lines[1], short(first)) || !strings.Contains(lines[1], "nina: blocks everybody") || !strings.Contains(lines[2], short(second)) || !strings.Contains(lines[3], short(first)) {
		t.Errorf("history prints\n%s", strings.Join(lines, "\n"))
	}
	sluice(t, exitFine, "rules", "rollback", strings.TrimPrefix(second, "sha256:")[:8], "--url", url, "--why", "it was right", "--by", "nina", "--brokers", kafka)
	if r := report(); r.InForce.Ruleset != second {
		t.Errorf("after a rollback by name: %+v", r.InForce)
	}
	interrupt(t, p)
}

// A rollback goes only where all members can follow.
func TestARollbackGoesWhereAllMembersCanFollow(t *testing.T) {
	member := func(url, holds string, kept string, history ...string) memberRulesets {
		r := pipeline.RulesetReport{Holds: holds, Kept: strings.Fields(kept)}
		for _, hash := range history {
			r.History = append(r.History, pipeline.RulesetSwitch{Ruleset: hash})
		}
		r.InForce = r.History[0]
		return memberRulesets{URL: url, RulesetReport: &r}
	}
	const a, b, c = "sha256:aa1", "sha256:aa2", "sha256:cc3"
	all := a + " " + b + " " + c
	for _, tc := range []struct {
		name, prefix, want string
		members            []memberRulesets
	}{
		{"the one before", "", a, []memberRulesets{member("1", b, all, b, a), member("2", b, all, b, a, c)}},
		{"one member was restarted, and does not know", "", a, []memberRulesets{member("1", b, all, b), member("2", b, all, b, a)}},
		{"a ruleset that came twice", "", a, []memberRulesets{member("1", b, all, b, b, a)}},
		{"nobody knows", "", "!before the present one", []memberRulesets{member("1", b, all, b)}},
		{"they do not agree", "", "!different rulesets before", []memberRulesets{member("1", b, all, b, a), member("2", b, all, b, c)}},
		{"by the beginning of its hash", "cc", c, []memberRulesets{member("1", b, all, b, a)}},
		{"by its hash", a, a, []memberRulesets{member("1", b, all, b, a)}},
		{"by a beginning that two have", "aa", "!may be", []memberRulesets{member("1", b, all, b, a)}},
		{"by one that nobody keeps", "dd", "!no member keeps", []memberRulesets{member("1", b, all, b, a)}},
		{"one that a member does not keep", "cc", "!2 does not keep", []memberRulesets{member("1", b, all, b, a), member("2", b, a, b, a)}},
		{"one that a member has in its folder", "cc", c, []memberRulesets{member("1", b, all, b, a), member("2", c, a, c, a)}},
	} {
		got, err := rollbackTo(tc.members, tc.prefix)
		if part, fails := strings.CutPrefix(tc.want, "!"); fails && (err == nil || !strings.Contains(err.Error(), part)) || !fails && (err != nil || got != tc.want) {
			t.Errorf("%s: %q, %v; want %q", tc.name, got, err, tc.want)
		}
	}
	if _, err := held([]memberRulesets{member("1", a, "", b), member("2", b, "", b)}); err == nil || !strings.Contains(err.Error(), "--stay") {
		t.Errorf("folders that differ: %v", err)
	}
}

// Members that differ, are silent or have refused their folder are said, and make the status bad.
func TestActiveSaysWhoDiffersIsSilentOrRefuses(t *testing.T) {
	at := time.Date(2026, 11, 23, 3, 4, 5, 0, time.UTC)
	one := memberRulesets{URL: "http://gate-1:8420", RulesetReport: &pipeline.RulesetReport{InForce: pipeline.RulesetSwitch{Ruleset: "sha256:1111111111112", Since: at, By: "folder"}, Holds: "sha256:1111111111112"}}
	other := memberRulesets{URL: "http://gate-2:8420", RulesetReport: &pipeline.RulesetReport{Folder: "/etc/rules", Refused: &pipeline.RulesetRefusal{At: at, Error: "rules/a.yaml: no"},
		InForce: pipeline.RulesetSwitch{Ruleset: "sha256:2222222222223", Since: at, By: "control", Control: "k-1", Actor: "nina", Why: "w"}}}
	silent := memberRulesets{URL: "http://gate-3:8420", Error: "refused"}
	var out strings.Builder
	if err := printActive(&out, []memberRulesets{one, other, silent}); err != nil {
		t.Fatal(err)
	}
	const want = `member              ruleset              since (UTC)          by                   its folder holds
http://gate-1:8420  sha256:111111111111  2026-11-23 03:04:05  folder               it
http://gate-2:8420  sha256:222222222222  2026-11-23 03:04:05  control k-1, nina: w  a bad one
http://gate-3:8420  -                    -                    -                    -
! http://gate-2:8420 refused the ruleset of /etc/rules at 2026-11-23 03:04:05, and goes on with sha256:222222222222:
rules/a.yaml: no
! http://gate-3:8420 does not answer: refused
! members decide by different rulesets: reload those that are behind (deploy/runbooks/member_skew.md)
`
	if squeeze(out.String()) != squeeze(want) {
		t.Errorf("it prints\n%s", out.String())
	}
	for name, all := range map[string][]memberRulesets{"differ": {one, {RulesetReport: &pipeline.RulesetReport{}}}, "silent": {one, silent}, "refused": {other}} {
		if agreed(all) {
			t.Errorf("%s: all is well", name)
		}
	}
	if !agreed([]memberRulesets{one, one}) {
		t.Error("members that agree do not")
	}
}

// squeeze makes spaces single.
func squeeze(s string) string {
	var lines []string
	for _, l := range strings.Split(s, "\n") {
		lines = append(lines, strings.Join(strings.Fields(l), " "))
	}
	return strings.Join(lines, "\n")
}
