package payment

import (
	"encoding/json"
	"math"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

// fieldsOf reads an accepted transaction with encoding/json: an oracle that
// shares no line with the decoder.
func fieldsOf(tb testing.TB, record []byte) *Transaction {
	tb.Helper()
	var top map[string]any
	dec := json.NewDecoder(strings.NewReader(string(record)))
	dec.UseNumber()
	if err := dec.Decode(&top); err != nil {
		tb.Fatalf("encoding/json: %v", err)
	}
	at := func(path ...string) any {
		var v any = top
		for _, name := range path {
			m, _ := v.(map[string]any)
			v = m[name]
		}
		return v
	}
	text := func(path ...string) string { s, _ := at(path...).(string); return s }
	instant := func(name string) Time {
		s, ok := at(name).(string)
		if !ok {
			return 0
		}
		std, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			tb.Fatal(err)
		}
		switch {
		case std.Year() >= 2262:
			return math.MaxInt64
		case std.Year() < 1678:
			return math.MinInt64
		}
		return max(TimeOf(std), 1) // no accepted transaction is older than 1970
	}
	rational := func(path ...string) *big.Rat {
		n, ok := at(path...).(json.Number)
		if !ok {
			return nil
		}
		r, ok := new(big.Rat).SetString(n.String())
		if !ok {
			tb.Fatalf("%v is no number", n)
		}
		return r
	}

	t := &Transaction{ID: text("transaction_id"), Channel: text("channel"), EventTime: instant("event_time"), DecideBy: instant("decide_by"),
		OrderID: text("order_id"), OriginalTransactionID: text("original_transaction_id"), Locale: text("locale")}
	t.Type, _ = ParseType(text("type"))
	t.Amount.Value = rational("amount", "value").Num().Int64()
	t.Amount.Currency, _ = ParseCurrency(text("amount", "currency"))
	t.Payer.AccountID, t.Payer.Country = text("payer", "account_id"), text("payer", "country")
	t.Payer.Email, t.Payer.Phone = text("payer", "email"), text("payer", "phone")
	t.Payee.AccountID, t.Payee.MerchantID = text("payee", "account_id"), text("payee", "merchant_id")
	t.Payee.MCC, t.Payee.Country = text("payee", "mcc"), text("payee", "country")
	t.Instrument.Kind, t.Instrument.Token = text("instrument", "kind"), text("instrument", "token")
	t.Instrument.BIN, t.Instrument.Bank = text("instrument", "bin"), text("instrument", "bank")
	t.Terminal.ID, t.Terminal.Country = text("terminal", "id"), text("terminal", "country")
	t.Device.ID, t.Device.IP, t.Device.Country = text("device", "id"), text("device", "ip"), text("device", "country")
	if t.Device.IP != "" {
		t.Device.Addr = netip.MustParseAddr(t.Device.IP).Unmap()
	}
	if lat, lon := rational("device", "lat"), rational("device", "lon"); lat != nil && lon != nil {
		t.Device.Located = true
		t.Device.Lat, _ = lat.Float64()
		t.Device.Lon, _ = lon.Float64()
	}
	if methods, ok := at("auth", "methods").([]any); ok {
		for _, m := range methods {
			t.AuthMethods = append(t.AuthMethods, m.(string))
		}
	}
	if accepts, ok := at("accepts").([]any); ok {
		t.Accepts = AcceptsStated
		for _, word := range accepts {
			switch word {
			case "hold":
				t.Accepts |= AcceptsHold
			case "step_up":
				t.Accepts |= AcceptsStepUp
			}
		}
	}
	return t
}

// checkAgainstJSON compares what was decoded with what encoding/json reads.
func checkAgainstJSON(tb testing.TB, record []byte, got *Transaction) {
	tb.Helper()
	want := fieldsOf(tb, record)
	plain := *got
	plain.Attributes = nil
	if !reflect.DeepEqual(&plain, want) {
		tb.Errorf("decoded\n%+v\nencoding/json reads\n%+v", &plain, want)
	}
	var free struct{ Attributes map[string]*string }
	var exact map[string]json.RawMessage // encoding/json alone matches names in any case
	if err := json.Unmarshal(record, &exact); err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(append(exact["attributes"], ' '), &free.Attributes); exact["attributes"] != nil && err != nil {
		tb.Fatal(err)
	}
	present := 0
	for name, value := range free.Attributes {
		if value == nil {
			continue
		}
		present++
		if got.Attribute(name) != *value {
			tb.Errorf("attribute %q is %q, want %q", name, got.Attribute(name), *value)
		}
	}
	if present != len(got.Attributes) {
		tb.Errorf("%d attributes, want %d", len(got.Attributes), present)
	}
}

func TestDecodedFieldsAreThoseOfEncodingJSON(t *testing.T) {
	at := parseTime(t, corpusTime)
	d := Decoder{Limits: DefaultLimits()}
	for _, c := range corpus(t, "transaction") {
		if c.want != nil {
			continue
		}
		var got Transaction
		if r := d.Transaction(c.record, at, &got); r != nil {
			t.Errorf("%v: %v", &c, r)
			continue
		}
		checkAgainstJSON(t, c.record, &got)
		if t.Failed() {
			t.Fatalf("at %v", &c)
		}
	}
}

func TestOutcomeAndReviewFieldsAreRead(t *testing.T) {
	at := parseTime(t, "2026-11-26T00:00:00Z")
	d := Decoder{Limits: DefaultLimits()}
	var o Outcome
	if r := d.Outcome([]byte(`{"v":1,"outcome_id":"o-1","transaction_id":"t-1","outcome":"refunded","event_time":"2026-11-25T10:00:00Z",`+
		`"payer":{"account_id":"u-1001"},"amount":{"value":500,"currency":"CNY"},"source":"chargeback","stand_in":true}`), at, &o); r != nil {
		t.Fatal(r)
	}
	cny, _ := ParseCurrency("CNY")
	if want := (Outcome{ID: "o-1", TransactionID: "t-1", Kind: OutcomeRefunded, EventTime: parseTime(t, "2026-11-25T10:00:00Z"),
		PayerID: "u-1001", Amount: Money{500, cny}, Source: "chargeback", StandIn: true}); o != want {
		t.Errorf("outcome %+v, want %+v", o, want)
	}
	again := o
	if r := d.Outcome(again.Append(nil), at, &o); r != nil || o != again {
		t.Errorf("outcome written and read again: %+v (%v)", o, r)
	}
	var v Review
	if r := d.Review([]byte(`{"v":1,"review_id":"r-1","transaction_id":"t-1","review":"release","label":"genuine",`+
		`"event_time":"2026-11-25T10:00:00Z","payer":{"account_id":"u-1001"},"reviewer":"reviewer-7","note":"payer\ncalled"}`), at, &v); r != nil {
		t.Fatal(r)
	}
	if want := (Review{ID: "r-1", TransactionID: "t-1", Kind: ReviewRelease, Label: "genuine", EventTime: parseTime(t, "2026-11-25T10:00:00Z"),
		PayerID: "u-1001", Reviewer: "reviewer-7", Note: "payer\ncalled"}); v != want {
		t.Errorf("review %+v, want %+v", v, want)
	}
}

func TestRefusedPaymentIsIdentifiedWhereItCanBe(t *testing.T) {
	const (
		ids  = `"transaction_id":"t-1","payer":{"account_id":"u-1"}`
		rest = `"type":"payment","event_time":"2026-11-23T00:15:30Z","amount":{"value":1,"currency":"CNY"}`
	)
	deep := strings.Repeat("[", 17) + strings.Repeat("]", 17)
	at := parseTime(t, corpusTime)
	for _, test := range []struct {
		title, record string
		reason        Reason
		identified    bool
	}{
		{"negative amount", `{` + ids + `,"type":"payment","event_time":"2026-11-23T00:15:30Z","amount":{"value":-1,"currency":"CNY"}}`, ReasonAmountNegative, true},
		{"wrong amount before the ids", `{"amount":"1 CNY",` + ids + `}`, ReasonWrongType, true},
		{"bad country", `{"terminal":{"country":"UK"},` + ids + `,` + rest + `}`, ReasonBadCountry, true},
		{"nothing but the ids", `{` + ids + `}`, ReasonMissingField, true},
		{"future time", `{` + ids + `,"type":"payment","event_time":"2027-11-23T00:15:30Z","amount":{"value":1,"currency":"CNY"}}`, ReasonFutureTime, true},
		{"too deep below an unknown field", `{"x":` + deep + `,` + ids + `,` + rest + `}`, ReasonTooDeep, true},
		{"too deep in the place of a country", `{"payee":{"country":` + deep + `},` + ids + `,` + rest + `}`, ReasonTooDeep, true},
		{"another name twice", `{"order_id":"a","order_id":"b",` + ids + `,` + rest + `}`, ReasonDuplicateKey, true},
		{"the payer's country twice", `{"transaction_id":"t-1","payer":{"country":"CN","country":"CN","account_id":"u-1"},` + rest + `}`, ReasonDuplicateKey, true},
		{"bad UTF-8 elsewhere", "{\"order_id\":\"\xff\"," + ids + `,` + rest + `}`, ReasonInvalidUTF8, true},
		{"a lone surrogate elsewhere", `{"order_id":"\ud800",` + ids + `,` + rest + `}`, ReasonInvalidUTF8, true},

		{"broken at the end", `{` + ids + `,` + rest, ReasonNotJSON, false},
		{"something after it", `{` + ids + `,` + rest + `}]`, ReasonNotJSON, false},
		{"broken below what is too deep", `{` + ids + `,"x":` + strings.Repeat("[", 17) + "}" + strings.Repeat("]", 17) + `,` + rest + `}`, ReasonNotJSON, false},
		{"too large", `{` + ids + `,` + rest + `}` + strings.Repeat(" ", 64<<10), ReasonTooLarge, false},
		{"transaction_id twice", `{"transaction_id":"t-1",` + ids + `,` + rest + `}`, ReasonDuplicateKey, false},
		{"transaction_id twice, once null", `{` + ids + `,"transaction_id":null,` + rest + `}`, ReasonDuplicateKey, false},
		{"payer twice", `{"payer":{"account_id":"u-2"},` + ids + `,` + rest + `}`, ReasonDuplicateKey, false},
		{"payer twice, then null", `{` + ids + `,"payer":null,` + rest + `}`, ReasonDuplicateKey, false},
		{"account_id twice", `{"transaction_id":"t-1","payer":{"account_id":"u-1","account_id":"u-1"},` + rest + `}`, ReasonDuplicateKey, false},
		{"account_id of another type", `{"transaction_id":"t-1","payer":{"account_id":1},` + rest + `}`, ReasonWrongType, false},
		{"transaction_id too long", `{"transaction_id":"` + strings.Repeat("a", 129) + `","payer":{"account_id":"u-1"},` + rest + `}`, ReasonTooLong, false},
		{"transaction_id with a control character", `{"transaction_id":"a\n","payer":{"account_id":"u-1"},` + rest + `}`, ReasonControlCharacter, false},
		{"bad UTF-8 in transaction_id", "{\"transaction_id\":\"t\xff\",\"payer\":{\"account_id\":\"u-1\"}," + rest + `}`, ReasonInvalidUTF8, false},
		{"a lone surrogate in account_id", `{"transaction_id":"t-1","payer":{"account_id":"u\udc00"},` + rest + `}`, ReasonInvalidUTF8, false},
		{"no payer", `{"transaction_id":"t-1",` + rest + `}`, ReasonMissingField, false},
		{"empty", ``, ReasonEmpty, false},
	} {
		d := Decoder{Limits: DefaultLimits()}
		var got Transaction
		got.ID, got.Payer.AccountID = "of the record before", "u-0"
		r := d.Transaction([]byte(test.record), at, &got)
		if r == nil || r.Reason != test.reason {
			t.Errorf("%s: refused as %v, want %s", test.title, r, test.reason)
		}
		if got.Identified() != test.identified {
			t.Errorf("%s: identified %v (%q, %q)", test.title, got.Identified(), got.ID, got.Payer.AccountID)
		}
		if test.identified && (got.ID != "t-1" || got.Payer.AccountID != "u-1") {
			t.Errorf("%s: identified as %q of %q", test.title, got.ID, got.Payer.AccountID)
		}
	}
}

func TestRefusalSaysFieldAndReason(t *testing.T) {
	if got := (&Refusal{ReasonBadIP, "device.ip"}).Error(); got != "device.ip: bad_ip" {
		t.Errorf("%q", got)
	}
	if got := (&Refusal{Reason: ReasonEmpty}).Error(); got != "empty" {
		t.Errorf("%q", got)
	}
}

func TestKindOfALineOfAFile(t *testing.T) {
	var d Decoder
	d.Limits = DefaultLimits()
	for line, want := range map[string]RecordKind{
		`{"transaction_id":"t-1"}`:                             RecordTransaction,
		`{"attributes":{"outcome":"x"},"payer":{"review":1}}`:  RecordTransaction,
		`{"outcome":"settled","transaction_id":"t-1"}`:         RecordOutcome,
		`{"transaction_id":"t-1","\u006futcome":"settled"}`:    RecordOutcome,
		`{"review":"note"}`:                                    RecordReview,
		`{"control_id":"k","x":[{"review":1}],"control":"ho"}`: RecordControl,
		``:       RecordTransaction,
		`null`:   RecordTransaction,
		`{"a":1`: RecordTransaction,
	} {
		if got := d.Kind([]byte(line)); got != want {
			t.Errorf("%s: %v, want %v", line, got, want)
		}
	}
}

func TestLimitsAreTheCallers(t *testing.T) {
	record := corpus(t, "transaction")[0].record
	at := parseTime(t, corpusTime)
	for _, test := range []struct {
		title  string
		limits Limits
		at     Time
		reason Reason
	}{
		{"bytes", Limits{RecordBytes: len(record) - 1, FutureBound: time.Hour, LedgerKeeps: time.Hour}, at, ReasonTooLarge},
		{"exact bytes", Limits{RecordBytes: len(record), FutureBound: time.Hour, LedgerKeeps: time.Hour}, at, ""},
		{"future", Limits{RecordBytes: 1 << 20, FutureBound: time.Second, LedgerKeeps: time.Hour}, at.Add(-3 * time.Second), ReasonFutureTime},
		{"ledger", Limits{RecordBytes: 1 << 20, FutureBound: time.Second, LedgerKeeps: time.Hour}, at.Add(2 * time.Hour), ReasonOlderThanLedger},
	} {
		d := Decoder{Limits: test.limits}
		var reason Reason
		if r := d.Transaction(record, test.at, new(Transaction)); r != nil {
			reason = r.Reason
		}
		if reason != test.reason {
			t.Errorf("%s: %q, want %q", test.title, reason, test.reason)
		}
	}
}

// TestNoNamesOfTheContractShareABit holds nameFactor to its promise: where two
// names share a bit, each record would compare names for nothing.
func TestNoNamesOfTheContractShareABit(t *testing.T) {
	for _, kind := range corpusKinds() {
		text, _ := Schema(kind)
		var schema struct {
			Properties map[string]struct {
				Properties map[string]any
				Ref        string `json:"$ref"`
			}
		}
		if err := json.Unmarshal(text, &schema); err != nil {
			t.Fatal(err)
		}
		check := func(object string, bits map[uint64]string, name string) {
			if other, taken := bits[nameBit(name)]; taken {
				t.Errorf("%s: %s and %s", object, other, name)
			}
			bits[nameBit(name)] = name
		}
		top := map[uint64]string{}
		for name, property := range schema.Properties {
			check(kind, top, name)
			inner := map[uint64]string{}
			for name := range property.Properties {
				check(kind+"."+name, inner, name)
			}
		}
		if len(top) < 5 {
			t.Errorf("%s: only %d names", kind, len(top))
		}
	}
}

func TestDecodingAndEncodingAllocateNothing(t *testing.T) {
	at := parseTime(t, corpusTime)
	d := Decoder{Limits: DefaultLimits()}
	var tx Transaction
	var out []byte
	escaped := []byte(strings.Replace(exampleTransaction, "A-77120", `A-7\u0037\/120`, 1))
	once := func() {
		for _, record := range [][]byte{exampleRecord, escaped} {
			if r := d.Transaction(record, at, &tx); r != nil {
				t.Fatal(r)
			}
			out = tx.Append(out[:0])
		}
	}
	once()
	if n := testing.AllocsPerRun(100, once); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestHostileRecordsCostLittle decodes records of the largest size made to be slow.
func TestHostileRecordsCostLittle(t *testing.T) {
	const size = 64 << 10
	fill := func(head, unit, tail string) []byte {
		return []byte(head + strings.Repeat(unit, (size-len(head)-len(tail))/len(unit)) + tail)
	}
	names := []byte(`{"x":{"":0`)
	for i := 0; len(names) < size-16; i++ {
		names = append(names, `,"`...)
		names = append(names, 'a'+byte(i%26), 'a'+byte(i/26%26), 'a'+byte(i/676%26))
		names = append(names, `":0`...)
	}
	names = append(names, `}}`...)
	at := parseTime(t, corpusTime)
	for title, record := range map[string][]byte{
		"thousands of names":     names,
		"open lists":             fill(`{"x":`, `[`, ``),
		"open objects":           fill(`{"x":`, `{"":`, ``),
		"deep objects":           fill(`{"x":`+strings.Repeat(`[`, 16), `{"":`, `0`),
		"a number of all digits": fill(`{"amount":{"value":`, `9`, `}}`),
		"a fraction of zeros":    fill(`{"amount":{"value":0.`, `0`, `1e64000}}`),
		"escapes":                fill(`{"transaction_id":"`, `\u4ed8`, `"}`),
		"surrogates":             fill(`{"transaction_id":"`, `\ud83d`, `"}`),
		"small objects":          fill(`{"x":[{}`, `,{}`, `]}`),
		"white space":            fill(`{`, ` `, `}`),
	} {
		best := time.Hour
		for range 3 { // the fastest of three: the machine may be busy
			d := Decoder{Limits: DefaultLimits()}
			start := time.Now()
			if r := d.Transaction(record, at, new(Transaction)); r == nil || r.Reason == ReasonTooLarge {
				t.Errorf("%s: %v", title, r)
			}
			best = min(best, time.Since(start))
		}
		if best > 50*time.Millisecond {
			t.Errorf("%s: %v for %d bytes", title, best, len(record))
		}
		t.Logf("%s: %v", title, best)
	}
}
