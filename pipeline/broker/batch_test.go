package broker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"reflect"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/protocol"
)

// sampleRecords are records of every shape: nil and empty keys and values, headers, times that go back.
func sampleRecords(n int) []Record {
	all := make([]Record, n)
	for i := range all {
		r := Record{Partition: 3, Offset: int64(i), Time: 1_700_000_000_000 + int64(i%7)*1000 - int64(i%3)*90_000}
		switch i % 4 {
		case 0:
			r.Key, r.Value = fmt.Appendf(nil, "key-%d", i), bytes.Repeat([]byte{byte(i)}, i%300)
		case 1:
			r.Value = []byte("no key")
		case 2:
			r.Key = []byte{}
		case 3:
			r.Key, r.Value = []byte("k"), []byte("v")
			r.Headers = []Header{{Key: "verdict", Value: []byte("hold")}, {Key: "", Value: nil}, {Key: "n", Value: fmt.Append(nil, i)}}
		}
		all[i] = r
	}
	return all
}

func encode(all []Record) *Batch {
	var b Batch
	for _, r := range all {
		b.Add(r.Time, r.Key, r.Value, r.Headers)
	}
	return &b
}

func TestBatchIsReadByKafkaGoAsWritten(t *testing.T) {
	for _, n := range []int{1, 2, 100, 10_000} {
		want := sampleRecords(n)
		b := encode(want)
		if b.Len() != n || b.Size() != len(b.seal(9, 2, 77))-sizePrefix {
			t.Fatalf("%d records: Len %d, Size %d, sealed %d", n, b.Len(), b.Size(), len(b.buf)-sizePrefix)
		}
		var set protocol.RecordSet
		if _, err := set.ReadFrom(bytes.NewReader(b.seal(9, 2, 77))); err != nil {
			t.Fatal(err)
		}
		batch := set.Records.(*protocol.RecordStream).Records[0].(*protocol.RecordBatch)
		if batch.ProducerID != 9 || batch.ProducerEpoch != 2 || batch.BaseSequence != 77 {
			t.Errorf("producer is %d, %d, %d, want 9, 2, 77", batch.ProducerID, batch.ProducerEpoch, batch.BaseSequence)
		}
		for i := range want {
			r, err := set.Records.ReadRecord()
			if err != nil {
				t.Fatalf("record %d: %v", i, err)
			}
			got := Record{Partition: 3, Offset: r.Offset, Time: r.Time.UnixMilli(), Key: readBytes(t, r.Key), Value: readBytes(t, r.Value)}
			for _, h := range r.Headers {
				got.Headers = append(got.Headers, Header{Key: h.Key, Value: h.Value})
			}
			if !same(got, want[i]) {
				t.Fatalf("record %d of %d: got %+v, want %+v", i, n, got, want[i])
			}
		}
		if _, err := set.Records.ReadRecord(); !errors.Is(err, io.EOF) {
			t.Errorf("after the last record: %v", err)
		}
	}
}

func TestBatchIsReadByDecodeAsWritten(t *testing.T) {
	for _, n := range []int{1, 2, 100, 10_000} {
		want := sampleRecords(n)
		var buf FetchBuffer
		next, err := buf.decode(encode(want).seal(-1, -1, -1)[sizePrefix:], 3, 0)
		if err != nil || next != int64(n) || len(buf.records) != n {
			t.Fatalf("next %d, %d records, %v; want %d", next, len(buf.records), err, n)
		}
		for i := range want {
			if !same(buf.records[i], want[i]) {
				t.Fatalf("record %d of %d: got %+v, want %+v", i, n, buf.records[i], want[i])
			}
		}
	}
}

func TestResetBatchHoldsNothingOfTheOneBefore(t *testing.T) {
	b := encode(sampleRecords(500))
	b.Reset()
	if b.Len() != 0 || b.Size() != batchHeader {
		t.Fatalf("after Reset: Len %d, Size %d", b.Len(), b.Size())
	}
	b.Add(5, []byte("k"), []byte("v"), nil)
	fresh := new(Batch)
	fresh.Add(5, []byte("k"), []byte("v"), nil)
	if !bytes.Equal(b.seal(1, 2, 3), fresh.seal(1, 2, 3)) {
		t.Error("a batch after Reset differs from a fresh one")
	}
}

func TestBatchCostsNoAllocationOnceGrown(t *testing.T) {
	all := sampleRecords(100)
	var b Batch
	allocs := testing.AllocsPerRun(100, func() {
		b.Reset()
		for i := range all {
			b.Add(all[i].Time, all[i].Key, all[i].Value, all[i].Headers)
		}
		b.seal(1, 2, 3)
	})
	if allocs > 0 {
		t.Errorf("%v allocations a batch of 100, want 0", allocs)
	}
}

func TestDecodeReadsOnFromTheMiddleOfABatch(t *testing.T) {
	set := concat(rebase(encode(sampleRecords(10)), 100), rebase(encode(sampleRecords(5)), 110))
	var buf FetchBuffer
	next, err := buf.decode(set, 0, 107)
	if err != nil || next != 115 || len(buf.records) != 8 || buf.records[0].Offset != 107 {
		t.Errorf("from 107: next %d, %d records, %v; want 115, 8 records from 107", next, len(buf.records), err)
	}
	// The second batch is cut, as a fetch's size limit does.
	buf = FetchBuffer{}
	next, err = buf.decode(set[:len(set)-1], 0, 100)
	if err != nil || next != 110 || len(buf.records) != 10 {
		t.Errorf("cut: next %d, %d records, %v; want 110, 10 records", next, len(buf.records), err)
	}
}

func TestCorruptBatchIsNamedAndHoldsUpNothingBeforeIt(t *testing.T) {
	bad := rebase(encode(sampleRecords(5)), 110)
	bad[len(bad)-1] ^= 1
	set := concat(rebase(encode(sampleRecords(10)), 100), bad)
	var buf FetchBuffer
	next, err := buf.decode(set, 0, 100)
	if err != nil || next != 110 || len(buf.records) != 10 {
		t.Fatalf("good batch first: next %d, %d records, %v", next, len(buf.records), err)
	}
	buf = FetchBuffer{}
	_, err = buf.decode(bad, 0, 110)
	var corrupt *CorruptBatchError
	if !errors.As(err, &corrupt) || corrupt.Offset != 110 || corrupt.Next != 115 {
		t.Fatalf("bad batch: %v, want a CorruptBatchError from 110 to 115", err)
	}
}

func TestMessagesAreSplitIntoBatchesThatABrokerAccepts(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		topic := newTopic(t, c, 1, nil)
		var all []Message
		for i := range 40 { // 4 MB, of values that fill batches unevenly
			all = append(all, Message{Value: bytes.Repeat([]byte{byte(i)}, 10_000+i*4_700), Headers: []Header{{"h", make([]byte, 300)}}})
		}
		if err := c.Produce(within(t, 30*time.Second), topic, 0, all); err != nil {
			t.Fatal(err)
		}
		got := readAll(t, c, topic, 0, 0)
		for i, r := range got {
			if !bytes.Equal(r.Value, all[i].Value) {
				t.Fatalf("record %d differs", i)
			}
		}
		if len(got) != len(all) {
			t.Errorf("%d records, want %d", len(got), len(all))
		}
	})
}

// FuzzDecode: whatever bytes arrive, decode returns, does not read beyond them, and never goes back.
func FuzzDecode(f *testing.F) {
	f.Add(encode(sampleRecords(20)).seal(1, 2, 3)[sizePrefix:], int64(0), false)
	f.Add(rebase(encode(sampleRecords(3)), 1<<40), int64(1<<40), true)
	f.Add([]byte{}, int64(5), false)
	f.Fuzz(func(t *testing.T, set []byte, from int64, repair bool) {
		set = bytes.Clone(set)
		if repair && len(set) > batchHeader { // past the checksum, where the mutations are interesting
			binary.BigEndian.PutUint32(set[atBatchLength:], uint32(len(set)-atLeaderEpoch))
			set[atMagic] = 2
			binary.BigEndian.PutUint32(set[atCRC:], crc32.Checksum(set[atAttributes:], castagnoli))
		}
		var buf FetchBuffer
		next, _ := buf.decode(set, 0, from)
		if next < from {
			t.Fatalf("next %d is before %d", next, from)
		}
		for _, r := range buf.records {
			if r.Offset < from {
				t.Fatalf("record %d is before %d", r.Offset, from)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	set := encode(paymentRecords(1000)).seal(-1, -1, -1)[sizePrefix:]
	var buf FetchBuffer
	b.ReportAllocs()
	b.SetBytes(int64(len(set)))
	for b.Loop() {
		buf.records, buf.headers = buf.records[:0], buf.headers[:0]
		if _, err := buf.decode(set, 0, 0); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/record")
}

func BenchmarkEncode(b *testing.B) {
	all := paymentRecords(1000)
	var batch Batch
	b.ReportAllocs()
	for b.Loop() {
		batch.Reset()
		for i := range all {
			batch.Add(all[i].Time, all[i].Key, all[i].Value, nil)
		}
		batch.seal(1, 1, 1)
	}
	b.SetBytes(int64(batch.Size()))
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/record")
}

// paymentRecords have the size of a payment: 370 bytes of value.
func paymentRecords(n int) []Record {
	all := make([]Record, n)
	for i := range all {
		all[i] = Record{Offset: int64(i), Time: int64(1_700_000_000_000 + i), Key: fmt.Appendf(nil, "u-%06d", i), Value: bytes.Repeat([]byte{'x'}, 370)}
	}
	return all
}

// rebase returns the batch as the broker would send it from that offset on.
func rebase(b *Batch, base int64) []byte {
	p := bytes.Clone(b.seal(-1, -1, -1)[sizePrefix:])
	binary.BigEndian.PutUint64(p, uint64(base))
	return p
}

func concat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// same holds records against each other; nil and empty keys and values differ, as they do to Kafka.
func same(a, b Record) bool {
	if a.Headers == nil || b.Headers == nil {
		a.Headers, b.Headers = append([]Header{}, a.Headers...), append([]Header{}, b.Headers...)
	}
	return reflect.DeepEqual(a, b)
}

func readBytes(t *testing.T, b protocol.Bytes) []byte {
	t.Helper()
	if b == nil {
		return nil
	}
	p, err := protocol.ReadAll(b)
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{}, p...)
}
