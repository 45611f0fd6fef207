package rules

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// noticesFile says in words what payers are told, by payer_code and language. It
// is optional; what it does not name is told in the words of noticedefaults.go:
//
//	language: en                       # of payers whose language is not known, or has no texts
//	notices:
//	  TRY_ANOTHER_WAY:
//	    en: {message: "This card cannot be used right now.", next: "Please try another way to pay."}
//	    zh-CN: {message: "此银行卡暂时无法使用。", next: "请更换其他支付方式。"}
const noticesFile = "notices.yaml"

// PayerText is what payers are told in one language: what happened, and what
// they can do.
type PayerText struct {
	Language string // BCP 47
	Message  string
	Next     string // "" when there is nothing to do
}

// payerTexts are the texts of a ruleset.
type payerTexts struct {
	language string                 // where the payer's is not known, or has no text
	byCode   map[string][]PayerText // in the order of the file
	own      map[string]bool        // the codes that the file names
	spoken   map[string]string      // from the message of a rule to its language
}

// maxPayerText is how many characters a text may have: more does not fit a phone.
const maxPayerText = 300

// newPayerTexts are the built-in texts.
func newPayerTexts() payerTexts {
	return payerTexts{language: "en", byCode: defaultPayerTexts(), own: map[string]bool{}, spoken: map[string]string{}}
}

// PayerCodes returns the codes that have texts, sorted.
func (s *Ruleset) PayerCodes() []string { return slices.Sorted(maps.Keys(s.texts.byCode)) }

// PayerText returns what a payer is told for a code, in the language that is
// nearest to the locale (BCP 47, "" when it is not known): the very one, its
// base language, another region of it, the default language, or the first there
// is. false when the code has no texts.
func (s *Ruleset) PayerText(code, locale string) (PayerText, bool) {
	texts := s.texts.byCode[code]
	if len(texts) == 0 {
		return PayerText{}, false
	}
	for _, near := range []func(language string) bool{
		func(l string) bool { return strings.EqualFold(l, locale) },
		func(l string) bool { return strings.EqualFold(l, baseLanguage(locale)) },
		func(l string) bool { return strings.EqualFold(baseLanguage(l), baseLanguage(locale)) },
		func(l string) bool { return strings.EqualFold(l, s.texts.language) },
		func(l string) bool { return strings.EqualFold(l, "en") },
	} {
		for _, t := range texts {
			if near(t.Language) {
				return t, true
			}
		}
	}
	return texts[0], true
}

// PayerTextWith returns what a payer is told for a decision with a code and a
// message of its own, which may be "": the words of notices.yaml where it names
// the code, else the message, with what to do next in its language. Language is
// "" when no rule has the message. false when there is neither text nor message.
func (s *Ruleset) PayerTextWith(code, message, locale string) (PayerText, bool) {
	if message == "" || s.texts.own[code] {
		return s.PayerText(code, locale)
	}
	language := s.texts.spoken[message]
	told := PayerText{Language: language, Message: message}
	next, _ := s.PayerText(code, language)
	if strings.EqualFold(baseLanguage(next.Language), baseLanguage(language)) && !strings.Contains(message, next.Next) {
		told.Next = next.Next
	}
	return told, true
}

// baseLanguage is zh of zh-CN.
func baseLanguage(locale string) string {
	base, _, _ := strings.Cut(locale, "-")
	return base
}

// learn notes in which languages rules speak.
func (t *payerTexts) learn(rules []rule) {
	for i := range rules {
		for _, m := range rules[i].messages {
			if _, known := t.spoken[m.text]; !known {
				t.spoken[m.text] = m.language
			}
		}
	}
}

// readNotices reads notices.yaml over the built-in texts. A code that the file
// names has the languages of the file only.
func (t *payerTexts) readNotices(n node) {
	found := n.object(noticesFile,
		field{"language", func(v node) { set(&t.language)(v.name("language", languagePattern, "a language such as en or zh-CN")) }},
		field{"notices", func(v node) {
			for _, e := range v.entries("notices") {
				if !codePattern.MatchString(e.key) {
					v.at(e.at, "a key in notices must be %s", codeHint)
					continue
				}
				if texts := readPayerTexts(e.value, e.key); len(texts) > 0 {
					t.byCode[e.key], t.own[e.key] = texts, true
				}
			}
		}})
	n.needs(noticesFile, found, "notices")
}

// readPayerTexts reads the texts of one code, by language.
func readPayerTexts(n node, code string) (texts []PayerText) {
	for _, e := range n.entries(code) {
		if !languagePattern.MatchString(e.key) {
			n.at(e.at, "a key here is a language such as en or zh-CN")
			continue
		}
		text := PayerText{Language: e.key}
		found := e.value.object("a notice",
			field{"message", func(v node) { text.Message = v.payerText("message") }},
			field{"next", func(v node) { text.Next = v.payerText("next") }})
		e.value.needs("a notice", found, "message")
		texts = append(texts, text)
	}
	return texts
}

// payerText reads what a payer is shown.
func (n node) payerText(what string) string {
	s, ok := n.text(what)
	if !ok {
		return ""
	}
	s = strings.TrimSpace(s)
	switch {
	case s == "":
		n.at(n.place(), "%s is empty", what)
	case utf8.RuneCountInString(s) > maxPayerText:
		n.at(n.place(), "%s has %d characters, and at most %d fit", what, utf8.RuneCountInString(s), maxPayerText)
	case strings.ContainsAny(s, "{}"):
		n.suggest(n.place(), "put the values into the detail of a rule, which only people at work see", "what payers are told has no values in braces: it must not tell thresholds")
	}
	return s
}

// PayerTexts returns everything that payers can be told under this ruleset, the
// messages of its rules included, sorted by language and text.
func (s *Ruleset) PayerTexts() []PayerText {
	var all []PayerText
	for _, texts := range s.texts.byCode {
		all = append(all, texts...)
	}
	for message, language := range s.texts.spoken {
		all = append(all, PayerText{Language: language, Message: message})
	}
	slices.SortFunc(all, func(a, b PayerText) int {
		return cmp.Or(cmp.Compare(a.Language, b.Language), cmp.Compare(a.Message, b.Message), cmp.Compare(a.Next, b.Next))
	})
	return all
}
