package rules

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/expr-lang/expr/ast"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// reach(card.attempts_30d) is how far back a feature really sees, in seconds: a
// feature that a reload has added, or one on a store that is new, sees no
// further than the logs of its entities.

// ever is the event time before which there is nothing.
const ever payment.Time = math.MinInt64

// reachOf reads how far back the feature of a slot sees from a transaction, in
// seconds: all of its window, or as much of it as the logs hold. It is absent
// where the feature is: for a transaction that does not name the entity, or is late.
func reachOf(slot int, feature *window.Feature) func(*facts) (float64, bool) {
	return func(f *facts) (float64, bool) {
		if f.Late || !named(feature.Entity, f.Tx) {
			return 0, false
		}
		since := ever
		if f.Since != nil {
			since = f.Since(slot)
		}
		end := f.Tx.EventTime.Add(-feature.Delay)
		return min(extent(feature, end), elapsed(since, end)).Seconds(), true
	}
}

// named tells whether a transaction names an entity: both, of a pair.
func named(e window.Entity, tx *payment.Transaction) bool {
	one := func(k window.Kind) bool { return window.Entity{First: k}.ID(tx) != "" }
	return one(e.First) && (!e.Pair || one(e.Second))
}

// extent is how far a feature's window goes back from its end: to local midnight
// if it is a calendar one, and without limit if there is none.
func extent(feature *window.Feature, end payment.Time) time.Duration {
	if feature.Calendar == window.NotCalendar {
		if feature.Length == 0 {
			return math.MaxInt64
		}
		return feature.Length
	}
	y, m, d := end.Std().In(feature.Location).Date()
	if feature.Calendar == window.CalendarMonth {
		d = 1
	}
	return elapsed(payment.TimeOf(time.Date(y, m, d, 0, 0, 0, 0, feature.Location)), end)
}

// elapsed is the time from one moment to another: none if it would be negative,
// and the longest there is, 292 years, if it would be longer.
func elapsed(from, to payment.Time) time.Duration {
	if from >= to {
		return 0
	}
	if d := time.Duration(to - from); d > 0 {
		return d
	}
	return math.MaxInt64
}

// notAFeature reports what stands in reach(...) instead of a feature.
func (c *compiler[E]) notAFeature(n ast.Node, a term[E]) term[E] {
	if c.lang.own == nil {
		return c.problem(c.span(n), "ask in the rule that reads the feature", "reach needs the name of a feature, and there is none here: where and share look at one event")
	}
	var features []string
	for _, name := range slices.Sorted(maps.Keys(c.lang.names)) {
		if c.lang.names[name].reach != nil {
			features = append(features, name)
		}
	}
	suggestion := didYouMean(a.name, features)
	if suggestion == "" && len(features) > 0 {
		suggestion = "write a feature, such as reach(" + features[0] + ")"
	}
	what := a.what()
	if a.name != "" {
		what = a.name + ", a field of the transaction"
	}
	return c.problem(c.span(n), suggestion, "reach needs the name of a feature, and this is %s", what)
}
