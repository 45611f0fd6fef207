package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
)

// That a letter was re-submitted is written beside it, into its own partition of the topic of dead letters: that topic
// is short, everybody who looks at letters reads it anyway, and the order of its records is the same for all. (To look
// for the re-submitted record in the topic it went to would need no receipt, but means to read all payments since, to
// list a few letters.)
//
// A run writes `begun` before it produces a batch of letters, with where the topics end that it is going to write to,
// and `done` behind it. So:
//
//   - of two runs at once, the one whose `begun` stands first has the letters; the other one sees it, because it reads
//     on to its own;
//   - after a run that died between the two, the records are looked for behind the ends that it noted: there, and
//     nowhere else, they can be;
//   - a claim ends after claimLease, by the times of the records, so that all readers agree. A run that was frozen for
//     longer may write a record a second time: the gate answers it with its stored decision.
const (
	headerReceipt = "receipt"
	receiptBegun  = "begun"
	receiptDone   = "done"
)

// claimLease is how long letters are one run's alone.
const claimLease = 30 * time.Second

// receiptRecord is the value of a receipt, in JSON.
type receiptRecord struct {
	V       int     `json:"v"`
	Run     string  `json:"run"`
	By      string  `json:"by"`
	Letters []int64 `json:"letters"`        // offsets in the receipt's own partition
	Ends    []end   `json:"ends,omitempty"` // of begun: of what is going to be written to
}

// end is where a partition ended.
type end struct {
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	Offset    int64  `json:"offset"`
}

// claim is a run's word that it is about to re-submit a letter.
type claim struct {
	run  string
	by   string
	time int64 // Kafka's, ms since 1970
	ends []end
}

// receipt enters a receipt. What cannot be read is passed over: then its letters are as they were.
func (l *Letters) receipt(r *broker.Record, kind string) {
	var c receiptRecord
	if json.Unmarshal(r.Value, &c) != nil || c.V != 1 {
		return
	}
	for _, offset := range c.Letters {
		letter := l.at[LetterAt{r.Partition, offset}]
		switch {
		case letter == nil:
		case kind == receiptDone && letter.Resubmitted == nil:
			letter.Resubmitted = &Receipt{By: c.By, Time: time.UnixMilli(r.Time).UTC()}
		case kind == receiptBegun && (letter.claim == nil || r.Time-letter.claim.time >= claimLease.Milliseconds()):
			letter.claim = &claim{run: c.Run, by: c.By, time: r.Time, ends: c.Ends}
		}
	}
}

// write writes a receipt of letters of one partition and enters it, with everything before it.
func (l *Letters) write(ctx context.Context, kind string, partition int, c receiptRecord) error {
	value, err := json.Marshal(c)
	if err != nil {
		return err
	}
	m := broker.Message{Value: value, Headers: []broker.Header{{Key: headerReceipt, Value: []byte(kind)}}}
	if err := l.conn.Produce(ctx, l.topic, partition, []broker.Message{m}); err != nil {
		return fmt.Errorf("note in %s what is re-submitted: %w", l.topic, err)
	}
	return l.follow(ctx, partition)
}

// free tells whether a run may claim the letter at a time (ms since 1970).
func (l *Letter) free(now int64) bool {
	return l.claim == nil || now-l.claim.time >= claimLease.Milliseconds()
}
