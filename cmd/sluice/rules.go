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
	cmd := &cobra.Command{Use: "rules", Short: "Check, test, compare and explain rulesets; see which is in force, go back to another, switch rules off", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var format string
	var strict bool
	check := &cobra.Command{
		Use:   "check RULESET",
		Short: "Load and compile a ruleset; print its order of decision, or every problem with its place",
		Long: `Load and compile a ruleset: a folder, or several joined by commas that make up one. Prints its order of decision, or every
problem with file, line, column and what to write instead. Besides, it remarks on what is no mistake and worth a second
look: what has ended or was to be looked at again, features and lists that nothing looks at, rules that change no verdict
or contradict others, rules that fire because a feature cannot be had, exempts that reach far.`,
		Example: "  sluice rules check deploy/rulesets/demo",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "text" && format != "json" {
				return fmt.Errorf("--format %q: must be text or json", format)
			}
			return checkRules(args[0], format == "json", strict, cmd.OutOrStdout())
		},
	}
	check.Flags().StringVar(&format, "format", "text", "text or json")
	check.Flags().BoolVar(&strict, "strict", false, "fail on remarks too: what is no mistake and worth a second look")
	cmd.AddCommand(check, rulesTestCommand(), rulesExplainCommand(), rulesDiffCommand(), rulesSchemaCommand(),
		rulesActiveCommand(), rulesHistoryCommand(), rulesRollbackCommand(), rulesActivateCommand(),
		rulesDisableCommand(), rulesEnableCommand(), rulesSnoozeCommand())
	return cmd
}

func checkRules(dir string, asJSON, strict bool, out io.Writer) error {
	rs, err := rules.Load(dir)
	var problems rules.Problems
	if err != nil && !errors.As(err, &problems) {
		return err
	}
	var remarks rules.Problems
	if rs != nil {
		remarks = rs.Remarks(payment.TimeOf(time.Now()))
	}
	if asJSON {
		report := struct {
			Ruleset  string           `json:"ruleset"`
			Hash     string           `json:"hash,omitempty"`
			Rules    []string         `json:"rules,omitempty"`
			Features []string         `json:"features,omitempty"`
			Lists    []rules.ListInfo `json:"lists,omitempty"`
			Problems []rules.Problem  `json:"problems"`
			Remarks  []rules.Problem  `json:"remarks,omitempty"` // no mistakes
		}{Ruleset: dir, Problems: problems}
		if rs != nil {
			report.Hash, report.Rules, report.Lists = rs.Hash(), rs.RuleIDs(), rs.Lists()
			report.Remarks = remarks
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
		if len(remarks) > 0 {
			fmt.Fprintf(out, "No mistakes, and worth a second look:\n%v\n\n", remarks)
		}
		fmt.Fprintf(out, "%s: %d rules, %d features, %d lists, %s\n", dir, len(rs.RuleIDs()), len(rs.OwnFeatures()), len(rs.Lists()), rs.Hash())
	}
	if strict && len(remarks) > 0 {
		if !asJSON {
			fmt.Fprintf(out, "%s: %d remark(s), and --strict was given\n", dir, len(remarks))
		}
		return errBad
	}
	return nil
}
