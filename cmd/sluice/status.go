package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

func statusCommand() *cobra.Command {
	var urls []string
	var format string
	var over time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "One page for who was just paged",
		Long: `One page for who was just paged, from /readyz and /metrics of the members of a gate: whether verdicts
flow and in time, how many are defaults or lack something and why, what is behind, and what is broken.
A line that begins with ! is bad, and says what to look at next. Rates are of the time that --over
gives; totals are since the member started. Exit status 1: something is bad; 2: no member answers.`,
		Example: "  sluice status\n" +
			"  sluice status --url http://gate-1:8420 --url http://gate-2:8420\n" +
			"  sluice status --format json | jq '.members[].lines[] | select(.bad)'",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			if over < 100*time.Millisecond || over > 5*time.Minute {
				return fmt.Errorf("--over %v: must be between 100ms and 5m", over)
			}
			for _, u := range urls {
				if parsed, err := url.Parse(u); err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https" {
					return fmt.Errorf("--url %q: must be such as http://127.0.0.1:8420", u)
				}
			}
			page, err := watchMembers(cmd.Context(), urls, over)
			if err != nil {
				return err
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			if format == "json" {
				err = json.NewEncoder(out).Encode(page)
			} else {
				page.print(out, colour(cmd.OutOrStdout()))
			}
			if err = errors.Join(err, out.Flush()); err != nil {
				return err
			}
			if page.Bad {
				return errBad
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&urls, "url", []string{"http://127.0.0.1:8420"}, "HTTP address of a member (several: one page for all)")
	f.DurationVar(&over, "over", 2*time.Second, "how long to watch, for rates")
	f.StringVar(&format, "format", "text", "text or json")
	return cmd
}

// statusPage is what is known of all members.
type statusPage struct {
	Time    time.Time      `json:"time"`
	Bad     bool           `json:"bad"` // of any line
	Members []memberStatus `json:"members"`
	Lines   []statusLine   `json:"lines,omitempty"` // of members that do not agree
}

// memberStatus is what is known of one member.
type memberStatus struct {
	URL   string       `json:"url"`
	Lines []statusLine `json:"lines"`
	hash  string       // of its ruleset
}

// statusLine is one thing to know.
type statusLine struct {
	Name string `json:"name"`
	Text string `json:"text"`
	Bad  bool   `json:"bad"`
	Next string `json:"next,omitempty"` // of a bad one: what to look at, or to do
}

// errSilent: no member answers, so that nothing is known.
var errSilent = errors.New("no member answers")

// watchMembers reads the metrics of all members twice.
func watchMembers(ctx context.Context, urls []string, over time.Duration) (*statusPage, error) {
	watched := make([]memberWatch, len(urls))
	var all sync.WaitGroup
	for i, u := range urls {
		watched[i].url = strings.TrimSuffix(u, "/")
		all.Go(func() { watched[i].watch(ctx, over) })
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	page := &statusPage{Time: time.Now().UTC()}
	var silent error = errSilent
	for i := range watched {
		w := &watched[i]
		page.Members = append(page.Members, w.status())
		if w.err == nil {
			silent = nil
		} else if silent != nil {
			silent = fmt.Errorf("%w; %s: %w", silent, w.url, w.err)
		}
	}
	page.agree()
	return page, silent
}

// agree adds what only shows between members, and sums up whether anything is bad.
func (p *statusPage) agree() {
	hashes := map[string][]string{}
	for _, m := range p.Members {
		if m.hash != "" {
			hashes[m.hash] = append(hashes[m.hash], m.URL)
		}
	}
	if len(hashes) > 1 {
		var texts []string
		for _, m := range p.Members {
			if m.hash != "" {
				texts = append(texts, m.URL+" has "+short(m.hash))
			}
		}
		p.Lines = append(p.Lines, statusLine{"ruleset", "members decide by different rulesets: " + strings.Join(texts, ", "), true,
			runbook("member_skew", "reload those that are behind")})
	}
	for _, m := range append([]memberStatus{{Lines: p.Lines}}, p.Members...) {
		for _, l := range m.Lines {
			p.Bad = p.Bad || l.Bad
		}
	}
}

// print writes the page as text.
func (p *statusPage) print(out io.Writer, colour bool) {
	fmt.Fprintf(out, "Sluice, %s UTC\n", p.Time.Format(time.DateTime))
	line := func(l statusLine) {
		mark, begin, end := " ", "", ""
		if l.Bad {
			mark = "!"
			if colour {
				begin, end = "\x1b[31m", "\x1b[0m"
			}
		}
		fmt.Fprintf(out, "%s%s %-16s %s%s\n", begin, mark, l.Name, l.Text, end)
		if l.Next != "" {
			fmt.Fprintf(out, "  %-16s → %s\n", "", l.Next)
		}
	}
	for _, m := range p.Members {
		fmt.Fprintf(out, "\n%s\n", m.URL)
		for _, l := range m.Lines {
			line(l)
		}
	}
	if len(p.Lines) > 0 {
		fmt.Fprintln(out)
	}
	for _, l := range p.Lines {
		line(l)
	}
}

// memberWatch is what was read of a member.
type memberWatch struct {
	url     string
	ready   bool
	why     string // it is not
	reading reading
	err     error // it does not answer
}

// watch reads twice, some time apart.
func (w *memberWatch) watch(ctx context.Context, over time.Duration) {
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	var began, ended time.Time
	if w.reading.before, began, w.err = readMetrics(ctx, client, w.url); w.err != nil {
		return
	}
	select {
	case <-ctx.Done():
		w.err = ctx.Err()
		return
	case <-time.After(over):
	}
	if w.reading.after, ended, w.err = readMetrics(ctx, client, w.url); w.err != nil {
		return
	}
	w.reading.seconds = ended.Sub(began).Seconds()
	status, body, err := fetchText(ctx, client, w.url+"/readyz")
	w.ready, w.why, w.err = status == http.StatusOK, strings.TrimSpace(body), err
}

// fetchText gets a page of a member.
func fetchText(ctx context.Context, client *http.Client, url string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	const most = 64 << 20
	b, err := io.ReadAll(io.LimitReader(res.Body, most))
	return res.StatusCode, string(b), errors.Join(err, res.Body.Close())
}

// status puts what was read into lines.
func (w *memberWatch) status() memberStatus {
	m := memberStatus{URL: w.url}
	if w.err != nil {
		m.Lines = []statusLine{{"answers", "it does not: " + w.err.Error(), true, "is the process alive? the partitions of a dead member move to the others when its session has timed out"}}
		return m
	}
	deciding := statusLine{Name: "deciding", Text: "yes"}
	if !w.ready {
		deciding = statusLine{"deciding", "no: " + cmp.Or(w.why, "it does not say why"), true, "its log says what it waits for: the broker, the group, or the store"}
	}
	m.Lines = append(m.Lines, deciding)
	m.Lines = append(m.Lines, w.reading.lines()...)
	for hash := range w.reading.by("sluice_ruleset_info", "hash") {
		m.hash = hash
	}
	return m
}
