package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"runtime"
	"strconv"
)

// report is what a run has measured.
type report struct {
	Seed    uint64  `json:"seed"`
	Machine string  `json:"machine"`
	Tables  []table `json:"tables"`
}

// machine says what the figures depend on, without a name.
func machine() string {
	return fmt.Sprintf("%s/%s, %d cores, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
}

// table answers one question.
type table struct {
	Question string   `json:"question"`
	Asks     string   `json:"asks"`
	Setting  string   `json:"setting"`          // what a figure depends on: keys, windows, steps, batches
	Columns  []string `json:"columns"`          // with units
	Rows     []row    `json:"rows"`             //
	Ratios   []ratio  `json:"ratios,omitempty"` //
}

// row is an arm, or a part of what was found. NaN is "not measured".
type row struct {
	Name   string
	Values []float64
}

// MarshalJSON writes what was not measured as null, which JSON has for it.
func (r row) MarshalJSON() ([]byte, error) {
	values := make([]*float64, len(r.Values))
	for i := range r.Values {
		if !math.IsNaN(r.Values[i]) {
			values[i] = &r.Values[i]
		}
	}
	return json.Marshal(struct {
		Name   string     `json:"name"`
		Values []*float64 `json:"values"`
	}{r.Name, values})
}

// ratio compares two rows, or one to its goal.
type ratio struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Goal  string  `json:"goal,omitempty"` // as issues state it
}

func (r *report) write(w io.Writer, format string) error {
	if format == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	out := &failing{w: w}
	out.line("%s, seed %d", r.Machine, r.Seed)
	for i := range r.Tables {
		r.Tables[i].write(out)
	}
	return out.err
}

func (t *table) write(out *failing) {
	out.line("\n%s: %s\n(%s)\n", t.Question, t.Asks, t.Setting)
	name := 0
	for _, r := range t.Rows {
		name = max(name, len(r.Name))
	}
	line := fmt.Sprintf("%-*s", name, "")
	for _, c := range t.Columns {
		line += fmt.Sprintf("  %*s", width(c), c)
	}
	out.line("%s", line)
	for _, r := range t.Rows {
		line = fmt.Sprintf("%-*s", name, r.Name)
		for i, v := range r.Values {
			line += fmt.Sprintf("  %*s", width(t.Columns[i]), figure(v))
		}
		out.line("%s", line)
	}
	for _, r := range t.Ratios {
		goal := ""
		if r.Goal != "" {
			goal = "   (goal: " + r.Goal + ")"
		}
		out.line("%s = %s%s", r.Name, figure(r.Value), goal)
	}
}

func width(column string) int { return max(9, len([]rune(column))) }

// figure writes three digits that matter.
func figure(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "–"
	case a >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
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
