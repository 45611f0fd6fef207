package rules

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser/lexer"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// readFolder reads the files of a folder, or of an archive.
func readFolder(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	if strings.HasSuffix(dir, ".txtar") {
		archive, err := txtar.ParseFile(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			files[f.Name] = string(f.Data)
		}
		return files
	}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(dir + "/" + name)
		files[name] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func loadFiles(files map[string]string) (*Ruleset, error) {
	folder := fstest.MapFS{}
	for name, content := range files {
		folder[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return LoadFS(folder)
}

// compiledMeaning writes down everything that was compiled of a ruleset, by reflection,
// and of what is compiled to functions, the tokens: whatever a file can say is in
// it, and neither comments nor layout are.
func compiledMeaning(t *testing.T, set *Ruleset) string {
	t.Helper()
	var b strings.Builder
	dump(&b, reflect.ValueOf(set.rules))
	dump(&b, reflect.ValueOf(set.policy))
	dump(&b, reflect.ValueOf(set.features))
	dump(&b, reflect.ValueOf(set.rates.to))
	dump(&b, reflect.ValueOf(set.texts.byCode))
	dump(&b, reflect.ValueOf(set.texts.language))
	dump(&b, reflect.ValueOf(set.exempts))
	dump(&b, reflect.ValueOf(set.retired))
	dump(&b, reflect.ValueOf(set.lists))
	for _, name := range slices.Sorted(maps.Keys(set.files)) {
		if strings.HasPrefix(name, "data/") {
			continue
		}
		var content map[string]any
		if err := yaml.Unmarshal(set.files[name], &content); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%v %v ", content["description"], content["owner"])
		for _, key := range []string{"rules", "exempt", "features"} {
			all, _ := content[key].([]any)
			for _, one := range all {
				for _, key := range []string{"when", "where", "value", "detail", "description", "owner"} {
					text, _ := one.(map[string]any)[key].(string)
					tokens, err := lexer.Lex(file.NewSource(text))
					if err != nil || key == "detail" || key == "description" {
						fmt.Fprintf(&b, "%q ", text)
						continue
					}
					for _, token := range tokens {
						fmt.Fprintf(&b, "%s ", token.Value)
					}
				}
			}
		}
	}
	return b.String()
}

// dump writes a value with all that hangs on it; functions are left out.
func dump(b *strings.Builder, v reflect.Value) {
	switch v.Kind() {
	case reflect.Func:
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			b.WriteString("nil ")
			return
		}
		if v.Type() == reflect.TypeFor[*time.Location]() {
			fmt.Fprintf(b, "%v ", v.Elem().Field(0)) // its name
			return
		}
		dump(b, v.Elem())
	case reflect.Struct:
		b.WriteString("{")
		for i := range v.NumField() {
			b.WriteString(v.Type().Field(i).Name + ":")
			dump(b, v.Field(i))
		}
		b.WriteString("}")
	case reflect.Slice, reflect.Array:
		b.WriteString("[")
		for i := range v.Len() {
			dump(b, v.Index(i))
		}
		b.WriteString("]")
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		for _, k := range keys {
			fmt.Fprintf(b, "%v=", k)
			dump(b, v.MapIndex(k))
		}
	default:
		fmt.Fprintf(b, "%v ", v)
	}
}

// replacements are what a mutation puts instead of a part of a value.
var replacements = []struct {
	pattern *regexp.Regexp
	instead func(*rand.Rand, string) string
}{
	{regexp.MustCompile(`[0-9]+`), func(r *rand.Rand, s string) string {
		digits := []byte(s)
		digits[r.IntN(len(digits))] = byte('1' + r.IntN(9))
		return string(digits)
	}},
	{regexp.MustCompile(`^(?:hold|block|approve)$`), oneOfWords("hold", "block", "approve")},
	{regexp.MustCompile(`^(?:live|shadow|disabled)$`), oneOfWords("live", "shadow", "disabled")},
	{regexp.MustCompile(`^(?:none|block)$`), oneOfWords("none", "block")},
	{regexp.MustCompile(`\b(?:payment|transfer|withdrawal|top_up|refund)\b`), oneOfWords(payment.TypeNames()...)},
	{regexp.MustCompile(`\b(?:step_up|review)\b`), oneOfWords("step_up", "review")},
	{regexp.MustCompile(`\b(?:and|or)\b`), oneOfWords("and", "or")},
	{regexp.MustCompile(` (?:>=|<=|==|!=|>|<) `), oneOfWords(" >= ", " <= ", " == ", " != ", " > ", " < ")},
	{regexp.MustCompile(`\b(?:payer|payee|card|device)\b`), oneOfWords("payer", "payee", "card", "device")},
	{regexp.MustCompile(`\b(?:USD|EUR|CNY|JPY)\b`), oneOfWords("USD", "EUR", "CNY", "JPY")},
	{regexp.MustCompile(`\b(?:Shanghai|York)\b`), oneOfWords("Tokyo", "Manila")},
	{regexp.MustCompile(`^(?:count|sum|avg)$`), oneOfWords("count", "sum", "avg", "max", "min", "stddev")},
	{regexp.MustCompile(`[0-9](?:ms|[smhd])$`), func(r *rand.Rand, s string) string { return s[:1] + oneOfWords("s", "m", "h", "d")(r, "") }},
	{regexp.MustCompile(`^(?:true|false)$`), oneOfWords("true", "false")},
	{regexp.MustCompile(`^(?:skip|hit)$`), oneOfWords("skip", "hit")},
	{regexp.MustCompile(`\p{Han}`), oneOfWords("税", "款")},
	{regexp.MustCompile(`[a-z]`), oneOfWords("x", "b")},
	{regexp.MustCompile(`[A-Z]`), oneOfWords("X", "B")},
}

func oneOfWords(words ...string) func(*rand.Rand, string) string {
	return func(r *rand.Rand, _ string) string { return words[r.IntN(len(words))] }
}

// value is a scalar of a file, by the keys that lead to it.
type value struct {
	file, keys string
	scalar     scalar
}

// valuesOf are the scalars of a file.
func valuesOf(file string, n node, keys string) (out []value) {
	switch n.ast.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		for _, e := range n.entries("") {
			out = append(out, valuesOf(file, e.value, keys+"."+e.key)...)
		}
	case *ast.SequenceNode:
		members, _ := n.list("")
		for _, m := range members {
			out = append(out, valuesOf(file, m, keys)...)
		}
	case *ast.StringNode, *ast.LiteralNode:
		text := n.written()
		out = append(out, value{file, keys, scalar{n, text, text, 0}})
	default:
		text := n.ast.GetToken().Value
		out = append(out, value{file, keys, scalar{n, text, text, 0}})
	}
	return out
}

// mutated is the content of a file with a part of a value replaced at random: of
// one of a few words, mostly by another one of these.
func (v value) mutated(r *rand.Rand, content string) string {
	for {
		m := replacements[r.IntN(len(replacements))]
		found := m.pattern.FindAllStringIndex(v.scalar.text, -1)
		if len(found) == 0 || v.isWord() && r.IntN(3) > 0 && m.pattern.String()[0] != '^' {
			continue // every value has a letter or a digit
		}
		at := found[r.IntN(len(found))]
		old := v.scalar.text[at[0]:at[1]]
		now := m.instead(r, old)
		from := v.scalar.spots()[len([]rune(v.scalar.text[:at[0]]))]
		lines := strings.Split(content, "\n")
		line := []rune(lines[from.line-1])
		end := from.column - 1 + len([]rune(old))
		if now == old || end > len(line) || string(line[from.column-1:end]) != old {
			continue // the same, or a text that is folded there
		}
		lines[from.line-1] = string(line[:from.column-1]) + now + string(line[end:])
		return strings.Join(lines, "\n")
	}
}

// isWord tells whether a value is one of a few words.
func (v value) isWord() bool {
	for _, m := range replacements {
		if m.pattern.String()[0] == '^' && m.pattern.MatchString(v.scalar.text) {
			return true
		}
	}
	return false
}

// TestNoChangeOfMeaningIsMissed changes values of rulesets at random, some of
// every key: whenever one still loads, Diff tells a change exactly if what was
// compiled is another thing.
func TestNoChangeOfMeaningIsMissed(t *testing.T) {
	const ofEachKey, ofEachValue, tries = 2, 4, 40 // changes of a key; tries of a value, and at least those of a key
	random := rand.New(rand.NewPCG(6, 2026))
	seen := map[string]bool{} // whether a change of a key was told
	for _, dir := range []string{"../deploy/rulesets/demo", "testdata/ruleset", "testdata/schema/everything.txtar"} {
		files := readFolder(t, dir)
		maps.DeleteFunc(files, func(name, _ string) bool {
			return !strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, "_test.yaml")
		})
		original, err := loadFiles(files)
		if err != nil {
			t.Fatal(err)
		}
		before := compiledMeaning(t, original)
		var values []value
		for _, name := range slices.Sorted(maps.Keys(files)) {
			n, _ := parseYAML(&report{}, newSource(name, []byte(files[name])), []byte(files[name]))
			values = append(values, valuesOf(name, n, strings.SplitN(name, "/", 2)[0])...)
		}
		random.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
		changed, tried, count := map[string]int{}, map[string]int{}, map[string]int{}
		for _, v := range values {
			count[v.keys]++
		}
		for _, v := range values {
			for range max(ofEachValue, tries/count[v.keys]) {
				if changed[v.keys] == ofEachKey || tried[v.keys] == tries {
					break
				}
				tried[v.keys]++
				mutated := maps.Clone(files)
				mutated[v.file] = v.mutated(random, files[v.file])
				set, err := loadFiles(mutated)
				if err != nil {
					continue
				}
				changes := Diff(original, set)
				where := fmt.Sprintf("%s in %s:%d", v.keys, v.file, v.scalar.place().line)
				switch differs := compiledMeaning(t, set) != before; {
				case differs && len(changes) == 0:
					t.Errorf("%s changes the meaning, and no change is told", where)
				case !differs && len(changes) > 0:
					t.Errorf("%s changes nothing, and is told:\n%s", where, ChangesText(changes))
				case differs && len(Diff(set, original)) == 0:
					t.Errorf("%s: nothing is told on the way back", where)
				}
				if len(changes) > 0 {
					changed[v.keys]++
					break // another value has its turn
				}
			}
			seen[v.keys] = seen[v.keys] || changed[v.keys] > 0
		}
	}
	for _, keys := range slices.Sorted(maps.Keys(seen)) {
		if !seen[keys] && !slices.Contains(tied, keys) {
			t.Errorf("no change of %s was seen; if another value of it never loads, it is one of those that are tied", keys)
		}
	}
	if len(seen) < 100 {
		t.Errorf("only %d keys", len(seen))
	}
}

// tied are the keys of which another value does not load, since something else
// names it; the golden files have changes of them.
var tied = []string{
	"features.features.entity", "features.features.name", "features.features.windows",
	"policy.yaml.base_currency", "rates.yaml.base", "rules.exempt.from.rules", "rules.exempt.from.tags", "lists.effect",
}

// TestAPredictedEffectHoldsForEveryPayment evaluates the pairs of conditions of
// the golden file on payments at random: a rule that is said to fire less fires on
// none that it did not fire on before, and does leave some out.
func TestAPredictedEffectHoldsForEveryPayment(t *testing.T) {
	content, err := os.ReadFile("testdata/diff/conditions.txtar")
	if err != nil {
		t.Fatal(err)
	}
	archive := txtar.Parse(content)
	from, to := loadSide(t, archive, "old"), loadSide(t, archive, "new")
	effects := map[string]string{}
	for _, c := range Diff(from, to) {
		if c.Key != "when" || effects[c.Name] != "" && effects[c.Name] != c.Effect {
			effects[c.Name] = "both"
			continue
		}
		effects[c.Name] = c.Effect
	}
	random := rand.New(rand.NewPCG(1, 2))
	less, more := map[string]int{}, map[string]int{}
	for range 20_000 {
		f := randomFacts(random, from)
		for i := range from.rules {
			id := from.rules[i].id
			was, is := from.rules[i].when(f) == window.True, to.rules[i].when(f) == window.True
			switch {
			case was && !is:
				less[id]++
			case is && !was:
				more[id]++
			}
		}
	}
	told := 0
	for i := range from.rules {
		id := from.rules[i].id
		switch effect := effects[id]; effect {
		case "fires less", "fires more":
			told++
			wrong, right := more[id], less[id]
			if effect == "fires more" {
				wrong, right = right, wrong
			}
			if wrong > 0 || right == 0 {
				t.Errorf("%s: said %q; it fires on %d payments more and on %d less", id, effect, more[id], less[id])
			}
		}
	}
	if told < 18 {
		t.Errorf("only %d effects", told)
	}
}

// randomFacts is a payment with features, any of which may be absent.
func randomFacts(r *rand.Rand, set *Ruleset) *facts {
	tx := &payment.Transaction{Channel: []string{"", "web", "qr", "in_app"}[r.IntN(4)], EventTime: payment.Time(r.Int64N(int64(48 * time.Hour)))}
	tx.Payer.Country = []string{"", "CN", "US"}[r.IntN(3)]
	tx.Device.ID = []string{"", "d-1"}[r.IntN(2)]
	amount := []int64{0, 50, 150, 250, 550, 975, 999, 1000, 20000}[r.IntN(9)]
	tx.Amount = payment.Money{Value: amount, Currency: mustCurrency([]string{"CNY", "USD"}[r.IntN(2)])}
	in := &Input{Tx: tx, Amount: amount, HasAmount: r.IntN(5) > 0, Features: make([]payment.Value, len(set.features))}
	for i := range in.Features {
		kind, _ := set.features[i].Type()
		switch n := r.IntN(11); {
		case n == 10:
		case kind == payment.Int:
			in.Features[i] = payment.IntValue(int64(n))
		case kind == payment.Float:
			in.Features[i] = payment.FloatValue(float64(n * 50))
		}
	}
	f := &facts{}
	f.reset(in)
	return f
}

// TestTestsThatComeAndGoAreNoted looks at tests by file and name.
func TestTestsThatComeAndGoAreNoted(t *testing.T) {
	a := []Test{{Name: "stays", File: "rules/a_test.yaml", Line: 3}, {Name: "goes", File: "rules/a_test.yaml", Line: 5}}
	b := []Test{{Name: "comes", File: "rules/a_test.yaml", Line: 7}, {Name: "stays", File: "rules/a_test.yaml", Line: 9}}
	want := "Tests\n  test comes: added, in rules/a_test.yaml\n  test goes: removed, of rules/a_test.yaml\n"
	if got := ChangesText(DiffTests(a, b)); got != want {
		t.Errorf("got\n%s", got)
	}
	if same := DiffTests(a, a); len(same) > 0 {
		t.Errorf("from the same tests to the same: %v", same)
	}
}

// TestKeysOfALaterFormatAreTold puts keys into the files of a loaded ruleset that
// nothing here knows.
func TestKeysOfALaterFormatAreTold(t *testing.T) {
	files := map[string]string{
		"rules/a.yaml":    "rules:\n  - {id: a, when: 'payer.b_1d > 1', points: 1}\nexempt:\n  - {id: x, when: 'amount > CNY(1)', from: {rules: a}}\n",
		"features/a.yaml": "features:\n  - {entity: payer, name: b, windows: [1d], value: count}\n",
		"lists/a.yaml":    "list: l\ntype: payer\neffect: block\nentries: []\n",
		"policy.yaml":     "no_rate: hold\ncaps: {per: 5m}\n",
	}
	load := func() *Ruleset {
		set, err := loadFiles(files)
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	for _, c := range []struct{ file, from, to, want string }{
		{"rules/a.yaml", "points: 1}", "points: 1, share: 10%}", "rule a: share from none to 10%"},
		{"rules/a.yaml", "from: {rules: a}}", "from: {rules: a}, upto: 5}", "exempt x: upto from none to 5"},
		{"rules/a.yaml", "exempt:", "groups: [y, z]\nexempt:", "rules: groups from none to y, z"},
		{"features/a.yaml", "value: count}", "value: count, cap: 7}", "feature payer.b_1d: cap from none to 7"},
		{"lists/a.yaml", "entries:", "large: true\nentries:", "list l: large from none to true"},
		{"policy.yaml", "no_rate:", "control_group: 1%\nno_rate:", "policy: control_group from none to 1%"},
		{"policy.yaml", "per: 5m", "per: 5m, value: CNY(5)", "policy: caps.value from none to CNY(5)"},
	} {
		from, to := load(), load()
		content := strings.Replace(files[c.file], c.from, c.to, 1)
		if content == files[c.file] {
			t.Fatalf("%s has no %s", c.file, c.from)
		}
		to.files[c.file] = []byte(content)
		if got := ChangesText(Diff(from, to)); got != "Acts on payments\n  "+c.want+"\n" {
			t.Errorf("want %q, got\n%s", c.want, got)
		}
	}
}

// TestEveryChangeOfModeHasItsWord names all pairs, canary included.
func TestEveryChangeOfModeHasItsWord(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"disabled", "shadow", "begins to be recorded"}, {"disabled", "canary", "acts for a share of payers"}, {"disabled", "live", "begins to act"},
		{"shadow", "disabled", "ceases to be recorded"}, {"shadow", "canary", "acts for a share of payers"}, {"shadow", "live", "begins to act"},
		{"canary", "disabled", "ceases to act"}, {"canary", "shadow", "ceases to act, and is only recorded"}, {"canary", "live", "begins to act for all payers"},
		{"live", "disabled", "ceases to act"}, {"live", "shadow", "ceases to act, and is only recorded"}, {"live", "canary", "acts for a share of payers"},
	} {
		if got := modeEffect(c.from, c.to); got != c.want {
			t.Errorf("%s to %s: %q, want %q", c.from, c.to, got, c.want)
		}
	}
}
