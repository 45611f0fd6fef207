package ledger

import (
	"container/heap"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// queue is the open holds of one partition that wait for the same, in the orders
// in which somebody asks for them.
type queue struct {
	heaps [heapKinds]holdHeap
}

// queues are those of one partition, by Needs.
type queues [allNeeds + 1]queue

// The orders of a queue.
const (
	byPlace   = iota // of their first revisions in the topic
	byExpiry         // then by place
	byWarning        // when they should have been worked; only those that wait for a person, unclaimed
	heapKinds
)

func newQueues() *queues {
	q := new(queues)
	for i := range q {
		for kind := range q[i].heaps {
			q[i].heaps[kind].kind = kind
		}
	}
	return q
}

// add puts a hold into the heaps where it belongs; warn is the share of its time
// after which it should have been worked, 0 for never.
func (q *queue) add(o *hold, warn float64) {
	heap.Push(&q.heaps[byPlace], o)
	heap.Push(&q.heaps[byExpiry], o)
	if warn > 0 && o.needs&Review != 0 && o.claimant == "" {
		q.heaps[byWarning].warn = warn
		heap.Push(&q.heaps[byWarning], o)
	}
}

// remove takes a hold out of all heaps.
func (q *queue) remove(o *hold) {
	for kind := range q.heaps {
		if at := o.at[kind]; at > 0 {
			heap.Remove(&q.heaps[kind], int(at-1))
		}
	}
}

// holdHeap implements heap.Interface; each hold knows its place in it.
type holdHeap struct {
	all  []*hold
	kind int
	warn float64
}

// Len implements heap.Interface.
func (q *holdHeap) Len() int { return len(q.all) }

// Less implements heap.Interface.
func (q *holdHeap) Less(i, j int) bool { return q.before(q.all[i], q.all[j]) }

func (q *holdHeap) before(a, b *hold) bool {
	switch q.kind {
	case byExpiry:
		if a.expires != b.expires {
			return a.expires < b.expires
		}
	case byWarning:
		if x, y := a.warning(q.warn), b.warning(q.warn); x != y {
			return x < y
		}
	}
	return a.first < b.first
}

// Swap implements heap.Interface.
func (q *holdHeap) Swap(i, j int) {
	q.all[i], q.all[j] = q.all[j], q.all[i]
	q.all[i].at[q.kind], q.all[j].at[q.kind] = int32(i+1), int32(j+1)
}

// Push implements heap.Interface.
func (q *holdHeap) Push(x any) {
	o := x.(*hold)
	q.all = append(q.all, o)
	o.at[q.kind] = int32(len(q.all))
}

// Pop implements heap.Interface.
func (q *holdHeap) Pop() any {
	last := len(q.all) - 1
	o := q.all[last]
	q.all[last] = nil
	q.all = q.all[:last]
	o.at[q.kind] = 0
	return o
}

// countUpTo is the number of holds whose time in this order has come; it looks at
// no more than twice as many.
func (q *holdHeap) countUpTo(now payment.Time, time func(*hold) payment.Time) (n int) {
	var below func(i int)
	below = func(i int) {
		if i < len(q.all) && time(q.all[i]) <= now {
			n++
			below(2*i + 1)
			below(2*i + 2)
		}
	}
	below(0)
	return n
}

// warning is when a hold should have been worked.
func (o *hold) warning(share float64) payment.Time {
	return o.since + payment.Time(share*float64(max(0, o.expires-o.since)))
}

// frontier walks several heaps of one order together, the earliest hold first,
// and leaves them as they are: of a heap, the next one is always a child of one
// that was walked, or its root.
type frontier struct{ places []placeInHeap }

type placeInHeap struct {
	heap *holdHeap
	i    int
}

// enter adds a place, if there is a hold.
func (f *frontier) enter(q *holdHeap, i int) {
	if i < len(q.all) {
		heap.Push(f, placeInHeap{q, i})
	}
}

// peek returns the earliest hold, nil after the last.
func (f *frontier) peek() *hold {
	if len(f.places) == 0 {
		return nil
	}
	return f.at(0)
}

// step goes past the earliest hold.
func (f *frontier) step() {
	p := heap.Pop(f).(placeInHeap)
	f.enter(p.heap, 2*p.i+1)
	f.enter(p.heap, 2*p.i+2)
}

func (f *frontier) at(i int) *hold { return f.places[i].heap.all[f.places[i].i] }

// Len implements heap.Interface.
func (f *frontier) Len() int { return len(f.places) }

// Less implements heap.Interface.
func (f *frontier) Less(i, j int) bool { return f.places[0].heap.before(f.at(i), f.at(j)) }

// Swap implements heap.Interface.
func (f *frontier) Swap(i, j int) { f.places[i], f.places[j] = f.places[j], f.places[i] }

// Push implements heap.Interface.
func (f *frontier) Push(x any) { f.places = append(f.places, x.(placeInHeap)) }

// Pop implements heap.Interface.
func (f *frontier) Pop() any {
	last := len(f.places) - 1
	p := f.places[last]
	f.places = f.places[:last]
	return p
}
