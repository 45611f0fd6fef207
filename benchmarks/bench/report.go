package bench

import (
	"encoding/json"
	"fmt"
	"io"
)

// Report is what a run has measured.
type Report struct {
	Embedded   bool         `json:"embedded_broker"`
	Seed       uint64       `json:"seed"`
	Throughput []Throughput `json:"throughput,omitempty"`
	Load       float64      `json:"latency_records_per_second,omitempty"` // that was offered
	Latency    []Latency    `json:"latency,omitempty"`
	Engine     *Engine      `json:"engine,omitempty"`
}

// Ratio is Sluice's throughput over that of another arm, 0 where either is missing.
func (r *Report) Ratio(arm string) float64 {
	var own, other float64
	for _, t := range r.Throughput {
		switch t.Arm {
		case sluiceArm:
			own = t.PerSecond
		case arm:
			other = t.PerSecond
		}
	}
	if other == 0 {
		return 0
	}
	return own / other
}

// WriteJSON writes the report as one JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	type plain Report
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(struct {
		*plain
		ReaderWriter  float64 `json:"ratio_reader_writer,omitempty"`
		ReadersWriter float64 `json:"ratio_readers_writer,omitempty"`
		FetchProduce  float64 `json:"ratio_fetch_produce,omitempty"`
	}{(*plain)(r), r.Ratio(readerWriterArm), r.Ratio(readersWriterArm), r.Ratio(fetchProduceArm)})
}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	out := &failing{w: w}
	if len(r.Throughput) > 0 {
		broker := "the broker given"
		if r.Embedded {
			broker = "the embedded broker, in this process: for Apache Kafka give --brokers"
		}
		out.line("End to end, on %s\n", broker)
		out.line("%-15s %12s %10s   %s", "backlog", "records/s", "CPU µs", "rounds")
		for _, t := range r.Throughput {
			out.line("%-15s %12.0f %10.2f   %.0f", t.Arm, t.PerSecond, t.CPU, t.Rounds)
		}
		for _, a := range arms() {
			if ratio := r.Ratio(a.name); a.name != sluiceArm && ratio > 0 {
				out.line("sluice / %-15s %.2f", a.name, ratio)
			}
		}
		out.line("")
	}
	if len(r.Latency) > 0 {
		out.line("%-15s %10s %10s %10s %10s   at %.0f records/s, open loop, ms", "latency", "p50", "p99", "p99.9", "max", r.Load)
		for _, l := range r.Latency {
			out.line("%-15s %10.2f %10.2f %10.2f %10.2f", l.Arm, l.P50, l.P99, l.P999, l.Max)
		}
		out.line("")
	}
	if e := r.Engine; e != nil {
		out.line("%-15s %10s %10s %10s %10s   a transaction of %.0f bytes, one core", "engine alone", "µs", "allocs", "bytes", "settle µs", e.Bytes)
		for _, row := range []struct {
			name string
			cost EngineCost
		}{{"memory", e.Memory}, {"journal", e.Journal}} {
			c := row.cost
			out.line("%-15s %10.2f %10.2f %10.0f %10.2f   (settle: %.2f allocs; %.1f %% held or blocked)", row.name, c.Decide, c.DecideAllocs, c.DecideBytes, c.Settle, c.SettleAllocs, 100*c.Held)
		}
		s := e.Stages
		out.line("by stage, µs: decode %.2f, windows %.2f, rules %.2f, encode %.2f", s.Decode, s.Windows, s.Rules, s.Encode)
	}
	if len(r.Throughput) > 0 {
		out.line("")
		for _, a := range arms() {
			out.line("%-15s %s", a.name, a.what)
		}
	}
	return out.err
}

// failing remembers the first error of a writer.
type failing struct {
	w   io.Writer
	err error
}

func (f *failing) line(format string, args ...any) {
	if f.err == nil {
		_, f.err = fmt.Fprintf(f.w, format+"\n", args...)
	}
}
