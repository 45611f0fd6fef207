package rules

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// What payers are told must not help anybody around a rule. A text may not hold
// the name of a rule, list or feature, nor a reason, however its words are
// joined; and the message of a rule may not hold a number that the rule compares
// with. Names of one word are left alone: they are words like any other.
//
// The files themselves are looked at, so that a problem stands at its text.
func checkPayerTexts(parsed map[string]node, set *Ruleset) {
	names := set.secretNames(parsed)
	for _, file := range slices.Sorted(maps.Keys(parsed)) {
		switch n := parsed[file].quiet(); {
		case strings.HasPrefix(file, "rules/"):
			for _, rule := range n.items("rules") {
				told := numbersIn(rule.value("when").written())
				for _, message := range rule.values("payer_message") {
					parsed[file].checkPayerText(message, names, told)
				}
			}
		case file == noticesFile:
			for _, code := range n.values("notices") {
				for _, language := range code.all() {
					for _, text := range language.all() {
						parsed[file].checkPayerText(text, names, nil)
					}
				}
			}
		}
	}
}

// secretNames are the names that payers must not read, by their words.
func (s *Ruleset) secretNames(parsed map[string]node) map[string]string {
	names := map[string]string{}
	add := func(what, name string) {
		if words := wordsOf(name); strings.Contains(words, " ") {
			names[words] = what + " " + name
		}
	}
	for i := range s.rules {
		add("the rule", s.rules[i].id)
		add("the reason", s.rules[i].reason)
	}
	for i := range s.features {
		add("the feature", s.features[i].FullName())
	}
	for file, n := range parsed {
		if strings.HasPrefix(file, "lists/") {
			add("the list", n.quiet().value("list").written())
		}
	}
	return names
}

// checkPayerText reports what a text gives away.
func (n node) checkPayerText(text node, names map[string]string, told []string) {
	s := text.written()
	words := " " + wordsOf(s) + " "
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if strings.Contains(words, " "+name+" ") {
			n.suggest(text.place(), "say it in other words", "payers would read the name of %s", names[name])
		}
	}
	for _, number := range numbersIn(s) {
		if slices.Contains(told, number) {
			n.suggest(text.place(), "put it into detail, which only people at work see", "payers would read %s, which the rule compares with", number)
		}
	}
}

var (
	numberPattern = regexp.MustCompile(`[0-9]+(?:[._,]?[0-9]+)*`)
	notAWord      = regexp.MustCompile(`[^a-z0-9]+`)
)

// wordsOf is a text in small letters, with one space between its words. Those of
// names are Latin: other writing only stands between them.
func wordsOf(s string) string {
	return strings.Trim(notAWord.ReplaceAllString(strings.ToLower(s), " "), " ")
}

// numbersIn are the numbers of a text, 1_000 and 1,000.00 as 1000. Of a condition
// they are also those within names of features: a window is a threshold as well.
func numbersIn(s string) []string {
	found := numberPattern.FindAllString(s, -1)
	for i, number := range found {
		number = strings.NewReplacer("_", "", ",", "").Replace(number)
		if strings.Contains(number, ".") {
			number = strings.TrimRight(strings.TrimRight(number, "0"), ".")
		}
		found[i] = number
	}
	return found
}

// quiet is n without anybody who hears of problems.
func (n node) quiet() node { return node{&report{}, n.src, n.ast} }

// written is the text of a value, "" where there is none.
func (n node) written() string {
	if n.ast == nil {
		return ""
	}
	s, _ := n.quiet().text("")
	return s
}

// value is what stands at a key of a mapping; an empty node when nothing does.
func (n node) value(key string) node {
	if n.ast != nil && n.what() == "a mapping" {
		for _, e := range n.entries("") {
			if e.key == key {
				return e.value
			}
		}
	}
	return node{n.report, n.src, nil}
}

// all are the values of a mapping.
func (n node) all() (values []node) {
	if n.ast != nil && n.what() == "a mapping" {
		for _, e := range n.entries("") {
			values = append(values, e.value)
		}
	}
	return values
}

// values are the values of a mapping at a key.
func (n node) values(key string) []node { return n.value(key).all() }

// items are those of a list at a key.
func (n node) items(key string) []node {
	v := n.value(key)
	if v.ast == nil || v.what() != "a list" {
		return nil
	}
	items, _ := v.list("")
	return items
}
