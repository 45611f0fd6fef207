package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/sluice-risk/sluice/benchmarks/storm/oracle"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// report is what both arms have found.
type report struct {
	options *options
	shared  *arm // nil: it did not run
	alone   *arm // the embedded store
}

// arm is what one of them has found.
type arm struct {
	payments int
	flowed   time.Duration // while payments were sent
	settled  time.Duration // after that
	checked  time.Duration
	faults   []*fault
	losses   int      // times that a store had lost the end of its logs
	lostHow  string   // what was cut, of the embedded store
	refused  int      // members that ended before they decided anything, and were started again
	broken   []string // promises, beside the audit's
	report   *oracle.Report
}

func (a *arm) bad() int {
	if a == nil {
		return 0
	}
	return len(a.broken) + a.report.Bad()
}

func (r *report) bad() int { return r.shared.bad() + r.alone.bad() }

// markdown is the report as it is printed and kept.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Storm\n\n%v; %d partitions, session timeout %v, windows of %v to %v.\n", r.options, r.options.partitions, r.options.session, 5*r.options.unit, 60*r.options.unit)
	fmt.Fprintf(&b, "%d cores for everything; %s.\n", runtime.NumCPU(), runtime.Version())
	if r.shared != nil {
		fmt.Fprintf(&b, "\n## Three members, three brokers, one Redis\n")
		r.shared.write(&b)
	}
	if r.alone != nil {
		fmt.Fprintf(&b, "\n## One member with an embedded store, on a disk that loses what was not synced\n")
		r.alone.write(&b)
	}
	return b.String()
}

func (a *arm) write(b *strings.Builder) {
	r := a.report
	fmt.Fprintf(b, "\n%d payments in %v, settled %v later; checked in %v.\n", a.payments, a.flowed.Round(time.Second), a.settled.Round(100*time.Millisecond), a.checked.Round(time.Second))
	fmt.Fprintf(b, "\n| must be 0 | |\n|---|---|\n")
	for _, c := range oracle.Checks() {
		fmt.Fprintf(b, "| %s | %d |\n", c, r.Findings[c].Count)
	}
	fmt.Fprintf(b, "| members that ended by themselves, and anything else that was not as it should be | %d |\n", len(a.broken))
	for _, c := range oracle.Checks() {
		for i, example := range r.Findings[c].Examples {
			if i == 0 {
				fmt.Fprintf(b, "\n%s, for example:\n\n", c)
			}
			fmt.Fprintf(b, "- `%s`\n", strings.ReplaceAll(example, "`", "'"))
		}
	}
	for i, what := range a.broken {
		if i == 0 {
			fmt.Fprintln(b)
		}
		fmt.Fprintf(b, "- `%s`\n", strings.ReplaceAll(what, "`", "'"))
	}
	a.writeFigures(b)
	a.writeTimes(b)
	a.writeFaults(b)
}

func (a *arm) writeFigures(b *strings.Builder) {
	r := a.report
	lostOf := map[string]bool{}
	for _, l := range r.Lost {
		lostOf[l.Transaction] = true
	}
	fmt.Fprintf(b, "\n| | |\n|---|---|\n")
	line := func(what string, n any) { fmt.Fprintf(b, "| %s | %v |\n", what, n) }
	line("transactions, by their id", r.Transactions)
	line("records of them", r.Records)
	line("of these refused, and dead letters", fmt.Sprintf("%d, of them %d with another content under a known id; %d dead letters", r.Refused+r.Conflicts, r.Conflicts, r.DeadLetters))
	line("records of decisions", r.Decisions)
	line("of these repeats, byte for byte", r.Repeats)
	line("first decisions by source", countsOf(r.Sources))
	line("first decisions that lack something", countsOf(r.Degraded))
	line("later revisions, that correct a default", r.Corrections)
	line("later revisions, that settle a hold", r.Settlements)
	line("logs", r.Logs)
	line("entries of transactions and outcomes in them, each once", r.Entries)
	line("entries that stand in a log again, byte for byte, and count once", r.Again)
	line("bytes that seals made void", r.Void)
	line("values compared", r.Compared)
	line("positions that are the transaction's own", r.Own)
	line("positions up to which one of a backlog was decided", r.Later)
	line("revisions that rest on no window", r.Without)
	line("revisions that lack windows, and say so: not compared", r.Lacking)
	if a.losses > 0 {
		line("times that the store came back", a.losses)
		line("positions that were lost with it", fmt.Sprintf("%d, of %d transactions: their values are not compared; %s in the folder of --dir lists them", len(r.Lost), len(lostOf), lostFile))
	}
	if a.lostHow != "" {
		line("lost with the power", a.lostHow)
	}
	line("starts of a member that ended before it decided anything, and were repeated", a.refused)
}

// lostFile lists lost positions: transaction, entity, position, a line each.
const lostFile = "lost-positions.tsv"

// writeLost keeps the list of lost positions in a folder.
func (a *arm) writeLost(dir string) error {
	var b bytes.Buffer
	for _, l := range a.report.Lost {
		fmt.Fprintf(&b, "%s\t%s\t%v\n", l.Transaction, l.Entity, l.Position)
	}
	return os.WriteFile(filepath.Join(dir, lostFile), b.Bytes(), 0o644)
}

// countsOf lists how often each is there, the most frequent first.
func countsOf[K ~string](counts map[K]int) string {
	keys := slices.SortedFunc(maps.Keys(counts), func(a, b K) int {
		if counts[a] != counts[b] {
			return counts[b] - counts[a]
		}
		return strings.Compare(string(a), string(b))
	})
	var texts []string
	for _, k := range keys {
		texts = append(texts, fmt.Sprintf("%s %d", k, counts[k]))
	}
	if texts == nil {
		return "0"
	}
	return strings.Join(texts, "; ")
}

// aftermath is how long after its healing a fault is still blamed for what is slow.
const aftermath = 2 * time.Second

// times are those of transactions that came while something was broken.
type times struct {
	name                                       string
	came, hopeless, late, deadline, lacks, did int
	longest                                    time.Duration // that one waited for its first answer
}

func (t *times) add(a *oracle.Answer) {
	t.came++
	wait := time.Duration(a.Answered - a.Arrived)
	t.longest = max(t.longest, wait)
	switch {
	case a.Hopeless():
		t.hopeless++
	case a.Late():
		t.late++
	default:
		t.did++
	}
	if a.Source == payment.SourceDefaultDeadline {
		t.deadline++
	}
	if a.Degraded != "" {
		t.lacks++
	}
}

func (t *times) write(b *strings.Builder) {
	share := func(n, of int) string { return fmt.Sprintf("%.2f %%", 100*float64(n)/float64(max(1, of))) }
	fmt.Fprintf(b, "| %s | %d | %d | %d | %s | %s | %s | %v |\n", t.name, t.came, t.hopeless, t.late, share(t.did, t.did+t.late), share(t.deadline, t.came), share(t.lacks, t.came), t.longest.Round(time.Millisecond))
}

// writeTimes says who was answered in time, overall and by what was broken when
// the transaction came. Where several faults overlap, all are blamed.
func (a *arm) writeTimes(b *strings.Builder) {
	all, calm := &times{name: "**all**"}, &times{name: "nothing broken"}
	by := map[string]*times{}
	for i := range a.report.Answers {
		answer := &a.report.Answers[i]
		if answer.DecideBy == 0 {
			continue // it could not be used
		}
		all.add(answer)
		blamed := map[string]bool{}
		for _, f := range a.faults {
			if at := answer.Arrived.Std(); at.After(f.struck.Add(-time.Second)) && at.Before(f.healed.Add(aftermath)) {
				blamed[f.kind.name] = true
			}
		}
		for name := range blamed {
			if by[name] == nil {
				by[name] = &times{name: name}
			}
			by[name].add(answer)
		}
		if len(blamed) == 0 {
			calm.add(answer)
		}
	}
	fmt.Fprintf(b, "\nTime runs from when the transaction was in its topic to when revision 1 was, both as the broker stamps them. A transaction is blamed on every\n")
	fmt.Fprintf(b, "fault that was not healed for more than %v when it came, or struck within a second of that. \"Too late already\" came to its topic after its deadline, when its\n", aftermath)
	fmt.Fprintf(b, "partition could not be written to; they are left out of the share in time.\n\n")
	fmt.Fprintf(b, "| while | transactions | too late already | late | in time | default by deadline | lacks something | longest silence |\n|---|---:|---:|---:|---:|---:|---:|---:|\n")
	all.write(b)
	calm.write(b)
	for _, name := range kindsOf(a.faults) {
		if by[name] != nil {
			by[name].write(b)
		}
	}
}

func (a *arm) writeFaults(b *strings.Builder) {
	if len(a.faults) == 0 {
		return
	}
	began := a.faults[0].struck.Add(-a.faults[0].after)
	fmt.Fprintf(b, "\n| fault | | struck at | healed after | |\n|---:|---|---:|---:|---|\n")
	for _, f := range a.faults {
		target := ""
		if f.kind.touches == aMember || f.kind.name == "broker-kill" {
			target = fmt.Sprint(" ", f.target+1)
		}
		fmt.Fprintf(b, "| %d | %s%s | %.1f s | %v | %s |\n", f.number, f.kind.name, target, f.struck.Sub(began).Seconds(), f.healed.Sub(f.struck).Round(10*time.Millisecond), f.note)
	}
}
