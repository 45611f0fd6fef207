package window

import (
	"context"
	"sync"
)

// turns combines the calls of lanes that come at the same time: one of them
// leads, and takes along all that wait. Meanwhile others gather, and the first of
// these leads next. So the more lanes there are, the larger are the pipelines,
// and nobody waits for a timer.
type turns struct {
	mu      sync.Mutex
	waiting []*call
	led     bool // somebody leads, or is told to
}

// call is the items of one lane.
type call struct {
	items []*Item
	view  bool // fill in what they find, not only note them
	lead  chan bool
	err   error
}

// maxTurn is how many items go together at the most, of several calls.
const maxTurn = 8192

// take waits until the items of a call were part of a turn, or leads one.
func (t *turns) take(ctx context.Context, c *call, turn func(context.Context, []*call)) error {
	if len(c.items) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	c.lead = make(chan bool, 1)
	t.mu.Lock()
	t.waiting = append(t.waiting, c)
	lead := !t.led
	t.led = true
	t.mu.Unlock()
	if !lead && !<-c.lead {
		return c.err
	}
	t.mu.Lock()
	n, items := 0, 0
	for n < len(t.waiting) && (n == 0 || items+len(t.waiting[n].items) <= maxTurn) {
		items += len(t.waiting[n].items)
		n++
	}
	together := append([]*call(nil), t.waiting[:n]...) // c is the first: it leads
	t.waiting = append(t.waiting[:0], t.waiting[n:]...)
	t.mu.Unlock()

	turn(context.WithoutCancel(ctx), together) // others' items do not end with this caller's patience

	t.mu.Lock()
	if t.led = len(t.waiting) > 0; t.led {
		t.waiting[0].lead <- true
	}
	t.mu.Unlock()
	for _, other := range together[1:] {
		other.lead <- false
	}
	return c.err
}
