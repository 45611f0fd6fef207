package pipeline

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
	"github.com/sluice-risk/sluice/rules"
)

// Metrics are what the pipeline counts. A nil *Metrics counts nothing, as in a
// replay. Children are resolved once: a look-up costs more than the increment.
type Metrics struct {
	decisions    [4]map[payment.Source]prometheus.Counter
	refused      map[payment.Reason]prometheus.Counter
	hits         *prometheus.CounterVec // by rule
	unknown      *prometheus.CounterVec
	failed       *prometheus.CounterVec
	rulesetInfo  *prometheus.GaugeVec
	reloads      *prometheus.CounterVec
	late         prometheus.Counter
	strange      prometheus.Counter
	repeats      prometheus.Counter
	duplicates   map[string]prometheus.Counter // by kind
	outcomes     map[window.OutcomeStatus]prometheus.Counter
	batchSize    prometheus.Histogram
	decideTime   prometheus.Histogram
	publishTime  prometheus.Histogram
	answerTime   prometheus.Histogram
	inTime       prometheus.Counter
	outOfTime    prometheus.Counter
	tooLate      prometheus.Counter
	lag          *prometheus.GaugeVec
	generations  prometheus.Counter
	retries      prometheus.Counter
	deadLettered prometheus.Counter
	lost         prometheus.Counter
}

// ruleMetrics are the counters of the rules of one ruleset, by their index.
type ruleMetrics struct{ hits, unknown, failed []prometheus.Counter }

// ofRules resolves the counters of a ruleset's rules.
func (m *Metrics) ofRules(rs *rules.Ruleset) (r ruleMetrics) {
	if m == nil {
		return r
	}
	for _, id := range rs.RuleIDs() {
		r.hits = append(r.hits, m.hits.WithLabelValues(id))
		r.unknown = append(r.unknown, m.unknown.WithLabelValues(id))
		r.failed = append(r.failed, m.failed.WithLabelValues(id))
	}
	return r
}

// ruleset says which ruleset is in force.
func (m *Metrics) ruleset(rs *rules.Ruleset) {
	if m != nil {
		m.rulesetInfo.Reset()
		m.rulesetInfo.WithLabelValues(rs.Hash()).Set(1)
		m.ofRules(rs) // all rules are seen from the start, at zero
	}
}

// NewMetrics registers the metrics of a gate.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{refused: map[payment.Reason]prometheus.Counter{}, outcomes: map[window.OutcomeStatus]prometheus.Counter{}}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "sluice", Name: name, Help: help}, labels)
		reg.MustRegister(v)
		return v
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "sluice", Name: name, Help: help, Buckets: buckets})
		reg.MustRegister(h)
		return h
	}
	decisions := counter("decisions_total", "Decisions made, revision 1; repeats of stored ones not counted.", "verdict", "source")
	for _, v := range []payment.Verdict{payment.Approve, payment.Hold, payment.Block} {
		m.decisions[v] = map[payment.Source]prometheus.Counter{}
		for _, s := range []payment.Source{payment.SourceRules, payment.SourceDuplicate, payment.SourceInvalid} {
			m.decisions[v][s] = decisions.WithLabelValues(v.String(), string(s))
		}
	}
	refused := counter("refused_records_total", "Records that could not be used and went to dead letters, by reason.", "reason")
	for _, r := range payment.Reasons() {
		m.refused[r] = refused.WithLabelValues(string(r))
	}
	m.hits = counter("rule_hits_total", "Transactions for which a rule was true.", "rule")
	m.unknown = counter("rule_unknown_total", "Transactions for which a rule met an absent value and did not fire.", "rule")
	m.failed = counter("rule_failed_total", "Transactions for which a rule met an error and took no part.", "rule")
	m.reloads = counter("ruleset_reloads_total", "Rulesets that were to be put in force, by what became of them.", "result")
	for _, result := range []string{"done", "refused"} {
		m.reloads.WithLabelValues(result)
	}
	m.late = counter("late_transactions_total", "Transactions too late for every window: decided, counted in none.").WithLabelValues()
	m.strange = counter("unknown_channel_total", "Transactions on a channel that the policy does not name.").WithLabelValues()
	m.repeats = counter("repeated_transactions_total", "Transactions that were decided before and got their stored decision again.").WithLabelValues()
	duplicates := counter("duplicates_total", "Payments that came twice, by kind: the same transaction again (repeat), the same id with other content (id_conflict), "+
		"the payment again after it was blocked or had failed (retry), and while the earlier one is approved or pending (duplicate).", "kind")
	m.duplicates = map[string]prometheus.Counter{}
	for _, kind := range []string{duplicateRepeat, duplicateConflict, duplicateRetry, duplicatePayment} {
		m.duplicates[kind] = duplicates.WithLabelValues(kind)
	}
	outcomes := counter("outcomes_total", "Outcomes received, by what became of them.", "status")
	for status, name := range map[window.OutcomeStatus]string{window.OutcomeCounted: "counted", window.OutcomeRepeated: "repeated",
		window.OutcomeParked: "parked", window.OutcomeIdle: "idle"} {
		m.outcomes[status] = outcomes.WithLabelValues(name)
	}
	times := []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
	m.batchSize = histogram("batch_transactions", "Transactions in a micro-batch.", []float64{1, 2, 5, 10, 25, 50, 100, 250, 500})
	m.decideTime = histogram("decide_seconds", "Time from the records of a micro-batch to its decisions.", times)
	m.publishTime = histogram("publish_seconds", "Time until the broker has acknowledged the decisions of a micro-batch.", times)
	m.answerTime = histogram("answer_seconds", "Time from a transaction's Kafka time to the acknowledgement of its decision.", times)
	m.inTime = counter("answered_in_time_total", "Decisions acknowledged by the broker before their decide_by.").WithLabelValues()
	m.outOfTime = counter("answered_late_total", "Decisions acknowledged by the broker after their decide_by.").WithLabelValues()
	m.tooLate = counter("arrived_late_total", "Transactions that reached Kafka after their decide_by; they count neither as answered in time nor as late.").WithLabelValues()
	m.lag = prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "sluice", Name: "lag_records", Help: "Records of a partition that are not settled yet."}, []string{"topic", "partition"})
	reg.MustRegister(m.lag)
	m.generations = counter("group_generations_total", "Times that this member was given partitions.").WithLabelValues()
	m.retries = counter("broker_retries_total", "Calls to the broker that failed and were tried again.").WithLabelValues()
	m.deadLettered = counter("dead_letters_total", "Records written to the dead-letter topic.").WithLabelValues()
	m.lost = counter("lost_ranges_total", "Ranges of records that the broker no longer holds, or not whole, and that were never decided.").WithLabelValues()
	m.rulesetInfo = prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "sluice", Name: "ruleset_info", Help: "1 for the ruleset in force."}, []string{"hash"})
	reg.MustRegister(m.rulesetInfo)
	return m
}

// store registers what the store takes.
func (m *Metrics) store(reg prometheus.Registerer, s window.Store) {
	gauge := func(name, help string, value func(window.Size) float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "sluice", Name: name, Help: help}, func() float64 { return value(s.Size()) }))
	}
	gauge("store_fold_bytes", "Memory of the folds of entities; windows.memory_mb bounds it.", func(z window.Size) float64 { return float64(z.FoldBytes) })
	gauge("store_entities", "Entities whose fold is in memory.", func(z window.Size) float64 { return float64(z.Entities) })
	gauge("store_log_bytes", "Bytes of the journal, or of entries of shared logs that are in memory.", func(z window.Size) float64 { return float64(z.LogBytes) })
	counter := func(name, help string, value func(window.Size) int64) {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "sluice", Name: name, Help: help}, func() float64 { return float64(value(s.Size())) }))
	}
	counter("store_evicted_total", "Folds that were given up for others.", func(z window.Size) int64 { return z.Evicted })
	counter("store_loaded_total", "Folds that were made from a log.", func(z window.Size) int64 { return z.Loaded })
}

// decided counts a decision that the rules made.
func (m *Metrics) decided(e *Engine, it *window.Item, d *payment.Decision) {
	if m == nil {
		return
	}
	m.verdict(d)
	for _, i := range e.evaluator.Hits() {
		e.counters.hits[i].Inc()
	}
	for _, i := range e.evaluator.Unknown() {
		e.counters.unknown[i].Inc()
	}
	for _, i := range e.evaluator.Failed() {
		e.counters.failed[i].Inc()
	}
	if it.Late {
		m.late.Inc()
	}
	if !e.rules.Policy().KnownChannel(it.Tx.Channel) {
		m.strange.Inc()
	}
}

func (m *Metrics) verdict(d *payment.Decision) {
	if m != nil {
		m.decisions[d.Verdict][d.Source].Inc()
	}
}

func (m *Metrics) repeated() {
	if m != nil {
		m.repeats.Inc()
		m.duplicate(duplicateRepeat)
	}
}

// duplicate counts a payment that came twice.
func (m *Metrics) duplicate(kind string) {
	if m != nil {
		m.duplicates[kind].Inc()
	}
}

func (m *Metrics) refuse(r *payment.Refusal) {
	m.refused[r.Reason].Inc()
	if r.Reason == payment.ReasonIDConflict {
		m.duplicate(duplicateConflict)
	}
	m.deadLettered.Inc()
}

func (m *Metrics) setLag(topic string, partition int, records int64) {
	m.lag.WithLabelValues(topic, strconv.Itoa(partition)).Set(float64(max(0, records)))
}
