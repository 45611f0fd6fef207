package pipeline_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline"
)

// holdingRules hold every payment for a time: for a review, one on the web for a
// step-up, one in an app for both.
func holdingRules(t *testing.T, lasts string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "rules", "hold.yaml")
	content := fmt.Sprintf(`rules:
  - {id: review, description: d, owner: o, applies_to: {channel: [qr]}, when: 'amount > CNY(0)', verdict: hold, hold: {for: %[1]v}}
  - {id: proof, description: d, owner: o, applies_to: {channel: [web]}, when: 'amount > CNY(0)', verdict: hold, hold: {needs: step_up, for: %[1]v}}
  - {id: both, description: d, owner: o, applies_to: {channel: [in_app]}, when: 'amount > CNY(0)', verdict: hold, hold: {needs: [step_up, review], for: %[1]v, on_expiry: approve}}
`, lasts)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func reviewed(id, kind, name string) string {
	return fmt.Sprintf(`{"review_id":%q,"transaction_id":%q,"review":%q,"event_time":%q,"reviewer":"ann"}`, name, id, kind, time.Now().UTC().Format(time.RFC3339Nano))
}

// chain waits until a payment has so many revisions and returns them in words.
func (g *liveGate) chain(id string, revisions int) string {
	g.t.Helper()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) { // Kafka tells nobody
		var words []string
		for _, s := range g.decisions(0)[id] {
			d := g.decoded(s)
			if s.headers["revision"] != fmt.Sprint(d.Revision) || s.headers["verdict"] != d.Verdict.String() || s.key != "u-1" {
				g.t.Errorf("headers %v, key %s of %s", s.headers, s.key, s.value)
			}
			words = append(words, fmt.Sprintf("%d %s %s", d.Revision, d.Verdict, d.Source))
		}
		if len(words) >= revisions {
			return strings.Join(words, ", ")
		}
		if time.Since(began) > 20*time.Second {
			g.t.Fatalf("%s has %v, want %d revisions", id, words, revisions)
		}
	}
}

// paidTo is a payment to a payee of its own, so that it is no duplicate.
func paidTo(id string, changes ...string) string {
	return paid(id, append(changes, `"m-1"`, `"m-`+id+`"`)...)
}

// A hold is settled by reviews, step-ups and its expiry, over restarts of the gate,
// and whatever comes again.
func TestHoldsAreSettledLive(t *testing.T) {
	g := startLive(t, func(c *pipeline.Config) { c.Rules = holdingRules(t, "1h") })
	in := g.config.Topics
	g.send(in.Transactions, 0, paidTo("released"), paidTo("rejected"), paidTo("proved", `"qr"`, `"web"`))
	g.send(in.Transactions, 1, paidTo("both", `"qr"`, `"in_app"`), paidTo("waits"))
	g.decisions(5)
	g.send(in.Reviews, 1, reviewed("released", "claim", "c"), reviewed("released", "release", "r"), reviewed("rejected", "reject", "s"), reviewed("both", "release", "b"))
	g.send(in.Outcomes, 1, became("proved", "step_up_passed"))
	for id, want := range map[string]string{"released": "1 hold rules, 2 approve review", "rejected": "1 hold rules, 2 block review", "proved": "1 hold rules, 2 approve step_up", "both": "1 hold rules, 2 hold review"} {
		if got := g.chain(id, 2); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
	g.restart(nil)
	g.send(in.Transactions, 0, paidTo("released")) // it comes again
	g.send(in.Outcomes, 0, became("both", "step_up_passed"))
	g.send(in.Reviews, 0, reviewed("waits", "release", "w"), reviewed("released", "reject", "late"))
	if got := g.chain("both", 3); got != "1 hold rules, 2 hold review, 3 approve step_up" {
		t.Error(got)
	}
	if got := g.chain("waits", 2); got != "1 hold rules, 2 approve review" {
		t.Error(got)
	}
	if letters := g.read(in.DeadLetters, 1); len(letters) != 1 || letters[0].headers["reason"] != "after_end" || letters[0].headers["topic"] != in.Reviews {
		t.Errorf("dead letters %v", letters)
	}
	g.restart(func(c *pipeline.Config) { c.Rules = holdingRules(t, "2s") })
	g.send(in.Transactions, 1, paidTo("ends"), paidTo("passes", `"qr"`, `"in_app"`))
	if got := g.chain("ends", 2); got != "1 hold rules, 2 block expiry" {
		t.Error(got)
	}
	if got := g.chain("passes", 2); got != "1 hold rules, 2 approve expiry" {
		t.Error(got)
	}
	expired := g.decoded(g.decisions(0)["ends"][1])
	if late := expired.DecidedAt.Std().Sub(g.decoded(g.decisions(0)["ends"][0]).Hold.ExpiresAt.Std()); late < 0 || late > 2*time.Second {
		t.Errorf("the expiry came %v after its time", late)
	}
	if got := g.chain("released", 2); got != "1 hold rules, 2 approve review, 1 hold rules" {
		t.Errorf("the payment that came again: %s", got)
	}
}
