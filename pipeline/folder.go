package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// The front of a lane answers, whatever is missing. What it could not do besides
// is left to the folder, which works behind it, reads the same records from Kafka
// again, and needs nothing that the front has remembered:
//
//   - payments that were answered while the store was away get their entries in
//     the logs, each once, since a store ignores what it has;
//   - payments whose time was up got a default; they are noted in the logs in the
//     order of event time over all partitions (see pace.go), and then their real
//     verdict is made, which is published as the next revision if it differs;
//   - payments that could not be answered at all get their answer;
//   - what a store has lost is put into it again.
//
// Only then does the offset of these records become one that may be committed.
// Before it folds, the folder tells a shared store which decisions stand on the
// topic, if the store could not be asked when they were published.
type folder struct {
	wake chan struct{} // of capacity 1

	mu    sync.Mutex
	stand int64 // decisions from this offset on are to be told to the store; -1: none

	engine     *Engine
	stride     stride
	batch      Batch
	buffer     broker.FetchBuffer
	remembered remembered
}

func newFolder(e *Engine, maxBatch int) *folder {
	return &folder{wake: make(chan struct{}, 1), stand: -1, engine: e, stride: stride{records: maxBatch, most: maxBatch}}
}

// stride is how many records a folder takes at once. What fails on the way is begun
// again from its first record: with a store that comes and goes, long strides would
// never end.
type stride struct{ records, most int }

// shortestStride still notes a few records for one round trip.
const shortestStride = 8

func (s *stride) failed() { s.records = max(s.records/2, min(shortestStride, s.most)) }
func (s *stride) done()   { s.records = min(2*s.records, s.most) }

// nudge tells the folder that there is something to do.
func (f *folder) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// standFrom says that the store has not agreed to the decisions from an offset on.
func (f *folder) standFrom(offset int64) {
	f.mu.Lock()
	if f.stand < 0 || offset < f.stand {
		f.stand = offset
	}
	f.mu.Unlock()
	f.nudge()
}

// lookAgain is how often the folder looks whether the store is back.
const lookAgain = 50 * time.Millisecond

// fold is the folder of a lane. It works until ctx ends.
func (l *lane) fold(ctx, drain context.Context) error {
	for {
		again, err := l.foldSome(ctx, drain)
		switch {
		case ctx.Err() != nil, errors.Is(err, errOver):
			return nil
		case errors.Is(err, window.ErrAway):
			again = false
		case err != nil:
			return err
		}
		if again {
			continue
		}
		wait := time.Hour
		if err != nil || l.gate.Store.Health().Away && !l.cursor.whole() {
			wait = lookAgain
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-l.folder.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// foldSome does the next thing that is left, and returns whether to look again at once.
func (l *lane) foldSome(ctx, drain context.Context) (again bool, err error) {
	if l.gate.Store.Health().Away {
		return false, nil
	}
	if told, err := l.tellStore(ctx); told || err != nil {
		return true, err
	}
	s, ok := l.cursor.unanswered()
	if !ok {
		s, ok = l.cursor.unfolded()
	}
	if !ok {
		if l.cursor.whole() {
			l.pace.healed(l.partition)
		}
		return false, nil
	}
	return true, l.foldSpan(ctx, drain, s)
}

// foldSpan makes a micro-batch of a span good.
func (l *lane) foldSpan(ctx, drain context.Context, s span) error {
	f := l.folder
	got, err := l.conn.Fetch(ctx, broker.FetchRequest{Topic: l.topics.Transactions, Partition: l.partition, Offset: s.from}, &f.buffer)
	if after, gone := l.gate.passOver(l.topics.Transactions, l.partition, s.from, err); gone {
		l.cursor.foldedTo(s, min(after, s.next), l.gate.Store.Written())
		return nil
	}
	if err != nil {
		return err
	}
	records, next := got.Records, min(got.Next, s.next)
	for i := range records {
		if records[i].Offset >= s.next || i == f.stride.records {
			records, next = records[:i], min(records[i].Offset, s.next)
			break
		}
	}
	l.decode(records, &f.batch)
	if !s.answered {
		if err := l.answerLeft(ctx, drain, records); err != nil {
			f.stride.failed()
			return err
		}
		l.cursor.answeredTo(s, next)
		return nil // and once more, to fold them
	}
	if err := l.foldBatch(ctx, drain, records, s); err != nil {
		f.stride.failed()
		return err
	}
	f.stride.done()
	l.cursor.foldedTo(s, next, l.gate.Store.Written())
	l.gate.Metrics.refolded(len(records))
	return nil
}

// answerLeft answers records to which the front could not say anything.
func (l *lane) answerLeft(ctx, drain context.Context, records []broker.Record) error {
	b := &l.folder.batch
	for from := 0; from < len(b.answers); {
		n, wait, err := l.folder.engine.decide(drain, b, from)
		if err != nil {
			return err
		}
		if err := l.publish(drain, records[from:n], b, b.answers[from:n]); err != nil {
			return err
		}
		if b.unanswered {
			return window.ErrAway
		}
		from = n
		if wait == nil {
			continue
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// foldBatch notes the payments of a micro-batch in the logs, and makes the real
// verdicts of those that were given a default.
func (l *lane) foldBatch(ctx, drain context.Context, records []broker.Record, s span) error {
	e, b := l.folder.engine, &l.folder.batch
	if err := l.remember(ctx, b, s); err != nil {
		return err
	}
	e.recall(b, l.partition, &l.folder.remembered)
	for at := 0; at < len(b.fresh); {
		n, err := e.foldSlice(ctx, b, at)
		if err != nil {
			return err
		}
		at += n
	}
	if err := l.claimRevisions(drain, b, b.answers); err != nil {
		return err
	}
	b.claims = ledger.NewClaims()
	if err := l.publish(drain, records, b, b.answers); err != nil {
		return err
	}
	return l.gate.Store.Decided(drain, b.decidedBefore())
}

// recall finds out what was said of the payments of a batch, and takes those that
// windows are to count.
func (e *Engine) recall(b *Batch, partition int, said *remembered) {
	e.gate.inForce.RLock()
	defer e.gate.inForce.RUnlock()
	e.use()
	b.part(0)
	key := e.gate.Store.Key()
	correcting := map[window.TxHash]bool{} // a payment that comes twice in the batch is corrected once
	for i := range b.answers {
		a := &b.answers[i]
		if !a.usable {
			a.refusal = nil // it is in dead letters
			continue
		}
		a.mark.Fingerprint, a.mark.EventTime = ledger.Fingerprint(key, &a.summary), a.tx.EventTime
		known, found := said.find(e.gate.Ledger, a.hash)
		if found && known.Fingerprint != a.mark.Fingerprint || found && known.Invalid {
			continue
		}
		if found {
			a.mark = known
		} else {
			a.mark.Offset = -1
		}
		if known.Default && !known.Revised && int(known.Partition) == partition && !correcting[a.hash] {
			a.corrects, correcting[a.hash] = payment.SourceDefaultDeadline, true
		}
		e.take(a, b)
	}
}

// decidedBefore are the marks of the payments that a folder has counted.
func (b *Batch) decidedBefore() []window.Mark {
	b.marks = b.marks[:0]
	for _, a := range b.of {
		if a.mark.Offset >= 0 && !a.item.Late {
			b.marks = append(b.marks, a.mark)
		}
	}
	return b.marks
}

// foldSlice notes those of b.fresh from a place on that are in one slice of event
// time; then, when all partitions have noted theirs, it reads the windows of
// those that have no real verdict yet, and makes it. It returns how many they were.
func (e *Engine) foldSlice(ctx context.Context, b *Batch, at int) (n int, err error) {
	end := e.pace.sliceEnd(b.of[at].tx.EventTime)
	for n = 1; at+n < len(b.of) && b.of[at+n].tx.EventTime < end; n++ {
	}
	items, answers := b.fresh[at:at+n], b.of[at:at+n]
	if err := e.gate.Store.Note(ctx, items); err != nil {
		return n, fmt.Errorf("note in the entities' logs: %w", err)
	}
	if at+n == len(b.of) { // the slice may go on in the next batch
		end = items[0].Tx.EventTime
		for _, it := range items {
			end = max(end, it.Tx.EventTime)
		}
	}
	e.pace.folded(e.partition, end)
	toView, toJudge := b.view[:0], b.marked[:0]
	for i, a := range answers {
		if a.corrects != "" {
			toView, toJudge = append(toView, items[i]), append(toJudge, a)
		}
	}
	b.view, b.marked = toView, toJudge
	if len(toView) == 0 {
		return n, nil
	}
	if err := e.pace.await(ctx, e.partition, end); err != nil {
		return n, err
	}
	e.gate.inForce.RLock() // not while it waits: a reload must not wait for it
	defer e.gate.inForce.RUnlock()
	e.use()
	for i := range e.since {
		e.since[i] = notAsked
	}
	if err := e.gate.Store.View(ctx, toView); err != nil {
		return n, fmt.Errorf("read the entities' logs: %w", err)
	}
	for _, a := range toJudge {
		e.judge(a, b, false)
	}
	return n, nil
}

// claimRevisions makes the corrections of a part of a batch the first of their
// revision, among all members: a payment that came in two partitions has its
// decision in both, and both owners correct it.
func (l *lane) claimRevisions(ctx context.Context, b *Batch, part []answer) error {
	if l.gate.Shared == nil {
		return nil
	}
	b.hashes, b.decisions, b.asked = b.hashes[:0], b.decisions[:0], b.asked[:0]
	for i := range part {
		if a := &part[i]; len(a.revision) > 0 {
			b.hashes, b.decisions, b.asked = append(b.hashes, revisionHash(l.gate.Store.Key(), a.tx.ID, 2)), append(b.decisions, a.revision), append(b.asked, a)
		}
	}
	winners, err := l.gate.Shared.First(ctx, b.hashes, b.decisions)
	if err != nil {
		return fmt.Errorf("ask the store who was first: %w", err)
	}
	for i, w := range winners {
		if w != nil {
			b.asked[i].revision = w
		}
	}
	return nil
}

// revisionHash is under what a shared store keeps a later revision.
func revisionHash(key window.Key, transaction string, revision int) window.TxHash {
	return key.Tx(fmt.Sprintf("%s\n%d", transaction, revision))
}

// tellStore tells a shared store what stands on the topic and what it may not
// know, or know otherwise. It returns false where there is nothing to tell.
func (l *lane) tellStore(ctx context.Context) (told bool, err error) {
	f := l.folder
	f.mu.Lock()
	from := f.stand
	f.mu.Unlock()
	if from < 0 {
		return false, nil
	}
	end := l.end.Load()
	if err := l.gate.stand(ctx, l.conn, l.topics.Decisions, l.partition, from, end); err != nil {
		return true, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stand == from {
		f.stand = -1
	}
	return true, nil
}

// stand tells a shared store, and the index, the first decisions of a range of a partition.
func (g *Gate) stand(ctx context.Context, conn *broker.Conn, topic string, partition int, from, end int64) error {
	var hashes []window.TxHash
	var decisions [][]byte
	tell := func() error {
		if g.Shared == nil || len(hashes) == 0 {
			return nil
		}
		err := g.Shared.Stand(ctx, hashes, decisions)
		hashes, decisions = hashes[:0], decisions[:0]
		return err
	}
	_, err := conn.ReadRange(ctx, topic, partition, from, end, func(r broker.Record) error {
		m, revision, err := ledger.MarkOf(g.Store.Key(), int32(partition), r.Offset, r.Value)
		if err != nil || revision != 1 {
			return nil
		}
		g.Ledger.Add(m, r.Value)
		hashes, decisions = append(hashes, m.Tx), append(decisions, append([]byte(nil), r.Value...))
		if len(hashes) < 500 {
			return nil
		}
		return tell()
	})
	if err == nil {
		err = tell()
	}
	return err
}
