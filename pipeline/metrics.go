package pipeline

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/pipeline/broker"
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
	passed       *prometheus.CounterVec
	controls     *prometheus.CounterVec
	rulesets     rulesetMetrics
	reloads      *prometheus.CounterVec
	late         prometheus.Counter
	strange      prometheus.Counter
	repeats      prometheus.Counter
	duplicates   map[string]prometheus.Counter // by kind
	defaults     map[cause]prometheus.Counter
	degraded     map[string]prometheus.Counter
	corrections  map[payment.Source]prometheus.Counter
	refolds      prometheus.Counter
	losses       prometheus.Counter
	outcomes     map[window.OutcomeStatus]prometheus.Counter
	batchSize    prometheus.Histogram
	decideTime   prometheus.Histogram
	publishTime  prometheus.Histogram
	answerTime   prometheus.Histogram
	inTime       prometheus.Counter
	outOfTime    prometheus.Counter
	tooLate      prometheus.Counter
	lag          *prometheus.GaugeVec
	unfolded     *prometheus.GaugeVec
	generations  prometheus.Counter
	retries      prometheus.Counter
	deadLettered prometheus.Counter
	lost         prometheus.Counter
}

// ruleMetrics are the counters of the rules of one ruleset, by their index.
type ruleMetrics struct{ hits, unknown, failed, passed []prometheus.Counter }

// lookUp resolves the counters of a ruleset's rules.
func (m *Metrics) lookUp(rs *rules.Ruleset) (r ruleMetrics) {
	for _, id := range rs.RuleIDs() {
		r.hits = append(r.hits, m.hits.WithLabelValues(id))
		r.unknown = append(r.unknown, m.unknown.WithLabelValues(id))
		r.failed = append(r.failed, m.failed.WithLabelValues(id))
		r.passed = append(r.passed, m.passed.WithLabelValues(id))
	}
	return r
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
		for _, s := range payment.Sources() {
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
	m.passed = counter("rule_passed_total", "Transactions for which a rule was switched off: disabled or snoozed, or true and exempt.", "rule")
	m.controls = counter("controls_total", "Controls that were taken, by what they do; outages not counted.", "control")
	for _, name := range payment.ControlNames() {
		m.controls.WithLabelValues(name)
	}
	m.reloads = counter("ruleset_reloads_total", "Rulesets that were to be put in force, by what became of them.", "result")
	for _, result := range []string{"done", "refused", "failed", "last_good", "activated", "missing"} {
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
	m.defaults, m.degraded, m.corrections = map[cause]prometheus.Counter{}, map[string]prometheus.Counter{}, map[payment.Source]prometheus.Counter{}
	defaults := counter("defaults_total", "Payments that got the policy's default for want of time, by what took it.", "cause")
	for _, c := range []cause{causeBacklog, causeStore, causeRules, causeBroker, causePaused, causeLane} {
		m.defaults[c] = defaults.WithLabelValues(string(c))
	}
	degraded := counter("degraded_total", "Decisions taken without something that they normally use.", "without")
	for _, what := range payment.DegradedNames() {
		m.degraded[what] = degraded.WithLabelValues(what)
	}
	corrections := counter("corrections_total", "Later revisions that correct a decision which was no real verdict, by its source.", "corrects")
	for _, s := range []payment.Source{payment.SourceInvalid, payment.SourceDefaultDeadline, payment.SourceDefaultError} {
		m.corrections[s] = corrections.WithLabelValues(string(s))
	}
	m.refolds = counter("refolded_transactions_total", "Records that were read again, because they were answered before windows could count them.").WithLabelValues()
	m.losses = counter("store_losses_total", "Times that a server of the store was replaced, so that Kafka was read again.").WithLabelValues()
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
	m.unfolded = prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "sluice", Name: "unfolded_records", Help: "Records of a partition that are answered, and not yet counted by windows or without their real verdict."}, []string{"partition"})
	reg.MustRegister(m.unfolded)
	m.generations = counter("group_generations_total", "Times that this member was given partitions.").WithLabelValues()
	m.retries = counter("broker_retries_total", "Calls to the broker that failed and were tried again.").WithLabelValues()
	m.deadLettered = counter("dead_letters_total", "Records written to the dead-letter topic.").WithLabelValues()
	m.lost = counter("lost_ranges_total", "Ranges of records that the broker no longer holds, or not whole, and that were never decided.").WithLabelValues()
	m.rulesets.register(reg)
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

// health registers how the store and the clock are.
func (m *Metrics) health(reg prometheus.Registerer, g *Gate) {
	gauge := func(name, help string, value func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "sluice", Name: name, Help: help}, value))
	}
	gauge("store_away", "1 while the store is away, so that payments are answered by what is in memory.", func() float64 {
		if g.Store.Health().Away {
			return 1
		}
		return 0
	})
	reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "sluice", Name: "breaker_open_total", Help: "Times that the store went away."},
		func() float64 { return float64(g.Store.Health().Opened) }))
	gauge("clock_skew_seconds", "How far the time that the gate goes by is ahead of this machine's clock.", func() float64 {
		skew, _ := g.clock.skew()
		return skew.Seconds()
	})
}

func (m *Metrics) setUnfolded(partition int, records int64) {
	m.unfolded.WithLabelValues(strconv.Itoa(partition)).Set(float64(records))
}

// ruled counts what the rules found of a payment, and what they went without.
func (m *Metrics) ruled(e *Engine, it *window.Item, d *payment.Decision) {
	if m == nil {
		return
	}
	for _, i := range e.evaluator.Hits() {
		e.counters.hits[i].Inc()
	}
	for _, i := range e.evaluator.Unknown() {
		e.counters.unknown[i].Inc()
	}
	for _, i := range e.evaluator.Failed() {
		e.counters.failed[i].Inc()
	}
	for _, i := range e.evaluator.Passed() {
		e.counters.passed[i].Inc()
	}
	for _, what := range d.Degraded {
		m.degraded[what].Inc()
	}
	if it.Late {
		m.late.Inc()
	}
	if !e.rules.Policy().KnownChannel(it.Tx.Channel) {
		m.strange.Inc()
	}
}

// said counts a first revision that was published.
func (m *Metrics) said(a *answer) {
	m.decisions[a.mark.Verdict][a.source].Inc()
	if a.mark.Default {
		m.defaults[a.why].Inc()
	}
}

// reload counts a ruleset that was to be put in force.
func (m *Metrics) reload(result string) {
	if m != nil {
		m.reloads.WithLabelValues(result).Inc()
	}
}

// control counts a control that was taken.
func (m *Metrics) control(c *payment.Control) {
	if m != nil {
		m.controls.WithLabelValues(c.Kind.String()).Inc()
	}
}

// told counts a first revision that the watch has published.
func (m *Metrics) told(a *answer) {
	source := a.source // of what the front had judged
	switch {
	case a.toldAt.Default:
		source = payment.SourceDefaultDeadline
		m.defaults[a.toldWhy].Inc()
	case source == "":
		source = payment.SourceRules // another member was first, and that is all we know
	}
	m.decisions[a.toldAt.Verdict][source].Inc()
}

// corrected counts a later revision.
func (m *Metrics) corrected(a *answer) { m.corrections[a.corrects].Inc() }

// refolded counts records that a folder has made good.
func (m *Metrics) refolded(n int) { m.refolds.Add(float64(n)) }

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

// refuseAll counts dead letters by the reason in their headers.
func (m *Metrics) refuseAll(letters []broker.Message) {
	for i := range letters {
		m.refuse(&payment.Refusal{Reason: payment.Reason(letters[i].Headers[0].Value)})
	}
}

func (m *Metrics) setLag(topic string, partition int, records int64) {
	m.lag.WithLabelValues(topic, strconv.Itoa(partition)).Set(float64(max(0, records)))
}
