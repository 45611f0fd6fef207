package oracle

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// Gate is what an audit looks at, once everything has settled.
type Gate struct {
	// Each visits every record of a topic as it is now, partition by partition; the
	// record is valid during the call.
	Each func(ctx context.Context, topic string, visit func(broker.Record) error) error
	// The names of its topics.
	Transactions, Outcomes, Decisions, DeadLetters string

	Key      window.Key // under which the store hashes identifiers
	Logs     Logs
	Features []Feature // of the ruleset that all decisions were made with
	Losses   []Loss    // that the store has suffered

	places map[string]int // of Features by name
}

// Check is something that must never be found.
type Check int

// The checks.
const (
	// Undecided is a transaction without a decision, or a record without one in its partition.
	Undecided Check = iota
	// Contradicted is a revision 1 with other bytes than another of its transaction.
	Contradicted
	// Missing is an entry of a transaction or of an outcome that a log lacks.
	Missing
	// Doubled is an entry that nobody sent, or that stands in a log again in other
	// bytes, so that a fold may count the wrong one.
	Doubled
	// Wrong is a value that is not what its definition says of the logs up to the
	// positions of its decision, or evidence that cannot be held against them.
	Wrong
	// Disordered is a later revision out of order, with a gap, in other bytes, or
	// one that does not say what it corrects.
	Disordered
	// Letters is a refused record without a dead letter, or a dead letter of a record
	// that could be used.
	Letters
	// Repeated is a duplicate payment that was decided as if it were none, or the
	// other way round.
	Repeated
	// Foreign is a decision of no transaction that was sent, or of another kind than it must be.
	Foreign

	checks
)

// Checks returns all checks.
func Checks() []Check {
	all := make([]Check, checks)
	for i := range all {
		all[i] = Check(i)
	}
	return all
}

// String says what is counted.
func (c Check) String() string {
	return [...]string{"transactions without a decision", "two revision-1 decisions of one transaction that differ in a byte",
		"entries missing in a log", "entries double in a log", "values that differ from the oracle at their recorded positions",
		"revisions out of order", "records that should, or should not, be in dead letters", "duplicate payments told otherwise than the logs of charges do",
		"decisions of nothing that was sent"}[c]
}

// Finding is how often a check has failed, and how for example.
type Finding struct {
	Count    int
	Examples []string
}

const examples = 10

// LostPosition is one that a decision names and that was lost with the end of a log.
type LostPosition struct {
	Transaction, Entity string
	Position            At
}

// Answer is the first answer to a transaction.
type Answer struct {
	Transaction string
	Arrived     payment.Time // when its first record was in the topic, in whole milliseconds
	Answered    payment.Time // when revision 1 was, in whole milliseconds
	DecideBy    payment.Time // 0: the record could not be used
	Source      payment.Source
	Degraded    string // what it lacks, joined by commas
}

// Late tells whether the answer was in its topic only after the deadline.
func (a *Answer) Late() bool { return a.DecideBy != 0 && a.Answered > a.DecideBy }

// Hopeless tells whether the transaction itself came after its deadline.
func (a *Answer) Hopeless() bool { return a.DecideBy != 0 && a.Arrived >= a.DecideBy }

// Report is what an audit has found.
type Report struct {
	Findings [checks]Finding

	Records, Transactions, Invalid, Refused, Conflicts, DeadLetters int

	Decisions   int // records
	Repeats     int // of these, byte for byte what stood there before
	Corrections int // later revisions that take back a default
	Settlements int // later revisions that settle a hold
	Sources     map[payment.Source]int
	Degraded    map[string]int
	Answers     []Answer

	Logs     int
	Entries  int // of transactions and outcomes, each once
	Again    int // entries that stand in a log again, byte for byte, and count once
	Void     int // bytes behind seals
	Parked   int // outcomes that have found no transaction
	Compared int // values
	Own      int // positions that are the transaction's own
	Later    int // positions up to which a transaction of a backlog was decided
	Without  int // revisions that rest on no window
	Lacking  int // revisions that say that they lack windows
	Lost     []LostPosition

	Duplicates int // revisions that say that their transaction is a duplicate payment
	Excused    int // of these, of a payment that was blocked, which was not known yet
}

// Bad is how many findings there are.
func (r *Report) Bad() (n int) {
	for _, f := range r.Findings {
		n += f.Count
	}
	return n
}

// audit is one in progress.
type audit struct {
	gate *Gate
	sent *sent

	mu     sync.Mutex // guards the findings and Lost while values are checked
	report *Report
}

func (a *audit) found(c Check, format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f := &a.report.Findings[c]
	if f.Count++; len(f.Examples) < examples {
		text := fmt.Sprintf(format, args...)
		f.Examples = append(f.Examples, text[:min(len(text), 800)])
	}
}

func (a *audit) lost(p LostPosition) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report.Lost = append(a.report.Lost, p)
}

// Audit holds the topics and the logs of a gate against each other.
func (g *Gate) Audit(ctx context.Context) (*Report, error) {
	g.places = map[string]int{}
	for i := range g.Features {
		g.places[g.Features[i].FullName()] = i
	}
	a := &audit{gate: g, report: &Report{Sources: map[payment.Source]int{}, Degraded: map[string]int{}}}
	var err error
	if a.sent, err = g.readSent(ctx); err != nil {
		return nil, err
	}
	a.report.Records, a.report.Transactions, a.report.Parked = a.sent.records, len(a.sent.byID), a.sent.parked
	if err := a.decisions(ctx); err != nil {
		return nil, err
	}
	a.checkAnswers()
	a.checkLogs()
	a.checkDuplicates()
	return a.report, a.checkLetters(ctx)
}

// decisions reads the decisions, and recomputes their values on all cores.
func (a *audit) decisions(ctx context.Context) error {
	type work struct {
		x *transaction
		d said
	}
	todo := make(chan work, 256)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			by, n := &definitions{map[uint64]bool{}}, counts{}
			for w := range todo {
				a.checkValues(w.x, w.d, by, &n)
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			r := a.report
			r.Compared, r.Own, r.Later, r.Without, r.Lacking = r.Compared+n.compared, r.Own+n.own, r.Later+n.later, r.Without+n.without, r.Lacking+n.degraded
		})
	}
	err := a.readSaid(ctx, func(x *transaction, d said) {
		d.record.Value, d.record.Key, d.record.Headers = slices.Clone(d.record.Value), nil, nil
		todo <- work{x, d}
	})
	close(todo)
	workers.Wait()
	return err
}

// checkLogs: a transaction stands in the logs of its entities, as it was sent,
// with each of its outcomes, and nothing else stands there.
func (a *audit) checkLogs() {
	expected, g := map[string]int{}, a.gate
	for id, x := range a.sent.byID {
		if x.invalid {
			a.report.Invalid++
			continue
		}
		c := x.decided()
		for k, kind := range Kinds() {
			if c.keys[k] == 0 {
				continue
			}
			name := logName(kind, c.keys[k])
			expected[name]++
			l := g.Logs[name]
			if l == nil {
				a.found(Missing, "%s %s of transaction %s has no log", kind, c.ids[k], id)
				continue
			}
			i, ok := l.of[x.hash]
			if !ok {
				a.found(Missing, "transaction %s does not stand in the log of %s %s", id, kind, c.ids[k])
				continue
			}
			e := &l.events[i]
			if e.time != x.time || e.based != c.based || c.based && e.base != c.base {
				a.found(Doubled, "transaction %s stands in the log of %s %s as %+v", id, kind, c.ids[k], *e)
			}
			a.checkOutcomes(x, e, kind+" "+c.ids[k])
		}
	}
	known := Kinds()
	for name, l := range g.Logs {
		for _, at := range l.altered {
			a.found(Doubled, "the entry at %v in the log of %s differs from one of the same transaction before it", at, name)
		}
		a.report.Again += l.again + l.retold
		a.report.Void += l.void
		ours := slices.ContainsFunc(known[:], func(kind string) bool { return len(name) > len(kind) && name[:len(kind)+1] == kind+":" })
		if !ours {
			continue
		}
		a.report.Logs++
		if extra := len(l.events) - expected[name]; extra > 0 {
			a.found(Doubled, "the log of %s holds %d transactions, and %d were sent", name, len(l.events), expected[name])
		}
		if l.orphans > 0 {
			a.found(Doubled, "%d outcomes stand before their transaction, or without it, in the log of %s", l.orphans, name)
		}
		a.report.Entries += len(l.events)
	}
}

// checkOutcomes holds the outcomes in the entry of a transaction against those that were sent.
func (a *audit) checkOutcomes(x *transaction, e *event, log string) {
	a.report.Entries += len(e.outcomes)
	for _, o := range x.outcomes {
		if !slices.ContainsFunc(e.outcomes, func(stands outcome) bool { return stands.time == o.time && stands.kind == o.kind }) {
			a.found(Missing, "the outcome %v of transaction %s does not stand in the log of %s", o, x.id, log)
		}
	}
	for _, o := range e.outcomes {
		if !slices.Contains(x.outcomes, told{o.time, o.kind}) {
			a.found(Doubled, "an outcome %v that nobody sent of transaction %s stands in the log of %s", o, x.id, log)
		}
	}
}

// Kafka is a Gate's Each over a cluster.
func Kafka(conn *broker.Conn) func(ctx context.Context, topic string, visit func(broker.Record) error) error {
	return func(ctx context.Context, topic string, visit func(broker.Record) error) error {
		ranges, err := conn.TopicOffsets(ctx, topic)
		if err != nil {
			return err
		}
		for p, r := range ranges {
			_, err := conn.ReadRange(ctx, topic, p, r.First, r.End, func(r broker.Record) error {
				r.Partition = p
				return visit(r)
			})
			if err != nil {
				return fmt.Errorf("%s/%d: %w", topic, p, err)
			}
		}
		return nil
	}
}
