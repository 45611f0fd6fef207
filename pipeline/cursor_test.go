package pipeline

import "testing"

// What was answered is committed when the journal is durable as far as that, and
// not before; then once.
func TestNothingIsCommittedBeforeItIsDurable(t *testing.T) {
	c := newCursor(100, 7)
	if at, ok := c.ready(50); ok {
		t.Errorf("%+v is to be committed before anything was answered", at)
	}
	c.settled(110, 17, 60)
	c.settled(120, -1, 70) // published nothing
	c.settled(130, 30, 80)
	for _, step := range []struct {
		durable         uint64
		next, decisions int64
		ok              bool
	}{
		{59, 100, 7, false},
		{60, 110, 17, true},
		{75, 120, 17, true},
		{75, 120, 17, false},
		{79, 120, 17, false},
		{100, 130, 30, true},
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

// A commit says how far the journal knows the decisions; another journal, the
// same one put back to an earlier state, or anything that is no such commit,
// knows none of them.
func TestLedgerIsReadFromTheBeginningForAnotherJournal(t *testing.T) {
	at := settlement{next: 50, decisions: 42, ordinal: 100}
	own, other := metadata("journal-a", at), metadata("journal-b", at)
	for _, c := range []struct {
		meta    string
		written uint64
		want    int64
		ours    bool
	}{
		{own, 100, 42, true}, {own, 5000, 42, true}, {own, 99, 0, false}, {other, 5000, 0, false},
		{"", 100, 0, false}, {"2 journal-a 42 100", 100, 0, false}, {"1 journal-a 42", 100, 0, false}, {"1 journal-a x 1", 100, 0, false}, {"1 journal-a -5 1", 100, 0, false},
	} {
		if got, ours := decisionsFrom(c.meta, "journal-a", c.written); got != c.want || ours != c.ours {
			t.Errorf("%q with %d written: read from %d (ours %v), want %d (%v)", c.meta, c.written, got, ours, c.want, c.ours)
		}
	}
}
