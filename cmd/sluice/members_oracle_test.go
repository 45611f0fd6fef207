package main

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// The features of the test of members, and what each is by its definition: over
// the events of a log at places before the one up to which a decision looked.

// sharedFeature is a feature as the ruleset's file and the oracle both read it.
type sharedFeature struct {
	entity, name  string
	window, delay time.Duration
	value         string // as in the file
	distinct      bool   // of ref
	ref           int
	share, before bool                // of fraud; of the events before
	status        payment.OutcomeKind // that counts, 0 for all
}

func (f sharedFeature) fullName() string {
	return fmt.Sprintf("%s.%s_%dm", f.entity, f.name, f.window/time.Minute)
}

func sharedKinds() []string { return []string{"payer", "payee", "card", "device", "ip"} }

// loggedKinds are those of which members write logs.
func loggedKinds() []string { return append(sharedKinds(), "charge") }

// sharedFeatures are those of each kind, in the order of the ruleset's file.
func sharedFeatures() []sharedFeature {
	const m = time.Minute
	counted := map[string]int{"payer": refPayee, "payee": refPayer, "card": refDevice, "device": refCard, "ip": refPayer}
	names := map[int]string{refPayer: "payer", refPayee: "payee", refCard: "card", refDevice: "device", refIP: "ip"}
	var all []sharedFeature
	for _, kind := range sharedKinds() {
		for _, f := range []sharedFeature{
			{name: "events", window: 5 * m, value: "count"},
			{name: "events", window: 60 * m, value: "count"},
			{name: "paid", window: 5 * m, value: "sum"},
			{name: "paid", window: 60 * m, value: "sum"},
			{name: "mean", window: 10 * m, value: "avg"},
			{name: "least", window: 10 * m, value: "min"},
			{name: "most", window: 60 * m, value: "max"},
			{name: "others", window: 30 * m, value: "distinct(" + names[counted[kind]] + ")", distinct: true, ref: counted[kind]},
			{name: "fraud", window: 60 * m, delay: m, value: "share(fraud)", share: true},
			{name: "failed", window: 30 * m, value: "count", status: payment.OutcomeTechnicalFailure},
			{name: "settled", window: 10 * m, delay: m, value: "sum", status: payment.OutcomeSettled},
			{name: "channel", window: 60 * m, value: "last(channel)", before: true},
			{name: "pause", window: 30 * m, value: "since_last", before: true},
		} {
			f.entity = kind
			all = append(all, f)
		}
	}
	return all
}

// sharedRuleset writes the ruleset with these features.
func sharedRuleset(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	var b strings.Builder
	b.WriteString("features:\n")
	for _, f := range sharedFeatures() {
		fmt.Fprintf(&b, "  - {entity: %s, name: %s, windows: [%dm], value: %s", f.entity, f.name, f.window/time.Minute, f.value)
		if f.delay > 0 {
			fmt.Fprintf(&b, ", delay: %dm", f.delay/time.Minute)
		}
		if f.status != 0 {
			fmt.Fprintf(&b, ", where: 'status == %q'", f.status)
		}
		b.WriteString("}\n")
	}
	write(t, dir+"/features/all.yaml", b.String())
	write(t, dir+"/rules/some.yaml", `rules:
  - id: busy-card
    description: Many payments with one card in five minutes
    owner: test
    when: 'card.events_5m >= 4'
    verdict: hold
    hold: {needs: review, for: 1h, on_expiry: block}
    reason: BUSY_CARD
  - id: busy-address
    description: A large sum from one address
    owner: test
    when: 'ip.paid_60m >= CNY(200000)'
    verdict: block
    reason: BUSY_ADDRESS
`)
	b.Reset()
	b.WriteString("base: CNY\nrates: {")
	for code, rate := range exampleRates() {
		fmt.Fprintf(&b, "%s: %s, ", code, rate)
	}
	write(t, dir+"/rates.yaml", strings.TrimSuffix(b.String(), ", ")+"}\n")
	return dir
}

// standing is what outcomes up to a moment, at places before one, made of an event:
// the last outcome, and of those that say whether it was fraud the last.
func (e *logEvent) standing(t payment.Time, upTo at) (status payment.OutcomeKind, fraud bool) {
	last, label := payment.Time(math.MinInt64), payment.Time(math.MinInt64)
	for i := range e.outcomes {
		o := &e.outcomes[i]
		if o.at >= upTo || o.time > t {
			continue
		}
		if o.time >= last {
			last, status = o.time, o.kind
		}
		if (o.kind == payment.OutcomeFraudConfirmed || o.kind == payment.OutcomeFraudCleared) && o.time >= label {
			label, fraud = o.time, o.kind == payment.OutcomeFraudConfirmed
		}
	}
	return status, fraud
}

// absent is the value of a feature that has none.
var absent = math.NaN()

// oracle computes values. A text stands as its number in a vocabulary.
type oracle struct {
	texts     map[string]float64
	different map[uint64]bool // scratch
}

func newOracle() *oracle { return &oracle{map[string]float64{}, map[uint64]bool{}} }

func (o *oracle) number(text string) float64 {
	n, ok := o.texts[text]
	if !ok {
		n = float64(len(o.texts))
		o.texts[text] = n
	}
	return n
}

// value is a feature as of the transaction at place own of a log, when the log
// was read up to a position: the transaction itself counts, wherever it stands.
func (o *oracle) value(f *sharedFeature, l *entityLog, own int32, upTo at) float64 {
	t := l.events[own].time
	high := t.Add(-f.delay)
	low := high.Add(-f.window)
	var n, paid, sum, least, most, fraudulent int64
	clear(o.different)
	for i := own; i >= 0 && l.events[i].time > low; i-- {
		e := &l.events[i]
		if e.at >= upTo && i != own || e.time > high {
			continue
		}
		if f.before {
			switch {
			case i == own:
				continue
			case f.value == "since_last":
				return float64(t-e.time) / 1e9
			case e.channel == "":
				return absent
			}
			return o.number(e.channel)
		}
		if f.status != 0 || f.share {
			status, fraud := e.standing(t, upTo)
			if f.status != 0 && status != f.status {
				continue
			}
			if fraud {
				fraudulent++
			}
		}
		if n++; f.distinct {
			if e.refs[f.ref] != 0 {
				o.different[e.refs[f.ref]] = true
			}
		} else if e.based {
			if paid++; paid == 1 {
				least, most = e.base, e.base
			}
			sum, least, most = sum+e.base, min(least, e.base), max(most, e.base)
		}
	}
	switch {
	case f.value == "count":
		return float64(n)
	case f.value == "sum":
		return float64(sum)
	case f.distinct:
		return float64(len(o.different))
	case f.share:
		return float64(fraudulent) / float64(max(n, 1))
	case f.before || paid == 0:
		return absent
	case f.value == "avg":
		return float64(sum) / float64(paid)
	case f.value == "min":
		return float64(least)
	}
	return float64(most)
}
