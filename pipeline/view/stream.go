// Package view is what people look at: folds over the topics of the contract,
// kept apart from the hot path, which they only read.
package view

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Stream prints decisions as they happen, a line each, and totals now and then.
// It may be used by many goroutines.
type Stream struct {
	Out    io.Writer
	Colour bool
	// PerSecond bounds the lines of a second, so that a person can still read;
	// what is not shown is counted all the same. 0: no bound.
	PerSecond int

	mu       sync.Mutex
	began    time.Time
	second   int64
	shown    int
	verdicts map[payment.Verdict]int
	since    int // decisions since the last totals
	last     time.Time
	millis   []float64 // of the decisions since the last totals
}

var colours = map[payment.Verdict]string{payment.Approve: "\x1b[32m", payment.Hold: "\x1b[33m", payment.Block: "\x1b[31m"}

// playedMillis and more since a transaction came says that somebody plays old
// records: it is no time that anybody waited.
const playedMillis = 3600_000

// Header prints the names of the columns.
func (s *Stream) Header() {
	fmt.Fprintf(s.Out, "%-12s  %-12s  %16s  %-7s  %7s  %s\n", "time (UTC)", "channel", "amount", "verdict", "ms", "reasons")
}

// Decision prints a record of the topic of decisions.
func (s *Stream) Decision(r *broker.Record) {
	var d payment.Decision
	if err := json.Unmarshal(r.Value, &d); err != nil {
		s.line("a decision cannot be read: %v", err)
		return
	}
	if d.DecidedAt == 0 { // a default says nothing that depends on who gives it: the broker says when it came
		d.ReceivedAt, d.DecidedAt = d.EventTime, payment.Time(r.Time)*1e6
	}
	s.Show(&d)
}

// DeadLetter prints a record of the topic of dead letters; not the receipts of
// those that were re-submitted.
func (s *Stream) DeadLetter(r *broker.Record) {
	var reason, field string
	for _, h := range r.Headers {
		switch h.Key {
		case "reason":
			reason = string(h.Value)
		case "field":
			field = string(h.Value)
		case "receipt":
			return
		}
	}
	s.line("dead letter: %s %s", reason, field)
}

func (s *Stream) line(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.Out, "%-12s  %s\n", time.Now().UTC().Format("15:04:05.000"), strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// Show prints one decision.
func (s *Stream) Show(d *payment.Decision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.verdicts == nil {
		s.verdicts = map[payment.Verdict]int{}
		s.began = time.Now()
		s.last = s.began
	}
	s.verdicts[d.Verdict]++
	s.since++
	took := "-"
	if ms := float64(d.DecidedAt-d.ReceivedAt) / 1e6; ms < playedMillis {
		s.millis = append(s.millis, ms)
		took = fmt.Sprintf("%.1f", ms)
	}
	if now := time.Now().Unix(); now != s.second {
		s.second, s.shown = now, 0
	}
	if s.shown++; s.PerSecond > 0 && s.shown > s.PerSecond {
		return
	}
	verdict := fmt.Sprintf("%-7s", d.Verdict)
	if s.Colour {
		verdict = colours[d.Verdict] + verdict + "\x1b[0m"
	}
	var reasons []string
	for _, r := range d.Reasons {
		text := r.Code
		if r.Detail != "" && len(d.Reasons) < 3 {
			text += " (" + r.Detail + ")"
		}
		reasons = append(reasons, text)
	}
	amount := "-"
	if c := d.Transaction.Amount.Currency; c != 0 {
		amount = c.String() + " " + string(c.AppendMajor(nil, d.Transaction.Amount.Value))
	}
	channel := d.Transaction.Channel
	if channel == "" {
		channel = d.Transaction.Type
	}
	fmt.Fprintf(s.Out, "%-12s  %-12s  %16s  %s  %7s  %s\n", d.DecidedAt.Std().Format("15:04:05.000"), clip(channel, 12), amount, verdict, took, strings.Join(reasons, ", "))
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n-1] + "…"
	}
	return s
}

// Totals prints one line about everything so far, and how fast it was lately.
func (s *Stream) Totals() {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.verdicts[payment.Approve] + s.verdicts[payment.Hold] + s.verdicts[payment.Block]
	if s.since == 0 {
		return
	}
	now := time.Now()
	slices.Sort(s.millis)
	at := func(p float64) string {
		if len(s.millis) == 0 {
			return "-"
		}
		return fmt.Sprintf("%.1f", s.millis[int(p*float64(len(s.millis)-1))])
	}
	share := func(v payment.Verdict) string {
		return fmt.Sprintf("%s %d (%.1f %%)", v, s.verdicts[v], 100*float64(s.verdicts[v])/float64(all))
	}
	fmt.Fprintf(s.Out, "── %d payments, %.0f/s · %s · %s · %s · p50 %s ms, p99 %s ms ──\n", all, float64(s.since)/max(0.001, now.Sub(s.last).Seconds()),
		share(payment.Approve), share(payment.Hold), share(payment.Block), at(.5), at(.99))
	s.since, s.last, s.millis = 0, now, s.millis[:0]
}
