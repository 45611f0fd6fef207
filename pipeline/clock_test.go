package pipeline

import (
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// A world has a true time, and a machine in it whose clock is off by something.
type world struct {
	true  time.Time
	start time.Time
	off   time.Duration // of the machine's clock
	c     *clock
}

func newWorld(off time.Duration) *world {
	w := &world{true: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC), off: off}
	w.start = w.true
	w.c = newClock(func() reading { return reading{w.true.Add(w.off), w.true.Sub(w.start)} })
	return w
}

// pass lets time pass, in which records come that were written 5 ms before.
func (w *world) pass(d time.Duration, records int) {
	for range records {
		w.true = w.true.Add(d / time.Duration(records))
		w.c.fresh(payment.TimeOf(w.true.Add(-5 * time.Millisecond)))
	}
	if records == 0 {
		w.true = w.true.Add(d)
	}
}

// wrong is how far the clock of the gate is from the true time.
func (w *world) wrong() time.Duration { return time.Duration(w.c.now() - payment.TimeOf(w.true)) }

func TestAStepOfTheMachinesClockMovesNoDeadline(t *testing.T) {
	for _, step := range []time.Duration{time.Hour, -time.Hour, 3 * time.Second, -400 * 24 * time.Hour} {
		w := newWorld(0)
		w.pass(time.Second, 10)
		w.off = step // somebody sets it
		if got := w.wrong(); got != 0 {
			t.Errorf("set by %v: the gate's clock is wrong by %v", step, got)
		}
		w.pass(time.Minute, 200)
		if got := w.wrong(); got != 0 {
			t.Errorf("set by %v: after a minute the gate's clock is wrong by %v", step, got)
		}
		if skew, steps := w.c.skew(); skew != -step || steps != 1 {
			t.Errorf("set by %v: says a skew of %v and %d steps", step, skew, steps)
		}
	}
}

func TestAStepToTheRightTimeIsFollowedWhenRecordsConfirmIt(t *testing.T) {
	for _, was := range []time.Duration{-10 * time.Minute, 10 * time.Minute} {
		w := newWorld(was)
		w.pass(time.Second, 10)
		w.off = 0 // the time service has come up, or a sleeping machine has noticed
		w.c.now()
		w.pass(time.Minute, 200)
		if got := w.wrong(); got.Abs() > clockStep {
			t.Errorf("was wrong by %v: after it was set right the gate's clock is wrong by %v", was, got)
		}
	}
}

func TestAClockThatIsBehindFromTheStartIsFound(t *testing.T) {
	w := newWorld(-10 * time.Minute)
	w.pass(time.Minute, 200)
	if got := w.wrong(); got.Abs() > clockStep {
		t.Errorf("the gate's clock is wrong by %v", got)
	}
}

func TestOneProducerWithABadClockMovesNothing(t *testing.T) {
	w := newWorld(0)
	for i := range 1000 {
		w.true = w.true.Add(10 * time.Millisecond)
		at := w.true
		if i%3 == 0 {
			at = at.Add(240 * time.Hour)
		}
		w.c.fresh(payment.TimeOf(at))
	}
	if got := w.wrong(); got != 0 {
		t.Errorf("the gate's clock is wrong by %v", got)
	}
}

// What is slewed is followed: a clock that is corrected little by little is right.
func TestASlewedClockIsFollowed(t *testing.T) {
	w := newWorld(5 * time.Second)
	for w.off > 0 {
		w.off -= 500 * time.Microsecond
		w.true = w.true.Add(time.Second)
		w.c.now()
	}
	if got := w.wrong(); got != 0 {
		t.Errorf("the gate's clock is wrong by %v", got)
	}
}
