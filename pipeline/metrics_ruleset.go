package pipeline

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/rules"
)

// rulesetMetrics are about which ruleset is in force.
type rulesetMetrics struct {
	info    *prometheus.GaugeVec
	since   prometheus.Gauge
	refused prometheus.Gauge
	still   prometheus.Histogram
	// resolved are the counters of the newest ruleset: lanes that turn to it do not
	// look them up one by one while payments wait.
	resolved atomic.Pointer[resolvedRules]
}

type resolvedRules struct {
	of       *rules.Ruleset
	counters ruleMetrics
}

// register makes and registers the metrics.
func (m *rulesetMetrics) register(reg prometheus.Registerer) {
	gauge := func(name, help string) prometheus.GaugeOpts {
		return prometheus.GaugeOpts{Namespace: "sluice", Name: name, Help: help}
	}
	m.info = prometheus.NewGaugeVec(gauge("ruleset_info", "1 for the ruleset in force."), []string{"hash"})
	m.since = prometheus.NewGauge(gauge("ruleset_since_seconds", "When the ruleset in force came into force, as Unix time."))
	m.refused = prometheus.NewGauge(gauge("ruleset_refused_since_seconds", "When the ruleset of the folder was refused, as Unix time; 0 while the folder holds a good one."))
	m.still = prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "sluice", Name: "ruleset_switch_seconds",
		Help:    "Time from wanting to put a ruleset in force, once it is ready, until it is: lanes that have ended their micro-batch wait so long at most.",
		Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5}})
	reg.MustRegister(m.info, m.since, m.refused, m.still)
}

// resolve looks up the counters of a ruleset's rules, all at once and before it
// is in force: so all of them are seen at zero.
func (m *Metrics) resolve(rs *rules.Ruleset) {
	if m != nil {
		m.rulesets.resolved.Store(&resolvedRules{rs, m.lookUp(rs)})
	}
}

// ofRules returns the counters of a ruleset's rules.
func (m *Metrics) ofRules(rs *rules.Ruleset) ruleMetrics {
	if m == nil {
		return ruleMetrics{}
	}
	if r := m.rulesets.resolved.Load(); r != nil && r.of == rs {
		return r.counters
	}
	return m.lookUp(rs)
}

// ruleset says which ruleset is in force.
func (m *Metrics) ruleset(rs *rules.Ruleset) {
	if m != nil {
		m.rulesets.info.Reset()
		m.rulesets.info.WithLabelValues(rs.Hash()).Set(1)
	}
}

// rulesetSince says since when.
func (m *Metrics) rulesetSince(t time.Time) { m.rulesets.since.Set(unixSeconds(t)) }

// rulesetRefused says since when the folder holds a bad one; the zero time: it does not.
func (m *Metrics) rulesetRefused(t time.Time) { m.rulesets.refused.Set(unixSeconds(t)) }

func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// stoodStill notes how long a switch took.
func (m *Metrics) stoodStill(d time.Duration) {
	if m != nil {
		m.rulesets.still.Observe(d.Seconds())
	}
}
