package main

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func TestWhatWasNotMeasuredIsNullAndADash(t *testing.T) {
	r := report{Seed: 1, Tables: []table{{
		Question: "q", Columns: []string{"a", "b"}, Rows: []row{{"r", []float64{1.5, math.NaN()}}}, Ratios: []ratio{{Name: "x", Value: 2, Goal: "1 or more"}},
	}}}
	var text, object strings.Builder
	if err := r.write(&text, "text"); err != nil {
		t.Fatal(err)
	}
	if err := r.write(&object, "json"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1.50", "–", "x = 2.00   (goal: 1 or more)"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the text does not contain %q:\n%s", want, text.String())
		}
	}
	var back struct {
		Tables []struct {
			Rows []struct {
				Name   string
				Values []*float64
			}
		}
	}
	if err := json.Unmarshal([]byte(object.String()), &back); err != nil {
		t.Fatal(err)
	}
	if v := back.Tables[0].Rows[0].Values; *v[0] != 1.5 || v[1] != nil {
		t.Errorf("values %v, want 1.5 and null", v)
	}
}

func TestUnknownQuestionIsRefusedBeforeAnythingIsMeasured(t *testing.T) {
	o := defaultOptions()
	o.progress = t.Output()
	r, err := run(t.Context(), o, []string{"core", "speed"})
	if err == nil || !strings.Contains(err.Error(), `no question "speed"`) || len(r.Tables) > 0 {
		t.Fatalf("got %v and %d tables", err, len(r.Tables))
	}
}
