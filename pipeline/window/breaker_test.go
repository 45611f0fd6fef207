package window

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// While a store is away it is tried less and less often, from 50 ms up to a second,
// never twice at the same distance, and not at all once it is closed.
func TestAStoreThatIsAwayIsTriedLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tried []time.Time
		b := newBreaker(func(context.Context) error {
			tried = append(tried, time.Now())
			return errors.New("still away")
		}, nil)
		if err := b.check(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		b.open(errors.New("no answer"))
		time.Sleep(10 * time.Second)
		b.end()
		n := len(tried)
		time.Sleep(10 * time.Second)
		if len(tried) != n {
			t.Error("it is tried after it was closed")
		}
		if n < 10 || n > 25 {
			t.Errorf("it was tried %d times in ten seconds", n)
		}
		var pauses []time.Duration
		for i, at := range tried {
			pause := at.Sub(began)
			if longest := min(shortestPause<<i, longestPause); pause < longest/2 || pause > longest {
				t.Errorf("pause %d is %v; it should be between %v and %v", i, pause, longest/2, longest)
			}
			pauses, began = append(pauses, pause), at
		}
		slices.Sort(pauses)
		if len(slices.Compact(pauses)) < n/2 {
			t.Errorf("there is no jitter in %v", pauses)
		}
		if h := b.state(); !h.Away || h.Opened != 1 || h.Err == nil || h.Err.Error() != "still away" {
			t.Errorf("its health is %+v", h)
		}
		if err := b.check(); !errors.Is(err, ErrAway) {
			t.Errorf("a call is told %v", err)
		}
	})
}

// Who waits for a store is woken when it is back, and everybody is told of each
// change in its order.
func TestWhoWaitsForAStoreIsWokenWhenItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		back := time.Now().Add(3 * time.Second)
		var told []bool
		b := newBreaker(func(context.Context) error {
			if time.Now().Before(back) {
				return errors.New("still away")
			}
			return nil
		}, func(h Health) { told = append(told, h.Away) })
		defer b.end()
		<-b.whenBack() // at once
		b.open(errors.New("no answer"))
		b.open(errors.New("no answer")) // of another call
		<-b.whenBack()
		if late := time.Since(back); late < 0 || late > longestPause {
			t.Errorf("it was woken %v after the store was back", late)
		}
		synctest.Wait()
		if !slices.Equal(told, []bool{true, false}) {
			t.Errorf("it was told %v", told)
		}
		if h := b.state(); h.Away || h.Opened != 1 || h.Err != nil {
			t.Errorf("its health is %+v", h)
		}
		// It goes away again at once: the pauses go on where they were.
		b.open(errors.New("no answer"))
		again := time.Now()
		<-b.whenBack()
		if pause := time.Since(again); pause < longestPause/2 {
			t.Errorf("a store that comes and goes is tried after %v", pause)
		}
		time.Sleep(2 * longestPause)
		b.open(errors.New("no answer"))
		again = time.Now()
		<-b.whenBack()
		if pause := time.Since(again); pause > shortestPause {
			t.Errorf("a store that was back for long is tried after %v", pause)
		}
	})
}
