package rules

import (
	"bytes"
	"strings"
)

// SameFeatures tells whether two rulesets have the same features in the same
// slots, so that folds that were made for the one serve the other. It compares
// the files that features come from: a feature holds functions, which cannot be
// compared.
func (s *Ruleset) SameFeatures(o *Ruleset) bool {
	within := func(a, b *Ruleset) bool {
		for name, content := range a.files {
			if name != policyFile && name != ratesFile && !strings.HasPrefix(name, "features/") {
				continue
			}
			if other, ok := b.files[name]; !ok || !bytes.Equal(content, other) {
				return false
			}
		}
		return true
	}
	return within(s, o) && within(o, s)
}
