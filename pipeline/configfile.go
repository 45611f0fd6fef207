package pipeline

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// fromFile takes the settings of a file of YAML. Every unknown key and every
// value of the wrong type is reported, with its place.
func (c *Config) fromFile(name string, data []byte) error {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	f := configFile{name: name, settings: map[string]reflect.Value{}, sections: map[string]bool{}}
	c.each(func(key string, v reflect.Value, _ bool) {
		f.settings[key] = v
		for i, r := range key {
			if r == '.' {
				f.sections[key[:i]] = true
			}
		}
	})
	for _, doc := range file.Docs {
		f.section("", doc.Body)
	}
	return errors.Join(f.problems...)
}

// configFile is a file of settings while it is read.
type configFile struct {
	name     string
	settings map[string]reflect.Value // by dotted key
	sections map[string]bool
	problems []error
}

func (f *configFile) problem(n ast.Node, format string, args ...any) {
	at := n.GetToken().Position
	f.problems = append(f.problems, fmt.Errorf("%s:%d:%d: %s", f.name, at.Line, at.Column, fmt.Sprintf(format, args...)))
}

// section reads the keys below a dotted key, "" for the whole file.
func (f *configFile) section(key string, n ast.Node) {
	switch n := n.(type) {
	case nil, *ast.NullNode, *ast.CommentGroupNode: // empty: the defaults hold
	case *ast.MappingNode:
		for _, v := range n.Values {
			f.entry(key, v)
		}
	case *ast.MappingValueNode:
		f.entry(key, n)
	default:
		f.problem(n, "%s must be keys and values", cmpText(key, "the file"))
	}
}

func cmpText(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func (f *configFile) entry(section string, n *ast.MappingValueNode) {
	key := n.Key.GetToken().Value
	if section != "" {
		key = section + "." + key
	}
	setting, ok := f.settings[key]
	switch {
	case f.sections[key]:
		f.section(key, n.Value)
	case !ok:
		f.problem(n.Key, "%s: no such setting", key)
	default:
		if err := set(setting, n.Value); err != nil {
			f.problem(n.Value, "%s: %v", key, err)
		}
	}
}

// set gives a setting the value of a node, read as the text that it is: a
// password of digits is no number.
func set(v reflect.Value, n ast.Node) error {
	if list, ok := n.(*ast.SequenceNode); ok && v.Kind() == reflect.Slice {
		texts := make([]string, len(list.Values))
		for i, item := range list.Values {
			text, ok := scalarText(item)
			if !ok {
				return errors.New("must be a list of texts")
			}
			texts[i] = text
		}
		v.Set(reflect.ValueOf(texts))
		return nil
	}
	text, ok := scalarText(n)
	if !ok {
		return errors.New("must be one value")
	}
	return setValue(v, text)
}

func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.NullNode:
		return "", true
	case *ast.LiteralNode:
		return strings.TrimSuffix(n.Value.Value, "\n"), true
	case ast.ScalarNode:
		return n.GetToken().Value, true
	}
	return "", false
}
