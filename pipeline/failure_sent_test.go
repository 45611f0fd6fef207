package pipeline_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// fate is what becomes of a payment in the end.
type fate string

const (
	fateApproved  fate = "approved"
	fateReviewed  fate = "held, and released by a reviewer"
	fateForgotten fate = "held, and blocked when nobody came"
	fateInvalid   fate = "blocked, because it cannot be used"
)

// sentPayment is a payment that a gate is to answer.
type sentPayment struct {
	record    string
	tx        payment.Transaction // if it can be used
	fate      fate
	settled   bool // an outcome says so
	asked     bool // a reviewer has released it
	partition map[int]bool
}

// place is where a record stands.
type place struct {
	topic     string
	partition int
	offset    int64
}

// sentRecord is a record of payments.transactions.
type sentRecord struct {
	place
	id string // of its payment; "" where it has none, or is a conflict
}

// sentSoFar is what the payment service has sent.
type sentSoFar struct {
	payments map[string]*sentPayment
	records  []sentRecord
	refused  map[place]string // what must be in dead letters
	next     map[place]int64  // of each partition, by its place 0
	stages   int
}

func newSent() sentSoFar {
	return sentSoFar{payments: map[string]*sentPayment{}, refused: map[place]string{}, next: map[place]int64{}}
}

// puts sends one record and returns where it stands.
func (o *ordeal) puts(topic string, partition int, record string) place {
	o.t.Helper()
	o.liveGate.send(topic, partition, record)
	first := place{topic: topic, partition: partition}
	at := place{topic, partition, o.next[first]}
	o.next[first]++
	return at
}

// pays sends a payment. Each has an amount of its own, so that none is taken for
// another one's duplicate.
func (o *ordeal) pays(id string, partition int, f fate, changes ...string) {
	o.t.Helper()
	n := len(o.payments)
	channel := map[fate]string{fateApproved: "qr", fateReviewed: "web", fateForgotten: "bill", fateInvalid: "qr"}[f]
	amount := 1000 + n
	if f == fateApproved && n%5 == 4 {
		amount += 100_000 // too much for a default to approve
	}
	all := append([]string{`"value":1250`, fmt.Sprintf(`"value":%d`, amount), `"qr"`, fmt.Sprintf("%q", channel),
		`"account_id":"u-1"`, fmt.Sprintf(`"account_id":"u-%d"`, 10+n%3), `"account_id":"m-1"`, fmt.Sprintf(`"account_id":"m-%d"`, 10+o.rng.IntN(2))}, changes...)
	if f == fateApproved || f == fateInvalid {
		all = append(all[:2], all[4:]...)
	}
	record := paid(id, all...)
	p := &sentPayment{record: record, fate: f, partition: map[int]bool{}}
	decoder := payment.Decoder{Limits: payment.DefaultLimits()}
	if refusal := decoder.Transaction([]byte(record), payment.TimeOf(time.Now()), &p.tx); (refusal != nil) != (f == fateInvalid) {
		o.t.Fatalf("%s: %v", record, refusal)
	}
	o.payments[id] = p
	at := o.delivers(id, partition)
	if f == fateInvalid {
		o.refused[at] = record
	}
}

// delivers sends the record of a payment, perhaps once more.
func (o *ordeal) delivers(id string, partition int) place {
	o.t.Helper()
	p := o.payments[id]
	at := o.puts(o.config.Topics.Transactions, partition, p.record)
	o.records = append(o.records, sentRecord{at, id})
	p.partition[partition] = true
	return at
}

// refuses sends a record that must become a dead letter.
func (o *ordeal) refuses(topic string, partition int, record string) {
	o.t.Helper()
	at := o.puts(topic, partition, record)
	o.refused[at] = record
	if topic == o.config.Topics.Transactions {
		o.records = append(o.records, sentRecord{place: at})
	}
}

// trades is what a payment service sends in one stage of an ordeal.
func (o *ordeal) trades() {
	o.t.Helper()
	o.stages++
	t := o.config.Topics
	id := func(name any) string { return fmt.Sprintf("s%d-%v", o.stages, name) }
	home := o.rng.IntN(ordealPartitions)
	away := (home + 1) % ordealPartitions
	for i := range 8 {
		o.pays(id(i), o.rng.IntN(ordealPartitions), fateApproved)
	}
	o.pays(id("again"), home, fateApproved)
	o.pays(id("review"), away, fateReviewed)
	o.pays(id("forgotten"), home, fateForgotten)
	o.pays(id("invalid"), away, fateInvalid, `"currency":"CNY"`, `"currency":"XQX"`)
	again := o.payments[id("again")]
	o.delivers(id("again"), home)
	o.delivers(id("again"), away)
	o.refuses(t.Transactions, home, strings.Replace(again.record, `"value":1`, `"value":7`, 1)) // the same id, and another amount
	o.refuses(t.Transactions, away, `{"v":1,"transaction_id":`)
	for i := range 2 {
		o.payments[id(i)].settled = true
		settled := became(id(i), "settled")
		o.puts(t.Outcomes, home, settled)
		o.puts(t.Outcomes, away, settled)
	}
	o.refuses(t.Outcomes, away, `{"v":1,"outcome":"settled"}`)
	for i := range 3 {
		o.pays(id(8+i), o.rng.IntN(ordealPartitions), fateApproved)
	}
}

// reviews releases what is held for a review.
func (o *ordeal) reviews() {
	for id, p := range o.payments {
		if p.fate != fateReviewed || p.asked {
			continue
		}
		if last := o.latest(id); last.Verdict == payment.Hold && last.Source == payment.SourceRules {
			p.asked = true
			o.puts(o.config.Topics.Reviews, o.rng.IntN(ordealPartitions), fmt.Sprintf(`{"v":1,"review_id":"r-%s","transaction_id":%q,"review":"release","event_time":%q,"payer":{"account_id":"u-1"},"reviewer":"reviewer-7"}`,
				id, id, time.Now().UTC().Format(time.RFC3339Nano)))
		}
	}
}

// latest is the latest revision of a payment, without a verdict where it has none.
func (o *ordeal) latest(id string) (last payment.Decision) {
	for _, h := range o.heard.chains[id] {
		if h.decision.Revision > last.Revision {
			last = h.decision
		}
	}
	return last
}

// heardDecision is a decision on the topic.
type heardDecision struct {
	at       place
	text     string
	decision payment.Decision
}

// heardSoFar is what stands on the topics that the gate writes.
type heardSoFar struct {
	next    map[string][]int64 // where to read on, by topic
	chains  map[string][]heardDecision
	letters map[place][]heardLetter // by the place of their record
}

type heardLetter struct {
	at   place
	text string
}

// listen reads what was said since the last time.
func (o *ordeal) listen() {
	o.t.Helper()
	h := &o.heard
	if h.next == nil {
		h.next, h.chains, h.letters = map[string][]int64{}, map[string][]heardDecision{}, map[place][]heardLetter{}
	}
	o.follow(o.config.Topics.Decisions, func(at place, r *broker.Record) {
		d := heardDecision{at: at, text: string(r.Value)}
		d.decision = o.decoded(saidOf(at, r))
		h.chains[d.decision.TransactionID] = append(h.chains[d.decision.TransactionID], d)
	})
	o.follow(o.config.Topics.DeadLetters, func(at place, r *broker.Record) {
		s := saidOf(at, r)
		var of place
		of.topic = s.headers["topic"]
		if _, err := fmt.Sscan(s.headers["partition"]+" "+s.headers["offset"], &of.partition, &of.offset); err != nil {
			o.t.Fatalf("a dead letter of nothing: %v", s)
		}
		h.letters[of] = append(h.letters[of], heardLetter{at, s.value})
	})
}

func saidOf(at place, r *broker.Record) said {
	s := said{partition: at.partition, offset: at.offset, key: string(r.Key), value: string(r.Value), headers: map[string]string{}}
	for _, h := range r.Headers {
		s.headers[h.Key] = string(h.Value)
	}
	return s
}

// follow reads a topic on to its present end.
func (o *ordeal) follow(topic string, each func(place, *broker.Record)) {
	o.t.Helper()
	ctx := o.within(patienceOfTests)
	ranges, err := o.conn.TopicOffsets(ctx, topic)
	if err != nil {
		o.t.Fatal(err)
	}
	if o.heard.next[topic] == nil {
		o.heard.next[topic] = make([]int64, len(ranges))
	}
	for p, r := range ranges {
		next := &o.heard.next[topic][p]
		if *next == r.End {
			continue
		}
		if _, err := o.conn.ReadRange(ctx, topic, p, *next, r.End, func(r broker.Record) error {
			each(place{topic, p, r.Offset}, &r)
			return nil
		}); err != nil {
			o.t.Fatal(err)
		}
		*next = r.End
	}
}
