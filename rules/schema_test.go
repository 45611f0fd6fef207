package rules

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/goccy/go-yaml/ast"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schemasOf compiles all schemas.
func schemasOf(t *testing.T) map[string]*jsonschema.Schema {
	t.Helper()
	out := map[string]*jsonschema.Schema{}
	for _, kind := range SchemaKinds() {
		text, ok := Schema(kind)
		if !ok {
			t.Fatalf("no schema %s", kind)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		compiler := jsonschema.NewCompiler()
		compiler.AssertFormat()
		if err := compiler.AddResource(kind, doc); err != nil {
			t.Fatal(err)
		}
		schema, err := compiler.Compile(kind)
		if err != nil {
			t.Fatal(err)
		}
		if schema.DraftVersion != 2020 {
			t.Errorf("%s is of draft %d", kind, schema.DraftVersion)
		}
		out[kind] = schema
	}
	return out
}

// kindOf is the kind of a file, "" of one that no schema describes.
func kindOf(name string) string {
	switch folder := path.Dir(name); {
	case isTest(name):
		return "tests"
	case !strings.HasSuffix(name, ".yaml"):
		return ""
	case folder == "features" || folder == "rules" || folder == "lists":
		return folder
	case name == policyFile || name == ratesFile || name == noticesFile:
		return strings.TrimSuffix(name, ".yaml")
	}
	return ""
}

// data is a YAML value as an editor hands it to a schema.
func data(n node) any {
	switch v := n.ast.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		out := map[string]any{}
		values := []*ast.MappingValueNode{}
		if m, ok := v.(*ast.MappingNode); ok {
			values = m.Values
		} else {
			values = append(values, v.(*ast.MappingValueNode))
		}
		for _, one := range values {
			out[one.Key.String()] = data(node{n.report, n.src, one.Value})
			if key, ok := one.Key.(*ast.StringNode); ok {
				delete(out, one.Key.String())
				out[key.Value] = data(node{n.report, n.src, one.Value})
			}
		}
		return out
	case *ast.SequenceNode:
		out := []any{}
		for _, one := range v.Values {
			out = append(out, data(node{n.report, n.src, one}))
		}
		return out
	case *ast.StringNode:
		return v.Value
	case *ast.LiteralNode:
		return v.Value.Value
	case *ast.BoolNode:
		return v.Value
	case *ast.NullNode, nil:
		return nil
	case *ast.TagNode:
		return data(node{n.report, n.src, v.Value})
	}
	text := strings.ReplaceAll(n.ast.GetToken().Value, "_", "")
	if json.Valid([]byte(text)) {
		return json.Number(text)
	}
	return json.Number("0")
}

// judged is what the schema of its kind says of a file; told is false where there
// is none, or the file is not YAML.
func judged(schemas map[string]*jsonschema.Schema, name string, content []byte) (told bool, err error) {
	kind := kindOf(name)
	if kind == "" {
		return false, nil
	}
	n, ok := parseYAML(&report{}, newSource(name, content), content)
	if !ok {
		return false, nil
	}
	return true, schemas[kind].Validate(data(n))
}

func TestPublishedSchemasAreThoseOfTheCode(t *testing.T) {
	const folder = "../deploy/schemas"
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var published []string
	for _, e := range entries {
		published = append(published, e.Name())
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{}
	for _, kind := range SchemaKinds() {
		want = append(want, kind+".json")
		if !bytes.Contains(readme, []byte(`"deploy/schemas/`+kind+`.json": `)) {
			t.Errorf("the README does not tie %s.json to its files", kind)
		}
		text, _ := Schema(kind)
		got, err := os.ReadFile(filepath.Join(folder, kind+".json"))
		if err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s.json is not what the code says (%v): make schemas", kind, err)
		}
	}
	slices.Sort(want)
	if !slices.Equal(published, want) {
		t.Errorf("%v, want %v", published, want)
	}
}

// TestWhatLoadsIsValid holds the schemas against every file that loads.
func TestWhatLoadsIsValid(t *testing.T) {
	schemas := schemasOf(t)
	seen := map[string]int{}
	valid := func(where, name string, content []byte) {
		told, err := judged(schemas, name, content)
		if err != nil {
			t.Errorf("%s: %v", where, err)
		}
		if told {
			seen[kindOf(name)]++
		}
	}
	rulesets, _ := filepath.Glob("../deploy/rulesets/*")
	for _, dir := range append(rulesets, "testdata/ruleset") {
		for name, content := range readFolder(t, dir) {
			if isTest(name) && dir == "testdata/ruleset" {
				continue // it is there to be left alone
			}
			valid(dir+"/"+name, name, []byte(content))
		}
	}
	archives, _ := filepath.Glob("testdata/diff/*.txtar")
	for _, name := range append(archives, "testdata/schema/everything.txtar") {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			inside := strings.TrimPrefix(strings.TrimPrefix(f.Name, "old/"), "new/")
			valid(name+": "+f.Name, inside, f.Data)
		}
	}
	for _, kind := range SchemaKinds() {
		if seen[kind] == 0 {
			t.Errorf("no file of %s was looked at", kind)
		}
	}
}

// structural are the problems that a schema can see.
var structural = regexp.MustCompile(`^(unknown key|a payment has no field|.* needs the keys? |.* must be (one of|text|a mapping|a list|a truth value|true or false|a whole number|a decimal number|an amount|a code|a name|a short word|a length of time|a day such as|degrees|a time relative|a time such|an expression, not|an ISO 4217)|a key (here|in .*) (is|must be)|.* is there twice|the list of .* is empty|a threshold needs|unknown currency|a rule needs a verdict)`)

// beyond are the problems that look as if, and need more than the file.
var beyond = regexp.MustCompile(`the (key|value|name|rate)|is there twice$|approve_up_to|no rate|whole number from|must be a length of time|a value of type|a condition must|calendar_|time_zone must|such as in_list`)

// TestStructuralMistakesAreInvalid holds the schemas against the fixtures with
// problems: what is wrong with the form of a file, its schema refuses; a file with
// no problem at all, it accepts.
func TestStructuralMistakesAreInvalid(t *testing.T) {
	schemas := schemasOf(t)
	archives, _ := filepath.Glob("testdata/problems/*.txtar")
	more, _ := filepath.Glob("testdata/testproblems/*.txtar")
	kinds, refused := map[string]int{}, 0
	for _, name := range append(archives, more...) {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		wrong, spoiled := map[string][]string{}, map[string]bool{}
		for _, f := range archive.Files {
			if f.Name != "want" {
				continue
			}
			for _, line := range strings.Split(string(f.Data), "\n") {
				m := regexp.MustCompile(`^([a-z_/.-]+\.yaml)(?::[0-9]+:[0-9]+)?: (.*)$`).FindStringSubmatch(line)
				if m == nil {
					continue
				}
				spoiled[m[1]] = true
				if structural.MatchString(m[2]) && !beyond.MatchString(m[2]) {
					wrong[m[1]] = append(wrong[m[1]], m[2])
				}
			}
		}
		for _, f := range archive.Files {
			content := strings.NewReplacer("<TAB>", "\t", "<CR>", "\r").Replace(string(f.Data))
			told, err := judged(schemas, f.Name, []byte(content))
			switch {
			case !told, isTest(f.Name) && slices.Contains(archives, name): // a ruleset is loaded without its tests
			case len(wrong[f.Name]) > 0 && err == nil:
				t.Errorf("%s: %s is valid, and is wrong:\n  %s", name, f.Name, strings.Join(wrong[f.Name], "\n  "))
			case !spoiled[f.Name] && err != nil:
				t.Errorf("%s: %s is good, and the schema says: %v", name, f.Name, err)
			case err != nil:
				refused++
				kinds[kindOf(f.Name)]++
			}
		}
	}
	if refused < 20 || len(kinds) < len(SchemaKinds()) {
		t.Errorf("%d files were refused, by kind %v: too few to tell", refused, kinds)
	}
}

// TestSchemasAndReadersKnowTheSameKeys loads a ruleset that has every mapping, and
// holds the keys that its readers look for against those of the schemas.
func TestSchemasAndReadersKnowTheSameKeys(t *testing.T) {
	signature := func(what string, keys []string) string {
		keys = slices.Clone(keys)
		slices.Sort(keys)
		return what + ": " + join(keys)
	}
	archive, err := txtar.ParseFile("testdata/schema/everything.txtar")
	if err != nil {
		t.Fatal(err)
	}
	files, folder := map[string][]byte{}, fstest.MapFS{}
	for _, f := range archive.Files {
		folder[f.Name] = &fstest.MapFile{Data: f.Data}
		if !isTest(f.Name) {
			files[f.Name] = f.Data
		}
	}
	read := map[string]bool{}
	r := &report{heard: func(what string, keys []string) { read[signature(what, keys)] = true }}
	set := build(files, r)
	tests := &testFiles{set: set, taken: map[string]place{}}
	for _, name := range []string{"rules/all_test.yaml"} {
		n, _ := parseYAML(r, newSource(name, folder[name].Data), folder[name].Data)
		tests.read(n)
	}
	if len(r.problems) > 0 {
		t.Fatal(r.problems)
	}
	described := map[string]bool{}
	for _, k := range schemaKinds {
		var walk func(shape)
		walk = func(s shape) {
			if s.what != "" {
				var keys []string
				for _, key := range s.keys {
					keys = append(keys, key.key)
				}
				described[signature(s.what, keys)] = true
			}
			for _, key := range s.keys {
				walk(key.shape)
			}
			if s.others != nil {
				walk(*s.others)
			}
			if s.parts != nil {
				for _, part := range s.parts() {
					walk(part)
				}
			}
		}
		walk(k.shape())
	}
	for _, one := range slices.Sorted(maps.Keys(read)) {
		if !described[one] {
			t.Errorf("a reader has, and no schema: %s", one)
		}
	}
	for _, one := range slices.Sorted(maps.Keys(described)) {
		if !read[one] {
			t.Errorf("a schema has, and no reader was asked: %s", one)
		}
	}
	if len(read) < 20 {
		t.Errorf("only %d mappings", len(read))
	}
}

// TestSchemasAgreeWithReadersAboutForm puts something else at every place of a
// ruleset that has every key: a mistake of form that a reader sees, the schema
// sees; what loads, is valid.
func TestSchemasAgreeWithReadersAboutForm(t *testing.T) {
	schemas := schemasOf(t)
	files := readFolder(t, "testdata/schema/everything.txtar")
	set, err := loadFiles(files)
	if err != nil {
		t.Fatal(err)
	}
	refused, accepted := map[string]int{}, map[string]int{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		kind := kindOf(name)
		n, ok := parseYAML(&report{}, newSource(name, []byte(files[name])), []byte(files[name]))
		if !ok || kind == "" {
			t.Fatal(name)
		}
		document := data(n)
		judge := func(at string) {
			var b bytes.Buffer
			enc := json.NewEncoder(&b) // JSON is YAML
			enc.SetEscapeHTML(false)
			if err := enc.Encode(document); err != nil {
				t.Fatal(err)
			}
			changed := maps.Clone(files)
			changed[name] = b.String()
			problems := problemsOf(t, changed, set, name)
			refuses := schemas[kind].Validate(document)
			wrong := slices.ContainsFunc(problems, func(p Problem) bool { return structural.MatchString(p.Message) && !beyond.MatchString(p.Message) })
			switch {
			case wrong && refuses == nil && !strings.Contains(at, ".expect.features."): // these are what the feature is
				t.Errorf("%s: %s is valid, and is wrong: %v", name, at, problems)
			case len(problems) == 0 && refuses != nil:
				t.Errorf("%s: %s loads, and the schema says: %v", name, at, refuses)
			case wrong:
				refused[kind]++
			case len(problems) == 0:
				accepted[kind]++
			}
		}
		judge("itself")
		disturb(document, "", func(any) {}, judge)
	}
	for _, kind := range SchemaKinds() {
		if refused[kind] < 10 || accepted[kind] < 1 {
			t.Errorf("%s: %d refused, %d accepted: too few to tell", kind, refused[kind], accepted[kind])
		}
	}
}

// disturb puts other things at every place within v, one after the other, and puts
// back what was there; put replaces v itself.
func disturb(v any, at string, put func(any), judge func(at string)) {
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			disturb(inner, at+"."+key, func(other any) { v[key] = other }, judge)
		}
		v["no key"] = "x"
		judge(at + " with another key")
		delete(v, "no key")
	case []any:
		for i, inner := range v {
			disturb(inner, at+"[]", func(other any) { v[i] = other }, judge)
		}
	}
	if at == "" {
		return
	}
	for _, other := range []any{"nonsense!", json.Number("12345"), json.Number("0.5"), true, nil, []any{}, map[string]any{}} {
		put(other)
		text, _ := json.Marshal(other)
		judge(at + " as " + string(text))
	}
	put(v)
}

// problemsOf are the problems of one file among others; a file of tests is read
// for a set that has loaded.
func problemsOf(t *testing.T, files map[string]string, set *Ruleset, name string) Problems {
	t.Helper()
	var err error
	if isTest(name) {
		_, err = LoadTests(set, fstest.MapFS{name: {Data: []byte(files[name])}})
	} else {
		_, err = loadFiles(files)
	}
	var all Problems
	if err != nil && !errors.As(err, &all) {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(p Problem) bool { return p.File != name })
}

// TestDefaultsOfTheSchemaAreInForce writes all defaults of the policy's schema out
// and loads them.
func TestDefaultsOfTheSchemaAreInForce(t *testing.T) {
	count := 0
	var defaults func(s shape) any
	defaults = func(s shape) any {
		if s.fallback != nil {
			count++
			return s.fallback
		}
		out := map[string]any{}
		for _, k := range s.keys {
			if v := defaults(k.shape); v != nil {
				out[k.key] = v
			}
		}
		if len(out) == 0 {
			return nil
		}
		return out
	}
	written, err := json.Marshal(defaults(policyFileShape()))
	if err != nil {
		t.Fatal(err)
	}
	rule := "rules: [{id: a, when: 'amount > CNY(1)', points: 1}]"
	plain, err := loadFiles(map[string]string{"rules/a.yaml": rule})
	if err != nil {
		t.Fatal(err)
	}
	same, err := loadFiles(map[string]string{"rules/a.yaml": rule, policyFile: string(written)})
	if err != nil {
		t.Fatalf("%s: %v", written, err)
	}
	var a, b strings.Builder
	dump(&a, reflect.ValueOf(plain.policy))
	dump(&b, reflect.ValueOf(same.policy))
	if a.String() != b.String() || count < 20 {
		t.Errorf("%d defaults %s\ngive %s\nnot %s", count, written, b.String(), a.String())
	}
}
