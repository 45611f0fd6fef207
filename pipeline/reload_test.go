package pipeline_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/rules"
	"golang.org/x/sync/errgroup"
)

// verdictRules writes a ruleset of one rule, large, with a verdict.
func verdictRules(t *testing.T, dir, verdict string) {
	t.Helper()
	writeRules(t, dir, map[string]string{
		"policy.yaml":      "duplicates: {verdict: approve}\ndecide_within: {payment: 5m}\n",
		"rules/large.yaml": "rules:\n  - {id: large, verdict: " + verdict + ", when: 'amount > CNY(10)'}\n",
	})
}

// eventually waits for what nobody tells of.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for began := time.Now(); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("it never comes to this: %s", what)
		}
	}
}

// A gate whose folder holds a mistake starts with the last good ruleset of that folder, says so everywhere, and turns
// to the folder once it is mended.
func TestABrokenFolderStartsWithTheLastGoodRuleset(t *testing.T) {
	g := startLive(t, func(c *pipeline.Config) {
		c.Rules, c.Notices.Enabled = t.TempDir(), false // its only alerts are about the ruleset
		verdictRules(t, c.Rules, "hold")
	})
	g.isAtOnce(0, "hold LARGE")
	good := g.service.Rulesets().InForce
	if good.By != pipeline.ByFolder || good.Ruleset != g.service.Gate().Rules.Hash() {
		t.Fatalf("in force is %+v", good)
	}
	writeRules(t, g.config.Rules, map[string]string{"rules/large.yaml": "rules:\n  - {id: large, verdict: hold, when: 'amuont > CNY(10)'}\n"})
	g.restart(func(c *pipeline.Config) {
		c.Reload = pipeline.ReloadConfig{Watch: true, Poll: 50 * time.Millisecond, Quiet: 20 * time.Millisecond, AtMost: time.Second}
	})
	g.isAtOnce(0, "hold LARGE")
	r := g.service.Rulesets()
	if r.InForce != good || r.Holds != good.Ruleset || r.Refused == nil || len(r.Refused.Problems) != 1 || r.Refused.Problems[0].Line != 2 {
		t.Errorf("reported is %+v", r)
	}
	if !g.service.Ready() {
		t.Error("a mistake in a file makes the gate not ready")
	}
	if g.gathered("sluice_ruleset_refused_since_seconds{}") == 0 || g.gathered("sluice_ruleset_reloads_total{result=last_good}") != 1 {
		t.Error("no metric says that the folder was refused")
	}
	alert := g.read(g.config.Topics.Alerts, 1)[0]
	if alert.key != "bad_ruleset" || !strings.Contains(alert.value, "rules/large.yaml:2:") || !strings.Contains(alert.value, `"state":"firing"`) {
		t.Errorf("alerted is %s", alert.value)
	}

	verdictRules(t, g.config.Rules, "block")
	g.becomes(0, "block LARGE")
	if r := g.service.Rulesets(); r.Refused != nil || r.Holds != r.InForce.Ruleset {
		t.Errorf("reported is %+v", r)
	}
	if all := g.read(g.config.Topics.Alerts, 2); !strings.Contains(all[1].value, `"state":"resolved"`) {
		t.Errorf("alerted are %+v", all)
	}
	if g.gathered("sluice_ruleset_refused_since_seconds{}") != 0 {
		t.Error("a folder that was mended is still refused")
	}
}

// Without a last good ruleset of this folder, a broken one stops the start, and is told whole.
func TestABrokenFolderWithoutALastGoodRulesetStopsTheStart(t *testing.T) {
	config := pipeline.DefaultConfig()
	config.Store, config.Rules = pipeline.MemoryStore, t.TempDir()
	start := func() error {
		s, err := pipeline.NewService(t.Context(), config, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(t.Output(), nil)))
		if err == nil {
			err = s.Gate().Store.Close()
		}
		return err
	}
	kept := t.TempDir()
	config.RulesKept = kept
	verdictRules(t, config.Rules, "hold")
	if err := start(); err != nil {
		t.Fatal(err)
	}
	breakRules := func() {
		writeRules(t, config.Rules, map[string]string{"rules/large.yaml": "rules: [{id: large}]\n"})
	}
	breakRules()
	if err := start(); err != nil {
		t.Fatalf("with a last good one: %v", err)
	}
	fails := func(what string) {
		t.Helper()
		if problems := (rules.Problems)(nil); !errors.As(start(), &problems) || len(problems) == 0 {
			t.Errorf("%s, it starts, or does not say what is wrong", what)
		}
	}
	config.RulesKept = "none"
	fails("where no rulesets are kept")
	config.RulesKept = t.TempDir()
	fails("where none was kept yet")
	config.RulesKept, config.Rules = kept, t.TempDir()
	breakRules()
	fails("where the last good one is that of another folder")
}

// The files of the folder are the ruleset in force some moments later, without anybody saying so; bad ones are not.
func TestTheRulesetFollowsItsFolder(t *testing.T) {
	g := startLive(t, func(c *pipeline.Config) {
		c.Rules = t.TempDir()
		c.Reload = pipeline.ReloadConfig{Watch: true, Poll: 50 * time.Millisecond, Quiet: 20 * time.Millisecond, AtMost: time.Second}
		verdictRules(t, c.Rules, "hold")
	})
	g.becomes(0, "hold LARGE")
	verdictRules(t, g.config.Rules, "block")
	g.becomes(0, "block LARGE")
	writeRules(t, g.config.Rules, map[string]string{"rules/large.yaml": "rules: [{"})
	eventually(t, "the bad file is refused", func() bool { return g.service.Rulesets().Refused != nil })
	g.isAtOnce(0, "block LARGE")
	verdictRules(t, g.config.Rules, "hold")
	g.becomes(0, "hold LARGE")
	if r := g.service.Rulesets(); r.Refused != nil {
		t.Errorf("reported is %+v", r)
	}
}

// The record says which ruleset came into force when and by what, over restarts, which are no switches.
func TestTheRecordOfRulesetsOutlivesRestarts(t *testing.T) {
	g := startLive(t, func(c *pipeline.Config) {
		c.Rules = t.TempDir()
		verdictRules(t, c.Rules, "hold")
	})
	g.becomes(0, "hold LARGE")
	first := g.service.Gate().Rules.Hash()
	verdictRules(t, g.config.Rules, "block")
	if err := g.service.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.becomes(0, "block LARGE")
	second := g.service.Gate().Rules.Hash()
	g.send(g.config.Topics.Controls, 0, fmt.Sprintf(`{"v":1,"control_id":"k-1","control":"ruleset_activate","event_time":%q,"by":"nina","why":"blocks everybody","ruleset":%q,"instead_of":%q}`, stamp(0), first, second))
	g.becomes(0, "hold LARGE")
	want := []string{first + " control k-1 nina blocks everybody", second + " folder   ", first + " folder   "}
	check := func(when string) {
		t.Helper()
		r := g.service.Rulesets()
		var got []string
		for i, s := range r.History {
			got = append(got, strings.Join([]string{s.Ruleset, s.By, s.Control, s.Actor, s.Why}, " "))
			if i > 0 && s.Since.After(r.History[i-1].Since) || s.Since.Before(time.Now().Add(-time.Hour)) {
				t.Errorf("%s: switched at %v", when, s.Since)
			}
		}
		if !slices.Equal(got, want) || r.InForce != r.History[0] || r.Holds != second {
			t.Errorf("%s: the record is %q, want %q; %+v", when, got, want, r)
		}
		if !slices.Contains(r.Kept, first) || !slices.Contains(r.Kept, second) {
			t.Errorf("%s: kept are %q", when, r.Kept)
		}
	}
	check("live")
	g.restart(nil)
	g.isAtOnce(0, "hold LARGE")
	check("after a restart")
}

const manyReloads = 1000

// A thousand reloads while payments flow: each payment gets one verdict, by one ruleset and by its features alone, and
// nothing grows.
func TestAThousandReloadsUnderLoadMixNothingAndLoseNothing(t *testing.T) {
	root := t.TempDir()
	hashes := map[string]string{} // to the letter
	for _, of := range []string{"a", "b"} {
		value, when := "count", "payer.of_a_1h >= 1"
		if of == "b" { // in the same slot there is another value
			value, when = "sum", "payer.of_b_1h > CNY(1)"
		}
		dir := filepath.Join(root, of)
		writeRules(t, dir, map[string]string{
			"policy.yaml":         "duplicates: {verdict: approve}\ndecide_within: {payment: 5m}\n",
			"features/payer.yaml": fmt.Sprintf("features: [{entity: payer, name: of_%s, windows: [1h], value: %s}]\n", of, value),
			"rules/one.yaml":      fmt.Sprintf("rules:\n  - {id: of-%s, verdict: hold, reason: OF_%s, when: '%s'}\n", of, strings.ToUpper(of), when),
		})
		set, err := rules.Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		hashes[set.Hash()] = of
	}
	link := filepath.Join(root, "ruleset")
	deploy := func(n int) {
		t.Helper()
		draft := link + ".tmp"
		if err := errors.Join(os.Symlink([]string{"a", "b"}[n%2], draft), os.Rename(draft, link)); err != nil {
			t.Fatal(err)
		}
	}
	deploy(0)
	g := startLive(t, func(c *pipeline.Config) { c.Rules = link })
	g.isAtOnce(0, "hold OF_A")

	batches := make(chan int, 2)
	fed := make(chan error, 1)
	const each = 3
	ctx := g.within(5 * time.Minute)
	go func() {
		var failed error
		for n := range batches {
			for p := range 2 {
				var messages []broker.Message
				for i := range each {
					messages = append(messages, broker.Message{Key: []byte("k"), Value: []byte(paid(fmt.Sprintf("t-%d-%d-%d", p, n, i), `"u-1"`, fmt.Sprintf(`"u-1%d"`, p)))})
				}
				failed = errors.Join(failed, g.conn.Produce(ctx, g.config.Topics.Transactions, p, messages))
			}
		}
		fed <- failed
	}()
	goroutines := runtime.NumGoroutine()
	for n := range manyReloads {
		batches <- n
		deploy(n + 1)
		if err := g.service.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	close(batches)
	if err := <-fed; err != nil {
		t.Fatal(err)
	}
	all := g.decisions(1 + manyReloads*2*each)
	if len(all) != 1+manyReloads*2*each {
		t.Errorf("%d payments have decisions, of %d", len(all), 1+manyReloads*2*each)
	}
	by, counted := map[string]int{}, map[int]int{}
	for _, s := range g.read(g.config.Topics.Decisions, 0) { // by partition and offset
		if n := len(all[s.headers["transaction_id"]]); n != 1 {
			t.Errorf("%s has %d decisions", s.headers["transaction_id"], n)
		}
		d := g.decoded(s)
		of := hashes[d.Versions.Rules]
		by[of]++
		if strings.HasPrefix(d.TransactionID, "first") {
			continue // of another payer
		}
		counted[s.partition]++
		n, value := counted[s.partition], counted[s.partition]
		if of == "b" {
			value *= 1250
		}
		if d.Verdict != payment.Hold || len(d.Reasons) != 1 || d.Reasons[0].Rule != "of-"+of || d.Reasons[0].Code != "OF_"+strings.ToUpper(of) ||
			len(d.Evidence.Features) != 1 || !strings.HasPrefix(d.Evidence.Features[0].Name, "payer.of_"+of) ||
			string(d.Evidence.Features[0].Value.AppendJSON(nil)) != fmt.Sprint(value) {
			t.Fatalf("the %dth payment of its payer, by ruleset %s: %s", n, of, s.value)
		}
	}
	if by["a"] < manyReloads/10 || by["b"] < manyReloads/10 {
		t.Errorf("decided by: %v", by)
	}

	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	rest := func(n int) int {
		t.Helper()
		for i := range n {
			deploy(i)
			if err := g.service.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		return heap()
	}
	before := rest(20)
	if grown := rest(300) - before; grown > 3<<20 {
		t.Errorf("300 reloads leave %d bytes behind", grown)
	}
	if n := runtime.NumGoroutine(); n > goroutines+20 {
		t.Errorf("%d goroutines, and there were %d", n, goroutines)
	}
	if n := g.gathered("sluice_ruleset_reloads_total{result=done}"); n != manyReloads+320 {
		t.Errorf("%v reloads are counted", n)
	}
}

// That an activated ruleset is missing stays said while it is, whatever the folder holds.
func TestAMissingRulesetIsAlertedUntilItIsNoLongerWanted(t *testing.T) {
	g := startLive(t, func(c *pipeline.Config) {
		c.Rules, c.Notices.Enabled = t.TempDir(), false
		verdictRules(t, c.Rules, "hold")
	})
	g.becomes(0, "hold LARGE")
	g.send(g.config.Topics.Controls, 0, changed("k-1", "ruleset_activate", `"ruleset":"sha256:`+strings.Repeat("0", 64)+`"`))
	g.read(g.config.Topics.Alerts, 1)
	verdictRules(t, g.config.Rules, "block")
	if err := g.service.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.becomes(0, "block LARGE") // the folder's, since nothing else is here
	if g.gathered("sluice_alerts_firing{code=bad_ruleset,severity=warning}") != 1 {
		t.Error("a good folder ends the alert about another ruleset that is missing")
	}
	g.send(g.config.Topics.Controls, 0, changed("k-2", "ruleset_activate", fmt.Sprintf(`"ruleset":%q`, g.service.Rulesets().Holds)))
	if all := g.read(g.config.Topics.Alerts, 2); !strings.Contains(all[0].value, `"state":"firing"`) || !strings.Contains(all[1].value, `"state":"resolved"`) {
		t.Errorf("alerted are %+v", all)
	}
}

// Of reloads that come together the last one counts: what is in force in the end is what the folder holds.
func TestReloadsThatComeTogetherEndWithWhatTheFolderHolds(t *testing.T) {
	root := t.TempDir()
	hashes := map[string]string{}
	for _, verdict := range []string{"hold", "block"} {
		verdictRules(t, filepath.Join(root, verdict), verdict)
		set, err := rules.Load(filepath.Join(root, verdict))
		if err != nil {
			t.Fatal(err)
		}
		hashes[verdict] = set.Hash()
	}
	link := filepath.Join(root, "ruleset")
	var deploying sync.Mutex
	last := ""
	deploy := func(verdict string) error {
		deploying.Lock()
		defer deploying.Unlock()
		last = verdict
		return errors.Join(os.Symlink(verdict, link+".tmp"), os.Rename(link+".tmp", link))
	}
	if err := deploy("hold"); err != nil {
		t.Fatal(err)
	}
	config := pipeline.DefaultConfig()
	config.Store, config.Rules, config.RulesKept = pipeline.MemoryStore, link, t.TempDir()
	service, err := pipeline.NewService(t.Context(), config, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = service.Gate().Store.Close() }()
	for range 20 {
		var work errgroup.Group
		for i := range 4 {
			work.Go(func() error {
				return errors.Join(deploy([]string{"hold", "block"}[i%2]), service.Reload(t.Context()))
			})
		}
		if err := work.Wait(); err != nil {
			t.Fatal(err)
		}
		if r := service.Rulesets(); r.InForce.Ruleset != hashes[last] || r.Holds != hashes[last] || service.Gate().Rules.Hash() != hashes[last] {
			t.Fatalf("the folder holds %s, and %+v is in force", hashes[last], r)
		}
	}
}

func TestSettingsOfReloadsHaveBounds(t *testing.T) {
	config := pipeline.DefaultConfig()
	config.Reload = pipeline.ReloadConfig{Poll: time.Millisecond, Quiet: 2 * time.Minute, AtMost: time.Minute}
	err := config.Validate()
	for _, key := range []string{"reload.poll: 1ms", "reload.quiet: 2m0s", "reload.at_most: 1m0s"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%v does not say %q", err, key)
		}
	}
	read, err := pipeline.LoadConfig("", []string{"SLUICE_RELOAD_WATCH=false", "SLUICE_RELOAD_POLL=2s", "SLUICE_RELOAD_QUIET=1s", "SLUICE_RELOAD_AT_MOST=5m"})
	if want := (pipeline.ReloadConfig{Poll: 2 * time.Second, Quiet: time.Second, AtMost: 5 * time.Minute}); err != nil || read.Reload != want {
		t.Errorf("%+v, %v", read.Reload, err)
	}
}
