package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/benchmarks/storm/oracle"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// The oracle recomputes windows from the transactions themselves, by their
// definition and with no thought of speed. It shares nothing with the gate but
// the place in the order that the gate says it gave each of them.

// definition is a feature as the ruleset's file and the oracle both read it.
type definition struct {
	entity string // a kind, or two joined by _
	name   string
	window time.Duration
	value  string // count, sum, min, max, distinct(kind)
	where  string // a type of transaction, "" for all
}

func (d definition) fullName() string { return d.entity + "." + d.name + "_" + d.windowText() }

func (d definition) windowText() string {
	if d.window%time.Hour == 0 {
		return fmt.Sprintf("%dh", d.window/time.Hour)
	}
	return fmt.Sprintf("%dm", d.window/time.Minute)
}

// definitions are what the ruleset of the kill test counts.
func definitions() []definition {
	var all []definition
	for _, entity := range []string{"payer", "payee", "device", "card", "terminal", "payer_payee"} {
		for _, w := range []time.Duration{5 * time.Minute, time.Hour} {
			all = append(all, definition{entity, "events", w, "count", ""}, definition{entity, "paid", w, "sum", ""})
		}
		all = append(all,
			definition{entity, "payments", 10 * time.Minute, "count", "payment"},
			definition{entity, "least", 10 * time.Minute, "min", ""},
			definition{entity, "most", 10 * time.Minute, "max", ""})
	}
	return append(all,
		definition{"payer", "payees", time.Hour, "distinct(payee)", ""},
		definition{"payee", "payers", time.Hour, "distinct(payer)", ""},
		definition{"device", "cards", 10 * time.Minute, "distinct(card)", ""},
		definition{"terminal", "payers", 10 * time.Minute, "distinct(payer)", "payment"})
}

// oracleRuleset writes the ruleset of the definitions, and rules that look at them.
func oracleRuleset(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	var b strings.Builder
	b.WriteString("features:\n")
	for _, d := range definitions() {
		fmt.Fprintf(&b, "  - {entity: %s, name: %s, windows: [%s], value: %s", d.entity, d.name, d.windowText(), d.value)
		if d.where != "" {
			fmt.Fprintf(&b, ", where: 'type == %q'", d.where)
		}
		b.WriteString("}\n")
	}
	// What became of payments is not in the oracle's order; it is asked for at the end.
	b.WriteString("  - {entity: payer, name: settled, windows: [24h], value: count, where: 'status == \"settled\"'}\n")
	write(t, dir+"/features/all.yaml", b.String())
	write(t, dir+"/rules/some.yaml", `rules:
  - id: busy-payer
    description: Many payments of one payer in five minutes
    owner: test
    when: 'payer.events_5m >= 6'
    verdict: hold
    hold: {needs: review, for: 1h, on_expiry: block}
    reason: BUSY_PAYER
    detail: "{payer.events_5m} payments"
  - id: large
    description: A large sum to one payee
    owner: test
    when: 'payer_payee.paid_1h >= CNY(20000)'
    verdict: block
    reason: LARGE
`)
	b.Reset()
	b.WriteString("base: CNY\nrates: {")
	for code, rate := range oracle.Rates() {
		fmt.Fprintf(&b, "%s: %s, ", code, rate)
	}
	write(t, dir+"/rates.yaml", strings.TrimSuffix(b.String(), ", ")+"}\n")
	return dir
}

// oracleEvent is a transaction as the oracle sees it.
type oracleEvent struct {
	id       string
	kind     string
	time     payment.Time
	position payment.Position
	entities map[string]string // kind to identifier
	base     int64             // minor units of the base currency, if based
	based    bool
}

// readEvent reads a transaction with the standard library.
func readEvent(record []byte) (*oracleEvent, error) {
	var tx struct {
		ID        string       `json:"transaction_id"`
		Type      string       `json:"type"`
		EventTime payment.Time `json:"event_time"`
		Amount    struct {
			Value    int64  `json:"value"`
			Currency string `json:"currency"`
		} `json:"amount"`
		Payer struct {
			ID string `json:"account_id"`
		} `json:"payer"`
		Payee struct {
			ID string `json:"account_id"`
		} `json:"payee"`
		Instrument struct{ Kind, Token string } `json:"instrument"`
		Device     struct{ ID string }          `json:"device"`
		Terminal   struct{ ID string }          `json:"terminal"`
	}
	if err := json.Unmarshal(record, &tx); err != nil {
		return nil, err
	}
	e := &oracleEvent{id: tx.ID, kind: tx.Type, time: tx.EventTime, entities: map[string]string{
		"payer": tx.Payer.ID, "payee": tx.Payee.ID, "device": tx.Device.ID, "terminal": tx.Terminal.ID,
	}}
	if tx.Instrument.Kind == "card" {
		e.entities["card"] = tx.Instrument.Token
	}
	e.base, e.based = oracle.InYuan(tx.Amount.Value, tx.Amount.Currency)
	return e, nil
}

// entity is the identifier of a kind or pair, "" where the transaction names none.
func (e *oracleEvent) entity(name string) string {
	first, second, pair := strings.Cut(name, "_")
	if !pair {
		return e.entities[first]
	}
	if e.entities[first] == "" || e.entities[second] == "" {
		return ""
	}
	return fmt.Sprintf("%q %q", e.entities[first], e.entities[second])
}

// logsOf is every event by entity, each log in the order of positions.
func logsOf(events map[string]*oracleEvent) map[string][]*oracleEvent {
	logs := map[string][]*oracleEvent{}
	names := map[string]bool{}
	for _, d := range definitions() {
		names[d.entity] = true
	}
	for _, e := range events {
		for name := range names {
			if id := e.entity(name); id != "" {
				logs[name+" "+id] = append(logs[name+" "+id], e)
			}
		}
	}
	for _, log := range logs {
		slices.SortFunc(log, func(a, b *oracleEvent) int {
			return cmp.Or(cmp.Compare(a.position.Segment, b.position.Segment), cmp.Compare(a.position.Offset, b.position.Offset))
		})
	}
	return logs
}

// at is the feature at an event by its definition: over the events of the
// entity at positions up to its own and times in (t − window, t]. "" is absent.
func (d definition) at(own *oracleEvent, log []*oracleEvent) string {
	var n, paid, sum, least, most int64
	var different map[string]bool
	kind, distinct := strings.CutPrefix(strings.TrimSuffix(d.value, ")"), "distinct(")
	for _, e := range log {
		if own.position.Before(e.position) {
			break
		}
		if e.time > own.time || e.time <= own.time.Add(-d.window) || d.where != "" && e.kind != d.where {
			continue
		}
		n++
		if distinct && e.entities[kind] != "" {
			if different == nil {
				different = map[string]bool{}
			}
			different[e.entities[kind]] = true
		}
		if !e.based {
			continue
		}
		if paid++; paid == 1 {
			least, most = e.base, e.base
		}
		sum, least, most = sum+e.base, min(least, e.base), max(most, e.base)
	}
	v := int64(len(different))
	switch d.value {
	case "count":
		v = n
	case "sum":
		v = sum
	case "min":
		v = least
	case "max":
		v = most
	}
	if paid == 0 && (d.value == "min" || d.value == "max") {
		return ""
	}
	return strconv.FormatInt(v, 10)
}
