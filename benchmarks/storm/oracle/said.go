package oracle

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// revision is one that was published.
type revision struct {
	digest [sha256.Size]byte // all zeros: it has not been read yet
	source payment.Source

	verdict   string
	duplicate string // the transaction that it repeats, by its words; "" for none
	decided   payment.Time
	exact     bool // it rests on the logs
}

// stand says how many revisions of a transaction stand in one partition.
type stand struct{ partition, revisions int }

// said reads the fields of a decision that the audit needs, from its bytes. Texts
// of a run hold neither quotes nor backslashes.
type said struct{ record broker.Record }

// text is the string behind a name at the top of the decision, "" where it has none.
// A name that is also used further in is asked for by what stands before it there.
func (d said) text(name string) string {
	_, rest, ok := bytes.Cut(d.record.Value, []byte(`,"`+name+`":"`))
	if !ok {
		return ""
	}
	text, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(text)
}

func (d said) time(name string) payment.Time {
	t, _ := payment.ParseTime(d.text(name))
	return t
}

// degraded is what the decision lacks.
func (d said) degraded() []string {
	_, rest, ok := bytes.Cut(d.record.Value, []byte(`,"degraded":[`))
	if !ok {
		return nil
	}
	list, _, _ := bytes.Cut(rest, []byte("]"))
	return strings.Split(strings.ReplaceAll(string(list), `"`, ""), ",")
}

func (d said) header(key string) string {
	for _, h := range d.record.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

func (d said) String() string {
	return fmt.Sprintf("decision %d/%d: %s", d.record.Partition, d.record.Offset, d.record.Value)
}

// readSaid reads what was decided. Each revision that is met for the first time is
// given to evidence.
func (a *audit) readSaid(ctx context.Context, evidence func(x *transaction, d said)) error {
	return a.gate.Each(ctx, a.gate.Decisions, func(r broker.Record) error {
		a.report.Decisions++
		d := said{r}
		id, number := d.header("transaction_id"), 0
		if n, err := strconv.Atoi(d.header("revision")); err == nil {
			number = n
		}
		x := a.sent.byID[id]
		if x == nil || number < 1 || !bytes.HasPrefix(r.Value, fmt.Appendf(nil, `{"v":1,"decision_id":"%s","transaction_id":"%s","revision":%d,`, payment.AppendDecisionID(nil, id, number), id, number)) {
			a.found(Foreign, "%s", d)
			return nil
		}
		first, err := a.stand(x, number, d)
		if err != nil || !first {
			return err
		}
		if number == 1 {
			a.answered(x, d)
		} else {
			a.corrected(x, number, d)
		}
		evidence(x, d)
		return nil
	})
}

// stand takes one record of a revision: in each partition revisions begin in
// order, without a gap, and wherever one stands it has the same bytes. first is
// whether the revision was not met before.
func (a *audit) stand(x *transaction, number int, d said) (first bool, err error) {
	var here *stand
	for i := range x.stands {
		if x.stands[i].partition == d.record.Partition {
			here = &x.stands[i]
		}
	}
	if here == nil {
		x.stands = append(x.stands, stand{partition: d.record.Partition})
		here = &x.stands[len(x.stands)-1]
	}
	switch {
	case number == here.revisions+1:
		here.revisions++
	case number > here.revisions:
		a.found(Disordered, "revision %d of %s follows %d: %s", number, x.id, here.revisions, d)
		here.revisions = number
	}
	for len(x.revisions) < number {
		x.revisions = append(x.revisions, revision{})
	}
	digest, known := sha256.Sum256(d.record.Value), &x.revisions[number-1]
	switch {
	case known.digest == [sha256.Size]byte{}:
		*known = revision{digest: digest, source: payment.Source(d.text("source")), verdict: d.header("verdict"), duplicate: d.duplicate(), decided: d.time("decided_at")}
		known.exact = rests(known.source, d.degraded(), new(counts)) && !slices.Contains(d.degraded(), payment.DegradedUnshared)
		return true, nil
	case known.digest == digest:
		a.report.Repeats++
	case number == 1:
		a.found(Contradicted, "another revision 1 of %s: %s", x.id, d)
	default:
		a.found(Disordered, "another revision %d of %s: %s", number, x.id, d)
	}
	if number == 1 {
		x.answered = min(x.answered, d.record.Time)
	}
	return false, nil
}

// answered takes the first record of a revision 1.
func (a *audit) answered(x *transaction, d said) {
	x.answered = d.record.Time
	if len(x.contents) > 1 {
		a.chosen(x, d)
	}
	source := x.revisions[0].source
	if x.invalid != (source == payment.SourceInvalid) {
		a.found(Foreign, "transaction %s, refused %v, should not have the source %s: %s", x.id, x.invalid, source, d)
	}
	degraded := strings.Join(d.degraded(), ",")
	a.report.Sources[source]++
	if degraded != "" {
		a.report.Degraded[degraded]++
	}
	if x.invalid {
		x.decideBy = 0
	}
	a.report.Answers = append(a.report.Answers, Answer{Transaction: x.id, Source: source, Degraded: degraded, DecideBy: x.decideBy})
}

// chosen puts the content first that was decided.
func (a *audit) chosen(x *transaction, d said) {
	var decision struct {
		Transaction payment.Summary `json:"transaction"`
	}
	err := json.Unmarshal(d.record.Value, &decision)
	is := &decision.Transaction
	of := content{kind: is.Type, amount: is.Amount.Value, currency: is.Amount.Currency.String(), payer: is.Payer, payee: is.Payee, instrument: is.Instrument}
	for i := range x.contents {
		if err == nil && x.contents[i].same(&of) {
			x.contents[0], x.contents[i] = x.contents[i], x.contents[0]
			return
		}
	}
	a.found(Foreign, "nobody sent what this is about (%v): %s", err, d)
}

// corrected takes the first record of a later revision: one that does not settle a
// hold takes back a default, and says so.
func (a *audit) corrected(x *transaction, number int, d said) {
	switch x.revisions[number-1].source {
	case payment.SourceReview, payment.SourceStepUp, payment.SourceExpiry:
		a.report.Settlements++
		return
	}
	before := x.revisions[number-2]
	a.report.Corrections++
	switch corrects := payment.Source(d.text("corrects")); {
	case before.source == payment.SourceInvalid:
	case corrects == "" || corrects != before.source || corrects != payment.SourceDefaultDeadline && corrects != payment.SourceDefaultError:
		a.found(Disordered, "revision %d of %s corrects %q, and before it stands one of %q: %s", number, x.id, corrects, cmp.Or(before.source, "nothing"), d)
	}
}

// checkAnswers: every transaction has a decision, and one in the partition of
// each of its records.
func (a *audit) checkAnswers() {
	for id, x := range a.sent.byID {
		if len(x.revisions) == 0 || len(x.stands) == 0 {
			a.found(Undecided, "transaction %s (record %v) has no decision", id, x.contents[0].records[0])
			continue
		}
		for _, r := range x.decided().records {
			answered := false
			for _, s := range x.stands {
				answered = answered || s.partition == r.partition
			}
			if !answered {
				a.found(Undecided, "transaction %s has no decision in the partition of its record %v", id, r)
			}
		}
	}
	for i := range a.report.Answers {
		answer := &a.report.Answers[i]
		x := a.sent.byID[answer.Transaction]
		answer.Arrived, answer.Answered = payment.Time(x.arrived)*1e6, payment.Time(x.answered)*1e6
	}
}
