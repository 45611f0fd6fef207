// Package deploy holds what is shipped beside the binary: example rulesets, and
// configuration.
package deploy

import (
	"embed"
	"io/fs"
)

// Rulesets holds the folder rulesets/, a ruleset in each subfolder.
//
//go:embed rulesets
var Rulesets embed.FS

// AllRulesets are the folders of all rulesets, in the order of their names: together
// they make up one.
func AllRulesets() (all []fs.FS) {
	names, _ := fs.Glob(Rulesets, "rulesets/*") // the pattern is a good one
	for _, name := range names {
		if folder, err := fs.Sub(Rulesets, name); err == nil { // what is embedded has good names
			all = append(all, folder)
		}
	}
	return all
}
