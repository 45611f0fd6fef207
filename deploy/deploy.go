// Package deploy holds what is shipped beside the binary: example rulesets, and
// configuration.
package deploy

import "embed"

// Rulesets holds the folder rulesets/, a ruleset in each subfolder.
//
//go:embed rulesets
var Rulesets embed.FS
