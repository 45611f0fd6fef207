package rules

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// operands gives what a leaf looks at to add: the sides of a comparison as they
// are written, then the names in them. whole tells that n is the leaf itself, or
// a side of it.
func (t *tracing) operands(n ast.Node, whole bool, add func(text string, read func(*facts) Operand)) {
	if name, ok := dotted(n); ok {
		add(name, t.nameOperand(name, t.named(n)))
		return
	}
	switch n := n.(type) {
	case *ast.BinaryNode:
		if whole && n.Operator != "??" && t.term(n).kind == truth {
			t.operands(n.Left, true, add)
			if _, list := n.Right.(*ast.ArrayNode); !list {
				t.operands(n.Right, true, add)
			}
			return
		}
		t.expression(n, whole || n.Operator == "/" || n.Operator == "%", add) // a division may be absent by itself
		t.operands(n.Left, false, add)
		t.operands(n.Right, false, add)
	case *ast.UnaryNode:
		t.expression(n, whole, add)
		t.operands(n.Node, false, add)
	case *ast.ConditionalNode:
		t.expression(n, whole, add)
		for _, part := range []ast.Node{n.Cond, n.Exp1, n.Exp2} {
			t.operands(part, false, add)
		}
	case *ast.CallNode, *ast.BuiltinNode:
		t.callOperands(n, whole, add)
	}
}

// expression adds what is computed, by its text.
func (t *tracing) expression(n ast.Node, whole bool, add func(string, func(*facts) Operand)) {
	v := t.term(n)
	if !whole || v.constant || v.kind == truth || v.kind == invalid {
		return
	}
	text := t.written(t.balanced(t.span(n)))
	name, _, _ := called(n)
	read := t.reader(v, name == "reach")
	add(text, func(f *facts) Operand {
		o := Operand{Text: text, Computed: true}
		o.Value, o.Shown, o.Absent = safely(read, f)
		switch {
		case o.Absent != "" || o.Value.Kind() != payment.Absent:
		case name == "country_of":
			o.Absent = "no file of data/ has it"
		default:
			o.Absent = "it divides by zero"
		}
		return o
	})
}

// callOperands adds what a function looks at.
func (t *tracing) callOperands(n ast.Node, whole bool, add func(string, func(*facts) Operand)) {
	name, arguments, _ := called(n)
	switch name {
	case "in_list", "country_of":
		if name == "country_of" {
			t.expression(n, true, add)
		}
		field := t.listField(arguments[0])
		add(field.name, t.nameOperand(field.name, field))
	case "time_between":
		read := t.localTime(arguments)
		add("local time", func(f *facts) Operand {
			now := read(f)
			return Operand{Text: "local time", Value: payment.StringValue(now), Shown: now}
		})
	case "hour", "weekday", "reach":
		t.expression(n, true, add)
	case "ratio", "z_score":
		t.expression(n, true, add)
		for _, a := range arguments {
			t.operands(a, false, add)
		}
	default:
		if _, money := payment.ParseCurrency(name); money {
			return
		}
		t.expression(n, whole, add)
		for _, a := range arguments {
			t.operands(a, false, add)
		}
	}
}

// localTime reads the clock that time_between looks at.
func (t *tracing) localTime(arguments []ast.Node) func(*facts) string {
	zone := t.lang.zone
	if len(arguments) == 3 {
		zone, _ = zoneNamed(arguments[2].(*ast.StringNode).Value)
	}
	return func(f *facts) string { return f.Tx.EventTime.Std().In(zone).Format("15:04 ") + zone.String() }
}

// nameOperand reads a name, and says why it is absent as far as the transaction
// tells that; of a feature, its window tells the rest.
func (t *tracing) nameOperand(name string, v term[facts]) func(*facts) Operand {
	var feature *window.Feature
	for i := range t.set.features {
		if t.set.features[i].FullName() == name {
			feature = &t.set.features[i]
		}
	}
	read := t.reader(v, feature != nil && inSeconds(feature))
	return func(f *facts) Operand {
		o := Operand{Text: name, Feature: feature != nil, Kind: v.entity}
		o.Value, o.Shown, o.Absent = safely(read, f)
		if o.Value.Kind() != payment.Absent || o.Absent != "" {
			return o
		}
		switch {
		case feature != nil && !named(feature.Entity, f.Tx):
			o.Absent = "the payment names no " + feature.Entity.Unnamed(f.Tx).String()
		case feature != nil && f.Late:
			o.Absent = "the payment came too late for windows"
		case feature != nil:
			o.Absent = "nothing in its window has a value"
		case name == "amount":
			o.Absent = "there is no rate from " + f.Tx.Amount.Currency.String() + " into " + t.set.policy.BaseCurrency.String()
		default:
			o.Absent = "the payment does not say it"
		}
		return o
	}
}

// safely reads a value that may fail.
func safely(read func(*facts) (payment.Value, string), f *facts) (v payment.Value, shown, failed string) {
	defer func() {
		if r := recover(); r != nil {
			failed = fmt.Sprint(r)
		}
	}()
	v, shown = read(f)
	return v, shown, ""
}

// reader reads a term as a value and for people: money in its currency, lengths
// of time also in words, what is absent as "".
func (t *tracing) reader(v term[facts], seconds bool) func(*facts) (payment.Value, string) {
	base := t.set.policy.BaseCurrency
	switch v.kind {
	case truth:
		return func(f *facts) (payment.Value, string) {
			is := v.truth(f)
			if is == window.Unknown {
				return payment.Value{}, ""
			}
			return payment.BoolValue(is == window.True), truthWord(is)
		}
	case integer, original:
		return func(f *facts) (payment.Value, string) {
			n, ok := v.integer(f)
			switch {
			case !ok:
				return payment.Value{}, ""
			case v.kind == original:
				return payment.IntValue(n), string(appendMoney(nil, v.currency(f), n))
			case v.money:
				return payment.IntValue(n), string(appendMoney(nil, base, n))
			}
			return payment.IntValue(n), strconv.FormatInt(n, 10)
		}
	case float:
		return func(f *facts) (payment.Value, string) {
			x, ok := v.float(f)
			switch {
			case !ok:
				return payment.Value{}, ""
			case v.money:
				return payment.FloatValue(x), fineMoney(base, x)
			case seconds:
				return payment.FloatValue(x), lasting(x)
			}
			return payment.FloatValue(x), fineDecimal(x)
		}
	case list:
		return func(f *facts) (payment.Value, string) {
			all, ok := v.list(f)
			if !ok {
				return payment.Value{}, ""
			}
			return payment.StringValue(join(all)), join(all)
		}
	case identifier:
		return func(f *facts) (payment.Value, string) {
			h, ok := v.hash(f)
			if !ok {
				return payment.Value{}, ""
			}
			return payment.RefValue(h), fmt.Sprintf("#%016x", h)
		}
	}
	return func(f *facts) (payment.Value, string) {
		s, ok := v.text(f)
		if !ok {
			return payment.Value{}, ""
		}
		return payment.StringValue(s), s
	}
}

// fineDecimal writes a fraction so finely that it can be compared with a
// threshold: four decimals, or three digits where these say nothing.
func fineDecimal(x float64) string {
	if a := math.Abs(x); a != 0 && a < 0.001 || a >= 1e15 {
		return strconv.FormatFloat(x, 'g', 3, 64)
	}
	return trimmed(strconv.FormatFloat(x, 'f', 4, 64), 0)
}

// fineMoney writes fractions of minor units with two digits more than the currency has.
func fineMoney(c payment.Currency, minor float64) string {
	digits := c.Digits()
	return c.String() + " " + trimmed(strconv.FormatFloat(minor/math.Pow10(digits), 'f', digits+2, 64), digits)
}

// trimmed leaves out zeros at the end of a decimal beyond some digits.
func trimmed(s string, digits int) string {
	point := strings.IndexByte(s, '.')
	if point < 0 {
		return s
	}
	for s[len(s)-1] == '0' && len(s)-1-point > digits {
		s = s[:len(s)-1]
	}
	return strings.TrimSuffix(s, ".")
}

// lasting writes a number of seconds.
func lasting(x float64) string { return fineDecimal(x) + " s" + inWords(x) }

// inWords says a number of seconds in larger units, "" where there are none.
func inWords(x float64) string {
	if x < 60 || x > math.MaxInt64/1e9 {
		return ""
	}
	d := time.Duration(x * 1e9).Round(time.Second)
	const day = 24 * time.Hour
	if days := d / day; days > 0 {
		if hours := (d % day).Round(time.Hour) / time.Hour; hours > 0 {
			return fmt.Sprintf(" (%dd %dh)", days, hours)
		}
		return fmt.Sprintf(" (%dd)", days)
	}
	words := d.String()
	if strings.HasSuffix(words, "m0s") {
		words = strings.TrimSuffix(words, "0s")
	}
	if strings.HasSuffix(words, "h0m") {
		words = strings.TrimSuffix(words, "0m")
	}
	return " (" + words + ")"
}
