package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/benchmarks/storm/oracle"
)

// prepared are the options of a short run; without the software that it needs the
// test is skipped, or fails where it must not be missing.
func prepared(t *testing.T) options {
	t.Helper()
	if testing.Short() {
		t.Skip("takes more than a minute")
	}
	o := defaultOptions()
	o.dir, o.unit, o.session, o.settle = t.TempDir(), 2*time.Second, 2*time.Second, 90*time.Second
	missing := ""
	if o.java == "" || o.libs == "" {
		missing = "SLUICE_TEST_JAVA and SLUICE_TEST_KAFKA_LIBS are not set"
	}
	for _, program := range []string{"redis-server", "strace"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = err.Error()
		}
	}
	switch {
	case missing != "" && os.Getenv("CI") != "":
		t.Fatalf("%s: CI must run this", missing)
	case missing != "":
		t.Skipf("%s; `make test` installs it", missing)
	}
	return o
}

// check fails the test for every promise that was broken.
func check(t *testing.T, r *report) {
	t.Helper()
	if r.bad() > 0 {
		t.Errorf("%d promises were broken:\n%s", r.bad(), r.markdown())
		return
	}
	t.Log("\n" + r.markdown())
}

// Members, brokers and Redis are killed, frozen and cut off while payments flow,
// and each payment has one verdict, stands once in every log, and was decided by
// exact values; and so where a machine with an embedded store loses its power again
// and again, and with it what was not synced. `make storm` does this for longer.
func TestStormBreaksNoPromise(t *testing.T) {
	o := prepared(t)
	o.payments, o.rate, o.faults, o.powerCuts = 7_500, 150, 9, 4
	o.only = []string{"member-kill", "member-cut", "member-silent", "member-slow", "broker-kill", "leader-move"}
	r, err := run(t.Context(), o, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	check(t, r)
	if a := r.shared.report; a.Transactions < o.payments*9/10 || a.Repeats == 0 || a.Conflicts == 0 || a.Invalid == 0 || a.Compared < 100*o.payments/10 {
		t.Errorf("%d transactions, %d repeats, %d conflicts, %d invalid, %d values: the test proves little", a.Transactions, a.Repeats, a.Conflicts, a.Invalid, a.Compared)
	}
	for _, f := range r.shared.faults {
		if f.struck.IsZero() || f.healed.Before(f.struck) {
			t.Errorf("%v did not happen", f)
		}
	}
	if a := r.alone; a.losses != o.powerCuts || a.report.Transactions < 500 || strings.HasPrefix(a.lostHow, "0 ") {
		t.Errorf("%d power cuts took %s from %d transactions: the test proves little", a.losses, a.lostHow, a.report.Transactions)
	}
}

// The same seed plans the same faults, all kinds of them, and no two of what must
// not be down at once.
func TestPlanComesFromItsSeed(t *testing.T) {
	o := defaultOptions()
	first, again := plan(&o, 8*time.Minute), plan(&o, 8*time.Minute)
	kindsSeen := map[string]int{}
	for i, f := range first {
		if f.String() != again[i].String() || f.after != again[i].after || f.chance != again[i].chance {
			t.Fatalf("%v after %v, and then %v after %v", f, f.after, again[i], again[i].after)
		}
		if f.kind.session && f.lasts <= o.session {
			t.Errorf("%v does not outlast a session of %v", f, o.session)
		}
		kindsSeen[f.kind.name]++
	}
	for _, k := range kinds() {
		if kindsSeen[k.name] < 4 {
			t.Errorf("of %d faults %d are a %s", len(first), kindsSeen[k.name], k.name)
		}
	}
	o.seed++
	if other := plan(&o, 8*time.Minute); other[0].chance == first[0].chance {
		t.Error("another seed plans the same")
	}
	o.only = []string{"member-kill", "no-such-kind"}
	o.java, o.libs = "java", "libs"
	if err := o.validate(); err == nil || !strings.Contains(err.Error(), `"no-such-kind"`) {
		t.Errorf("an unknown kind: %v", err)
	}
}

// A report says all that must be 0, also where it is not.
func TestReportNamesEveryPromise(t *testing.T) {
	o := defaultOptions()
	r := &report{options: &o, alone: &arm{broken: []string{"it went away"}, report: &oracle.Report{}}}
	r.alone.report.Findings[oracle.Undecided] = oracle.Finding{Count: 3, Examples: []string{"t-1 has none"}}
	text := r.markdown()
	for _, want := range []string{"| transactions without a decision | 3 |", "`t-1 has none`", "`it went away`"} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
	for _, c := range oracle.Checks() {
		if !strings.Contains(text, "| "+c.String()+" |") {
			t.Errorf("the report lacks %q", c)
		}
	}
	if r.bad() != 4 {
		t.Errorf("%d promises are broken, want 4", r.bad())
	}
}
