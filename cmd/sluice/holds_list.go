package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/spf13/cobra"
)

func listHoldsCommand() *cobra.Command {
	var at cluster
	var format string
	var back time.Duration
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the payments on hold, the one that expires first on top",
		Long: `List the payments on hold, the one that expires first on top: since when, how long it has, what it
needs, what it is worth, and who works on it. The topics of decisions and of reviews are read from
--since on; a payment that was held before is not seen.`,
		Example: "  sluice holds list --config sluice.yaml\n" +
			"  sluice holds list --brokers kafka-1:9092 --since 72h --format json | jq 'select(.claimed_by == null)'",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			if back <= 0 {
				return fmt.Errorf("--since %v is not above 0", back)
			}
			config, conn, err := at.open(cmd)
			if err != nil {
				return err
			}
			defer conn.Close()
			now := time.Now()
			holds, err := readHolds(cmd.Context(), conn, &config.Topics, now.Add(-back))
			if err != nil {
				return err
			}
			if format == "json" {
				return printHoldsJSON(cmd.OutOrStdout(), holds, now)
			}
			return printHolds(cmd.OutOrStdout(), holds, now)
		},
	}
	at.flags(cmd)
	cmd.Flags().StringVar(&format, "format", "text", "text or json (a line for each hold)")
	cmd.Flags().DurationVar(&back, "since", 7*24*time.Hour, "how far back to read")
	return cmd
}

// holdLine is a hold as JSON shows it.
type holdLine struct {
	Transaction string       `json:"transaction_id"`
	Revision    int          `json:"revision"`
	Needs       []string     `json:"needs"`
	Since       payment.Time `json:"since"`
	Age         float64      `json:"age_seconds"`
	Expires     payment.Time `json:"expires_at"`
	Left        float64      `json:"left_seconds"` // negative where it is overdue
	OnExpiry    string       `json:"on_expiry"`
	Amount      string       `json:"amount,omitempty"`
	Payer       string       `json:"payer,omitempty"`
	Payee       string       `json:"payee,omitempty"`
	Reasons     []string     `json:"reasons"`
	ClaimedBy   *string      `json:"claimed_by"` // null: nobody
	Escalated   bool         `json:"escalated"`
	Notes       []string     `json:"notes,omitempty"`
}

func lineOfHold(h *pipeline.OpenHold, now time.Time) holdLine {
	d, t := h.Decision, payment.TimeOf(now)
	l := holdLine{Transaction: d.TransactionID, Revision: d.Revision, Needs: d.Hold.Needs, Since: h.Since, Age: secondsOf(t - h.Since),
		Expires: d.Hold.ExpiresAt, Left: secondsOf(d.Hold.ExpiresAt - t), OnExpiry: d.Hold.OnExpiry.String(), Amount: amountText(d.Transaction.Amount),
		Payer: d.Transaction.Payer, Payee: d.Transaction.Payee, Escalated: h.Escalated, Notes: h.Notes}
	if h.Claimant != "" {
		l.ClaimedBy = &h.Claimant
	}
	for _, r := range d.Reasons {
		l.Reasons = append(l.Reasons, r.Code)
	}
	return l
}

func secondsOf(t payment.Time) float64 { return time.Duration(t).Round(time.Second).Seconds() }

// amountText is an amount as people read it, "" for none.
func amountText(a payment.Amount) string {
	if a.Currency == 0 {
		return ""
	}
	return a.Currency.String() + " " + string(a.Currency.AppendMajor(nil, a.Value))
}

func printHoldsJSON(out io.Writer, holds []pipeline.OpenHold, now time.Time) error {
	lines := json.NewEncoder(out)
	for i := range holds {
		if err := lines.Encode(lineOfHold(&holds[i], now)); err != nil {
			return err
		}
	}
	return nil
}

func printHolds(out io.Writer, holds []pipeline.OpenHold, now time.Time) error {
	if len(holds) == 0 {
		_, err := fmt.Fprintln(out, "no payment is on hold")
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "transaction\tage\tleft\tthen\tneeds\tamount\tpayer\treasons\tworked by")
	for i := range holds {
		l := lineOfHold(&holds[i], now)
		left := shortly(l.Left)
		if l.Left < 0 {
			left = "overdue"
		}
		by := "-"
		if l.ClaimedBy != nil {
			by = shown(*l.ClaimedBy)
		}
		if l.Escalated {
			by += " (escalated)"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", shown(l.Transaction), shortly(l.Age), left, l.OnExpiry, listed(l.Needs), orDash(l.Amount), shown(l.Payer), listed(l.Reasons), by)
	}
	return table.Flush()
}

// shortly is a time in its two largest units.
func shortly(seconds float64) string {
	d := time.Duration(seconds) * time.Second
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

func listed(words []string) string {
	text := ""
	for i, w := range words {
		if i > 0 {
			text += ","
		}
		text += w
	}
	return orDash(text)
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
