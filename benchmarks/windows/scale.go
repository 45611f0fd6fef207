package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
)

// measureScale updates and reads the reference features with more and more keys,
// each number of keys in turns with the first.
func measureScale(ctx context.Context, o *options, journal bool) (t table, err error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	s, err := openScale(ctx, o, o.keys[0], journal)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	first := &arm{name: keysName(o.keys[0]), run: s.run}
	arms := []*arm{first}
	var ratios []ratio
	for _, keys := range o.keys[1:] {
		a, found, err := scalePair(ctx, o, first, keys, journal)
		if err != nil {
			return t, err
		}
		arms, ratios = append(arms, a), append(ratios, found...)
	}
	if len(arms) == 1 {
		if err := interleave(ctx, arms, o.rounds, o.measure); err != nil {
			return t, err
		}
	}
	t = costs(arms)
	t.Ratios = ratios
	t.Setting = fmt.Sprintf("5 entities; count, sum, avg in 1m, 10m, 1h, 6h, 1d and 7d; distinct in 1d of 4 entities; min and max in all windows of 2; "+
		"%d values a transaction; 7 days of event time hold a million transactions, or each key once; one goroutine, one core; %d × %d transactions, in turns with %s",
		len(reference()), o.rounds, o.measure, first.name)
	return t, nil
}

// scalePair measures a number of keys in turns with the first.
func scalePair(ctx context.Context, o *options, first *arm, keys int, journal bool) (a *arm, found []ratio, err error) {
	s, err := openScale(ctx, o, keys, journal)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	a = &arm{name: keysName(keys), run: s.run}
	rounds, loaded := len(first.rounds), s.store.Size().Loaded
	if err := interleave(ctx, []*arm{first, a}, o.rounds, o.measure); err != nil {
		return nil, nil, err
	}
	a.run = nil // the store that it holds will be closed
	size := s.store.Size()
	return a, []ratio{
		{Name: fmt.Sprintf("CPU of %s / %s", a.name, first.name), Value: medianOf(a.rounds, cpuMicros) / medianOf(first.rounds[rounds:], cpuMicros)},
		{Name: fmt.Sprintf("%s: MB of folds", a.name), Value: float64(size.FoldBytes) / 1e6},
		{Name: fmt.Sprintf("%s: folds read again for each transaction", a.name), Value: float64(size.Loaded-loaded) / float64(o.rounds*o.measure)},
	}, nil
}

// openScale opens a store with so many keys that has passed its longest window
// once. That holds every key about once, or a million transactions where there
// are fewer keys.
func openScale(ctx context.Context, o *options, keys int, journal bool) (*subject, error) {
	inWindow := max(keys, 1_000_000)
	s, err := openSubject(o, journal, reference(), newStream(o.seed, keys, 7*day/time.Duration(inWindow)))
	if err != nil {
		return nil, err
	}
	o.say("%d keys: %d transactions to warm up", keys, inWindow+inWindow/5)
	if err := s.warm(ctx, inWindow+inWindow/5); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func keysName(keys int) string { return fmt.Sprintf("%d keys", keys) }

// costs is the table that most questions end with.
func costs(arms []*arm) table {
	t := table{Columns: []string{"µs", "CPU µs", "tx/s", "tx/s of a core", "verdicts CPU µs"}}
	for _, a := range arms {
		t.Rows = append(t.Rows, row{a.name, []float64{
			medianOf(a.rounds, wallMicros), medianOf(a.rounds, cpuMicros), medianOf(a.rounds, perSecond), medianOf(a.rounds, perCore),
			medianOf(a.rounds, settleMicros),
		}})
	}
	return t
}
