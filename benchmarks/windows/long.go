package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
)

// measureLong feeds one stream to a store of long windows and to one of short ones.
func measureLong(ctx context.Context, o *options) (t table, err error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const (
		long     = 30 * day
		short    = time.Minute
		inWindow = 1_000_000 // transactions in the long window
		pause    = long / inWindow
	)
	var arms []*arm
	var open subjects
	defer func() { err = errors.Join(err, open.close()) }()
	for _, w := range []time.Duration{long, short} {
		s, err := openSubject(o, false, countsAndSums([]time.Duration{w}), newStream(o.seed, o.people, pause))
		if err != nil {
			return t, err
		}
		open = append(open, s)
		// Until its events leave the store too, which is after what it keeps for late ones.
		if err := s.warm(ctx, inWindow+int((kept+day)/pause)); err != nil {
			return t, err
		}
		name := "1 minute"
		if w == long {
			name = "30 days"
		}
		arms = append(arms, &arm{name: name, run: s.run})
	}
	if err := interleave(ctx, arms, o.rounds, o.measure); err != nil {
		return t, err
	}
	t = costs(arms)
	t.Setting = fmt.Sprintf("5 entities × 1 window × count and sum, in memory; %d people; event time advances %v a transaction, so that the long window holds %d and both are left as fast as they are entered; one core; %d × %d transactions",
		o.people, pause.Truncate(time.Millisecond), inWindow, o.rounds, o.measure)
	t.Ratios = []ratio{{
		Name: "CPU of 30 days / 1 minute", Value: medianOf(arms[0].rounds, cpuMicros) / medianOf(arms[1].rounds, cpuMicros), Goal: "1.1 or less",
	}}
	return t, nil
}
