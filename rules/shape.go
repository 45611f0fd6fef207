package rules

import (
	"bytes"
	"encoding/json"
	"regexp"
	"time"
)

// shape describes what may stand at one place of a file that analysts write, as
// far as can be said without the rest of the ruleset. Editors complete and check
// by it: see Schema. The readers of the files say more, and a test holds the keys
// of both against each other.
type shape struct {
	about    string // for people, in an editor
	what     string // of a mapping: what its reader calls it
	keys     []shapeKey
	others   *shape         // of a mapping: the values of all keys that match
	matching string         // this pattern
	pairs    schemaObject   // what else JSON Schema says of it: type, enum, pattern, …
	fallback any            // what counts where nothing is written; nil: nothing, or it is told in about
	like     []any          // examples
	parts    func() []shape // shapes within pairs, for those who look for mappings
	closed   bool           // of a mapping: no other keys than keys and others
}

// shapeKey is one key of a mapping.
type shapeKey struct {
	key    string
	shape  shape
	needed bool
}

// needs and can make the keys of a mapping.
func needs(key string, s shape) shapeKey { return shapeKey{key, s, true} }
func can(key string, s shape) shapeKey   { return shapeKey{key, s, false} }

// or says what counts where the key is not written.
func (s shape) or(fallback any) shape {
	s.fallback = fallback
	return s
}

// such gives examples.
func (s shape) such(as ...any) shape {
	s.like = as
	return s
}

// saying replaces the description.
func (s shape) saying(about string) shape {
	s.about = about
	return s
}

// with adds what JSON Schema says besides.
func (s shape) with(name string, value any) shape {
	s.pairs = append(append(schemaObject{}, s.pairs...), schemaMember{name, value})
	return s
}

func shapeOf(about string, pairs ...schemaMember) shape { return shape{about: about, pairs: pairs} }

// textShape is any text that is not empty.
func textShape(about string) shape {
	return shapeOf(about, schemaMember{"type", "string"}, schemaMember{"minLength", 1})
}

// patternShape is a text that matches a pattern.
func patternShape(about string, pattern *regexp.Regexp) shape {
	return shapeOf(about, schemaMember{"type", "string"}, schemaMember{"pattern", pattern.String()})
}

// wordShape is one of a closed set of words.
func wordShape(about string, words ...string) shape {
	return shapeOf(about, schemaMember{"enum", words})
}

// wholeShape is a whole number within bounds.
func wholeShape(about string, low, high int) shape {
	return shapeOf(about, schemaMember{"type", "integer"}, schemaMember{"minimum", low}, schemaMember{"maximum", high})
}

func truthShape(about string) shape { return shapeOf(about, schemaMember{"type", "boolean"}) }

// expressionShape is a condition. Whether it must be quoted, YAML knows and a
// schema does not.
func expressionShape(about string) shape {
	return textShape(about + " In quotes, or as a block with |. The language is in rules/doc.go.")
}

var (
	durationPattern = regexp.MustCompile(`^(0|[1-9][0-9]*)(ms|s|m|h|d|w)$`)
	offsetPattern   = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(ms|s|m|h|d|w)$`)
	moneyPattern    = regexp.MustCompile(`^[A-Z]{3}\((0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?\)$`)
	dayPattern      = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`)
	untilPattern    = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt].+)?$`)
	momentPattern   = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9]{2}:[0-9]{2})$`)
	sharePattern    = regexp.MustCompile(`^(0|[1-9][0-9]*)(\.[0-9]+)?%$`)
)

// durationShape is a length of time. Its bounds are told, and not checked.
func durationShape(about string, low, high time.Duration) shape {
	return patternShape(about+" From "+formatDuration(low)+" to "+formatDuration(high)+".", durationPattern).such("10s", "5m", "30d")
}

func moneyShape(about string) shape {
	return patternShape(about, moneyPattern).such("CNY(500)", "USD(1.50)")
}

func untilShape(about string) shape {
	return patternShape(about+" A day means its end, in the policy's time zone.", untilPattern).such("2027-03-31", "2027-03-31T18:00:00+08:00")
}

// listShape is a list of things of one shape.
func listShape(about string, of shape, least int) shape {
	s := shapeOf(about, schemaMember{"type", "array"}, schemaMember{"items", of})
	if least > 0 {
		s = s.with("minItems", least)
	}
	s.parts = func() []shape { return []shape{of} }
	return s
}

// setShape is a list in which nothing is twice.
func setShape(about string, of shape, least int) shape {
	return listShape(about, of, least).with("uniqueItems", true)
}

// oneOrMoreShape is one thing, or a list of several.
func oneOrMoreShape(about string, of shape, least int) shape {
	return anyShape(about, of.saying(""), setShape("", of.saying(""), least))
}

// anyShape is one of several shapes.
func anyShape(about string, of ...shape) shape {
	s := shapeOf(about, schemaMember{"anyOf", of})
	s.parts = func() []shape { return of }
	return s
}

// mappingShape is a mapping of these keys alone. What is its name in problems.
func mappingShape(what, about string, keys ...shapeKey) shape {
	return shape{what: what, about: about, keys: keys, closed: true}
}

// mapShape is a mapping of keys that match a pattern, besides those that are named.
func mapShape(about, matching string, others shape, keys ...shapeKey) shape {
	return shape{about: about, matching: matching, others: &others, keys: keys, closed: true}
}

// schemaMember is one member of a JSON object whose order is kept.
type schemaMember struct {
	name  string
	value any
}

// schemaObject is a JSON object whose order is kept.
type schemaObject []schemaMember

// MarshalJSON writes the members in their order, with < > and & as they are.
func (o schemaObject) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := enc.Encode(m.name); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		if err := enc.Encode(m.value); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// MarshalJSON writes the shape as JSON Schema.
func (s shape) MarshalJSON() ([]byte, error) { return s.schema().MarshalJSON() }

// schema is the shape as JSON Schema.
func (s shape) schema() schemaObject {
	var o schemaObject
	if s.about != "" {
		o = append(o, schemaMember{"description", s.about})
	}
	if s.closed {
		o = append(o, schemaMember{"type", "object"})
		var required []string
		var properties schemaObject
		for _, k := range s.keys {
			if k.needed {
				required = append(required, k.key)
			}
			properties = append(properties, schemaMember{k.key, k.shape})
		}
		if len(required) > 0 {
			o = append(o, schemaMember{"required", required})
		}
		if len(properties) > 0 {
			o = append(o, schemaMember{"properties", properties})
		}
		if s.others != nil {
			o = append(o, schemaMember{"patternProperties", schemaObject{{s.matching, *s.others}}})
		}
		o = append(o, schemaMember{"additionalProperties", false})
	}
	o = append(o, s.pairs...)
	if s.fallback != nil {
		o = append(o, schemaMember{"default", s.fallback})
	}
	if len(s.like) > 0 {
		o = append(o, schemaMember{"examples", s.like})
	}
	return o
}
