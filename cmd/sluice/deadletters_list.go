package main

import (
	"bufio"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/spf13/cobra"
)

func listLettersCommand() *cobra.Command {
	var in cluster
	var which choice
	var format string
	var long bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Count dead letters by reason, or list them",
		Long: `Count dead letters by reason, with the oldest and the newest, and how many were re-submitted.
With --long a line for each. A record that was refused twice, because a gate died, counts once.`,
		Example: "  sluice dead-letters list --brokers kafka-1:9092\n" +
			"  sluice dead-letters list --config sluice.yaml --reason future_time --since 2h --long\n" +
			"  sluice dead-letters list --format json | jq 'select(.resubmitted < .records)'",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := checkFormat(format); err != nil {
				return err
			}
			config, conn, err := in.open(cmd)
			if err != nil {
				return err
			}
			defer conn.Close()
			letters, err := readLetters(cmd.Context(), conn, config.Topics.DeadLetters)
			if err != nil {
				return err
			}
			chosen, err := which.among(letters)
			if err != nil {
				return err
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			switch {
			case long:
				err = listLetters(out, chosen, format)
			default:
				err = countLetters(out, chosen, format)
			}
			return errors.Join(err, out.Flush())
		},
	}
	in.flags(cmd)
	which.flags(cmd)
	f := cmd.Flags()
	f.BoolVar(&long, "long", false, "a line for each letter")
	f.StringVar(&format, "format", "text", "text or json (a line for each reason or letter)")
	return cmd
}

// lettersOfReason is a line of the summary.
type lettersOfReason struct {
	Reason      payment.Reason `json:"reason"`
	Records     int            `json:"records"`
	Resubmitted int            `json:"resubmitted"`
	Oldest      time.Time      `json:"oldest"`
	Newest      time.Time      `json:"newest"`
	Topics      []string       `json:"topics"`
}

// byReason sums letters up, the reason with most of them first.
func byReason(letters []*pipeline.Letter) []*lettersOfReason {
	of := map[payment.Reason]*lettersOfReason{}
	var all []*lettersOfReason
	for _, l := range letters {
		sum := of[l.Reason]
		if sum == nil {
			sum = &lettersOfReason{Reason: l.Reason, Oldest: l.Time, Newest: l.Time}
			of[l.Reason] = sum
			all = append(all, sum)
		}
		sum.Records++
		if l.Resubmitted != nil {
			sum.Resubmitted++
		}
		if l.Time.Before(sum.Oldest) {
			sum.Oldest = l.Time
		}
		if l.Time.After(sum.Newest) {
			sum.Newest = l.Time
		}
		if !slices.Contains(sum.Topics, l.Topic) {
			sum.Topics = append(sum.Topics, l.Topic)
			slices.Sort(sum.Topics)
		}
	}
	slices.SortFunc(all, func(a, b *lettersOfReason) int {
		return cmp.Or(b.Records-a.Records, cmp.Compare(a.Reason, b.Reason))
	})
	return all
}

func countLetters(out io.Writer, letters []*pipeline.Letter, format string) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	lines, done := json.NewEncoder(out), 0
	for i, sum := range byReason(letters) {
		done += sum.Resubmitted
		if format == "json" {
			if err := lines.Encode(sum); err != nil {
				return err
			}
			continue
		}
		if i == 0 {
			fmt.Fprintln(table, "reason\trecords\tre-submitted\toldest (UTC)\tnewest (UTC)\tfrom")
		}
		fmt.Fprintf(table, "%s\t%d\t%d\t%s\t%s\t%s\n", shown(string(sum.Reason)), sum.Records, sum.Resubmitted,
			sum.Oldest.Format(time.DateTime), sum.Newest.Format(time.DateTime), shown(strings.Join(sum.Topics, ",")))
	}
	if format == "json" {
		return nil
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "%d dead letters, %d of them re-submitted\n", len(letters), done)
	return err
}

// letterLine is a letter as it is printed in JSON.
type letterLine struct {
	Letter        string         `json:"letter"`
	Time          time.Time      `json:"time"`
	Reason        payment.Reason `json:"reason"`
	Field         string         `json:"field,omitempty"`
	Topic         string         `json:"topic"`
	Partition     int            `json:"partition"`
	Offset        int64          `json:"offset"`
	TransactionID string         `json:"transaction_id,omitempty"`
	Bytes         int            `json:"bytes"`
	Truncated     bool           `json:"truncated,omitempty"`
	Copies        int            `json:"copies,omitempty"`
	Resubmitted   *time.Time     `json:"resubmitted,omitempty"`
	ResubmittedBy string         `json:"resubmitted_by,omitempty"`
	Key           *string        `json:"key_base64,omitempty"` // of `show`
	Value         *string        `json:"value_base64,omitempty"`
}

func lineOf(l *pipeline.Letter) letterLine {
	line := letterLine{Letter: l.At.String(), Time: l.Time, Reason: l.Reason, Field: l.Field, Topic: l.Topic, Partition: l.Partition,
		Offset: l.Offset, TransactionID: l.TransactionID, Bytes: l.Bytes, Truncated: l.Truncated, Copies: l.Copies}
	if l.Resubmitted != nil {
		line.Resubmitted, line.ResubmittedBy = &l.Resubmitted.Time, l.Resubmitted.By
	}
	return line
}

// state says what became of a letter.
func state(l *pipeline.Letter) string {
	switch {
	case l.Resubmitted != nil:
		return fmt.Sprintf("re-submitted %s by %s", l.Resubmitted.Time.Format(time.DateTime), shown(l.Resubmitted.By))
	case l.Truncated:
		return "cut"
	}
	return "-"
}

func listLetters(out io.Writer, letters []*pipeline.Letter, format string) error {
	if format == "json" {
		lines := json.NewEncoder(out)
		for _, l := range letters {
			if err := lines.Encode(lineOf(l)); err != nil {
				return err
			}
		}
		return nil
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(letters) > 0 {
		fmt.Fprintln(table, "letter\ttime (UTC)\treason\tfield\tfrom\ttransaction\tstate")
	}
	for _, l := range letters {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s %d/%d\t%s\t%s\n", l.At, l.Time.Format(time.DateTime), shown(string(l.Reason)), shown(cmp.Or(l.Field, "-")),
			shown(cmp.Or(l.Topic, "?")), l.Partition, l.Offset, shown(cmp.Or(l.TransactionID, "-")), state(l))
	}
	return table.Flush()
}

func showLettersCommand() *cobra.Command {
	var in cluster
	var format string
	cmd := &cobra.Command{
		Use:     "show P/O...",
		Short:   "Print dead letters whole: where they came from, why, and the record",
		Example: "  sluice dead-letters show 3/17 --brokers kafka-1:9092\n  sluice dead-letters show 3/17 --format json | jq -r .value_base64 | base64 -d",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			places, err := placesOf(args)
			if err != nil {
				return err
			}
			config, conn, err := in.open(cmd)
			if err != nil {
				return err
			}
			defer conn.Close()
			letters, err := readLetters(cmd.Context(), conn, config.Topics.DeadLetters)
			if err != nil {
				return err
			}
			for _, at := range places {
				l := letters.At(at)
				if l == nil {
					return fmt.Errorf("there is no dead letter %s", at)
				}
				r, err := letters.Record(cmd.Context(), l.At)
				if err != nil {
					return err
				}
				if err := showLetter(cmd.OutOrStdout(), l, &r, format); err != nil {
					return err
				}
			}
			return nil
		},
	}
	in.flags(cmd)
	cmd.Flags().StringVar(&format, "format", "text", "text or json (a line for each letter)")
	return cmd
}

func showLetter(out io.Writer, l *pipeline.Letter, r *broker.Record, format string) error {
	if format == "json" {
		line := lineOf(l)
		key, value := base64.StdEncoding.EncodeToString(r.Key), base64.StdEncoding.EncodeToString(r.Value)
		line.Key, line.Value = &key, &value
		return json.NewEncoder(out).Encode(line)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(table, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("letter", "%s, %s", l.At, l.Time.Format(time.RFC3339))
	row("reason", "%s %s", shown(string(l.Reason)), shown(l.Field))
	row("from", "%s %d/%d", shown(cmp.Or(l.Topic, "?")), l.Partition, l.Offset)
	row("transaction", "%s", shown(cmp.Or(l.TransactionID, "-")))
	row("state", "%s", state(l))
	if l.Copies > 0 {
		row("copies", "%d further letters of the same record", l.Copies)
	}
	row("key", "%s", printable(r.Key))
	row("value", "%d bytes", l.Bytes)
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "%s\n", printable(r.Value))
	return err
}

// printable is text as it is where a terminal can show it, and quoted where not.
func printable(b []byte) string {
	text := string(b)
	if !utf8.Valid(b) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 }) {
		return fmt.Sprintf("%q", text)
	}
	return text
}
