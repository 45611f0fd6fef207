package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is what a run has measured.
type report struct {
	Setting string `json:"setting"`
	Gaps    []gap  `json:"gaps"`
}

// gap is one change. JSON has its times in milliseconds.
type gap struct {
	Change     string          // join, leave or kill
	Noticed    time.Duration   // until the group began to rebalance
	Stable     time.Duration   // until all members had joined again
	Normal     time.Duration   // the median before
	Before     time.Duration   // the longest before, less Normal: what this machine does anyway
	Partitions []time.Duration // the longest around the change, less Normal, by partition
}

// worst is the gap of the partition that waited longest.
func (g gap) worst() time.Duration { return slices.Max(g.Partitions) }

// after is the worst gap less what it took to notice a death; who joins or leaves
// is noticed at once.
func (g gap) after() time.Duration {
	if g.Change == "kill" {
		return g.worst() - g.Noticed
	}
	return g.worst()
}

// goal of a gap after detection.
const goal = time.Second

// MarshalJSON implements json.Marshaler.
func (g gap) MarshalJSON() ([]byte, error) {
	ms := func(d time.Duration) float64 { return float64(d.Round(10*time.Microsecond)) / 1e6 }
	partitions := make([]float64, len(g.Partitions))
	for i, d := range g.Partitions {
		partitions[i] = ms(d)
	}
	return json.Marshal(struct {
		Change     string    `json:"change"`
		Noticed    float64   `json:"noticed_ms"`
		Stable     float64   `json:"stable_ms"`
		Normal     float64   `json:"normal_ms"`
		Before     float64   `json:"longest_before_ms"`
		Worst      float64   `json:"worst_ms"`
		After      float64   `json:"after_ms"`
		Partitions []float64 `json:"partitions_ms"`
	}{g.Change, ms(g.Noticed), ms(g.Stable), ms(g.Normal), ms(g.Before), ms(g.worst()), ms(g.after()), partitions})
}

// String is the gap in a line.
func (g gap) String() string {
	return fmt.Sprintf("%s: noticed after %v, stable after %v, worst gap %v", g.Change, rounded(g.Noticed), rounded(g.Stable), rounded(g.worst()))
}

func rounded(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// setting is what the figures depend on.
func (o *options) setting() string {
	return fmt.Sprintf("%d members, %d partitions, %g payments/s, session timeout %v, seed %d; %d cores for everything, broker and Redis included; %s",
		o.members, o.partitions, o.rate, o.session, o.seed, runtime.NumCPU(), runtime.Version())
}

func (r *report) write(w io.Writer, format string) error {
	if format == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	fmt.Fprintf(w, "%s\n\n", r.Setting)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "change\tnoticed\tstable\tnormal\tlongest before\tworst gap\tmedian partition\tafter\tgoal\t")
	for _, g := range r.Gaps {
		sorted := slices.Sorted(slices.Values(g.Partitions))
		met := "met"
		if g.after() > goal {
			met = "missed"
		}
		fmt.Fprintln(t, strings.Join([]string{g.Change, rounded(g.Noticed).String(), rounded(g.Stable).String(), rounded(g.Normal).String(), rounded(g.Before).String(),
			rounded(g.worst()).String(), rounded(sorted[len(sorted)/2]).String(), rounded(g.after()).String(), met + " (≤ 1s)", ""}, "\t"))
	}
	return t.Flush()
}
