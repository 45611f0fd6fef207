package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"runtime"
)

// measureMemory weighs a store at two fillings with the same entities, none of
// whose events has expired: the difference is what events cost, the rest is what
// entities cost.
func measureMemory(ctx context.Context, o *options) (t table, err error) {
	dir, remove, err := o.temporary()
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	store, err := o.openEmbedded(dir, countsAndSums(longWindows()))
	if err != nil {
		return t, err
	}
	empty := heap()
	s := newSubject(store, newStream(o.seed, o.people, step), func() error { return nil })
	defer func() { err = errors.Join(err, s.close()) }()
	few, many := 10*o.people, 30*o.people

	weigh := func(n int) (w weight, err error) {
		if err := s.warm(ctx, n-int(s.stream.number)); err != nil {
			return w, err
		}
		s.txs = nil // what makes transactions is not the store's
		w.heap, w.own = heap()-empty, float64(store.Size().FoldBytes)
		w.disk, err = folderBytes(dir)
		return w, err
	}
	a, err := weigh(few)
	if err != nil {
		return t, err
	}
	b, err := weigh(many)
	if err != nil {
		return t, err
	}
	each := float64(len(kinds))
	events, more := float64(many)*each, float64(many-few)*each
	perEvent := weight{(b.heap - a.heap) / more, (b.own - a.own) / more, (b.disk - a.disk) / more}
	perEntity := func(all, event float64) float64 { return (all - event*events) / s.stream.entities() }
	t = table{
		Setting: fmt.Sprintf("5 entities × 1d, 7d, 30d × count and sum; %d people, %.0f entities; %d and %d transactions with their verdicts, 5 events each, none expired; all bytes but those of the store while it was empty",
			o.people, s.stream.entities(), few, many),
		Columns: []string{"heap", "of it folds", "on disk"},
		Rows: []row{
			{"bytes of one more event and entity", []float64{perEvent.heap, perEvent.own, perEvent.disk}},
			{"bytes of one more transaction", []float64{perEvent.heap * each, perEvent.own * each, perEvent.disk * each}},
			{"bytes of an entity beside its events", []float64{perEntity(b.heap, perEvent.heap), perEntity(b.own, perEvent.own), math.NaN()}},
			{"bytes in all, for each event and entity", []float64{b.heap / events, b.own / events, b.disk / events}},
		},
		Ratios: []ratio{{Name: "heap bytes of one more event and entity", Value: perEvent.heap, Goal: "24 or less"}},
	}
	return t, nil
}

// weight is bytes.
type weight struct{ heap, own, disk float64 }

// heap is how many bytes of the heap are in use once the garbage is gone.
func heap() float64 {
	runtime.GC()
	runtime.GC() // what finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// folderBytes is the size of all files below a folder.
func folderBytes(dir string) (sum float64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // replaced meanwhile
		}
		if err == nil {
			sum += float64(info.Size())
		}
		return err
	})
	return sum, err
}
