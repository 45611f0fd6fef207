package pipeline

import (
	"math/rand/v2"
	"testing"
	"time"
)

// What was answered and folded is committed when the journal is durable as far as
// that, and not before; then once.
func TestNothingIsCommittedBeforeItIsDurable(t *testing.T) {
	c := newCursor(100, 7)
	if at, ok := c.ready(50); ok {
		t.Errorf("%+v is to be committed before anything was answered", at)
	}
	for _, s := range []struct {
		next, decisions int64
		ordinal         uint64
	}{{110, 7, 60}, {120, 17, 70}, {130, 27, 80}} {
		c.settle(c.begin(s.next, s.decisions), false, true, s.ordinal)
	}
	c.begin(140, 37) // in flight
	for _, step := range []struct {
		durable         uint64
		next, decisions int64
		ok              bool
	}{
		{59, 100, 7, false},
		{60, 110, 17, true},
		{75, 110, 17, false}, // its neighbours have been joined
		{80, 130, 37, true},
		{80, 130, 37, false},
		{100, 130, 37, false},
	} {
		at, ok := c.ready(step.durable)
		if ok != step.ok || at.next != step.next || at.decisions != step.decisions {
			t.Errorf("durable up to %d: %+v, %v; want %+v", step.durable, at, ok, step)
		}
		if ok {
			c.committedTo(at.next)
		}
	}
}

// Whatever the front leaves, in whatever order front and folder work, also at
// the same time: the committed offset never passes a record that is not folded, the folder gets
// every record that was left once, and in the end all are committed.
func TestCommittedNeverPassesWhatIsNotFolded(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 5))
		const records = 400
		c := newCursor(0, 0)
		done := make([]bool, records)     // folded by somebody
		answered := make([]bool, records) //
		fronted := 0                      // how often the folder folds
		var open []span
		var taken *span // by the folder
		next := int64(0)
		for step := 0; c.durable.next < records; step++ {
			if step > 100_000 {
				t.Fatalf("seed %d: it does not end: %+v", seed, c.spans)
			}
			if at, ok := c.unfolded(); ok && taken == nil {
				taken = &at
			}
			switch {
			case next < records && len(open) < 8 && rng.IntN(3) == 0:
				from := next
				next = min(records, next+1+rng.Int64N(20))
				open = append(open, c.begin(next, from))
			case len(open) > 0 && rng.IntN(2) == 0:
				i := rng.IntN(len(open))
				s := open[i]
				open = append(open[:i], open[i+1:]...)
				deferred, all := rng.IntN(3) == 0, rng.IntN(2) == 0
				for r := s.from; r < s.next; r++ {
					done[r], answered[r] = !deferred, all || !deferred
				}
				c.settle(s, deferred, all, uint64(s.next))
			case taken != nil:
				at := *taken
				taken = nil
				to := at.from + 1 + rng.Int64N(at.next-at.from)
				for r := at.from; r < to; r++ {
					if done[r] || answered[r] != at.answered {
						t.Fatalf("seed %d: record %d is given to the folder as %+v; folded %v, answered %v", seed, r, at, done[r], answered[r])
					}
					if at.answered {
						done[r] = true
						fronted++
					}
					answered[r] = true
				}
				if at.answered {
					c.foldedTo(at, to, uint64(to))
				} else {
					c.answeredTo(at, to)
				}
			}
			if s, ok := c.ready(records); ok {
				for r := c.committed; r < s.next; r++ {
					if !done[r] {
						t.Fatalf("seed %d: %d is to be committed, and %d is not folded", seed, s.next, r)
					}
				}
				if s.decisions > s.next {
					t.Fatalf("seed %d: decisions of records from %d on are looked for from %d on", seed, s.next, s.decisions)
				}
				c.committedTo(s.next)
			}
		}
		if fronted == 0 {
			t.Errorf("seed %d: nothing was left to the folder", seed)
		}
	}
}

// The folder takes records in their order, also where the front is still at those
// before: its partition is as far as what it has folded.
func TestTheFolderWaitsForWhatIsInFlightBefore(t *testing.T) {
	c := newCursor(0, 0)
	first, second := c.begin(10, 0), c.begin(20, 0)
	c.settle(second, true, true, 1)
	if s, ok := c.unfolded(); ok || c.whole() {
		t.Fatalf("%+v is folded before what stands before it; whole: %v", s, c.whole())
	}
	c.settle(first, true, true, 1)
	if s, ok := c.unfolded(); !ok || s.from != 0 || s.next != 20 {
		t.Fatalf("left to the folder: %+v, %v", s, ok)
	}
}

// What has no answer gets it before anything is folded, however much is to be folded
// in front of it.
func TestWhatHasNoAnswerDoesNotWaitForABacklog(t *testing.T) {
	c := newCursor(0, 0)
	settle := func(next int64, answered bool) { c.settle(c.begin(next, 0), true, answered, 0) }
	settle(1000, true)
	settle(1010, false)
	settle(2000, true)
	flying := c.begin(2010, 0)
	settle(2020, false)
	for _, want := range []span{{from: 1000, next: 1010}, {from: 2010, next: 2020}} {
		s, ok := c.unanswered()
		if !ok || s.from != want.from || s.next != want.next {
			t.Fatalf("to be answered next is %+v, %v, want %+v", s, ok, want)
		}
		c.answeredTo(s, s.from+4)
		if s, ok = c.unanswered(); !ok || s.from != want.from+4 {
			t.Fatalf("after four of them it is %+v, %v", s, ok)
		}
		c.answeredTo(s, s.next)
	}
	if s, ok := c.unanswered(); ok {
		t.Errorf("%+v is to be answered, and all is", s)
	}
	if s, ok := c.unfolded(); !ok || s.from != 0 || s.next != 2000 || !s.answered {
		t.Errorf("to be folded is %+v, %v", s, ok)
	}
	c.settle(flying, false, true, 0)
	if at, _ := c.ready(100); at.next != 0 {
		t.Errorf("%d is to be committed, and nothing is folded", at.next)
	}
}

// When a store has lost something, what was committed is folded once more, and
// the offset goes back.
func TestWhatAStoreHasLostIsFoldedAgain(t *testing.T) {
	c := newCursor(100, 7)
	c.settle(c.begin(110, 7), false, true, 60)
	if _, ok := c.ready(60); !ok {
		t.Fatal("nothing to commit")
	}
	c.committedTo(110)
	c.settle(c.begin(120, 17), false, true, 70)
	c.begin(130, 27)
	c.reopen(50, 3)
	if at, ok := c.ready(100); !ok || at.next != 50 || at.decisions != 3 {
		t.Fatalf("%+v (%v) is to be committed, want 50 with decisions from 3 on", at, ok)
	}
	c.committedTo(50)
	s, ok := c.unfolded()
	if !ok || s.from != 50 || s.next != 120 || !s.answered {
		t.Fatalf("the folder gets %+v", s)
	}
	c.foldedTo(s, 120, 80)
	if at, ok := c.ready(100); !ok || at.next != 120 || at.decisions != 27 {
		t.Fatalf("%+v (%v) is to be committed, want 120", at, ok)
	}
}

// A commit says how far the journal knows the decisions; another journal, the
// same one put back to an earlier state, or anything that is no such commit,
// knows none of them.
func TestLedgerIsReadFromTheBeginningForAnotherJournal(t *testing.T) {
	at, safe := settlement{next: 50, decisions: 42, ordinal: 100}, milestone{next: 30, decisions: 28}
	own, other := metadata("journal-a", "run-1", at, 12, safe), metadata("journal-b", "run-1", at, 12, safe)
	known := commitNote{42, true, "run-1", 12, safe}
	for _, c := range []struct {
		meta    string
		written uint64
		want    commitNote
	}{
		{own, 100, known}, {own, 5000, known}, {own, 99, commitNote{}}, {other, 5000, commitNote{}},
		{"", 100, commitNote{}}, {"1 journal-a 42 100", 100, commitNote{}}, {"3 journal-a 42 100 run-1 5 0", 100, commitNote{}},
		{"4 journal-a x 1 run-1 5 0 0", 100, commitNote{}}, {"4 journal-a -5 1 run-1 5 0 0", 100, commitNote{}}, {"4 journal-a 5 1 run-1 5 0 x", 100, commitNote{}},
	} {
		if got := readMetadata(c.meta, "journal-a", c.written); got != c.want {
			t.Errorf("%q with %d written: %+v, want %+v", c.meta, c.written, got, c.want)
		}
	}
}

// What the front had begun, and the folder, when a store lost something may be
// among it: both is folded once more.
func TestWhatWasUnderWayWhenAStoreLostSomethingIsFoldedAgain(t *testing.T) {
	c := newCursor(100, 7)
	c.settle(c.begin(110, 7), true, true, 60)
	byFolder, _ := c.unfolded()
	byFront := c.begin(120, 17)
	c.reopen(100, 7)
	c.foldedTo(byFolder, 110, 70)
	c.settle(byFront, false, true, 80)
	if s, ok := c.unfolded(); !ok || s.from != 100 || s.next != 120 {
		t.Fatalf("%+v is left to the folder, want 100 to 120", s)
	} else {
		c.foldedTo(s, 120, 90)
	}
	if at, ok := c.ready(90); !ok || at.next != 120 {
		t.Errorf("%+v (%v) is to be committed, want 120", at, ok)
	}
}

// What a store has acknowledged since a time belongs to records behind the place
// where the cursor was then, however old they are; before a lane began, its earlier
// owner says where that was.
func TestACursorKnowsWhereItWas(t *testing.T) {
	c := newCursor(100, 7)
	c.inherit(milestone{next: 40, decisions: 3})
	began := time.Now()
	at := func(n int) time.Time { return began.Add(time.Duration(n) * time.Second) }
	for n := range 1000 {
		c.durable.next, c.durable.decisions = int64(101+n), int64(8+n)
		c.pass(at(n))
		c.pass(at(n)) // nothing has moved
	}
	for _, want := range []struct {
		asked           int
		next, decisions int64
	}{{-1, 845, 752}, {744, 845, 752}, {745, 846, 753}, {999, 1100, 1007}, {5000, 1100, 1007}} {
		if m := c.asOf(at(want.asked)); m.next != want.next || m.decisions != want.decisions {
			t.Errorf("as of second %d it was at %d with decisions from %d on, want %d and %d", want.asked, m.next, m.decisions, want.next, want.decisions)
		}
	}
	c = newCursor(100, 7)
	c.inherit(milestone{next: 40, decisions: 3})
	c.durable.next, c.durable.decisions = 150, 60
	c.pass(at(10))
	if m := c.asOf(at(9)); m.next != 40 || m.decisions != 3 {
		t.Errorf("before it moved it was at %+v, want what its earlier owner said", m)
	}
	c.reopen(40, 3)
	if m := c.asOf(at(10)); m.next != 40 || m.decisions != 3 {
		t.Errorf("set back, it is at %+v", m)
	}
}

// A lane that is to be set back commits nothing beyond, also before it is.
func TestNothingIsCommittedBeyondWhereACursorIsSetBack(t *testing.T) {
	c := newCursor(100, 0)
	c.settle(c.begin(120, 0), false, true, 1)
	c.holdAt(50)
	if at, ok := c.ready(1); !ok || at.next != 50 {
		t.Errorf("%d is committed (%v), want 50", at.next, ok)
	}
	c.restart(50)
	c.settle(c.begin(130, 0), false, true, 2)
	if at, ok := c.ready(2); !ok || at.next != 130 {
		t.Errorf("%d is committed (%v), want 130", at.next, ok)
	}
}
