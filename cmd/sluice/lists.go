package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/rules"
	"github.com/spf13/cobra"
)

func listsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "lists", Short: "Look at lists, and change their entries at run time", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(listsListCommand(), listsAddCommand(), listsRemoveCommand())
	return cmd
}

func listsAddCommand() *cobra.Command {
	var c controls
	cmd := &cobra.Command{
		Use:   "add LIST VALUE",
		Short: "Put an entry on a list, on every member, without a reload",
		Long: `Put an entry on a list: payments count as listed from --effective-at until --until, by their event time.
The entry outlives restarts and reloads. With --rules, the list and the value are checked first.`,
		Example: "  sluice lists add stolen-cards c-7f --until 90d --why CASE-88 --brokers kafka-1:9092 --rules /etc/sluice/rules\n" +
			"  sluice lists add networks 203.0.113.0/24 --why 'rented machines' --config sluice.yaml",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.send(cmd, payment.Control{Kind: payment.ControlListAdd, List: args[0], Value: args[1]}, args[0])
		},
	}
	c.flags(cmd)
	c.effectiveFlag(cmd)
	c.untilFlag(cmd, "; without it, the entry has no end")
	return cmd
}

func listsRemoveCommand() *cobra.Command {
	var c controls
	cmd := &cobra.Command{
		Use:   "remove LIST VALUE",
		Short: "Take a value off a list, on every member, without a reload",
		Long: `Take all entries of a value off a list, those of the list's file too, for payments from --effective-at on
(now). It outlives restarts and reloads: what stands in the file comes back only by lists add.`,
		Example: "  sluice lists remove stolen-cards c-7f --why 'was found' --brokers kafka-1:9092",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.send(cmd, payment.Control{Kind: payment.ControlListRemove, List: args[0], Value: args[1]}, args[0])
		},
	}
	c.flags(cmd)
	c.effectiveFlag(cmd)
	return cmd
}

func listsListCommand() *cobra.Command {
	var c controls
	cmd := &cobra.Command{
		Use:   "list [LIST]",
		Short: "Print the lists of a ruleset, or the entries of one",
		Long: `Print the lists of the ruleset in --rules, or the entries of one of them: those of its file, and with --brokers
or --config those that were added at run time, and what was taken off. Entries that do not count now are marked.`,
		Example: "  sluice lists list --rules /etc/sluice/rules\n  sluice lists list stolen-cards --rules /etc/sluice/rules --brokers kafka-1:9092",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			config, set, err := c.loaded(cmd)
			if err != nil {
				return err
			}
			if set == nil {
				return errors.New("--rules is needed: the folder of the ruleset")
			}
			if len(args) == 0 {
				return printTable(cmd.OutOrStdout(), c.format, set.Lists(), "list\ttype\teffect\tentries", func(l rules.ListInfo) string {
					return fmt.Sprintf("%s\t%s\t%s\t%d", l.Name, l.Type, l.Effect, l.Entries)
				})
			}
			var overrides *rules.Overrides
			if cmd.Flags().Changed("brokers") || c.file != "" {
				conn, err := openCluster(cmd, &config)
				if err != nil {
					return err
				}
				defer conn.Close()
				log, err := config.ReadControls(cmd.Context(), conn)
				if err != nil {
					return err
				}
				overrides = log.Overrides(set)
			}
			entries, ok := set.Entries(args[0], overrides, payment.TimeOf(time.Now()))
			if !ok {
				return set.CheckControl(&payment.Control{Kind: payment.ControlListAdd, List: args[0]})
			}
			return printTable(cmd.OutOrStdout(), c.format, entries, "value\tfrom\tuntil\tcounts\tmade by\twhy", entryLine)
		},
	}
	c.where(cmd)
	return cmd
}

// entryLine is an entry as a line of a table.
func entryLine(e rules.EntryInfo) string {
	at := func(t payment.Time) string {
		if t == 0 {
			return "-"
		}
		return t.Std().Format(time.RFC3339)
	}
	counts, by := "yes", "file"
	switch {
	case e.Off != "":
		counts = "taken off by " + e.Off
	case !e.Counts && e.From > payment.TimeOf(time.Now()):
		counts = "not yet"
	case !e.Counts:
		counts = "ended"
	}
	if e.Control != "" {
		by = "control " + e.Control
	}
	if e.By != "" {
		by += ", " + e.By
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", e.Value, at(e.From), at(e.Until), counts, by, e.Why)
}

// printTable prints rows with a head, or as one JSON array.
func printTable[T any](out io.Writer, format string, rows []T, head string, line func(T) string) error {
	if format == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(rows)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, head)
	for _, r := range rows {
		fmt.Fprintln(w, line(r))
	}
	return w.Flush()
}
