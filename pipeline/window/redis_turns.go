package window

import (
	"context"
	"fmt"
	"sync"
)

// turns combines the calls of lanes that come at the same time. While one turn is
// under way others gather, and go together in the next one. So the more lanes
// there are, the larger are the pipelines, and nobody waits for a timer.
//
// Turns have a goroutine of their own, as long as calls come, so that every
// caller can stop waiting when its time is over, whatever the servers do.
type turns struct {
	mu      sync.Mutex
	waiting []*call
	running bool
}

// call is the items of one lane.
type call struct {
	items []*Item
	view  bool          // fill in what they find, not only note them
	done  chan struct{} // closed when err is set
	err   error

	// Guarded by the lock of the store. Who has stopped waiting owns its items
	// again: the turn goes on with substitutes.
	gone bool
	from int // of the round, the first item; -1: the call is not in it
}

// maxTurn is how many items go together at the most, of several calls.
const maxTurn = 8192

// take waits until the items of a call were part of a turn, or its time is over.
// Then leave is called, where the call may be under way.
func (t *turns) take(ctx context.Context, c *call, turn func([]*call), leave func(*call)) error {
	if len(c.items) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	c.done, c.from = make(chan struct{}), -1
	t.mu.Lock()
	t.waiting = append(t.waiting, c)
	if !t.running {
		t.running = true
		go t.run(turn)
	}
	t.mu.Unlock()
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
	}
	leave(c)
	select {
	case <-c.done: // meanwhile
		return c.err
	default:
	}
	return overdue(ctx)
}

// overdue is the error of a call whose time is over before the store has answered.
func overdue(ctx context.Context) error {
	if err := ctx.Err(); err != context.DeadlineExceeded {
		return err
	}
	return fmt.Errorf("%w: no answer in time: %w", ErrAway, context.DeadlineExceeded)
}

// run takes turns until no call waits.
func (t *turns) run(turn func([]*call)) {
	for {
		t.mu.Lock()
		n, items := 0, 0
		for n < len(t.waiting) && (n == 0 || items+len(t.waiting[n].items) <= maxTurn) {
			items += len(t.waiting[n].items)
			n++
		}
		together := append([]*call(nil), t.waiting[:n]...)
		t.waiting = append(t.waiting[:0], t.waiting[n:]...)
		t.running = n > 0
		t.mu.Unlock()
		if n == 0 {
			return
		}
		turn(together)
		for _, c := range together {
			close(c.done)
		}
	}
}
