package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/rules"
	"github.com/spf13/cobra"
)

func rulesCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "rules", Short: "Check and test rulesets, and switch rules off at run time", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var format string
	check := &cobra.Command{
		Use:     "check RULESET",
		Short:   "Load and compile a ruleset; print its order of decision, or every problem with its place",
		Example: "  sluice rules check deploy/rulesets/demo",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "text" && format != "json" {
				return fmt.Errorf("--format %q: must be text or json", format)
			}
			return checkRules(args[0], format == "json", cmd.OutOrStdout())
		},
	}
	check.Flags().StringVar(&format, "format", "text", "text or json")
	cmd.AddCommand(check, rulesTestCommand(), rulesDisableCommand(), rulesEnableCommand(), rulesSnoozeCommand(), rulesActivateCommand())
	return cmd
}

func checkRules(dir string, asJSON bool, out io.Writer) error {
	rs, err := rules.Load(dir)
	var problems rules.Problems
	if err != nil && !errors.As(err, &problems) {
		return err
	}
	if asJSON {
		report := struct {
			Ruleset  string           `json:"ruleset"`
			Hash     string           `json:"hash,omitempty"`
			Rules    []string         `json:"rules,omitempty"`
			Features []string         `json:"features,omitempty"`
			Lists    []rules.ListInfo `json:"lists,omitempty"`
			Problems []rules.Problem  `json:"problems"`
			Ended    []rules.Problem  `json:"ended,omitempty"` // no mistakes
		}{Ruleset: dir, Problems: problems}
		if rs != nil {
			report.Hash, report.Rules, report.Lists = rs.Hash(), rs.RuleIDs(), rs.Lists()
			report.Ended = rs.Ended(payment.TimeOf(time.Now()))
			for _, f := range rs.OwnFeatures() {
				report.Features = append(report.Features, f.FullName())
			}
		}
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(report); err != nil {
			return err
		}
	}
	if len(problems) > 0 {
		if !asJSON {
			fmt.Fprintf(out, "%v\n%s: %d problem(s)\n", problems, dir, len(problems))
		}
		return errBad
	}
	if !asJSON {
		fmt.Fprintf(out, "%s\n", rs.OrderOfDecision())
		if ended := rs.Ended(payment.TimeOf(time.Now())); len(ended) > 0 {
			fmt.Fprintf(out, "No mistakes, and without effect now:\n%v\n\n", ended)
		}
		fmt.Fprintf(out, "%s: %d rules, %d features, %d lists, %s\n", dir, len(rs.RuleIDs()), len(rs.OwnFeatures()), len(rs.Lists()), rs.Hash())
	}
	return nil
}
