package rules

import (
	"context"
	"time"
)

// WatchTimes say how a folder is watched.
type WatchTimes struct {
	Poll   time.Duration // between two looks at the folder
	Quiet  time.Duration // so long nothing must have changed before a change is told
	AtMost time.Duration // a folder that is never quiet so long is told of after this time
}

// readEvery is how often contents are compared although no look shows a change: a
// file system whose times are coarse, or a tool that sets them back, can hide one.
const readEvery = time.Minute

// Watcher tells when the files of a ruleset's folder have changed and come to
// rest.
//
// It looks at names, sizes, times and identities of the files now and then, and
// reads them only where these have changed. So it works alike for editors that
// write in place or rename, for links that are swapped, for a folder that is
// deleted and made again, and on network and overlay file systems, which tell
// nobody of changes. A look costs some microseconds a file. Events of the file
// system would say it a second earlier, on some of them, and the folder must be
// quiet for as long anyway.
type Watcher struct {
	dir   string
	times WatchTimes
	known look     // as it was at first
	told  [32]byte // stands for the contents that were told of last
}

// NewWatcher looks at a folder for the first time. Who loads the folder after
// that misses no change.
func NewWatcher(dir string, times WatchTimes) *Watcher {
	w := &Watcher{dir: dir, times: times, known: lookAt(dir)}
	w.told = w.known.sum()
	return w
}

// Watch calls changed for each change of the folder, one call after the other,
// until ctx ends. Where changed returns false, what it did has to be done again,
// and it is called again after a poll. Only one Watch may run at a time.
func (w *Watcher) Watch(ctx context.Context, changed func(context.Context) (done bool)) {
	timer := time.NewTimer(w.times.Poll)
	defer timer.Stop()
	var due, latest time.Time // when to tell of a change; due is zero while there is none
	for read := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		now := time.Now()
		seen := lookAt(w.dir)
		moved := !seen.same(w.known)
		if !moved && due.IsZero() && now.Sub(read) >= readEvery {
			read, moved = now, seen.sum() != w.told
		}
		if moved {
			w.known = seen
			if due.IsZero() {
				latest = now.Add(w.times.AtMost)
			}
			if due = now.Add(w.times.Quiet); due.After(latest) {
				due = latest
			}
		}
		if !due.IsZero() && !now.Before(due) {
			due, read = time.Time{}, now
			if sum := seen.sum(); sum != w.told {
				w.told = sum
				if !changed(ctx) {
					w.told, due, latest = [32]byte{}, now.Add(w.times.Poll), now.Add(w.times.AtMost)
				}
			}
		}
		next := w.times.Poll
		if !due.IsZero() {
			next = min(next, max(time.Millisecond, w.times.Quiet/4))
		}
		timer.Reset(next)
	}
}
