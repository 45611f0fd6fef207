package rules

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// testPayment is a payment of a test, or changes of one: values by their paths in
// the record, nil where the field is absent.
type testPayment map[string]any

// with returns the payment with some changes.
func (p testPayment) with(changes testPayment) testPayment {
	out := maps.Clone(p)
	if out == nil {
		out = testPayment{}
	}
	maps.Copy(out, changes)
	return out
}

// testRecord is one line of what a test plays.
type testRecord struct {
	at      time.Time
	id      string      // of the transaction
	payment testPayment // nil for an outcome
	outcome string
	sent    bool // the payment that is judged
}

// numberMark in a text becomes the number of the repetition.
const numberMark = "{n}"

// numbered returns the payment with the number of its repetition.
func (p testPayment) numbered(n int) testPayment {
	out := maps.Clone(p)
	for path, v := range out {
		if s, ok := v.(string); ok {
			out[path] = strings.ReplaceAll(s, numberMark, strconv.Itoa(n))
		}
	}
	return out
}

// appendJSON appends the record as the gate reads it.
func (r *testRecord) appendJSON(b []byte) []byte {
	at := r.at.UTC().Format(time.RFC3339Nano)
	if r.payment == nil {
		return fmt.Appendf(b, `{"v":1,"transaction_id":%q,"outcome":%q,"event_time":%q}`, r.id, r.outcome, at)
	}
	object := map[string]any{"v": 1, "transaction_id": r.id, "event_time": at}
	for path, v := range r.payment {
		if v == nil {
			continue
		}
		outer, inner, nested := strings.Cut(path, ".")
		if !nested {
			object[path] = v
			continue
		}
		inside, _ := object[outer].(map[string]any)
		if inside == nil {
			inside = map[string]any{}
			object[outer] = inside
		}
		inside[inner] = v
	}
	line, err := json.Marshal(object)
	if err != nil {
		panic(err) // texts, numbers and lists of texts
	}
	return append(b, line...)
}

// givenRecords gathers the records of one test.
type givenRecords struct {
	files   *testFiles
	base    testPayment
	now     time.Time
	records []testRecord
	ids     map[string][]testRecord // payments that outcomes can name
	sent    testRecord
}

// The bounds of a test.
const (
	maxTestAway    = 400 * 24 * time.Hour
	maxTestTimes   = 10_000
	maxTestRecords = 50_000
)

// read takes what came before.
func (g *givenRecords) read(n node) {
	all, _ := n.list("given")
	g.ids = map[string][]testRecord{}
	for i, one := range all {
		if isOutcome(one) {
			g.outcome(one)
		} else {
			g.payments(one, i)
		}
		if len(g.records) > maxTestRecords {
			one.at(one.place(), "a test plays at most %d records", maxTestRecords)
			return
		}
	}
}

func isOutcome(n node) bool {
	return slices.ContainsFunc(n.quiet().entries(""), func(e entry) bool { return e.key == "outcome" || e.key == "of" })
}

// payments takes a payment, with its repetitions. Index is its place in given.
func (g *givenRecords) payments(n node, index int) {
	var at, every time.Duration
	times, id := 1, ""
	found := map[string]node{}
	changes := g.files.changes(n, "a payment", map[string]func(node){
		"at":    func(v node) { at = v.offset("at", -maxTestAway, 0); found["at"] = v },
		"every": func(v node) { every, _ = v.duration("every", time.Millisecond, maxTestAway); found["every"] = v },
		"times": func(v node) { times, _ = v.whole("times", 1, maxTestTimes); found["times"] = v },
		"id":    func(v node) { id, _ = v.name("id", wordPattern, wordHint) },
	})
	n.needs("a payment", found, "at")
	if every, ok := found["every"]; ok && found["times"].ast == nil {
		n.at(every.place(), "every needs times: how many payments?")
	}
	if v, ok := found["times"]; ok && times > 1 && every == 0 && found["every"].ast == nil {
		n.at(v.place(), "times needs every: how far apart?")
	}
	if last := at + every*time.Duration(times-1); last > 0 {
		n.at(found["times"].place(), "the last of them comes %s after now", formatDuration(last))
	}
	if _, taken := g.ids[id]; taken && id != "" {
		n.at(n.place(), "the id %s is taken by another payment", id)
	}
	full := g.base.with(changes)
	g.complete(n, full)
	for i := range times {
		r := testRecord{at: g.now.Add(at + every*time.Duration(i)), id: fmt.Sprintf("given-%d-%d", index+1, i+1), payment: full.numbered(i + 1)}
		g.records = append(g.records, r)
		if id != "" {
			g.ids[id] = append(g.ids[id], r)
		}
	}
}

// outcome takes what became of payments before it, at a time or at theirs.
func (g *givenRecords) outcome(n node) {
	var of []testRecord
	outcome := ""
	var at *time.Duration
	found := n.object("an outcome",
		field{"outcome", func(v node) { outcome, _ = v.choice("outcome", payment.OutcomeNames()...) }},
		field{"of", func(v node) {
			id, ok := v.text("of")
			if of = g.ids[id]; ok && len(of) == 0 {
				v.suggest(v.place(), didYouMean(id, slices.Collect(maps.Keys(g.ids))), "no payment above has the id %s", id)
			}
		}},
		field{"at", func(v node) {
			d := v.offset("at", -maxTestAway, 0)
			at = &d
		}})
	n.needs("an outcome", found, "outcome", "of")
	for _, p := range of {
		r := testRecord{at: p.at, id: p.id, outcome: outcome}
		if at != nil {
			r.at = g.now.Add(*at)
			if r.at.Before(p.at) {
				n.at(found["at"].place(), "the outcome comes before its payment")
				return
			}
		}
		g.records = append(g.records, r)
	}
}

// send takes the payment that is judged.
func (g *givenRecords) send(n node) {
	var at time.Duration
	full := g.base.with(g.files.changes(n, "send", map[string]func(node){
		"at": func(v node) { at = v.offset("at", 0, maxTestAway) },
	}))
	g.complete(n, full)
	g.sent = testRecord{at: g.now.Add(at), id: SentID, payment: full, sent: true}
}

// complete reports what a payment cannot do without.
func (g *givenRecords) complete(n node, p testPayment) {
	for _, need := range [][2]string{{"type", "type"}, {"amount", "amount"}, {"payer.account_id", "payer"}} {
		if p[need[0]] == nil {
			n.suggest(n.place(), "write it here or in base", "the payment needs the field %s", need[1])
		}
	}
}

// offset reads a time relative to now: 0s, -9m, 2h.
func (n node) offset(what string, lo, hi time.Duration) time.Duration {
	s := ""
	if v, ok := n.ast.(*ast.StringNode); ok {
		s = v.Value
	}
	text, before := strings.CutPrefix(s, "-")
	d, ok := parseDuration(text)
	if before {
		d = -d
	}
	if !ok || d < lo || d > hi {
		example := "-9m, -1h or -30d; 0s is the time of now"
		if lo == 0 {
			example = "0s or 5m: nothing is given later than now"
		}
		n.at(n.place(), "%s must be a time relative to now, such as %s", what, example)
		return 0
	}
	return d
}
