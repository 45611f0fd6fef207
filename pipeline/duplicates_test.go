package pipeline_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/rules"
)

// duplicateRules hold what comes over bill, block what comes by face, and leave
// the rest to the policy.
func duplicateRules(t *testing.T, policy string) string {
	t.Helper()
	dir := t.TempDir()
	writeRules(t, dir, map[string]string{
		"policy.yaml": policy,
		"features/charge.yaml": `features:
  - {entity: charge, name: payments, windows: [10m], value: count}
`,
		"rules/channels.yaml": `rules:
  - {id: bills, description: Bills are held, owner: test, when: 'channel == "bill"', verdict: hold, reason: BILL, payer_code: WAIT}
  - {id: faces, description: Faces are blocked, owner: test, when: 'channel == "face"', verdict: block, reason: FACE, payer_code: NO}
`,
	})
	return dir
}

// charge is a payment at a second of the morning; each change replaces a part of it.
func charge(id string, second float64, changes ...string) string {
	at := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC).Add(time.Duration(second * float64(time.Second)))
	r := paid(id, append([]string{`"CNY"}`, `"CNY"},"order_id":"o-1"`}, changes...)...)
	from := strings.Index(r, `"event_time":"`) + len(`"event_time":"`)
	return r[:from] + at.Format(time.RFC3339Nano) + r[from+strings.Index(r[from:], `"`):]
}

// turned is an outcome at a second of the morning.
func turned(id, outcome string, second float64) string {
	at := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC).Add(time.Duration(second * float64(time.Second)))
	return fmt.Sprintf(`{"v":1,"transaction_id":%q,"outcome":%q,"event_time":%q}`, id, outcome, at.Format(time.RFC3339Nano))
}

// replayed is the last decision on each transaction of some lines.
func replayed(t *testing.T, dir string, lines ...string) map[string]payment.Decision {
	t.Helper()
	rs, err := rules.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "decisions"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	all := map[string]payment.Decision{}
	config := pipeline.DefaultConfig()
	replay := pipeline.Replay{Rules: rs, Limits: config.Limits(), Windows: config.Windows, Decisions: out, Evidence: pipeline.EvidenceAll, Decided: func(b []byte) {
		var d payment.Decision
		if err := json.Unmarshal(b, &d); err != nil {
			t.Fatal(err)
		}
		all[d.TransactionID] = d
	}}
	if _, err := replay.Run(t.Context(), strings.NewReader(strings.Join(lines, "\n")+"\n")); err != nil {
		t.Fatal(err)
	}
	return all
}

// verdictOf says a decision in a word, with its source and its reasons.
func verdictOf(d payment.Decision) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s by %s", d.Verdict, d.Source)
	for _, r := range d.Reasons {
		fmt.Fprintf(&b, "; %s", r.Code)
		if r.Code == "DUPLICATE_PAYMENT" {
			fmt.Fprintf(&b, " %s", r.Detail)
		}
	}
	return b.String()
}

const (
	noOrder   = `,"order_id":"o-1"`
	held      = "hold by duplicate; DUPLICATE_PAYMENT first of 2026-11-23T08:00:00.000Z"
	letsPass  = "approve by rules"
	bySecond  = 1.5
	muchLater = 50_000.0
)

// A payment that comes twice is told apart from one that is made again: by its
// order, or by the time between, and by what became of the first.
func TestADuplicatePaymentIsHeldAndARetryPasses(t *testing.T) {
	const policy = "duplicates: {within: 60s, verdict: hold}\n"
	for _, c := range []struct {
		name  string
		lines []string
		want  string // of the transaction `second`
	}{
		{"with its order", []string{charge("first", 0), charge("second", bySecond)}, held},
		{"with its order, much later", []string{charge("first", 0), charge("second", muchLater)}, held},
		{"another order", []string{charge("first", 0), charge("second", bySecond, `"o-1"`, `"o-2"`)}, letsPass},
		{"without order", []string{charge("first", 0, noOrder, ""), charge("second", 60, noOrder, "")}, held},
		{"without order, later", []string{charge("first", 0, noOrder, ""), charge("second", 60.001, noOrder, "")}, letsPass},
		{"an order that one of them lacks", []string{charge("first", 0, noOrder, ""), charge("second", bySecond)}, held},
		{"another amount", []string{charge("first", 0), charge("second", bySecond, "1250", "1251")}, letsPass},
		{"another payee", []string{charge("first", 0), charge("second", bySecond, "m-1", "m-2")}, letsPass},
		{"another type", []string{charge("first", 0), charge("second", bySecond, `"payment"`, `"transfer"`)}, letsPass},
		{"two refunds", []string{charge("first", 0, `"payment"`, `"refund"`, `"v":1`, `"original_transaction_id":"x"`),
			charge("second", bySecond, `"payment"`, `"refund"`, `"v":1`, `"original_transaction_id":"x"`)}, letsPass},
		{"the first is held", []string{charge("first", 0, `"qr"`, `"bill"`), charge("second", bySecond)}, held},
		{"the first was blocked", []string{charge("first", 0, `"qr"`, `"face"`), charge("second", bySecond)}, letsPass},
		{"the first was settled", []string{charge("first", 0), turned("first", "settled", 1), charge("second", 2)}, held},
		{"the first failed", []string{charge("first", 0), turned("first", "technical_failure", 1), charge("second", 2)}, letsPass},
		{"the first was settled and failed then", []string{charge("first", 0), turned("first", "settled", 1), turned("first", "technical_failure", 1.5), charge("second", 2)}, letsPass},
		{"the first was cancelled", []string{charge("first", 0), turned("first", "cancelled", 1), charge("second", 2)}, letsPass},
		{"the first was declined", []string{charge("first", 0), turned("first", "declined_by_bank", 1), charge("second", 2)}, letsPass},
		{"the first was refunded", []string{charge("first", 0), turned("first", "refunded", 1), charge("second", 2)}, letsPass},
		{"the first failed later than this", []string{charge("first", 0), turned("first", "technical_failure", 3), charge("second", 2)}, held},
		{"the retry of one that failed comes twice", []string{charge("zeroth", 0), turned("zeroth", "technical_failure", 0), charge("first", 0), charge("second", 2)}, held},
		{"the third of three", []string{charge("first", 0), charge("other", 1), charge("second", 2)}, held},
		{"a rule that holds it too", []string{charge("first", 0), charge("second", 2, `"qr"`, `"bill"`)}, held + "; BILL"},
		{"a rule that blocks it", []string{charge("first", 0), charge("second", 2, `"qr"`, `"face"`)}, "block by rules; FACE; DUPLICATE_PAYMENT first of 2026-11-23T08:00:00.000Z"},
		{"the first is of no use", []string{charge("first", 0, `"CN"`, `"XX"`), charge("second", 2)}, letsPass},
		{"a caller that cannot hold", []string{charge("first", 0), charge("second", 2, `"v":1`, `"accepts":["step_up"]`)},
			"block by duplicate; DUPLICATE_PAYMENT first of 2026-11-23T08:00:00.000Z; CANNOT_HOLD"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := replayed(t, duplicateRules(t, policy), c.lines...)["second"]
			if got := verdictOf(d); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
			if d.Source == payment.SourceDuplicate && (d.PayerCode != "DUPLICATE" || d.PayerMessage == "" || strings.Contains(d.PayerMessage, "first")) {
				t.Errorf("the payer is told %q: %q", d.PayerCode, d.PayerMessage)
			}
		})
	}
}

// What a duplicate payment gets is the policy's, and so is that nobody looks for them.
func TestThePolicySaysWhatADuplicatePaymentGets(t *testing.T) {
	for policy, want := range map[string]string{
		"base_currency: CNY\n":                       held,
		"duplicates: {verdict: block}\n":             "block by duplicate; DUPLICATE_PAYMENT first of 2026-11-23T08:00:00.000Z",
		"duplicates: {verdict: approve}\n":           letsPass,
		"duplicates: {within: 1s}\n":                 letsPass,
		"duplicates: {within: 61s, verdict: hold}\n": held,
	} {
		d := replayed(t, duplicateRules(t, policy), charge("first", 0, noOrder, ""), charge("second", 60, noOrder, ""))["second"]
		if got := verdictOf(d); got != want {
			t.Errorf("%s%s\nwant %s", policy, got, want)
		}
		for _, f := range d.Evidence.Features { // charges are an entity like others
			if f.Name != "charge.payments_10m" || string(f.Value.AppendJSON(nil)) != "2" {
				t.Errorf("%s is %s", f.Name, f.Value.AppendJSON(nil))
			}
		}
	}
}

// The four kinds of payments that come twice are counted apart, and a conflict of
// ids never gets the stored verdict.
func TestPaymentsThatComeTwiceAreCountedByKind(t *testing.T) {
	for _, store := range []string{"embedded", "redis"} {
		t.Run(store, func(t *testing.T) {
			g := startLive(t, func(c *pipeline.Config) {
				c.Rules = duplicateRules(t, "decide_within: {payment: 10s}\n")
				if store == "redis" {
					useRedis(t, c)
					c.Redis.Timeout = 10 * time.Second
				}
			})
			order := []string{`"v":1`, `"order_id":"o-1"`}
			now := func(id string, changes ...string) string { return paid(id, append(order, changes...)...) }
			first := now("first")
			g.send(g.config.Topics.Transactions, 0, first, now("second"), first, strings.Replace(first, "1250", "1251", 1), now("blocked", `"qr"`, `"face"`, "1250", "99"))
			g.send(g.config.Topics.Transactions, 0, now("again", "1250", "99"))
			all := g.decisions(5)
			g.read(g.config.Topics.DeadLetters, 1)
			if d := all["first"]; len(d) != 2 || d[0].value != d[1].value {
				t.Errorf("the first payment has %d decisions", len(d))
			}
			for id, want := range map[string]string{"first": "approve by rules", "second": "hold by duplicate", "again": "approve by rules", "blocked": "block by rules"} {
				if got := verdictOf(g.decoded(all[id][0])); !strings.HasPrefix(got, want) {
					t.Errorf("%s: %s, want %s", id, got, want)
				}
			}
			g.stop() // all is counted
			for kind, want := range map[string]float64{"repeat": 1, "id_conflict": 1, "retry": 1, "duplicate": 1} {
				if got := counted(t, g.metrics, "sluice_duplicates_total", kind); got != want {
					t.Errorf("%s: %g, want %g", kind, got, want)
				}
			}
		})
	}
}

// counted is a counter of a kind.
func counted(t *testing.T, reg *prometheus.Registry, name, kind string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && m.GetLabel()[0].GetValue() == kind {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no %s of kind %s", name, kind)
	return 0
}

// Two charges for one order are sent at the same instant to two partitions, which
// are two lanes of one process, or lanes of two members: of each pair exactly one
// is approved, and the other names it.
func TestOfTwoChargesAtTheSameInstantExactlyOneIsApproved(t *testing.T) {
	const pairs = 200
	for _, c := range []struct {
		store   string
		members int
	}{{"embedded", 1}, {"redis", 1}, {"redis", 2}} {
		t.Run(fmt.Sprintf("%s, %d members", c.store, c.members), func(t *testing.T) {
			g := startLive(t, func(config *pipeline.Config) {
				config.Rules = duplicateRules(t, "decide_within: {payment: 10s}\n")
				if c.store == "redis" {
					useRedis(t, config)
					config.Redis.Timeout = 10 * time.Second // a machine that is busy must not look like a store that is away
				}
			})
			if c.members == 2 {
				joinSecond(t, g)
			}
			for !g.service.Ready() {
				time.Sleep(time.Millisecond) // readiness tells nobody
			}
			for i := range pairs {
				var sending sync.WaitGroup
				for k := range 2 {
					partition := (i + k) % 2 // who begins takes turns
					r := paid(fmt.Sprintf("t-%d-%d", i, partition), `"v":1`, fmt.Sprintf(`"order_id":"o-%d"`, i))
					sending.Go(func() {
						if err := g.conn.Produce(t.Context(), g.config.Topics.Transactions, partition, []broker.Message{{Value: []byte(r)}}); err != nil {
							t.Error(err)
						}
					})
				}
				sending.Wait()
				if i%8 == 7 { // else a lane that fell behind once would be second for good
					g.decisions(2 * (i + 1))
				}
			}
			all := g.decisions(2 * pairs)
			approved := [2]int{}
			for i := range pairs {
				ids := [2]string{fmt.Sprintf("t-%d-0", i), fmt.Sprintf("t-%d-1", i)}
				a, b := g.decoded(all[ids[0]][0]), g.decoded(all[ids[1]][0])
				first, second, at := a, b, 0
				if b.Verdict == payment.Approve {
					first, second, at = b, a, 1
				}
				if first.Verdict != payment.Approve || second.Verdict != payment.Hold || len(second.Reasons) != 1 || !strings.HasPrefix(second.Reasons[0].Detail, ids[at]+" of ") {
					t.Errorf("pair %d: %s, and %s", i, verdictOf(a), verdictOf(b))
				}
				approved[at]++
			}
			t.Logf("approved: %d of one partition, %d of the other", approved[0], approved[1])
			if approved[0] == 0 || approved[1] == 0 {
				t.Error("one partition was always first: the test proves little")
			}
		})
	}
}

// joinSecond starts a second member of a gate's group, and waits until each has a
// partition.
func joinSecond(t *testing.T, g *liveGate) {
	t.Helper()
	service, err := pipeline.NewService(t.Context(), g.config, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- service.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) { // who has which partition tells nobody
		members, err := g.conn.Members(t.Context(), g.config.Kafka.Group)
		if err == nil && len(members) == 2 && service.Ready() && g.service.Ready() {
			return
		}
		if time.Since(began) > 20*time.Second {
			t.Fatalf("%d members are there (%v)", len(members), err)
		}
	}
}

// What nearly repeats is for rules: the example in the documentation does what it says.
func TestNearDuplicatesAreFeaturesThatRulesCanUse(t *testing.T) {
	doc, err := os.ReadFile("../rules/doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(doc), "// # Duplicate payments\n")
	_, example, _ := strings.Cut(section, "//\tfeatures:\n")
	example, _, _ = strings.Cut(example, "//\n")
	features, ruleLines, found := strings.Cut(strings.ReplaceAll(example, "//\t", ""), "rules:\n")
	if !found {
		t.Fatal("rules/doc.go has no example of near duplicates any more")
	}
	dir := t.TempDir()
	writeRules(t, dir, map[string]string{
		"features/near.yaml": "features:\n" + features,
		"rules/near.yaml":    "rules:\n" + ruleLines,
	})
	all := replayed(t, dir,
		charge("a", 0, "1250", "10000"),
		charge("b", 1, "1250", "10100", "o-1", "o-2"), // one per cent more
		charge("c", 2, "1250", "10204", "o-1", "o-3"), // a little more than one per cent again
		charge("d", 1000, "1250", "70000", "o-1", "o-4"),
		charge("e", 1001, "1250", "30000", "o-1", "o-4", "u-1", "u-2"), // another payer for that order
		charge("f1", 5000, "o-1", "o-5"), charge("f2", 6000, "o-1", "o-6"), charge("f3", 7000, "o-1", "o-7"), charge("f4", 8000, "o-1", "o-8"))
	for id, want := range map[string]string{"a": letsPass, "b": "hold by rules; NEARLY", "c": letsPass, "d": letsPass,
		"e": "hold by rules; TWO_PAYERS", "f1": letsPass, "f3": letsPass, "f4": "hold by rules; OFTEN"} {
		if got := verdictOf(all[id]); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
}
