package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/explain"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/rules"
	"github.com/spf13/cobra"
)

// rulesExplained is what `sluice rules explain` was asked.
type rulesExplained struct {
	in, transaction, format, kept, until string
	all                                  bool
	events                               int
}

func rulesExplainCommand() *cobra.Command {
	var ask rulesExplained
	cmd := &cobra.Command{
		Use:   "explain RULESET --in FILE --transaction ID",
		Short: "Say why a payment was decided as it was, clause by clause, and why not otherwise",
		Long: `Replay a file of records, as "sluice replay" does, and say why one payment in it was decided as it was:
the rules that were true, clause by clause with the values that they looked at; the events behind each of these
values; what was unknown and why; lists, exempts and controls that took part; points and their thresholds; and the
rules that came nearest to firing, with what they would have needed.

The whole file is replayed: what became of the payment later is told too. A payment that is not in the file is
exit status 2, with the ids that look like it.`,
		Example: "  sluice rules explain deploy/rulesets/demo --in payments.jsonl --transaction t-5\n" +
			"  sluice rules explain rules/ --in monday.jsonl.gz --transaction t-5 --all --events 0\n" +
			"  sluice rules explain rules/ --in - --transaction t-5 --format json < payments.jsonl | jq .trace.nearest",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case ask.format != "text" && ask.format != "json":
				return fmt.Errorf("--format %q: must be text or json", ask.format)
			case ask.transaction == "":
				return errors.New("--transaction: name the payment by its transaction_id")
			case ask.in == "":
				return errors.New("--in: name the file of records, or - for standard input")
			case ask.events < 0:
				return fmt.Errorf("--events %d is negative", ask.events)
			}
			return ask.run(cmd.Context(), args[0], cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&ask.in, "in", "", "file of records (JSON Lines; gzip is recognised), - for standard input")
	f.StringVar(&ask.transaction, "transaction", "", "transaction_id of the payment")
	f.StringVar(&ask.format, "format", "text", "text, or json, which has every rule and feature")
	f.BoolVar(&ask.all, "all", false, "print every rule with its clauses, and every feature")
	f.IntVar(&ask.events, "events", explain.ShownEvents, "list so many events behind each value, the latest; 0 for all")
	f.StringVar(&ask.kept, "rules-kept", "", "folder of the rulesets that a ruleset_activate among the records may name (rules_kept of the gate)")
	f.StringVar(&ask.until, "until", "", "stop before the first record with a later event time (RFC 3339)")
	return cmd
}

func (ask *rulesExplained) run(ctx context.Context, ruleset string, out io.Writer) error {
	set, err := rules.Load(ruleset)
	if err != nil {
		return err
	}
	config := pipeline.DefaultConfig()
	q := explain.Question{Transaction: ask.transaction, Events: ask.events,
		Replay: pipeline.Replay{Rules: set, Limits: config.Limits(), Windows: config.Windows, RulesKept: ask.kept}}
	if ask.until != "" {
		var ok bool
		if q.Replay.Until, ok = payment.ParseTime(ask.until); !ok {
			return fmt.Errorf("--until %q is no RFC 3339 time such as 2026-11-23T00:00:00Z", ask.until)
		}
	}
	input, size, err := openInput(ask.in)
	if err != nil {
		return err
	}
	defer input.Close()
	counted := &counter{r: input}
	records, err := gunzip(counted)
	if err != nil {
		return err
	}
	bar := newProgress(size, "explain")
	q.Replay.Progress = func(pipeline.ReplaySummary) { bar.set(counted.n) }
	x, err := q.Answer(ctx, records)
	bar.end()
	if err != nil {
		return err
	}
	buffered := bufio.NewWriter(out)
	if ask.format == "json" {
		enc := json.NewEncoder(buffered)
		enc.SetIndent("", "  ")
		err = enc.Encode(x)
	} else {
		err = x.Write(buffered, ask.all)
	}
	return errors.Join(err, buffered.Flush())
}
