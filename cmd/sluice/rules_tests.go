package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/sluice-risk/sluice/pipeline/ruletest"
	"github.com/sluice-risk/sluice/rules"
	"github.com/spf13/cobra"
)

// rulesTests is what `sluice rules test` was asked.
type rulesTests struct {
	format, junit string
	minCoverage   float64 // percent
	mutate        bool
}

func rulesTestCommand() *cobra.Command {
	var ask rulesTests
	cmd := &cobra.Command{
		Use:   "test RULESET",
		Short: "Play the tests beside the rules (*_test.yaml) through the gate",
		Long: `Play the tests beside the rules (*_test.yaml) through the very steps of the live path, each on a store of its own.
A failed expectation is shown with what was wanted, what came, and what the clauses of the rules came to. Of every rule it
is counted in how many tests it was true (hit), false (passed) and unknown, and of every clause whether tests have seen
both sides. --mutate moves every threshold by one in its last digit and swaps every comparison for its neighbour, and
and for or; it lists the changes that no test notices, which fail nothing.`,
		Example: "  sluice rules test deploy/rulesets/demo --min-coverage 100\n" +
			"  sluice rules test deploy/rulesets/demo --mutate --junit report.xml",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if ask.format != "text" && ask.format != "json" {
				return fmt.Errorf("--format %q: must be text or json", ask.format)
			}
			if ask.minCoverage < 0 || ask.minCoverage > 100 {
				return fmt.Errorf("--min-coverage %v: must be from 0 to 100", ask.minCoverage)
			}
			return ask.run(cmd.Context(), args[0], cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&ask.format, "format", "text", "text or json")
	f.StringVar(&ask.junit, "junit", "", "file for a report in JUnit's XML")
	f.Float64Var(&ask.minCoverage, "min-coverage", 0, "fail below this percentage of clauses seen true and seen false")
	f.BoolVar(&ask.mutate, "mutate", false, "list the thresholds and operators that no test holds in place")
	return cmd
}

func (ask *rulesTests) run(ctx context.Context, dir string, out io.Writer) error {
	set, err := rules.Load(dir)
	if err != nil {
		return showProblems(err, dir, out)
	}
	folders, err := rules.Folders(dir)
	if err != nil {
		return err
	}
	tests, err := rules.LoadTests(set, folders...)
	if err != nil {
		return showProblems(err, dir, out)
	}
	if len(tests) == 0 {
		return fmt.Errorf("%s: there are no tests: no file *_test.yaml", dir)
	}
	report, err := ruletest.Run(ctx, set, tests)
	if err != nil {
		return err
	}
	if ask.junit != "" {
		if err := writeFile(ask.junit, report.WriteJUnit); err != nil {
			return err
		}
	}
	var mutation *ruletest.Mutation
	if ask.mutate && report.Failed() == 0 {
		bar := newCount(len(set.Mutants()), "mutants", "mutants")
		m, err := ruletest.Mutate(ctx, set, tests, func(done, _ int) { bar.set(int64(done)) })
		bar.end()
		if err != nil {
			return err
		}
		mutation = &m
	}
	if err := ask.show(report, mutation, dir, out); err != nil {
		return err
	}
	if report.Failed() > 0 || report.Coverage.Percent() < ask.minCoverage {
		return errBad
	}
	return nil
}

// show prints what came of the tests.
func (ask *rulesTests) show(report *ruletest.Report, mutation *ruletest.Mutation, dir string, out io.Writer) error {
	covered := report.Coverage.Percent()
	if ask.format == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(struct {
			Ruleset string `json:"ruleset"`
			*ruletest.Report
			Percent  float64            `json:"coverage_percent"`
			Mutation *ruletest.Mutation `json:"mutation,omitempty"`
		}{dir, report, covered, mutation})
	}
	report.Write(out)
	fmt.Fprintln(out)
	if err := report.Coverage.Write(out); err != nil {
		return err
	}
	if mutation != nil {
		fmt.Fprintln(out)
		mutation.Write(out)
	}
	if ask.mutate && mutation == nil {
		fmt.Fprintln(out, "\nno mutants: the tests must pass first")
	}
	fmt.Fprintf(out, "\n%s: clause coverage %.1f %%\n", dir, covered)
	if covered < ask.minCoverage {
		fmt.Fprintf(out, "%s: less than --min-coverage %g\n", dir, ask.minCoverage)
	}
	return nil
}

// showProblems prints the mistakes of a ruleset or its tests; any other error is
// returned as it is.
func showProblems(err error, dir string, out io.Writer) error {
	var problems rules.Problems
	if !errors.As(err, &problems) {
		return err
	}
	fmt.Fprintf(out, "%v\n%s: %d problem(s)\n", problems, dir, len(problems))
	return errBad
}

// writeFile writes a file, and says so when it is not whole.
func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
