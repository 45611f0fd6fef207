package pipeline_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/rules"
)

// failureRules count the technical failures of a card, and everything else of it.
func failureRules(t *testing.T, more string) string {
	t.Helper()
	dir := t.TempDir()
	writeRules(t, dir, map[string]string{
		"policy.yaml": "duplicates: {verdict: approve}\n",
		"features/card.yaml": `features:
  - {entity: card, name: failures, windows: [1h], value: count, where: 'status == "technical_failure"'}
  - {entity: card, name: attempts, windows: [1h], value: count, where: 'status != "technical_failure"'}
  - {entity: card, name: events, windows: [1h], value: count}
` + more,
		"rules/many.yaml": "rules:\n  - {id: many, description: Many failures, owner: test, when: 'card.failures_1h >= 100', verdict: hold, reason: MANY}\n",
	})
	return dir
}

func writeRules(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

func outage(id, from, until, match string) string {
	return fmt.Sprintf(`{"v":1,"control_id":%q,"control":"outage","event_time":%q,"by":"ops","why":"bank down","from":%q,"until":%q,"match":{%s}}`, id, stamp(0), from, until, match)
}

func outageEnd(id, of string) string {
	return fmt.Sprintf(`{"v":1,"control_id":%q,"control":"outage_end","event_time":%q,"by":"ops","why":"was wrong","of":%q}`, id, stamp(0), of)
}

func stamp(d time.Duration) string { return time.Now().UTC().Add(d).Format(time.RFC3339Nano) }

// probes sends payments until a feature of one of them is what is waited for: how
// outcomes and controls stand among payments is nobody's to say.
func (g *liveGate) probes(want string, features ...string) payment.Decision {
	g.t.Helper()
	last := ""
	for began := time.Now(); time.Since(began) < 15*time.Second; {
		before := len(g.decisions(0))
		g.send(g.config.Topics.Transactions, 0, paid(fmt.Sprint("probe-", before, "-", time.Now().UnixNano()), `"instrument":{"kind":"card"`, `"instrument":{"bank":"icbc","kind":"card"`))
		for _, list := range g.decisions(before + 1) {
			for _, s := range list {
				if !strings.HasPrefix(s.headers["transaction_id"], fmt.Sprint("probe-", before, "-")) {
					continue
				}
				last = ""
				for _, f := range features {
					last += g.feature(s, f) + " "
				}
				if strings.TrimSpace(last) == want {
					return g.decoded(s)
				}
			}
		}
	}
	g.t.Fatalf("%v is %s, not %s", features, last, want)
	return payment.Decision{}
}

// An outage is marked after the fact: technical failures within it stop counting,
// those of others go on; and it is unmarked. A gate that starts anew knows it from
// the topic, on either store, and a replay of the same records agrees.
func TestAnOutageTakesItsFailuresOutAndItsEndPutsThemBack(t *testing.T) {
	for _, store := range []string{"embedded", "redis"} {
		t.Run(store, func(t *testing.T) {
			g := startLive(t, func(c *pipeline.Config) {
				c.Rules = failureRules(t, "")
				if store == "redis" {
					useRedis(t, c)
				}
			})
			began := stamp(-time.Second)
			bank := func(id string) string {
				return paid(id, `"instrument":{"kind":"card"`, `"instrument":{"bank":"icbc","kind":"card"`)
			}
			g.send(g.config.Topics.Transactions, 0, bank("t-1"), bank("t-2"), paid("t-3"))
			g.decisions(3)
			g.send(g.config.Topics.Outcomes, 0, became("t-1", "technical_failure"), became("t-2", "technical_failure"), became("t-3", "technical_failure"))
			g.probes("3", "card.failures_1h")
			g.send(g.config.Topics.Controls, 0, outage("k-1", began, stamp(time.Hour), `"instrument.bank":"icbc"`))
			g.probes("1", "card.failures_1h")
			g.restart(nil)
			g.probes("1", "card.failures_1h")
			g.send(g.config.Topics.Controls, 0, outageEnd("k-2", "k-1"), outage("k-3", began, stamp(time.Hour), `"channel":"qr"`))
			g.probes("0", "card.failures_1h")
			g.send(g.config.Topics.Controls, 0, outageEnd("k-4", "k-3"), `{"v":1,"control_id":"k-5","control":"nonsense","event_time":"2026-01-01T00:00:00Z","by":"ops"}`)
			g.probes("3", "card.failures_1h")
			if letters := g.read(g.config.Topics.DeadLetters, 1); letters[0].headers["reason"] != "unknown_control" {
				t.Errorf("a control that nobody knows is a dead letter for %s", letters[0].headers["reason"])
			}
		})
	}
}

func TestAReplayKnowsOutages(t *testing.T) {
	file := strings.Join([]string{
		paid("t-1"), became("t-1", "technical_failure"), paid("t-2"),
		outage("k-1", stamp(-time.Minute), stamp(time.Minute), `"payee.account_id":"m-1"`), paid("t-3"),
		outageEnd("k-2", "k-1"), paid("t-4"),
	}, "\n")
	rs, err := rules.Load(failureRules(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "decisions.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	c := pipeline.DefaultConfig()
	var got []string
	replay := pipeline.Replay{Rules: rs, Evidence: pipeline.EvidenceAll, Limits: c.Limits(), Windows: c.Windows, Decisions: out, Decided: func(b []byte) {
		var d payment.Decision
		if err := json.Unmarshal(b, &d); err != nil {
			t.Fatal(err)
		}
		for _, f := range d.Evidence.Features {
			if f.Name == "card.failures_1h" {
				got = append(got, string(f.Value.AppendJSON(nil)))
			}
		}
	}}
	if _, err := replay.Run(t.Context(), bytes.NewReader([]byte(file))); err != nil {
		t.Fatal(err)
	}
	if want := "0 1 0 1"; strings.Join(got, " ") != want {
		t.Errorf("failures of the card: %v, not %s", got, want)
	}
}

// A reload that adds windows, a where, an aggregate and a kind of entity gives
// exact values from the first payment after it; a bad ruleset changes nothing.
func TestAReloadIsWarmAtOnce(t *testing.T) {
	for _, store := range []string{"embedded", "redis"} {
		t.Run(store, func(t *testing.T) {
			g := startLive(t, func(c *pipeline.Config) {
				c.Rules = failureRules(t, "")
				if store == "redis" {
					useRedis(t, c)
				}
			})
			for i := range 5 {
				g.send(g.config.Topics.Transactions, 0, paid(fmt.Sprint("t-", i)))
			}
			g.decisions(5)
			g.send(g.config.Topics.Outcomes, 0, became("t-0", "technical_failure"), became("t-1", "settled"))
			g.probes("1", "card.failures_1h")
			asked := len(g.decisions(0))
			writeRules(t, g.config.Rules, map[string]string{"features/more.yaml": `features:
  - {entity: card, name: events, windows: [10m, 2h], value: count}
  - {entity: card, name: settled, windows: [2h], value: count, where: 'status == "settled"'}
  - {entity: card, name: amount, windows: [2h], value: sum}
  - {entity: card, name: channels, windows: [2h], value: distinct(channel)}
`})
			if err := g.service.Reload(g.within(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			g.send(g.config.Topics.Transactions, 0, paid("after"))
			s := g.decisions(asked + 1)["after"][0]
			for name, want := range map[string]string{"card.events_1h": fmt.Sprint(asked + 1), "card.events_10m": fmt.Sprint(asked + 1), "card.events_2h": fmt.Sprint(asked + 1),
				"card.settled_2h": "1", "card.amount_2h": fmt.Sprint(1250 * (asked + 1)), "card.channels_2h": "1", "card.failures_1h": "1"} {
				if got := g.feature(s, name); got != want {
					t.Errorf("%s is %s, not %s", name, got, want)
				}
			}
			writeRules(t, g.config.Rules, map[string]string{"rules/bad.yaml": "rules: [{id: x}]\n"})
			if err := g.service.Reload(g.within(10 * time.Second)); err == nil {
				t.Error("a bad ruleset is in force")
			}
			g.send(g.config.Topics.Transactions, 0, paid("still"))
			if d := g.decoded(g.decisions(asked + 2)["still"][0]); d.Versions.Rules != g.decoded(s).Versions.Rules {
				t.Errorf("the ruleset changed to %s", d.Versions.Rules)
			}
		})
	}
}
