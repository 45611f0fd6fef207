package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/sluice-risk/sluice/pipeline"
	"github.com/spf13/cobra"
)

// members are the flags of commands that ask members what they do.
type members struct{ urls []string }

func (m *members) flags(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&m.urls, "url", []string{"http://127.0.0.1:8420"}, "HTTP address of a member (name all of them)")
}

// check reports an address that is none.
func (m *members) check() error {
	for _, u := range m.urls {
		if parsed, err := url.Parse(u); err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https" {
			return fmt.Errorf("--url %q: must be such as http://127.0.0.1:8420", u)
		}
	}
	return nil
}

// memberRulesets is what a member says of its rulesets, or why it does not.
type memberRulesets struct {
	URL   string `json:"url"`
	Error string `json:"error,omitempty"`
	*pipeline.RulesetReport
}

// ask asks all members at once. That none answers is an error.
func (m *members) ask(ctx context.Context) ([]memberRulesets, error) {
	all := make([]memberRulesets, len(m.urls))
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	var asking sync.WaitGroup
	for i, u := range m.urls {
		all[i].URL = strings.TrimSuffix(u, "/")
		asking.Go(func() {
			if err := all[i].read(ctx, client); err != nil {
				all[i].RulesetReport, all[i].Error = nil, err.Error()
			}
		})
	}
	asking.Wait()
	if slices.ContainsFunc(all, func(r memberRulesets) bool { return r.Error == "" }) {
		return all, nil
	}
	err := errSilent
	for _, r := range all {
		err = fmt.Errorf("%w; %s: %s", err, r.URL, r.Error)
	}
	return nil, err
}

func (r *memberRulesets) read(ctx context.Context, client *http.Client) error {
	status, body, err := fetchText(ctx, client, r.URL+"/ruleset")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("it answers with status %d", status)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(body), &r.RulesetReport)
}

func rulesActiveCommand() *cobra.Command {
	var m members
	var format string
	cmd := &cobra.Command{
		Use:   "active",
		Short: "What is in force on each member, since when, and by what",
		Long: `Ask each member which ruleset is in force, since when, and whether its folder holds it or a control has activated
it; and what is wrong with a folder that was refused. Exit status 1: a folder was refused, members decide by
different rulesets, or one does not answer; 2: none answers.`,
		Example: "  sluice rules active\n  sluice rules active --url http://gate-1:8420 --url http://gate-2:8420",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(checkFormat(format), m.check()); err != nil {
				return err
			}
			all, err := m.ask(cmd.Context())
			if err != nil {
				return err
			}
			if format == "json" {
				for i := range all {
					if all[i].RulesetReport != nil {
						all[i].History = nil // see rules history
					}
				}
				err = printTable(cmd.OutOrStdout(), format, all, "", nil)
			} else {
				err = printActive(cmd.OutOrStdout(), all)
			}
			if err == nil && !agreed(all) {
				return errBad
			}
			return err
		},
	}
	m.flags(cmd)
	cmd.Flags().StringVar(&format, "format", "text", "text or json")
	return cmd
}

// agreed tells whether all members answer, with the same ruleset and a good folder.
func agreed(all []memberRulesets) bool {
	for _, r := range all {
		if r.Error != "" || r.Refused != nil || r.InForce.Ruleset != all[0].InForce.Ruleset {
			return false
		}
	}
	return true
}

func printActive(out io.Writer, all []memberRulesets) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "member\truleset\tsince (UTC)\tby\tits folder holds")
	hashes := map[string]bool{}
	for _, r := range all {
		if r.Error != "" {
			fmt.Fprintf(w, "%s\t-\t-\t-\t-\n", r.URL)
			continue
		}
		hashes[r.InForce.Ruleset] = true
		holds := short(r.Holds)
		switch {
		case r.Refused != nil:
			holds = "a bad one"
		case r.Holds == r.InForce.Ruleset:
			holds = "it"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.URL, short(r.InForce.Ruleset), clockTime(r.InForce.Since), byText(r.InForce), holds)
	}
	err := w.Flush()
	for _, r := range all {
		switch {
		case r.Error != "":
			fmt.Fprintf(out, "! %s does not answer: %s\n", r.URL, r.Error)
		case r.Refused != nil:
			fmt.Fprintf(out, "! %s refused the ruleset of %s at %s, and goes on with %s:\n%s\n", r.URL, r.Folder, clockTime(r.Refused.At), short(r.InForce.Ruleset), r.Refused.Error)
		}
	}
	if len(hashes) > 1 {
		fmt.Fprintln(out, "! members decide by different rulesets: "+runbook("member_skew", "reload those that are behind"))
	}
	return err
}

// byText says by what a ruleset came into force.
func byText(s pipeline.RulesetSwitch) string {
	switch s.By {
	case pipeline.ByLastGood:
		return "last good one, at the start"
	case pipeline.ByControl:
		return fmt.Sprintf("control %s, %s: %s", s.Control, s.Actor, s.Why)
	}
	return s.By
}

func clockTime(t time.Time) string { return t.UTC().Format(time.DateTime) }

func rulesHistoryCommand() *cobra.Command {
	var m members
	var format string
	cmd := &cobra.Command{
		Use:   "history",
		Short: "Which rulesets came into force, when, and by what",
		Long: `Ask each member which rulesets came into force on it, the newest first: when, and whether by its folder or by
a control, by whom and why. Members remember it over restarts where they keep rulesets (rules_kept).`,
		Example: "  sluice rules history\n  sluice rules history --url http://gate-1:8420 --url http://gate-2:8420 --format json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(checkFormat(format), m.check()); err != nil {
				return err
			}
			all, err := m.ask(cmd.Context())
			if err != nil {
				return err
			}
			for _, r := range all {
				if r.Error != "" {
					fmt.Fprintf(cmd.ErrOrStderr(), "sluice: %s does not answer: %s\n", r.URL, r.Error)
				}
			}
			return printTable(cmd.OutOrStdout(), format, switchesOf(all), "since (UTC)\tmember\truleset\tby", func(s memberSwitch) string {
				return fmt.Sprintf("%s\t%s\t%s\t%s", clockTime(s.Since), s.URL, short(s.Ruleset), byText(s.RulesetSwitch))
			})
		},
	}
	m.flags(cmd)
	cmd.Flags().StringVar(&format, "format", "text", "text or json")
	return cmd
}

// memberSwitch is a ruleset that came into force on a member.
type memberSwitch struct {
	URL string `json:"url"`
	pipeline.RulesetSwitch
}

// switchesOf are those of all members, the newest first.
func switchesOf(all []memberRulesets) []memberSwitch {
	switches := []memberSwitch{}
	for _, r := range all {
		if r.RulesetReport != nil {
			for _, s := range r.History {
				switches = append(switches, memberSwitch{r.URL, s})
			}
		}
	}
	slices.SortStableFunc(switches, func(a, b memberSwitch) int { return cmp.Or(b.Since.Compare(a.Since), strings.Compare(a.URL, b.URL)) })
	return switches
}
