package pipeline

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sluice-risk/sluice/rules"
)

// By what a ruleset came into force.
const (
	ByFolder   = "folder"    // its folder holds it
	ByLastGood = "last_good" // the folder held a bad one when the member started
	ByControl  = "control"   // people have activated it
)

// RulesetSwitch is a ruleset that came into force on a member.
type RulesetSwitch struct {
	Ruleset string    `json:"ruleset"`           // its hash
	Since   time.Time `json:"since"`             // by the member's clock, over restarts
	By      string    `json:"by"`                // folder, last_good or control
	Control string    `json:"control,omitempty"` // its id
	Actor   string    `json:"actor,omitempty"`   // who sent the control
	Why     string    `json:"why,omitempty"`     // and why
}

// RulesetRefusal is a folder that holds no good ruleset.
type RulesetRefusal struct {
	At       time.Time       `json:"at"`
	Error    string          `json:"error"`
	Problems []rules.Problem `json:"problems,omitempty"` // where its files could be read
}

// RulesetReport is what a member knows of its rulesets.
type RulesetReport struct {
	Member  string          `json:"member"`
	InForce RulesetSwitch   `json:"in_force"`
	Folder  string          `json:"folder"`            // path of the ruleset
	Holds   string          `json:"holds"`             // hash of the last good ruleset that the folder held
	Refused *RulesetRefusal `json:"refused,omitempty"` // what is wrong with the folder; nil where it is good
	Kept    []string        `json:"kept"`              // hashes of the rulesets that can be activated
	History []RulesetSwitch `json:"history"`           // the newest first, InForce among them
}

// historyKept is how many switches a member remembers.
const historyKept = 200

// historyFile is where switches are kept, among the rulesets.
const historyFile = "history.jsonl"

// rulesetBook is a member's record of which ruleset was in force when, and by
// what. It outlives restarts where rulesets are kept. Several members may keep
// theirs in one folder: then it is the record of all of them.
type rulesetBook struct {
	member, folder, kept string
	metrics              *Metrics
	log                  *slog.Logger

	mu      sync.Mutex // guards what follows
	inForce RulesetSwitch
	good    string // the last good ruleset of the folder
	refused *RulesetRefusal
	begun   bool            // payments are decided by what is in force
	history []RulesetSwitch // the oldest first
}

// newRulesetBook opens the record of a member that starts with a ruleset.
func newRulesetBook(config *Config, rs *rules.Ruleset, by string, metrics *Metrics, log *slog.Logger) *rulesetBook {
	b := &rulesetBook{member: memberName(), folder: config.rulesFolder(), kept: config.rulesKept(), metrics: metrics, log: log, good: rs.Hash(),
		inForce: RulesetSwitch{Ruleset: rs.Hash(), Since: now(), By: by}}
	if b.kept == "" {
		if config.Sandbox {
			return b // it begins anew each time
		}
		log.Warn("no rulesets are kept: nobody can go back to one, and with a bad folder this member cannot start; set rules_kept")
		return b
	}
	history, err := readHistory(filepath.Join(b.kept, historyFile))
	if err != nil {
		log.Warn("the record of rulesets cannot be read; it begins anew", "folder", b.kept, "error", err)
	}
	b.history = history
	return b
}

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// begin says that payments are decided by what is in force from now on: controls
// have been read, so a ruleset that only stood in for an activated one is no
// part of the record. A restart is no switch.
func (b *rulesetBook) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.begun {
		return
	}
	b.begun = true
	if n := len(b.history); n > 0 && b.history[n-1].Ruleset == b.inForce.Ruleset {
		b.inForce = b.history[n-1]
	} else {
		b.note()
	}
	b.metrics.rulesetSince(b.inForce.Since)
}

// switched says that another ruleset is in force.
func (b *rulesetBook) switched(to RulesetSwitch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inForce = to
	b.metrics.rulesetSince(to.Since)
	if b.begun {
		b.note()
	}
}

// note adds what is in force to the record. mu is held.
func (b *rulesetBook) note() {
	b.history = append(b.history, b.inForce)
	if more := len(b.history) - historyKept; more > 0 {
		b.history = slices.Delete(b.history, 0, more)
	}
	if b.kept == "" {
		return
	}
	if err := appendHistory(filepath.Join(b.kept, historyFile), b.inForce); err != nil {
		b.log.Warn("the record of rulesets cannot be kept", "folder", b.kept, "error", err)
	}
}

// holds says that the folder holds a good ruleset.
func (b *rulesetBook) holds(rs *rules.Ruleset) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.good, b.refused = rs.Hash(), nil
	b.metrics.rulesetRefused(time.Time{})
}

// refuse says that the folder holds a bad one.
func (b *rulesetBook) refuse(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refused = &RulesetRefusal{At: now(), Error: err.Error()}
	var problems rules.Problems
	if errors.As(err, &problems) {
		b.refused.Problems = problems
	}
	b.metrics.rulesetRefused(b.refused.At)
}

// report is what is known now.
func (b *rulesetBook) report() RulesetReport {
	kept, err := []string(nil), error(nil)
	if b.kept != "" {
		kept, err = rules.SavedHashes(b.kept)
	}
	if err != nil {
		b.log.Warn("the rulesets that are kept cannot be listed", "folder", b.kept, "error", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r := RulesetReport{Member: b.member, InForce: b.inForce, Folder: b.folder, Holds: b.good, Refused: b.refused, Kept: kept, History: slices.Clone(b.history)}
	slices.Reverse(r.History)
	return r
}

// Rulesets says what is in force on this member, what was, and what is wrong
// with the folder of the ruleset.
func (s *Service) Rulesets() RulesetReport { return s.rulesets.report() }

// readHistory reads the end of a record; none where there is no file.
func readHistory(file string) (all []RulesetSwitch, err error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	n := 0
	for lines.Scan() {
		var s RulesetSwitch
		n++
		if json.Unmarshal(lines.Bytes(), &s) == nil { // the last line may be half of one
			all = append(all, s)
		}
	}
	all = all[max(0, len(all)-historyKept):]
	if n > 10*historyKept {
		err = errors.Join(err, rewriteHistory(file, all))
	}
	return all, errors.Join(err, lines.Err())
}

// rewriteHistory lets a record begin with its last switches.
func rewriteHistory(file string, all []RulesetSwitch) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	for _, s := range all {
		if err := encoder.Encode(s); err != nil {
			return err
		}
	}
	draft := file + ".draft"
	return errors.Join(os.WriteFile(draft, text.Bytes(), 0o600), os.Rename(draft, file))
}

// appendHistory adds a switch in one write, so that members do not mix theirs.
func appendHistory(file string, s RulesetSwitch) error {
	line, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("the record of rulesets: %w", err)
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}
