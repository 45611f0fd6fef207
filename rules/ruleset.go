package rules

import (
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// Ruleset is everything that was loaded together. It is read-only and may be
// shared by all lanes.
type Ruleset struct {
	hash, ratesVersion string
	features           []window.Feature // those of the files, then those that the policy needs
	fromFiles          int              // of features
	rules              []rule
	ids                []string
	policy             Policy
	texts              payerTexts
	rates              *rates
	live, shadow       index
	lists, blocking    []*namedList // by name; those of them that block by themselves
	exempts            []exempt
	retired            []string          // ids that are never used again, sorted
	dated              []dated           // what ends, in the order of the files
	files              map[string][]byte // what the ruleset was made of
}

// Hash names the content: "sha256:" and the hash over names and contents of all
// files of the ruleset, its tests left out.
func (s *Ruleset) Hash() string { return s.hash }

// RatesVersion is "sha256:" and the hash of rates.yaml, "" without one.
func (s *Ruleset) RatesVersion() string { return s.ratesVersion }

// Features returns all features in the order of their slots: Input.Features[i]
// is the value of Features()[i]. The caller does not change it.
func (s *Ruleset) Features() []window.Feature { return s.features }

// OwnFeatures returns those that the files define; the policy may need more.
func (s *Ruleset) OwnFeatures() []window.Feature { return s.features[:s.fromFiles] }

// Policy returns the policy in force.
func (s *Ruleset) Policy() *Policy { return &s.policy }

// ToBase converts to minor units of the base currency, half-even; false without
// a rate, or when the result does not fit.
func (s *Ruleset) ToBase(m payment.Money) (int64, bool) { return s.rates.convert(m) }

// RuleIDs returns the ids of all rules, in the order of files and of rules in
// them: the indexes that Evaluator.Hits and its sisters give. The caller does
// not change it.
func (s *Ruleset) RuleIDs() []string { return s.ids }

// index finds the rules that apply to a transaction, by channel and type: other
// rules cost it nothing.
type index struct {
	byChannel map[string]*[typeCount][]int32 // channels that some rule names
	others    [typeCount][]int32             // on every other channel
}

// newIndex indexes the rules of one mode.
func newIndex(rules []rule, m mode) index {
	x := index{byChannel: map[string]*[typeCount][]int32{}}
	for i := range rules {
		if rules[i].mode == m {
			for _, c := range rules[i].applies.Channels {
				x.byChannel[c] = new([typeCount][]int32)
			}
		}
	}
	for i := range rules {
		r := &rules[i]
		if r.mode != m {
			continue
		}
		for t := range typeCount {
			for channel, lists := range x.byChannel {
				if r.applies.matches(payment.Type(t), channel) {
					lists[t] = append(lists[t], int32(i))
				}
			}
			if len(r.applies.Channels) == 0 && r.applies.matches(payment.Type(t), "") {
				x.others[t] = append(x.others[t], int32(i))
			}
		}
	}
	return x
}

// find returns the indexes of the rules that apply, in their order.
func (x *index) find(t payment.Type, channel string) []int32 {
	if lists, ok := x.byChannel[channel]; ok {
		return lists[t]
	}
	return x.others[t]
}

// ended reports, each at its place, the entries of lists and the exempts that
// no longer count at an event time. They are no mistakes: a ruleset does not go
// bad over night.
func (s *Ruleset) ended(at payment.Time) Problems {
	var out Problems
	for _, d := range s.dated {
		if d.until <= at {
			out = append(out, d.problem("", "%s has ended", d.what))
		}
	}
	return out.sorted()
}
