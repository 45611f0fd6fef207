package main

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// metrics are the metrics of a member at one moment, by name.
type metrics map[string]*dto.MetricFamily

// readMetrics reads /metrics of a member, and says when that was.
func readMetrics(ctx context.Context, client *http.Client, url string) (metrics, time.Time, error) {
	status, body, err := fetchText(ctx, client, url+"/metrics")
	at := time.Now()
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s/metrics answers with status %d", url, status)
	}
	if err != nil {
		return nil, at, err
	}
	m, err := parseMetrics(body)
	return m, at, err
}

// parseMetrics reads the text that Prometheus reads.
func parseMetrics(text string) (metrics, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("these are no metrics: %w", err)
	}
	return families, nil
}

// reading is the metrics of a member twice, some seconds apart.
type reading struct {
	before, after metrics
	seconds       float64
}

// labels must all hold of a sample: name, value, name, value, ...
type labels []string

func (l labels) hold(m *dto.Metric) bool {
	for i := 0; i < len(l); i += 2 {
		if labelOf(m, l[i]) != l[i+1] {
			return false
		}
	}
	return true
}

func labelOf(m *dto.Metric, name string) string {
	for _, p := range m.GetLabel() {
		if p.GetName() == name {
			return p.GetValue()
		}
	}
	return ""
}

// valueOf is the value of a sample; of a histogram, its count.
func valueOf(m *dto.Metric) float64 {
	switch {
	case m.Counter != nil:
		return m.GetCounter().GetValue()
	case m.Gauge != nil:
		return m.GetGauge().GetValue()
	case m.Histogram != nil:
		return float64(m.GetHistogram().GetSampleCount())
	}
	return m.GetUntyped().GetValue()
}

// sum adds up the samples of a metric; ok is false where it is not measured.
func (m metrics) sum(name string, where ...string) (sum float64, ok bool) {
	for _, sample := range m[name].GetMetric() {
		if labels(where).hold(sample) {
			sum, ok = sum+valueOf(sample), true
		}
	}
	return sum, ok
}

// now is the present value of a metric, summed up; 0 where it is not measured.
func (r *reading) now(name string, where ...string) float64 {
	sum, _ := r.after.sum(name, where...)
	return sum
}

// measured tells whether a member has a metric.
func (r *reading) measured(name string) bool { _, ok := r.after.sum(name); return ok }

// grew is by how much a counter has grown; one that is lower was set back by a restart.
func (r *reading) grew(name string, where ...string) float64 {
	before, _ := r.before.sum(name, where...)
	after := r.now(name, where...)
	if after < before {
		return after
	}
	return after - before
}

// perSecond is the rate of a counter.
func (r *reading) perSecond(name string, where ...string) float64 {
	return r.grew(name, where...) / math.Max(r.seconds, 0.001)
}

// by sums a metric up by one of its labels.
func (r *reading) by(name, label string) map[string]float64 { return r.after.by(name, label) }

func (m metrics) by(name, label string) map[string]float64 {
	sums := map[string]float64{}
	for _, sample := range m[name].GetMetric() {
		sums[labelOf(sample, label)] += valueOf(sample)
	}
	return sums
}

// quantile is the upper bound of the bucket that a share of the newest samples of a histogram lies in, in seconds; ok is
// false where there is none.
func (r *reading) quantile(name string, share float64) (bound float64, ok bool) {
	grown := map[float64]float64{}
	var count float64
	for sign, m := range map[float64]metrics{1: r.after, -1: r.before} {
		for _, sample := range m[name].GetMetric() {
			count += sign * float64(sample.GetHistogram().GetSampleCount())
			for _, b := range sample.GetHistogram().GetBucket() {
				grown[b.GetUpperBound()] += sign * float64(b.GetCumulativeCount())
			}
		}
	}
	bound = math.Inf(1)
	for upper, n := range grown {
		if n >= share*count && upper < bound {
			bound = upper
		}
	}
	return bound, count > 0
}
