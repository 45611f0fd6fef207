package rules

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Random conditions on random inputs: what the trace says of a rule is what an
// evaluator finds, and its parts make up the whole.
func TestATraceSaysWhatTheEvaluatorFinds(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	found := map[Came]int{}
	for range 400 {
		condition := generator{random}.truth(4)
		set, err := ruleFor(condition)
		if err != nil {
			continue // constant: TestClosuresAgreeWithTheirOracles knows which may be
		}
		e, tracer := set.NewEvaluator(), set.NewTracer()
		var d payment.Decision
		for i := range 15 {
			in, env := randomInput(random, i%2 == 0)
			d.Reset()
			e.Decide(in, &d)
			r := tracer.Trace(in).Rules[0]
			found[r.Came]++
			if want := cameOf(e, 0, CameMiss); r.Came != want {
				t.Fatalf("%s: traced as %s, evaluated to %s, on %v", condition, r.Came, want, env)
			}
			if want := map[Came]ClauseTruth{CameHit: TruthTrue, CameMiss: TruthFalse, CameUnknown: TruthUnknown}[r.Came]; r.Condition.Came != want {
				t.Fatalf("%s: a %s, and the condition is %s, on %v", condition, r.Came, r.Condition.Came, env)
			}
			if (len(r.Condition.Missing()) == 0) != (r.Came == CameHit) || (r.Distance == 0) != (r.Came == CameHit) {
				t.Fatalf("%s: a %s at the distance %v lacks %d clauses", condition, r.Came, r.Distance, len(r.Condition.Missing()))
			}
			checkParts(t, r.Condition)
		}
	}
	for _, came := range []Came{CameHit, CameMiss, CameUnknown} {
		if found[came] < 300 {
			t.Errorf("only %d of %s", found[came], came)
		}
	}
}

// cameOf is what became of a rule in an evaluator, another one where it is in no list.
func cameOf(e *Evaluator, rule int, another Came) Came {
	switch {
	case slices.Contains(e.Hits(), rule):
		return CameHit
	case slices.Contains(e.Unknown(), rule):
		return CameUnknown
	case slices.Contains(e.Failed(), rule):
		return CameFailed
	}
	return another
}

// checkParts combines the parts of each clause as SQL does.
func checkParts(t *testing.T, c *ClauseTrace) {
	t.Helper()
	if c.Op == "" {
		switch {
		case c.Came == TruthUnknown && !slices.ContainsFunc(c.Operands, func(o Operand) bool { return o.Absent != "" }):
			t.Errorf("%s is unknown, and nothing that it looks at is absent: %+v", c.Text, c.Operands)
		case (c.Needs == "") != (c.holds() || c.Came == TruthUnknown):
			t.Errorf("%s came out %s, wanted %t, and needs %q", c.Text, c.Came, c.Wanted, c.Needs)
		}
		return
	}
	came := map[ClauseTruth]int{}
	for i := range c.Parts {
		checkParts(t, &c.Parts[i])
		came[c.Parts[i].Came]++
	}
	want := TruthUnknown
	switch {
	case c.Op == "not":
		want = map[ClauseTruth]ClauseTruth{TruthTrue: TruthFalse, TruthFalse: TruthTrue, TruthUnknown: TruthUnknown}[c.Parts[0].Came]
	case c.Op == "and" && came[TruthFalse] > 0, c.Op == "or" && came[TruthTrue]+came[TruthUnknown] == 0:
		want = TruthFalse
	case c.Op == "or" && came[TruthTrue] > 0, c.Op == "and" && came[TruthUnknown] == 0:
		want = TruthTrue
	}
	if c.Came != want {
		t.Errorf("%s: %s, and its parts make it %s", c.Text, c.Came, want)
	}
}

// Every rule of a ruleset, with its modes, exempts, lists and overrides: the
// trace sorts them as the decision does.
func TestATraceKnowsWhatBecameOfEachRule(t *testing.T) {
	set := loadFixture(t)
	e, tracer := set.NewEvaluator(), set.NewTracer()
	in, tx := ordinary(t, set)
	in.Overrides = said(t, set, `"control":"list_add","list":"vip","value":"u-2","why":"w"`,
		`"control":"rule_disable","rule":"burst","why":"w","until":"2027-01-01T00:00:00Z"`,
		`"control":"snooze","rule":"dormant","why":"w","until":"2027-01-01T00:00:00Z","match":{"payer":"u-1"}`)
	random := rand.New(rand.NewPCG(5, 6))
	usual, found := slices.Clone(in.Features), map[Came]int{}
	var d payment.Decision
	for range 300 {
		in.Features = slices.Clone(usual)
		for i := range in.Features {
			switch v := &in.Features[i]; {
			case random.IntN(8) == 0:
				*v = payment.Value{}
			case v.Kind() == payment.Int && random.IntN(2) == 0:
				*v = payment.IntValue(v.Int() * random.Int64N(40))
			case v.Kind() == payment.Float && random.IntN(2) == 0:
				*v = payment.FloatValue(v.Float() * float64(random.IntN(2000)))
			}
		}
		tx.Payer.AccountID = []string{"u-1", "u-2", "u-vip"}[random.IntN(3)]
		tx.Channel = []string{"web", "pos", "qr"}[random.IntN(3)]
		tx.Type = payment.Type(1 + random.IntN(2))
		in.Amount = random.Int64N(2_000_000)
		d.Reset()
		e.Decide(in, &d)
		trace := tracer.Trace(in)
		for i, r := range trace.Rules {
			found[r.Came]++
			want := cameOf(e, i, r.Came)
			if slices.Contains(e.Passed(), i) {
				want = CameOff
				if len(r.Condition.Missing()) == 0 && r.Control == "" {
					want = CameExempt
				}
			} else if want == r.Came && !slices.Contains([]Came{CameHit, CameMiss, CameUnknown, CameNotApplied, CameDisabled}, want) {
				t.Fatalf("%s is %s, and the evaluator has it nowhere", r.Rule, r.Came)
			}
			if r.Came != want {
				t.Fatalf("%s: traced as %s, evaluated to %s", r.Rule, r.Came, want)
			}
			if asked := r.Came != CameNotApplied && r.Came != CameDisabled; asked != (r.Condition != nil) {
				t.Fatalf("%s is %s, and its clauses are there: %t", r.Rule, r.Came, !asked)
			}
		}
		if got := traced(trace.Exempts); !slices.Equal(got, d.Evidence.Exempt) {
			t.Fatalf("exempts %v took part, and the trace has %v", d.Evidence.Exempt, got)
		}
		if slices.Sort(trace.Controls); !slices.Equal(trace.Controls, slices.Sorted(slices.Values(d.Evidence.Controls))) {
			t.Fatalf("controls %v took part, and the trace has %v", d.Evidence.Controls, trace.Controls)
		}
		if len(trace.Reasons) != len(d.Reasons) {
			t.Fatalf("%d reasons, and the trace has %d", len(d.Reasons), len(trace.Reasons))
		}
	}
	for _, came := range []Came{CameHit, CameMiss, CameUnknown, CameExempt, CameOff, CameNotApplied, CameDisabled} {
		if found[came] < 5 {
			t.Errorf("only %d of %s: %v", found[came], came, found)
		}
	}
}

// traced are the exempts in force.
func traced(all []ExemptTrace) (ids []string) {
	for _, x := range all {
		if x.InForce {
			ids = append(ids, x.Exempt)
		}
	}
	return ids
}

// What a clause says that it lacked, in the units of the rule.
func TestAClauseSaysWhatItNeeds(t *testing.T) {
	in := bare()
	in.Features[0], in.Features[2], in.Features[3], in.Features[4] = payment.IntValue(4), payment.FloatValue(0.25), payment.IntValue(12_50), payment.FloatValue(250.5)
	in.Tx.Payer.Country, in.Tx.Channel = "CN", "pos"
	in.Tx.AuthMethods = []string{"otp", "face"}
	for _, c := range []struct{ condition, want string }{
		{"card.a_1h >= 5", "card.a_1h was 4, needs at least 5"},
		{"5 <= card.a_1h", "card.a_1h was 4, needs at least 5"},
		{"not (card.a_1h < 5)", "card.a_1h was 4, needs at least 5"},
		{"card.a_1h == 7", "card.a_1h was 4, needs 7"},
		{"card.a_1h != 4", "card.a_1h was 4, needs anything but 4"},
		{"card.a_1h in 6..9", "card.a_1h was 4, needs 6 to 9"},
		{"card.a_1h not in [4, 5]", "card.a_1h was 4, needs none of 4, 5"},
		{"card.share_1h > 0.5", "card.share_1h was 0.25, needs more than 0.5"},
		{"amount > CNY(100)", "amount was CNY 12.50, needs more than CNY 100.00"},
		{"amount > 6 * card.m_1h", "amount was CNY 12.50, needs more than CNY 15.03 (6 * card.m_1h)"},
		{"amount_original > CNY(20)", "amount_original was CNY 12.50, needs more than CNY 20.00"},
		{"2 * (card.a_1h + 1) > 10", "2 * (card.a_1h + 1) was 10, needs more than 10"},
		{`payer.country != "CN"`, `payer.country was CN, needs anything but "CN"`},
		{`channel in ["web", "qr"]`, `channel was pos, needs one of "web", "qr"`},
		{`"push" in auth.methods`, `"push" was push, needs one of auth.methods`},
		{`channel startsWith "w"`, `channel was pos, needs to start with "w"`},
		{`not (channel matches "^p")`, `channel was pos, needs to not match "^p"`},
		{"has(payer.email)", "payer.email was absent, needs to be there"},
		{"not has(payer.country)", "payer.country was CN, needs to be absent"},
		{`time_between("00:00", "06:00")`, `local time was 23:30 Asia/Shanghai, needs from 00:00 until before 06:00`},
		{`card.a_1h >= 5 and channel == "web"`, `card.a_1h was 4, needs at least 5; channel was pos, needs "web"`},
		{`card.a_1h >= 5 or channel == "web"`, "card.a_1h was 4, needs at least 5"}, // the nearer one
		{"card.a_1h >= 4 and (card.a_1h >= 400 or amount < CNY(12))", "amount was CNY 12.50, needs less than CNY 12.00"},
	} {
		set, err := ruleFor(c.condition)
		if err != nil {
			t.Errorf("%s: %v", c.condition, err)
			continue
		}
		var got []string
		for _, missing := range set.NewTracer().Trace(in).Rules[0].Condition.Missing() {
			got = append(got, missing.Needs)
		}
		if s := strings.Join(got, "; "); s != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.condition, s, c.want)
		}
	}
}

// Of three rules the one that lacks the least is the nearest.
func TestTheNearestRuleLacksTheLeast(t *testing.T) {
	set, err := LoadFS(fstest.MapFS{"features/a.yaml": {Data: []byte(testFeatures)}, "rules/a.yaml": {Data: []byte(`rules:
  - {id: a, points: 1, when: 'card.a_1h >= 100'}
  - {id: b, points: 1, when: 'card.a_1h >= 5'}
  - {id: c, points: 1, when: 'card.a_1h >= 5 and amount > CNY(99)'}
  - {id: d, points: 1, when: 'card.a_1h >= 1'}
`)}})
	if err != nil {
		t.Fatal(err)
	}
	in := bare()
	in.Features[0] = payment.IntValue(4)
	if got := fmt.Sprint(set.NewTracer().Trace(in).Nearest); got != "[b a c]" {
		t.Errorf("the nearest are %s", got)
	}
}
