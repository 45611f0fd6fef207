package rules

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

const day = 24 * time.Hour

// reaching loads features and one rule of which the detail says what came out.
func reaching(t testing.TB, features, condition string) *Ruleset {
	t.Helper()
	set, err := LoadFS(fstest.MapFS{
		"policy.yaml":     {Data: []byte("time_zone: Asia/Shanghai\n")},
		"features/a.yaml": {Data: []byte("features:\n" + features)},
		"rules/a.yaml":    {Data: []byte("rules:\n  - {id: a, verdict: block, when: '" + condition + "'}\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// atOnce decides one payment: true, false or unknown.
func atOnce(set *Ruleset, in *Input) window.Truth {
	e := set.NewEvaluator()
	var d payment.Decision
	d.Reset()
	e.Decide(in, &d)
	switch {
	case len(e.Hits()) > 0:
		return window.True
	case len(e.Unknown()) > 0:
		return window.Unknown
	case len(e.Failed()) > 0:
		panic("the rule failed")
	}
	return window.False
}

// since fills the times from which on logs are whole, the same for all slots.
func since(t payment.Time) func(int) payment.Time { return func(int) payment.Time { return t } }

func TestReachIsTheWindowOrWhatTheLogsHold(t *testing.T) {
	const features = `
  - {entity: payer, name: amount, windows: [30d, calendar_day, calendar_month], value: avg}
  - {entity: payer, name: fraud, windows: [30d], delay: 7d, value: share(fraud)}
  - {entity: payer, name: last_country, value: last(country)}
`
	in := bare() // a Sunday, 2026-11-22, 23:30 in Shanghai
	now := in.Tx.EventTime
	for _, c := range []struct {
		feature string
		since   time.Duration // before the payment; negative: after it
		want    time.Duration
	}{
		{"amount_30d", 90 * day, 30 * day},
		{"amount_30d", 30 * day, 30 * day},
		{"amount_30d", 30*day - time.Second, 30*day - time.Second},
		{"amount_30d", 250 * time.Millisecond, 250 * time.Millisecond},
		{"amount_30d", 0, 0},
		{"amount_30d", -day, 0},
		{"fraud_30d", 90 * day, 30 * day}, // the window ends 7 days before the payment
		{"fraud_30d", 30 * day, 23 * day},
		{"fraud_30d", 7 * day, 0},
		{"fraud_30d", day, 0},
		{"amount_calendar_day", 90 * day, 23*time.Hour + 30*time.Minute},
		{"amount_calendar_day", time.Hour, time.Hour},
		{"amount_calendar_month", 90 * day, 21*day + 23*time.Hour + 30*time.Minute},
		{"amount_calendar_month", 10 * day, 10 * day},
		{"last_country", 90 * day, 90 * day}, // no window: as far as the log reaches
		{"last_country", -time.Hour, 0},
	} {
		set := reaching(t, features, fmt.Sprintf("reach(payer.%s) == %v", c.feature, c.want.Seconds()))
		in.Features, in.Since = make([]payment.Value, len(set.Features())), since(now.Add(-c.since))
		if atOnce(set, in) != window.True {
			t.Errorf("%s with logs since %v before the payment does not reach back %v", c.feature, c.since, c.want)
		}
	}
}

func TestReachWithLogsFromEverIsTheWholeWindow(t *testing.T) {
	const features = `
  - {entity: payer, name: amount, windows: [30d], value: avg}
  - {entity: payer, name: last_country, value: last(country)}
`
	set := reaching(t, features, "reach(payer.amount_30d) == 30 * 86400 and reach(payer.last_country) > 200 * 365 * 86400")
	in := bare()
	in.Features = make([]payment.Value, 2)
	for name, logs := range map[string]func(int) payment.Time{"nil": nil, "the first moment": since(ever)} {
		if in.Since = logs; atOnce(set, in) != window.True {
			t.Errorf("logs since %s do not show whole windows", name)
		}
	}
	in.Since = since(1<<63 - 1) // what a store says that holds nothing yet
	if atOnce(set, in) != window.False {
		t.Error("logs without an entry show something")
	}
}

// Where the feature itself is absent because nobody is there to be looked at,
// so is its reach: a rule must not take it for short.
func TestReachOfWhatThePaymentDoesNotNameIsAbsent(t *testing.T) {
	const features = `
  - {entity: card, name: n, windows: [30d], value: count}
  - {entity: payer_card, name: n, windows: [30d], value: count}
  - {entity: card_device, name: n, windows: [30d], value: count}
  - {entity: payer, name: n, windows: [30d], value: count}
`
	in := bare()
	in.Features = make([]payment.Value, 4)
	judged := func(condition string) window.Truth { return atOnce(reaching(t, features, condition), in) }
	for _, feature := range []string{"card.n_30d", "payer_card.n_30d", "card_device.n_30d"} {
		if got := judged("reach(" + feature + ") < 86400"); got != window.Unknown {
			t.Errorf("%s of a payment without a card: %s", feature, truthWord(got))
		}
	}
	if judged("(reach(card.n_30d) ?? -1) == -1") != window.True {
		t.Error("?? does not see that it is absent")
	}
	in.Tx.Instrument.Token = "balance-1"
	in.Tx.Instrument.Kind = "balance"
	if got := judged("reach(card.n_30d) > 0"); got != window.Unknown {
		t.Errorf("the card of a payment from the balance: %s", truthWord(got))
	}
	in.Tx.Instrument.Kind = "card"
	for feature, want := range map[string]window.Truth{"card.n_30d": window.True, "payer_card.n_30d": window.True, "card_device.n_30d": window.Unknown} {
		if got := judged("reach(" + feature + ") > 0"); got != want {
			t.Errorf("%s of a payment by card without a device: %s", feature, truthWord(got))
		}
	}
	in.Late = true
	if got := judged("reach(payer.n_30d) >= 0"); got != window.Unknown {
		t.Errorf("a late payment, which has no features: %s", truthWord(got))
	}
}

// A calendar window begins where the store begins it, also on days whose
// midnight a change of clocks has moved or taken away.
func TestReachOfACalendarWindowIsTheOneThatTheStoreFolds(t *testing.T) {
	for _, c := range []struct{ zone, at string }{
		{"Asia/Shanghai", "2026-11-22T23:30:00+08:00"},
		{"America/Sao_Paulo", "2018-11-04T15:00:00-02:00"}, // this day began at 1 o'clock
		{"Europe/Berlin", "2026-10-25T23:30:00+01:00"},     // this one had 25 hours
		{"Europe/Berlin", "2026-03-29T23:30:00+02:00"},     // and this one 23
		{"Asia/Shanghai", "2026-12-01T00:00:00+08:00"},     // midnight itself
	} {
		at, ok := payment.ParseTime(c.at)
		if !ok {
			t.Fatal(c.at)
		}
		set, err := LoadFS(fstest.MapFS{
			"policy.yaml": {Data: []byte("time_zone: " + c.zone + "\n")},
			"features/a.yaml": {Data: []byte(`features:
  - {entity: payer, name: first, windows: [calendar_day, calendar_month], value: since_first}
`)},
		})
		if err != nil {
			t.Fatal(err)
		}
		store, err := window.Open(window.Options{Features: set.Features(), Lateness: 60 * day})
		if err != nil {
			t.Fatal(err)
		}
		var values []payment.Value
		in := bare()
		for i := range set.OwnFeatures() { // payments just inside the day and the month, and the one that looks
			f := &set.OwnFeatures()[i]
			tx := *in.Tx
			tx.EventTime = at.Add(-extent(f, at))
			values = values[:0]
			for n, when := range []payment.Time{tx.EventTime - 1, tx.EventTime, at} {
				tx.ID, tx.EventTime = fmt.Sprint(f.Name, n), when
				tx.Payer.AccountID = f.Name
				it := &window.Item{Tx: &tx, KafkaTime: at}
				if err := store.Append(t.Context(), []*window.Item{it}); err != nil {
					t.Fatal(err)
				}
				values = append(values[:0], it.Values...)
			}
			facts := facts{Input: Input{Tx: &tx}}
			got, ok := reachOf(i, f)(&facts)
			if !ok || got != values[i].Float() {
				t.Errorf("%s in %s: reach says %v, and the store's window %v", c.at, c.zone, got, values[i].Float())
			}
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReachAllocatesNothing(t *testing.T) {
	set := reaching(t, `
  - {entity: payer_card, name: amount, windows: [30d, calendar_month], value: avg}
`, "reach(payer_card.amount_30d) >= 20 * 86400 and reach(payer_card.amount_calendar_month) > 60")
	in := bare()
	in.Tx.Instrument.Kind, in.Tx.Instrument.Token = "card", "c-1"
	in.Features, in.Since = make([]payment.Value, 2), since(in.Tx.EventTime.Add(-25*day))
	firesWithoutAllocating(t, set.NewEvaluator(), in)
}

// The package's documentation is what analysts read: it names every function and
// every kind of entity, and its example does what it says.
func TestDocumentationNamesFunctionsAndEntities(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(strings.ReplaceAll(string(doc), "//", "")), " ")
	for _, name := range functionNames() {
		if !strings.Contains(text, name+"(") {
			t.Errorf("doc.go does not name the function %s", name)
		}
	}
	_, entities, _ := strings.Cut(text, "An entity is a ")
	entities, _, _ = strings.Cut(entities, "joined")
	for _, name := range window.EntityNames() {
		if !strings.Contains(entities, name) {
			t.Errorf("doc.go does not name the entity %s", name)
		}
	}
	const example = "reach(payer.amount_30d) >= 20 * 86400 and amount > 5 * payer.amount_30d"
	if !strings.Contains(text, example) {
		t.Fatalf("doc.go has no longer the example %s", example)
	}
	set := reaching(t, "  - {entity: payer, name: amount, windows: [30d], value: avg}\n", example)
	in := bare()
	in.Features = []payment.Value{payment.FloatValue(100)} // usual is 1 yuan, and this is 12.50
	for logs, want := range map[time.Duration]window.Truth{19 * day: window.False, 20 * day: window.True, 90 * day: window.True} {
		in.Since = since(in.Tx.EventTime.Add(-logs))
		if got := atOnce(set, in); got != want {
			t.Errorf("on logs of %v: %s", logs, truthWord(got))
		}
	}
}

// What last(bank) keeps is compared with the payment's own bank.
func TestBankIsAnEntityLikeOthers(t *testing.T) {
	set := reaching(t, `
  - {entity: payer, name: bank, value: last(bank)}
  - {entity: bank, name: failed, windows: [5m], value: 'share(status == "technical_failure")'}
  - {entity: payer_bank, name: n, windows: [30d], value: count}
`, "payer.bank != instrument.bank and bank.failed_5m < 0.5 and payer_bank.n_30d == 1")
	in := bare()
	in.Tx.Instrument.Bank = "icbc"
	in.Features = []payment.Value{payment.RefValue(1), payment.FloatValue(0), payment.IntValue(1)}
	in.Hash = func(k window.Kind) uint64 {
		if k != window.Bank {
			t.Errorf("the hash of a %s was asked for", k)
		}
		return 2
	}
	if got := atOnce(set, in); got != window.True {
		t.Errorf("another bank than the last one: %s", truthWord(got))
	}
}
