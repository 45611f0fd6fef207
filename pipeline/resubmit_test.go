package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// lettersOn are topics of their own on a broker, with dead letters in them.
type lettersOn struct {
	*testing.T
	conn   *broker.Conn
	topics Topics
}

func newLetters(t *testing.T) *lettersOn {
	t.Helper()
	kafka, err := broker.StartEmbedded(broker.EmbeddedConfig{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kafka.Close() })
	g := &lettersOn{T: t, topics: DefaultConfig().Topics}
	g.topics.Partitions, g.topics.Replication = 3, 1
	if g.conn, err = broker.Open(broker.Config{Brokers: []string{kafka.Addr()}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.conn.Close)
	g.must(g.conn.EnsureTopics(g.ctx(), g.topics.needed(), true))
	return g
}

func (g *lettersOn) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	g.Cleanup(cancel)
	return ctx
}

func (g *lettersOn) must(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

// letter writes a dead letter to partition 0 of its topic; change may alter it.
func (g *lettersOn) letter(offset int64, reason payment.Reason, change func(*broker.Message)) {
	g.Helper()
	r := broker.Record{Partition: 2, Offset: offset, Time: 1_700_000_000_000, Key: []byte("u-1"), Value: fmt.Appendf(nil, `{"transaction_id":"t-%d"}`, offset)}
	m := deadLetter(g.topics.Transactions, &r, &payment.Refusal{Reason: reason, Field: "event_time"})
	if change != nil {
		change(&m)
	}
	g.must(g.conn.Produce(g.ctx(), g.topics.DeadLetters, 0, []broker.Message{m}))
}

// receipt writes a receipt by another run, some time ago.
func (g *lettersOn) receipt(kind, by string, ago time.Duration, c receiptRecord) {
	g.Helper()
	c.V, c.Run, c.By = 1, by, by
	value, err := json.Marshal(c)
	g.must(err)
	g.must(g.conn.Produce(g.ctx(), g.topics.DeadLetters, 0, []broker.Message{{Value: value, Time: time.Now().Add(-ago).UnixMilli(),
		Headers: []broker.Header{{Key: headerReceipt, Value: []byte(kind)}}}}))
}

// resubmission is one of all letters, as a run would begin it now.
func (g *lettersOn) resubmission(by string) (*Resubmission, []*Letter) {
	g.Helper()
	letters, err := ReadLetters(g.ctx(), g.conn, g.topics.DeadLetters, nil)
	g.must(err)
	return &Resubmission{Conn: g.conn, Topics: &g.topics, Letters: letters, By: by}, letters.All()
}

// run re-submits all letters, and returns their fates, as P/O=result.
func (g *lettersOn) run(by string) string {
	g.Helper()
	s, all := g.resubmission(by)
	fates, err := s.Run(g.ctx(), all)
	g.must(err)
	return fateText(fates)
}

func fateText(fates []Fate) string {
	var text []string
	for _, f := range fates {
		text = append(text, fmt.Sprintf("%s=%s", f.Letter.At, f.Result))
	}
	return strings.Join(text, " ")
}

// sent are the records of partition 2 of the transactions: which letter each is, and by whom.
func (g *lettersOn) sent() (all []string) {
	g.Helper()
	_, end, err := g.conn.Offsets(g.ctx(), g.topics.Transactions, 2)
	g.must(err)
	_, err = g.conn.ReadRange(g.ctx(), g.topics.Transactions, 2, 0, end, func(r broker.Record) error {
		all = append(all, fmt.Sprintf("%s by %s: %s %s", headerOf(&r, headerResubmitted), headerOf(&r, headerResubmittedBy), r.Key, r.Value))
		return nil
	})
	g.must(err)
	return all
}

func (g *lettersOn) expect(what, got, want string) {
	g.Helper()
	if got != want {
		g.Errorf("%s:\n%s\nwant\n%s", what, got, want)
	}
}

// What is re-submitted is the record, byte for byte, where it stood; a second run has nothing to do.
func TestALetterIsReSubmittedOnce(t *testing.T) {
	g := newLetters(t)
	for offset := range int64(3) {
		g.letter(offset, payment.ReasonFutureTime, nil)
	}
	g.letter(1, payment.ReasonFutureTime, nil) // a lane died, and its next owner refused the record again
	g.expect("first run", g.run("ann"), "0/0=resubmitted 0/1=resubmitted 0/2=resubmitted")
	g.expect("second run", g.run("bob"), "0/0=already 0/1=already 0/2=already")
	g.expect("sent", strings.Join(g.sent(), "\n"), `0/0 by ann: u-1 {"transaction_id":"t-0"}
0/1 by ann: u-1 {"transaction_id":"t-1"}
0/2 by ann: u-1 {"transaction_id":"t-2"}`)
	_, all := g.resubmission("")
	if l := all[1]; l.Resubmitted == nil || l.Resubmitted.By != "ann" || l.Copies != 1 || l.TransactionID != "t-1" || l.Reason != payment.ReasonFutureTime || l.Offset != 1 {
		t.Errorf("letter %+v", l)
	}
}

// A key or value that is not there stays so, and bytes that are no text stay what they are.
func TestALetterIsReSubmittedByteForByte(t *testing.T) {
	g := newLetters(t)
	records := []struct{ key, value []byte }{{nil, nil}, {[]byte{}, []byte{}}, {[]byte{0xff, 0}, []byte("{\xc3\x28\x00")}}
	for i, r := range records {
		g.letter(int64(i), payment.ReasonNotJSON, func(m *broker.Message) { m.Key, m.Value = r.key, r.value })
	}
	g.run("ann")
	i := 0
	_, err := g.conn.ReadRange(g.ctx(), g.topics.Transactions, 2, 0, 3, func(r broker.Record) error {
		if want := records[i]; !bytes.Equal(r.Key, want.key) || !bytes.Equal(r.Value, want.value) || (r.Key == nil) != (want.key == nil) || (r.Value == nil) != (want.value == nil) {
			t.Errorf("record %d is %q %q", i, r.Key, r.Value)
		}
		i++
		return nil
	})
	g.must(err)
}

// A run that died after it had written is taken up where it stopped: what it wrote is not written again.
func TestWhatADeadRunWroteIsNotWrittenAgain(t *testing.T) {
	g := newLetters(t)
	for offset := range int64(2) {
		g.letter(offset, payment.ReasonFutureTime, nil)
	}
	g.must(g.conn.Produce(g.ctx(), g.topics.Transactions, 2, []broker.Message{{Value: []byte("earlier")}}))
	g.receipt(receiptBegun, "dead", time.Hour, receiptRecord{Letters: []int64{0, 1}, Ends: []end{{g.topics.Transactions, 2, 1}}})
	g.must(g.conn.Produce(g.ctx(), g.topics.Transactions, 2, []broker.Message{{Key: []byte("u-1"), Value: []byte(`{"transaction_id":"t-0"}`), Headers: []broker.Header{
		{Key: headerResubmitted, Value: []byte("0/0")}, {Key: headerResubmittedBy, Value: []byte("dead")}}}}))
	g.expect("the run behind it", g.run("ann"), "0/0=already 0/1=resubmitted")
	if sent := g.sent(); len(sent) != 3 {
		t.Errorf("sent %q", sent)
	}
	_, all := g.resubmission("")
	if r := all[0].Resubmitted; r == nil || r.By != "dead" {
		t.Errorf("who wrote the first one is not noted: %v", r)
	}
	g.expect("one more run", g.run("bob"), "0/0=already 0/1=already")
}

// Letters that another run is at are left to it, until it must be dead.
func TestLettersOfARunThatIsAtItAreLeftToIt(t *testing.T) {
	g := newLetters(t)
	for offset := range int64(2) {
		g.letter(offset, payment.ReasonFutureTime, nil)
	}
	g.receipt(receiptBegun, "bob", time.Second, receiptRecord{Letters: []int64{0}, Ends: []end{{g.topics.Transactions, 2, 0}}})
	g.expect("a run beside it", g.run("ann"), "0/0=refused 0/1=resubmitted")
	s, all := g.resubmission("ann")
	if why := s.against(all[0], nil); !strings.Contains(why, "a run of bob has begun with it") {
		t.Errorf("why: %q", why)
	}
	if sent := g.sent(); len(sent) != 1 {
		t.Errorf("sent %q", sent)
	}
}

// Of two runs that claim a letter at the same moment, one writes it.
func TestTwoRunsAtOnceWriteALetterOnce(t *testing.T) {
	g := newLetters(t)
	const n = 2*batchLetters + 100
	for offset := range int64(n) {
		g.letter(offset, payment.ReasonFutureTime, nil)
	}
	var both sync.WaitGroup
	var fates [2][]Fate
	for i := range fates {
		s, all := g.resubmission(fmt.Sprint("run", i)) // both have read that nobody is at it
		both.Go(func() {
			var err error
			if fates[i], err = s.Run(g.ctx(), all); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	if sent := g.sent(); len(sent) != n {
		t.Errorf("%d records of %d letters", len(sent), n)
	}
	for i := range n {
		if a, b := fates[0][i], fates[1][i]; (a.Result == Resubmitted) == (b.Result == Resubmitted) {
			t.Fatalf("letter %s: %s (%s) and %s (%s)", a.Letter.At, a.Result, a.Why, b.Result, b.Why)
		}
	}
	_, all := g.resubmission("")
	for _, l := range all {
		if l.Resubmitted == nil {
			t.Fatalf("letter %s is not noted as done", l.At)
		}
	}
}

// What cannot be re-submitted, or would be refused again, is not, and the reason is said.
func TestPointlessLettersAreNotReSubmitted(t *testing.T) {
	g := newLetters(t)
	header := func(key, value string) func(*broker.Message) {
		return func(m *broker.Message) {
			for i := range m.Headers {
				if m.Headers[i].Key == key {
					m.Headers[i].Value = []byte(value)
					return
				}
			}
			m.Headers = append(m.Headers, broker.Header{Key: key, Value: []byte(value)})
		}
	}
	g.letter(0, payment.ReasonIDConflict, nil)
	g.letter(1, payment.ReasonTooLarge, header("truncated", "true"))
	g.letter(2, payment.ReasonUnmatched, nil)
	g.letter(3, payment.ReasonUnmatched, nil)
	g.letter(4, payment.ReasonNotJSON, header("topic", "somebody.elses"))
	g.letter(5, payment.ReasonNotJSON, header("partition", "7"))
	g.letter(6, payment.ReasonNotJSON, header("topic", ""))
	g.must(g.conn.Produce(g.ctx(), g.topics.Decisions, 1, []broker.Message{{Value: []byte("{}"), Headers: []broker.Header{{Key: "transaction_id", Value: []byte("t-3")}}}}))
	s, all := g.resubmission("ann")
	fates, err := s.Run(g.ctx(), all)
	g.must(err)
	for i, want := range []string{"decided with other content", "only the beginning", "still not decided", "", "no topic that this gate reads", "has 3 now", "does not say where"} {
		f := fates[i]
		if want == "" && f.Result != Resubmitted || want != "" && (f.Result != Refused || !strings.Contains(f.Why, want)) {
			t.Errorf("letter %s (%s): %s, %q; want %q", f.Letter.At, f.Letter.Reason, f.Result, f.Why, want)
		}
	}
	if sent := g.sent(); len(sent) != 1 {
		t.Errorf("sent %q", sent)
	}
	s, all = g.resubmission("ann")
	s.Force = true
	fates, err = s.Run(g.ctx(), all)
	g.must(err)
	g.expect("by force", fateText(fates), "0/0=resubmitted 0/1=refused 0/2=resubmitted 0/3=already 0/4=refused 0/5=refused 0/6=refused")
}

// Nothing is written where somebody only wants to know.
func TestACheckWritesNothing(t *testing.T) {
	g := newLetters(t)
	g.letter(0, payment.ReasonFutureTime, nil)
	s, all := g.resubmission("ann")
	fates, err := s.Check(g.ctx(), all)
	g.must(err)
	g.expect("check", fateText(fates), "0/0=resubmittable")
	if sent := g.sent(); len(sent) != 0 {
		t.Errorf("sent %q", sent)
	}
	g.expect("the run behind it", g.run("ann"), "0/0=resubmitted")
}

// A record that its topic does not take any more stops no other.
func TestALetterThatIsTooLargeNowStopsNoOther(t *testing.T) {
	g := newLetters(t)
	small := g.topics
	small.Transactions += ".small"
	g.must(g.conn.EnsureTopics(g.ctx(), []broker.Topic{{Name: small.Transactions, Partitions: 3, Replication: 1, Configs: map[string]string{"max.message.bytes": "2000"}}}, true))
	g.topics = small
	for offset := range int64(3) {
		g.letter(offset, payment.ReasonFutureTime, func(m *broker.Message) {
			if offset == 1 {
				m.Value = bytes.Repeat([]byte("x"), 4000)
			}
		})
	}
	g.expect("run", g.run("ann"), "0/0=resubmitted 0/1=refused 0/2=resubmitted")
	if sent := g.sent(); len(sent) != 2 {
		t.Errorf("sent %d records", len(sent))
	}
}
