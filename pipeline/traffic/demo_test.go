package traffic_test

import (
	"testing"

	"github.com/sluice-risk/sluice/deploy"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/traffic"
	"github.com/sluice-risk/sluice/pipeline/window"
	"github.com/sluice-risk/sluice/rules"
)

// TestDemoRulesetStopsFraudAndLetsPeoplePay holds the demo ruleset against the
// traffic that the sandbox makes.
func TestDemoRulesetStopsFraudAndLetsPeoplePay(t *testing.T) {
	set, err := rules.Load("../../deploy/rulesets/demo")
	if err != nil {
		t.Fatal(err)
	}
	stopsFraudAndLetsPeoplePay(t, set)
}

// TestAllRulesetsTogetherStopFraudAndLetPeoplePay holds what the sandbox decides by
// against the traffic that it makes.
func TestAllRulesetsTogetherStopFraudAndLetPeoplePay(t *testing.T) {
	set, err := rules.LoadFS(deploy.AllRulesets()...)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(set.RuleIDs()); n < 90 {
		t.Errorf("all rulesets together have %d rules", n)
	}
	stopsFraudAndLetsPeoplePay(t, set)
}

func stopsFraudAndLetsPeoplePay(t *testing.T, set *rules.Ruleset) {
	store, err := window.Open(window.Options{Features: set.Features(), Owner: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	evaluator := set.NewEvaluator()
	decoder := payment.Decoder{Limits: payment.DefaultLimits()}
	key := store.Key()

	all, stopped := map[traffic.Label]int{}, map[traffic.Label]int{}
	blocked := 0
	fired := map[string][2]int{} // rule to hits on genuine and on fraud
	ids := set.RuleIDs()
	var decision payment.Decision
	g := traffic.New(traffic.Config{Seed: 1, OutcomeSpeed: 2000})
	for range 500_000 {
		e := g.Next()
		if e.Kind == payment.RecordOutcome {
			var o payment.Outcome
			if refusal := decoder.Outcome(e.Value, e.Time, &o); refusal != nil {
				t.Fatalf("%v: %s", refusal, e.Value)
			}
			if err := store.Outcomes(t.Context(), []*window.OutcomeItem{{Outcome: &o, Since: e.Time, Known: true}}); err != nil {
				t.Fatal(err)
			}
			continue
		}
		var tx payment.Transaction
		if refusal := decoder.Transaction(e.Value, e.Time, &tx); refusal != nil {
			t.Fatalf("%v: %s", refusal, e.Value)
		}
		item := window.Item{Tx: &tx, KafkaTime: e.Time}
		if item.Base, item.Based = set.ToBase(tx.Amount); !item.Based {
			t.Fatalf("no rate: %s", e.Value)
		}
		if err := store.Append(t.Context(), []*window.Item{&item}); err != nil {
			t.Fatal(err)
		}
		decision.Reset()
		evaluator.Decide(&rules.Input{Tx: &tx, Amount: item.Base, HasAmount: true, Features: item.Values,
			Hash: func(k window.Kind) uint64 { return key.RefOf(k, &tx) }}, &decision)
		if failed := evaluator.Failed(); len(failed) > 0 {
			t.Fatalf("rule %s failed on %s", ids[failed[0]], e.Value)
		}
		all[e.Label]++
		if decision.Verdict != payment.Approve {
			stopped[e.Label]++
			if e.Label == traffic.Genuine && decision.Verdict == payment.Block {
				blocked++
			}
		}
		for _, i := range evaluator.Hits() {
			n := fired[ids[i]]
			if e.Label == traffic.Genuine {
				n[0]++
			} else {
				n[1]++
			}
			fired[ids[i]] = n
		}
	}

	frauds, caught := 0, 0
	for _, l := range traffic.Labels() {
		t.Logf("%-20s %6d of %6d stopped", l, stopped[l], all[l])
		frauds, caught = frauds+all[l], caught+stopped[l]
		if stopped[l]*2 < all[l] {
			t.Errorf("%s: only %d of %d stopped", l, stopped[l], all[l])
		}
	}
	for _, id := range ids {
		t.Logf("%-32s fired on %5d genuine, %5d fraudulent", id, fired[id][0], fired[id][1])
	}
	genuine := all[traffic.Genuine]
	t.Logf("fraud stopped: %d of %d; genuine stopped: %d, of them blocked: %d, of %d", caught, frauds, stopped[traffic.Genuine], blocked, genuine)
	if caught*100 < frauds*80 {
		t.Errorf("%d of %d frauds stopped, want at least 80 %%", caught, frauds)
	}
	if stopped[traffic.Genuine]*100 > genuine*2 {
		t.Errorf("%d of %d genuine transactions stopped, want at most 2 %%", stopped[traffic.Genuine], genuine)
	}
	if blocked*1000 > genuine {
		t.Errorf("%d of %d genuine transactions blocked, want at most one in a thousand", blocked, genuine)
	}
}
