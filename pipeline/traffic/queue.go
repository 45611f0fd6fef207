package traffic

import "github.com/sluice-risk/sluice/pipeline/payment"

// queue is a binary heap of what is due later, the earliest first.
type queue[T any] struct{ items []due[T] }

type due[T any] struct {
	at   payment.Time
	what T
}

func (q *queue[T]) len() int { return len(q.items) }

// next returns when the earliest is due; never is after everything.
func (q *queue[T]) next(never payment.Time) payment.Time {
	if len(q.items) == 0 {
		return never
	}
	return q.items[0].at
}

func (q *queue[T]) push(at payment.Time, what T) {
	q.items = append(q.items, due[T]{at, what})
	for i := len(q.items) - 1; i > 0; {
		parent := (i - 1) / 2
		if q.items[parent].at <= q.items[i].at {
			break
		}
		q.items[parent], q.items[i] = q.items[i], q.items[parent]
		i = parent
	}
}

// pop removes the earliest; the queue must not be empty.
func (q *queue[T]) pop() (payment.Time, T) {
	top := q.items[0]
	n := len(q.items) - 1
	q.items[0] = q.items[n]
	q.items[n] = due[T]{} // let go of what it points to
	q.items = q.items[:n]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < n; child++ {
			if q.items[child].at < q.items[least].at {
				least = child
			}
		}
		if least == i {
			return top.at, top.what
		}
		q.items[least], q.items[i] = q.items[i], q.items[least]
		i = least
	}
}
