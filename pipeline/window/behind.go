package window

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Behind is what one value of a feature is made of, for people: the events that
// took part in it, as the transaction saw them. It is read from the entity's log
// and owes nothing to the folds, so that one can be held against the other.
type Behind struct {
	ID       string        // of the entity, as the transaction names it; "" where it does not
	From, To payment.Time  // the window is (From, To]
	Events   []BehindEvent // that took part, the latest first
	LeftOut  int           // events of the window that `where`, or an outage, leaves out
	NoRate   int           // that count nothing, because their amount has no rate into the base currency
	NoValue  int           // that count nothing, because they do not say what distinct looks at
	Absent   string        // why the feature has no value, in words; "" where it has one
}

// BehindEvent is one event behind a value.
type BehindEvent struct {
	Transaction string              // its id; "" where the log does not have it
	Position    payment.Position    // in the log
	Time        payment.Time        // event time
	Amount      payment.Money       // as sent
	Base        int64               // minor units of the base currency, if Based
	Based       bool                //
	Status      payment.OutcomeKind // as of the transaction that looks; only where the feature looks at it
	// Value is what distinct and last look at, and of share whether its condition holds.
	Value payment.Value
	Own   bool // it is the transaction itself
}

// Behind returns what the value of the feature in a slot is made of, for an item
// that Append has filled in. What was appended since takes no part. It reads the
// whole log of the entity: it is for the one decision that somebody asks about.
func (s *Embedded) Behind(ctx context.Context, it *Item, slot int) (Behind, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, c := s.cellOf(slot)
	if c == nil {
		return Behind{}, fmt.Errorf("there is no feature in slot %d", slot)
	}
	b := Behind{ID: c.Entity.ID(it.Tx)}
	switch {
	case b.ID == "":
		b.Absent = "the payment names no " + c.Entity.Unnamed(it.Tx).String()
		return b, nil
	case it.Late:
		b.Absent = fmt.Sprintf("the payment came %s after its event time, and windows wait for %s", lasting(time.Duration(it.KafkaTime-it.Tx.EventTime)), lasting(s.opts.Lateness))
		return b, nil
	}
	logged, err := s.logged(ctx, c.Entity, it)
	if err != nil {
		return b, err
	}
	span := f.spans[c.span] // a copy: it remembers what it was asked last
	b.From, b.To = span.bounds(it.Tx.EventTime)
	b.take(s, c, it, logged)
	return b, nil
}

// Unnamed returns what t does not name, of an entity that it does not name: of a
// pair the first that it lacks.
func (e Entity) Unnamed(t *payment.Transaction) Kind {
	if e.Pair && kindID(e.First, t) != "" {
		return e.Second
	}
	return e.First
}

// lasting writes a length of time for people, in days where it is long.
func lasting(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 2*day {
		return fmt.Sprintf("%.4gd", d.Hours()/24)
	}
	return d.Round(time.Second).String()
}

// cellOf finds the feature of a slot, nil where there is none.
func (s *Embedded) cellOf(slot int) (*folder, *cell) {
	for _, f := range s.folders {
		for i := range f.cells {
			if f.cells[i].slot == slot {
				return f, &f.cells[i]
			}
		}
	}
	return nil, nil
}

// loggedEvent is a transaction of a log with what the log says of it.
type loggedEvent struct {
	entry
	number    uint64
	position  payment.Position
	verdict   payment.Verdict
	published bool // the verdict
	outcomes  []loggedOutcome
}

type loggedOutcome struct {
	time     payment.Time
	kind     payment.OutcomeKind
	identity TxHash
}

// logged reads the log of the item's entity up to the item itself: its events in
// the order of event time, and of equal times in that of the log.
func (s *Embedded) logged(ctx context.Context, of Entity, it *Item) ([]*loggedEvent, error) {
	var events []*loggedEvent
	byTx := map[TxHash]*loggedEvent{}
	err := s.eachLogged(ctx, of, s.Key().EntityKey(of, it.Tx), func(number uint64, at payment.Position, e entry) (more bool) {
		switch e.kind() {
		case entryTransaction:
			if byTx[e.tx()] == nil { // of two, the first counts
				byTx[e.tx()] = &loggedEvent{entry: e, number: number, position: at}
				events = append(events, byTx[e.tx()])
			}
		case entryOutcome:
			if tx := byTx[e.tx()]; tx != nil {
				tx.heard(loggedOutcome{e.time(), e.outcome(), e.identity()})
			}
		case entryVerdict:
			if tx := byTx[e.tx()]; tx != nil && !tx.published { // the first that was published, until then the latest
				tx.verdict, tx.published = e.verdict(), e[6]&flagPublished != 0
			}
		}
		return number != it.number
	})
	slices.SortStableFunc(events, func(a, b *loggedEvent) int { return cmp.Compare(a.time(), b.time()) })
	return events, err
}

// heard adds an outcome that was not there before.
func (e *loggedEvent) heard(o loggedOutcome) {
	if !slices.ContainsFunc(e.outcomes, func(p loggedOutcome) bool { return p.identity == o.identity && p.time == o.time }) {
		e.outcomes = append(e.outcomes, o)
	}
}

// asOf shows the event as a transaction at some moment sees it: outcomes count
// by their own event time, of equal times the later arrival is the last.
func (e *loggedEvent) asOf(t payment.Time) *Event {
	slices.SortStableFunc(e.outcomes, func(a, b loggedOutcome) int { return cmp.Compare(a.time, b.time) })
	var is standing
	for _, o := range e.outcomes {
		if o.time <= t {
			is = is.after(o.kind)
		}
	}
	return &Event{entry: e.entry, status: is.status(), fraud: is.fraud(), verdict: e.verdict}
}

// take picks the events that take part in a cell, and says why there is no value.
func (b *Behind) take(s *Embedded, c *cell, it *Item, logged []*loggedEvent) {
	t := it.Tx.EventTime
	var own *loggedEvent
	var in []*loggedEvent // the window's events that count
	for _, e := range logged {
		if e.number == it.number {
			own = e
		}
		if e.time() <= b.From || e.time() > b.To {
			continue
		}
		ev := e.asOf(t)
		covered := c.ReadsStatus && ev.status == payment.OutcomeTechnicalFailure && s.outages.cover(e.entry)
		if covered || c.Where != nil && c.Where(ev) != True {
			b.LeftOut++
			continue
		}
		in = append(in, e)
	}
	slices.Reverse(in)
	switch c.Aggregate {
	case Count:
		b.list(c, it, in)
	case Share:
		b.list(c, it, in)
		for i, e := range in {
			b.Events[i].Value = payment.BoolValue(c.Condition(e.asOf(t)) == True)
		}
	case Sum, Avg, Min, Max, StdDev:
		b.list(c, it, slices.DeleteFunc(in, func(e *loggedEvent) bool {
			if !e.based() {
				b.NoRate++
			}
			return !e.based()
		}))
		switch {
		case c.Aggregate == Sum:
			b.overflows()
		case len(b.Events) > 0 || c.Aggregate == StdDev:
		case b.NoRate > 0:
			b.Absent = "no amount in its window has a rate into the base currency"
		default:
			b.Absent = "its window is empty"
		}
	case Distinct:
		b.list(c, it, slices.DeleteFunc(in, func(e *loggedEvent) bool {
			v := c.Field.Get(e.asOf(t))
			if v.Kind() == payment.Absent {
				b.NoValue++
			}
			return v.Kind() == payment.Absent
		}))
	case SinceFirst:
		b.list(c, it, in[max(0, len(in)-1):])
		if len(in) == 0 {
			b.Absent = "its window is empty"
		}
	case Last, SinceLast, SpeedKMH:
		b.previous(c, it, own, in)
	}
}

// previous picks the one event before the transaction's own that a cell looks at;
// events are the latest first.
func (b *Behind) previous(c *cell, it *Item, own *loggedEvent, events []*loggedEvent) {
	located := c.Aggregate == SpeedKMH
	if located && (own == nil || !own.located()) {
		b.Absent = "the payment does not say where its device is"
		return
	}
	at := slices.IndexFunc(events, func(e *loggedEvent) bool { return e != own && (!located || e.located()) })
	switch {
	case at < 0 && located:
		b.Absent = "no event before it, in its window, says where its device was"
		return
	case at < 0:
		b.Absent = "there is no event before it in its window"
		return
	}
	b.list(c, it, events[at:at+1])
	if c.Aggregate == Last && b.Events[0].Value.Kind() == payment.Absent {
		b.Absent = "the event before it says no " + c.Field.Name
	}
}

// list writes the events down.
func (b *Behind) list(c *cell, it *Item, events []*loggedEvent) {
	for _, e := range events {
		ev := e.asOf(it.Tx.EventTime)
		currency, _ := payment.ParseCurrency(e.currency())
		out := BehindEvent{Transaction: e.name(), Position: e.position, Time: e.time(), Amount: payment.Money{Value: e.original(), Currency: currency},
			Base: e.base(), Based: e.based(), Own: e.number == it.number}
		if c.ReadsStatus {
			out.Status = ev.status
		}
		if c.Field != nil {
			out.Value = c.Field.Get(ev)
			if out.Value.Kind() == payment.String { // a view of the entry
				out.Value = payment.StringValue(string([]byte(out.Value.Str())))
			}
		}
		b.Events = append(b.Events, out)
	}
}

// overflows says when a sum is more than a value can hold.
func (b *Behind) overflows() {
	sum := uint64(0)
	for i := range b.Events {
		if sum += uint64(b.Events[i].Base); sum > math.MaxInt64 {
			b.Absent = "the sum is more than 2^63-1 minor units"
			return
		}
	}
}
