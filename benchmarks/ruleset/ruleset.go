// Package ruleset holds the rules and features of the benchmarks: five entities,
// twenty features, twenty rules.
package ruleset

import "embed"

// Files is the ruleset, as a folder.
//
//go:embed features rules policy.yaml rates.yaml
var Files embed.FS
