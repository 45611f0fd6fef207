package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/rules"
	"github.com/spf13/cobra"
)

func replayCommand() *cobra.Command {
	var in, out, dead, evidence, until, kept string
	cmd := &cobra.Command{
		Use:   "replay RULESET --in FILE --out FILE",
		Short: "Decide the records of a file exactly as the live gate would",
		Long: `Decide the records of a file (JSON Lines; gzip is recognised) in order, through the very
function that the live path calls, by event time only. Decisions go out as JSON Lines.
A line with "outcome", "review" or "control" is that, any other a transaction.
A record that cannot be used is counted, and written to --dead-letters if that is given.`,
		Example: "  sluice replay deploy/rulesets/demo --in payments.jsonl --out decisions.jsonl --evidence all\n" +
			"  zcat monday.jsonl.gz | sluice replay rules/ --in - --out - | grep '\"verdict\":\"block\"'",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return replay(cmd.Context(), args[0], in, out, dead, evidence, until, kept)
		},
	}
	f := cmd.Flags()
	f.StringVar(&in, "in", "-", "file of records, - for standard input")
	f.StringVar(&out, "out", "-", "file of decisions, - for standard output")
	f.StringVar(&dead, "dead-letters", "", "file for records that cannot be used, with line, reason and field")
	f.StringVar(&evidence, "evidence", "held", "which decisions carry the values they rest on: all, held or none")
	f.StringVar(&kept, "rules-kept", "", "folder of the rulesets that a ruleset_activate among the records may name (rules_kept of the gate)")
	f.StringVar(&until, "until", "", "stop before the first record with a later event time (RFC 3339)")
	return cmd
}

func replay(ctx context.Context, ruleset, in, out, dead, evidence, until, kept string) (err error) {
	rs, err := rules.Load(ruleset)
	if err != nil {
		return err
	}
	config := pipeline.DefaultConfig()
	p := pipeline.Replay{Rules: rs, Limits: config.Limits(), Windows: config.Windows, RulesKept: kept}
	if p.Evidence, err = pipeline.ParseEvidence(evidence); err != nil {
		return err
	}
	if until != "" {
		var ok bool
		if p.Until, ok = payment.ParseTime(until); !ok {
			return fmt.Errorf("--until %q is no RFC 3339 time such as 2026-11-23T00:00:00Z", until)
		}
	}
	input, size, err := openInput(in)
	if err != nil {
		return err
	}
	defer input.Close()
	counted := &counter{r: input}
	records, err := gunzip(counted)
	if err != nil {
		return err
	}
	toStdout := out == "-"
	if toStdout { // decisions are kept aside too, for transactions that come twice
		if p.Decisions, err = os.CreateTemp("", "sluice-replay-*"); err != nil {
			return err
		}
		defer func() { _ = os.Remove(p.Decisions.Name()) }()
		stdout := bufio.NewWriterSize(os.Stdout, 64<<10)
		defer func() { err = errors.Join(err, stdout.Flush()) }()
		p.Decided = func(decision []byte) {
			_, _ = stdout.Write(decision) // a failure is seen by Flush
			_ = stdout.WriteByte('\n')
		}
	} else if p.Decisions, err = os.OpenFile(out, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Decisions.Close()) }()
	if dead != "" {
		f, ferr := os.Create(dead)
		if ferr != nil {
			return ferr
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		letters := json.NewEncoder(f)
		p.DeadLetter = func(line int64, record []byte, why *payment.Refusal) {
			_ = letters.Encode(map[string]any{"line": line, "reason": why.Reason, "field": why.Field, "record_base64": base64.StdEncoding.EncodeToString(record)})
		}
	}
	started := time.Now()
	bar := newProgress(size, "replay")
	p.Progress = func(pipeline.ReplaySummary) { bar.set(counted.n) }
	sum, err := p.Run(ctx, records)
	bar.end()
	if err != nil {
		return err
	}
	sum.Write(os.Stderr, time.Since(started))
	return nil
}

// openInput opens a file, or standard input for "-"; size is -1 where it says nothing.
func openInput(name string) (io.ReadCloser, int64, error) {
	if name == "-" {
		return io.NopCloser(os.Stdin), -1, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// counter counts what is read of a file, so that a bar knows how much of it is done.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

// gunzip unpacks what begins like a gzip file.
func gunzip(r io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 256<<10)
	if magic, _ := b.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return gzip.NewReader(b)
	}
	return b, nil
}
