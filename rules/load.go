package rules

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
)

// Load reads the ruleset in a folder, or in several that are joined by commas: see
// LoadFS. One with mistakes gives all of them as Problems; one that cannot be read,
// another error.
func Load(dir string) (*Ruleset, error) {
	folders, err := Folders(dir)
	if err != nil {
		return nil, fmt.Errorf("ruleset %s: %w", dir, err)
	}
	set, err := LoadFS(folders...)
	if err == nil {
		return set, nil
	}
	if problems := (Problems)(nil); errors.As(err, &problems) {
		return nil, fmt.Errorf("ruleset %s: %d problem(s)\n%w", dir, len(problems), err)
	}
	return nil, fmt.Errorf("ruleset %s: %w", dir, err)
}

// Folders are those of a ruleset as they are at this moment: "deploy/rulesets/demo", or
// several joined by commas.
func Folders(dir string) (all []fs.FS, err error) {
	for _, one := range separate(dir) {
		at, err := resolved(one)
		if err != nil {
			return nil, err
		}
		all = append(all, os.DirFS(at))
	}
	return all, nil
}

// separate takes folders apart that are joined by commas. One that has a comma in its
// own name is one.
func separate(dir string) []string {
	if _, err := os.Stat(dir); err == nil {
		return []string{dir}
	}
	return strings.Split(dir, ",")
}

// LoadFS reads a ruleset as Load does. The files of several folders make up one
// ruleset, as if they stood in one; a file that is in two of them must be the same.
func LoadFS(folders ...fs.FS) (*Ruleset, error) {
	r := &report{}
	files := map[string][]byte{}
	for _, fsys := range folders {
		more, err := readFiles(fsys, r)
		if err != nil {
			return nil, err
		}
		for name, content := range more {
			if other, taken := files[name]; taken && !bytes.Equal(content, other) {
				r.file(name, "give one of them another name", "the folders that make up the ruleset have different files of this name")
			}
			files[name] = content
		}
	}
	set := build(files, r)
	if len(r.problems) > 0 {
		return nil, r.problems.sorted()
	}
	return set, nil
}

// The files of a ruleset that stand alone.
const (
	policyFile = "policy.yaml"
	ratesFile  = "rates.yaml"
)

// readFiles reads the files that make up a ruleset, sorted by name. What looks
// as if it belonged to it and would be ignored is a problem: a rule must not be
// silently left out.
func readFiles(fsys fs.FS, r *report) (map[string][]byte, error) {
	files := map[string][]byte{}
	take := func(name string) error {
		content, err := fs.ReadFile(fsys, name)
		files[name] = content
		return err
	}
	top, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, err
	}
	for _, e := range top {
		name := e.Name()
		switch {
		case strings.HasPrefix(name, "."):
		case name == "features" || name == "rules" || name == "lists" || name == "data" && isDir(fsys, name):
			inside, err := fs.ReadDir(fsys, name)
			if err != nil {
				return nil, err
			}
			for _, e := range inside {
				full := path.Join(name, e.Name())
				switch {
				case strings.HasPrefix(e.Name(), "."), isTest(full):
				case isDir(fsys, full):
					r.file(full, "move its files to "+name+"/", "a folder inside %s/ is not read", name)
				case name == "data":
					if strings.HasSuffix(full, ".csv") {
						if err := take(full); err != nil {
							return nil, err
						}
					} else if !strings.HasSuffix(full, ".md") && !strings.HasSuffix(full, ".txt") {
						r.file(full, "", "of data/, only files ending in .csv are read")
					}
				case belongs(full, r):
					if err := take(full); err != nil {
						return nil, err
					}
				}
			}
		case isDir(fsys, name):
			if name == "model" {
				r.file(name, "move it away", "%s/ is not supported in this version", name)
			}
		case isTest(name):
		case name == policyFile || name == ratesFile || name == noticesFile:
			if err := take(name); err != nil {
				return nil, err
			}
		case name == "schema.yaml":
			r.file(name, "move it away", "schema.yaml is not supported in this version")
		case belongs(name, r):
			r.file(name, didYouMean(name, []string{policyFile, ratesFile, noticesFile, "rules/" + name, "features/" + name, "lists/" + name}), "this file is not part of a ruleset: rules stand in rules/, features in features/, lists in lists/")
		}
	}
	if len(files) == 0 && len(r.problems) == 0 {
		return nil, errors.New("there is no file of a ruleset here: rules/*.yaml, features/*.yaml, lists/*.yaml, data/*.csv, policy.yaml, rates.yaml, notices.yaml")
	}
	return files, nil
}

func isTest(name string) bool { return strings.HasSuffix(name, "_test.yaml") }

// belongs reports whether a file is YAML under the ending that is read.
func belongs(name string, r *report) bool {
	if other, ok := strings.CutSuffix(name, ".yml"); ok {
		r.file(name, "rename it to "+other+".yaml", "files ending in .yml are not read")
	}
	return strings.HasSuffix(name, ".yaml")
}

// isDir follows symbolic links.
func isDir(fsys fs.FS, name string) bool {
	info, err := fs.Stat(fsys, name)
	return err == nil && info.IsDir()
}

// build makes a ruleset of files. With problems in the report, the ruleset is
// not fit for use.
func build(files map[string][]byte, r *report) *Ruleset {
	set, _ := assemble(files, r)
	set.live, set.shadow = newIndex(set.rules, live), newIndex(set.rules, shadow)
	return set
}

// assemble makes a ruleset that is not indexed yet, and returns what it knows of
// its rules as they are written.
func assemble(files map[string][]byte, r *report) (*Ruleset, *ruleFiles) {
	names := slices.Sorted(maps.Keys(files))
	parsed := map[string]node{}
	data := &countryFiles{codes: map[string]string{}}
	for _, name := range names {
		if strings.HasPrefix(name, "data/") {
			data.read(r, name, files[name])
			continue
		}
		if n, ok := parseYAML(r, newSource(name, files[name]), files[name]); ok {
			parsed[name] = n
		}
	}
	set := &Ruleset{hash: hashFiles(names, files), files: files, policy: defaultPolicy(), texts: newPayerTexts()}

	policy, ownPolicy := parsed[policyFile]
	if ownPolicy {
		set.policy.BaseCurrency = baseCurrency(policy, set.policy.BaseCurrency)
	}
	set.rates = newRates(set.policy.BaseCurrency)
	if n, ok := parsed[ratesFile]; ok {
		readRates(n, set.rates)
		sum := sha256.Sum256(files[ratesFile])
		set.ratesVersion = "sha256:" + hex.EncodeToString(sum[:])
	}
	set.policy.approveLate(set.rates)
	if ownPolicy {
		readPolicy(policy, &set.policy, set.rates)
	}

	features := newFeatureFiles(set.rates, set.policy.Location)
	for _, name := range names {
		if n, ok := parsed[name]; ok && strings.HasPrefix(name, "features/") {
			features.read(n)
		}
	}
	set.features = features.features

	lists := &listFiles{location: set.policy.Location, taken: map[string]place{}, lists: map[string]*namedList{}}
	for _, name := range names {
		if n, ok := parsed[name]; ok && strings.HasPrefix(name, "lists/") {
			lists.read(n)
		}
	}
	set.lists, set.blocking = lists.sorted()

	rules := &ruleFiles{tags: map[string][]string{}, lang: ruleNames(set.features, &set.policy, set.rates), policy: &set.policy, features: map[string]int{}, ids: map[string]place{}, retired: map[string]place{}}
	rules.lang.asked, rules.lang.askedOf = map[string]bool{}, map[string]bool{}
	rules.lang.lists = lists.lists
	rules.lang.countries = data.build()
	rules.lang.countryOf = rules.lang.countries.readers()
	for slot := range set.features {
		rules.features[set.features[slot].FullName()] = slot
	}
	for name := range features.broken {
		if _, ok := rules.lang.names[name]; !ok {
			rules.lang.names[name] = term[facts]{}
		}
	}
	for _, name := range names {
		if n, ok := parsed[name]; ok && strings.HasPrefix(name, "rules/") {
			rules.read(n)
		}
	}
	rules.checkRetired(r)
	set.retired = slices.Sorted(maps.Keys(rules.retired))
	rules.featuresAt, rules.listsAt = features.places, lists.taken
	set.fromFiles = len(set.features)
	set.features = append(set.features, set.policy.Duplicates.features()...)
	set.exempts = rules.exemptions()
	set.rules, set.dated = rules.rules, append(lists.dated, rules.dated...)
	for i := range set.rules {
		set.ids = append(set.ids, set.rules[i].id)
	}
	if n, ok := parsed[noticesFile]; ok {
		set.texts.readNotices(n)
	}
	set.texts.learn(set.rules)
	checkPayerTexts(parsed, set)
	return set, rules
}

// hashFiles names the content of some files: SHA-256 over, for each in the order
// of names, its name, its length and its content.
func hashFiles(names []string, files map[string][]byte) string {
	h := sha256.New()
	for _, name := range names {
		fmt.Fprintf(h, "%s\n%d\n", name, len(files[name]))
		h.Write(files[name])
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}
