package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
)

// Payments that a sender's clock had made unusable were answered with a block. Once the bound is larger and they are
// re-submitted, each gets its real verdict as the next revision; the same bytes again get the same answers.
func TestReSubmittedPaymentGetsItsRealVerdict(t *testing.T) {
	const n = 5
	g := newGate(t, demoRules, "windows: {future_bound: 5m}\n")
	p := g.run()
	ahead := time.Now().Add(10 * time.Minute).UTC().Format(time.RFC3339Nano)
	var payments []broker.Message
	for i := range n {
		payments = append(payments, broker.Message{Key: fmt.Appendf(nil, "u-%d", i), Value: fmt.Appendf(nil,
			`{"v":1,"transaction_id":"t-%d","type":"payment","channel":"qr","event_time":%q,"amount":{"value":1250,"currency":"CNY"},"payer":{"account_id":"u-%d"},"payee":{"account_id":"m-1"}}`, i, ahead, i)})
	}
	g.send(g.transactions(), 2, payments...)
	p.says("msg=deciding")
	for _, r := range g.read(g.decisions(), 2, 0, n) {
		if header(r, "revision") != "1" || header(r, "verdict") != "block" || !strings.Contains(string(r.Value), `"source":"invalid"`) {
			t.Fatalf("before the fix: %v %s", r.Headers, r.Value)
		}
	}
	g.settled(20 * time.Second)
	p.drain(10 * time.Second)

	config := strings.Replace(readText(t, g.file), "future_bound: 5m", "future_bound: 1h", 1)
	write(t, g.file, config)
	p = g.run()
	p.says("msg=deciding")
	first := g.ends(g.decisions())[2]
	if status, out, log := ended(t, "dead-letters", "resubmit", "--config", g.file, "--reason", "future_time", "--yes"); status != exitFine || out != fmt.Sprintf("%d re-submitted\n", n) {
		t.Fatalf("resubmit: status %d\n%s%s", status, out, log)
	}
	second := map[string]string{}
	for seen := 0; len(second) < n; { // the stored block may be repeated before it is corrected
		records := g.read(g.decisions(), 2, first, seen+1)
		for _, r := range records[seen:] {
			id := header(r, "transaction_id")
			if header(r, "revision") == "1" {
				continue
			}
			if header(r, "revision") != "2" || header(r, "verdict") != "approve" || !strings.Contains(string(r.Value), `"corrects":"invalid"`) || !strings.Contains(string(r.Value), `"source":"rules"`) {
				t.Errorf("%s after the fix: %v %s", id, r.Headers, r.Value)
			}
			second[id] = string(r.Value)
		}
		seen = len(records)
	}

	// Sent once more, by whoever: the stored decisions again, and no revision 3.
	g.settled(20 * time.Second)
	next := g.ends(g.decisions())[2]
	g.send(g.transactions(), 2, payments...)
	g.settled(20 * time.Second)
	again := 0
	for p, records := range g.all(g.decisions()) {
		for _, r := range records {
			if p == 2 && r.Offset >= next && header(r, "revision") == "2" {
				again++
				if id := header(r, "transaction_id"); string(r.Value) != second[id] {
					t.Errorf("%s is answered with other bytes: %s", id, r.Value)
				}
			}
			if rev := header(r, "revision"); p != 2 || rev != "1" && rev != "2" {
				t.Errorf("partition %d: %v", p, r.Headers)
			}
		}
	}
	if again > n {
		t.Errorf("%d real verdicts were repeated of %d", again, n)
	}
	_, out, _ := ended(t, "dead-letters", "list", "--config", g.file)
	if want := fmt.Sprintf("%d dead letters, %d of them re-submitted", n, n); !strings.Contains(out, want) {
		t.Errorf("%s:\n%s", want, out)
	}
	p.drain(10 * time.Second)
}
