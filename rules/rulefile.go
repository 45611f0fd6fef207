package rules

import (
	"regexp"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// mode says whether a rule acts.
type mode uint8

const (
	live     mode = iota
	shadow        // evaluated after the verdict, and only recorded
	disabled      // not evaluated
)

// rule is one rule, checked and compiled. Read-only.
type rule struct {
	id          string
	description string
	owner       string
	tags        []string
	applies     AppliesTo
	when        func(*facts) window.Truth
	reads       []int           // the slots of the features that when looks at
	verdict     payment.Verdict // 0: points only
	hold        holdTerms       // of verdict hold
	points      int
	reason      string
	detail      template
	payerCode   string
	messages    []message // in the order of the file
	mode        mode
	recheckBy   time.Time // zero: never
	// hitWithoutFeatures tells that the rule fires when its features cannot be
	// had at all, instead of being skipped.
	hitWithoutFeatures bool
	actions            []string
	exempts            []int // the indexes of those that can switch it off
}

// message is what the payer is told, in one language (BCP 47).
type message struct{ language, text string }

// holdTerms is what a hold of one rule waits for.
type holdTerms struct {
	stepUp, review bool
	methods        []string
	lasts          time.Duration
	onExpiry       payment.Verdict
}

var (
	rulePattern     = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)
	codePattern     = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,63}$`)
	wordPattern     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)
	languagePattern = regexp.MustCompile(`^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$`)
)

const (
	ruleHint = "a name such as card-testing: small letters, digits, - and _ after the first, at most 64"
	codeHint = "a code such as CARD_TESTING: capital letters, digits and _ after the first, at most 64"
	wordHint = "a short word: letters, digits and _ - . after the first, at most 64"
)

// written is a rule as it stands in its file.
type written struct {
	when     scalar
	answered bool // it says what it does without features
	review   node // its recheck_by; may be empty
}

// ruleFiles gathers the rules of all files of rules/.
type ruleFiles struct {
	lang   *language[facts]
	policy *Policy
	// features are the slots by full name.
	features   map[string]int
	ids        map[string]place // of the rules and exempts so far
	rules      []rule
	tags       map[string][]string // of each rule, by its id; of those with problems too
	exempts    []exemptAt
	dated      []dated          // exempts that end
	written    []written        // the rules, as they are written
	retired    map[string]place // ids that no rule or exempt may have again
	featuresAt []place          // of the features of the ruleset
	listsAt    map[string]place // and of its lists
}

// read takes the rules of one file.
func (f *ruleFiles) read(n node) {
	found := n.object("a file of rules",
		field{"rules", func(v node) {
			all, ok := v.list("rules")
			if !ok {
				return
			}
			for _, one := range all {
				f.rule(one)
			}
		}},
		field{"exempt", func(v node) {
			all, ok := v.list("exempt")
			if !ok {
				return
			}
			for _, one := range all {
				f.exempt(one)
			}
		}},
		field{"retired", func(v node) {
			for _, one := range v.oneOrMore() {
				if id, ok := one.name("a retired id", rulePattern, ruleHint); ok {
					f.retire(id, one)
				}
			}
		}})
	if found != nil && len(found) == 0 {
		n.at(n.place(), "a file of rules needs the key rules")
	}
}

// rule takes one rule. One with problems is left out.
func (f *ruleFiles) rule(n node) {
	before := len(n.problems)
	var r rule
	var hold node
	var when scalar
	found := n.object("a rule",
		field{"id", func(v node) { r.id = f.id(v) }},
		field{"description", func(v node) { r.description, _ = v.text("description") }},
		field{"owner", func(v node) { r.owner, _ = v.text("owner") }},
		field{"tags", func(v node) { r.tags = v.words("a tag") }},
		field{"applies_to", func(v node) { r.applies = v.appliesTo() }},
		field{"when", func(v node) {
			src, ok := v.expression("when")
			if !ok {
				return
			}
			when = src
			if compiled, ok := compile(f.lang, src); ok {
				r.when, r.reads = compiled.eval, f.slots(compiled.names)
			}
		}},
		field{"verdict", func(v node) { r.verdict = ruleVerdict(v) }},
		field{"hold", func(v node) { hold = v }},
		field{"points", func(v node) { r.points, _ = v.whole("points", 0, maxPoints) }},
		field{"reason", func(v node) { r.reason, _ = v.name("reason", codePattern, codeHint) }},
		field{"detail", func(v node) {
			if src, ok := v.scalar("detail"); ok {
				r.detail = compileTemplate(f.lang, src)
			}
		}},
		field{"payer_code", func(v node) { r.payerCode, _ = v.name("payer_code", codePattern, codeHint) }},
		field{"payer_message", func(v node) { r.messages = readMessages(v) }},
		field{"mode", func(v node) { r.mode = readMode(v) }},
		field{"recheck_by", func(v node) { r.recheckBy = v.date("recheck_by") }},
		field{"without_features", func(v node) {
			s, _ := v.choice("without_features", "skip", "hit")
			r.hitWithoutFeatures = s == "hit"
		}},
		field{"actions", func(v node) { r.actions = v.words("an action") }})
	if found == nil {
		return
	}
	if r.id != "" {
		f.tags[r.id] = r.tags
	}
	n.needs("a rule", found, "id", "when")
	_, verdict := found["verdict"]
	if _, points := found["points"]; !verdict && !points {
		n.at(n.place(), "a rule needs a verdict, points, or both")
	}
	if hold.ast != nil && verdict && r.verdict == payment.Block || hold.ast != nil && !verdict {
		hold.at(hold.place(), "hold belongs to verdict: hold")
	} else {
		r.hold = f.holdTerms(hold)
	}
	reason, said := found["reason"]
	if r.reason == "" {
		r.reason = strings.ToUpper(strings.ReplaceAll(r.id, "-", "_"))
		if len(n.problems) == before && !codePattern.MatchString(r.reason) {
			n.at(n.place(), "an id that begins with a digit makes no reason: a rule such as this one needs the key reason")
		}
	}
	if !said {
		reason = n
	}
	f.policy.checkReason(n, reason.place(), &r, said)
	if len(n.problems) == before && f.canHold(when, &r.applies) {
		_, answered := found["without_features"]
		f.rules, f.written = append(f.rules, r), append(f.written, written{when: when, answered: answered, review: found["recheck_by"]})
	}
}

// slots are those of the features among some names.
func (f *ruleFiles) slots(names []string) (slots []int) {
	for _, name := range names {
		if slot, ok := f.features[name]; ok {
			slots = append(slots, slot)
		}
	}
	return slots
}

// id reads an id that no other rule or exempt of the ruleset has.
func (f *ruleFiles) id(n node) string {
	id, ok := n.name("id", rulePattern, ruleHint)
	if !ok {
		return ""
	}
	if other, taken := f.ids[id]; taken {
		what := "exempt"
		if _, ok := f.tags[id]; ok {
			what = "rule"
		}
		n.at(n.place(), "the id %s is taken by the %s at %s", id, what, placeText(other))
		return ""
	}
	f.ids[id] = n.place()
	return id
}

// retire keeps an id from being used again: statistics and decisions of years ago
// would be taken for those of another rule.
func (f *ruleFiles) retire(id string, n node) {
	if other, taken := f.retired[id]; taken {
		n.at(n.place(), "the id %s is retired at %s already", id, placeText(other))
		return
	}
	f.retired[id] = n.place()
}

// checkRetired reports ids that were retired and are in use, once all files are read.
func (f *ruleFiles) checkRetired(r *report) {
	for id, at := range f.ids {
		if gone, ok := f.retired[id]; ok {
			r.suggest(at, "give it another id", "the id %s was retired at %s: decisions and statistics under it are those of another rule", id, placeText(gone))
		}
	}
}

func ruleVerdict(n node) payment.Verdict {
	if s, ok := n.ast.(*ast.StringNode); ok && s.Value == payment.Approve.String() {
		n.suggest(n.place(), "to let transactions through, write an exempt that names the rules that must not stop them", "a rule cannot approve: the strictest verdict wins")
		return 0
	}
	v, _ := n.verdict("verdict", payment.Hold, payment.Block)
	return v
}

func readMode(n node) mode {
	s, ok := n.choice("mode", "live", "shadow", "canary", "disabled")
	if !ok {
		return live
	}
	switch s {
	case "shadow":
		return shadow
	case "disabled":
		return disabled
	case "canary":
		n.suggest(n.place(), "write mode: shadow, then mode: live", "mode: canary is not supported in this version")
	}
	return live
}

// holdTerms reads the hold of a rule over the policy's defaults; n may be empty.
func (f *ruleFiles) holdTerms(n node) holdTerms {
	var h holdTerms
	var lasts time.Duration
	var onExpiry payment.Verdict
	if n.ast != nil {
		n.object("hold",
			field{"needs", func(v node) {
				for _, m := range v.oneOrMore() {
					s, _ := m.choice("needs", "step_up", "review")
					h.stepUp = h.stepUp || s == "step_up"
					h.review = h.review || s == "review"
				}
				v.notEmpty("needs")
			}},
			field{"methods", func(v node) { h.methods = v.words("a method") }},
			field{"for", func(v node) { lasts, _ = v.duration("for", minHold, maxHold) }},
			field{"on_expiry", func(v node) { onExpiry, _ = v.verdict("on_expiry", payment.Approve, payment.Block) }})
	}
	if !h.stepUp && !h.review {
		h.review = true
	}
	if len(h.methods) > 0 && !h.stepUp {
		n.at(n.place(), "methods belong to needs: step_up")
	}
	defaults := f.policy.holdDefault(h.stepUp, h.review)
	h.lasts, h.onExpiry = defaults.For, defaults.OnExpiry
	if lasts > 0 {
		h.lasts = lasts
	}
	if onExpiry != 0 {
		h.onExpiry = onExpiry
	}
	return h
}

// holdDefault is the default for some needs together: the longest time, and
// block if any says so.
func (p *Policy) holdDefault(stepUp, review bool) HoldDefault {
	switch {
	case !stepUp:
		return p.Hold.Review
	case !review:
		return p.Hold.StepUp
	}
	return HoldDefault{max(p.Hold.Review.For, p.Hold.StepUp.For), max(p.Hold.Review.OnExpiry, p.Hold.StepUp.OnExpiry)}
}

// words reads one or more short words.
func (n node) words(what string) []string {
	var out []string
	for _, v := range n.oneOrMore() {
		if s, ok := v.name(what, wordPattern, wordHint); ok {
			out = appendNew(v, strings.TrimPrefix(strings.TrimPrefix(what, "a "), "an "), out, s)
		}
	}
	return out
}

func readMessages(n node) []message {
	var out []message
	for _, e := range n.entries("payer_message") {
		if !languagePattern.MatchString(e.key) {
			e.value.at(e.at, "a key here is a language such as en or zh-CN")
			continue
		}
		s, ok := e.value.text("a message to the payer")
		if !ok {
			continue
		}
		switch {
		case strings.TrimSpace(s) == "":
			e.value.at(e.value.place(), "the message is empty")
		case strings.ContainsAny(s, "{}"):
			e.value.suggest(e.value.place(), "put the values into detail, which only people at work see", "a message to the payer has no values in braces: it must not tell thresholds")
		default:
			out = append(out, message{e.key, strings.TrimSpace(s)})
		}
	}
	return out
}

// messageIn returns the message in a language: the very one, its base language,
// English, or the first.
func messageIn(messages []message, locale string) string {
	base, _, _ := strings.Cut(locale, "-")
	for _, language := range [...]string{locale, base, "en"} {
		for i := range messages {
			if strings.EqualFold(messages[i].language, language) {
				return messages[i].text
			}
		}
	}
	if len(messages) > 0 {
		return messages[0].text
	}
	return ""
}

// date reads a day.
func (n node) date(what string) time.Time {
	s, ok := n.text(what)
	if !ok {
		return time.Time{}
	}
	day, err := time.Parse(time.DateOnly, s)
	if err != nil {
		n.at(n.place(), "%s must be a day such as 2027-03-31", what)
	}
	return day
}
