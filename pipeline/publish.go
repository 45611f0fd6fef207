package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unsafe"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// publish makes the decisions of a part of a micro-batch known, in this order:
// decisions to the topic, refused records to dead letters, both noted in the
// journal, the claims settled. A crash between any two is argued in DESIGN.md.
func (l *lane) publish(ctx context.Context, records []broker.Record, b *Batch, part []answer) error {
	started := time.Now()
	from, err := l.publishDecisions(ctx, b, part)
	if err == nil {
		err = l.publishRefused(ctx, records, part)
	}
	if err == nil {
		err = l.gate.settle(ctx, b, part)
	}
	if err != nil {
		return err // the claims stand: what the broker has is not known
	}
	if b.unagreed {
		l.folder.standFrom(from) // the store hears of them when it is back
	}
	l.gate.Metrics.publishTime.Observe(time.Since(started).Seconds())
	for i := range part {
		a := &part[i]
		if a.decide && a.state.Load() == taken {
			l.gate.Metrics.said(a)
			l.gate.Notices.Decided(&a.tx, a.mark.Verdict, a.bytes)
			l.measure(a)
		}
		if len(a.revision) > 0 {
			l.gate.Metrics.corrected(a)
			l.gate.Notices.Revised(a.revision)
		}
	}
	return nil
}

// publishDecisions writes what the front has to say of a part behind the fence,
// and notes where it stands. from is the end of the topic before.
func (l *lane) publishDecisions(ctx context.Context, b *Batch, part []answer) (from int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from = l.end.Load()
	now := l.gate.Now()
	l.defaultLate(ctx, part, now)
	if err := l.correctTold(ctx, b, part, now); err != nil {
		return from, err
	}
	for i := range part {
		if err := l.say(ctx, &part[i], b); err != nil {
			return from, err
		}
	}
	if err := l.flush(ctx); err != nil {
		return from, err
	}
	for i := range part {
		if a := &part[i]; a.decide && a.wasTold() { // from here on what was said counts
			latest := a.mark.Latest
			a.mark, a.bytes = a.toldAt, a.told
			if len(a.revision) > 0 {
				a.mark.Latest = latest
			}
		}
	}
	return from, nil
}

// say adds what the front has to say of one answer: its first revision, unless
// the watch was faster, and the later one that corrects an earlier decision.
func (l *lane) say(ctx context.Context, a *answer, b *Batch) error {
	switch {
	case a.repeat && a.heard:
		return nil
	case a.repeat && a.repeatOf >= 0:
		first := &b.answers[a.repeatOf]
		if a.bytes = first.bytes; first.wasTold() {
			a.bytes = first.told
		}
		return l.add(ctx, said{a: a, decision: a.bytes, verdict: a.mark.Verdict, revision: 1})
	case a.repeat:
		if len(a.bytes) == 0 || !a.move(open, taken) {
			return nil
		}
		return l.add(ctx, said{a: a, decision: a.bytes, verdict: a.mark.Verdict, revision: 1})
	case !a.decide:
		return l.sayRevision(ctx, a)
	case a.state.Load() < taken && l.giveWay(a):
		return l.add(ctx, said{a: a, decision: a.bytes, verdict: a.mark.Verdict, revision: 1})
	case a.late:
		if err := l.add(ctx, said{a: a, decision: a.told, verdict: a.toldAt.Verdict, revision: 1, at: &a.toldAt}); err != nil {
			return err
		}
		l.gate.Metrics.told(a)
	case a.state.Load() == taken || a.move(judged, taken):
		return l.add(ctx, said{a: a, decision: a.bytes, verdict: a.mark.Verdict, revision: 1, at: &a.mark})
	}
	return l.sayRevision(ctx, a)
}

// correctTold makes the corrections of the defaults that the watch has given, or
// defaultLate. Without the store they are left to the folder; that of a payment which
// could not be used before is not, since the folder passes over it.
func (l *lane) correctTold(ctx context.Context, b *Batch, part []answer, now payment.Time) error {
	for i := range part {
		a := &part[i]
		if !a.decide || a.state.Load() != forestalled || !a.toldAt.Default || a.mark.Default {
			continue
		}
		if err := a.revise(now, b); err != nil {
			return err
		}
	}
	err := l.claimRevisions(ctx, b, part)
	if !errors.Is(err, window.ErrAway) {
		return err
	}
	for i := range part {
		if a := &part[i]; a.decide && len(a.revision) > 0 {
			a.revision, b.deferred = nil, true
		}
	}
	return nil
}

// defaultLate makes defaults of the verdicts that have become too late: the process
// stood still, or the broker did.
func (l *lane) defaultLate(ctx context.Context, part []answer, now payment.Time) {
	w := l.watch
	w.telling = w.telling[:0]
	for i := range part {
		a := &part[i]
		if !a.decide || !a.tooLate(now) || a.state.Load() != judged {
			continue
		}
		if _, stored := l.overtaken(a); stored != nil || !a.move(judged, forestalled) {
			continue
		}
		w.write(l.gate, l.gate.ruleset(), a)
		a.toldWhy, a.late = causePaused, true
		w.telling = append(w.telling, a)
	}
	l.agree(ctx, w.telling)
}

// tooLate tells that a verdict has become one after the deadline, so that the
// default is said. What the members have agreed on stays what it is: another one
// may have said it already, where the payment came a second time.
func (a *answer) tooLate(now payment.Time) bool {
	return a.deadline < now && !a.agreed && a.source != payment.SourceInvalid && !a.mark.Default
}

// madeTooLate tells that a verdict was made after its deadline: then nobody may say
// it as the first decision, nor agree on it. It may be asked once it is judged.
func (a *answer) madeTooLate() bool {
	return a.deadline < a.decidedAt && a.source != payment.SourceInvalid && !a.mark.Default
}

// overtaken returns what another member has said of a payment meanwhile: it came
// to both, in two partitions, while the store could not be asked. nil: nothing.
func (l *lane) overtaken(a *answer) (m window.Mark, decision []byte) {
	if l.gate.Shared == nil {
		return m, nil
	}
	m, found := l.gate.Ledger.AtHand(a.hash)
	if !found || m.Fingerprint != ledger.Fingerprint(l.gate.Store.Key(), &a.summary) {
		return m, nil
	}
	decision, _ = l.gate.Ledger.Recent(a.hash)
	return m, decision
}

// giveWay makes what another member has said the decision of an answer.
func (l *lane) giveWay(a *answer) bool {
	m, stored := l.overtaken(a)
	if stored == nil || !a.move(judged, taken) {
		return false
	}
	a.mark, a.bytes = m, stored
	l.gate.Metrics.repeated()
	return true
}

// sayRevision adds the later revision of an answer, if it is still the next one:
// a review may have come before the real verdict.
func (l *lane) sayRevision(ctx context.Context, a *answer) error {
	if len(a.revision) == 0 {
		return nil
	}
	revision := 2
	if latest, ok := l.gate.Holds.Latest(a.hash); ok && (latest.Revision != 1 || latest.Default == "") {
		next, err := l.gate.correct(a)
		if err != nil {
			return err
		}
		if a.revision = nil; next == nil {
			return nil
		}
		revision, a.mark.Latest, a.revision = next.Revision, next.Verdict, next.Append(nil)
	}
	return l.add(ctx, said{a: a, decision: a.revision, verdict: a.mark.Latest, revision: revision})
}

// correct makes the correction of an answer once more, over what has been said since.
func (g *Gate) correct(a *answer) (*payment.Decision, error) {
	var truth payment.Decision
	if err := json.Unmarshal(a.revision, &truth); err != nil {
		return nil, fmt.Errorf("a decision of our own: %w", err)
	}
	return g.Holds.Correct(&truth)
}

// revise makes a correction of a verdict that the watch has forestalled.
func (a *answer) revise(now payment.Time, b *Batch) error {
	var d payment.Decision
	if err := json.Unmarshal(a.bytes, &d); err != nil {
		return fmt.Errorf("a decision of our own: %w", err)
	}
	d.DecidedAt, a.corrects, a.mark.Verdict = now, payment.SourceDefaultDeadline, a.toldAt.Verdict
	b.correct(a, &d)
	return nil
}

// said is one decision that is to be published.
type said struct {
	a        *answer
	decision []byte
	verdict  payment.Verdict
	revision int
	at       *window.Mark // where its place is noted; nil: nowhere
}

// unsaid is a decision in the record batch that is not written yet.
type unsaid struct {
	at       *window.Mark
	tx       window.TxHash
	decision []byte
	verdict  payment.Verdict
	revision int
	again    bool // it stands elsewhere already
}

// maxPublish keeps a record batch below the broker's usual limit of 1 MB.
const maxPublish = 800 << 10

// add puts a decision into the record batch that is written next; a full one is
// written first. The caller holds the lane's lock.
func (l *lane) add(ctx context.Context, s said) error {
	if l.out.Len() > 0 && l.out.Size()+len(s.decision) > maxPublish {
		if err := l.flush(ctx); err != nil {
			return err
		}
	}
	revision := firstRevision
	if s.revision > 1 {
		revision = strconv.AppendInt(nil, int64(s.revision), 10)
	}
	l.headers = append(l.headers[:0],
		broker.Header{Key: "transaction_id", Value: view(s.a.tx.ID)},
		broker.Header{Key: "revision", Value: revision},
		broker.Header{Key: "verdict", Value: verdictHeader[s.verdict]})
	if s.revision == 1 {
		l.headers = append(l.headers, broker.Header{Key: answersHeader, Value: strconv.AppendInt(l.number[:0], s.a.offset, 10)})
	}
	l.out.Add(time.Now().UnixMilli(), view(s.a.tx.Payer.AccountID), s.decision, l.headers)
	l.unsaid = append(l.unsaid, unsaid{s.at, s.a.hash, s.decision, s.verdict, s.revision, s.revision == 1 && s.at == nil})
	return nil
}

// flush writes the record batch and notes where each decision stands.
func (l *lane) flush(ctx context.Context) error {
	if l.out.Len() == 0 {
		return nil
	}
	base, err := l.publisher.Publish(ctx, &l.out)
	if err == nil && base < 0 {
		err = broker.ErrPublisherLost // the broker has them, but does not say where: read them again
	}
	if err != nil {
		return fmt.Errorf("publish decisions of partition %d: %w", l.partition, err)
	}
	for i, u := range l.unsaid {
		offset := base + int64(i)
		if u.at != nil {
			u.at.Partition, u.at.Offset = int32(l.partition), offset
		}
		if u.again {
			continue
		}
		if err := l.gate.Holds.Published(int32(l.partition), offset, u.decision); err != nil {
			return err
		}
		if u.revision > 1 {
			l.gate.Ledger.Revise(u.tx, u.verdict)
		}
	}
	l.end.Store(base + int64(len(l.unsaid)))
	l.unsaid = l.unsaid[:0]
	l.out.Reset()
	return nil
}

// view is a text as bytes, which nobody may change.
func view(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// What headers hold, made once.
var (
	firstRevision = []byte("1")
	verdictHeader = [...][]byte{nil, []byte("approve"), []byte("hold"), []byte("block")}
)

// publishRefused writes refused records to dead letters, byte for byte.
func (l *lane) publishRefused(ctx context.Context, records []broker.Record, part []answer) error {
	var messages []broker.Message
	for i := range part {
		if r := part[i].refusal; r != nil {
			messages = append(messages, deadLetter(l.topics.Transactions, &records[i], r))
			l.gate.Metrics.refuse(r)
			if r.Reason == payment.ReasonIDConflict {
				l.gate.Alerts.Raise(payment.AlertIDConflict, "a transaction id came again with other content: "+part[i].tx.ID, l.partition)
			}
		}
	}
	return produceDeadLetters(ctx, l.conn, l.topics.DeadLetters, messages)
}

// measure counts how fast a payment was answered.
func (l *lane) measure(a *answer) {
	if a.mark.Invalid {
		return
	}
	now := l.gate.Now()
	m := l.gate.Metrics
	if a.deadline < a.kafkaTime {
		m.tooLate.Inc() // nobody could have answered it in time
		return
	}
	m.answerTime.Observe(float64(now-a.kafkaTime) / 1e9)
	if now <= a.deadline {
		m.inTime.Inc()
	} else {
		m.outOfTime.Inc()
	}
}
