package rules

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/sluice-risk/sluice/pipeline/window"
)

// SameFeatures tells whether two rulesets have the same features in the same
// slots, so that folds that were made for the one serve the other. Features hold
// functions, which cannot be compared: instead, what they are made of is. That
// are their files, the rates, and of the policy the base currency, the time zone
// and the search for duplicate payments; a policy whose thresholds change leaves
// folds alone.
func (s *Ruleset) SameFeatures(o *Ruleset) bool {
	p, q := &s.policy, &o.policy
	return p.BaseCurrency == q.BaseCurrency && zoneName(p.Location) == zoneName(q.Location) &&
		slices.EqualFunc(p.Duplicates.features(), q.Duplicates.features(), func(a, b window.Feature) bool { return a.Within == b.Within }) &&
		s.makesFeaturesOf(o) && o.makesFeaturesOf(s)
}

// makesFeaturesOf tells whether every file of the ruleset from which features are
// made is the same in another one.
func (s *Ruleset) makesFeaturesOf(o *Ruleset) bool {
	for name, content := range s.files {
		if name != ratesFile && !strings.HasPrefix(name, "features/") {
			continue
		}
		if other, ok := o.files[name]; !ok || !bytes.Equal(content, other) {
			return false
		}
	}
	return true
}

func zoneName(l *time.Location) string {
	if l == nil {
		return ""
	}
	return l.String()
}
