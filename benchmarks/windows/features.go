package main

import (
	"time"

	"github.com/sluice-risk/sluice/pipeline/window"
)

const day = 24 * time.Hour

// kinds are the five entities of every question.
var kinds = [...]window.Kind{window.Payer, window.Card, window.Device, window.IP, window.Payee}

// aggregated is each of some aggregates over each of some windows of all five
// entities: kind by kind, window by window.
func aggregated(windows []time.Duration, aggregates ...window.Aggregate) []window.Feature {
	var all []window.Feature
	for _, k := range kinds {
		for _, w := range windows {
			for _, a := range aggregates {
				all = append(all, window.Feature{Entity: window.Entity{First: k}, Name: a.String() + "_" + w.String(), Aggregate: a, Length: w})
			}
		}
	}
	return all
}

// referenceWindows are those of the reference features.
func referenceWindows() []time.Duration {
	return []time.Duration{time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour, day, 7 * day}
}

// reference is what a payment platform looks at, and a little more: count, sum
// and avg in six windows of five entities; what four of them were together with
// in a day; the smallest and largest amount of payer and card in each window.
func reference() []window.Feature {
	all := aggregated(referenceWindows(), window.Count, window.Sum, window.Avg)
	distinct := func(of, what window.Kind) {
		all = append(all, window.Feature{
			Entity: window.Entity{First: of}, Name: what.String() + "s_1d",
			Aggregate: window.Distinct, Field: field(what.String()), Length: day,
		})
	}
	distinct(window.Payer, window.Payee)
	distinct(window.Card, window.Device)
	distinct(window.Device, window.Card)
	distinct(window.IP, window.Payer)
	for _, k := range []window.Kind{window.Payer, window.Card} {
		for _, w := range referenceWindows() {
			for _, a := range []window.Aggregate{window.Min, window.Max} {
				all = append(all, window.Feature{Entity: window.Entity{First: k}, Name: a.String() + "_" + w.String(), Aggregate: a, Length: w})
			}
		}
	}
	return all
}

// longWindows hold every event of a measurement: those of the question memory.
func longWindows() []time.Duration { return []time.Duration{day, 7 * day, 30 * day} }

// shortWindows are those of the questions core, restart and peer.
func shortWindows() []time.Duration {
	return []time.Duration{time.Minute, 10 * time.Minute, time.Hour}
}

// countsAndSums is five entities × some windows × count and sum.
func countsAndSums(windows []time.Duration) []window.Feature {
	return aggregated(windows, window.Count, window.Sum)
}

// field returns a field by its name, which is one of the package's own.
func field(name string) *window.Field {
	for _, f := range window.Fields() {
		if f.Name == name {
			return &f
		}
	}
	return nil
}
