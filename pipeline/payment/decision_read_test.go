package payment

import (
	"encoding/json"
	"testing"
)

// What the reader reads is what encoding/json reads, but for what it passes over.
func TestDecisionReaderReadsWhatJSONReads(t *testing.T) {
	r := seeded(t)
	var d, got Decision
	var reader DecisionReader
	for range 20_000 {
		randomDecision(r, &d)
		written := d.Append(nil)
		var want Decision
		if err := json.Unmarshal(written, &want); err != nil {
			t.Fatalf("%s: %v", written, err)
		}
		want.Evidence, want.Shadow = Evidence{}, nil
		if err := reader.Read(written, &got); err != nil {
			t.Fatalf("%s: %v", written, err)
		}
		if got.V != 1 || got.DecisionID != want.DecisionID || string(got.Append(nil)) != string(want.Append(nil)) {
			t.Fatalf("read as\n%s\nwant\n%s", got.Append(nil), want.Append(nil))
		}
		if cut := r.IntN(len(written)); reader.Read(written[:cut], &got) == nil {
			t.Fatalf("%s is read", written[:cut])
		}
	}
}

func TestDecisionReaderReadsAnyOrderAndRefusesWhatIsNoDecision(t *testing.T) {
	var reader DecisionReader
	var d Decision
	if err := reader.Read([]byte(` {"source":"rules","new":{"a":[1,{"b":null}]},"verdict":"block","points":null,"revision":3,"v":1,"event_time":null}`), &d); err != nil {
		t.Fatal(err)
	}
	if d.Source != SourceRules || d.Verdict != Block || d.Revision != 3 || d.Points.Present || d.EventTime != 0 {
		t.Errorf("read as %+v", d)
	}
	for _, bad := range []string{``, `null`, `[]`, `{}x`, `{"v":1`, `{"verdict":"maybe"}`, `{"revision":"1"}`, `{"revision":1.5}`, `{"event_time":"today"}`,
		`{"final":1}`, `{"transaction":{"amount":{"currency":"XXX"}}}`, `{"hold":[]}`, `{"reasons":[1]}`, `{"v":1,"v":1}`, `{"evidence":{"features":{]}}`} {
		if err := reader.Read([]byte(bad), &d); err == nil {
			t.Errorf("%s is read as %+v", bad, d)
		}
	}
}

func TestReadingADecisionAllocatesNothing(t *testing.T) {
	var reader DecisionReader
	var d Decision
	data := []byte(exampleDecision)
	if n := testing.AllocsPerRun(100, func() {
		if err := reader.Read(data, &d); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkReadDecision(b *testing.B) {
	var reader DecisionReader
	var d Decision
	data := []byte(exampleDecision)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if err := reader.Read(data, &d); err != nil {
			b.Fatal(err)
		}
	}
}
