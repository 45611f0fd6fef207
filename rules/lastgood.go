package rules

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// lastGoodFile is the file, among the rulesets that are kept, that says which one
// is the last good one of which folder.
const lastGoodFile = "last-good.json"

// lastGood is what the file says.
type lastGood struct {
	Ruleset string `json:"ruleset"` // its hash
	Folder  string `json:"folder"`  // where it was loaded from
}

// NoteLastGood notes that the ruleset, which Save has kept in dir, is what the
// folder holds. A process that dies meanwhile leaves the note as it was.
func (s *Ruleset) NoteLastGood(dir, folder string) error {
	text, err := json.Marshal(lastGood{s.hash, folder})
	if err != nil {
		return err
	}
	file := filepath.Join(dir, lastGoodFile)
	if old, err := os.ReadFile(file); err == nil && string(old) == string(text) {
		return nil
	}
	draft, err := os.CreateTemp(dir, ".draft-")
	if err != nil {
		return fmt.Errorf("note the last good ruleset: %w", err)
	}
	defer func() { _ = os.Remove(draft.Name()) }() // it is gone where it was renamed
	_, err = draft.Write(text)
	if err = errors.Join(err, draft.Sync(), draft.Close()); err == nil {
		err = os.Rename(draft.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("note the last good ruleset: %w", err)
	}
	return nil
}

// LastGood loads the ruleset of which dir says that it is the last good one of a
// folder. Where there is none, or only of another folder, the error is
// fs.ErrNotExist.
func LastGood(dir, folder string) (*Ruleset, error) {
	text, err := os.ReadFile(filepath.Join(dir, lastGoodFile))
	if err != nil {
		return nil, fmt.Errorf("no last good ruleset is known: %w", err)
	}
	var noted lastGood
	if err := json.Unmarshal(text, &noted); err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", filepath.Join(dir, lastGoodFile), err)
	}
	if noted.Folder != folder {
		return nil, fmt.Errorf("the last good ruleset is that of the folder %s: %w", noted.Folder, fs.ErrNotExist)
	}
	return Saved(dir, noted.Ruleset)
}

// SavedHashes are the hashes of the rulesets that Save has kept in dir.
func SavedHashes(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []string
	for _, e := range entries {
		if digits, ok := strings.CutPrefix(e.Name(), "sha256-"); ok {
			all = append(all, "sha256:"+digits)
		}
	}
	return all, err
}
