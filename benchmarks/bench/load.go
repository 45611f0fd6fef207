package bench

import (
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/traffic"
)

// load is transactions ready to be sent, in the order of their event times.
type load struct {
	records [][]broker.Message // by partition
	numbers [][]int            // of each record: its place in the order of all, from 0
	due     []time.Duration    // when each is to be sent, after the beginning; by number
}

// patient is 2200-01-01T00:00:00Z.
const patient = payment.Time(7_258_118_400e9)

// stream is what loads are made of: people who pay, about 370 bytes a payment.
// Event time advances by 1/rate a transaction, so that windows fill and empty.
type stream struct {
	traffic *traffic.Generator
	start   payment.Time
}

// Nobody waits for the payments: the gate decides all of them by its rules, at
// any load, and gives no defaults.
func newStream(seed uint64, people int, start payment.Time, rate float64) *stream {
	return &stream{start: start, traffic: traffic.New(traffic.Config{Seed: seed, Start: start, Patient: patient, Rate: rate, People: people})}
}

// next returns the next transaction; what became of earlier ones is left out.
func (s *stream) next() traffic.Event {
	for {
		if e := s.traffic.Next(); e.Kind == payment.RecordTransaction {
			return e
		}
	}
}

// take deals the next n transactions out to partitions by their keys.
func (s *stream) take(n, partitions int) *load {
	l := &load{records: make([][]broker.Message, partitions), numbers: make([][]int, partitions)}
	var balancer kafka.Murmur2Balancer
	all := make([]int, partitions)
	for p := range all {
		all[p] = p
	}
	for i := range n {
		e := s.next()
		key := []byte(e.Key)
		p := balancer.Balance(kafka.Message{Key: key}, all...)
		l.records[p] = append(l.records[p], broker.Message{Key: key, Value: e.Value, Time: int64(e.Time / 1e6)})
		l.numbers[p] = append(l.numbers[p], i)
		l.due = append(l.due, time.Duration(e.Time-s.start))
	}
	return l
}
