package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
)

// demoRules is the ruleset that is shipped.
const demoRules = "../../deploy/rulesets/demo"

// pay is a small payment, as JSON.
func pay(id, payer string) []byte {
	return fmt.Appendf(nil, `{"v":1,"transaction_id":%q,"type":"payment","channel":"qr","event_time":%q,"amount":{"value":1250,"currency":"CNY"},"payer":{"account_id":%q},"payee":{"account_id":"m-1"}}`,
		id, time.Now().UTC().Format(time.RFC3339Nano), payer)
}

// SIGTERM in the middle of work: what was fetched is decided, published and
// committed before the process exits with 0. The next start goes on behind it
// and says nothing a second time.
func TestDrainedGateRepeatsNothing(t *testing.T) {
	g := newGate(t, demoRules, "windows: {batch_size: 50}\n")
	const each = 5000
	for p := range partitions {
		var messages []broker.Message
		for i := range each { // large ones, so that a lane cannot have fetched all of them when it is asked to stop
			// None is past its deadline: lanes that catch up wait for each other, and the first would have nothing left.
			record := pay(fmt.Sprintf("t-%d-%d", p, i), fmt.Sprintf("u-%d", i%500))
			record = fmt.Appendf(record[:len(record)-1], `,"decide_by":"2100-01-01T00:00:00Z","attributes":{"a":%q,"b":%q}}`, strings.Repeat("a", 1000), strings.Repeat("b", 1000))
			messages = append(messages, broker.Message{Key: []byte("u"), Value: record})
		}
		g.send(g.transactions(), p, messages...)
	}
	stopped := 0
	for range 2 {
		p := g.run()
		p.says("msg=deciding")
		before := g.ends(g.decisions())
		for p := range partitions { // it works
			g.read(g.decisions(), p, before[p], 1)
		}
		status, took := p.signal(syscall.SIGTERM)
		if status != exitFine || took > 5*time.Second {
			t.Fatalf("SIGTERM: exit status %d after %v", status, took)
		}
		if p.log.count("level=ERROR")+p.log.count("level=WARN") > p.log.count("a setting of the cluster falls short") {
			t.Errorf("a drain is nothing to worry about:\n%s", p.log.text())
		}
		committed, err := g.committed(g.transactions())
		if err != nil {
			t.Fatal(err)
		}
		for p, decisions := range g.all(g.decisions()) {
			if int64(len(decisions)) != committed[p] {
				t.Fatalf("partition %d: %d decisions were published, and %d transactions committed", p, len(decisions), committed[p])
			}
			for i, d := range decisions {
				if want := fmt.Sprintf("t-%d-%d", p, i); header(d, "transaction_id") != want {
					t.Fatalf("decision %d of partition %d is of %s, not %s", i, p, header(d, "transaction_id"), want)
				}
			}
		}
		if committed != [partitions]int64{each, each, each, each} {
			stopped++
		}
		t.Logf("drained in %v at %v", took.Round(time.Millisecond), committed)
	}
	if stopped == 0 {
		t.Error("every drain came after the work: the test proves nothing")
	}
	p := g.run()
	g.settled(30 * time.Second)
	p.drain(5 * time.Second)
	for p, decisions := range g.all(g.decisions()) {
		if len(decisions) != each {
			t.Errorf("partition %d: %d decisions for %d transactions", p, len(decisions), each)
		}
	}
}

// Who is asked to end while still on the way to work ends as well as anybody.
func TestStartThatIsInterruptedEndsWell(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for name, starts := range map[string]func() *process{
		"run": func() *process {
			p := newGate(t, demoRules, "").run()
			p.says("msg=listening")
			return p
		},
		"sandbox": func() *process {
			p, _ := sandboxed(t)
			return p
		},
	} {
		for range 8 {
			p := starts()
			after := time.Duration(rng.Int64N(int64(250 * time.Millisecond)))
			p.pause(after)
			if status, took := p.signal(syscall.SIGTERM); status != exitFine || took > 10*time.Second {
				t.Errorf("%s, interrupted after %v: exit status %d after %v", name, after, status, took)
			}
		}
	}
}
