package window

import (
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// A fold keeps, for one entity, the ring of its events and for each window two
// cursors into it, lo and hi: the window covers the elems lo to hi-1, and the
// cells of the window hold the aggregate of exactly these, judged as of the
// moment fold.at. Everything here keeps that invariant:
//
//   - apply takes the next entry of the entity's log: an event is put where its
//     time belongs, and into the windows whose cursors surround that place; an
//     outcome or a verdict changes what its event contributes;
//   - seek moves fold.at to another moment, forward or backward: outcomes that
//     become known (or unknown) change what their events contribute, then the
//     cursors move and add or remove what they pass;
//   - change wraps anything that changes an event: take its old contribution
//     out, change it, put the new one in.
//
// So a payment that comes late sees exactly what it would have seen in time, at
// the cost of seeking back as far as it is late. And a fold is a function of the
// entries that were applied and of the moment: it can be lost and made again.

// history finds the entries that rings refer to.
type history interface {
	// entryAt returns the entry of a transaction by its number; nil where the log
	// no longer reaches so far.
	entryAt(number uint64) entry
	// A ring that refers to a number retains it, and releases it in the end.
	retain(number uint64)
	release(number uint64)
}

// fold is what is kept of one entity.
type fold struct {
	events   ring
	outcomes ring // of the events, by event time; only where a cell looks at the status
	at       payment.Time
	applied  uint64       // the outcomes before this index are known as of at
	key      uint64       // of the entity
	log      logEnd       // how much of its log is folded; owned by the store
	used     bool         // since the clock's hand passed (memory.go)
	fresh    bool         // no window was read yet: all cursors and cells are zero
	unsure   bool         // an event was put where a window begins: whether it is in, the next seek says
	page     uint32       // of the folder, in whose zone the rings are
	tiles    uint32       // of the elems of events, the oldest
	tiledTo  payment.Time // the time of the last of them
	from     payment.Time // events up to here have been dropped
}

// logEnd is a place in an entity's log, or what else a store notes of it.
type logEnd struct {
	segment uint32
	offset  uint32
}

// view shows an event, as of the moment of the fold, to those who read it.
func (f *folder) view(el *elem) *Event {
	f.ev.entry = f.h.entryAt(el.number())
	s := el.standing()
	f.ev.status, f.ev.fraud, f.ev.verdict = s.status(), s.fraud(), el.verdict()
	return &f.ev
}

// passes judges an event by a predicate, which may have a bit.
func (f *folder) passes(p Predicate, bit uint64, el *elem) bool {
	if p == nil {
		return true
	}
	if bit != 0 {
		return el.ref&bit != 0
	}
	return p(f.view(el)) == True
}

// counts tells whether an event takes part in a cell.
func (f *folder) counts(c *cell, el *elem) bool {
	if c.ReadsStatus && el.standing().status() == payment.OutcomeTechnicalFailure && f.outages.cover(f.h.entryAt(el.number())) {
		return false
	}
	return f.passes(c.Where, c.whereBit, el)
}

// contribute adds an elem to the words of a cell, or takes it away.
func (f *folder) contribute(w []uint64, c *cell, el *elem, add bool) {
	if el.ref&tileBit != 0 {
		f.contributeTile(w, c, el, add)
		return
	}
	if (c.Where != nil || c.ReadsStatus) && !f.counts(c, el) {
		return
	}
	one := uint64(1)
	if !add {
		one = ^uint64(0) // adds up to minus one
	}
	switch c.Aggregate {
	case Count:
		w[0] += one
		return
	case Share:
		w[0] += one
		if f.passes(c.Condition, c.conditionBit, el) {
			w[1] += one
		}
		return
	case Distinct:
		f.contributeDistinct(w, c, el, add)
		return
	case SinceFirst, Last, SinceLast, SpeedKMH, earlier:
		return
	}
	if el.ref&basedBit == 0 {
		return // no rate: as NULL in SQL, it takes no part
	}
	amount := uint64(el.amount)
	switch c.Aggregate {
	case Min, Max:
		contributeExtreme(w, c.Aggregate, amount, 1, add)
	case StdDev:
		if add {
			addSquare(w[3:], amount)
		} else {
			subSquare(w[3:], amount)
		}
		fallthrough
	case Avg:
		w[2] += one
		fallthrough
	case Sum:
		if add {
			add128(w, amount)
		} else {
			sub128(w, amount)
		}
	}
}

// foldPage is how many entities share a page: large enough to be few, small
// enough that no payment waits for one to be made.
const foldPage = 1024

// foldOf returns the fold of entity n.
func (f *folder) foldOf(n uint32) *fold { return &f.folds[n/foldPage][n%foldPage] }

// words returns the state of entity n.
func (f *folder) words(n uint32) []uint64 {
	from := int(n%foldPage) * f.stateWords
	return f.state[n/foldPage][from : from+f.stateWords]
}

// apply takes the next entry of the log of entity n. An entry that was there
// before changes nothing. It returns the index of the event of a transaction,
// and whether the entry was new.
func (f *folder) apply(n uint32, e entry, number uint64) (at uint64, fresh bool) {
	switch e.kind() {
	case entryTransaction:
		return f.applyTransaction(n, e, number)
	case entryOutcome:
		return 0, f.applyOutcome(n, e)
	case entryVerdict:
		return 0, f.applyVerdict(n, e)
	}
	return 0, false
}

func (f *folder) applyTransaction(n uint32, e entry, number uint64) (at uint64, fresh bool) {
	fd := f.foldOf(n)
	if at, ok := f.findTx(fd, e.time(), e.tx()); ok {
		return at, false
	}
	own := elem{time: e.time(), amount: e.base(), ref: number}
	if e.based() {
		own.ref |= basedBit
	}
	own.ref |= f.judge(&own)
	f.h.retain(number)
	if fd.events.n > 0 { // here, so that what is in the ring is a function of the log
		f.drop(n, f.horizon(fd, e.time()))
	}
	if f.ringsOf(fd).wasted() {
		f.sweep(fd.page)
	}
	return f.insert(n, own), true
}

// judge returns the bits of an event.
func (f *folder) judge(el *elem) (bits uint64) {
	for i := range f.cells {
		c := &f.cells[i]
		if c.whereBit != 0 && c.Where(f.view(el)) == True {
			bits |= c.whereBit
		}
		if c.conditionBit != 0 && c.Condition(f.view(el)) == True {
			bits |= c.conditionBit
		}
	}
	return bits
}

// findTx finds the event of a transaction.
func (f *folder) findTx(fd *fold, t payment.Time, tx TxHash) (at uint64, ok bool) {
	if fd.events.n == 0 || fd.events.at(f.ringsOf(fd), fd.events.end()-1).time < t {
		return 0, false // the usual case: it is the newest
	}
	for at = fd.events.after(f.ringsOf(fd), t-1); at < fd.events.end(); at++ {
		el := fd.events.at(f.ringsOf(fd), at)
		if el.time != t {
			break
		}
		if el.ref&tileBit != 0 {
			continue
		}
		if e := f.h.entryAt(el.number()); e != nil && e.tx() == tx {
			return at, true
		}
	}
	return 0, false
}

// findNumber finds the event with a number.
func (f *folder) findNumber(fd *fold, number uint64) (at uint64, ok bool) {
	e := f.h.entryAt(number)
	if e == nil {
		return 0, false
	}
	t := e.time()
	for at = fd.events.after(f.ringsOf(fd), t-1); at < fd.events.end(); at++ {
		el := fd.events.at(f.ringsOf(fd), at)
		if el.time != t {
			break
		}
		if el.ref&tileBit == 0 && el.number() == number {
			return at, true
		}
	}
	return 0, false
}

// insert puts an event into the ring of entity n, and into the windows whose
// cursors surround its place. It returns the event's index.
func (f *folder) insert(n uint32, el elem) uint64 {
	fd := f.foldOf(n)
	if fd.events.n-fd.tiles >= uint32(f.hotEvents) {
		f.tile(n)
	}
	at := fd.events.insert(f.ringsOf(fd), el)
	if len(f.distinct) > 0 && f.sketches.any() {
		f.sketchEvent(n, at)
	}
	if at+1 == fd.events.end() {
		return at // behind all cursors; most of all
	}
	w := f.words(n)
	for s := range f.spans {
		lo, hi := &w[2*s], &w[2*s+1]
		switch {
		case at >= *hi:
		case at <= *lo:
			*lo++
			*hi++
			fd.unsure = true
		default:
			*hi++
			f.pass(w, s, &el, true)
		}
	}
	return at
}

// seek moves the fold of entity n to the moment t; of the events at t those
// before the index limit are passed.
func (f *folder) seek(n uint32, t payment.Time, limit uint64) {
	fd := f.foldOf(n)
	if len(f.byStatus) > 0 {
		f.seekOutcomes(n, fd, t)
	}
	back := t <= fd.at || fd.unsure
	fd.at = t
	w := f.words(n)
	for s := range f.spans {
		low, high := f.spans[s].bounds(t)
		stop := fd.events.end()
		if high == t {
			stop = min(stop, limit)
		}
		lo, hi := &w[2*s], &w[2*s+1]
		if fd.fresh {
			*lo = fd.events.after(f.ringsOf(fd), low)
			*hi = *lo
		}
		// The end first where it grows, so that the cursors never cross.
		for *hi < stop {
			el := fd.events.at(f.ringsOf(fd), *hi)
			if el.time > high {
				break
			}
			*hi++
			f.pass(w, s, el, true)
		}
		for *lo < *hi {
			el := fd.events.at(f.ringsOf(fd), *lo)
			if el.time > low {
				break
			}
			*lo++
			f.pass(w, s, el, false)
		}
		if !back {
			continue
		}
		for *lo > fd.events.first {
			el := fd.events.at(f.ringsOf(fd), *lo-1)
			if el.time <= low {
				break
			}
			*lo--
			f.pass(w, s, el, true)
		}
		for *hi > *lo {
			el := fd.events.at(f.ringsOf(fd), *hi-1)
			if el.time <= high && *hi <= stop {
				break
			}
			*hi--
			f.pass(w, s, el, false)
		}
	}
	fd.fresh, fd.unsure = false, false
}

// pass adds or removes an elem that a cursor of span s has passed.
func (f *folder) pass(w []uint64, s int, el *elem, add bool) {
	cells := f.cells[f.spans[s].from:f.spans[s].to]
	for i := range cells {
		f.contribute(w[cells[i].state:], &cells[i], el, add)
	}
}

// change lets an event be changed: it leaves those of the cells whose windows
// cover it, and comes back as what it has become.
func (f *folder) change(n uint32, at uint64, cells []int, how func(*elem)) {
	w := f.words(n)
	fd := f.foldOf(n)
	el := fd.events.at(f.ringsOf(fd), at)
	for _, add := range [...]bool{false, true} {
		for _, k := range cells {
			if c := &f.cells[k]; at >= w[2*c.span] && at < w[2*c.span+1] {
				f.contribute(w[c.state:], c, el, add)
			}
		}
		if !add {
			how(el)
		}
	}
}

// applyVerdict notes the verdict on an event: the first that was published, and
// until there is one, the latest that was formed.
func (f *folder) applyVerdict(n uint32, e entry) bool {
	if len(f.byVerdict) == 0 {
		return false
	}
	fd := f.foldOf(n)
	at, ok := f.findTx(fd, e.txTime(), e.tx())
	if !ok || fd.events.at(f.ringsOf(fd), at).ref&publishedBit != 0 {
		return false
	}
	f.change(n, at, f.byVerdict, func(el *elem) { el.setVerdict(e.verdict(), e[6]&flagPublished != 0) })
	return true
}

// fewEvents is up to how many events a log is soon read again for a payment that
// is late: then memory holds what those need that are late by little.
const fewEvents = 1024

// horizon is the time up to which events are too old for any payment that is to
// be served from memory, seen from the newest event, which may be about to come.
func (f *folder) horizon(fd *fold, next payment.Time) payment.Time {
	late := f.lateness
	if late != forever {
		late += slack
	}
	if f.lateInMemory > 0 && fd.events.n <= fewEvents {
		late = min(late, f.lateInMemory)
	}
	newest := max(next, fd.events.at(f.ringsOf(fd), fd.events.end()-1).time)
	return newest.Add(-late).Add(-f.reach)
}

// whole tells whether the ring has all that windows as of t look at. For a
// payment that is later than that, the log has.
func (f *folder) whole(fd *fold, t payment.Time) bool {
	return fd.from == minTime || t.Add(-f.reach) >= fd.from
}

// drop forgets the events up to t, which no window and no late payment can reach
// any more.
func (f *folder) drop(n uint32, t payment.Time) {
	fd := f.foldOf(n)
	if fd.events.n == 0 || fd.events.at(f.ringsOf(fd), fd.events.first).time > t {
		return
	}
	w := f.words(n)
	for fd.events.n > 0 {
		el := fd.events.at(f.ringsOf(fd), fd.events.first)
		if el.time > t {
			break
		}
		for s := range f.spans {
			if at := fd.events.first; at >= w[2*s] && at < w[2*s+1] { // a window that nobody has looked at for long
				f.pass(w, s, el, false)
			}
		}
		f.forget(el)
		if el.ref&tileBit != 0 {
			fd.tiles--
		}
		fd.events.popFirst()
		fd.from = max(fd.from, t)
	}
	fd.events.shrink(f.ringsOf(fd))
	for s := range f.spans {
		w[2*s], w[2*s+1] = max(w[2*s], fd.events.first), max(w[2*s+1], fd.events.first)
	}
	for fd.outcomes.n > 0 && fd.outcomes.at(f.ringsOf(fd), fd.outcomes.first).time <= min(t, fd.at) {
		f.h.release(fd.outcomes.at(f.ringsOf(fd), fd.outcomes.first).number())
		fd.outcomes.popFirst()
	}
	fd.outcomes.shrink(f.ringsOf(fd))
	fd.applied = max(fd.applied, fd.outcomes.first)
}
