package broker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/segmentio/kafka-go/compress"
)

// Record is one record of a partition. Key, Value and Headers belong to the FetchBuffer that it was read into and are
// valid until the next Fetch with that buffer.
type Record struct {
	Partition int
	Offset    int64
	Time      int64 // Kafka's timestamp, ms since 1970: the producer's, or the broker's on a topic with LogAppendTime
	Key       []byte
	Value     []byte
	Headers   []Header
}

// CorruptBatchError is a batch that the broker keeps and nobody can read. Next is the offset after it, for a reader
// that decides to go on.
type CorruptBatchError struct {
	Topic     string
	Partition int
	Offset    int64 // first offset of the batch
	Next      int64
	Err       error
}

func (e *CorruptBatchError) Error() string {
	return fmt.Sprintf("topic %s partition %d: batch of offsets %d to %d cannot be read: %v", e.Topic, e.Partition, e.Offset, e.Next-1, e.Err)
}

func (e *CorruptBatchError) Unwrap() error { return e.Err }

// FetchBuffer holds what one Fetch returned and is reused by the next one. The zero value is ready. It belongs to one
// goroutine.
type FetchBuffer struct {
	exchange *fetchExchange    // owns the bytes as they came over the wire; nil after a request that was given up
	records  []Record          // of the last fetch; keys and values point into exchange or inflated
	headers  []Header          // of all records; each record has its own part of it
	inflated []byte            // what was compressed
	names    map[string]string // header names met, so that a repeated one costs no allocation
}

const (
	// mostInflated bounds one compressed batch once it is inflated.
	mostInflated = 128 << 20
	// enoughInflated ends a fetch: what is small on the wire can be large here, and every lane has several buffers.
	enoughInflated = 8 << 20
	// mostNames bounds the table of header names against producers that invent new ones.
	mostNames = 256
	// smallestRecord is what an empty record takes, which bounds what a batch's record count can make us allocate.
	smallestRecord = 7
)

// errBatch is what a batch that breaks the format is answered with, with the part that does.
type errBatch string

func (e errBatch) Error() string { return string(e) }

// decode appends the records of set, which are whole batches and perhaps a cut one, with an offset of from or higher.
// next is where to read on: after the last whole batch, and so also after control batches (the markers that end
// transactions), and after offsets that compaction took away. A batch that cannot be read is reported once it is the
// first one left.
func (b *FetchBuffer) decode(set []byte, partition int, from int64) (next int64, err error) {
	next = from
	for len(set) > atMagic {
		if set[atMagic] != 2 {
			return next, b.corrupt(next, next+1, fmt.Errorf("record format %d is not supported, only 2 (Kafka 0.11 or newer)", set[atMagic]))
		}
		base := int64(binary.BigEndian.Uint64(set[atBaseOffset:]))
		total := int64(atLeaderEpoch) + int64(int32(binary.BigEndian.Uint32(set[atBatchLength:])))
		if total < batchHeader {
			return next, b.corrupt(base, base+1, errBatch("batch is shorter than its header"))
		}
		if total > int64(len(set)) {
			break // cut by the fetch's size limit
		}
		batch := set[:total]
		set = set[total:]
		after := base + int64(binary.BigEndian.Uint32(batch[atLastOffsetDelta:])) + 1
		if after <= next {
			continue
		}
		if len(b.inflated) > enoughInflated {
			break // the rest is for the next fetch
		}
		if err := b.decodeBatch(batch, base, partition, from); err != nil {
			return next, b.corrupt(base, after, err)
		}
		next = after
	}
	return next, nil
}

// corrupt reports a bad batch, but first lets the caller have what came before it.
func (b *FetchBuffer) corrupt(offset, next int64, err error) error {
	if len(b.records) > 0 {
		return nil
	}
	return &CorruptBatchError{Offset: offset, Next: next, Err: err}
}

// decodeBatch appends the records of one whole batch, all of them or none.
func (b *FetchBuffer) decodeBatch(batch []byte, base int64, partition int, from int64) error {
	if crc32.Checksum(batch[atAttributes:], castagnoli) != binary.BigEndian.Uint32(batch[atCRC:]) {
		return errBatch("checksum does not match")
	}
	attributes := binary.BigEndian.Uint16(batch[atAttributes:])
	if attributes&attributeControl != 0 {
		return nil
	}
	times := timestamps{base: int64(binary.BigEndian.Uint64(batch[atFirstTimestamp:])), perRecord: 1}
	if attributes&attributeAppendTime != 0 {
		times = timestamps{base: int64(binary.BigEndian.Uint64(batch[atMaxTimestamp:]))}
	}
	count := int32(binary.BigEndian.Uint32(batch[atRecordCount:]))
	records := batch[batchHeader:]
	if codec := compress.Compression(attributes & attributeCompression); codec != compress.None {
		var err error
		if records, err = b.inflate(codec, records); err != nil {
			return err
		}
	}
	if count < 0 || int(count) > len(records)/smallestRecord {
		return errBatch("record count does not fit the batch")
	}
	before := len(b.records)
	if err := b.decodeRecords(records, int(count), base, times, partition, from); err != nil {
		b.records = b.records[:before]
		return err
	}
	return nil
}

// timestamps: a record's own time is base + perRecord × its delta; on a topic with LogAppendTime the deltas are what
// the producer wrote and mean nothing, and perRecord is 0.
type timestamps struct{ base, perRecord int64 }

func (b *FetchBuffer) decodeRecords(p []byte, count int, base int64, times timestamps, partition int, from int64) error {
	b.records = slices.Grow(b.records, count)
	for range count {
		size, n := varint(p)
		if n <= 0 || size < 0 || size > int64(len(p)-n) {
			return errBatch("record is longer than its batch")
		}
		r := p[n : n+int(size)]
		p = p[n+int(size):]
		if len(r) == 0 {
			return errBatch("record is empty")
		}
		r = r[1:] // attributes: none are defined

		timeDelta, n := varint(r)
		if n <= 0 {
			return errBatch("timestamp of a record is cut")
		}
		r = r[n:]
		offsetDelta, n := varint(r)
		if n <= 0 {
			return errBatch("offset of a record is cut")
		}
		key, r, ok := field(r[n:])
		if !ok {
			return errBatch("key of a record is cut")
		}
		value, r, ok := field(r)
		if !ok {
			return errBatch("value of a record is cut")
		}
		headers, n := varint(r)
		if n <= 0 || headers < 0 || headers > int64(len(r)-n) {
			return errBatch("headers of a record are cut")
		}
		rec := Record{
			Partition: partition,
			Offset:    base + offsetDelta,
			Time:      times.base + times.perRecord*timeDelta,
			Key:       key,
			Value:     value,
		}
		if rec.Offset < from {
			continue
		}
		if headers > 0 {
			if rec.Headers, ok = b.decodeHeaders(r[n:], int(headers)); !ok {
				return errBatch("headers of a record are cut")
			}
		}
		b.records = append(b.records, rec)
	}
	if len(p) != 0 {
		return errBatch("batch holds more than its records")
	}
	return nil
}

func (b *FetchBuffer) decodeHeaders(p []byte, count int) ([]Header, bool) {
	start := len(b.headers)
	for range count {
		name, rest, ok := field(p)
		if !ok || name == nil {
			return nil, false
		}
		value, rest, ok := field(rest)
		if !ok {
			return nil, false
		}
		p = rest
		b.headers = append(b.headers, Header{Key: b.name(name), Value: value})
	}
	return b.headers[start:len(b.headers):len(b.headers)], true
}

// name returns p as a string that outlives the buffer.
func (b *FetchBuffer) name(p []byte) string {
	if s, ok := b.names[string(p)]; ok {
		return s
	}
	s := string(p)
	if b.names == nil {
		b.names = make(map[string]string)
	}
	if len(b.names) < mostNames {
		b.names[s] = s
	}
	return s
}

// inflate appends what p holds to b.inflated and returns that part. Records of earlier batches keep pointing to where
// they were if the buffer has to move.
func (b *FetchBuffer) inflate(compression compress.Compression, p []byte) ([]byte, error) {
	codec := compression.Codec()
	if codec == nil {
		return nil, fmt.Errorf("compression %d is not known", compression)
	}
	r := codec.NewReader(bytes.NewReader(p))
	defer func() { _ = r.Close() }()
	start := len(b.inflated)
	for {
		b.inflated = slices.Grow(b.inflated, max(4096, 2*len(p)))
		n, err := r.Read(b.inflated[len(b.inflated):cap(b.inflated)])
		b.inflated = b.inflated[:len(b.inflated)+n]
		if errors.Is(err, io.EOF) {
			return b.inflated[start:], nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", compression, err)
		}
		if len(b.inflated)-start > mostInflated {
			return nil, fmt.Errorf("%s: inflates to more than %d bytes", compression, mostInflated)
		}
	}
}

// field reads a length and as many bytes; a length of -1 is nil.
func field(p []byte) (value, rest []byte, ok bool) {
	size, n := varint(p)
	if n <= 0 || size > int64(len(p)-n) {
		return nil, nil, false
	}
	if size < 0 {
		return nil, p[n:], size == -1
	}
	end := n + int(size)
	return p[n:end:end], p[end:], true
}

// varint is binary.Varint with the one-byte case, which is most of them, inlined.
func varint(p []byte) (int64, int) {
	if len(p) > 0 && p[0] < 0x80 {
		return int64(p[0]>>1) ^ -int64(p[0]&1), 1
	}
	return binary.Varint(p)
}
