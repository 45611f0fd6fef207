package rules

import (
	"cmp"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"time"
)

// Test is one test of a ruleset: what came before, the payment that is sent, and
// what is expected of its decision.
type Test struct {
	Name   string `json:"name"`
	File   string `json:"file"`
	Line   int    `json:"line"`   // from 1
	Column int    `json:"column"` // from 1
	// Languages are those in which a text to the payer is expected: the payment
	// is sent once in each. One without a name means: as the payment has it.
	Languages []string      `json:"-"`
	Expected  []Expectation `json:"-"`

	records []testRecord // in their order, the payment that is sent last
}

// SentID is the transaction id of the payment that every test sends.
const SentID = "sent"

// testFiles reads the tests of one ruleset.
type testFiles struct {
	set   *Ruleset
	taken map[string]place // names of tests so far, by file and name
	tests []Test
}

// LoadTests reads the tests of a ruleset: all files whose name ends in
// _test.yaml, in the ruleset's folders and in features/, rules/ and lists/ there. Files
// with mistakes give all of them as Problems; a folder that cannot be read, another
// error. The set is the ruleset that was loaded from the folders.
//
//	base: {type: payment, channel: web, amount: CNY(8), payer: u1, payee: m1, card: c1}
//	tests:
//	  - name: sixth small attempt is held
//	    given: [{at: -9m, every: 1m, times: 5}]
//	    send: {at: 0s}
//	    expect: {verdict: hold, rules: [card-testing], features: {card.attempts_10m: 6}}
//
// given are payments and outcomes, each with the changes of base that it has;
// {n} in a text is the number of a repetition, from 1, and a field that is null
// is absent. An outcome names the id of its payments: {outcome: settled, of: p1}.
// now is what at counts from, by default noon of Monday, 2026-11-23, in the
// policy's time zone.
func LoadTests(set *Ruleset, folders ...fs.FS) ([]Test, error) {
	r := &report{}
	f := &testFiles{set: set, taken: map[string]place{}}
	for _, fsys := range folders {
		names, err := testNames(fsys)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			content, err := fs.ReadFile(fsys, name)
			if err != nil {
				return nil, err
			}
			if n, ok := parseYAML(r, newSource(name, content), content); ok {
				f.read(n)
			}
		}
	}
	if len(r.problems) > 0 {
		return nil, r.problems.sorted()
	}
	return f.tests, nil
}

// testNames lists the files of tests.
func testNames(fsys fs.FS) ([]string, error) {
	var names []string
	for _, dir := range []string{".", "features", "lists", "rules"} {
		if dir != "." && !isDir(fsys, dir) {
			continue
		}
		entries, err := fs.ReadDir(fsys, dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if name := path.Join(dir, e.Name()); isTest(name) && !isDir(fsys, name) && e.Name()[0] != '.' {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// read takes the tests of one file.
func (f *testFiles) read(n node) {
	base, now := testPayment{}, time.Date(2026, 11, 23, 12, 0, 0, 0, f.location())
	found := n.object("a file of tests",
		field{"now", func(v node) { now = v.moment("now", now) }},
		field{"base", func(v node) { base = f.changes(v, "base", nil) }},
		field{"tests", nil})
	n.needs("a file of tests", found, "tests")
	tests, ok := found["tests"]
	if !ok {
		return
	}
	all, _ := tests.list("tests")
	for _, one := range all {
		f.test(one, base, now)
	}
}

// location is the policy's time zone, UTC without one.
func (f *testFiles) location() *time.Location {
	return cmp.Or(f.set.policy.Location, time.UTC)
}

// moment reads a time with its zone.
func (n node) moment(what string, fallback time.Time) time.Time {
	s, ok := n.text(what)
	if !ok {
		return fallback
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		n.at(n.place(), "%s must be a time such as 2026-11-23T12:00:00+08:00", what)
		return fallback
	}
	return t
}

// testNamePattern bounds what is printed of each test.
var testNamePattern = regexp.MustCompile(`^\S(.{0,198}\S)?$`)

// test takes one test. One with problems is left out.
func (f *testFiles) test(n node, base testPayment, now time.Time) {
	before := len(n.problems)
	p := n.place()
	t := Test{File: p.src.name, Line: p.line, Column: p.column}
	given := &givenRecords{files: f, base: base}
	found := n.object("a test",
		field{"name", func(v node) {
			t.Name, _ = v.name("name", testNamePattern, "one line of at most 200 characters")
			key := p.src.name + "\n" + t.Name
			if other, ok := f.taken[key]; ok && t.Name != "" {
				v.at(v.place(), "the name is taken by the test at %s", placeText(other))
			}
			f.taken[key] = v.place()
		}},
		field{"description", func(v node) { v.text("description") }},
		field{"now", func(v node) { now = v.moment("now", now) }},
		field{"base", func(v node) { given.base = base.with(f.changes(v, "base", nil)) }},
		field{"given", nil}, field{"send", nil}, field{"expect", nil})
	if found == nil {
		return
	}
	n.needs("a test", found, "name", "send", "expect")
	given.now = now
	if v, ok := found["given"]; ok {
		given.read(v)
	}
	if v, ok := found["send"]; ok {
		given.send(v)
	}
	if v, ok := found["expect"]; ok {
		f.expect(v, &t)
	}
	if len(n.problems) > before {
		return
	}
	t.records = given.inOrder()
	f.tests = append(f.tests, t)
}

// Records returns the test as the records of a file, a line each: what came
// before by time, then the payment, in a language unless it is "".
func (t *Test) Records(language string) []byte {
	var b []byte
	for i := range t.records {
		r := &t.records[i]
		if r.sent && language != "" {
			r = &testRecord{at: r.at, id: r.id, payment: r.payment.with(testPayment{"locale": language})}
		}
		b = append(r.appendJSON(b), '\n')
	}
	return b
}

// inOrder sorts what came before by time; of equal times, as it is written. The
// payment that is sent is the last.
func (g *givenRecords) inOrder() []testRecord {
	slices.SortStableFunc(g.records, func(a, b testRecord) int { return a.at.Compare(b.at) })
	return append(g.records, g.sent)
}
