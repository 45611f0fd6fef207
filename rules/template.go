package rules

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// template is the detail of a reason: texts with names in braces between them.
type template []templatePart

// templatePart is a text, or shows the value of a name.
type templatePart struct {
	text string
	show func(*facts, []byte) []byte
}

// append writes the template with the values of one transaction.
func (t template) append(f *facts, b []byte) []byte {
	for i := range t {
		if t[i].show == nil {
			b = append(b, t[i].text...)
		} else {
			b = t[i].show(f, b)
		}
	}
	return b
}

// compileTemplate reads "{card.attempts_10m} attempts in 10 minutes".
func compileTemplate(lang *language[facts], src scalar) template {
	var out template
	rest := 0
	for rest < len(src.text) {
		i := strings.IndexAny(src.text[rest:], "{}")
		if i < 0 {
			break
		}
		open := rest + i
		end := strings.IndexAny(src.text[open+1:], "{}")
		if src.text[open] == '}' || end < 0 || src.text[open+1+end] == '{' {
			src.part(open, open+1).problem("", "a name stands between { and }")
			return nil
		}
		end += open + 1
		inside := src.part(open+1, end)
		t, why := lang.lookup(inside.text)
		message, suggestion, _ := strings.Cut(why, "\n")
		switch {
		case why != "":
			inside.problem(suggestion, "%s", message)
			return nil
		case t.kind == identifier:
			inside.problem("", "%s is the hash of an identifier and cannot be shown", inside.text)
			return nil
		case t.kind == invalid: // a feature whose own problem has been reported
			return nil
		}
		if open > rest {
			out = append(out, templatePart{text: src.text[rest:open]})
		}
		out = append(out, templatePart{show: shown(t, lang.rates.base)})
		rest = end + 1
	}
	if rest < len(src.text) {
		out = append(out, templatePart{text: src.text[rest:]})
	}
	return out
}

// problem reports a mistake in the whole of the text.
func (s scalar) problem(suggestion, format string, args ...any) {
	s.suggest(s.at(span{0, utf8.RuneCountInString(s.text)}), suggestion, format, args...)
}

const unknownText = "unknown"

// shown returns what writes a term's value for people: money as CNY 12.50, other
// numbers with at most two decimals, what is absent as unknown.
func shown(t term[facts], base payment.Currency) func(*facts, []byte) []byte {
	switch {
	case t.kind == truth:
		return func(f *facts, b []byte) []byte { return append(b, truthWord(t.truth(f))...) }
	case t.kind == original:
		return func(f *facts, b []byte) []byte {
			v, _ := t.integer(f)
			return appendMoney(b, t.currency(f), v)
		}
	case t.money:
		if t.kind == integer {
			return func(f *facts, b []byte) []byte {
				if v, ok := t.integer(f); ok {
					return appendMoney(b, base, v)
				}
				return append(b, unknownText...)
			}
		}
		return func(f *facts, b []byte) []byte {
			if v, ok := t.float(f); ok && math.Abs(v) < 1<<62 {
				return appendMoney(b, base, int64(math.RoundToEven(v)))
			}
			return append(b, unknownText...)
		}
	case t.kind == integer:
		return func(f *facts, b []byte) []byte {
			if v, ok := t.integer(f); ok {
				return strconv.AppendInt(b, v, 10)
			}
			return append(b, unknownText...)
		}
	case t.kind == float:
		return func(f *facts, b []byte) []byte {
			if v, ok := t.float(f); ok {
				return appendDecimal(b, v)
			}
			return append(b, unknownText...)
		}
	case t.kind == list:
		return func(f *facts, b []byte) []byte {
			all, ok := t.list(f)
			if !ok {
				return append(b, unknownText...)
			}
			for i, s := range all {
				if i > 0 {
					b = append(b, ", "...)
				}
				b = append(b, s...)
			}
			return b
		}
	}
	return func(f *facts, b []byte) []byte {
		if v, ok := t.text(f); ok {
			return append(b, v...)
		}
		return append(b, unknownText...)
	}
}

func appendMoney(b []byte, c payment.Currency, minor int64) []byte {
	return c.AppendMajor(append(append(b, c.String()...), ' '), minor)
}

// appendDecimal writes at most two decimals, and none that are zero.
func appendDecimal(b []byte, v float64) []byte {
	from := len(b)
	b = strconv.AppendFloat(b, v, 'f', 2, 64)
	end := len(b)
	for b[end-1] == '0' {
		end--
	}
	if b[end-1] == '.' {
		end--
	}
	b = b[:end]
	if string(b[from:]) == "-0" {
		b = append(b[:from], '0')
	}
	return b
}
