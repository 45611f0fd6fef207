package traffic

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// WriteFile writes the first n records of cfg's stream, transactions and
// outcomes together, as JSON Lines. Labels are not written.
func WriteFile(w io.Writer, cfg Config, n int) error {
	buffered := bufio.NewWriterSize(w, 256<<10)
	g := New(cfg)
	for range n {
		_, err := buffered.Write(g.Next().Value)
		if err == nil {
			err = buffered.WriteByte('\n')
		}
		if err != nil {
			return fmt.Errorf("traffic: write records: %w", err)
		}
	}
	if err := buffered.Flush(); err != nil {
		return fmt.Errorf("traffic: write records: %w", err)
	}
	return nil
}

// maxLine bounds a line of a file. It is far above what a record may be, so
// that records which are too large reach the one who has to refuse them.
const maxLine = 16 << 20

// Reader reads records from JSON Lines, plain or gzipped. It judges nothing:
// what is no record is handed on byte for byte.
type Reader struct {
	lines   *bufio.Scanner
	decoder payment.Decoder
	tx      payment.Transaction
	last    payment.Time
	line    int
	closers []io.Closer
}

// OpenFile opens a file of records. Close it after use.
func OpenFile(name string) (*Reader, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("traffic: %w", err)
	}
	r, err := NewReader(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w (%s)", err, name), f.Close())
	}
	r.closers = append(r.closers, f)
	return r, nil
}

// NewReader reads records from r, which is gzipped if it begins like that.
func NewReader(r io.Reader) (*Reader, error) {
	reader := &Reader{decoder: payment.Decoder{Limits: payment.DefaultLimits()}}
	buffered := bufio.NewReaderSize(r, 256<<10)
	source := io.Reader(buffered)
	if magic, _ := buffered.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, fmt.Errorf("traffic: read gzip: %w", err)
		}
		source, reader.closers = z, append(reader.closers, z)
	}
	reader.lines = bufio.NewScanner(source)
	reader.lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	return reader, nil
}

// Next returns the next line, empty lines included, without its line feed; at
// the end the error is io.EOF. A line whose event time cannot be read has the
// time of the last one that could (zero before the first), and one whose payer
// cannot be read has no key. Times are as the file has them: they may go back.
func (r *Reader) Next() (Event, error) {
	if !r.lines.Scan() {
		switch err := r.lines.Err(); {
		case err == nil:
			return Event{}, io.EOF
		case errors.Is(err, bufio.ErrTooLong):
			return Event{}, fmt.Errorf("traffic: line %d is longer than %d bytes", r.line+1, maxLine)
		default:
			return Event{}, fmt.Errorf("traffic: read line %d: %w", r.line+1, err)
		}
	}
	r.line++
	e := Event{Value: bytes.Clone(r.lines.Bytes())}
	e.Kind = r.decoder.Kind(e.Value)
	var at payment.Time
	at, e.Key = r.head(e.Kind, e.Value)
	if at != 0 {
		r.last = at
	}
	e.Time = r.last
	return e, nil
}

// head reads what can be read of a record's event time and payer. Its refusal
// is for the one who decides.
func (r *Reader) head(kind payment.RecordKind, record []byte) (payment.Time, string) {
	switch kind {
	case payment.RecordOutcome:
		var o payment.Outcome
		_ = r.decoder.Outcome(record, never, &o)
		return o.EventTime, string([]byte(o.PayerID))
	case payment.RecordReview:
		var v payment.Review
		_ = r.decoder.Review(record, never, &v)
		return v.EventTime, string([]byte(v.PayerID))
	case payment.RecordControl:
		var c struct {
			EventTime payment.Time `json:"event_time"`
		}
		if json.Unmarshal(record, &c) != nil {
			return 0, ""
		}
		return c.EventTime, ""
	}
	_ = r.decoder.Transaction(record, never, &r.tx)
	return r.tx.EventTime, string([]byte(r.tx.Payer.AccountID))
}

// Close closes what OpenFile opened.
func (r *Reader) Close() error {
	var errs []error
	for _, c := range r.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
