package window

import (
	"math"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// A fold keeps, for one entity, the ring of its events and for each window two
// cursors into it, lo and hi: the window covers the elems lo to hi-1, and the
// cells of the window hold the aggregate of exactly these, judged as of the
// moment fold.at. Everything here keeps that invariant:
//
//   - insert puts an event where its time belongs, and into the windows that
//     cover it as of fold.at;
//   - seek moves fold.at to another moment, forward or backward: outcomes that
//     become known (or unknown) change what their events contribute, then the
//     cursors move and add or remove what they pass;
//   - change wraps anything else that changes an event: take its old
//     contribution out, change it, put the new one in.
//
// So a payment that comes late sees exactly what it would have seen in time,
// at the cost of seeking back as far as it is late.

// history is what folds read of the past: the entries and outcomes of a store.
type history interface {
	entry(number uint32) *entry
	outcome(number uint32) *outcome
	vocabulary() *words
	hashText(string) uint64
}

// outcome is one outcome of a transaction, chained from its entry in the order of arrival.
type outcome struct {
	time    payment.Time
	ordinal uint64
	of      uint32 // the number of the transaction's entry
	next    uint32 // the next outcome of the same transaction, plus one
	kind    payment.OutcomeKind
}

// moment is how much of the past is seen: outcomes up to time t and, among those
// at t, with numbers below limit; and nothing with an ordinal of before or later.
type moment struct {
	t      payment.Time
	limit  uint32 // the number of the first outcome of time t that is not seen
	before uint64
}

// as fills ev with the event as of m; c tells which facts are looked at.
func (ev *Event) as(h history, c *cell, e *entry, m moment) {
	ev.entry, ev.words = e, h.vocabulary()
	ev.status, ev.fraud, ev.verdict = 0, false, 0
	if c.ReadsVerdict && e.decidedAt < m.before {
		ev.verdict = e.verdict
	}
	if !c.ReadsStatus {
		return
	}
	var last, label payment.Time = math.MinInt64, math.MinInt64
	for n := e.outcomes; n != 0; {
		o := h.outcome(n - 1)
		if seen := o.ordinal < m.before && (o.time < m.t || o.time == m.t && n-1 < m.limit); seen {
			if o.time >= last { // of equal times the latest arrival is the last
				last, ev.status = o.time, o.kind
			}
			if labels := o.kind == payment.OutcomeFraudConfirmed || o.kind == payment.OutcomeFraudCleared; labels && o.time >= label {
				label, ev.fraud = o.time, o.kind == payment.OutcomeFraudConfirmed
			}
		}
		n = o.next
	}
}

// folder works on the folds of one group; it is the group with what it reads
// and the scratch it needs.
type folder struct {
	*group
	h     history
	rings *arena[elem]
	sets  *tallies
	// before bounds what is folded: everything, or what a redelivered transaction
	// found when it first came.
	before uint64
	ev     Event
}

// everything is no bound: all ordinals are before it.
const everything = math.MaxUint64

// now is the moment t with all outcomes of that time.
func (f *folder) now(t payment.Time) moment { return moment{t, math.MaxUint32, f.before} }

// passes judges an event by a predicate of a cell, which may have a bit.
func (f *folder) passes(p Predicate, bit uint64, c *cell, el *elem, m moment) bool {
	if p == nil {
		return true
	}
	if bit != 0 {
		return el.ref&bit != 0
	}
	f.ev.as(f.h, c, f.h.entry(el.number()), m)
	return p(&f.ev) == True
}

// contribute adds an elem to a cell, or takes it away.
func (f *folder) contribute(n uint32, c *cell, el *elem, m moment, add bool) {
	if !f.passes(c.Where, c.whereBit, c, el, m) {
		return
	}
	w := f.words(n)[c.state:]
	one := uint64(1)
	if !add {
		one = math.MaxUint64 // adds up to minus one
	}
	switch c.Aggregate {
	case Count:
		w[0] += one
		return
	case Share:
		w[0] += one
		if f.passes(c.Condition, c.conditionBit, c, el, m) {
			w[1] += one
		}
		return
	case Distinct:
		f.contributeDistinct(w, c, f.h.entry(el.number()), m, add)
		return
	case SinceFirst, Last, SinceLast, SpeedKMH:
		return
	}
	if el.ref&basedBit == 0 {
		return // no rate: as NULL in SQL, it takes no part
	}
	amount := uint64(el.amount)
	switch c.Aggregate {
	case Min, Max:
		contributeExtreme(w, c.Aggregate, amount, add)
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

// The words of an extreme: the value, how many amounts take part, and whether
// the value has left the window and must be looked up again.
func contributeExtreme(w []uint64, a Aggregate, amount uint64, add bool) {
	switch {
	case add:
		w[1]++
		if w[2] == 0 && (w[1] == 1 || a == Min && amount < w[0] || a == Max && amount > w[0]) {
			w[0] = amount
		}
	default:
		w[1]--
		if amount == w[0] {
			w[2] = 1
		}
		if w[1] == 0 {
			w[2] = 0
		}
	}
}

func (f *folder) contributeDistinct(w []uint64, c *cell, e *entry, m moment, add bool) {
	f.ev.as(f.h, c, e, m)
	v := c.Field.Get(&f.ev)
	if v.Kind() == payment.Absent {
		return
	}
	if key := f.distinctKey(v); add {
		f.sets.add(w, key)
	} else {
		f.sets.remove(w, key)
	}
}

// distinctKey is the 64-bit keyed hash that stands for a value.
func (f *folder) distinctKey(v payment.Value) uint64 {
	switch v.Kind() {
	case payment.Ref:
		return v.Ref()
	case payment.String:
		return f.h.hashText(v.Str())
	case payment.Bool:
		if v.Bool() {
			return 1
		}
		return 2
	}
	return uint64(v.Int()) * golden
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

// open returns the number of the entity with this key, which is new as of t
// where nothing was known of it.
func (f *folder) open(key uint64, t payment.Time) uint32 {
	n, added := f.index.Add(key, key)
	if added {
		*n = f.openNew(t)
	}
	return *n
}

// openNew returns the number of another entity, which no key leads to yet.
func (f *folder) openNew(t payment.Time) uint32 {
	n := f.count
	if int(n/foldPage) == len(f.folds) {
		f.folds = append(f.folds, make([]fold, foldPage))
		f.state = append(f.state, make([]uint64, foldPage*f.stateWords))
	}
	*f.foldOf(n) = fold{at: t, events: ring{class: noBlock}, outcomes: ring{class: noBlock}}
	f.count++
	return n
}

// find returns the number of the entity with this key.
func (f *folder) find(key uint64) (n uint32, ok bool) {
	if at := f.index.Find(key, key); at != nil {
		return *at, true
	}
	return 0, false
}

// insert puts an event into the ring of entity n and into the windows that
// cover it as of the moment of the fold. It returns the event's index.
func (f *folder) insert(n uint32, el elem) uint64 {
	fd := f.foldOf(n)
	at := fd.events.insert(f.rings, el)
	w := f.words(n)
	m := f.now(fd.at)
	for s := range f.spans {
		low, high := f.spans[s].bounds(fd.at)
		switch {
		case el.time <= low:
			w[2*s]++
			w[2*s+1]++
		case el.time <= high:
			w[2*s+1]++
			for i := range f.cells {
				if c := &f.cells[i]; c.span == s {
					f.contribute(n, c, &el, m, true)
				}
			}
		}
	}
	return at
}

// seek moves the fold of entity n to the moment t.
func (f *folder) seek(n uint32, t payment.Time) {
	fd := f.foldOf(n)
	f.seekOutcomes(n, fd, t)
	fd.at = t
	w := f.words(n)
	m := f.now(t)
	for s := range f.spans {
		low, high := f.spans[s].bounds(t)
		// The end first where it grows, so that the cursors never cross.
		lo, hi := &w[2*s], &w[2*s+1]
		for *hi < fd.events.end() {
			el := fd.events.at(f.rings, *hi)
			if el.time > high {
				break
			}
			*hi++
			f.pass(n, s, el, m, true)
		}
		for *lo < *hi {
			el := fd.events.at(f.rings, *lo)
			if el.time > low {
				break
			}
			*lo++
			f.pass(n, s, el, m, false)
		}
		for *lo > fd.events.first {
			el := fd.events.at(f.rings, *lo-1)
			if el.time <= low {
				break
			}
			*lo--
			f.pass(n, s, el, m, true)
		}
		for *hi > *lo {
			el := fd.events.at(f.rings, *hi-1)
			if el.time <= high {
				break
			}
			*hi--
			f.pass(n, s, el, m, false)
		}
	}
}

// pass adds or removes an elem that a cursor of span s has passed.
func (f *folder) pass(n uint32, s int, el *elem, m moment, add bool) {
	for i := range f.cells {
		if c := &f.cells[i]; c.span == s {
			f.contribute(n, c, el, m, add)
		}
	}
}

// seekOutcomes makes outcomes known up to t, or unknown after it.
func (f *folder) seekOutcomes(n uint32, fd *fold, t payment.Time) {
	for fd.applied < fd.outcomes.end() {
		el := *fd.outcomes.at(f.rings, fd.applied)
		if el.time > t {
			break
		}
		f.cross(n, fd, el, true)
		fd.applied++
	}
	for fd.applied > fd.outcomes.first {
		el := *fd.outcomes.at(f.rings, fd.applied-1)
		if el.time <= t {
			break
		}
		f.cross(n, fd, el, false)
		fd.applied--
	}
}

// cross moves the contribution of one event from before one of its outcomes to
// after it, or back.
func (f *folder) cross(n uint32, fd *fold, el elem, forward bool) {
	without := moment{el.time, el.number(), f.before}
	with := moment{el.time, el.number() + 1, f.before}
	of := f.h.outcome(el.number()).of
	if forward {
		f.change(n, of, f.byStatus, without, false)
		f.change(n, of, f.byStatus, with, true)
	} else {
		f.change(n, of, f.byStatus, with, false)
		f.change(n, of, f.byStatus, without, true)
	}
}

// change adds an event, as it is as of m, to those of the cells whose windows
// cover it, or takes it away.
func (f *folder) change(n uint32, number uint32, cells []int, m moment, add bool) {
	fd := f.foldOf(n)
	i, ok := fd.events.find(f.rings, f.h.entry(number).time, number)
	if !ok {
		return // dropped
	}
	w := f.words(n)
	for _, k := range cells {
		if c := &f.cells[k]; i >= w[2*c.span] && i < w[2*c.span+1] {
			f.contribute(n, c, fd.events.at(f.rings, i), m, add)
		}
	}
}

// insertOutcome puts an outcome that has just been chained to its event into the
// fold of entity n.
func (f *folder) insertOutcome(n uint32, number uint32, o *outcome) {
	if !f.placeOutcome(n, number, o) {
		return
	}
	at := f.foldOf(n).at
	without := f.now(at)
	without.before = o.ordinal
	f.change(n, o.of, f.byStatus, without, false)
	f.change(n, o.of, f.byStatus, f.now(at), true)
}

// placeOutcome puts an outcome where its time belongs and reports whether it
// is known already as of the moment of the fold.
func (f *folder) placeOutcome(n uint32, number uint32, o *outcome) bool {
	if len(f.byStatus) == 0 {
		return false
	}
	fd := f.foldOf(n)
	fd.outcomes.insert(f.rings, elem{time: o.time, ref: uint64(number)})
	if o.time > fd.at {
		return false
	}
	fd.applied++
	return true
}

// drop forgets what no window and no late payment can reach any more.
func (f *folder) drop(n uint32, t payment.Time) {
	fd := f.foldOf(n)
	first := fd.events.first
	fd.events.dropBefore(f.rings, t)
	if moved := fd.events.first - first; moved > 0 {
		w := f.words(n)
		for s := range f.spans {
			w[2*s] = max(w[2*s], fd.events.first)
			w[2*s+1] = max(w[2*s+1], fd.events.first)
		}
	}
	if fd.outcomes.n > 0 {
		fd.outcomes.dropBefore(f.rings, min(t, fd.at))
		fd.applied = max(fd.applied, fd.outcomes.first)
	}
}
