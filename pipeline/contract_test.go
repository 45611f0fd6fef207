package pipeline_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// refusedRecord is a record that cannot be used.
type refusedRecord struct {
	reason payment.Reason
	field  string
	record string
	id     string // of the transaction, where it can be answered
}

func refusedTransactions() []refusedRecord {
	hours := func(n int) string {
		return `"event_time":"` + time.Now().Add(time.Duration(n)*time.Hour).UTC().Format(time.RFC3339) + `","x":"`
	}
	const now = `"event_time":"`
	return []refusedRecord{
		{payment.ReasonEmpty, "", "", ""},
		{payment.ReasonTooLarge, "", paid("r", `"v":1`, `"x":"`+strings.Repeat("x", 64<<10)+`"`), ""},
		{payment.ReasonNotJSON, "", `{"transaction_id":"r"`, ""},
		{payment.ReasonInvalidUTF8, "", paid("r-utf8", `"qr"`, `"qr","x":"`+"\xff"+`"`), "r-utf8"},
		{payment.ReasonTooDeep, "", paid("r-deep", `"v":1`, `"x":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)), "r-deep"},
		{payment.ReasonDuplicateKey, "channel", paid("r-twice", `"channel":"qr"`, `"channel":"qr","channel":"web"`), "r-twice"},
		{payment.ReasonMissingField, "amount", paid("r-missing", `"amount"`, `"x"`), "r-missing"},
		{payment.ReasonMissingField, "transaction_id", paid("r", `"transaction_id"`, `"x"`), ""},
		{payment.ReasonMissingField, "payer.account_id", paid("r", `"account_id"`, `"x"`), ""},
		{payment.ReasonWrongType, "amount.value", paid("r-type", `1250`, `"1250"`), "r-type"},
		{payment.ReasonUnknownVersion, "v", paid("r-v", `"v":1`, `"v":2`), "r-v"},
		{payment.ReasonUnknownType, "type", paid("r-kind", `"payment"`, `"gift"`), "r-kind"},
		{payment.ReasonMalformedChannel, "channel", paid("r-channel", `"qr"`, `"q r"`), "r-channel"},
		{payment.ReasonAmountNegative, "amount.value", paid("r-negative", `1250`, `-1`), "r-negative"},
		{payment.ReasonAmountOverflow, "amount.value", paid("r-overflow", `1250`, `9223372036854775808`), "r-overflow"},
		{payment.ReasonUnknownCurrency, "amount.currency", paid("r-currency", `CNY`, `XQQ`), "r-currency"},
		{payment.ReasonBadTime, "event_time", paid("r-time", now, `"event_time":"today","x":"`), "r-time"},
		{payment.ReasonFutureTime, "event_time", paid("r-future", now, hours(1)), "r-future"},
		{payment.ReasonOlderThanLedger, "event_time", paid("r-old", now, hours(-200*24)), "r-old"},
		{payment.ReasonDecideByEarly, "decide_by", paid("r-early", `"v":1`, `"decide_by":"2026-01-01T00:00:00Z"`), "r-early"},
		{payment.ReasonBadCountry, "payer.country", paid("r-country", `"CN"`, `"XX"`), "r-country"},
		{payment.ReasonBadIP, "device.ip", paid("r-ip", `203.0.113.7`, `203.0.113.777`), "r-ip"},
		{payment.ReasonBadLocation, "device.lat", paid("r-lat", `31.2`, `99`), "r-lat"},
		{payment.ReasonTooLong, "payee.account_id", paid("r-long", `m-1`, strings.Repeat("m", 129)), "r-long"},
		{payment.ReasonControlCharacter, "instrument.token", paid("r-control", `c-1`, `c\u0007`), "r-control"},
		{payment.ReasonTooManyFields, "accepts", paid("r-many", `"v":1`, `"accepts":[`+strings.Repeat(`"hold",`, 16)+`"hold"]`), "r-many"},
	}
}

// Whatever is wrong with a record, it stops nobody: it stands in dead letters
// byte for byte, with the reason, the field and its place; a payment that can be
// identified is blocked; and the payments around it are decided.
func TestEveryRefusalIsDeadLetteredAndStopsNobody(t *testing.T) {
	g := startLive(t, nil)
	var sent []string
	refused := refusedTransactions()
	wantDecisions := 0
	for i, r := range refused {
		sent = append(sent, r.record, paid(fmt.Sprint("good-", i)))
		wantDecisions++
		if r.id != "" {
			wantDecisions++
		}
	}
	g.send(g.config.Topics.Transactions, 1, sent...)
	outcomes := []refusedRecord{
		{payment.ReasonUnknownOutcome, "outcome", became("good-0", "vanished"), ""},
		{payment.ReasonMissingField, "transaction_id", became("", "settled"), ""},
		{payment.ReasonNotJSON, "", "settled", ""},
	}
	for _, o := range outcomes {
		g.send(g.config.Topics.Outcomes, 0, o.record)
	}

	decisions := g.decisions(wantDecisions)
	letters := g.read(g.config.Topics.DeadLetters, len(refused)+len(outcomes))
	if len(decisions) != wantDecisions || len(letters) != len(refused)+len(outcomes) {
		t.Errorf("%d decisions and %d dead letters; want %d and %d", len(decisions), len(letters), wantDecisions, len(refused)+len(outcomes))
	}
	check := func(topic string, partition, offset int, r refusedRecord) {
		t.Helper()
		i := slices.IndexFunc(letters, func(s said) bool {
			return s.headers["topic"] == topic && s.headers["partition"] == fmt.Sprint(partition) && s.headers["offset"] == fmt.Sprint(offset)
		})
		if i < 0 {
			t.Errorf("%s (%s): no dead letter of %s/%d/%d", r.reason, r.field, topic, partition, offset)
			return
		}
		if l := letters[i]; l.value != r.record || l.key != "u-1" || l.headers["reason"] != string(r.reason) || l.headers["field"] != r.field {
			t.Errorf("%s (%s): the dead letter is %v %.200q", r.reason, r.field, l.headers, l.value)
		}
	}
	for i, r := range refused {
		check(g.config.Topics.Transactions, 1, 2*i, r)
		if good := decisions[fmt.Sprint("good-", i)]; len(good) != 1 || good[0].headers["verdict"] != "approve" {
			t.Errorf("the payment behind %s has the decisions %v", r.reason, good)
		}
		if r.id == "" {
			continue
		}
		if len(decisions[r.id]) != 1 {
			t.Errorf("%s (%s): %d decisions of the payment that was refused", r.reason, r.field, len(decisions[r.id]))
			continue
		}
		d := g.decoded(decisions[r.id][0])
		if d.Verdict != payment.Block || d.Source != payment.SourceInvalid || !d.Final || d.Transaction.Payer != "u-1" || len(d.Reasons) != 1 || d.Reasons[0].Code != "INVALID" {
			t.Errorf("%s (%s): the payment that was refused was decided %s", r.reason, r.field, decisions[r.id][0].value)
		}
	}
	for i, r := range outcomes {
		check(g.config.Topics.Outcomes, 0, i, r)
	}

	// Every reason of the closed set is met here or in a test of its own below.
	met := []payment.Reason{payment.ReasonIDConflict, payment.ReasonUnmatched, payment.ReasonUnknownReview, payment.ReasonUnknownControl, payment.ReasonUntilEarly,
		payment.ReasonExpired, payment.ReasonBadHash,
		payment.ReasonNotHeld, payment.ReasonNotNeeded, payment.ReasonAfterEnd} // of reviews, see holds_test.go
	for _, r := range append(refused, outcomes...) {
		met = append(met, r.reason)
	}
	for _, r := range payment.Reasons() {
		if !slices.Contains(met, r) {
			t.Errorf("no record is refused for %s", r)
		}
	}
}

// A window holds what was paid, and not what was refused.
func TestRefusedPaymentsEnterNoWindow(t *testing.T) {
	g := startLive(t, nil)
	blocked := 0
	for _, r := range refusedTransactions() {
		g.send(g.config.Topics.Transactions, 0, r.record)
		if r.id != "" {
			blocked++
		}
	}
	g.send(g.config.Topics.Transactions, 0, paid("t-1"), paid("t-1"), paid("t-1", "1250", "1"), paid("t-2"))
	last := g.decisions(blocked + 3)["t-2"]
	if len(last) != 1 || g.feature(last[0], "payer.events_1h") != "2" {
		t.Errorf("the second payment of its payer: %v", last)
	}
}

// The same id with other content is never answered with the stored verdict; what
// does not belong to the content may differ.
func TestSameIDWithOtherContentIsAConflict(t *testing.T) {
	g := startLive(t, nil)
	original := paid("t-1")
	conflicts := []string{
		strings.Replace(original, `"payment"`, `"transfer"`, 1),
		strings.Replace(original, `1250`, `1251`, 1),
		strings.Replace(original, `CNY`, `USD`, 1),
		strings.Replace(original, `"u-1"`, `"u-2"`, 1),
		strings.Replace(original, `"m-1"`, `"m-2"`, 1),
		strings.Replace(original, `"c-1"`, `"c-2"`, 1),
	}
	same := []string{
		original,
		strings.Replace(original, `"qr"`, `"web"`, 1),
		strings.Replace(original, `"d-1"`, `"d-2"`, 1),
		paid("t-1"), // at another time
	}
	// Once in one batch with the original, and once much later, after a restart.
	g.send(g.config.Topics.Transactions, 0, append(append([]string{original}, conflicts...), same...)...)
	g.decisions(1 + len(same))
	g.restart(nil)
	g.send(g.config.Topics.Transactions, 1, append(append([]string{}, conflicts...), same...)...)
	for id, all := range g.decisions(1 + 2*len(same)) {
		if id != "t-1" || len(all) != 1+2*len(same) {
			t.Errorf("%d decisions of %s, want %d", len(all), id, 1+2*len(same))
		}
		for _, d := range all {
			if d.value != all[0].value {
				t.Errorf("two verdicts of one payment:\n%s\n%s", all[0].value, d.value)
			}
		}
	}
	letters := g.read(g.config.Topics.DeadLetters, 2*len(conflicts))
	var found []string
	for _, l := range letters {
		if l.headers["reason"] != "id_conflict" || l.headers["field"] != "transaction_id" {
			t.Errorf("dead letter %v", l.headers)
		}
		found = append(found, l.value)
	}
	want := append(append([]string{}, conflicts...), conflicts...)
	slices.Sort(found)
	slices.Sort(want)
	if !slices.Equal(found, want) {
		t.Errorf("dead letters\n%s\nwant\n%s", strings.Join(found, "\n"), strings.Join(want, "\n"))
	}
}

// A payment that was decided stays so, also if its record comes back spoiled;
// and one that was blocked as invalid is not decided again.
func TestSpoiledCopyOfADecidedPaymentChangesNothing(t *testing.T) {
	g := startLive(t, nil)
	good, spoiled := paid("t-1"), paid("t-1", `"CN"`, `"XX"`)
	g.send(g.config.Topics.Transactions, 0, good, spoiled, paid("t-2", `"CN"`, `"XX"`), paid("t-2"), paid("t-3"))
	decisions := g.decisions(4)
	if d := decisions["t-1"]; len(d) != 1 || d[0].headers["verdict"] != "approve" {
		t.Errorf("t-1: %v", d)
	}
	if d := decisions["t-2"]; len(d) != 2 || d[0].headers["verdict"] != "block" || d[0].value != d[1].value {
		t.Errorf("t-2: %v", d)
	}
	for i, l := range g.read(g.config.Topics.DeadLetters, 2) {
		if l.headers["reason"] != "bad_country" || i > 1 {
			t.Errorf("dead letter %d: %v", i, l.headers)
		}
	}
}

// A redelivered payment gets its stored decision, even if it comes after a
// restart, to another partition, and the rules would decide otherwise now.
func TestRedeliveryAfterRestartWithOtherRulesGetsItsStoredDecision(t *testing.T) {
	for name, recent := range map[string]int{"bytes at hand": 64 << 20, "bytes read from the topic": 0} {
		t.Run(name, func(t *testing.T) {
			g := startLive(t, func(c *pipeline.Config) { c.Ledger.RecentBytes = recent })
			var records []string
			for i := range 50 {
				records = append(records, paid(fmt.Sprint("t-", i)))
			}
			g.send(g.config.Topics.Transactions, 0, records...)
			before := g.decisions(50)
			g.restart(func(c *pipeline.Config) { c.Rules = countingRules(t, "block", 1) })
			g.send(g.config.Topics.Transactions, 1, append(records, paid("t-new"))...)
			after := g.decisions(101)
			for i := range 50 {
				id := fmt.Sprint("t-", i)
				if all := after[id]; len(all) != 2 || all[0].value != before[id][0].value || all[1].value != all[0].value || all[1].partition != 1 {
					t.Fatalf("%s was decided\n%v\nand is now\n%v", id, before[id], all)
				}
			}
			if d := after["t-new"]; len(d) != 1 || d[0].headers["verdict"] != "block" || g.feature(d[0], "payer.events_1h") != "51" {
				t.Errorf("a new payment is decided by the new rules, with the windows of before: %v", d)
			}
		})
	}
}

// An outcome that comes before its transaction waits for it, over a restart too,
// and counts from then on.
func TestOutcomeBeforeItsTransactionCountsAfterwards(t *testing.T) {
	g := startLive(t, nil)
	g.send(g.config.Topics.Transactions, 0, paid("t-0")) // so that it is seen to work
	g.decisions(1)
	g.send(g.config.Topics.Outcomes, 0, became("t-1", "settled"), became("t-1", "settled"), became("t-0", "settled"))
	awaitOutcomes(g.within(20*time.Second), t, g.metrics, 3)
	g.restart(nil)
	g.send(g.config.Topics.Transactions, 0, paid("t-1"))
	g.decisions(2)
	g.send(g.config.Topics.Transactions, 0, paid("t-2"))
	if d := g.decisions(3)["t-2"][0]; g.feature(d, "payer.settled_1h") != "2" || g.feature(d, "payer.events_1h") != "3" {
		t.Errorf("two of three payments have settled: %s", d.value)
	}
}

// An outcome whose transaction never comes ends in dead letters when it has
// waited long enough; one whose transaction came does not.
func TestOutcomeWithoutTransactionIsDeadLettered(t *testing.T) {
	g := startLive(t, func(c *pipeline.Config) { c.Windows.OutcomesWait = time.Second })
	g.send(g.config.Topics.Transactions, 0, paid("t-1"))
	g.decisions(1)
	lost := became("t-never", "refunded")
	g.send(g.config.Topics.Outcomes, 1, became("t-1", "settled"), lost)
	letters := g.read(g.config.Topics.DeadLetters, 1)
	if l := letters[0]; len(letters) != 1 || l.value != lost || l.key != "u-1" || l.headers["reason"] != "unmatched" || l.headers["field"] != "transaction_id" ||
		l.headers["topic"] != g.config.Topics.Outcomes || l.headers["partition"] != "1" || l.headers["offset"] != "1" {
		t.Errorf("dead letters %v", letters)
	}
	g.restart(nil) // and it is given up once
	g.send(g.config.Topics.Outcomes, 1, became("t-other", "settled"))
	if letters := g.read(g.config.Topics.DeadLetters, 2); len(letters) != 2 {
		t.Errorf("dead letters %v", letters)
	}
}
