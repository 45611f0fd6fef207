package pipeline

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Watchdog looks at every decision and alerts when too many are defaults, too
// many lack something, or a rule stops far more than its usual share.
//
// Lanes only count (Saw); once a second Run takes the counts into decaying sums:
// a short one, about what came in the last minute, and for rules a long one,
// about the last hour, which says what is usual. An alert that stands ends at
// half of what raised it, so that it does not flutter. What is usual for a rule
// hardly moves while it storms, or a long storm would become usual.
//
// Saw may be called from any goroutine, allocates nothing, and does nothing on
// a nil *Watchdog.
type Watchdog struct {
	alerts *Alerts
	o      WatchdogOptions

	all, defaults, degraded atomic.Int64
	lacks                   [len(lackNames)]atomic.Int64
	rules                   atomic.Pointer[map[string]*watchedRule] // read by Saw, replaced with growing held
	growing                 sync.Mutex

	// What follows belongs to Run.
	looked                             time.Time // last
	shortAll, shortDefaults, shortLack float64
	longAll                            float64
	shortLacks                         [len(lackNames)]float64
	standing                           [2]bool // by alert: defaults, degraded
}

// WatchdogOptions say what is too much.
type WatchdogOptions struct {
	Share      float64 // of defaults, and of degraded decisions, within a minute
	Count      float64 // of either, at least
	StormTimes float64 // a rule storms at so many times its usual share,
	StormShare float64 // at least this share,
	StormCount float64 // and so many within a minute
}

// DefaultWatchdogOptions are one in a hundred and ten a minute; for rules five
// times the usual, one in two hundred, and thirty a minute.
func DefaultWatchdogOptions() WatchdogOptions {
	return WatchdogOptions{Share: 0.01, Count: 10, StormTimes: 5, StormShare: 0.005, StormCount: 30}
}

// watchedRule is what a rule stops.
type watchedRule struct {
	stops atomic.Int64 // since Run looked last
	// What follows belongs to Run.
	short, long float64
	storms      bool
	usual       float64 // share, while it storms
}

// lackNames are the causes that make operation degraded. Being late is not one
// of them: it is about the payment, and not about us.
var lackNames = [...]string{payment.DegradedStale, payment.DegradedNoFeatures, payment.DegradedUnshared, payment.DegradedBehind, payment.DegradedRuleFailed}

const (
	watchEvery = time.Second
	watchShort = time.Minute
	watchLong  = time.Hour
	watchStorm = 24 * time.Hour // how slowly a storm becomes usual
	maxWatched = 4096           // rules; more are not watched
)

// NewWatchdog returns a watchdog that tells alerts.
func NewWatchdog(alerts *Alerts, o WatchdogOptions) *Watchdog {
	w := &Watchdog{alerts: alerts, o: o}
	w.rules.Store(&map[string]*watchedRule{})
	return w
}

// Saw counts a decision; later revisions are not counted. It keeps nothing of d.
func (w *Watchdog) Saw(d *payment.Decision) {
	if w == nil || d.Revision != 1 {
		return
	}
	w.all.Add(1)
	if d.Source == payment.SourceDefaultDeadline {
		w.defaults.Add(1)
	}
	if len(d.Degraded) > 0 {
		w.sawDegraded(d.Degraded)
	}
	if d.Verdict != payment.Approve {
		for i := range d.Reasons {
			if id := d.Reasons[i].Rule; id != "" {
				w.sawStop(id)
			}
		}
	}
}

func (w *Watchdog) sawDegraded(causes []string) {
	ours := false
	for _, cause := range causes {
		if i := slices.Index(lackNames[:], cause); i >= 0 {
			w.lacks[i].Add(1)
			ours = true
		}
	}
	if ours {
		w.degraded.Add(1)
	}
}

func (w *Watchdog) sawStop(id string) {
	r := (*w.rules.Load())[id]
	if r == nil {
		if r = w.watch(id); r == nil {
			return
		}
	}
	r.stops.Add(1)
}

// watch adds a rule; nil when there are too many.
func (w *Watchdog) watch(id string) *watchedRule {
	w.growing.Lock()
	defer w.growing.Unlock()
	rules := *w.rules.Load()
	if r := rules[id]; r != nil || len(rules) >= maxWatched {
		return r
	}
	grown := maps.Clone(rules)
	r := new(watchedRule)
	grown[strings.Clone(id)] = r
	w.rules.Store(&grown)
	return r
}

// Run looks at the counts once a second until ctx ends.
func (w *Watchdog) Run(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	w.looked = time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			w.look(now)
		}
	}
}

// look takes the counts into the sums and tells what has changed.
func (w *Watchdog) look(now time.Time) {
	passed := now.Sub(w.looked)
	w.looked = now
	keepShort, keepLong, keepUsual := keep(passed, watchShort), keep(passed, watchLong), keep(passed, watchStorm)
	came := func(sum *float64, keep float64, n int64) { *sum = *sum*keep + float64(n) }

	all := w.all.Swap(0)
	came(&w.shortAll, keepShort, all)
	came(&w.longAll, keepLong, all)
	came(&w.shortDefaults, keepShort, w.defaults.Swap(0))
	came(&w.shortLack, keepShort, w.degraded.Swap(0))
	for i := range w.lacks {
		came(&w.shortLacks[i], keepShort, w.lacks[i].Swap(0))
	}
	w.judge(0, payment.AlertDeadlineDefaults, w.shortDefaults, func() string {
		return fmt.Sprintf("%s of the decisions of the last minute are defaults, because their time was up", percent(w.shortDefaults, w.shortAll))
	})
	w.judge(1, payment.AlertDegradedOperation, w.shortLack, w.lackText)

	idle := 0
	for id, r := range *w.rules.Load() {
		n := r.stops.Swap(0)
		came(&r.short, keepShort, n)
		came(&r.long, keepLong, n)
		w.judgeRule(id, r, keepUsual)
		if r.idle() {
			idle++
		}
	}
	if idle > 0 {
		w.forgetIdle()
	}
}

// keep is what is left of a decaying sum after a while.
func keep(passed, constant time.Duration) float64 {
	return math.Exp(-float64(passed) / float64(constant))
}

// exceeds tells whether n of all is too much, or, of what stands, still half of it.
func exceeds(n, all, share, count float64, stands bool) bool {
	if stands {
		share, count = share/2, count/2
	}
	return n >= count && n >= share*all
}

// judge raises or resolves one of the two alerts about shares.
func (w *Watchdog) judge(which int, code payment.AlertCode, n float64, text func() string) {
	stood := w.standing[which]
	stands := exceeds(n, w.shortAll, w.o.Share, w.o.Count, stood)
	w.standing[which] = stands
	switch {
	case stands:
		w.alerts.Raise(code, text(), NoPartition)
	case stood:
		w.alerts.Resolve(code, NoPartition)
	}
}

// judgeRule raises or resolves the storm of one rule.
func (w *Watchdog) judgeRule(id string, r *watchedRule, keepUsual float64) {
	if w.shortAll == 0 {
		return
	}
	stood := r.storms
	if !stood {
		r.usual = r.long / w.longAll
	} else {
		r.usual += (r.short/w.shortAll - r.usual) * (1 - keepUsual)
	}
	r.storms = exceeds(r.short, w.shortAll, max(w.o.StormShare, w.o.StormTimes*r.usual), w.o.StormCount, stood)
	key := alertKey{code: payment.AlertRuleStorm, about: id, partition: NoPartition}
	switch {
	case r.storms:
		w.alerts.raise(key, fmt.Sprintf("rule %s stops %s of the payments, %.0f in the last minute; usual are %s", id, percent(r.short, w.shortAll), r.short, percent(r.usual, 1)))
	case stood:
		w.alerts.resolve(key)
	}
}

func (w *Watchdog) lackText() string {
	var causes []string
	for i, n := range w.shortLacks {
		if n >= 1 {
			causes = append(causes, lackNames[i]+" "+percent(n, w.shortAll))
		}
	}
	return fmt.Sprintf("%s of the decisions of the last minute are degraded: %s", percent(w.shortLack, w.shortAll), strings.Join(causes, ", "))
}

// percent writes a share.
func percent(n, all float64) string {
	if all == 0 {
		return "0 %"
	}
	return fmt.Sprintf("%.2g %%", min(100, 100*n/all))
}

// idle tells that the rule has stopped nothing for so long that it has no share left.
func (r *watchedRule) idle() bool { return !r.storms && r.long < 1e-3 }

// forgetIdle drops rules that stop nothing any more: most are gone from the
// ruleset. A stop that is counted at this very moment may be lost.
func (w *Watchdog) forgetIdle() {
	w.growing.Lock()
	defer w.growing.Unlock()
	kept := maps.Clone(*w.rules.Load())
	maps.DeleteFunc(kept, func(_ string, r *watchedRule) bool { return r.idle() && r.stops.Load() == 0 })
	w.rules.Store(&kept)
}
