package payment

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// exampleDecision is the example of the contract, with its gaps filled.
const exampleDecision = `{"v":1,"decision_id":"DECISION_ID","transaction_id":"42000012342026112300001","revision":1,"verdict":"hold","source":"rules","final":false,` +
	`"points":40,"score":64,` +
	`"reasons":[{"code":"CARD_TESTING","rule":"card-testing","points":40,"detail":"6 attempts in 10 minutes"}],` +
	`"payer_code":"TRY_ANOTHER_WAY","payer_message":"This card cannot be used right now. Please try another way to pay.",` +
	`"hold":{"needs":["step_up"],"methods":["otp","face"],"expires_at":"2026-11-23T00:18:30.123Z","on_expiry":"block"},` +
	`"transaction":{"type":"payment","channel":"qr","amount":{"value":12850,"currency":"CNY"},"payer":"u-1001","payee":"m-88","instrument":"c-7f","device":"d-31","order_id":"A-77120"},` +
	`"event_time":"2026-11-23T00:15:30.123Z","received_at":"2026-11-23T00:15:30.130Z","decided_at":"2026-11-23T00:15:30.141Z","decide_by":"2026-11-23T00:15:30.423Z",` +
	`"degraded":["stale_features"],"versions":{"rules":"sha256:9f86","model":"sha256:6030","rates":"2026-11-23"},` +
	`"evidence":{"features":{"card.attempts_10m":6},"positions":{"card:c-7f":"3/128"}},"shadow":[{"rule":"new-device-night","verdict":"block"}]}`

func decisionID(transactionID string, revision int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%d", transactionID, revision))
	return hex.EncodeToString(sum[:16])
}

func TestDecisionOfTheContractIsWrittenByteForByte(t *testing.T) {
	want := strings.Replace(exampleDecision, "DECISION_ID", decisionID("42000012342026112300001", 1), 1)
	var d Decision
	if err := json.Unmarshal([]byte(want), &d); err != nil {
		t.Fatal(err)
	}
	if got := string(d.Append(nil)); got != want {
		t.Errorf("written as\n%s\nwant\n%s", got, want)
	}
	if _, err := judge(compileSchema(t, "decision"), []byte(want)); err != nil {
		t.Error(err)
	}
	var tx Transaction
	decoder := Decoder{Limits: DefaultLimits()}
	if r := decoder.Transaction(exampleRecord, parseTime(t, corpusTime), &tx); r != nil {
		t.Fatal(r)
	}
	if got := SummaryOf(&tx); got != d.Transaction {
		t.Errorf("summary %+v, want %+v", got, d.Transaction)
	}
}

// randomDecision fills d at random, every optional field present or not.
func randomDecision(r *rand.Rand, d *Decision) {
	d.Reset()
	maybe := func() bool { return r.IntN(2) == 0 }
	text := func() string { return randomText(r) + "x" }
	texts := func() (list []string) {
		for range r.IntN(3) {
			list = append(list, text())
		}
		return list
	}
	instant := func() Time {
		if maybe() {
			return 0
		}
		return randomTime(r)
	}
	d.TransactionID, d.Revision = strings.ToValidUTF8(text(), "?"), 1+r.IntN(1000) // the decoder lets no other through
	d.Verdict = Verdict(1 + r.IntN(3))
	d.Source = []Source{SourceRules, SourceModel, SourceList, SourceDuplicate, SourceInvalid, SourceDefaultDeadline, SourceDefaultError,
		SourceReview, SourceStepUp, SourceExpiry}[r.IntN(10)]
	d.Final = maybe()
	if maybe() {
		d.Corrects = []Source{SourceInvalid, SourceDefaultDeadline, SourceDefaultError}[r.IntN(3)]
	}
	switch r.IntN(3) {
	case 0:
		d.SettledBy = Settled{ReviewID: randomText(r), Reviewer: text(), Label: ReviewLabels()[r.IntN(3)]}
	case 1:
		d.SettledBy = Settled{OutcomeID: randomText(r), Outcome: OutcomeStepUpPassed.String()}
	}
	d.Points = Count{N: r.IntN(500) - 100, Present: maybe()}
	d.Score = Count{N: r.IntN(101), Present: maybe()}
	for range r.IntN(3) {
		d.Reasons = append(d.Reasons, DecisionReason{Code: text(), Rule: randomText(r), Points: r.IntN(3) * 20, Detail: randomText(r)})
	}
	if maybe() {
		d.PayerCode, d.PayerMessage = text(), text()
	}
	if d.Verdict == Hold {
		d.Hold.Needs = append(d.Hold.Needs, []string{"step_up", "review"}[r.IntN(2)])
		d.Hold.Methods = append(d.Hold.Methods, texts()...)
		d.Hold.ExpiresAt, d.Hold.OnExpiry = instant(), Verdict(r.IntN(4))
	}
	if maybe() {
		s := &d.Transaction
		s.Type, s.Channel = Type(1+r.IntN(5)).String(), "qr"
		s.Amount = Amount{Value: r.Int64(), Currency: Currency(1 + r.IntN(len(CurrencyCodes())))}
		s.Payer, s.Payee, s.Instrument, s.Device, s.OrderID = text(), randomText(r), randomText(r), randomText(r), randomText(r)
	}
	d.EventTime, d.ReceivedAt, d.DecidedAt, d.DecideBy = instant(), instant(), instant(), instant()
	d.Degraded = append(d.Degraded, texts()...)
	d.Versions = Versions{Rules: randomText(r), Model: randomText(r), Rates: randomText(r)}
	for i := range r.IntN(6) {
		value := []Value{{}, IntValue(int64(r.Uint64())), FloatValue(math.Float64frombits(r.Uint64())), FloatValue(float64(r.IntN(100)) / 4),
			StringValue(randomText(r)), BoolValue(maybe()), RefValue(r.Uint64())}[r.IntN(7)]
		d.Evidence.Features = append(d.Evidence.Features, NamedValue{fmt.Sprintf("card.f%d_10m", i), value})
	}
	for i := range r.IntN(4) {
		d.Evidence.Positions = append(d.Evidence.Positions, EntityPosition{Kind: fmt.Sprintf("kind_%d", i), ID: randomText(r),
			Position: Position{Segment: r.Uint32(), Offset: r.Uint64()}})
	}
	for range r.IntN(3) {
		a := ApproximateValue{Feature: text(), Method: []string{"hyperloglog", "tiles"}[r.IntN(2)]}
		if maybe() {
			a.Error = 1 / float64(1+r.IntN(1000))
		}
		if maybe() {
			a.Resolution = time.Duration(1 + r.Int64N(math.MaxInt64>>r.IntN(63)))
		}
		d.Evidence.Approximate = append(d.Evidence.Approximate, a)
	}
	d.Evidence.Unknown = append(d.Evidence.Unknown, texts()...)
	d.Evidence.Failed = append(d.Evidence.Failed, texts()...)
	d.Evidence.Exempt = append(d.Evidence.Exempt, texts()...)
	d.Evidence.Controls = append(d.Evidence.Controls, texts()...)
	for range r.IntN(3) {
		d.Shadow = append(d.Shadow, ShadowResult{Rule: text(), Verdict: Verdict(1 + r.IntN(3))})
	}
}

func TestDecisionWrittenReadAndWrittenAgainIsTheSame(t *testing.T) {
	r := seeded(t)
	schema := compileSchema(t, "decision")
	var d Decision
	for range 5_000 {
		randomDecision(r, &d)
		written := d.Append(nil)
		var read Decision
		if err := json.Unmarshal(written, &read); err != nil {
			t.Fatalf("%s: %v", written, err)
		}
		if again := read.Append(nil); string(again) != string(written) {
			t.Fatalf("written as\n%s\nand again as\n%s", written, again)
		}
		if _, err := judge(schema, written); err != nil {
			t.Fatalf("%s: %v", written, err)
		}
	}
}

func TestDecisionIDIsTheHashOfTransactionAndRevision(t *testing.T) {
	for _, id := range []string{"t-1", strings.Repeat("付", 128), strings.Repeat("😀", 128), ""} {
		for _, revision := range []int{1, 2, math.MaxInt} {
			if got, want := string(AppendDecisionID(nil, id, revision)), decisionID(id, revision); got != want {
				t.Errorf("%q revision %d: %s, want %s", id, revision, got, want)
			}
		}
	}
}

// What is not exact says so: behind the positions, by name, method and how far off it can be.
func TestApproximateValuesAreNamedInTheEvidence(t *testing.T) {
	want := strings.Replace(exampleDecision, "DECISION_ID", decisionID("42000012342026112300001", 1), 1)
	want = strings.Replace(want, `"positions":{"card:c-7f":"3/128"}}`, `"positions":{"card:c-7f":"3/128"},`+
		`"approximate":[{"feature":"payee.payers_30d","method":"hyperloglog","error":0.0081},`+
		`{"feature":"payee.amount_30d","method":"tiles","resolution":"1h0m0s"}],"unknown":["r-1"]}`, 1)
	var d Decision
	if err := json.Unmarshal([]byte(want), &d); err != nil {
		t.Fatal(err)
	}
	approximate := []ApproximateValue{{Feature: "payee.payers_30d", Method: "hyperloglog", Error: 0.0081},
		{Feature: "payee.amount_30d", Method: "tiles", Resolution: time.Hour}}
	if !slices.Equal(d.Evidence.Approximate, approximate) {
		t.Errorf("read as %+v", d.Evidence.Approximate)
	}
	if got := string(d.Append(nil)); got != want {
		t.Errorf("written as\n%s\nwant\n%s", got, want)
	}
	if _, err := judge(compileSchema(t, "decision"), []byte(want)); err != nil {
		t.Error(err)
	}
	only := Evidence{Approximate: approximate[:1]}
	if got := string(only.append(nil)); only.empty() || got != `{"approximate":[{"feature":"payee.payers_30d","method":"hyperloglog","error":0.0081}]}` {
		t.Errorf("alone: empty %v, %s", only.empty(), got)
	}
	d.Reset()
	if d.Evidence.Approximate == nil || !d.Evidence.empty() {
		t.Errorf("after Reset: %+v", d.Evidence)
	}
	for _, bad := range []string{`[{"resolution":"1 hour"}]`, `[{"resolution":3600}]`, `[7]`} {
		if err := json.Unmarshal([]byte(bad), &only.Approximate); err == nil {
			t.Errorf("%s is read", bad)
		}
	}
}

func TestWritingADecisionAllocatesNothing(t *testing.T) {
	var d Decision
	if err := json.Unmarshal([]byte(exampleDecision), &d); err != nil {
		t.Fatal(err)
	}
	d.Evidence.Approximate = []ApproximateValue{{"payee.payers_30d", "hyperloglog", 0.0081, 0}, {"payee.amount_30d", "tiles", 0, 36*time.Hour + time.Microsecond}}
	out := d.Append(nil)
	if n := testing.AllocsPerRun(100, func() { out = d.Append(out[:0]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAppendDecision(b *testing.B) {
	var d Decision
	if err := json.Unmarshal([]byte(exampleDecision), &d); err != nil {
		b.Fatal(err)
	}
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out = d.Append(out[:0])
	}
	b.SetBytes(int64(len(out)))
}
