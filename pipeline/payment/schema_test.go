package payment

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// compileSchema compiles a published schema with its formats asserted.
func compileSchema(tb testing.TB, name string) *jsonschema.Schema {
	tb.Helper()
	text, ok := Schema(name)
	if !ok {
		tb.Fatalf("no schema %q", name)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		tb.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	url := "https://sluice.dev/schema/v1/" + name + ".json"
	if err := compiler.AddResource(url, doc); err != nil {
		tb.Fatal(err)
	}
	schema, err := compiler.Compile(url)
	if err != nil {
		tb.Fatal(err)
	}
	if schema.Location != url+"#" {
		tb.Fatalf("$id is %s, want %s", schema.Location, url)
	}
	return schema
}

// judge lets a schema judge a record. parsed is false where a JSON parser gives up first.
func judge(schema *jsonschema.Schema, record []byte) (parsed bool, err error) {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(record))
	if err != nil {
		return false, err
	}
	return true, schema.Validate(v)
}

func TestSchemaAndDecoderAgreeOnCorpus(t *testing.T) {
	for _, kind := range corpusKinds() {
		t.Run(kind, func(t *testing.T) {
			schema := compileSchema(t, kind)
			for _, c := range corpus(t, kind) {
				parsed, err := judge(schema, c.record)
				if c.beyond {
					if c.want == nil {
						t.Errorf("%v: accepted and beyond a schema", &c)
					}
					if parsed && err != nil {
						t.Errorf("%v: marked as beyond a schema, which refuses it: %v", &c, err)
					}
					continue
				}
				if accepted := err == nil; accepted != (c.want == nil) {
					t.Errorf("%v: schema accepts: %v (%v); the decoder: %v", &c, accepted, err, c.want)
				}
			}
		})
	}
}

func TestSchemaNamesAreAllThereIs(t *testing.T) {
	entries, err := schemas.ReadDir("schema")
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, e := range entries {
		files = append(files, e.Name())
	}
	var names []string
	for _, name := range SchemaNames() {
		names = append(names, name+".json")
	}
	slices.Sort(names)
	if !slices.Equal(files, names) {
		t.Errorf("files %v, names %v", files, names)
	}
	for _, name := range []string{"", "controls", "../payment", "transaction.json"} {
		if _, ok := Schema(name); ok {
			t.Errorf("Schema(%q) exists", name)
		}
	}
}

func TestSchemaEnumerationsEqualTheClosedSets(t *testing.T) {
	verdicts, sources := []string{"approve", "hold", "block"}, []string{}
	for _, s := range []Source{SourceRules, SourceModel, SourceList, SourceDuplicate, SourceInvalid, SourceDefaultDeadline,
		SourceDefaultError, SourceReview, SourceStepUp, SourceExpiry} {
		sources = append(sources, string(s))
	}
	for _, test := range []struct {
		schema string
		path   []string
		want   []string
	}{
		{"transaction", []string{"properties", "type"}, TypeNames()},
		{"transaction", []string{"$defs", "currency"}, CurrencyCodes()},
		{"transaction", []string{"$defs", "country"}, CountryCodes()},
		{"outcome", []string{"properties", "outcome"}, OutcomeNames()},
		{"outcome", []string{"$defs", "currency"}, CurrencyCodes()},
		{"review", []string{"properties", "review"}, ReviewNames()},
		{"review", []string{"properties", "label"}, ReviewLabels()},
		{"control", []string{"properties", "control"}, ControlNames()},
		{"decision", []string{"properties", "verdict"}, verdicts},
		{"decision", []string{"properties", "source"}, sources},
		{"decision", []string{"properties", "hold", "properties", "on_expiry"}, verdicts},
		{"decision", []string{"properties", "transaction", "properties", "type"}, TypeNames()},
		{"notice", []string{"properties", "kind"}, NoticeKindNames()},
		{"alert", []string{"properties", "severity"}, SeverityNames()},
		{"alert", []string{"properties", "state"}, AlertStateNames()},
		{"alert", []string{"properties", "code"}, alertCodeNames()},
	} {
		text, _ := Schema(test.schema)
		var node map[string]any
		if err := json.Unmarshal(text, &node); err != nil {
			t.Fatal(err)
		}
		for _, name := range test.path {
			node, _ = node[name].(map[string]any)
		}
		var got []string
		for _, v := range node["enum"].([]any) {
			if s, ok := v.(string); ok { // null stands for absent
				got = append(got, s)
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s %v: schema has %v, want %v", test.schema, test.path, got, test.want)
		}
	}
}

func TestSchemaExamplesAreValid(t *testing.T) {
	later := parseTime(t, "2026-11-26T00:00:00Z")
	for _, name := range SchemaNames() {
		schema := compileSchema(t, name)
		text, _ := Schema(name)
		var doc struct{ Examples []json.RawMessage }
		if err := json.Unmarshal(text, &doc); err != nil {
			t.Fatal(err)
		}
		if len(doc.Examples) == 0 {
			t.Errorf("%s has no example", name)
		}
		for _, example := range doc.Examples {
			if _, err := judge(schema, example); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if name == "decision" || name == "notice" || name == "alert" { // what the gate writes and does not decode
				continue
			}
			if r := decode(name, example, later); r != nil {
				t.Errorf("%s: the decoder refuses the example: %v", name, r)
			}
		}
	}
}
