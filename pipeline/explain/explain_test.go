package explain_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/explain"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/rules"
)

// The features of the histories, and next to each what it is by definition.
const historyFeatures = `features:
  - {entity: card, name: tries, windows: [10m], value: count, where: 'status != "technical_failure"'}
  - {entity: card, name: sum, windows: [1h], value: sum}
  - {entity: card, name: mean, windows: [1h], value: avg}
  - {entity: card, name: most, windows: [1h], value: max}
  - {entity: card, name: payees, windows: [1h], value: distinct(payee)}
  - {entity: card, name: channels, windows: [1h], value: distinct(channel), where: 'amount > CNY(20)'}
  - {entity: card, name: fraud, windows: [1d], value: share(fraud)}
  - {entity: payer, name: count, windows: [calendar_day], value: count}
  - {entity: payer, name: first, windows: [1h], value: since_first}
  - {entity: payer, name: idle, value: since_last}
  - {entity: payer, name: payee, value: last(payee)}
  - {entity: payer_payee, name: before, windows: [1h], delay: 5m, value: count}
`

// counting is the definition of a feature over the events of a window, the latest
// first; own is the one that looks. It returns those that take part, and what
// they make.
type counting struct {
	entity        func(*event) string
	length, delay time.Duration
	passes        func(h *history, e, own *event) bool
	make          func(h *history, in []*event, own *event) (took []*event, value any)
}

// event is a payment of a history.
type event struct {
	id, card, payer, payee, channel, currency string
	minor                                     int64
	at                                        int64 // event time, ns
	line                                      int64
	behind                                    bool // it came after later ones
	late                                      bool // too late for windows
}

func (e *event) base() (int64, bool) {
	switch e.currency {
	case "CNY":
		return e.minor, true
	case "USD":
		return 7 * e.minor, true
	}
	return 0, false
}

type outcome struct {
	of, kind string
	at       int64
	line     float64 // after which it is known
}

// history is a random file of records, kept as what it says.
type history struct {
	lines    []string
	events   []*event
	outcomes []outcome
	outage   struct {
		from, until int64
		line        int64
	}
}

func stamp(at int64) string { return time.Unix(0, at).UTC().Format(time.RFC3339Nano) }

// status is the last outcome of a payment and its label, as another one sees them.
func (h *history) status(e, own *event) (status string, fraud bool) {
	known := slices.DeleteFunc(slices.Clone(h.outcomes), func(o outcome) bool { return o.of != e.id || o.at > own.at || o.line > float64(own.line) })
	slices.SortStableFunc(known, func(a, b outcome) int { return int(a.at - b.at) })
	for _, o := range known {
		status = o.kind
		if o.kind == "fraud_confirmed" || o.kind == "fraud_cleared" {
			fraud = o.kind == "fraud_confirmed"
		}
	}
	return status, fraud
}

func all(_ *history, in []*event, _ *event) []*event { return in }

func based(in []*event) (took []*event, sum, most int64) {
	for _, e := range in {
		if b, ok := e.base(); ok {
			took, sum, most = append(took, e), sum+b, max(most, b)
		}
	}
	return took, sum, most
}

func distinct(of func(*event) string) func(*history, []*event, *event) ([]*event, any) {
	return func(_ *history, in []*event, _ *event) (took []*event, value any) {
		seen := map[string]bool{}
		for _, e := range in {
			if v := of(e); v != "" {
				took, seen[v] = append(took, e), true
			}
		}
		return took, int64(len(seen))
	}
}

// before is the one event before the own.
func before(in []*event, own *event) []*event {
	for _, e := range in {
		if e != own {
			return []*event{e}
		}
	}
	return nil
}

func definitions() map[string]counting {
	card, payer := func(e *event) string { return e.card }, func(e *event) string { return e.payer }
	always := func(*history, *event, *event) bool { return true }
	count := func(h *history, in []*event, own *event) ([]*event, any) { return all(h, in, own), int64(len(in)) }
	return map[string]counting{
		"card.tries_10m": {card, 10 * time.Minute, 0, func(h *history, e, own *event) bool {
			status, _ := h.status(e, own)
			return status != "technical_failure"
		}, count},
		"card.sum_1h": {card, time.Hour, 0, always, func(_ *history, in []*event, _ *event) ([]*event, any) {
			took, sum, _ := based(in)
			return took, sum
		}},
		"card.mean_1h": {card, time.Hour, 0, always, func(_ *history, in []*event, _ *event) ([]*event, any) {
			took, sum, _ := based(in)
			if len(took) == 0 {
				return nil, nil
			}
			return took, float64(sum) / float64(len(took))
		}},
		"card.most_1h": {card, time.Hour, 0, always, func(_ *history, in []*event, _ *event) ([]*event, any) {
			took, _, most := based(in)
			if len(took) == 0 {
				return nil, nil
			}
			return took, most
		}},
		"card.payees_1h": {card, time.Hour, 0, always, distinct(func(e *event) string { return e.payee })},
		"card.channels_1h": {card, time.Hour, 0, func(_ *history, e, _ *event) bool {
			b, ok := e.base()
			return ok && b > 20_00
		}, distinct(func(e *event) string { return e.channel })},
		"card.fraud_1d": {card, 24 * time.Hour, 0, always, func(h *history, in []*event, own *event) ([]*event, any) {
			n := 0
			for _, e := range in {
				if _, fraud := h.status(e, own); fraud {
					n++
				}
			}
			if len(in) == 0 {
				return in, 0.0
			}
			return in, float64(n) / float64(len(in))
		}},
		"payer.count_calendar_day": {payer, -1, 0, always, count},
		"payer.first_1h": {payer, time.Hour, 0, always, func(_ *history, in []*event, own *event) ([]*event, any) {
			return in[len(in)-1:], float64(own.at-in[len(in)-1].at) / 1e9
		}},
		"payer.idle": {payer, 90 * 24 * time.Hour, 0, always, func(_ *history, in []*event, own *event) ([]*event, any) {
			took := before(in, own)
			if took == nil {
				return nil, nil
			}
			return took, float64(own.at-took[0].at) / 1e9
		}},
		"payer.payee": {payer, 90 * 24 * time.Hour, 0, always, func(_ *history, in []*event, own *event) ([]*event, any) {
			took := before(in, own)
			if took == nil || took[0].payee == "" {
				return took, nil
			}
			return took, "=" + took[0].payee // shown by its name
		}},
		"payer_payee.before_1h": {func(e *event) string {
			if e.payee == "" {
				return ""
			}
			return e.payer + "|" + e.payee
		}, time.Hour, 5 * time.Minute, always, count},
	}
}

// expect computes a feature from its definition.
func (h *history) expect(name string, f counting, own *event) (took []*event, value any) {
	if f.entity(own) == "" || own.late {
		return nil, nil
	}
	high := own.at - int64(f.delay)
	low := high - int64(f.length)
	if f.length < 0 {
		local := time.Unix(0, high).In(time.FixedZone("", 8*3600))
		low = time.Date(local.Year(), local.Month(), local.Day(), 0, 0, 0, 0, local.Location()).UnixNano() - 1
	}
	var in []*event
	for _, e := range h.events {
		status, _ := h.status(e, own)
		outage := name == "card.tries_10m" || name == "card.fraud_1d" // those that look at the status
		outage = outage && status == "technical_failure" && e.channel == "web" && h.outage.line > 0 && h.outage.line < own.line && e.at >= h.outage.from && e.at < h.outage.until
		if !e.late && e.line <= own.line && f.entity(e) == f.entity(own) && e.at > low && e.at <= high && !outage && f.passes(h, e, own) {
			in = append(in, e)
		}
	}
	slices.SortStableFunc(in, func(a, b *event) int { return int(a.at - b.at) })
	slices.Reverse(in)
	if len(in) == 0 && (name == "payer.first_1h") {
		return nil, nil
	}
	return f.make(h, in, own)
}

// randomHistory writes payments that are late, equal in time, repeated and in
// several currencies, with outcomes before and after them, and an outage.
func randomHistory(seed uint64, steps int) *history {
	rng := rand.New(rand.NewPCG(seed, 11))
	h := &history{}
	clock := time.Date(2026, 3, 1, 14, 0, 0, 0, time.UTC).UnixNano()
	newest := clock
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	for step := range steps {
		if rng.IntN(3) > 0 {
			clock += int64(time.Second) * int64(rng.IntN(240))
		}
		line := int64(len(h.lines) + 1)
		switch r := rng.IntN(20); {
		case r < 14:
			e := &event{id: fmt.Sprint("t-", step), card: pick("c-1", "c-2", ""), payer: pick("u-1", "u-2"), payee: pick("m-1", "m-2", "m-3", ""),
				channel: pick("web", "qr"), currency: pick("CNY", "CNY", "USD", "THB"), minor: rng.Int64N(50_00), at: clock, line: line}
			switch rng.IntN(12) {
			case 0, 1:
				e.at -= int64(time.Second) * int64(rng.IntN(5000))
			case 2:
				if step > steps/2 {
					e.at, e.late = e.at-int64(8*24*time.Hour), true
				}
			}
			e.behind = e.at < newest
			newest = max(newest, e.at)
			h.events = append(h.events, e)
			instrument, payee := "", ""
			if e.card != "" {
				instrument = `,"instrument":{"kind":"card","token":"` + e.card + `"}`
			}
			if e.payee != "" {
				payee = `,"payee":{"account_id":"` + e.payee + `"}`
			}
			h.lines = append(h.lines, fmt.Sprintf(`{"transaction_id":%q,"type":"payment","channel":%q,"event_time":%q,"amount":{"value":%d,"currency":%q},"payer":{"account_id":%q}%s%s}`,
				e.id, e.channel, stamp(e.at), e.minor, e.currency, e.payer, payee, instrument))
		case r < 15 && len(h.events) > 0: // the same record again
			h.lines = append(h.lines, h.lines[h.events[rng.IntN(len(h.events))].line-1])
		case r < 19:
			of := rng.IntN(step + 4) // also of payments that are yet to come
			if rng.IntN(2) == 0 {
				of = max(0, step-rng.IntN(12))
			}
			o := outcome{of: fmt.Sprint("t-", of), kind: pick("settled", "technical_failure", "fraud_confirmed", "fraud_cleared"), at: clock - int64(time.Minute)*int64(rng.IntN(20)), line: float64(line)}
			h.outcomes = append(h.outcomes, o)
			h.lines = append(h.lines, fmt.Sprintf(`{"outcome_id":"o-%d","transaction_id":%q,"outcome":%q,"event_time":%q}`, step, o.of, o.kind, stamp(o.at)))
		case h.outage.line == 0 && step > steps/2:
			h.outage.from, h.outage.until, h.outage.line = clock-int64(30*time.Minute), clock+int64(10*time.Minute), line
			h.lines = append(h.lines, fmt.Sprintf(`{"control_id":"k-1","control":"outage","event_time":%q,"by":"ops","why":"w","from":%q,"until":%q,"match":{"channel":"web"}}`,
				stamp(clock), stamp(h.outage.from), stamp(h.outage.until)))
		}
	}
	for i := range h.outcomes { // one that waits for its payment stands right behind it
		for _, e := range h.events {
			if e.id == h.outcomes[i].of {
				h.outcomes[i].line = max(h.outcomes[i].line, float64(e.line)+0.5)
			}
		}
	}
	return h
}

func (h *history) file() *bytes.Reader {
	return bytes.NewReader([]byte(strings.Join(h.lines, "\n") + "\n"))
}

func load(t *testing.T, files map[string]string) *rules.Ruleset {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, content := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(content)}
	}
	set, err := rules.LoadFS(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func ask(set *rules.Ruleset, transaction string, events int) *explain.Question {
	config := pipeline.DefaultConfig()
	return &explain.Question{Transaction: transaction, Events: events, Replay: pipeline.Replay{Rules: set, Limits: config.Limits(), Windows: config.Windows}}
}

// Of random histories, the events that stand behind a value are those of its
// definition, and make it: nothing here knows how windows are kept.
func TestTheEventsBehindAValueMakeIt(t *testing.T) {
	set := load(t, map[string]string{"policy.yaml": "time_zone: Asia/Shanghai\n", "rates.yaml": "base: CNY\nrates: {USD: 7}\n", "features/a.yaml": historyFeatures})
	defined := definitions()
	values, absent, listed := 0, 0, 0
	for seed := range uint64(8) {
		h := randomHistory(seed, 220)
		rng := rand.New(rand.NewPCG(seed, 12))
		for i := range 10 {
			own := h.events[rng.IntN(len(h.events))]
			for i%2 == 0 && !own.behind {
				own = h.events[rng.IntN(len(h.events))]
			}
			x, err := ask(set, own.id, 0).Answer(t.Context(), h.file())
			if err != nil {
				t.Fatal(err)
			}
			if len(x.Features) != len(defined) {
				t.Fatalf("%d features of %d", len(x.Features), len(defined))
			}
			for _, f := range x.Features {
				took, want := h.expect(f.Feature, defined[f.Feature], own)
				var ids, got []string
				for _, e := range took {
					ids = append(ids, e.id)
				}
				for _, e := range f.Events {
					got = append(got, e.Transaction)
				}
				if !slices.Equal(ids, got) {
					t.Fatalf("seed %d, %s: behind %s stand %v, by definition %v", seed, own.id, f.Feature, got, ids)
				}
				if !equal(f, want) {
					t.Fatalf("seed %d, %s: %s is %s (%s), by definition %v", seed, own.id, f.Feature, f.Value.AppendJSON(nil), f.Shown, want)
				}
				if (f.Absent == "") != (want != nil) {
					t.Fatalf("seed %d, %s: %s is %s, and absent because %q", seed, own.id, f.Feature, f.Value.AppendJSON(nil), f.Absent)
				}
				if len(f.Values) > 0 && int64(len(f.Values)) != want {
					t.Fatalf("seed %d, %s: %s has the values %v", seed, own.id, f.Feature, f.Values)
				}
				listed += len(got)
				if values++; want == nil {
					absent++
				}
			}
		}
	}
	t.Logf("%d values, %d of them absent, with %d events", values, absent, listed)
	if absent < 40 || absent > values/2 || listed < 4*values/2 {
		t.Error("too few of some kind")
	}
}

// equal tells whether a feature has a value; that of an identifier is shown by name.
func equal(f explain.Feature, want any) bool {
	switch want := want.(type) {
	case int64:
		return f.Value.Kind() == payment.Int && f.Value.Int() == want
	case float64:
		return f.Value.Kind() == payment.Float && math.Abs(f.Value.Float()-want) <= 1e-9*math.Abs(want)
	case string:
		return f.Value.Kind() == payment.Ref && "="+f.Shown == want
	}
	return f.Value.Kind() == payment.Absent
}

// The newest events are listed, with how many more there are.
func TestOfManyEventsTheNewestAreListed(t *testing.T) {
	set := load(t, map[string]string{"features/a.yaml": "features:\n  - {entity: payer, name: n, windows: [1d], value: distinct(payee)}\n"})
	var file strings.Builder
	for i := range 9 {
		fmt.Fprintf(&file, `{"transaction_id":"t-%d","type":"payment","event_time":"2026-03-01T14:0%d:00Z","amount":{"value":100,"currency":"CNY"},"payer":{"account_id":"u"},"payee":{"account_id":"m-%d"}}`+"\n", i, i, i/2)
	}
	x, err := ask(set, "t-8", 3).Answer(t.Context(), strings.NewReader(file.String()))
	if err != nil {
		t.Fatal(err)
	}
	f := x.Features[0]
	if f.Value.Int() != 5 || len(f.Events) != 3 || f.More != 6 || f.Events[0].Transaction != "t-8" || !f.Events[0].Own || f.Events[2].Transaction != "t-6" {
		t.Errorf("%+v", f)
	}
	if len(f.Values) != 3 || f.MoreValues != 2 || f.Values[0] != (explain.ValueCount{Value: "m-0", Events: 2}) {
		t.Errorf("values %v and %d more", f.Values, f.MoreValues)
	}
}

// A value that is not exact says so, and the events behind it are all the same.
func TestAnApproximateValueSaysSo(t *testing.T) {
	set := load(t, map[string]string{"features/a.yaml": "features:\n  - {entity: payer, name: n, windows: [1d], value: distinct(payee)}\n"})
	var file strings.Builder
	for i := range 100 {
		fmt.Fprintf(&file, `{"transaction_id":"t-%d","type":"payment","event_time":"2026-03-01T14:00:00Z","amount":{"value":100,"currency":"CNY"},"payer":{"account_id":"u"},"payee":{"account_id":"m-%d"}}`+"\n", i, i)
	}
	q := ask(set, "t-99", 0)
	q.Replay.Windows.ExactDistinct = 16
	x, err := q.Answer(t.Context(), strings.NewReader(file.String()))
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := x.Write(&text, true); err != nil {
		t.Fatal(err)
	}
	if f := x.Features[0]; len(f.Events) != 100 || len(f.Values) != 100 || !strings.Contains(text.String(), "\n    not exact: by hyperloglog, an edge of the window may be off by 36m39.023s, with a standard error of 1.6 %\n") {
		t.Errorf("%d events, %d values, approximate %q:\n%s", len(f.Events), len(f.Values), f.Approximate, &text)
	}
}

// What is not in the file is said, with the ids that look like it.
func TestATransactionThatIsNotThereHasNeighbours(t *testing.T) {
	set := load(t, map[string]string{"features/a.yaml": "features:\n  - {entity: payer, name: n, windows: [1d], value: count}\n"})
	var file strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&file, `{"transaction_id":"order-%05d-cn","type":"payment","event_time":"2026-03-01T14:00:00Z","amount":{"value":100,"currency":"CNY"},"payer":{"account_id":"u"}}`+"\n", i*7)
	}
	for asked, want := range map[string]string{"order-00071-cn": "order-00070-cn", "order-0070-cn": "order-00700-cn", "order-00077": "order-00077-cn"} {
		_, err := ask(set, asked, 3).Answer(t.Context(), strings.NewReader(file.String()))
		var missing *explain.NotFoundError
		if !errors.As(err, &missing) {
			t.Fatalf("%s: %v", asked, err)
		}
		if !slices.Contains(missing.Nearest, want) || len(missing.Nearest) > 3 {
			t.Errorf("near to %s are %v, without %s", asked, missing.Nearest, want)
		}
	}
}

// The text is printed from the structure alone: what has been JSON prints the same.
func TestTheTextIsMadeOfTheStructureAlone(t *testing.T) {
	set := load(t, map[string]string{"policy.yaml": "time_zone: Asia/Shanghai\n", "rates.yaml": "base: CNY\nrates: {USD: 7}\n", "features/a.yaml": historyFeatures,
		"rules/a.yaml": "rules:\n  - {id: a, points: 3, when: 'card.tries_10m >= 2 or payer.payee != payee.account_id'}\n  - {id: b, verdict: hold, when: 'amount > 2 * card.mean_1h and not (channel == \"web\")'}\n"})
	h := randomHistory(3, 120)
	for _, own := range []*event{h.events[40], h.events[60]} {
		x, err := ask(set, own.id, 4).Answer(context.Background(), h.file())
		if err != nil {
			t.Fatal(err)
		}
		written, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		var read explain.Explanation
		if err := json.Unmarshal(written, &read); err != nil {
			t.Fatal(err)
		}
		for _, all := range []bool{false, true} {
			var before, after bytes.Buffer
			if err := errors.Join(x.Write(&before, all), read.Write(&after, all)); err != nil {
				t.Fatal(err)
			}
			if before.String() != after.String() || !strings.Contains(after.String(), "\nfeatures\n") {
				t.Errorf("printed as\n%s\nand after JSON as\n%s", &before, &after)
			}
		}
	}
}
