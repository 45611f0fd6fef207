package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/sluice-risk/sluice/rules"
	"github.com/spf13/cobra"
)

func rulesDiffCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Say in words what changes from one ruleset to another",
		Long: `Say in words what changes from one ruleset to another: what acts on payments first, then what people are told, what is
only recorded, what acts on nothing, and which tests come and go. Conditions are compared clause by clause; whether a rule
fires more or less is said where that is certain for every payment. Comments, order and layout are no change.`,
		Example: "  git worktree add ../before main\n" +
			"  sluice rules diff ../before/deploy/rulesets/demo deploy/rulesets/demo",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "text" && format != "json" {
				return fmt.Errorf("--format %q: must be text or json", format)
			}
			return diffRules(args[0], args[1], format == "json", cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "text or json")
	return cmd
}

// rulesDiffSide is one of the two rulesets, as JSON says it.
type rulesDiffSide struct {
	Ruleset  string         `json:"ruleset"`
	Hash     string         `json:"hash,omitempty"`
	Problems rules.Problems `json:"problems,omitempty"`

	set   *rules.Ruleset
	tests []rules.Test
}

// rulesDiff is what `sluice rules diff` found.
type rulesDiff struct {
	Old     rulesDiffSide  `json:"old"`
	New     rulesDiffSide  `json:"new"`
	Changes []rules.Change `json:"changes"`
}

// diffRules prints what changes. A ruleset with problems cannot be compared: they
// are printed, of both, and that is an error.
func diffRules(oldDir, newDir string, asJSON bool, out io.Writer) error {
	d := rulesDiff{Old: rulesDiffSide{Ruleset: oldDir}, New: rulesDiffSide{Ruleset: newDir}, Changes: []rules.Change{}}
	var failed error
	for _, side := range []*rulesDiffSide{&d.Old, &d.New} {
		if err := side.load(); err != nil {
			return err
		}
		if n := len(side.Problems); n > 0 {
			if !asJSON {
				fmt.Fprintf(out, "%v\n%s: %d problem(s)\n", side.Problems, side.Ruleset, n)
			}
			failed = errors.Join(failed, fmt.Errorf("%s: %d problem(s), so that there is nothing to compare", side.Ruleset, n))
		}
	}
	if failed == nil {
		d.Changes = append(d.Changes, rules.Diff(d.Old.set, d.New.set)...)
		d.Changes = append(d.Changes, rules.DiffTests(d.Old.tests, d.New.tests)...)
	}
	if asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return errors.Join(failed, enc.Encode(d))
	}
	if failed == nil {
		d.write(out)
	}
	return failed
}

// load reads a ruleset and its tests. Problems of its tests are no matter: they
// are for `sluice rules test`.
func (s *rulesDiffSide) load() error {
	set, err := rules.Load(s.Ruleset)
	if errors.As(err, &s.Problems) {
		return nil
	}
	if err != nil {
		return err
	}
	s.set, s.Hash = set, set.Hash()
	folders, err := rules.Folders(s.Ruleset)
	if err != nil {
		return err
	}
	tests, err := rules.LoadTests(set, folders...)
	if problems := (rules.Problems)(nil); err != nil && !errors.As(err, &problems) {
		return err
	}
	s.tests = tests
	return nil
}

// write prints the changes for people.
func (d *rulesDiff) write(out io.Writer) {
	acts := 0
	for i := range d.Changes {
		if d.Changes[i].Group == rules.ChangeActs {
			acts++
		}
	}
	switch {
	case len(d.Changes) > 0:
		fmt.Fprintf(out, "%s\n%s to %s: %d change(s), of which %d act on payments\n", rules.ChangesText(d.Changes), d.Old.Ruleset, d.New.Ruleset, len(d.Changes), acts)
	case d.Old.Hash == d.New.Hash:
		fmt.Fprintf(out, "%s to %s: nothing changes, %s\n", d.Old.Ruleset, d.New.Ruleset, d.New.Hash)
	default:
		fmt.Fprintf(out, "%s to %s: nothing changes: the files differ, and mean the same\n", d.Old.Ruleset, d.New.Ruleset)
	}
}
