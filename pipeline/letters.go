package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// LetterAt is the place of a dead letter in its topic. It names the letter for people, as P/O.
type LetterAt struct {
	Partition int
	Offset    int64
}

// String is P/O.
func (a LetterAt) String() string { return fmt.Sprintf("%d/%d", a.Partition, a.Offset) }

// ParseLetterAt reads P/O.
func ParseLetterAt(text string) (LetterAt, error) {
	p, o, _ := strings.Cut(text, "/")
	partition, errP := strconv.ParseUint(p, 10, 31)
	offset, errO := strconv.ParseUint(o, 10, 63)
	if errP != nil || errO != nil {
		return LetterAt{}, fmt.Errorf("%q names no dead letter: it must be partition/offset, such as 3/17", text)
	}
	return LetterAt{int(partition), int64(offset)}, nil
}

// Letter is a record that could not be used, without its bytes.
type Letter struct {
	At            LetterAt
	Time          time.Time // of the dead letter, by Kafka
	Reason        payment.Reason
	Field         string // that the reason concerns; "" for the record as a whole
	Topic         string // where the record stood; "" where the letter does not say, and then it is none of ours
	Partition     int
	Offset        int64
	TransactionID string // "" where it cannot be read
	Bytes         int    // of the record's value, as it was
	Truncated     bool   // the letter holds less than the record did
	Copies        int    // further letters of the same record: a lane that died had written it already

	Resubmitted *Receipt // that it was re-submitted; nil: it was not
	claim       *claim   // of the run that is at it, or died at it; nil: none
}

// Receipt says who re-submitted a letter, and when, by Kafka.
type Receipt struct {
	By   string
	Time time.Time
}

// source is the place of a record that could not be used.
type source struct {
	topic     string
	partition int
	offset    int64
}

// Letters is an index of a topic of dead letters, with what became of them. It belongs to one goroutine.
//
// The topic holds, beside the letters, the receipts of those that were re-submitted (see resubmit.go): a record without
// a reason and with a header `receipt` is no letter.
type Letters struct {
	conn  *broker.Conn
	topic string
	next  []int64              // where to read on, by partition
	all   []*Letter            // in the order of reading, copies left out
	at    map[LetterAt]*Letter // copies included
	of    map[source]*Letter   // by the place of their record
}

// ReadLetters reads a topic of dead letters up to its present end. progress, if given, is called now and then with the
// number of records that were read, and how many there are. Errors: those of broker.Conn.
func ReadLetters(ctx context.Context, conn *broker.Conn, topic string, progress func(done, of int64)) (*Letters, error) {
	ranges, err := conn.TopicOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	l := &Letters{conn: conn, topic: topic, at: map[LetterAt]*Letter{}, of: map[source]*Letter{}}
	var done, of int64
	for _, r := range ranges {
		l.next = append(l.next, r.First)
		of += r.End - r.First
	}
	for p, r := range ranges {
		err := l.read(ctx, p, r.End, func() {
			if done++; progress != nil && done%1000 == 0 {
				progress(done, of)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return l, nil
}

// All returns the letters in the order of their places.
func (l *Letters) All() []*Letter {
	all := slices.Clone(l.all)
	slices.SortFunc(all, func(a, b *Letter) int {
		if a.At.Partition != b.At.Partition {
			return a.At.Partition - b.At.Partition
		}
		return int(a.At.Offset - b.At.Offset)
	})
	return all
}

// At returns the letter at a place, or the first one of the same record; nil where there is none.
func (l *Letters) At(at LetterAt) *Letter { return l.at[at] }

// Record reads a letter whole. Errors: those of broker.Conn, and that the topic does not hold it any more.
func (l *Letters) Record(ctx context.Context, at LetterAt) (record broker.Record, err error) {
	found := false
	_, err = l.conn.ReadRange(ctx, l.topic, at.Partition, at.Offset, at.Offset+1, func(r broker.Record) error {
		record, found = r, true // nobody reads into its buffer any more
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("dead letter %s is gone from %s", at, l.topic)
	}
	return record, err
}

// follow reads on to the present end of a partition.
func (l *Letters) follow(ctx context.Context, partition int) error {
	_, end, err := l.conn.Offsets(ctx, l.topic, partition)
	if err != nil {
		return err
	}
	return l.read(ctx, partition, end, func() {})
}

func (l *Letters) read(ctx context.Context, partition int, end int64, each func()) error {
	_, err := l.conn.ReadRange(ctx, l.topic, partition, l.next[partition], end, func(r broker.Record) error {
		l.take(&r)
		each()
		return nil
	})
	if err == nil {
		l.next[partition] = max(l.next[partition], end)
	}
	return err
}

// take enters one record of the topic.
func (l *Letters) take(r *broker.Record) {
	if kind := headerOf(r, headerReceipt); kind != "" {
		l.receipt(r, kind)
		return
	}
	letter := letterOf(r)
	from := source{letter.Topic, letter.Partition, letter.Offset}
	if first := l.of[from]; first != nil && letter.Topic != "" {
		first.Copies++
		l.at[letter.At] = first
		return
	}
	l.all = append(l.all, letter)
	l.at[letter.At], l.of[from] = letter, letter
}

// letterOf reads the headers that deadLetter wrote.
func letterOf(r *broker.Record) *Letter {
	number := func(key string) int64 {
		n, err := strconv.ParseInt(headerOf(r, key), 10, 64)
		if err != nil {
			return -1
		}
		return n
	}
	l := &Letter{At: LetterAt{r.Partition, r.Offset}, Time: time.UnixMilli(r.Time).UTC(), Bytes: len(r.Value),
		Reason: payment.Reason(headerOf(r, "reason")), Field: headerOf(r, "field"), Topic: headerOf(r, "topic"),
		Partition: int(number("partition")), Offset: number("offset"), Truncated: headerOf(r, "truncated") == "true"}
	if l.Truncated {
		l.Bytes = int(number("value_bytes"))
	}
	if l.Partition < 0 || l.Offset < 0 {
		l.Topic = ""
	}
	l.TransactionID = transactionIn(r.Value)
	return l
}

// transactionIn is the transaction that a record names, if so much of it can be read.
func transactionIn(value []byte) string {
	var record struct {
		TransactionID json.RawMessage `json:"transaction_id"`
	}
	var id string
	if json.Unmarshal(value, &record) != nil || json.Unmarshal(record.TransactionID, &id) != nil {
		return ""
	}
	return id
}

// headerOf is the value of a header; "" where there is none.
func headerOf(r *broker.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}
