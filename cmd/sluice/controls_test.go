package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Each command that changes something at run time acts on a gate that runs, on
// a real Kafka, and is undone by the one that undoes it.
func TestCommandsChangeVerdictsOfARunningGate(t *testing.T) {
	ruleset := t.TempDir()
	write(t, filepath.Join(ruleset, "lists", "stolen.yaml"), "list: stolen\ntype: card\neffect: block\nentries: [{value: c-7, why: file}]\n")
	write(t, filepath.Join(ruleset, "rules", "large.yaml"), "rules:\n  - {id: large, verdict: hold, when: 'amount > CNY(10)'}\n")
	g := newGate(t, ruleset, "")
	p := g.run()
	p.says("deciding")
	g.becomes("hold")
	sluice := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(binary, append(args, "--config", g.file, "--rules", ruleset, "--by", "test")...).Output()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return string(out)
	}
	for _, c := range []struct{ command, want string }{
		{"lists add stolen c-1 --until 1h --why w", "block"},
		{"lists remove stolen c-1", "hold"},
		{"rules disable large --until 1h --why w", "approve"},
		{"rules enable large", "hold"},
		{"rules snooze large --card c-1 --until 1h --why w", "approve"},
		{"rules enable large --card c-1", "hold"},
	} {
		if said := sluice(strings.Fields(c.command)...); !strings.HasPrefix(said, "k-") {
			t.Errorf("%s prints %q", c.command, said)
		}
		g.becomes(c.want)
	}
	sluice("lists", "remove", "stolen", "c-7", "--id", "k-mine")
	list := exec.Command(binary, "lists", "list", "stolen", "--config", g.file, "--rules", ruleset)
	var complaints bytes.Buffer
	list.Stderr = &complaints
	out, err := list.Output()
	if err != nil || !strings.Contains(string(out), "taken off by k-mine") || !strings.Contains(string(out), "ended") {
		t.Errorf("%v: %s%s", err, out, &complaints)
	}
	var control struct{ Control, Bank string }
	if err := json.Unmarshal([]byte(sluice("outage", "mark", "--bank", "icbc", "--from", "-20m", "--until", "1h", "--why", "w", "--format", "json")), &control); err != nil || control.Control != "outage" {
		t.Errorf("%+v, %v", control, err)
	}
	sluice("outage", "end", "k-1")
	p.drain(20 * time.Second)
}

// becomes sends payments until one gets a verdict: when the gate reads a control
// is nobody's to say.
func (g *gate) becomes(want string) {
	g.t.Helper()
	last := ""
	for began := time.Now(); time.Since(began) < 20*time.Second; {
		id := fmt.Sprint("t-", time.Now().UnixNano())
		now := time.Now().UTC().Format(time.RFC3339Nano)
		g.send(g.transactions(), 0, broker.Message{Key: []byte("u-1"), Value: fmt.Appendf(nil,
			`{"transaction_id":%q,"type":"payment","event_time":%q,"decide_by":%q,"amount":{"value":1250,"currency":"CNY"},"payer":{"account_id":"u-1"},"instrument":{"kind":"card","token":"c-1"}}`,
			id, now, time.Now().Add(time.Minute).UTC().Format(time.RFC3339Nano))})
		if last = g.verdictOf(id); last == want {
			return
		}
	}
	g.t.Fatalf("payments are %s, not %s", last, want)
}

// verdictOf waits for the decision of a transaction.
func (g *gate) verdictOf(id string) string {
	g.t.Helper()
	for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(5 * time.Millisecond) { // a read of several partitions cannot be waited for
		for _, records := range g.all(g.decisions()) {
			for i := len(records) - 1; i >= 0; i-- {
				var d payment.Decision
				if header(records[i], "transaction_id") == id && json.Unmarshal(records[i].Value, &d) == nil {
					return d.Verdict.String()
				}
			}
		}
	}
	g.t.Fatalf("no decision of %s", id)
	return ""
}
