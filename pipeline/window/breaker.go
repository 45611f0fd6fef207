package window

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// A breaker keeps a store that is away from being asked by every call. The first
// failure that says "away" opens it; while it is open, calls fail at once. One
// goroutine, which lives only that long, then tries the store with a probe of its
// own, less and less often, and closes it when one succeeds. So a failure that was
// none costs the payments of some fifty milliseconds their exact values, and no
// failure costs more than one call its time.
//
// A probe has to exercise what the calls need: one that is easier closes the
// breaker too early. The pause before the next one therefore starts from the
// shortest only where the store was back for at least the longest.
type breaker struct {
	probe func(context.Context) error // one attempt; bounded in time by itself
	told  func(Health)                // of each change, in order; may be nil
	ctx   context.Context             // ends with the store
	stop  context.CancelFunc
	work  sync.WaitGroup

	mu      sync.Mutex // guards what follows; never held while anything is waited for
	health  Health
	back    chan struct{} // closed while the store is not away
	pause   time.Duration // before the next probe
	telling sync.Mutex    // orders the calls of told
}

const (
	shortestPause = 50 * time.Millisecond
	longestPause  = time.Second
)

func newBreaker(probe func(context.Context) error, told func(Health)) *breaker {
	b := &breaker{probe: probe, told: told, pause: shortestPause, back: make(chan struct{})}
	b.ctx, b.stop = context.WithCancel(context.Background())
	close(b.back)
	return b
}

// check returns nil where the store may be asked, else why not; it wraps ErrAway.
func (b *breaker) check() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.health.Away {
		return nil
	}
	return fmt.Errorf("%w since %s: %w", ErrAway, b.health.Since.UTC().Format("15:04:05.000"), b.health.Err)
}

func (b *breaker) state() Health {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.health
}

// whenBack returns a channel that is closed once the store is not away.
func (b *breaker) whenBack() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.back
}

// open is called when the store has not answered, or has answered "not now".
func (b *breaker) open(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.health.Away || b.ctx.Err() != nil {
		return
	}
	now := time.Now()
	if now.Sub(b.health.Since) >= longestPause {
		b.pause = shortestPause
	}
	b.health = Health{Away: true, Since: now, Opened: b.health.Opened + 1, Err: err}
	b.back = make(chan struct{})
	b.work.Go(b.run)
}

// run probes until the store is back, or closed.
func (b *breaker) run() {
	b.tell()
	for {
		b.mu.Lock()
		pause := b.pause/2 + rand.N(b.pause/2+1)
		b.pause = min(2*b.pause, longestPause)
		b.mu.Unlock()
		select {
		case <-b.ctx.Done():
			return
		case <-time.After(pause):
		}
		err := b.probe(b.ctx)
		if b.ctx.Err() != nil {
			return
		}
		if err == nil {
			b.close()
			b.tell()
			return
		}
		b.mu.Lock()
		b.health.Err = err
		b.mu.Unlock()
	}
}

func (b *breaker) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.health = Health{Since: time.Now(), Opened: b.health.Opened}
	close(b.back)
}

// tell says how the store is now. It has no lock that a call needs, so whoever is
// told may call the store.
func (b *breaker) tell() {
	if b.told == nil {
		return
	}
	b.telling.Lock()
	defer b.telling.Unlock()
	b.told(b.state())
}

// end stops probing and returns when nothing does any more. The breaker stays as
// it is, open or closed, and is not opened again.
func (b *breaker) end() {
	b.mu.Lock()
	b.stop()
	b.mu.Unlock()
	b.work.Wait()
}
