package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
)

// measureCore is what the goal of a core is held against.
func measureCore(ctx context.Context, o *options) (t table, err error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var arms []*arm
	var open subjects
	defer func() { err = errors.Join(err, open.close()) }()
	for _, journal := range []bool{true, false} {
		s, err := openSubject(o, journal, countsAndSums(shortWindows()), newStream(o.seed, o.people, step))
		if err != nil {
			return t, err
		}
		open = append(open, s)
		if err := s.warm(ctx, passesLongest); err != nil {
			return t, err
		}
		name := "in memory"
		if journal {
			name = "with the journal"
		}
		arms = append(arms, &arm{name: name, run: s.run})
	}
	if err := interleave(ctx, arms, o.rounds, o.measure); err != nil {
		return t, err
	}
	t = costs(arms)
	t.Setting = fmt.Sprintf("5 entities × 1m, 10m, 1h × count and sum; %d people; event time advances %v a transaction; batches of %d, synced in the background every 20 ms; one core; %d × %d transactions",
		o.people, step, batchSize, o.rounds, o.measure)
	t.Ratios = []ratio{{
		Name: "tx/s of a core, with the journal", Value: medianOf(arms[0].rounds, perCore), Goal: "200000 or more",
	}}
	return t, nil
}

// step is how event time advances where the longest window is an hour, and
// passesLongest how many transactions pass that window and leave it again.
const (
	step          = 20 * time.Millisecond
	passesLongest = int(time.Hour/step) * 5 / 4
)
