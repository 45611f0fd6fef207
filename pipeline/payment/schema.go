package payment

import "embed"

//go:embed schema/*.json
var schemas embed.FS

// SchemaNames returns the names that Schema knows.
func SchemaNames() []string {
	return []string{"transaction", "outcome", "review", "control", "decision", "notice", "alert"}
}

// Schema returns the published JSON Schema (draft 2020-12) of a kind of record;
// false when there is none of that name. Tests hold it equal to the decoder.
func Schema(name string) ([]byte, bool) {
	b, err := schemas.ReadFile("schema/" + name + ".json")
	return b, err == nil
}
