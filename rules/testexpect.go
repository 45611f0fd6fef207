package rules

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Expectation is one thing that a test expects of the decision.
type Expectation struct {
	Key      string   `json:"key"` // verdict, rules, features.card.attempts_10m, payer_message.en
	File     string   `json:"file"`
	Line     int      `json:"line"`   // from 1
	Column   int      `json:"column"` // from 1
	Excerpt  string   `json:"-"`      // the line of the file with a mark, two lines
	Want     string   `json:"want"`   // for people
	Language string   `json:"-"`      // the decision in this language is meant; "": the first
	Names    []string `json:"-"`      // the features and rules that it is about

	got func(*payment.Decision) (string, bool)
}

// Check returns what a decision says where the expectation looks, and whether
// it is what is wanted. The decision has its evidence, and no probes.
func (e *Expectation) Check(d *payment.Decision) (got string, met bool) { return e.got(d) }

// expectation makes one at its place.
func expectation(n node, key, want string, names []string, got func(*payment.Decision) (string, bool)) Expectation {
	p := n.place()
	return Expectation{Key: key, File: p.src.name, Line: p.line, Column: p.column, Excerpt: p.excerpt(), Want: want, Names: names, got: got}
}

// expect reads what is expected.
func (f *testFiles) expect(n node, t *Test) {
	add := func(v node, key, want string, names []string, got func(*payment.Decision) (string, bool)) {
		t.Expected = append(t.Expected, expectation(v, key, want, names, got))
	}
	word := func(v node, key, want string, get func(*payment.Decision) string) {
		add(v, key, want, nil, func(d *payment.Decision) (string, bool) { return orNone(get(d)), get(d) == want })
	}
	set := func(key string, closed []string, what string, get func(*payment.Decision) []string) field {
		return field{key, func(v node) {
			want, ok := v.closedWords(key, closed, what)
			if !ok {
				return
			}
			slices.Sort(want)
			names := want
			if what != "rule" {
				names = nil
			}
			add(v, key, bracketed(want), names, func(d *payment.Decision) (string, bool) {
				got := slices.Sorted(slices.Values(get(d)))
				got = slices.Compact(got)
				return bracketed(got), slices.Equal(got, want)
			})
		}}
	}
	ids, exempts, codes := f.set.ids, f.exemptIDs(), f.set.reasonCodes()
	sources := make([]string, 0, 10)
	for _, s := range payment.Sources() {
		sources = append(sources, string(s))
	}
	found := n.object("expect",
		field{"verdict", func(v node) {
			if want, ok := v.verdict("verdict", payment.Approve, payment.Hold, payment.Block); ok {
				word(v, "verdict", want.String(), func(d *payment.Decision) string { return d.Verdict.String() })
			}
		}},
		set("rules", ids, "rule", func(d *payment.Decision) (out []string) {
			for _, r := range d.Reasons {
				if r.Rule != "" {
					out = append(out, r.Rule)
				}
			}
			return out
		}),
		set("shadow", ids, "rule", func(d *payment.Decision) (out []string) {
			for _, r := range d.Shadow {
				out = append(out, r.Rule)
			}
			return out
		}),
		set("unknown", ids, "rule", func(d *payment.Decision) []string { return d.Evidence.Unknown }),
		set("exempt", exempts, "exempt", func(d *payment.Decision) []string { return d.Evidence.Exempt }),
		set("reasons", codes, "reason", func(d *payment.Decision) (out []string) {
			for _, r := range d.Reasons {
				out = append(out, r.Code)
			}
			return out
		}),
		field{"points", func(v node) {
			if want, ok := v.whole("points", 0, math.MaxInt32); ok {
				word(v, "points", strconv.Itoa(want), func(d *payment.Decision) string { return strconv.Itoa(d.Points.N) })
			}
		}},
		field{"source", func(v node) {
			if want, ok := v.choice("source", sources...); ok {
				word(v, "source", want, func(d *payment.Decision) string { return string(d.Source) })
			}
		}},
		field{"payer_code", func(v node) {
			if want, ok := v.name("payer_code", codePattern, codeHint); ok {
				word(v, "payer_code", want, func(d *payment.Decision) string { return d.PayerCode })
			}
		}},
		field{"payer_message", func(v node) { f.expectMessage(v, t) }},
		field{"features", func(v node) {
			for _, e := range v.entries("features") {
				f.expectFeature(e, t)
			}
		}})
	if found != nil && len(found) == 0 {
		n.suggest(n.place(), "write what must come out, such as verdict: hold", "nothing is expected")
	}
	if len(t.Languages) == 0 {
		t.Languages = []string{""}
	}
}

// expectMessage takes one text, or texts by language.
func (f *testFiles) expectMessage(n node, t *Test) {
	message := func(v node, key, language string) {
		want, ok := v.text("a message to the payer")
		if !ok {
			return
		}
		x := expectation(v, key, want, nil, func(d *payment.Decision) (string, bool) { return orNone(d.PayerMessage), d.PayerMessage == want })
		x.Language = language
		t.Expected = append(t.Expected, x)
	}
	if !isMapping(n) {
		message(n, "payer_message", "")
		return
	}
	for _, e := range n.entries("payer_message") {
		if !languagePattern.MatchString(e.key) {
			n.at(e.at, "a key here is a language such as en or zh-CN")
			continue
		}
		t.Languages = append(t.Languages, e.key)
		message(e.value, "payer_message."+e.key, e.key)
	}
}

// expectFeature takes the value of one feature; null is an absent one.
func (f *testFiles) expectFeature(e entry, t *Test) {
	own := f.set.OwnFeatures()
	names := make([]string, len(own))
	for i := range own {
		names[i] = own[i].FullName()
	}
	i := slices.Index(names, e.key)
	if i < 0 {
		e.value.suggest(e.at, didYouMean(e.key, names), "there is no feature %s", e.key)
		return
	}
	kind, money := own[i].Type()
	want, equal, ok := f.value(e, kind, money)
	if !ok {
		return
	}
	t.Expected = append(t.Expected, expectation(e.value, "features."+e.key, want, []string{e.key}, func(d *payment.Decision) (string, bool) {
		v := featureIn(d, e.key)
		return f.shown(v, money), equal(v)
	}))
}

// featureIn is the value of a feature in the evidence.
func featureIn(d *payment.Decision, name string) payment.Value {
	for _, v := range d.Evidence.Features {
		if v.Name == name {
			return v.Value
		}
	}
	return payment.Value{}
}

// value reads what a feature of a kind should be. A fraction is compared to as
// many digits as it is written with.
func (f *testFiles) value(e entry, kind payment.ValueKind, money bool) (want string, equal func(payment.Value) bool, ok bool) {
	n := e.value
	if _, null := n.ast.(*ast.NullNode); null {
		return "absent", func(v payment.Value) bool { return v.Kind() == payment.Absent }, true
	}
	switch {
	case kind == payment.Ref:
		n.suggest(n.place(), "compare it in a rule, and expect that rule", "%s is kept as a hash: it cannot be expected", e.key)
		return "", nil, false
	case money:
		minor, ok := f.set.rates.moneyText(n, e.key)
		return f.set.money(float64(minor)), func(v payment.Value) bool {
			got, ok := numberOf(v)
			return ok && math.Abs(got-float64(minor)) <= 0.5 && (v.Kind() != payment.Int || v.Int() == minor)
		}, ok
	case kind == payment.Int, kind == payment.Float:
		exact, ok := n.decimal(e.key)
		if !ok {
			return "", nil, false
		}
		text := n.ast.GetToken().Value
		_, fraction, _ := strings.Cut(text, ".")
		number, _ := exact.Float64()
		slack := 0.5 * math.Pow10(-len(fraction)) * (1 + 1e-9)
		return text, func(v payment.Value) bool {
			got, ok := numberOf(v)
			if v.Kind() == payment.Int || len(fraction) == 0 {
				return ok && got == number
			}
			return ok && math.Abs(got-number) <= slack
		}, true
	case kind == payment.Bool:
		truth, ok := n.truth(e.key)
		return strconv.FormatBool(truth), func(v payment.Value) bool { return v.Kind() == payment.Bool && v.Bool() == truth }, ok
	}
	text, ok := n.text(e.key)
	return strconv.Quote(text), func(v payment.Value) bool { return v.Kind() == payment.String && v.Str() == text }, ok
}

func numberOf(v payment.Value) (float64, bool) {
	switch v.Kind() {
	case payment.Int:
		return float64(v.Int()), true
	case payment.Float:
		return v.Float(), true
	}
	return 0, false
}

// shown writes the value of a feature for people.
func (f *testFiles) shown(v payment.Value, money bool) string {
	if v.Kind() == payment.Absent {
		return "absent"
	}
	if number, ok := numberOf(v); ok && money {
		return f.set.money(number)
	}
	return string(v.AppendJSON(nil))
}

// Shown writes the value that a feature has in a decision's evidence, for people.
func (s *Ruleset) Shown(feature string, d *payment.Decision) (string, bool) {
	for i := range s.features[:s.fromFiles] {
		if f := &s.features[i]; f.FullName() == feature {
			_, money := f.Type()
			return (&testFiles{set: s}).shown(featureIn(d, feature), money), true
		}
	}
	return "", false
}

// money writes minor units of the base currency as rules write amounts.
func (s *Ruleset) money(minor float64) string {
	base := s.policy.BaseCurrency
	return fmt.Sprintf("%s(%s)", base, strconv.FormatFloat(minor/math.Pow10(base.Digits()), 'f', -1, 64))
}

// closedWords reads a list of known names, each once.
func (n node) closedWords(key string, known []string, what string) ([]string, bool) {
	all, ok := n.list(key)
	out := []string{}
	for _, v := range all {
		name, isText := v.text("a " + what)
		if !isText {
			ok = false
			continue
		}
		if !slices.Contains(known, name) {
			v.suggest(v.place(), didYouMean(name, known), "there is no %s %s", what, name)
			ok = false
			continue
		}
		out = appendNew(v, what, out, name)
	}
	return out, ok
}

func (f *testFiles) exemptIDs() []string {
	var out []string
	for i := range f.set.exempts {
		out = append(out, f.set.exempts[i].id)
	}
	return out
}

// reasonCodes are the codes that a decision by this ruleset can give.
func (s *Ruleset) reasonCodes() []string {
	codes := map[string]bool{reasonNoRate: true, reasonPoints: true, reasonCannotHold: true, reasonDuplicate: true}
	for i := range s.rules {
		codes[s.rules[i].reason] = true
	}
	for _, l := range s.blocking {
		codes[l.reason] = true
	}
	return slices.Sorted(maps.Keys(codes))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func bracketed(words []string) string { return "[" + strings.Join(words, ", ") + "]" }
