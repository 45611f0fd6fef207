package pipeline_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
)

// The power goes: decisions were published, and what the journal said of their
// payments was not on the disk yet; nor were these offsets committed, since they
// follow the disk. The next start reads the payments again, gives the same
// verdicts, and counts every payment in its windows: once, and in the order in
// which they come.
func TestJournalThatLostItsEndIsMadeWholeFromKafka(t *testing.T) {
	g := startLive(t, nil)
	client := &kafka.Client{Addr: kafka.TCP(g.config.Kafka.Brokers...), Timeout: 10 * time.Second}
	var sent []string
	for i := range 30 {
		sent = append(sent, paid(fmt.Sprint("t-", i)))
	}
	g.send(g.config.Topics.Transactions, 0, sent[:20]...)
	g.decisions(20)
	g.stop() // everything is durable and committed
	dir, onDisk := strings.TrimPrefix(g.config.Store, "pebble:"), filepath.Join(t.TempDir(), "disk")
	if err := os.CopyFS(onDisk, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	committed, err := client.OffsetFetch(t.Context(), &kafka.OffsetFetchRequest{GroupID: g.config.Kafka.Group, Topics: map[string][]int{g.config.Topics.Transactions: {0}}})
	if err != nil {
		t.Fatal(err)
	}

	g.start()
	g.send(g.config.Topics.Transactions, 0, sent[20:]...)
	before := g.decisions(30)
	g.stop()

	if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(onDisk))); err != nil {
		t.Fatal(err)
	}
	journal, err := os.OpenFile(filepath.Join(dir, "journal-00000001"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = journal.Write([]byte{50, 0, 0, 0, 3}) // of the next record only so much
		err = errors.Join(err, journal.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	at := committed.Topics[g.config.Topics.Transactions][0]
	if at.CommittedOffset != 20 {
		t.Fatalf("%d transactions were committed, want 20", at.CommittedOffset)
	}
	back, err := client.OffsetCommit(t.Context(), &kafka.OffsetCommitRequest{GroupID: g.config.Kafka.Group, GenerationID: -1,
		Topics: map[string][]kafka.OffsetCommit{g.config.Topics.Transactions: {{Partition: 0, Offset: at.CommittedOffset, Metadata: at.Metadata}}}})
	if err != nil || back.Topics[g.config.Topics.Transactions][0].Error != nil {
		t.Fatal(err, back)
	}

	g.start()
	g.send(g.config.Topics.Transactions, 0, paid("t-30"), sent[25], paid("t-31"))
	after := g.decisions(30 + 3) // what is read again is folded, and not said again
	for i := range 30 {
		id := fmt.Sprint("t-", i)
		if n := len(after[id]); n != 1 && (i != 25 || n != 2) {
			t.Errorf("%s was said %d times", id, n)
		}
		for _, d := range after[id] {
			if d.value != before[id][0].value {
				t.Errorf("%s was decided\n%s\nand then\n%s", id, before[id][0].value, d.value)
			}
		}
	}
	for id, want := range map[string]string{"t-30": "31", "t-31": "32"} {
		if got := g.feature(after[id][0], "payer.events_1h"); got != want {
			t.Errorf("%s is payment %s of its payer by the windows; it is the %sth", id, got, want)
		}
	}
}
