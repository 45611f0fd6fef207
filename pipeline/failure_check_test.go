package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// sighting is what was committed at a moment, and how long the topics were a
// moment later.
type sighting struct {
	committed []int64 // of payments.transactions, by partition
	decisions []int64 // ends
	letters   []int64
}

// watchCommits notes what is committed until ctx ends.
func (o *ordeal) watchCommits(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var s sighting
		all, err := o.conn.Committed(ctx, o.config.Kafka.Group, o.config.Topics.Transactions)
		for _, a := range all {
			s.committed = append(s.committed, a.Offset)
		}
		if err == nil {
			s.decisions, err = o.ends(ctx, o.config.Topics.Decisions)
		}
		if err == nil {
			s.letters, err = o.ends(ctx, o.config.Topics.DeadLetters)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			o.t.Error(err)
			return
		}
		if n := len(o.sightings); n == 0 || !slices.Equal(o.sightings[n-1].committed, s.committed) {
			o.sightings = append(o.sightings, s) // as soon as something was committed: later it proves less
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (o *ordeal) ends(ctx context.Context, topic string) (ends []int64, err error) {
	ranges, err := o.conn.TopicOffsets(ctx, topic)
	for _, r := range ranges {
		ends = append(ends, r.End)
	}
	return ends, err
}

// unanswered says which record has no answer yet.
func (o *ordeal) unanswered() string {
	for _, r := range o.records {
		if r.id != "" && !slices.ContainsFunc(o.heard.chains[r.id], func(d heardDecision) bool { return d.at.partition == r.partition }) {
			return fmt.Sprintf("%s at %d/%d has no decision in its partition: %s", r.id, r.partition, r.offset, o.chainOf(r.id))
		}
	}
	return ""
}

// unsettled says what has not come to its end.
func (o *ordeal) unsettled() string {
	if what := o.unanswered(); what != "" {
		return what
	}
	o.reviews()
	for id, p := range o.payments {
		last, done := o.latest(id), false
		switch p.fate {
		case fateApproved:
			done = last.Verdict == payment.Approve
		case fateReviewed:
			done = last.Verdict == payment.Approve && last.Source == payment.SourceReview
		case fateForgotten:
			done = last.Verdict == payment.Block && last.Source == payment.SourceExpiry
		case fateInvalid:
			done = last.Verdict == payment.Block && last.Source == payment.SourceInvalid
		}
		if !done {
			return fmt.Sprintf("%s should be %s: %s", id, p.fate, o.chainOf(id))
		}
	}
	for at := range o.refused {
		if len(o.heard.letters[at]) == 0 {
			return fmt.Sprintf("%v is in no dead letter", at)
		}
	}
	return o.uncommitted()
}

// uncommitted says what is not folded or not committed yet.
func (o *ordeal) uncommitted() string {
	for name, left := range o.gauges("sluice_unfolded_records") {
		if left != 0 {
			return fmt.Sprintf("sluice_unfolded_records{%s} is %v", name, left)
		}
	}
	ctx, cancel := context.WithTimeout(o.t.Context(), patienceOfTests)
	defer cancel()
	for _, topic := range []string{o.config.Topics.Transactions, o.config.Topics.Outcomes, o.config.Topics.Reviews} {
		all, err := o.conn.Committed(ctx, o.config.Kafka.Group, topic)
		if err != nil {
			o.t.Fatal(err)
		}
		for p, a := range all {
			if sent := o.next[place{topic: topic, partition: p}]; a.Offset != sent && sent > 0 {
				return fmt.Sprintf("%d of %d records of %s/%d are committed", a.Offset, sent, topic, p)
			}
		}
	}
	return ""
}

// gauges are the values of a metric, by their labels.
func (o *ordeal) gauges(name string) map[string]float64 {
	o.t.Helper()
	families, err := o.metrics.Gather()
	if err != nil {
		o.t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				values[fmt.Sprint(m.GetLabel())] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return values
}

func (o *ordeal) chainOf(id string) string {
	var b strings.Builder
	for _, d := range o.heard.chains[id] {
		fmt.Fprintf(&b, "\n\t%d/%d revision %d %s %s %v", d.at.partition, d.at.offset, d.decision.Revision, d.decision.Verdict, d.decision.Source, d.decision.Degraded)
	}
	return b.String()
}

// checks holds everything that was said, counted and committed against what must
// always hold.
func (o *ordeal) checks() {
	o.t.Helper()
	o.listen()
	for id, p := range o.payments {
		o.checkChain(id, p)
	}
	for id := range o.heard.chains {
		if o.payments[id] == nil {
			o.t.Errorf("there is a decision of %q, which was never sent", id)
		}
	}
	for at, letters := range o.heard.letters {
		record, refused := o.refused[at]
		for _, l := range letters {
			if !refused || l.text != record {
				o.t.Errorf("dead letter of %v, refused %v: %s, want %s", at, refused, l.text, record)
			}
		}
	}
	o.checkCommits()
	o.checkLogs()
}

// checkChain looks at the decisions of one payment.
func (o *ordeal) checkChain(id string, p *sentPayment) {
	o.t.Helper()
	text := map[int]string{}
	highest := map[int]int{} // by partition
	for _, h := range o.heard.chains[id] {
		d := &h.decision
		if said, ok := text[d.Revision]; ok && said != h.text {
			o.t.Errorf("%s has two revisions %d:\n%s\n%s", id, d.Revision, said, h.text)
		}
		text[d.Revision] = h.text
		if d.Revision > highest[h.at.partition]+1 && (highest[h.at.partition] > 0 || d.Revision > 2) {
			o.t.Errorf("revision %d of %s comes after %d", d.Revision, id, highest[h.at.partition])
		}
		highest[h.at.partition] = max(highest[h.at.partition], d.Revision)
		o.checkDecision(id, d, p)
	}
	for revision := range text {
		if revision > 1 && text[revision-1] == "" {
			o.t.Errorf("%s has a revision %d and no revision before it: %s", id, revision, o.chainOf(id))
		}
	}
}

func (o *ordeal) checkDecision(id string, d *payment.Decision, p *sentPayment) {
	o.t.Helper()
	switch {
	case d.Verdict == payment.Block && p.fate == fateApproved:
		o.t.Errorf("%s is blocked, by a shadow rule or by nobody: %+v", id, d)
	case d.Revision == 1 && (d.Corrects != "" || d.SettledBy != payment.Settled{}):
		o.t.Errorf("the first decision of %s corrects something: %+v", id, d)
	case d.DecidedAt != 0 && time.Duration(d.DecidedAt-d.EventTime).Abs() > patienceOfTests:
		o.t.Errorf("%s was decided at %s: %+v", id, d.DecidedAt, d)
	case d.Revision == 1 && d.Source != payment.SourceDefaultDeadline && d.Source != payment.SourceInvalid && d.DecidedAt > d.DecideBy:
		o.t.Errorf("%s was decided at %s, due at %s, and is not marked: %+v", id, d.DecidedAt, d.DecideBy, d)
	case d.Revision > 1 && d.Source == payment.SourceRules && d.Corrects != payment.SourceDefaultDeadline:
		o.t.Errorf("revision %d of %s does not say what it corrects: %+v", d.Revision, id, d)
	}
}

// checkCommits looks whether an offset was ever committed above a record without
// an answer.
func (o *ordeal) checkCommits() {
	o.t.Helper()
	if len(o.sightings) < 3 {
		o.t.Errorf("only %d commits were seen", len(o.sightings))
	}
	for _, s := range o.sightings {
		for _, r := range o.records {
			if r.offset >= s.committed[r.partition] {
				continue
			}
			decided := r.id == "" || slices.ContainsFunc(o.heard.chains[r.id], func(d heardDecision) bool {
				return d.at.partition == r.partition && d.at.offset < s.decisions[r.partition]
			})
			_, refused := o.refused[r.place]
			buried := !refused || slices.ContainsFunc(o.heard.letters[r.place], func(l heardLetter) bool { return l.at.offset < s.letters[l.at.partition] })
			if !decided || !buried {
				o.t.Errorf("%d was committed of partition %d, and record %d had no answer (decided %v, in dead letters %v)", s.committed[r.partition], r.partition, r.offset, decided, buried)
			}
		}
	}
}

// checkLogs looks into the logs of all entities: each payment stands there once,
// and so does its outcome. A log on Redis may hold an entry again, which readers
// ignore; probes show that they do.
func (o *ordeal) checkLogs() {
	o.t.Helper()
	store := o.service.Gate().Store
	for id, p := range o.payments {
		if p.fate == fateInvalid {
			continue
		}
		hash := fmt.Sprintf("%016x", store.Key().Tx(id).Lo)
		for _, entity := range store.Entities() {
			payments, outcomes := 0, 0
			var at []payment.Position
			look := func(e window.LogEntry) bool {
				for _, f := range e.Words.Facts {
					if f.Name == "transaction" && f.Value == hash && e.Words.Kind == "transaction" {
						payments++
						at = append(at, e.Position)
					}
					if f.Name == "transaction" && f.Value == hash && e.Words.Kind == "outcome" {
						outcomes++
					}
				}
				return true
			}
			err := store.Log(o.t.Context(), entity, store.Key().EntityKey(entity, &p.tx), look)
			for errors.Is(err, window.ErrAway) { // the machine may be slow as well
				<-store.Back()
				payments, outcomes, at = 0, 0, nil
				err = store.Log(o.t.Context(), entity, store.Key().EntityKey(entity, &p.tx), look)
			}
			if err != nil {
				o.t.Fatal(err)
			}
			settled := 0
			if p.settled && (entity.String() == "payer" || entity.String() == "charge") { // where somebody looks at it
				settled = 1
			}
			tooMany := !o.row.redis && (payments > 1 || outcomes > settled)
			if payments < 1 || outcomes < settled || tooMany {
				o.t.Errorf("the log of the %s of %s has %d entries of the payment and %d of its outcome, want 1 and %d, %v; said: %s", entity, id, payments, outcomes, settled, at, o.chainOf(id))
			}
		}
	}
}

// probes sends a last payment of each payer, and looks whether its windows are
// exact. One that is not answered by a whole gate in time is followed by another.
func (o *ordeal) probes() {
	o.t.Helper()
	for payer := range 3 {
		for try := 0; ; try++ {
			for len(o.payments)%3 != payer {
				o.pays(fmt.Sprint("filler-", len(o.payments)), 0, fateApproved)
			}
			id := fmt.Sprintf("probe-%d-%d", payer, try)
			o.pays(id, o.rng.IntN(ordealPartitions), fateApproved, `"type":"payment"`, fmt.Sprintf(`"type":"payment","decide_by":%q`, time.Now().Add(time.Minute).UTC().Format(time.RFC3339Nano)))
			o.awaits(o.unsettled)
			first := o.heard.chains[id][0].decision
			if first.Source == payment.SourceDefaultDeadline || len(first.Degraded) > 0 {
				if try == 10 {
					o.t.Errorf("a whole gate still answers %s %v", first.Source, first.Degraded)
					return
				}
				continue
			}
			o.checkWindows(id, &first)
			break
		}
	}
}

// checkWindows holds the features of a payment that came last against what was sent.
func (o *ordeal) checkWindows(id string, d *payment.Decision) {
	o.t.Helper()
	probe := &o.payments[id].tx
	var events, settled, spent int64
	payers := map[string]bool{}
	for _, p := range o.payments {
		if p.fate == fateInvalid {
			continue
		}
		payers[p.tx.Payer.AccountID] = true // all have one card
		if p.tx.Payer.AccountID == probe.Payer.AccountID {
			events++
			if p.settled {
				settled++
			}
		}
		if p.tx.Payee.AccountID == probe.Payee.AccountID {
			spent += p.tx.Amount.Value
		}
	}
	want := map[string]int64{"payer.events_1h": events, "payer.settled_1h": settled, "payee.spent_1h": spent, "card.payers_1h": int64(len(payers))}
	for _, f := range d.Evidence.Features {
		if got := f.Value.AppendJSON(nil); !bytes.Equal(got, fmt.Append(nil, want[f.Name])) {
			o.t.Errorf("%s of the last payment is %s, want %d", f.Name, got, want[f.Name])
		}
		delete(want, f.Name)
	}
	if len(want) > 0 {
		o.t.Errorf("the last payment has no %v: %+v", want, d.Evidence)
	}
}
