package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
	"github.com/sluice-risk/sluice/rules"
)

//go:embed ruleset
var rulesetFiles embed.FS

func loadRuleset() (*rules.Ruleset, error) {
	files, err := fs.Sub(rulesetFiles, "ruleset")
	if err != nil {
		return nil, err
	}
	return rules.LoadFS(files)
}

// run replays the data set and compares what comes out.
type run struct {
	folder string
	delay  time.Duration // of labels behind their transactions
	// progress, if set, is told how far the file is read, in compressed bytes, and
	// how many records are decided.
	progress func(read, of, records int64)
}

// result is what a run found.
type result struct {
	*comparison
	summary      pipeline.ReplaySummary
	transactions int64
	took         time.Duration // of the replay, the comparison included
}

func (r *run) run(ctx context.Context) (*result, error) {
	rs, err := loadRuleset()
	if err != nil {
		return nil, fmt.Errorf("ruleset:\n%w", err)
	}
	all := func(payment.Time) bool { return true }
	features, err := readPublished(r.folder, featuresFile, all)
	if err != nil {
		return nil, err
	}
	golden, err := readPublished(r.folder, goldenFile, all)
	if err != nil {
		return nil, err
	}
	decisions, err := os.CreateTemp("", "sluice-handbook-*.jsonl")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(decisions.Name()) }()
	defer decisions.Close()
	raw, err := openTable(r.folder, rawFile, purchaseColumns)
	if err != nil {
		return nil, err
	}
	defer raw.Close()

	found := &result{comparison: newComparison(features, golden)}
	config := pipeline.DefaultConfig()
	replay := pipeline.Replay{Rules: rs, Evidence: pipeline.EvidenceAll, Limits: config.Limits(), Windows: config.Windows,
		Decisions: decisions, Decided: found.add}
	if r.progress != nil {
		size := raw.size()
		replay.Progress = func(s pipeline.ReplaySummary) { r.progress(raw.read.Load(), size, s.Lines) }
	}
	lines, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := writeLines(w, records(raw.purchases(), r.delay))
		written <- err
		_ = w.CloseWithError(err) // without one it is io.EOF
	}()
	began := time.Now()
	found.summary, err = replay.Run(ctx, lines)
	found.took = time.Since(began)
	_ = lines.Close() // the writer ends too
	if err = errors.Join(err, <-written); err != nil {
		return nil, err
	}
	for _, n := range found.summary.Verdicts {
		found.transactions += n
	}
	return found, nil
}

// problems adds to those of the comparison what must not happen to any record:
// all are good, and each label finds its transaction.
func (r *result) problems() []string {
	all := r.comparison.problems()
	for why, n := range r.summary.Refused {
		all = append(all, fmt.Sprintf("%d records refused: %s", n, why))
	}
	if n := r.summary.Lines - r.transactions - r.summary.Outcomes[window.OutcomeCounted]; n != 0 {
		all = append(all, fmt.Sprintf("%d labels were not counted", n))
	}
	return all
}
