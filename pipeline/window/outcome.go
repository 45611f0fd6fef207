package window

import "github.com/sluice-risk/sluice/pipeline/payment"

// The outcomes of an entity's events stand in a ring of their own, by their
// event time. Those up to the moment of the fold are known: the standing of an
// event is what the last of its known outcomes made of it. Each outcome keeps
// the standing from before it, so that the fold can seek back.

// applyOutcome takes an outcome from the log. One about an event that is no
// longer there, and one that was there before, change nothing.
func (f *folder) applyOutcome(n uint32, e entry) bool {
	if len(f.byStatus) == 0 {
		return false
	}
	fd := f.foldOf(n)
	event, ok := f.findTx(fd, e.txTime(), e.tx())
	if !ok {
		return false
	}
	number := fd.events.at(f.ringsOf(fd), event).number()
	identity := int64(e.identity().Lo)
	for i := fd.outcomes.after(f.ringsOf(fd), e.time()-1); i < fd.outcomes.end(); i++ {
		o := fd.outcomes.at(f.ringsOf(fd), i)
		if o.time != e.time() {
			break
		}
		if o.amount == identity && o.number() == number {
			return false
		}
	}
	at := fd.outcomes.insert(f.ringsOf(fd), elem{time: e.time(), amount: identity, ref: number | uint64(e.outcome())<<outcomeKindShift})
	f.h.retain(number)
	if e.time() > fd.at {
		return true
	}
	fd.applied++
	f.settle(n, fd, event, at)
	return true
}

// settle lets an outcome that came late take its place among the known ones of
// its event: they follow each other again, and the event is what the last made of it.
func (f *folder) settle(n uint32, fd *fold, event, at uint64) {
	o := fd.outcomes.at(f.ringsOf(fd), at)
	now := fd.events.at(f.ringsOf(fd), event).standing()
	before, later := now, false
	for i := at + 1; i < fd.applied; i++ {
		if next := fd.outcomes.at(f.ringsOf(fd), i); next.number() == o.number() {
			before, later = next.before(), true
			break
		}
	}
	o.setBefore(before)
	standing := before.after(o.kind())
	if later {
		for i := at + 1; i < fd.applied; i++ {
			if next := fd.outcomes.at(f.ringsOf(fd), i); next.number() == o.number() {
				next.setBefore(standing)
				standing = standing.after(next.kind())
			}
		}
	}
	if standing != now {
		f.change(n, event, f.byStatus, func(el *elem) { el.setStanding(standing) })
	}
}

// seekOutcomes makes outcomes known up to t, or unknown after it.
func (f *folder) seekOutcomes(n uint32, fd *fold, t payment.Time) {
	for fd.applied < fd.outcomes.end() {
		o := fd.outcomes.at(f.ringsOf(fd), fd.applied)
		if o.time > t {
			break
		}
		fd.applied++
		if at, ok := f.findNumber(fd, o.number()); ok {
			before := fd.events.at(f.ringsOf(fd), at).standing()
			o.setBefore(before)
			f.change(n, at, f.byStatus, func(el *elem) { el.setStanding(before.after(o.kind())) })
		}
	}
	for fd.applied > fd.outcomes.first {
		o := fd.outcomes.at(f.ringsOf(fd), fd.applied-1)
		if o.time <= t {
			break
		}
		fd.applied--
		if at, ok := f.findNumber(fd, o.number()); ok {
			f.change(n, at, f.byStatus, func(el *elem) { el.setStanding(o.before()) })
		}
	}
}
