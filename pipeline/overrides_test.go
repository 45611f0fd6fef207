package pipeline_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/rules"
)

// listedRules hold what is large, but for payers on the list vip, and block
// stolen cards.
func listedRules(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	writeRules(t, dir, map[string]string{
		// Tests send one payment under many ids, and on a busy machine, too, it is the rules that decide.
		"policy.yaml":       "duplicates: {verdict: approve}\ndecide_within: {payment: 5m}\n",
		"lists/stolen.yaml": "list: stolen\ntype: card\neffect: block\nentries: [{value: c-stolen, why: file}]\n",
		"lists/vip.yaml":    "list: vip\ntype: payer\nentries: []\n",
		"rules/large.yaml": "rules:\n  - {id: large, verdict: hold, when: 'amount > CNY(10)'}\n" +
			"exempt:\n  - {id: vips, when: 'in_list(payer, \"vip\")', from: {rules: [large]}}\n",
	})
	return dir
}

// changed is a control; more are its own fields.
func changed(id, kind, more string) string {
	return fmt.Sprintf(`{"v":1,"control_id":%q,"control":%q,"event_time":%q,"by":"test","why":"test",%s}`, id, kind, stamp(0), more)
}

// told is a decision in a few words: its verdict, what decided it, and which
// controls took part.
func told(d payment.Decision) string {
	words := []string{d.Verdict.String()}
	for _, r := range d.Reasons {
		words = append(words, r.Code)
	}
	words = append(words, d.Evidence.Exempt...)
	return strings.Join(append(words, d.Evidence.Controls...), " ")
}

// becomes sends payments to a partition until one is decided in the words that
// are waited for: when a member reads a control is nobody's to say. It returns
// how long that took.
func (g *liveGate) becomes(partition int, want string, changes ...string) time.Duration {
	g.t.Helper()
	last := ""
	began := time.Now()
	for time.Since(began) < 15*time.Second {
		before := len(g.read(g.config.Topics.Decisions, 0))
		id := fmt.Sprint("probe-", partition, "-", time.Now().UnixNano())
		g.send(g.config.Topics.Transactions, partition, paid(id, changes...))
		for _, s := range g.decisions(before + 1)[id] {
			if last = told(g.decoded(s)); last == want {
				return time.Since(began)
			}
		}
	}
	g.t.Fatalf("payments are %q, not %q", last, want)
	return 0
}

// isAtOnce sends one payment, whose decision must have the words.
func (g *liveGate) isAtOnce(partition int, want string) {
	g.t.Helper()
	before := len(g.read(g.config.Topics.Decisions, 0))
	id := fmt.Sprint("first-", time.Now().UnixNano())
	g.send(g.config.Topics.Transactions, partition, paid(id))
	if got := told(g.decoded(g.decisions(before + 1)[id][0])); got != want {
		g.t.Errorf("the first payment is %q, not %q", got, want)
	}
}

// Each kind of control takes effect on payments that come after it, live and over
// a restart, on either store.
func TestControlsChangeVerdictsAtRunTime(t *testing.T) {
	for _, store := range []string{"embedded", "redis"} {
		t.Run(store, func(t *testing.T) {
			g := startLive(t, func(c *pipeline.Config) {
				c.Rules = listedRules(t)
				if store == "redis" {
					useRedis(t, c)
				}
			})
			hour := `,"until":"` + stamp(time.Hour) + `"`
			for i, c := range []struct{ control, more, want, then string }{
				{"list_add", `"list":"stolen","value":"c-1"` + hour, "block LIST_STOLEN LARGE k-0", "block LIST_STOLEN LARGE k-0"},
				{"list_remove", `"list":"stolen","value":"c-1"`, "hold LARGE", ""},
				{"list_add", `"list":"vip","value":"u-1"` + hour, "approve vips k-2", "approve vips k-2"},
				{"list_remove", `"list":"vip","value":"u-1"`, "hold LARGE", ""},
				{"rule_disable", `"rule":"large"` + hour, "approve k-4", "approve k-4"},
				{"rule_enable", `"rule":"large"`, "hold LARGE", ""},
				{"snooze", `"rule":"large","match":{"payer":"u-1","card":"c-1"}` + hour, "approve k-6", "approve k-6"},
			} {
				g.send(g.config.Topics.Controls, 0, changed(fmt.Sprint("k-", i), c.control, c.more))
				g.becomes(0, c.want)
				if c.then != "" {
					g.restart(nil)
					g.isAtOnce(1, c.then)
				}
			}
			g.becomes(0, "hold LARGE", `"token":"c-1"`, `"token":"c-2"`) // not of the snooze
			g.becomes(0, "block LIST_STOLEN LARGE", `"token":"c-1"`, `"token":"c-stolen"`)
		})
	}
}

// What was said counts from its effective_at until its end by the event time of
// payments, whenever they are decided; a replay of the same records agrees.
func TestLiveAndReplayAgreeOnControls(t *testing.T) {
	g := startLive(t, func(c *pipeline.Config) { c.Rules = listedRules(t) })
	now := time.Now().UTC().Truncate(time.Second)
	at := func(minutes int) string {
		return now.Add(time.Duration(minutes) * time.Minute).Format(time.RFC3339)
	}
	span := func(from, until int) string {
		return fmt.Sprintf(`,"effective_at":%q,"until":%q`, at(from), at(until))
	}
	controls := []string{
		changed("k-1", "snooze", `"rule":"large","match":{"payer":"u-1"}`+span(-30, 2)),
		changed("k-2", "list_add", `"list":"stolen","value":"c-1"`+span(-20, 1)),
		changed("k-3", "list_remove", fmt.Sprintf(`"list":"stolen","value":"c-1","effective_at":%q`, at(-10))),
		changed("k-4", "rule_disable", `"rule":"large"`+span(-50, 3)),
		changed("k-5", "rule_enable", fmt.Sprintf(`"rule":"large","effective_at":%q`, at(-40))),
		changed("k-1", "snooze", `"rule":"large","match":{"payer":"u-1"}`+span(-30, 200)), // its id was there
		changed("k-6", "list_add", `"list":"vip","value":"u-7"`),
	}
	g.send(g.config.Topics.Controls, 0, controls...)
	g.becomes(0, "approve vips k-6", `"u-1"`, `"u-7"`) // all are read
	var payments []string
	want := map[string]string{}
	for _, c := range []struct {
		minutes int
		want    string
	}{
		{-51, "hold LARGE"}, {-50, "approve k-4"}, {-41, "approve k-4"}, {-40, "hold LARGE"}, {-31, "hold LARGE"}, {-30, "approve k-1"}, {-21, "approve k-1"},
		{-20, "block LIST_STOLEN k-2 k-1"}, {-11, "block LIST_STOLEN k-2 k-1"}, {-10, "approve k-1"}, {1, "approve k-1"}, {2, "hold LARGE"}, {4, "hold LARGE"},
	} {
		id := fmt.Sprint("t", c.minutes)
		payments = append(payments, fmt.Sprintf(`{"transaction_id":%q,"type":"payment","event_time":%q,"decide_by":%q,"amount":{"value":1250,"currency":"CNY"},"payer":{"account_id":"u-1"},"instrument":{"kind":"card","token":"c-1"}}`,
			id, at(c.minutes), at(60)))
		want[id] = c.want
	}
	before := len(g.read(g.config.Topics.Decisions, 0))
	g.send(g.config.Topics.Transactions, 0, payments...)
	lived := g.decisions(before + len(payments))
	g.restart(nil)
	again := fmt.Sprintf(`"transaction_id":"again%s"`, "-21")
	g.send(g.config.Topics.Transactions, 0, strings.Replace(payments[6], `"transaction_id":"t-21"`, again, 1))
	if got := told(g.decoded(g.decisions(before + len(payments) + 1)["again-21"][0])); got != want["t-21"] {
		t.Errorf("after a restart, of another time: %s", got)
	}

	set, err := rules.Load(g.config.Rules)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "decisions.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	replayed := 0
	config := pipeline.DefaultConfig()
	replay := pipeline.Replay{Rules: set, Evidence: pipeline.EvidenceAll, Limits: config.Limits(), Windows: config.Windows, Decisions: out, Decided: func(b []byte) {
		replayed++
		d := g.decoded(said{value: string(b)})
		live := lived[d.TransactionID][0]
		if got := told(d); got != want[d.TransactionID] || !bytes.Equal(canonical(b), canonical([]byte(live.value))) {
			t.Errorf("%s: %s, want %s\nlive   %s\nreplay %s", d.TransactionID, got, want[d.TransactionID], live.value, b)
		}
	}}
	if _, err := replay.Run(t.Context(), strings.NewReader(strings.Join(append(controls, payments...), "\n"))); err != nil || replayed != len(payments) {
		t.Errorf("%d decisions, %v", replayed, err)
	}
}

// Members that share a store each read what people say, and decide alike within
// seconds; one that joins later too.
func TestMembersHearOfControlsWithinSeconds(t *testing.T) {
	first := startLive(t, func(c *pipeline.Config) {
		c.Rules = listedRules(t)
		useRedis(t, c)
	})
	second := startLiveOn(t, first.config.Kafka.Brokers[0], func(c *pipeline.Config) { *c = first.config })
	first.becomes(0, "hold LARGE")
	first.becomes(1, "hold LARGE")
	for began := time.Now(); !first.service.Ready() || !second.service.Ready(); time.Sleep(5 * time.Millisecond) { // no event tells that both have partitions
		if time.Since(began) > 20*time.Second {
			t.Fatal("the members do not share the partitions")
		}
	}
	first.send(first.config.Topics.Controls, 0, changed("k-1", "list_add", `"list":"stolen","value":"c-1"`))
	for p := range 2 {
		if took := first.becomes(p, "block LIST_STOLEN LARGE k-1"); took > 5*time.Second {
			t.Errorf("partition %d hears of it after %v", p, took)
		}
	}
	first.stop() // the other one takes its partition over
	second.becomes(0, "block LIST_STOLEN LARGE k-1")
	second.becomes(1, "block LIST_STOLEN LARGE k-1")
}

// alerts gathers what a gate alerts.
type alerts struct {
	mu  sync.Mutex
	all []string
}

func (a *alerts) take(code payment.AlertCode, summary string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, code.String()+": "+summary)
}

func (a *alerts) await(t *testing.T, code, part string) {
	t.Helper()
	for began := time.Now(); time.Since(began) < 15*time.Second; time.Sleep(5 * time.Millisecond) {
		a.mu.Lock()
		for _, s := range a.all {
			if strings.HasPrefix(s, code+": ") && strings.Contains(s, part) {
				a.mu.Unlock()
				return
			}
		}
		a.mu.Unlock()
	}
	t.Errorf("no alert %s about %s: %q", code, part, a.all)
}

func TestControlsThatCannotBeUsedAreRefusedAndAlerted(t *testing.T) {
	var heard alerts
	g := startLive(t, func(c *pipeline.Config) { c.Rules = listedRules(t) })
	g.prepare = func(s *pipeline.Service) { s.Gate().Controls.Alert = heard.take }
	g.restart(nil)
	g.becomes(0, "hold LARGE")
	refused := []string{
		changed("k-1", "list_add", `"list":"stolen"`),
		changed("k-2", "list_add", `"list":"stolen","value":"c-1","effective_at":"2026-01-01T00:00:00Z","until":"2026-01-02T00:00:00Z"`),
		changed("k-3", "ruleset_activate", `"ruleset":"latest"`),
	}
	g.send(g.config.Topics.Controls, 0, refused...)
	for i, letter := range g.read(g.config.Topics.DeadLetters, len(refused)) {
		want := []string{"missing_field value", "expired until", "bad_hash ruleset"}[i]
		if got := letter.headers["reason"] + " " + letter.headers["field"]; got != want || letter.value != refused[i] {
			t.Errorf("%s\nis a dead letter for %s, not %s", letter.value, got, want)
		}
	}
	heard.await(t, "control_refused", "value: missing_field")
	heard.await(t, "control_refused", "until: expired")

	// What names nothing that there is now is kept: a reload brings the list.
	g.send(g.config.Topics.Controls, 0, changed("k-4", "list_add", `"list":"found","value":"c-1"`), changed("k-5", "rule_disable", `"rule":"lrage","until":"`+stamp(time.Hour)+`"`))
	heard.await(t, "control_refused", `no list "found"`)
	heard.await(t, "control_refused", "did you mean large?")
	g.becomes(0, "hold LARGE")
	writeRules(t, g.config.Rules, map[string]string{"lists/found.yaml": "list: found\ntype: card\neffect: block\nentries: []\n"})
	if err := g.service.Reload(g.within(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	g.becomes(0, "block LIST_FOUND LARGE k-4")
}

// A ruleset that was loaded before is put in force by a control: it stays over a
// restart and over a reload of the folder, until another one is activated.
func TestAnActivatedRulesetStaysUntilAnotherOneIs(t *testing.T) {
	var heard alerts
	g := startLive(t, func(c *pipeline.Config) { c.Rules = listedRules(t) })
	g.prepare = func(s *pipeline.Service) { s.Gate().Controls.Alert = heard.take }
	g.restart(nil)
	g.becomes(0, "hold LARGE")
	old := g.service.Gate().Rules.Hash()
	writeRules(t, g.config.Rules, map[string]string{"rules/large.yaml": "rules:\n  - {id: large, verdict: block, when: 'amount > CNY(10)'}\n"})
	reload := func() {
		t.Helper()
		if err := g.service.Reload(g.within(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	reload()
	g.becomes(0, "block LARGE")
	folder := g.service.Gate().Rules.Hash()

	g.send(g.config.Topics.Controls, 0, changed("k-1", "ruleset_activate", fmt.Sprintf(`"ruleset":%q`, old)))
	g.becomes(0, "hold LARGE")
	reload()
	g.becomes(1, "hold LARGE")
	g.restart(nil)
	g.becomes(0, "hold LARGE")
	if g.service.Gate().Rules.Hash() != old {
		t.Errorf("%s is in force, not %s", g.service.Gate().Rules.Hash(), old)
	}
	unknown := "sha256:" + strings.Repeat("0", 64)
	g.send(g.config.Topics.Controls, 0, changed("k-2", "ruleset_activate", fmt.Sprintf(`"ruleset":%q`, unknown)))
	heard.await(t, "bad_ruleset", unknown)
	g.becomes(0, "hold LARGE")
	g.send(g.config.Topics.Controls, 0, changed("k-3", "ruleset_activate", fmt.Sprintf(`"ruleset":%q`, folder)))
	g.becomes(0, "block LARGE")
}

// Activated in the place of one ruleset, it ends with the next one that is deployed.
func TestARulesetActivatedInPlaceOfOneEndsWithTheNextDeploy(t *testing.T) {
	g := startLive(t, func(c *pipeline.Config) { c.Rules = listedRules(t) })
	g.becomes(0, "hold LARGE")
	old := g.service.Gate().Rules.Hash()
	deploy := func(verdict string) {
		t.Helper()
		writeRules(t, g.config.Rules, map[string]string{"rules/large.yaml": "rules:\n  - {id: large, verdict: " + verdict + ", when: 'amount > CNY(10)'}\n"})
	}
	deploy("block")
	g.restart(nil)
	g.becomes(0, "block LARGE")
	bad := g.service.Gate().Rules.Hash()
	g.send(g.config.Topics.Controls, 0, changed("k-1", "ruleset_activate", fmt.Sprintf(`"ruleset":%q,"instead_of":%q`, old, bad)))
	g.becomes(0, "hold LARGE")
	g.restart(nil)
	g.becomes(0, "hold LARGE")
	deploy("hold, points: 1")
	if err := g.service.Reload(g.within(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := g.service.Gate().Rules.Hash(); got == old || got == bad {
		t.Errorf("%s is in force", got)
	}
	g.becomes(0, "hold LARGE")
}
