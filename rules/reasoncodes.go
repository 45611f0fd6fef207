package rules

import "slices"

// Reasons are what statistics, payment services and dashboards know a rule's
// verdict by. A policy may close their set: then a code that nobody knows is a
// mistake, and one that no rule gives is worth a remark.

// readReasons reads the key reasons of policy.yaml.
func (p *Policy) readReasons(n node) {
	all, ok := n.list("reasons")
	if !ok {
		return
	}
	for _, v := range all {
		if s, ok := v.name("a reason", codePattern, codeHint); ok {
			if p.Reasons = appendNew(v, "reason", p.Reasons, s); len(p.reasonsAt) < len(p.Reasons) {
				p.reasonsAt = append(p.reasonsAt, v.place())
			}
		}
	}
}

// checkReason reports the reason of a rule that the policy does not know. at is
// where it is written, or the rule whose id it was made of.
func (p *Policy) checkReason(n node, at place, r *rule, written bool) {
	if len(p.Reasons) == 0 || r.reason == "" || slices.Contains(p.Reasons, r.reason) {
		return
	}
	suggestion := didYouMean(r.reason, p.Reasons)
	if suggestion == "" {
		suggestion = "add it to reasons in policy.yaml, once those who read decisions know it"
	}
	if !written {
		n.suggest(at, suggestion, "the rule %s names no reason, and %s, made of its id, is none of policy.yaml", r.id, r.reason)
		return
	}
	n.suggest(at, suggestion, "the reason %s is none of policy.yaml", r.reason)
}

// remarkReasons finds the codes of the policy that no rule gives.
func (f *ruleFiles) remarkReasons(r *report, s *Ruleset) {
	for i, code := range s.policy.Reasons {
		if !slices.ContainsFunc(f.rules, func(r rule) bool { return r.reason == code }) {
			r.suggest(s.policy.reasonsAt[i], "take it away, or keep it while decisions with it are still read", "no rule gives the reason %s", code)
		}
	}
}
