package rules

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// saidAt is the event time of controls in these tests that name none, a day
// before the payments of bare and ordinary.
const saidAt = "2026-11-21T00:00:00Z"

// control reads a control; its id is k- and the number.
func control(t testing.TB, number int, fields string) *payment.Control {
	t.Helper()
	if !strings.Contains(fields, `"event_time"`) {
		fields += `,"event_time":"` + saidAt + `"`
	}
	at, _ := payment.ParseTime(saidAt)
	d := payment.Decoder{Limits: payment.DefaultLimits()}
	c := &payment.Control{}
	if refusal := d.Control(fmt.Appendf(nil, `{"control_id":"k-%d","by":"test",%s}`, number, fields), at, c); refusal != nil {
		t.Fatalf("%s: %v", fields, refusal)
	}
	return c
}

// said are the overrides that some controls make.
func said(t testing.TB, set *Ruleset, controls ...string) *Overrides {
	t.Helper()
	var log OverrideLog
	for i, c := range controls {
		if !log.Apply(control(t, i+1, c)) {
			t.Fatalf("%s changes nothing", c)
		}
	}
	return log.Overrides(set)
}

func TestEntriesComeAndGoAtRunTime(t *testing.T) {
	const add, remove = `"control":"list_add","list":"stolen-cards","why":"run time",`, `"control":"list_remove","list":"stolen-cards",`
	set := withLists(t, "", noRules, stolen)
	for _, c := range []struct {
		name     string
		controls []string
		card     string
		at       string
		want     string // the detail, "" where the payment is approved; then the controls
	}{
		{"nothing said", nil, "c-9", "2026-11-22T00:00:00Z", " []"},
		{"of the file", nil, "c-1", "2026-11-22T00:00:00Z", "CASE-88 []"},
		{"added", []string{add + `"value":"c-9"`}, "c-9", "2026-11-22T00:00:00Z", "run time [k-1]"},
		{"added, and another card", []string{add + `"value":"c-9"`}, "c-8", "2026-11-22T00:00:00Z", " []"},
		{"before it counts", []string{add + `"value":"c-9","effective_at":"2026-11-22T00:00:00Z"`}, "c-9", "2026-11-21T23:59:59.999999999Z", " []"},
		{"from when it counts", []string{add + `"value":"c-9","effective_at":"2026-11-22T00:00:00Z"`}, "c-9", "2026-11-22T00:00:00Z", "run time [k-1]"},
		{"at its end", []string{add + `"value":"c-9","until":"2026-11-23T00:00:00Z"`}, "c-9", "2026-11-23T00:00:00Z", " []"},
		{"before its end", []string{add + `"value":"c-9","until":"2026-11-23T00:00:00Z"`}, "c-9", "2026-11-22T23:59:59.999999999Z", "run time [k-1]"},
		{"added twice, one has ended", []string{add + `"value":"c-9"`, add + `"value":"c-9","until":"2026-11-22T00:00:00Z"`}, "c-9", "2026-11-23T00:00:00Z", "run time [k-1]"},
		{"taken off the file", []string{remove + `"value":"c-1"`}, "c-1", "2026-11-22T00:00:00Z", " [k-1]"},
		{"taken off the file, before that counts", []string{remove + `"value":"c-1","effective_at":"2026-11-23T00:00:00Z"`}, "c-1", "2026-11-22T00:00:00Z", "CASE-88 []"},
		{"taken off, then added", []string{remove + `"value":"c-1"`, add + `"value":"c-1"`}, "c-1", "2026-11-22T00:00:00Z", "run time [k-1 k-2]"},
		{"added, then taken off", []string{add + `"value":"c-9"`, remove + `"value":"c-9"`}, "c-9", "2026-11-22T00:00:00Z", " []"},
		{"added, taken off later, before that", []string{add + `"value":"c-9"`, remove + `"value":"c-9","effective_at":"2026-11-22T00:00:00Z"`}, "c-9", "2026-11-21T23:00:00Z", "run time [k-1]"},
		{"announced, and taken off before", []string{add + `"value":"c-9","effective_at":"2026-11-25T00:00:00Z"`, remove + `"value":"c-9"`}, "c-9", "2026-11-26T00:00:00Z", " []"},
		{"on the file and added", []string{add + `"value":"c-1"`}, "c-1", "2026-11-22T00:00:00Z", "CASE-88 []"},
	} {
		in := bare()
		in.Tx.Instrument.Kind, in.Tx.Instrument.Token = "card", c.card
		in.Tx.EventTime, _ = payment.ParseTime(c.at)
		in.Overrides = said(t, set, c.controls...)
		d := decided(set, in)
		detail := ""
		if len(d.Reasons) > 0 {
			detail = strings.TrimPrefix(d.Reasons[0].Detail, "on the list stolen-cards: ")
		}
		if got := fmt.Sprint(detail, " ", d.Evidence.Controls); got != c.want || (d.Verdict == payment.Block) != (detail != "") {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestNetworksComeAndGoAtRunTime(t *testing.T) {
	set := withLists(t, "", noRules, "list: l\ntype: ip\neffect: block\nentries: [{value: 10.0.0.0/8, why: wide}, {value: 10.1.0.0/16, why: narrow}]\n")
	const add, remove = `"control":"list_add","list":"l","why":"added",`, `"control":"list_remove","list":"l",`
	for _, c := range []struct {
		controls []string
		addr     string
		want     string
	}{
		{nil, "10.1.1.1", "narrow"},
		{[]string{remove + `"value":"10.1.0.0/16"`}, "10.1.1.1", "wide"},
		{[]string{remove + `"value":"10.0.0.0/8"`}, "10.1.1.1", "narrow"},
		{[]string{remove + `"value":"10.0.0.0/8"`}, "10.2.1.1", ""},
		{[]string{remove + `"value":"10.1.1.1"`}, "10.1.1.1", "narrow"}, // no such entry: what holds it stays
		{[]string{add + `"value":"::ffff:192.0.2.7"`}, "192.0.2.7", "added"},
		{[]string{add + `"value":"192.0.2.0/24"`, remove + `"value":"192.0.2.0/24"`}, "192.0.2.7", ""},
		{[]string{add + `"value":"2001:db8::/32"`}, "2001:db8::7", "added"},
		{[]string{add + `"value":"192.0.2.7"`, remove + `"value":"192.0.2.7/32"`}, "192.0.2.7", ""}, // the same, written otherwise
	} {
		in := bare()
		in.Tx.Device.Addr = netip.MustParseAddr(c.addr)
		in.Overrides = said(t, set, c.controls...)
		got := ""
		if d := decided(set, in); d.Verdict == payment.Block {
			got = strings.TrimPrefix(d.Reasons[0].Detail, "on the list l: ")
		}
		if got != c.want {
			t.Errorf("%v of %s: %q, want %q", c.controls, c.addr, got, c.want)
		}
	}
}

func TestAValueIsTakenOffHoweverItIsWritten(t *testing.T) {
	set := withLists(t, "", noRules, "list: l\ntype: email\neffect: block\nentries: [{value: In.File@example.com}]\n")
	for _, controls := range [][]string{
		{`"control":"list_add","list":"l","why":"w","value":"Some.One@example.com"`, `"control":"list_remove","list":"l","value":"some.one@EXAMPLE.com"`},
		{`"control":"list_remove","list":"l","value":"in.file@example.com"`},
	} {
		for _, email := range []string{"some.one@example.com", "in.file@example.com"} {
			in := bare()
			in.Tx.Payer.Email, in.Overrides = email, said(t, set, controls...)
			if d, listed := decided(set, in), email == "in.file@example.com" && len(controls) == 2; (d.Verdict == payment.Block) != listed {
				t.Errorf("%s after %v: %s", email, controls, d.Append(nil))
			}
		}
	}
}

func TestRulesAreSilentWhileTheyAreDisabledOrSnoozed(t *testing.T) {
	const disable, enable, snooze = `"control":"rule_disable","rule":"more","why":"w",`, `"control":"rule_enable","rule":"more"`, `"control":"snooze","rule":"more","why":"w","until":"2026-11-30T00:00:00Z",`
	set := withLists(t, noThresholds, holdMore+"  - {id: shadow, verdict: block, mode: shadow, when: 'amount > CNY(1)'}\n")
	for _, c := range []struct {
		name     string
		controls []string
		at       string
		fires    bool
		by       string
	}{
		{"nothing said", nil, "2026-11-22T00:00:00Z", true, "[]"},
		{"disabled", []string{disable + `"until":"2026-11-23T00:00:00Z"`}, "2026-11-22T00:00:00Z", false, "[k-1]"},
		{"disabled, and at its end", []string{disable + `"until":"2026-11-23T00:00:00Z"`}, "2026-11-23T00:00:00Z", true, "[]"},
		{"before it counts", []string{disable + `"until":"2026-11-25T00:00:00Z","effective_at":"2026-11-23T00:00:00Z"`}, "2026-11-22T23:59:59Z", true, "[]"},
		{"disabled and enabled", []string{disable + `"until":"2026-11-23T00:00:00Z"`, enable}, "2026-11-22T00:00:00Z", true, "[]"},
		{"enabled from a later time on", []string{disable + `"until":"2026-11-25T00:00:00Z"`, enable + `,"effective_at":"2026-11-23T00:00:00Z"`}, "2026-11-22T00:00:00Z", false, "[k-1]"},
		{"enabled, then disabled again", []string{disable + `"until":"2026-11-23T00:00:00Z"`, enable, disable + `"until":"2026-11-24T00:00:00Z"`}, "2026-11-22T00:00:00Z", false, "[k-3]"},
		{"snoozed for the payer", []string{snooze + `"match":{"payer":"u"}`}, "2026-11-22T00:00:00Z", false, "[k-1]"},
		{"the snooze has ended", []string{snooze + `"match":{"payer":"u"}`}, "2026-11-30T00:00:00Z", true, "[]"},
		{"snoozed for another payer", []string{snooze + `"match":{"payer":"v"}`}, "2026-11-22T00:00:00Z", true, "[]"},
		{"snoozed for the payee", []string{snooze + `"match":{"payee":"m"}`}, "2026-11-22T00:00:00Z", false, "[k-1]"},
		{"snoozed for the card", []string{snooze + `"match":{"card":"c"}`}, "2026-11-22T00:00:00Z", false, "[k-1]"},
		{"snoozed for the device", []string{snooze + `"match":{"device":"d"}`}, "2026-11-22T00:00:00Z", false, "[k-1]"},
		{"snoozed for all of these", []string{snooze + `"match":{"payer":"u","payee":"m","card":"c","device":"d"}`}, "2026-11-22T00:00:00Z", false, "[k-1]"},
		{"snoozed for another device of the payer", []string{snooze + `"match":{"payer":"u","device":"e"}`}, "2026-11-22T00:00:00Z", true, "[]"},
		{"enabling ends no snooze", []string{snooze + `"match":{"payer":"u"}`, enable}, "2026-11-22T00:00:00Z", false, "[k-1]"},
		{"enabling for the payer ends it", []string{snooze + `"match":{"payer":"u"}`, enable + `,"match":{"payer":"u"}`}, "2026-11-22T00:00:00Z", true, "[]"},
		{"enabling for the payer ends no other one", []string{snooze + `"match":{"card":"c"}`, enable + `,"match":{"payer":"u"}`}, "2026-11-22T00:00:00Z", false, "[k-1]"},
	} {
		in := bare()
		in.Tx.Payee.AccountID, in.Tx.Device.ID, in.Tx.Instrument.Kind, in.Tx.Instrument.Token = "m", "d", "card", "c"
		in.Tx.EventTime, _ = payment.ParseTime(c.at)
		in.Overrides = said(t, set, c.controls...)
		d := decided(set, in)
		if fires := d.Verdict == payment.Hold; fires != c.fires || fmt.Sprint(d.Evidence.Controls) != c.by || len(d.Shadow) != 1 {
			t.Errorf("%s: %s", c.name, d.Append(nil))
		}
	}
}

func TestAShadowRuleThatIsDisabledIsNotRecorded(t *testing.T) {
	set := withLists(t, noThresholds, "rules:\n  - {id: s, verdict: block, mode: shadow, when: 'amount > CNY(1)'}\n")
	in := bare()
	in.Overrides = said(t, set, `"control":"rule_disable","rule":"s","why":"w","until":"2026-11-30T00:00:00Z"`)
	e := set.NewEvaluator()
	var d payment.Decision
	d.Reset()
	e.Decide(in, &d)
	if len(d.Shadow) != 0 || len(d.Evidence.Controls) != 0 || fmt.Sprint(e.Passed()) != "[0]" {
		t.Errorf("%s, passed %v", d.Append(nil), e.Passed())
	}
}

func TestAControlThatComesTwiceCountsOnce(t *testing.T) {
	var log OverrideLog
	set := withLists(t, "", noRules, stolen)
	add, remove := control(t, 1, `"control":"list_add","list":"stolen-cards","value":"c-9","why":"w"`), control(t, 2, `"control":"list_remove","list":"stolen-cards","value":"c-9"`)
	if !log.Apply(add) || !log.Apply(remove) || log.Apply(add) || log.Apply(remove) {
		t.Error("a control counts again")
	}
	in := bare()
	in.Tx.Instrument.Kind, in.Tx.Instrument.Token, in.Overrides = "card", "c-9", log.Overrides(set)
	if d := decided(set, in); d.Verdict != payment.Approve {
		t.Errorf("%s", d.Append(nil))
	}
	if log.Apply(control(t, 3, `"control":"outage_end","of":"k-0"`)) {
		t.Error("an outage is no override")
	}
}

// What was said holds by name: over a reload, and for names that a ruleset does
// not have yet; and an evaluator is right whichever ruleset they were made for.
func TestOverridesOutliveAReload(t *testing.T) {
	first := withLists(t, noThresholds, holdMore)
	var log OverrideLog
	for i, c := range []string{`"control":"list_add","list":"stolen-cards","value":"c-9","why":"w"`, `"control":"list_add","list":"nets","value":"no network","why":"w"`,
		`"control":"rule_disable","rule":"more","why":"w","until":"2026-11-30T00:00:00Z"`, `"control":"rule_disable","rule":"other","why":"w","until":"2026-11-30T00:00:00Z"`} {
		log.Apply(control(t, i+1, c))
	}
	old := log.Overrides(first)
	if got := strings.Join(old.Ignored(), "\n"); got != "list nets is not in the ruleset (control k-2)\nlist stolen-cards is not in the ruleset (control k-1)\nrule other is not in the ruleset (control k-4)" {
		t.Errorf("%s", got)
	}
	second := withLists(t, noThresholds, "rules:\n  - {id: new, points: 1, when: 'amount > CNY(1)'}\n"+strings.TrimPrefix(holdMore, "rules:\n"), "list: a\ntype: payer\nentries: []\n", stolen, "list: nets\ntype: ip\nentries: []\n")
	in := bare()
	in.Tx.Instrument.Kind, in.Tx.Instrument.Token = "card", "c-9"
	now := log.Overrides(second)
	log.Apply(control(t, 5, `"control":"list_remove","list":"stolen-cards","value":"c-9"`)) // those that were made stay as they were
	log.Apply(control(t, 6, `"control":"rule_enable","rule":"more"`))
	for _, o := range []*Overrides{old, now} {
		in.Overrides = o
		if d := decided(second, in); reasons(d) != "LIST_STOLEN_CARDS//0/on the list stolen-cards: w NEW/new/1/" || fmt.Sprint(d.Evidence.Controls) != "[k-1 k-3]" {
			t.Errorf("%s", d.Append(nil))
		}
	}
	if got := strings.Join(log.Overrides(second).Ignored(), "\n"); !strings.HasPrefix(got, "list nets cannot have this value: it must be an address or a network") || !strings.HasSuffix(got, "rule other is not in the ruleset (control k-4)") {
		t.Errorf("%s", got)
	}
}

// TestOverridesAgreeWithTheirMeaning holds overrides against a plain reading of
// random controls, forgetting now and then, and with snapshots that stay as they were.
func TestOverridesAgreeWithTheirMeaning(t *testing.T) {
	const lists = "list: l\ntype: payer\neffect: block\nentries: [{value: u-0}, {value: u-1}]\n"
	random := rand.New(rand.NewPCG(5, 6))
	set := withLists(t, noThresholds, holdMore, lists)
	base, _ := payment.ParseTime(saidAt)
	hour := func(n int) payment.Time { return base.Add(time.Duration(n) * time.Hour) }
	blocks, silent, decisions := 0, 0, 0
	for round := range 300 {
		var log OverrideLog
		var controls []payment.Control
		now := 0
		type snapshot struct {
			o     *Overrides
			knows int
		}
		var snapshots []snapshot
		for range 1 + random.IntN(25) {
			now += random.IntN(3)
			c := payment.Control{ID: fmt.Sprint("k-", len(controls)), EventTime: hour(now), EffectiveAt: hour(now + random.IntN(8) - 3), List: "l", Value: fmt.Sprint("u-", random.IntN(4)), Rule: "more"}
			c.Kind = []payment.ControlKind{payment.ControlListAdd, payment.ControlListRemove, payment.ControlRuleDisable, payment.ControlRuleEnable, payment.ControlSnooze}[random.IntN(5)]
			if ends := c.Kind != payment.ControlListAdd || random.IntN(2) == 0; ends {
				c.Until = max(c.EffectiveAt, hour(now)).Add(time.Duration(1+random.IntN(6)) * time.Hour)
			}
			if c.Kind == payment.ControlSnooze || c.Kind == payment.ControlRuleEnable && random.IntN(2) == 0 {
				c.Snooze.Payer = fmt.Sprint("u-", random.IntN(4))
			}
			controls = append(controls, c)
			log.Apply(&c)
			snapshots = append(snapshots, snapshot{log.Overrides(set), len(controls)})
			if random.IntN(4) == 0 {
				log.Forget(hour(now - 10))
				snapshots = append(snapshots, snapshot{log.Overrides(set), len(controls)})
			}
		}
		for range 60 {
			s := snapshots[random.IntN(len(snapshots))]
			in := bare()
			in.Tx.Payer.AccountID = fmt.Sprint("u-", random.IntN(4))
			in.Tx.EventTime = hour(max(0, now-9) + random.IntN(20))
			in.Overrides = s.o
			d := decided(set, in)
			block, quiet := meaning(controls[:s.knows], in.Tx.Payer.AccountID, in.Tx.EventTime)
			want := "approve"
			if block {
				want = "block"
				blocks++
			} else if !quiet {
				want = "hold"
			} else {
				silent++
			}
			decisions++
			if d.Verdict.String() != want {
				t.Fatalf("round %d: %s of %s at %s, want %s\n%+v", round, d.Verdict, in.Tx.Payer.AccountID, in.Tx.EventTime, want, controls[:s.knows])
			}
		}
	}
	if blocks < decisions/10 || silent < decisions/20 {
		t.Errorf("of %d decisions %d blocks and %d silent rules: too few to say anything", decisions, blocks, silent)
	}
}

// meaning reads controls as they are documented: is the payer on the list, is the
// rule off for it, at an event time?
func meaning(controls []payment.Control, payer string, t payment.Time) (listed, off bool) {
	counts := func(i int, ended func(*payment.Control) bool) bool {
		c := &controls[i]
		until := c.Until
		if until == 0 {
			until = never
		}
		for j := i + 1; j < len(controls); j++ {
			if ended(&controls[j]) {
				until = min(until, controls[j].EffectiveAt)
			}
		}
		return c.EffectiveAt <= t && t < until
	}
	removes := func(c *payment.Control) bool { return c.Kind == payment.ControlListRemove && c.Value == payer }
	listed = payer == "u-0" || payer == "u-1"
	for i := range controls {
		if removes(&controls[i]) && controls[i].EffectiveAt <= t {
			listed = false
		}
	}
	for i := range controls {
		switch c := &controls[i]; c.Kind {
		case payment.ControlListAdd:
			listed = listed || c.Value == payer && counts(i, removes)
		case payment.ControlRuleDisable, payment.ControlSnooze:
			concerns := c.Snooze.Payer == "" || c.Snooze.Payer == payer
			off = off || concerns && counts(i, func(e *payment.Control) bool { return e.Kind == payment.ControlRuleEnable && e.Snooze == c.Snooze })
		}
	}
	return listed, off
}

// Words that have ended are forgotten, and of a value's removals one is kept.
func TestOverridesDoNotGrowForEver(t *testing.T) {
	var log OverrideLog
	at, _ := payment.ParseTime(saidAt)
	for i := range 2000 {
		when := at.Add(time.Duration(i) * time.Hour)
		for j, c := range []payment.Control{
			{Kind: payment.ControlListAdd, List: "l", Value: fmt.Sprint("u-", i%5), Until: when.Add(time.Hour)},
			{Kind: payment.ControlListAdd, List: "l", Value: fmt.Sprint("u-", i%5)},
			{Kind: payment.ControlListRemove, List: "l", Value: fmt.Sprint("u-", i%5)},
			{Kind: payment.ControlRuleDisable, Rule: "more", Until: when.Add(time.Hour)},
			{Kind: payment.ControlSnooze, Rule: "more", Snooze: payment.SnoozeMatch{Payer: "u"}, Until: when.Add(time.Hour)},
			{Kind: payment.ControlRuleEnable, Rule: "more"},
		} {
			c.ID, c.EventTime, c.EffectiveAt = fmt.Sprint("k-", i, "-", j), when, when
			log.Apply(&c)
		}
		if i%10 == 0 {
			log.Forget(when.Add(-24 * time.Hour))
		}
	}
	log.Forget(at.Add(3000 * time.Hour))
	if len(log.lists["l"]) > 5 || len(log.rules["more"]) != 0 {
		t.Errorf("%d words about the list, %d about the rule", len(log.lists["l"]), len(log.rules["more"]))
	}
}
