package pipeline_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// row is one dependency in the failure table.
type row struct {
	promise string
	// What fails: a request to the broker, a command to Redis, an operation of the disk.
	request func(key int16, topic string) bool
	command string // words that it has, or with ! has not; a gate with this has its store on Redis
	disk    string
	rules   bool
	redis   bool

	acts     func(*ordeal, manner) // what happens besides, each time that it is broken; may be nil
	unasked  bool                  // nobody asks for it
	manners  []manner              // nil: before, after and late
	delay    time.Duration         // of late answers; 0: longer than any payment has
	starting bool                  // it is needed to start, and is broken before
	answers  bool                  // payments are answered all the same, as long as it is broken
	defaults bool                  // where it answers late, some payment must have had its default
}

// beyondDeadline is longer than a payment has; a command to Redis may take 100 ms.
const beyondDeadline = 600 * time.Millisecond

// atOnce is how many rows are tried at the same time; they mostly wait.
const atOnce = 6

// Whatever a gate depends on fails, before or after its effect, or answers late:
// first some times while the gate lives, then until the gate is killed over it.
// After that another member takes over what there is of store and broker, and
// everything that must always hold is checked (see failure_check_test.go).
func TestWhateverFailsEveryPromiseIsKept(t *testing.T) {
	var all sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, r := range failureTable() {
		manners := r.manners
		if manners == nil {
			manners = []manner{before, after, late}
		}
		for _, m := range manners {
			all.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				t.Run(fmt.Sprintf("%s/%s", r.promise, m), func(t *testing.T) { undergo(t, &r, m) })
			})
		}
	}
	all.Wait()
}

// undergo lets a gate go through one row.
func undergo(t *testing.T, r *row, m manner) {
	o := newOrdeal(t, r)
	watching, stop := context.WithCancel(t.Context())
	defer stop()
	var watch sync.WaitGroup
	watch.Go(func() { o.watchCommits(watching) })
	defer func() {
		stop()
		watch.Wait()
	}()
	delay := r.delay
	if delay == 0 {
		delay = beyondDeadline
	}

	o.trades()
	o.awaits(o.unanswered)

	times := 2
	switch {
	case r.unasked:
		times = 0
	case m == late, r.rules:
		times = 1 // nobody needs to ask again
	}
	few := newFault(m, times, delay)
	o.strikes(few)
	o.trades()
	o.meets(few, times)
	o.awaits(o.unanswered)

	endless := newFault(m, -1, delay)
	o.strikes(endless)
	o.trades()
	o.meets(endless, min(times, 1))
	if r.answers {
		o.awaits(o.unanswered)
	}
	o.kill()
	o.works()

	o.start()
	o.trades()
	o.awaits(o.unsettled)
	o.probes()
	stop()
	watch.Wait()
	o.checks()
	if m == late && r.defaults && !o.defaulted() {
		t.Error("no payment had its default: the row tests nothing")
	}
}

// defaulted tells whether some payment was given a default.
func (o *ordeal) defaulted() bool {
	for _, chain := range o.heard.chains {
		for _, d := range chain {
			if d.decision.Source == "default_deadline" {
				return true
			}
		}
	}
	return false
}

// to is a request by its kind and, where it has one, its topic.
func to(kind kmsg.Key, topic string) func(int16, string) bool {
	return func(key int16, of string) bool { return key == kind.Int16() && (topic == "" || of == topic) }
}

func failureTable() []row {
	topics := pipeline.DefaultConfig().Topics
	return []row{
		{promise: "payments that cannot be fetched are lost to nobody", request: to(kmsg.Fetch, topics.Transactions), defaults: true},
		{promise: "a decision that is not acknowledged is said again in the same bytes", request: to(kmsg.Produce, topics.Decisions), defaults: true},
		{promise: "an acknowledgement after the command's time is no second verdict", request: to(kmsg.Produce, topics.Decisions), manners: []manner{late}, delay: 10500 * time.Millisecond, defaults: true},
		{promise: "a refused record is in dead letters before it is committed", request: to(kmsg.Produce, topics.DeadLetters), answers: true},
		{promise: "notices hold up no verdict", request: to(kmsg.Produce, topics.Notices), answers: true},
		{promise: "alerts hold up no verdict", request: to(kmsg.Produce, topics.Alerts), starting: true, answers: true}, // who has told it does not tell it again
		{promise: "what is not committed is answered again and decided once", request: to(kmsg.OffsetCommit, ""), answers: true},
		{promise: "a member that the group has not heard of hands over", request: to(kmsg.Heartbeat, ""), delay: 1500 * time.Millisecond},
		{promise: "a member that cannot join joins later", request: to(kmsg.JoinGroup, ""), starting: true},
		{promise: "a member that has no assignment decides nothing", request: to(kmsg.SyncGroup, ""), starting: true},
		{promise: "nobody decides before its predecessor is fenced", request: to(kmsg.InitProducerID, ""), starting: true},
		{promise: "a fence that is half built is no fence", request: to(kmsg.AddPartitionsToTxn, ""), starting: true},
		{promise: "a fence without its marker is no fence", request: to(kmsg.EndTxn, ""), starting: true},
		{promise: "nobody decides before it knows what was decided", request: to(kmsg.Fetch, topics.Decisions), starting: true},
		{promise: "nobody begins where it has only guessed", request: to(kmsg.OffsetFetch, ""), starting: true},
		{promise: "ends of topics that are not known are asked for again", request: to(kmsg.ListOffsets, ""), starting: true},
		{promise: "a layout that is not known is asked for again", request: to(kmsg.Metadata, ""), starting: true},
		{promise: "controls that cannot be read hold up no verdict", request: to(kmsg.Fetch, topics.Controls), answers: true},
		{promise: "reviews that cannot be read come later, and once", request: to(kmsg.Fetch, topics.Reviews), answers: true},
		{promise: "outcomes that cannot be read count later, and once", request: to(kmsg.Fetch, topics.Outcomes), answers: true},

		{promise: "a journal that cannot be written is made good from Kafka", disk: "write", answers: true},
		{promise: "an offset waits for the disk", disk: "sync", answers: true},

		{promise: "rules that cannot be loaded leave the others in force", rules: true, acts: (*ordeal).reloads, answers: true},
		{promise: "a clock that is set moves no deadline", acts: (*ordeal).turns, unasked: true, manners: []manner{forwards, backwards}, answers: true},

		{promise: "logs that cannot be appended to are made good from Kafka", redis: true, command: "append :log:{", answers: true, defaults: true},
		{promise: "a decision that no other member heard of stands", redis: true, command: "set :dec: nx", answers: true, defaults: true},
		{promise: "transactions that cannot be looked up wait for nobody", redis: true, command: ":tx:{", answers: true, defaults: true},
		{promise: "logs that cannot be read are read later", redis: true, command: "getrange :log:{", starting: true},
		{promise: "outcomes that cannot be noted count later, and once", redis: true, command: ":seen:", answers: true},
		{promise: "progress that cannot be told holds up no verdict", redis: true, command: ":progress", answers: true},
		{promise: "partitions that move to another member take no payment along", redis: true, request: to(kmsg.OffsetCommit, ""), acts: (*ordeal).crowds},
	}
}
