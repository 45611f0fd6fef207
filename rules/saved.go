package rules

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// savedRulesets is how many are kept in a folder; those that were saved longest
// ago go first.
const savedRulesets = 50

// Save keeps a copy of the ruleset's files in a folder of dir that is named by
// its hash, from which Saved loads it again. Both may be called by several
// processes at once.
func (s *Ruleset) Save(dir string) error {
	to := savedIn(dir, s.hash)
	now := time.Now()
	if err := os.Chtimes(to, now, now); err == nil {
		return nil // it is there; its time says that it is still in use
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep the ruleset: %w", err)
	}
	draft, err := os.MkdirTemp(dir, ".draft-")
	if err != nil {
		return fmt.Errorf("keep the ruleset: %w", err)
	}
	defer func() { _ = os.RemoveAll(draft) }()
	for name, content := range s.files {
		file := filepath.Join(draft, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), writeSynced(file, content)); err != nil {
			return fmt.Errorf("keep the ruleset: %w", err)
		}
	}
	if err := os.Rename(draft, to); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("keep the ruleset: %w", err)
	}
	return forgetSaved(dir)
}

// writeSynced writes a file that is to be whole also after the machine has lost power.
func writeSynced(name string, content []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// Saved loads the ruleset of a hash that Save has kept in dir. One that is not
// there is an error that is fs.ErrNotExist.
func Saved(dir, hash string) (*Ruleset, error) {
	from := savedIn(dir, hash)
	if _, err := os.Stat(from); err != nil {
		return nil, fmt.Errorf("the ruleset %s was not kept: %w", hash, err)
	}
	set, err := Load(from)
	if err != nil {
		return nil, err
	}
	if set.hash != hash {
		return nil, fmt.Errorf("the files in %s were changed: they are the ruleset %s", from, set.hash)
	}
	return set, nil
}

// savedIn is the folder of a ruleset; file systems do not all take a colon.
func savedIn(dir, hash string) string {
	return filepath.Join(dir, strings.ReplaceAll(hash, ":", "-"))
}

// forgetSaved removes what was saved longest ago, beyond the number that is kept.
func forgetSaved(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	type saved struct {
		name string
		at   time.Time
	}
	var all []saved
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasPrefix(e.Name(), "sha256-") {
			all = append(all, saved{e.Name(), info.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b saved) int { return b.at.Compare(a.at) })
	var errs []error
	for _, s := range all[min(len(all), savedRulesets):] {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, s.name)))
	}
	return errors.Join(errs...)
}
