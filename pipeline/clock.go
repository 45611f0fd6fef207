package pipeline

import (
	"slices"
	"sync"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// A member's clock is the one thing that deadlines rest on and that nobody else
// checks. One that is set while we run (by hand, by a virtual machine that slept,
// by a time service that has just come up) would make every payment late, or
// refuse it as one of the future. So the clock that lanes read is the machine's
// as it was at the start, carried on by its monotonic part, and steps of the
// machine's clock are not followed. Nor are they ignored for ever: the records
// that come while a lane has read all there is were written a moment ago, and
// the middle one of their timestamps says which of the two clocks is right.
//
// A clock that is behind from the start is found the same way: records that were
// just written come from its future. One that is ahead from the start looks like
// records that are late, and cannot be told from a backlog.
type clock struct {
	machine func() reading

	mu      sync.Mutex
	base    reading         // the last one
	offset  time.Duration   // of our time to the machine's
	seen    []time.Duration // of the latest fresh records: their timestamps beside our time
	stepped bool            // the machine's clock was set, and no records have told yet whether rightly
	steps   int64
}

// reading is what the machine's two clocks say at one moment.
type reading struct {
	wall      time.Time
	monotonic time.Duration
}

const (
	clockStep    = time.Second // a difference between the two that is no drift
	clockWitness = 33          // fresh records that are asked
	clockBehind  = 30 * time.Second
)

// newClock returns a clock that begins with the machine's.
func newClock(machine func() reading) *clock { return &clock{machine: machine, base: machine()} }

// machineClock reads the clocks of this machine.
func machineClock() func() reading {
	start := time.Now()
	return func() reading {
		now := time.Now()
		return reading{now.Round(0), now.Sub(start)}
	}
}

// now is the time that lanes go by.
func (c *clock) now() payment.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return payment.TimeOf(c.steady())
}

// steady follows the machine's clock as long as that goes as its monotonic part
// does, and takes out what was set.
func (c *clock) steady() time.Time {
	r := c.machine()
	if step := r.wall.Sub(c.base.wall) - (r.monotonic - c.base.monotonic); step.Abs() > clockStep {
		c.offset -= step
		c.stepped, c.seen = true, c.seen[:0]
		c.steps++
	}
	c.base = r
	return r.wall.Add(c.offset)
}

// fresh tells the clock of a record that was written a moment ago.
func (c *clock) fresh(timestamp payment.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, time.Duration(timestamp-payment.TimeOf(c.steady())))
	if len(c.seen) < clockWitness {
		return
	}
	slices.Sort(c.seen)
	off := c.seen[len(c.seen)/2] // of the records, to our time; off+offset is it to the machine's
	c.seen = c.seen[:0]
	switch {
	case c.stepped && off.Abs() > clockStep && (off+c.offset).Abs() < off.Abs():
		c.offset = 0 // it was right to be set
	case off > clockBehind:
		c.offset += off // records do not come from the future: we are behind
	}
	c.stepped = false
}

// skew is how far our time is ahead of the machine's clock, and how often that
// was set while we ran.
func (c *clock) skew() (time.Duration, int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offset, c.steps
}
