package rules

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sluice-risk/sluice/benchmarks/ruleset"
	"github.com/sluice-risk/sluice/deploy"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// shippedRulesets are all that come with the project, by the name of their folder.
func shippedRulesets(t *testing.T) map[string]fs.FS {
	t.Helper()
	all := map[string]fs.FS{"benchmarks": ruleset.Files, "handbook": os.DirFS("../benchmarks/handbook/ruleset"),
		"built in": fstest.MapFS{"rules/a.yaml": {Data: []byte("rules: []\n")}}}
	folders, err := fs.ReadDir(deploy.Rulesets, "rulesets")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range folders {
		if all[f.Name()], err = fs.Sub(deploy.Rulesets, "rulesets/"+f.Name()); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// Stricter than the loader: no number at all, and no name of one word either.
func TestNoShippedTextTellsPayersHowTheyAreJudged(t *testing.T) {
	number := regexp.MustCompile(`\pN|[%¥$€£]|\b(?:CNY|USD|EUR|HKD|JPY)\b`)
	listName := regexp.MustCompile(`(?m)^list: *"?([^"\s]+)`)
	for folder, files := range shippedRulesets(t) {
		set, err := LoadFS(files)
		if err != nil {
			t.Fatalf("%s: %v", folder, err)
		}
		secret := []string{reasonNoRate, reasonPoints, reasonCannotHold, "DUPLICATE_PAYMENT", "INVALID"}
		for i := range set.rules {
			secret = append(secret, set.rules[i].id, set.rules[i].reason)
			for _, tag := range set.rules[i].tags {
				if strings.Contains(tag, "-") {
					secret = append(secret, tag)
				}
			}
		}
		for i := range set.features {
			secret = append(secret, set.features[i].FullName())
		}
		lists, _ := fs.Glob(files, "lists/*.yaml")
		for _, name := range lists {
			text, err := fs.ReadFile(files, name)
			if err != nil {
				t.Fatal(err)
			}
			for _, found := range listName.FindAllSubmatch(text, -1) {
				secret = append(secret, string(found[1]))
			}
		}
		texts := set.PayerTexts()
		if len(texts) < 26 {
			t.Errorf("%s: only %d texts", folder, len(texts))
		}
		for _, told := range texts {
			for _, text := range []string{told.Message, told.Next} {
				if found := number.FindString(text); found != "" {
					t.Errorf("%s, %s: %q in %q", folder, told.Language, found, text)
				}
				for _, name := range secret {
					if reads(text, name) {
						t.Errorf("%s, %s: the name %s in %q", folder, told.Language, name, text)
					}
				}
			}
		}
	}
}

// reads tells whether a name stands in a text, with other separators too, and
// with nothing between its words.
func reads(text, name string) bool {
	split := func(s string) []string {
		return strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9') })
	}
	words, of := split(text), split(name)
	for i := range words {
		if len(of) > 0 && i+len(of) <= len(words) && slices.Equal(words[i:i+len(of)], of) {
			return true
		}
	}
	return len(of) > 1 && slices.Contains(words, strings.Join(of, ""))
}

func TestEveryShippedPayerCodeIsToldInEnglishAndChinese(t *testing.T) {
	for folder, files := range shippedRulesets(t) {
		set, err := LoadFS(files)
		if err != nil {
			t.Fatal(err)
		}
		codes := set.PayerCodes()
		for i := range set.rules {
			if code := set.rules[i].payerCode; code != "" {
				codes = append(codes, code)
			}
		}
		for _, code := range codes {
			en, ok := set.PayerText(code, "en-GB")
			zh, _ := set.PayerText(code, "zh-Hans-CN")
			if !ok || en.Language != "en" || zh.Language != "zh-CN" || en.Message == zh.Message {
				t.Errorf("%s: %s is told as %+v and %+v", folder, code, en, zh)
			}
			if (en.Next == "") != (zh.Next == "") {
				t.Errorf("%s: %s says what to do next in one language only", folder, code)
			}
		}
	}
}

func TestPayerTextIsInTheNearestLanguage(t *testing.T) {
	set, err := LoadFS(fstest.MapFS{
		"rules/a.yaml": {Data: []byte(`rules:
  - {id: a, when: 'amount > CNY(1)', verdict: hold, payer_code: NOT_NOW, payer_message: {fr: "Plus tard.", en: "Later."}}
  - {id: b, when: 'amount > CNY(2)', verdict: hold, payer_message: {de: "Später.", nl: "Later."}}
`)},
		"notices.yaml": {Data: []byte(`language: zh-CN
notices:
  NOT_NOW:
    de: {message: "Jetzt nicht."}
    zh-CN: {message: "现在不行。", next: "请稍后再试。"}
    zh-TW: {message: "現在不行。"}
    en: {message: "Not now."}
  OF_ONE_LANGUAGE: {sv: {message: "Inte nu."}}
`)}})
	if err != nil {
		t.Fatal(err)
	}
	for locale, want := range map[string]string{"zh-CN": "zh-CN", "ZH-cn": "zh-CN", "zh-TW": "zh-TW", "zh": "zh-CN", "zh-HK": "zh-CN", "de": "de", "de-AT": "de",
		"en-US": "en", "": "zh-CN", "fr-FR": "zh-CN"} {
		if got, ok := set.PayerText("NOT_NOW", locale); !ok || got.Language != want {
			t.Errorf("%q: %+v, want %s", locale, got, want)
		}
	}
	if got, _ := set.PayerText("OF_ONE_LANGUAGE", "en"); got.Message != "Inte nu." {
		t.Errorf("%+v", got)
	}
	if got, _ := set.PayerText(PayerDeclined, "fr"); got.Language != "zh-CN" { // built in, and in the default language of the file
		t.Errorf("%+v", got)
	}
	if got, ok := set.PayerText("NO_SUCH_CODE", "en"); ok {
		t.Errorf("%+v", got)
	}
}

func TestTextsOfTheFileComeBeforeTheMessageOfARule(t *testing.T) {
	set, err := LoadFS(fstest.MapFS{
		"rules/a.yaml": {Data: []byte(`rules:
  - {id: a, when: 'amount > CNY(1)', verdict: hold, payer_message: {en: "Later.", zh-CN: "以后。", fr: "Plus tard."}}
  - {id: b, when: 'amount > CNY(2)', verdict: hold, payer_message: {en: "Stop. Please try another way to pay."}}
`)},
		"notices.yaml": {Data: []byte("notices: {NOT_NOW: {en: {message: Not now., next: Wait.}}}\n")}})
	if err != nil {
		t.Fatal(err)
	}
	english, _ := set.PayerText(PayerTryAnotherWay, "en")
	chinese, _ := set.PayerText(PayerTryAnotherWay, "zh-CN")
	for _, c := range []struct {
		code, message, locale string
		want                  PayerText
	}{
		{"NOT_NOW", "Later.", "zh-CN", PayerText{"en", "Not now.", "Wait."}},
		{"NOT_NOW", "", "en", PayerText{"en", "Not now.", "Wait."}},
		{PayerTryAnotherWay, "Later.", "zh-CN", PayerText{"en", "Later.", english.Next}}, // the message says which language it is
		{PayerTryAnotherWay, "以后。", "en", PayerText{"zh-CN", "以后。", chinese.Next}},
		{PayerTryAnotherWay, "Plus tard.", "fr", PayerText{"fr", "Plus tard.", ""}}, // no two languages in one notice
		{PayerTryAnotherWay, "Stop. Please try another way to pay.", "en", PayerText{"en", "Stop. Please try another way to pay.", ""}},
		{PayerTryAnotherWay, "Of an earlier ruleset.", "en", PayerText{"", "Of an earlier ruleset.", ""}},
		{"OWN_CODE", "Later.", "en", PayerText{"en", "Later.", ""}},
		{PayerTryAnotherWay, "", "en", english},
	} {
		if got, ok := set.PayerTextWith(c.code, c.message, c.locale); !ok || got != c.want {
			t.Errorf("%s %q in %s: %+v, want %+v", c.code, c.message, c.locale, got, c.want)
		}
	}
	if got, ok := set.PayerTextWith("OWN_CODE", "", "en"); ok {
		t.Errorf("%+v", got)
	}
}

func TestTextsForPayersAreInTheHash(t *testing.T) {
	files := fstest.MapFS{"rules/a.yaml": {Data: []byte("rules: []\n")}, "notices.yaml": {Data: []byte("notices: {NOT_NOW: {en: {message: Not now.}}}\n")}}
	first, err := LoadFS(files)
	if err != nil {
		t.Fatal(err)
	}
	files["notices.yaml"].Data = []byte("notices: {NOT_NOW: {en: {message: Later.}}}\n")
	second, err := LoadFS(files)
	if err != nil || first.Hash() == second.Hash() {
		t.Errorf("%v, hash %s", err, second.Hash())
	}
}

// TestListNamesAreKeptFromPayers: a list is not read here, and its name counts.
func TestListNamesAreKeptFromPayers(t *testing.T) {
	r := &report{}
	content := []byte("list: known-mules\ntype: payee\n")
	n, ok := parseYAML(r, newSource("lists/mules.yaml", content), content)
	if !ok {
		t.Fatal(r.problems)
	}
	names := (&Ruleset{}).secretNames(map[string]node{"lists/mules.yaml": n})
	if names["known mules"] != "the list known-mules" || len(r.problems) > 0 {
		t.Errorf("%v %v", names, r.problems)
	}
}

// TestRandomRulesCannotLeak loads random rules whose texts for payers sometimes
// try to tell a name or a threshold. What loads tells payers only texts that
// stand in the ruleset, whatever the transaction is, and none of them leaks.
func TestRandomRulesCannotLeak(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	loaded, refused, told := 0, 0, 0
	for range 400 {
		var file strings.Builder
		type secret struct{ id, reason, threshold string }
		var secrets []secret
		file.WriteString("rules:\n")
		for i := range 1 + random.IntN(4) {
			s := secret{fmt.Sprintf("rule-%c%d", 'a'+rune(i), 10+random.IntN(80)), fmt.Sprintf("WHY_%c", 'A'+rune(i)), fmt.Sprint(100 + random.IntN(900))}
			secrets = append(secrets, s)
			leak := []string{s.id, strings.ToUpper(s.id), strings.ReplaceAll(s.id, "-", " "), s.reason, s.threshold, s.threshold + ".00", "payer.spent_1h"}[random.IntN(7)]
			text := []string{"Please wait.", "Call 95588 for help.", "银行卡暂时无法使用。", "Please try again later"}[random.IntN(4)]
			if random.IntN(8) == 0 {
				text = []string{leak + " " + text, text + " (" + leak + ")", "原因:" + leak + "。"}[random.IntN(3)]
			}
			fmt.Fprintf(&file, "  - id: %s\n    when: 'amount > CNY(%s) and payer.spent_1h > CNY(0)'\n    verdict: %s\n    reason: %s\n    points: %d\n"+
				"    detail: \"{amount} by {payer.account_id}, {payer.spent_1h}\"\n    payer_code: CODE_%d\n    payer_message: {%s: %q}\n",
				s.id, s.threshold, []string{"hold", "block"}[random.IntN(2)], s.reason, random.IntN(90), i, []string{"en", "zh-CN"}[random.IntN(2)], text)
		}
		set, err := LoadFS(fstest.MapFS{"rules/a.yaml": {Data: []byte(file.String())},
			"features/a.yaml": {Data: []byte("features:\n  - {entity: payer, name: spent, windows: [1h], value: sum}\n")}})
		if err != nil {
			var problems Problems
			if !errors.As(err, &problems) || slices.ContainsFunc(problems, func(p Problem) bool { return !strings.HasPrefix(p.Message, "payers would read ") }) {
				t.Fatalf("%v\n%s", err, file.String())
			}
			refused++
			continue
		}
		loaded++
		stands := map[string]bool{"": true}
		for _, text := range set.PayerTexts() {
			stands[text.Message] = true
			for _, s := range secrets {
				if reads(text.Message, s.id) || reads(text.Message, s.reason) {
					t.Fatalf("%+v leaks %+v", text, s)
				}
			}
		}
		for i, s := range secrets {
			for _, m := range set.rules[i].messages {
				if regexp.MustCompile(`(^|\D)` + s.threshold + `(\D|$)`).MatchString(m.text) {
					t.Fatalf("%q leaks %+v", m.text, s)
				}
			}
		}
		evaluator := set.NewEvaluator()
		for range 20 {
			tx := &payment.Transaction{ID: "t", Type: payment.TypePayment, EventTime: 1, Locale: []string{"en", "zh-CN", ""}[random.IntN(3)]}
			tx.Payer.AccountID = "u-secret"
			tx.Amount = payment.Money{Value: random.Int64N(200_000), Currency: mustCurrency("CNY")}
			d := payment.Decision{}
			d.Reset()
			evaluator.Decide(&Input{Tx: tx, Amount: tx.Amount.Value, HasAmount: true, Features: []payment.Value{payment.IntValue(1 + random.Int64N(100))}}, &d)
			if !stands[d.PayerMessage] {
				t.Fatalf("the payer is told %q, which stands nowhere", d.PayerMessage)
			}
			if d.PayerMessage != "" {
				told++
			}
		}
	}
	if loaded < 50 || refused < 50 || told < 200 {
		t.Errorf("%d loaded, %d refused, %d texts told", loaded, refused, told)
	}
}
