package window

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// What a segment says of its transactions is the same while it is written, when
// it was sealed, and when it is read again.
func TestASegmentKnowsItsTimes(t *testing.T) {
	opts := Options{Dir: t.TempDir(), Features: journalFeatures(), SegmentBytes: 2 << 10}
	s := opened(t, opts)
	for n := range 60 {
		it := paying(fmt.Sprint("t", n), "u", morning.Add(time.Duration(n*37%60)*time.Minute), 1) // not in order
		it.KafkaTime = morning.Add(time.Hour)
		appended(t, s, it)
	}
	type says struct {
		number       uint32
		first, last  int64
		transactions int64
	}
	all := func(s *Embedded) (list []says) {
		for _, g := range s.journal.segments {
			list = append(list, says{g.number, int64(g.first), int64(g.last), g.transactions})
		}
		return list
	}
	before := all(s)
	var sum int64
	for _, g := range before {
		sum += g.transactions
	}
	if len(before) < 3 || sum != 60 {
		t.Fatalf("%d segments have %d transactions", len(before), sum)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if after := all(opened(t, opts)); !slices.Equal(before, after) {
		t.Errorf("they say %v, and said %v", after, before)
	}
}

// The bytes of a store in memory and of its files are the same: a header, then
// records that are found one after the other, then the seal.
func TestASegmentIsReadRecordByRecord(t *testing.T) {
	opts := Options{Dir: t.TempDir(), Features: journalFeatures(), SegmentBytes: 2 << 10, SyncEvery: time.Hour}
	s := opened(t, opts)
	l := ledger{opts: opts}
	l.write(t, s, 60)
	for i, g := range s.journal.segments {
		file, err := os.ReadFile(filepath.Join(opts.Dir, fmt.Sprintf("journal-%08d", g.number)))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(file, g.data) {
			t.Errorf("segment %d has other bytes in its file", g.number)
		}
		var kinds []byte
		end, err := g.each(headerSize, func(_ int, e entry) error { kinds = append(kinds, e.kind()); return nil })
		if err != nil || end != len(g.data) {
			t.Errorf("segment %d is read to byte %d of %d: %v", g.number, end, len(g.data), err)
		}
		sealed := i < len(s.journal.segments)-1
		if at := slices.Index(kinds, entrySeal); sealed != (at == len(kinds)-1) || !sealed && at >= 0 {
			t.Errorf("segment %d of %d has the records %s", g.number, len(s.journal.segments), kinds)
		}
		if at := slices.Index(kinds, entryBegun); i > 0 && (at < 0 || slices.Contains(kinds[:at], entryTransaction)) {
			t.Errorf("segment %d begins with %s", g.number, kinds)
		}
	}
}

// A record is found in its bytes only if each of them is as it was written.
func TestARecordWithAWrongByteIsNone(t *testing.T) {
	j := journal{limit: 1 << 20}
	if err := j.begin(1); err != nil {
		t.Fatal(err)
	}
	it := paying("t", "u", morning, 1)
	it.Tx.Channel = "web"
	j.put(func(b []byte) []byte { return appendTransaction(b, j.key, it) })
	record := slices.Clone(j.pending)
	if e, ok := frame(record); !ok || recordSize(e) != len(record) {
		t.Fatal("the record is not whole")
	}
	for at := range record {
		bad := slices.Clone(record)
		bad[at] ^= 4
		if _, ok := frame(bad); ok {
			t.Errorf("byte %d may be wrong", at)
		}
		if _, ok := frame(record[:at]); ok {
			t.Errorf("it may end at byte %d", at)
		}
	}
}
