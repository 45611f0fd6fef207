package oracle

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Feature is a feature as the ruleset's file and the oracle both read it.
type Feature struct {
	entity, name  string
	kind          int // the place of entity among Kinds
	window, delay time.Duration
	value         string // as in the file
	distinct      bool   // of ref
	ref           int
	share, before bool                // of fraud; of the events before
	status        payment.OutcomeKind // that counts, 0 for all
}

// FullName is the name under which evidence has it.
func (f *Feature) FullName() string {
	return fmt.Sprintf("%s.%s_%ds", f.entity, f.name, f.window/time.Second)
}

const kinds = 5

// Kinds are the kinds of entities that features look at.
func Kinds() [kinds]string { return [kinds]string{"payer", "payee", "card", "device", "ip"} }

// Features are those of each kind, in the order of the ruleset's file. Their
// windows are multiples of a unit of at least a second: a run much longer than 60
// units sees events leave every window.
func Features(unit time.Duration) []Feature {
	counted := [kinds]int{refPayee, refPayer, refDevice, refCard, refPayer}
	names := map[int]string{refPayer: "payer", refPayee: "payee", refCard: "card", refDevice: "device"}
	var all []Feature
	for i, kind := range Kinds() {
		for _, f := range []Feature{
			{name: "events", window: 5, value: "count"},
			{name: "events", window: 60, value: "count"},
			{name: "paid", window: 5, value: "sum"},
			{name: "paid", window: 60, value: "sum"},
			{name: "mean", window: 10, value: "avg"},
			{name: "least", window: 10, value: "min"},
			{name: "most", window: 60, value: "max"},
			{name: "others", window: 30, value: "distinct(" + names[counted[i]] + ")", distinct: true, ref: counted[i]},
			{name: "fraud", window: 60, delay: 1, value: "share(fraud)", share: true},
			{name: "failed", window: 30, value: "count", status: payment.OutcomeTechnicalFailure},
			{name: "settled", window: 10, delay: 1, value: "sum", status: payment.OutcomeSettled},
			{name: "channel", window: 60, value: "last(channel)", before: true},
			{name: "pause", window: 30, value: "since_last", before: true},
		} {
			f.entity, f.kind, f.window, f.delay = kind, i, f.window*unit, f.delay*unit
			all = append(all, f)
		}
	}
	return all
}

// Ruleset returns the files of a ruleset with these features, and two rules that
// hold and block some of the payments.
func Ruleset(unit time.Duration) map[string]string {
	var features strings.Builder
	features.WriteString("features:\n")
	for _, f := range Features(unit) {
		fmt.Fprintf(&features, "  - {entity: %s, name: %s, windows: [%ds], value: %s", f.entity, f.name, f.window/time.Second, f.value)
		if f.delay > 0 {
			fmt.Fprintf(&features, ", delay: %ds", f.delay/time.Second)
		}
		if f.status != 0 {
			fmt.Fprintf(&features, ", where: 'status == %q'", f.status)
		}
		features.WriteString("}\n")
	}
	within := make([]string, 0, len(decideWithin()))
	for kind, d := range decideWithin() {
		within = append(within, fmt.Sprintf("%s: %v", kind, d))
	}
	rates := make([]string, 0, len(Rates()))
	for code, rate := range Rates() {
		rates = append(rates, code+": "+rate)
	}
	return map[string]string{
		"features/all.yaml": features.String(),
		"policy.yaml":       "base_currency: CNY\ndecide_within: {" + strings.Join(within, ", ") + "}\n",
		"rates.yaml":        "base: CNY\nrates: {" + strings.Join(rates, ", ") + "}\n",
		"rules/some.yaml": fmt.Sprintf(`rules:
  - id: busy-card
    description: Many payments with one card in a short time
    owner: test
    when: 'card.events_%ds >= 4'
    verdict: hold
    hold: {needs: review, for: 24h, on_expiry: block}
    reason: BUSY_CARD
  - id: busy-address
    description: A large sum from one address
    owner: test
    when: 'ip.paid_%ds >= CNY(200000)'
    verdict: block
    reason: BUSY_ADDRESS
`, 5*unit/time.Second, 60*unit/time.Second),
	}
}

// decideWithin is the time that a transaction has which names no deadline, by type.
func decideWithin() map[payment.Type]time.Duration {
	return map[payment.Type]time.Duration{payment.TypePayment: 300 * time.Millisecond, payment.TypeTransfer: time.Second,
		payment.TypeWithdrawal: time.Second, payment.TypeTopUp: time.Second, payment.TypeRefund: 2 * time.Second}
}

// Rates has one unit of each currency in yuan; others have none.
func Rates() map[string]string {
	return map[string]string{"USD": "7.10", "EUR": "7.80", "HKD": "0.91", "JPY": "0.047", "SGD": "5.30"}
}

// kindRefs are the references of an entry that name the kinds.
func kindRefs() [kinds]int { return [kinds]int{refPayer, refPayee, refCard, refDevice, refIP} }
