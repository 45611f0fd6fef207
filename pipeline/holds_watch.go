package pipeline

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// holdsLook is how often the queue is looked at.
const holdsLook = 10 * time.Second

// allNeeds are the queues of holds.
var allNeeds = [...]ledger.Needs{ledger.Review, ledger.StepUp, ledger.Review | ledger.StepUp}

// queueOf sums up the open holds with these needs of the partitions that this
// member owns.
func (k *holdDesk) queueOf(needs ledger.Needs, now payment.Time) (sum ledger.Queue) {
	owned := k.owned.Load()
	if owned == nil {
		return sum
	}
	for _, p := range *owned {
		q := k.holds.Queue(p, needs, now)
		if q.Open == 0 {
			continue
		}
		if sum.Open == 0 {
			sum.Since, sum.Expires = q.Since, q.Expires
		}
		sum.Since, sum.Expires = min(sum.Since, q.Since), min(sum.Expires, q.Expires)
		sum.Open, sum.Unworked = sum.Open+q.Open, sum.Unworked+q.Unworked
	}
	return sum
}

// watch alerts, until ctx ends, when the holds that wait for a person are left alone.
func (s *holdShift) watch(ctx context.Context) error {
	tick := time.NewTicker(holdsLook)
	defer tick.Stop()
	for {
		s.attend(s.now())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// attend raises or resolves the alerts about the queue as it is now.
func (k *holdDesk) attend(now payment.Time) {
	open, unworked, expires := 0, 0, never
	for _, needs := range allNeeds {
		if needs&ledger.Review == 0 {
			continue
		}
		if q := k.queueOf(needs, now); q.Open > 0 {
			open, unworked, expires = open+q.Open, unworked+q.Unworked, min(expires, q.Expires)
		}
	}
	if unworked > 0 {
		k.raise(payment.AlertHoldsExpiring, fmt.Sprintf("%d holds are unclaimed, and %d %% of their time is up; the next hold expires at %s", unworked, k.config.WarnPercent, expires), NoPartition)
	} else {
		k.resolve(payment.AlertHoldsExpiring, NoPartition)
	}
	if open >= k.config.LongQueue {
		k.raise(payment.AlertHoldsUnworked, fmt.Sprintf("%d holds wait for a review", open), NoPartition)
	} else {
		k.resolve(payment.AlertHoldsUnworked, NoPartition)
	}
}

// holdMetrics count what becomes of holds and reviews. A nil *holdMetrics counts nothing.
type holdMetrics struct {
	ends    map[string]prometheus.Counter // how holds ended
	reviews *prometheus.CounterVec
}

// The ways in which a hold ends.
var holdEnds = [...]string{"released", "rejected", "step_up_passed", "step_up_failed", "expired"}

// newHoldMetrics registers them.
func newHoldMetrics(reg prometheus.Registerer) *holdMetrics {
	m := &holdMetrics{ends: map[string]prometheus.Counter{}}
	ends := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "sluice", Name: "holds_ended_total", Help: "Holds that this member has ended, by how."}, []string{"how"})
	for _, how := range holdEnds {
		m.ends[how] = ends.WithLabelValues(how)
	}
	m.reviews = prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "sluice", Name: "reviews_total",
		Help: "Reviews, by what the reviewer did and what became of it; unreadable ones are `unknown`."}, []string{"review", "became"})
	for _, review := range payment.ReviewNames() {
		for _, became := range []string{"used", "noted", "refused"} {
			m.reviews.WithLabelValues(review, became)
		}
	}
	reg.MustRegister(ends, m.reviews)
	return m
}

// ended counts a revision that ends a hold.
func (m *holdMetrics) ended(d *payment.Decision) {
	if m == nil || !d.Final {
		return
	}
	m.ends[howEnded(d)].Inc()
}

// howEnded names the way in which a final revision ended its hold.
func howEnded(d *payment.Decision) string {
	switch {
	case d.Source == payment.SourceExpiry:
		return "expired"
	case d.Source == payment.SourceStepUp:
		return d.SettledBy.Outcome
	case d.Verdict == payment.Approve:
		return "released"
	}
	return "rejected"
}

// review counts what became of a review; 0 is the kind of one that cannot be read.
func (m *holdMetrics) review(kind payment.ReviewKind, became string) {
	if m == nil {
		return
	}
	name := "unknown"
	if kind != 0 {
		name = kind.String()
	}
	m.reviews.WithLabelValues(name, became).Inc()
}

// holdCollector shows the queue of the partitions that this member owns, as it is
// when somebody looks.
type holdCollector struct {
	desk                           *holdDesk
	open, oldest, left, unattended *prometheus.Desc
}

func newHoldCollector(k *holdDesk) *holdCollector {
	gauge := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("sluice_"+name, help, []string{"needs"}, nil)
	}
	return &holdCollector{desk: k,
		open:       gauge("holds_open", "Payments on hold in the partitions of this member, by what they need."),
		oldest:     gauge("hold_oldest_seconds", "Age of the hold that was opened first; 0 without any."),
		left:       gauge("hold_time_left_seconds", "Time until the next hold expires; +Inf without any, negative where one is overdue."),
		unattended: gauge("holds_unworked", "Holds that no reviewer has claimed, and most of whose time is up.")}
}

// Describe implements prometheus.Collector.
func (c *holdCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.open, c.oldest, c.left, c.unattended} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *holdCollector) Collect(ch chan<- prometheus.Metric) {
	now := c.desk.now()
	for _, needs := range allNeeds {
		q := c.desk.queueOf(needs, now)
		oldest, left := 0.0, math.Inf(1)
		if q.Open > 0 {
			oldest, left = float64(now-q.Since)/1e9, float64(q.Expires-now)/1e9
		}
		for d, v := range map[*prometheus.Desc]float64{c.open: float64(q.Open), c.oldest: oldest, c.left: left, c.unattended: float64(q.Unworked)} {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, needs.String())
		}
	}
}
