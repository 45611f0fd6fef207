package pipeline

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Headers of a record that was re-submitted: P/O of its dead letter, and who did it.
const (
	headerResubmitted   = "resubmitted"
	headerResubmittedBy = "resubmitted_by"
)

// Resubmission writes records that could not be used to the topics that they came from again, byte for byte, with their
// key, to the partition where they stood, so that all revisions of a payment stay in one partition. Each once: see
// receipts.go. What was wrong must have been put right before: in the policy, the lists, a clock, the schema or the code.
type Resubmission struct {
	Conn    *broker.Conn
	Topics  *Topics // a letter of another topic is none of this gate's
	Letters *Letters
	By      string // who does it
	Force   bool   // also where it is pointless
	// Progress, if set, is told how many of the chosen letters are dealt with.
	Progress func(done, of int)
}

// Fate is what became of a letter that was chosen.
type Fate struct {
	Letter *Letter
	Result FateResult
	Why    string // of Refused
}

// FateResult is one of a closed set.
type FateResult string

// The fates of a letter.
const (
	Resubmittable FateResult = "resubmittable" // it would be, in a dry run
	Resubmitted   FateResult = "resubmitted"   // by this run
	Already       FateResult = "already"       // by an earlier run
	Refused       FateResult = "refused"       // it was not, and Why says why
)

// Check says what would become of letters, and writes nothing. Errors: those of broker.Conn.
func (s *Resubmission) Check(ctx context.Context, letters []*Letter) ([]Fate, error) {
	unknown, err := s.unknownTransactions(ctx, letters)
	if err != nil {
		return nil, err
	}
	fates := make([]Fate, len(letters))
	for i, l := range letters {
		fates[i] = Fate{Letter: l, Result: Resubmittable}
		if l.Resubmitted != nil {
			fates[i].Result = Already
		} else if why := s.against(l, unknown); why != "" {
			fates[i].Result, fates[i].Why = Refused, why
		}
	}
	return fates, nil
}

// against says why a letter is not to be re-submitted; "" where it is.
func (s *Resubmission) against(l *Letter, unknown map[string]bool) string {
	t := s.Topics
	switch {
	case l.Topic == "":
		return "it does not say where it came from"
	case !slices.Contains([]string{t.Transactions, t.Outcomes, t.Reviews, t.Controls}, l.Topic):
		return fmt.Sprintf("it came from %s, which is no topic that this gate reads", l.Topic)
	case l.Truncated:
		return fmt.Sprintf("the letter holds only the beginning of its %d bytes: send the record again from where it was made", l.Bytes)
	case !l.free(time.Now().UnixMilli()):
		return s.left(l)
	case s.Force:
		return ""
	case l.Reason == payment.ReasonIDConflict:
		return "its id was decided with other content, and would be refused again (--force does it all the same)"
	case l.Reason == payment.ReasonUnmatched && unknown[l.TransactionID]:
		return fmt.Sprintf("its transaction %q is still not decided, and it would wait in vain again (--force does it all the same)", l.TransactionID)
	}
	return ""
}

// left is why a letter that another run has claimed is left to it.
func (s *Resubmission) left(l *Letter) string {
	return fmt.Sprintf("a run of %s has begun with it; if that one died, it can be taken over %v after %s",
		l.claim.by, claimLease, time.UnixMilli(l.claim.time).UTC().Format(time.TimeOnly))
}

// unknownTransactions are those of unmatched letters that were not decided since either.
func (s *Resubmission) unknownTransactions(ctx context.Context, letters []*Letter) (map[string]bool, error) {
	unknown := map[string]bool{}
	var since time.Time
	for _, l := range letters {
		if l.Reason == payment.ReasonUnmatched && l.Resubmitted == nil && !s.Force {
			unknown[l.TransactionID] = true
			if since.IsZero() || l.Time.Before(since) {
				since = l.Time
			}
		}
	}
	if len(unknown) == 0 {
		return nil, nil
	}
	const clocks = 10 * time.Minute // by which the times of two topics may differ
	from, err := s.Conn.OffsetsAt(ctx, s.Topics.Decisions, since.Add(-clocks).UnixMilli())
	if err != nil {
		return nil, err
	}
	ranges, err := s.Conn.TopicOffsets(ctx, s.Topics.Decisions)
	if err != nil {
		return nil, err
	}
	for p := range from {
		if _, err := s.Conn.ReadRange(ctx, s.Topics.Decisions, p, from[p], ranges[p].End, func(r broker.Record) error {
			delete(unknown, headerOf(&r, "transaction_id"))
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return unknown, nil
}

// A batch is what one claim covers.
const (
	batchLetters = 1000
	batchBytes   = 8 << 20
)

// Run re-submits letters, in the order of their places, and says what became of each. On an error, those that are
// Resubmittable still were not reached, or nobody knows: run it again. Errors: those of broker.Conn.
func (s *Resubmission) Run(ctx context.Context, letters []*Letter) ([]Fate, error) {
	fates, err := s.Check(ctx, letters)
	if err != nil {
		return nil, err
	}
	var open []*Fate
	for i := range fates {
		if fates[i].Result == Resubmittable {
			open = append(open, &fates[i])
		}
	}
	done := len(fates) - len(open)
	run := rand.Text()
	for len(open) > 0 {
		n := batchOf(open)
		if err := s.batch(ctx, run, open[:n]); err != nil {
			return fates, err
		}
		open, done = open[n:], done+n
		if s.Progress != nil {
			s.Progress(done, len(fates))
		}
	}
	return fates, nil
}

// batchOf is how many of the first letters, which are of one partition, make a batch.
func batchOf(open []*Fate) (n int) {
	for bytes := 0; n < len(open) && n < batchLetters && open[n].Letter.At.Partition == open[0].Letter.At.Partition; n++ {
		if bytes += open[n].Letter.Bytes; n > 0 && bytes > batchBytes {
			break
		}
	}
	return n
}

// batch re-submits letters of one partition: what a run that died has done is found, the rest is claimed, written, and
// noted as done.
func (s *Resubmission) batch(ctx context.Context, run string, open []*Fate) error {
	partition := open[0].Letter.At.Partition
	if err := s.found(ctx, partition, open); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, claimLease, errLease) // what is written later may be another run's
	defer cancel()
	begun := receiptRecord{V: 1, Run: run, By: s.By}
	var err error
	if begun.Letters, begun.Ends, err = s.targets(ctx, open); err != nil {
		return err
	}
	if len(begun.Letters) == 0 {
		return nil
	}
	if err := s.Letters.write(ctx, receiptBegun, partition, begun); err != nil {
		return s.late(ctx, err)
	}
	messages, err := s.records(ctx, run, open)
	if err != nil {
		return s.late(ctx, err)
	}
	done := receiptRecord{V: 1, Run: run, By: s.By}
	for _, end := range begun.Ends {
		written, err := s.produce(ctx, end, messages)
		if err != nil {
			return s.late(ctx, err)
		}
		for _, f := range written {
			done.Letters = append(done.Letters, f.Letter.At.Offset)
		}
	}
	if len(done.Letters) == 0 {
		return nil
	}
	return s.late(ctx, s.Letters.write(ctx, receiptDone, partition, done))
}

var errLease = fmt.Errorf("not done within %v, after which another run may do it: run it again", claimLease)

// late puts the cause before an error of a context that has ended.
func (s *Resubmission) late(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errLease) {
		return fmt.Errorf("%w: %w", errLease, err)
	}
	return err
}

// found notes as done what an earlier run has written before it died.
func (s *Resubmission) found(ctx context.Context, partition int, open []*Fate) error {
	from := map[end]int64{} // with offset 0: the lowest end that was noted
	waiting := map[string]*Fate{}
	for _, f := range open {
		if c := f.Letter.claim; c != nil {
			waiting[f.Letter.At.String()] = f
			for _, e := range c.ends {
				at := end{Topic: e.Topic, Partition: e.Partition}
				if lowest, ok := from[at]; !ok || e.Offset < lowest {
					from[at] = e.Offset
				}
			}
		}
	}
	done := map[string][]int64{} // by who did it
	for at, offset := range from {
		_, stop, err := s.Conn.Offsets(ctx, at.Topic, at.Partition)
		if err != nil {
			return err
		}
		if _, err := s.Conn.ReadRange(ctx, at.Topic, at.Partition, offset, stop, func(r broker.Record) error {
			if f := waiting[headerOf(&r, headerResubmitted)]; f != nil && f.Result == Resubmittable {
				f.Result = Already
				by := headerOf(&r, headerResubmittedBy)
				done[by] = append(done[by], f.Letter.At.Offset)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	for by, letters := range done {
		if err := s.Letters.write(ctx, receiptDone, partition, receiptRecord{V: 1, By: by, Letters: letters}); err != nil {
			return err
		}
	}
	return nil
}

// targets are the letters that are still to be claimed, and the ends of the partitions that they go to.
func (s *Resubmission) targets(ctx context.Context, open []*Fate) (letters []int64, ends []end, err error) {
	ranges := map[string][]broker.OffsetRange{}
	for _, f := range open {
		l := f.Letter
		if f.Result != Resubmittable {
			continue
		}
		if ranges[l.Topic] == nil {
			if ranges[l.Topic], err = s.Conn.TopicOffsets(ctx, l.Topic); err != nil {
				return nil, nil, err
			}
		}
		if n := len(ranges[l.Topic]); l.Partition >= n {
			f.Result, f.Why = Refused, fmt.Sprintf("it stood in partition %d of %s, which has %d now", l.Partition, l.Topic, n)
			continue
		}
		letters = append(letters, l.At.Offset)
		if e := (end{l.Topic, l.Partition, ranges[l.Topic][l.Partition].End}); !slices.Contains(ends, e) {
			ends = append(ends, e)
		}
	}
	return letters, ends, nil
}

// letterMessage is a letter that this run has claimed, as it is to be written.
type letterMessage struct {
	fate    *Fate
	message broker.Message
}

// records reads the letters that the run has got, whole.
func (s *Resubmission) records(ctx context.Context, run string, open []*Fate) (messages []letterMessage, err error) {
	ours := map[int64]*Fate{}
	first, last := int64(-1), int64(-1)
	for _, f := range open {
		switch l := f.Letter; {
		case f.Result != Resubmittable:
		case l.Resubmitted != nil:
			f.Result = Already // by a run that was at it when this one began
		case l.claim == nil || l.claim.run != run:
			f.Result, f.Why = Refused, s.left(l)
		default:
			ours[l.At.Offset] = f
			if first < 0 {
				first = l.At.Offset
			}
			last = l.At.Offset
		}
	}
	if len(ours) == 0 {
		return nil, nil
	}
	_, err = s.Conn.ReadRange(ctx, s.Letters.topic, open[0].Letter.At.Partition, first, last+1, func(r broker.Record) error {
		f := ours[r.Offset]
		if f == nil {
			return nil
		}
		delete(ours, r.Offset)
		messages = append(messages, letterMessage{f, broker.Message{Key: slices.Clone(r.Key), Value: slices.Clone(r.Value), Headers: []broker.Header{
			{Key: headerResubmitted, Value: []byte(f.Letter.At.String())}, {Key: headerResubmittedBy, Value: []byte(s.By)}}}})
		return nil
	})
	for _, f := range ours {
		f.Result, f.Why = Refused, "the letter is gone from its topic"
	}
	return messages, err
}

// produce writes the letters that go to a partition, and returns them. One that is larger than the topic takes is
// refused, and stops no other.
func (s *Resubmission) produce(ctx context.Context, to end, all []letterMessage) (written []*Fate, err error) {
	var fates []*Fate
	var messages []broker.Message
	for _, m := range all {
		if l := m.fate.Letter; l.Topic == to.Topic && l.Partition == to.Partition {
			fates, messages = append(fates, m.fate), append(messages, m.message)
		}
	}
	var tooLarge *broker.MessageTooLargeError
	err = s.Conn.Produce(ctx, to.Topic, to.Partition, messages)
	if !errors.As(err, &tooLarge) || len(messages) == 0 {
		if err != nil {
			return nil, err
		}
		for _, f := range fates {
			f.Result = Resubmitted
		}
		return fates, nil
	}
	if len(messages) == 1 {
		fates[0].Result, fates[0].Why = Refused, err.Error()
		return nil, nil
	}
	for i := range fates { // one of them is: which one shows alone
		part, err := s.produce(ctx, to, []letterMessage{{fates[i], messages[i]}})
		if err != nil {
			return written, err
		}
		written = append(written, part...)
	}
	return written, nil
}
