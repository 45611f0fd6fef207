package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// sandboxed starts a sandbox on free ports and returns its broker's address.
func sandboxed(t *testing.T, args ...string) (p *process, kafka string) {
	t.Helper()
	p = start(t, nil, append([]string{"sandbox", "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0"}, args...)...)
	return p, strings.Fields(p.prints("Kafka "))[1]
}

// interrupt is Ctrl-C.
func interrupt(t *testing.T, p *process) {
	t.Helper()
	if status, took := p.signal(os.Interrupt); status != exitFine || took > 10*time.Second {
		t.Fatalf("Ctrl-C: exit status %d after %v", status, took)
	}
}

// One command, and payments receive verdicts.
func TestSandboxShowsVerdictsWithinSeconds(t *testing.T) {
	began := time.Now()
	p, kafka := sandboxed(t, "--rate", "200", "--seed", "7")
	p.prints("time (UTC)") // the header
	p.prints("approve")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the first verdict came after %v", took)
	}
	health := strings.TrimSuffix(strings.Fields(p.prints("health "))[1], "/healthz,")
	if status, body := get(t, health+"/readyz"); status != 200 || body != "ready\n" {
		t.Errorf("/readyz: %d %q", status, body)
	}
	p.prints("ruleset  sha256:")
	for _, verdict := range []string{"hold ", "block "} { // fraud is found among it
		p.prints(verdict)
	}
	p.prints("payments, ") // totals
	if n, err := connect(t, kafka).Partitions(t.Context(), "payments.transactions"); err != nil || n != 4 {
		t.Errorf("any client can connect: %d partitions, %v", n, err)
	}
	if strings.Contains(p.out.text(), "\x1b[") {
		t.Error("colour is for terminals only")
	}
	interrupt(t, p)
	if p.log.text() != "\n" {
		t.Errorf("a quiet end says nothing:\n%s", p.log.text())
	}
}

// Without a folder a sandbox leaves nothing behind.
func TestSandboxLeavesNothingBehind(t *testing.T) {
	tmp := t.TempDir()
	p := start(t, []string{"TMPDIR=" + tmp}, "sandbox", "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0")
	p.prints("approve")
	interrupt(t, p)
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) > 0 {
		t.Errorf("%v is left in the temporary folder (%v)", left, err)
	}
}

// With a folder a second start goes on where the first one stopped, however it
// stopped: decided payments are known, and windows remember.
func TestSandboxWithFolderGoesOnWhereItStopped(t *testing.T) {
	for name, stop := range map[string]func(*process){
		"after Ctrl-C":   func(p *process) { interrupt(t, p) },
		"after SIGTERM":  func(p *process) { p.drain(10 * time.Second) },
		"after a crash ": func(p *process) { p.kill() },
	} {
		t.Run(strings.TrimSpace(name), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "sandbox")
			first := pay("t-1", "u-1")
			p, kafka := sandboxed(t, "--dir", dir, "--traffic", "none", "--evidence", "all")
			before := ask(t, kafka, 1, first, pay("t-2", "u-1"))
			stop(p)

			p, kafka = sandboxed(t, "--dir", dir, "--traffic", "none", "--evidence", "all")
			after := ask(t, kafka, 2, first, pay("t-3", "u-1"))
			if string(after[0].Value) != string(before[0].Value) {
				t.Errorf("a payment that was decided got other bytes:\n%s\n%s", before[0].Value, after[0].Value)
			}
			if n := featureOf(t, after[1], "payer.events_30d"); n != "3" {
				t.Errorf("the third payment of a payer is its %s.", n)
			}
			interrupt(t, p)
		})
	}
}

// ask sends payments to a partition of a sandbox and returns what is said of them, in order.
func ask(t *testing.T, kafka string, partition int, records ...[]byte) []broker.Record {
	t.Helper()
	conn := connect(t, kafka)
	_, from, err := conn.Offsets(t.Context(), "risk.decisions", partition)
	if err != nil {
		t.Fatal(err)
	}
	var messages []broker.Message
	for _, r := range records {
		messages = append(messages, broker.Message{Key: []byte("u-1"), Value: r})
	}
	if err := conn.Produce(t.Context(), "payments.transactions", partition, messages); err != nil {
		t.Fatal(err)
	}
	return readRecords(t, conn, "risk.decisions", partition, from, len(records))
}

// featureOf is a feature as the evidence of a decision has it.
func featureOf(t *testing.T, r broker.Record, name string) string {
	t.Helper()
	var d payment.Decision
	if err := json.Unmarshal(r.Value, &d); err != nil {
		t.Fatal(err)
	}
	for _, f := range d.Evidence.Features {
		if f.Name == name {
			return string(f.Value.AppendJSON(nil))
		}
	}
	return ""
}

// Two sandboxes at once: the addresses that nobody asked for are only wishes.
func TestSecondSandboxTakesOtherPorts(t *testing.T) {
	first := start(t, nil, "sandbox", "--traffic", "none")
	one := strings.Fields(first.prints("Kafka "))[1]
	second := start(t, nil, "sandbox", "--traffic", "none")
	if other := strings.Fields(second.prints("Kafka "))[1]; other == one {
		t.Errorf("both listen on %s", one)
	}
	asked := start(t, nil, "sandbox", "--traffic", "none", "--kafka", one)
	refuses(t, asked, "address already in use")
	for _, p := range []*process{first, second} {
		p.prints("time (UTC)")
		if status, _ := p.signal(syscall.SIGINT); status != exitFine {
			t.Errorf("exit status %d", status)
		}
	}
}

// A file of records is traffic too.
func TestSandboxPlaysFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "records.jsonl")
	write(t, file, string(pay("t-1", "u-1"))+"\n"+string(pay("t-2", "u-2"))+"\n{\"broken\n")
	p, kafka := sandboxed(t, "--traffic", file)
	p.prints("approve")
	conn := connect(t, kafka)
	letters := 0
	for p := range 4 {
		if _, end, err := conn.Offsets(t.Context(), "payments.transactions", p); err != nil {
			t.Fatal(err)
		} else if end > 0 {
			letters++
		}
	}
	if letters == 0 {
		t.Error("nothing was sent")
	}
	interrupt(t, p)
}
