package traffic

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

func TestFileHoldsTheStream(t *testing.T) {
	cfg := Config{Seed: 4, OutcomeSpeed: 2000}
	const n = 20_000
	var plain bytes.Buffer
	if err := WriteFile(&plain, cfg, n); err != nil {
		t.Fatal(err)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(plain.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"records.jsonl": plain.Bytes(), "records.jsonl.gz": zipped.Bytes()} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := OpenFile(path)
		if err != nil {
			t.Fatal(err)
		}
		g := New(cfg)
		for i := range n {
			want := g.Next()
			got, err := r.Next()
			if err != nil {
				t.Fatalf("%s: line %d: %v", name, i+1, err)
			}
			if want.Label = Genuine; got.Time != want.Time || got.Kind != want.Kind || got.Key != want.Key || !bytes.Equal(got.Value, want.Value) {
				t.Fatalf("%s: line %d is %+v, want %+v", name, i+1, got, want)
			}
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: after the last line: %v", name, err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("%s: close: %v", name, err)
		}
	}
}

func TestReaderHandsOnWhatIsNoRecord(t *testing.T) {
	first, _ := payment.ParseTime("2026-01-05T10:00:00Z")
	second, _ := payment.ParseTime("2026-01-05T10:00:05Z")
	lines := []struct {
		text, key string
		at        payment.Time
		kind      payment.RecordKind
	}{
		{text: "garbage"},
		{text: `{"v":1,"transaction_id":"1","type":"payment","event_time":"2026-01-05T10:00:00Z","amount":{"value":1,"currency":"CNY"},"payer":{"account_id":"u-1"}}`, at: first, key: "u-1"},
		{text: `{"transaction_id":`, at: first},
		{text: "", at: first},
		{text: `{"transaction_id":"1","type":"nonsense","event_time":"2026-01-05T10:00:05Z","payer":{"account_id":"u-2"}}`, at: second, key: "u-2"},
		{text: `{"transaction_id":"1","outcome":"settled","event_time":"2026-01-05T10:00:00Z","payer":{"account_id":"u-1"}}`, at: first, key: "u-1", kind: payment.RecordOutcome},
		{text: `{"transaction_id":"1","review":"release","reviewer":"r","event_time":"2026-01-05T10:00:05Z","payer":{"account_id":"u-3"}}`, at: second, key: "u-3", kind: payment.RecordReview},
		{text: `{"control_id":"k","control":"outage","event_time":"2026-01-05T10:00:00Z"}`, at: first, kind: payment.RecordControl},
		{text: "\x00\xff", at: first},
	}
	var file bytes.Buffer
	for _, l := range lines {
		file.WriteString(l.text + "\n")
	}
	r, err := NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range lines {
		got, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if string(got.Value) != want.text || got.Time != want.at || got.Key != want.key || got.Kind != want.kind {
			t.Errorf("line %d: %q at %s of %q kind %d", i+1, got.Value, got.Time, got.Key, got.Kind)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last line: %v", err)
	}
}

func TestReaderSaysWhatItCannotRead(t *testing.T) {
	if _, err := OpenFile(filepath.Join(t.TempDir(), "absent.jsonl")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
	r, err := NewReader(bytes.NewReader(bytes.Repeat([]byte("x"), maxLine+1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("endless line: %v", err)
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write(bytes.Repeat([]byte("{}\n"), 1000)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err = NewReader(bytes.NewReader(z.Bytes()[:z.Len()-6])); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = r.Next()
	}
	if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut gzip: %v", err)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWriteFileReportsAFullDisk(t *testing.T) {
	for _, n := range []int{1, 10_000} {
		if err := WriteFile(fullDisk{}, Config{}, n); err == nil {
			t.Errorf("%d records: no error", n)
		}
	}
}
