package rules

import (
	"bytes"
	"encoding/json"
)

// schemaKinds are the kinds of files that analysts write.
var schemaKinds = []struct {
	name, title, files string
	shape              func() shape
}{
	{"features", "Features", "features/*.yaml", featureFileShape},
	{"rules", "Rules", "rules/*.yaml", ruleFileShape},
	{"lists", "List", "lists/*.yaml", listFileShape},
	{"policy", "Policy", policyFile, policyFileShape},
	{"rates", "Rates", ratesFile, ratesFileShape},
	{"notices", "Notices", noticesFile, noticesFileShape},
	{"tests", "Tests of rules", "*_test.yaml", testFileShape},
}

// SchemaKinds returns the kinds of files that Schema describes.
func SchemaKinds() []string {
	out := make([]string, len(schemaKinds))
	for i, k := range schemaKinds {
		out[i] = k.name
	}
	return out
}

// Schema returns the JSON Schema (draft 2020-12) of the files of a kind, for
// editors: keys, values of closed sets, what they mean, and their defaults. False
// when there is no such kind. What needs the rest of the ruleset, such as whether
// the feature of a condition exists, only Load knows.
func Schema(kind string) ([]byte, bool) {
	for _, k := range schemaKinds {
		if k.name != kind {
			continue
		}
		o := schemaObject{
			{"$schema", "https://json-schema.org/draft/2020-12/schema"},
			{"$id", "https://sluice.dev/schema/v1/ruleset/" + k.name + ".json"},
			{"title", k.title + " (" + k.files + ")"},
		}
		one, err := append(o, k.shape().schema()...).MarshalJSON()
		var b bytes.Buffer
		if err == nil {
			err = json.Indent(&b, one, "", "  ")
		}
		if err != nil {
			panic(err) // texts, numbers and lists of texts
		}
		b.WriteByte('\n')
		return b.Bytes(), true
	}
	return nil, false
}
