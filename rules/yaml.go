package rules

import (
	"errors"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// node is one value of a YAML file together with where it stands. Its methods
// read it as something; where it is something else they report a problem and
// return false.
type node struct {
	*report
	src *source
	ast ast.Node
}

// field is one key that an object may have, and what reads its value.
type field struct {
	key  string
	read func(node)
}

// parseYAML returns the one document of a file; false when there is none.
func parseYAML(r *report, src *source, content []byte) (node, bool) {
	if !utf8.Valid(content) {
		r.file(src.name, "save the file as UTF-8", "the file is not valid UTF-8")
		return node{}, false
	}
	file, err := parser.ParseBytes(content, 0, parser.AllowDuplicateMapKey()) // object reports duplicates, each with its place
	if err != nil {
		var syntax yaml.Error
		if !errors.As(err, &syntax) || syntax.GetToken() == nil {
			r.file(src.name, "", "%v", err)
			return node{}, false
		}
		at := syntax.GetToken()
		p := place{src, at.Position.Line, at.Position.Column, 1}
		if strings.Contains(src.line(p.line), "\t") && strings.Contains(syntax.GetMessage(), "tab") || strings.Contains(syntax.GetMessage(), "'\t'") {
			r.suggest(p, "indent with spaces", "YAML does not allow a tab here")
			return node{}, false
		}
		r.at(p, "not valid YAML: %s", syntax.GetMessage())
		return node{}, false
	}
	var found []node
	for _, d := range file.Docs {
		if d.Body != nil {
			found = append(found, node{r, src, d.Body})
		}
	}
	switch len(found) {
	case 0:
		r.file(src.name, "delete it, or write what belongs there", "the file is empty")
		return node{}, false
	case 1:
		return found[0], true
	}
	r.at(found[1].place(), "a second YAML document: one file holds one document")
	return node{}, false
}

// place is where the value begins, with the width of what stands on its line.
func (n node) place() place {
	switch v := n.ast.(type) {
	case *ast.MappingNode:
		if len(v.Values) > 0 && v.Start.Type != token.MappingStartType {
			return node{n.report, n.src, v.Values[0].Key}.place()
		}
	case *ast.MappingValueNode:
		return node{n.report, n.src, v.Key}.place()
	}
	t := n.ast.GetToken()
	width := utf8.RuneCountInString(t.Value)
	switch t.Type {
	case token.DoubleQuoteType, token.SingleQuoteType:
		width = utf8.RuneCountInString(strings.TrimSpace(t.Origin))
	case token.ImplicitNullType:
		width = 1
	}
	return place{n.src, t.Position.Line, t.Position.Column, width}
}

// what names the kind of the value for people.
func (n node) what() string {
	switch v := n.ast.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode, *ast.LiteralNode:
		return "text"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "the number " + v.GetToken().Value
	case *ast.BoolNode:
		return "the truth value " + v.GetToken().Value
	case *ast.NullNode:
		return "nothing"
	case *ast.TagNode:
		return "a YAML tag"
	case *ast.AnchorNode:
		return "a YAML anchor"
	case *ast.AliasNode:
		return "a YAML alias"
	case *ast.MergeKeyNode:
		return "a YAML merge key"
	}
	return "something else"
}

// object reads a mapping: unknown and repeated keys are problems. It returns
// the values by key, nil when the value is no mapping.
func (n node) object(what string, fields ...field) map[string]node {
	entries := n.entries(what)
	if entries == nil {
		return nil
	}
	known := make([]string, len(fields))
	for i, f := range fields {
		known[i] = f.key
	}
	if n.heard != nil {
		n.heard(what, known)
	}
	found := map[string]node{}
	for _, e := range entries {
		i := 0
		for i < len(fields) && fields[i].key != e.key {
			i++
		}
		if i == len(fields) {
			n.suggest(e.at, didYouMean(e.key, known), "unknown key %s in %s", e.key, what)
			continue
		}
		found[e.key] = e.value
		if fields[i].read != nil {
			fields[i].read(e.value)
		}
	}
	return found
}

// needs reports the keys that an object lacks; found is what object returned.
func (n node) needs(what string, found map[string]node, keys ...string) {
	if found == nil {
		return
	}
	var missing []string
	for _, key := range keys {
		if _, ok := found[key]; !ok {
			missing = append(missing, key)
		}
	}
	switch len(missing) {
	case 0:
	case 1:
		n.at(n.place(), "%s needs the key %s", what, missing[0])
	default:
		n.at(n.place(), "%s needs the keys %s", what, join(missing))
	}
}

// entry is one key of a mapping with its value.
type entry struct {
	key   string
	at    place // of the key
	value node
}

// entries returns the keys of a mapping in their order; repeated ones and keys
// that are not text are problems. Nil when the value is no mapping.
func (n node) entries(what string) []entry {
	var values []*ast.MappingValueNode
	switch v := n.ast.(type) {
	case *ast.MappingNode:
		values = v.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{v}
	default:
		n.at(n.place(), "%s must be a mapping (key: value), not %s", what, n.what())
		return nil
	}
	out := []entry{}
	seen := map[string]bool{}
	for _, v := range values {
		key := node{n.report, n.src, v.Key}
		name, ok := v.Key.(*ast.StringNode)
		if !ok {
			n.at(key.place(), "a key in %s must be text, not %s", what, key.what())
			continue
		}
		if seen[name.Value] {
			n.at(key.place(), "the key %s is there twice", name.Value)
			continue
		}
		seen[name.Value] = true
		out = append(out, entry{name.Value, key.place(), node{n.report, n.src, v.Value}})
	}
	return out
}

// list reads a sequence.
func (n node) list(what string) ([]node, bool) {
	v, ok := n.ast.(*ast.SequenceNode)
	if !ok {
		n.at(n.place(), "%s must be a list, not %s", what, n.what())
		return nil, false
	}
	out := make([]node, len(v.Values))
	for i, e := range v.Values {
		out[i] = node{n.report, n.src, e}
	}
	return out, true
}

// oneOrMore reads a list, or one value as a list of one.
func (n node) oneOrMore() []node {
	if _, ok := n.ast.(*ast.SequenceNode); ok {
		out, _ := n.list("")
		return out
	}
	return []node{n}
}

// text reads a string. Whatever YAML makes a number, a truth value or nothing
// of is refused: 0742 without quotes is 482.
func (n node) text(what string) (string, bool) {
	switch v := n.ast.(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.LiteralNode:
		return v.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		n.suggest(n.place(), `write "`+v.GetToken().Value+`"`, "%s must be text, and without quotes YAML reads %s", what, n.what())
		return "", false
	}
	n.at(n.place(), "%s must be text, not %s", what, n.what())
	return "", false
}

// name reads a string that matches a pattern; what it looks like is told by hint.
func (n node) name(what string, pattern *regexp.Regexp, hint string) (string, bool) {
	s, ok := n.text(what)
	if ok && !pattern.MatchString(s) {
		n.at(n.place(), "%s must be %s", what, hint)
		return "", false
	}
	return s, ok
}

// choice reads one of a closed set of words.
func (n node) choice(what string, words ...string) (string, bool) {
	s, ok := n.text(what)
	if !ok {
		return "", false
	}
	for _, w := range words {
		if s == w {
			return s, true
		}
	}
	n.suggest(n.place(), didYouMean(s, words), "%s must be one of %s", what, strings.Join(words, ", "))
	return "", false
}

// truth reads true or false.
func (n node) truth(what string) (bool, bool) {
	if v, ok := n.ast.(*ast.BoolNode); ok {
		return v.Value, true
	}
	n.at(n.place(), "%s must be true or false, not %s", what, n.what())
	return false, false
}

// verdict reads one of some verdicts.
func (n node) verdict(what string, allowed ...payment.Verdict) (payment.Verdict, bool) {
	words := make([]string, len(allowed))
	for i, v := range allowed {
		words[i] = v.String()
	}
	s, _ := n.choice(what, words...)
	return payment.ParseVerdict(s)
}

// whole reads an integer within bounds.
func (n node) whole(what string, lo, hi int) (int, bool) {
	if v, ok := n.ast.(*ast.IntegerNode); ok {
		if i, err := strconv.Atoi(v.GetToken().Value); err == nil && i >= lo && i <= hi && strconv.Itoa(i) == v.GetToken().Value {
			return i, true
		}
	}
	n.at(n.place(), "%s must be a whole number from %d to %d", what, lo, hi)
	return 0, false
}

// decimal reads a number exactly as it is written.
func (n node) decimal(what string) (*big.Rat, bool) {
	switch v := n.ast.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		if text := v.GetToken().Value; plainDecimal.MatchString(text) {
			return new(big.Rat).SetString(text)
		}
	}
	n.at(n.place(), "%s must be a decimal number such as 7.10, not %s", what, n.what())
	return nil, false
}

var plainDecimal = regexp.MustCompile(`^(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?$`)

// duration reads a length of time within bounds: 300ms, 10s, 5m, 1h, 30d, 2w.
func (n node) duration(what string, lo, hi time.Duration) (time.Duration, bool) {
	s := ""
	if v, ok := n.ast.(*ast.StringNode); ok {
		s = v.Value
	}
	d, ok := parseDuration(s)
	if !ok || d < lo || d > hi {
		n.at(n.place(), "%s must be a length of time from %s to %s, such as 10s, 5m, 1h, 30d or 2w", what, formatDuration(lo), formatDuration(hi))
		return 0, false
	}
	return d, true
}

var durationUnits = []struct {
	suffix string
	length time.Duration
}{
	{"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond},
}

// parseDuration reads a whole number with one unit.
func parseDuration(s string) (time.Duration, bool) {
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyz")
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || digits != strconv.FormatInt(n, 10) {
		return 0, false
	}
	for _, u := range durationUnits {
		if s[len(digits):] == u.suffix {
			return time.Duration(n) * u.length, int64(n) <= int64(maxDuration/u.length)
		}
	}
	return 0, false
}

const maxDuration = 1<<63 - 1

// formatDuration writes d in the largest unit that divides it.
func formatDuration(d time.Duration) string {
	for _, u := range durationUnits[1:] { // 7d reads better than 1w
		if d >= u.length && d%u.length == 0 {
			return strconv.FormatInt(int64(d/u.length), 10) + u.suffix
		}
	}
	return d.String()
}
