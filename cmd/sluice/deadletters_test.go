package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
)

// ended runs sluice to its end and returns its exit status and what it printed.
func ended(t testing.TB, args ...string) (status int, out, log string) {
	t.Helper()
	p := start(t, nil, args...)
	status = p.wait(60 * time.Second)
	return status, p.out.text(), p.log.text()
}

// letterOfTest is a line of `dead-letters ... --format json`.
type letterOfTest struct {
	Letter, Reason, Field, Topic, Result, Why string
	Partition                                 int
	Offset                                    int64
	TransactionID                             string `json:"transaction_id"`
	Records, Resubmitted                      any
	ResubmittedBy                             string `json:"resubmitted_by"`
	Value                                     []byte `json:"value_base64"`
	Key                                       []byte `json:"key_base64"`
}

func linesOf(t testing.TB, out string) (all []letterOfTest) {
	t.Helper()
	for line := range strings.Lines(out) {
		var l letterOfTest
		if err := json.Unmarshal([]byte(line), &l); err != nil && strings.TrimSpace(line) != "" {
			t.Fatalf("%v in %q", err, line)
		} else if err == nil {
			all = append(all, l)
		}
	}
	return all
}

// refused makes a gate refuse records of three reasons, and returns it stopped: two that are no JSON, one without an
// amount, and one id with two contents.
func gateWithLetters(t *testing.T) *gate {
	t.Helper()
	g := newGate(t, demoRules, "")
	p := g.run()
	g.send(g.transactions(), 1,
		broker.Message{Key: []byte("u-1"), Value: []byte("{\x01\x02")},
		broker.Message{Key: []byte("u-2"), Value: pay("t-1", "u-2")},
		broker.Message{Key: []byte("u-2"), Value: bytes.Replace(pay("t-1", "u-2"), []byte(`"value":`), []byte(`"value":9`), 1)},
		broker.Message{Key: []byte("u-3"), Value: bytes.Replace(pay("t-3", "u-3"), []byte(`"amount"`), []byte(`"amount_of_it"`), 1)})
	g.send(g.outcomes(), 3, broker.Message{Key: []byte("u-1"), Value: []byte("no outcome")})
	p.says("msg=deciding")
	g.settled(30 * time.Second)
	p.drain(10 * time.Second)
	return g
}

// Who is paged sees what was refused, why, and where it stood.
func TestDeadLettersAreListedByReason(t *testing.T) {
	g := gateWithLetters(t)
	status, out, log := ended(t, "dead-letters", "list", "--config", g.file)
	if status != exitFine {
		t.Fatalf("status %d: %s", status, log)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 5 || !strings.HasPrefix(lines[0], "reason") || !strings.HasPrefix(lines[1], "not_json       2        0 ") ||
		!strings.HasPrefix(lines[2], "id_conflict    1        0 ") || !strings.HasPrefix(lines[3], "missing_field  1        0 ") || lines[4] != "4 dead letters, 0 of them re-submitted" {
		t.Errorf("list:\n%s", out)
	}
	if !strings.Contains(lines[1], g.outcomes()+","+g.transactions()) {
		t.Errorf("it does not say where they came from:\n%s", out)
	}

	_, out, _ = ended(t, "dead-letters", "list", "--config", g.file, "--long", "--format", "json", "--topic", g.transactions(), "--since", "1h", "--reason", "id_conflict,missing_field")
	letters := linesOf(t, out)
	if len(letters) != 2 {
		t.Fatalf("letters:\n%s", out)
	}
	for _, l := range letters {
		if want := map[string]string{"id_conflict": "t-1 transaction_id 2", "missing_field": "t-3 amount 3"}[l.Reason]; fmt.Sprintf("%s %s %d", l.TransactionID, l.Field, l.Offset) != want || l.Partition != 1 || l.Topic != g.transactions() {
			t.Errorf("letter %+v, want %s", l, want)
		}
	}
	_, text, _ := ended(t, "dead-letters", "list", "--config", g.file, "--long", "--id", "t-3")
	if want := g.transactions() + " 1/3"; !strings.Contains(text, want) || !strings.Contains(text, "missing_field  amount") || strings.Count(text, "\n") != 2 {
		t.Errorf("list --long --id t-3 does not have %s:\n%s", want, text)
	}
	if _, out, _ := ended(t, "dead-letters", "list", "--config", g.file, "--since", time.Now().Add(time.Hour).Format(time.RFC3339)); strings.TrimSpace(out) != "0 dead letters, 0 of them re-submitted" {
		t.Errorf("since an hour from now:\n%s", out)
	}

	_, out, _ = ended(t, "dead-letters", "list", "--config", g.file, "--long", "--format", "json", "--reason", "not_json", "--topic", g.transactions())
	bad := linesOf(t, out)[0].Letter
	if _, text, _ := ended(t, "dead-letters", "show", bad, "--config", g.file); !strings.Contains(text, `"{\x01\x02"`) || !strings.Contains(text, "not_json") || !strings.Contains(text, "u-1") {
		t.Errorf("show:\n%s", text)
	}
	if _, out, _ = ended(t, "dead-letters", "show", bad, "--config", g.file, "--format", "json"); string(linesOf(t, out)[0].Value) != "{\x01\x02" || string(linesOf(t, out)[0].Key) != "u-1" {
		t.Errorf("show --format json: %s", base64.StdEncoding.EncodeToString(linesOf(t, out)[0].Value))
	}
	if status, _, log := ended(t, "dead-letters", "show", "0/99999", "--config", g.file); status != exitUsage || !strings.Contains(log, "there is no dead letter 0/99999") {
		t.Errorf("a letter that is not there: status %d, %s", status, log)
	}
}

// Chosen letters go back to where they stood, once, whoever asks how often; the rest is said, with status 1.
func TestDeadLettersAreReSubmittedOnce(t *testing.T) {
	g := gateWithLetters(t)
	before := g.ends(g.transactions())
	resubmit := func(args ...string) (int, string, string) {
		t.Helper()
		return ended(t, append([]string{"dead-letters", "resubmit", "--config", g.file, "--by", "ann"}, args...)...)
	}
	if status, _, log := resubmit("--all"); status != exitUsage || !strings.Contains(log, "3 records would be re-submitted: say --yes") {
		t.Errorf("without --yes: status %d, %s", status, log)
	}
	if status, out, _ := resubmit("--all", "--dry-run"); status != exitBad || !strings.Contains(out, "3 can be re-submitted") || !strings.Contains(out, "decided with other content") {
		t.Errorf("--dry-run: status %d\n%s", status, out)
	}
	if after := g.ends(g.transactions()); after != before {
		t.Fatalf("something was written: %v, before %v", after, before)
	}
	if status, out, log := resubmit("--reason", "missing_field", "--yes"); status != exitFine || out != "1 re-submitted\n" {
		t.Errorf("--reason: status %d\n%s%s", status, out, log)
	}
	if status, out, _ := resubmit("--all", "--yes"); status != exitBad || !strings.Contains(out, "2 re-submitted\n1 had been re-submitted before\n1 not re-submitted:\n") {
		t.Errorf("--all: status %d\n%s", status, out)
	}
	if status, out, _ := resubmit("--all", "--topic", g.outcomes(), "--yes", "--format", "json"); status != exitFine || linesOf(t, out)[0].Result != "already" {
		t.Errorf("once more: status %d\n%s", status, out)
	}
	if status, out, _ := resubmit("--id", "t-1", "--force", "--yes"); status != exitFine || out != "1 re-submitted\n" {
		t.Errorf("--force: status %d\n%s", status, out)
	}

	var sent []string
	for _, r := range g.read(g.transactions(), 1, before[1], 3) {
		old := g.read(g.transactions(), 1, 0, 4)
		same := false
		for _, o := range old[:4] {
			same = same || bytes.Equal(o.Value, r.Value) && bytes.Equal(o.Key, r.Key)
		}
		if !same || header(r, "resubmitted_by") != "ann" || time.Since(time.UnixMilli(r.Time)) > 5*time.Minute {
			t.Errorf("record %v %q is none that stood there", r.Headers, r.Value)
		}
		sent = append(sent, header(r, "resubmitted"))
	}
	if total := g.total(g.transactions()); total != before[0]+before[1]+before[2]+before[3]+3 {
		t.Errorf("%d records in all", total)
	}
	_, out, _ := ended(t, "dead-letters", "list", "--config", g.file, "--long", "--format", "json")
	for _, l := range linesOf(t, out) {
		if l.ResubmittedBy != "ann" {
			t.Errorf("letter %s is not shown as re-submitted", l.Letter)
		}
		if n := strings.Count(strings.Join(sent, " ")+" ", l.Letter+" "); l.Topic == g.transactions() && n != 1 {
			t.Errorf("letter %s was written %d times", l.Letter, n)
		}
	}
}

// Two people who do the same at the same moment do it once.
func TestTwoOperatorsReSubmitOnce(t *testing.T) {
	g := gateWithLetters(t)
	before := g.total(g.transactions()) + g.total(g.outcomes())
	var both sync.WaitGroup
	var outs [2]string
	for i := range outs {
		p := start(t, nil, "dead-letters", "resubmit", "--config", g.file, "--all", "--yes", "--format", "json", "--by", fmt.Sprint("operator-", i))
		both.Go(func() {
			<-p.exited
			outs[i] = p.out.text()
		})
	}
	both.Wait()
	results := map[string]int{}
	for _, out := range outs {
		for _, l := range linesOf(t, out) {
			results[l.Result]++
		}
	}
	if after := g.total(g.transactions()) + g.total(g.outcomes()); after != before+3 || results["resubmitted"] != 3 || results["resubmittable"] != 0 {
		t.Errorf("%d records of 3 letters; %v\n%s\n%s", after-before, results, outs[0], outs[1])
	}
}

// Wrong words are said, and nothing is waited for that will not come.
func TestWrongChoicesOfDeadLettersAreSaid(t *testing.T) {
	g := bareGate(t, demoRules, "")
	for _, tc := range []struct {
		args []string
		says string
	}{
		{[]string{"list"}, "topics are missing: " + g.deadLetters()},
		{[]string{"list", "--format", "xml"}, "must be text or json"},
		{[]string{"resubmit"}, "say --all"},
		{[]string{"resubmit", "--all", "--id", "t-1"}, "say --all"},
		{[]string{"resubmit", "seventeen"}, `"seventeen" names no dead letter`},
		{[]string{"show"}, "requires at least 1 arg"},
	} {
		if status, _, log := ended(t, append([]string{"dead-letters", tc.args[0], "--config", g.file}, tc.args[1:]...)...); status != exitUsage || !strings.Contains(log, tc.says) {
			t.Errorf("%q: status %d, %s; want %q", tc.args, status, log, tc.says)
		}
	}
	g = newGate(t, demoRules, "")
	for args, says := range map[string]string{"--reason nonsense": "must be one of empty, ", "--since yesterday": `--since "yesterday"`} {
		if status, _, log := ended(t, append([]string{"dead-letters", "list", "--config", g.file}, strings.Fields(args)...)...); status != exitUsage || !strings.Contains(log, says) {
			t.Errorf("%s: status %d, %s", args, status, log)
		}
	}
	if _, err := os.Stat(g.dir); !os.IsNotExist(err) {
		t.Errorf("a store was made: %v", err)
	}
}
