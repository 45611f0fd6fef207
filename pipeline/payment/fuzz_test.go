package payment

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"regexp"
	"testing"
	"time"
)

// hugeExponent finds numbers that the schema library expands digit by digit.
var hugeExponent = regexp.MustCompile(`[eE][+-]?[0-9]{4,}`)

// beyondSchema holds the reasons that no schema can have.
var beyondSchema = map[Reason]bool{ReasonEmpty: true, ReasonTooLarge: true, ReasonNotJSON: true, ReasonInvalidUTF8: true, ReasonTooDeep: true,
	ReasonDuplicateKey: true, ReasonFutureTime: true, ReasonOlderThanLedger: true, ReasonDecideByEarly: true, ReasonUntilEarly: true, ReasonExpired: true}

// FuzzDecode holds the decoder against encoding/json and the published schemas
// on any bytes: it never panics, is never slow, accepts nothing that they
// refuse, and refuses nothing that they accept without a reason of its own.
func FuzzDecode(f *testing.F) {
	at := parseTime(f, corpusTime)
	for _, kind := range corpusKinds() {
		for _, c := range corpus(f, kind) {
			if len(c.record) < 4096 {
				f.Add(c.record)
			}
		}
	}
	f.Add(exampleRecord)
	schemas := map[string]interface{ Validate(any) error }{}
	for _, kind := range corpusKinds() {
		schemas[kind] = compileSchema(f, kind)
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		original := bytes.Clone(record)
		var d Decoder
		d.Limits = DefaultLimits()
		var tx Transaction
		start := time.Now()
		refusals := map[string]*Refusal{"outcome": d.Outcome(record, at, new(Outcome)), "review": d.Review(record, at, new(Review)),
			"control": d.Control(record, at, new(Control))}
		d.Kind(record)
		refusals["transaction"] = d.Transaction(record, at, &tx)
		if took := time.Since(start); took > time.Second {
			t.Errorf("took %v", took)
		}
		if !bytes.Equal(record, original) {
			t.Error("the record was changed")
		}

		known := map[Reason]bool{}
		for _, reason := range Reasons() {
			known[reason] = true
		}
		for kind, refusal := range refusals {
			if refusal != nil && !known[refusal.Reason] {
				t.Errorf("%s: %q is no reason", kind, refusal.Reason)
			}
			if refusal != nil && beyondSchema[refusal.Reason] && refusal.Reason != ReasonNotJSON {
				continue
			}
			var v any
			dec := json.NewDecoder(bytes.NewReader(record))
			dec.UseNumber()
			if err := dec.Decode(&v); err != nil || !json.Valid(record) {
				if refusal == nil || refusal.Reason != ReasonNotJSON {
					t.Errorf("%s: no JSON (%v), and the decoder says %v", kind, err, refusal)
				}
				continue
			}
			if _, object := v.(map[string]any); object && refusal != nil && refusal.Reason == ReasonNotJSON {
				t.Errorf("%s: refused as no JSON", kind)
			}
			if hugeExponent.Match(record) {
				continue
			}
			err := schemas[kind].Validate(v)
			onTheEdge := math.Abs(tx.Device.Lat) == 90 || math.Abs(tx.Device.Lon) == 180 // 90.00000000000000000001 is 90 as a float64
			if refusal == nil && err != nil && !onTheEdge {
				t.Errorf("%s: accepted, but the schema says %v", kind, err)
			}
			if refusal != nil && err == nil && !hasTwins(record) { // of twins the schema sees the last only
				t.Errorf("%s: refused (%v), but the schema accepts it", kind, refusal)
			}
		}

		if refusals["control"] == nil {
			checkControl(t, record, at)
		}
		if refusals["transaction"] != nil {
			checkIdentity(t, record, &tx, refusals["transaction"])
			return
		}
		if !hugeExponent.Match(record) {
			checkAgainstJSON(t, record, &tx)
		}
		var again Transaction
		d2 := Decoder{Limits: DefaultLimits()}
		written := tx.Append(nil)
		if r := d2.Transaction(written, at, &again); r != nil {
			t.Fatalf("written as %s, which is refused: %v", written, r)
		}
		if !reflect.DeepEqual(tx, again) {
			t.Errorf("%+v\nis written as %s\nand read as %+v", tx, written, again)
		}
	})
}

// checkControl: an accepted control is written as it was read.
func checkControl(t *testing.T, record []byte, at Time) {
	t.Helper()
	first, second := Decoder{Limits: DefaultLimits()}, Decoder{Limits: DefaultLimits()}
	var c, again Control
	if r := first.Control(record, at, &c); r != nil {
		t.Fatalf("accepted at first, then refused: %v", r)
	}
	written := c.Append(nil)
	if r := second.Control(written, at, &again); r != nil {
		t.Fatalf("written as %s, which is refused: %v", written, r)
	}
	if c != again {
		t.Errorf("%+v\nis written as %s\nand read as %+v", c, written, again)
	}
}

// checkIdentity: a refused transaction says who it was only where every reader
// of its bytes would say the same.
func checkIdentity(t *testing.T, record []byte, tx *Transaction, refusal *Refusal) {
	t.Helper()
	if !tx.Identified() {
		return
	}
	if !json.Valid(record) {
		t.Errorf("a broken text identifies %q of %q (%v)", tx.ID, tx.Payer.AccountID, refusal)
		return
	}
	var fields, payer map[string]json.RawMessage
	var id, account string
	for _, err := range []error{json.Unmarshal(record, &fields), json.Unmarshal(fields["transaction_id"], &id),
		json.Unmarshal(fields["payer"], &payer), json.Unmarshal(payer["account_id"], &account)} {
		if err != nil {
			t.Error(err)
		}
	}
	if id != tx.ID || account != tx.Payer.AccountID {
		t.Errorf("identified as %q of %q, encoding/json reads %q of %q", tx.ID, tx.Payer.AccountID, id, account)
	}
}

// hasTwins reports whether some name comes twice in one object of a JSON text.
func hasTwins(record []byte) bool {
	dec := json.NewDecoder(bytes.NewReader(record))
	var value func() bool
	value = func() bool {
		token, err := dec.Token()
		if err != nil {
			return false
		}
		names := map[json.Token]bool{}
		switch token {
		case json.Delim('{'):
			for dec.More() {
				name, err := dec.Token()
				if err != nil || names[name] {
					return err == nil
				}
				names[name] = true
				if value() {
					return true
				}
			}
		case json.Delim('['):
			for dec.More() {
				if value() {
					return true
				}
			}
		default:
			return false
		}
		_, _ = dec.Token() // the end of it
		return false
	}
	return value()
}
