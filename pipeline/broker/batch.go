package broker

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

// Header is one header of a record.
type Header struct {
	Key   string
	Value []byte
}

// Layout of a record batch, format 2, as it lies in a Batch: offsets within the batch, which begins after the four
// bytes that say how long it is (Kafka's produce request wants them in front).
const (
	sizePrefix = 4

	atBaseOffset      = 0
	atBatchLength     = 8 // of what follows this field
	atLeaderEpoch     = 12
	atMagic           = 16
	atCRC             = 17 // of everything from atAttributes on
	atAttributes      = 21
	atLastOffsetDelta = 23
	atFirstTimestamp  = 27
	atMaxTimestamp    = 35
	atProducerID      = 43
	atProducerEpoch   = 51
	atBaseSequence    = 53
	atRecordCount     = 57
	batchHeader       = 61

	attributeCompression = 0x07
	attributeAppendTime  = 0x08
	attributeControl     = 0x20
)

// castagnoli is CRC-32C, which the standard library computes with the processor's own instruction.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Batch is a record batch under construction, encoded as it grows, uncompressed. The zero value is empty and ready.
// It is reused through Reset and owned by one goroutine, except while a Publisher has it.
type Batch struct {
	buf       []byte // size prefix, batch header, records; nil or at least sizePrefix+batchHeader long
	count     int
	firstTime int64
	maxTime   int64
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	if b.buf != nil {
		b.buf = b.buf[:sizePrefix+batchHeader]
	}
	b.count, b.firstTime, b.maxTime = 0, 0, 0
}

// Len is the number of records.
func (b *Batch) Len() int { return b.count }

// Size is the length of the encoded batch in bytes, which the broker holds against its max.message.bytes.
func (b *Batch) Size() int {
	if b.buf == nil {
		return batchHeader
	}
	return len(b.buf) - sizePrefix
}

// Add appends a record; the bytes are copied. timeMs is Kafka's timestamp, in milliseconds since 1970.
// A nil key or value stays nil, which to Kafka differs from an empty one.
func (b *Batch) Add(timeMs int64, key, value []byte, headers []Header) {
	if b.buf == nil {
		b.buf = make([]byte, sizePrefix+batchHeader, 4096)
	}
	if b.count == 0 {
		b.firstTime, b.maxTime = timeMs, timeMs
	}
	b.maxTime = max(b.maxTime, timeMs)

	delta, offset := timeMs-b.firstTime, int64(b.count)
	size := 1 + varintSize(delta) + varintSize(offset) + bytesSize(key) + bytesSize(value) + varintSize(int64(len(headers)))
	for i := range headers {
		size += varintSize(int64(len(headers[i].Key))) + len(headers[i].Key) + bytesSize(headers[i].Value)
	}

	p := binary.AppendVarint(b.buf, int64(size))
	p = append(p, 0) // attributes of a record: none are defined
	p = binary.AppendVarint(p, delta)
	p = binary.AppendVarint(p, offset)
	p = appendBytes(p, key)
	p = appendBytes(p, value)
	p = binary.AppendVarint(p, int64(len(headers)))
	for i := range headers {
		p = binary.AppendVarint(p, int64(len(headers[i].Key)))
		p = append(p, headers[i].Key...)
		p = appendBytes(p, headers[i].Value)
	}
	b.buf = p
	b.count++
}

// seal fills the header in and returns the batch with its size in front, ready to be sent. The bytes are the Batch's
// own and are valid until the next Add or Reset. Without a producer, id and epoch are -1 and sequence is -1.
func (b *Batch) seal(producerID int64, epoch int16, sequence int32) []byte {
	p := b.buf[sizePrefix:]
	binary.BigEndian.PutUint32(b.buf, uint32(len(p)))
	binary.BigEndian.PutUint64(p[atBaseOffset:], 0)
	binary.BigEndian.PutUint32(p[atBatchLength:], uint32(len(p)-atLeaderEpoch))
	binary.BigEndian.PutUint32(p[atLeaderEpoch:], ^uint32(0)) // the broker fills it in
	p[atMagic] = 2
	binary.BigEndian.PutUint16(p[atAttributes:], 0)
	binary.BigEndian.PutUint32(p[atLastOffsetDelta:], uint32(b.count-1))
	binary.BigEndian.PutUint64(p[atFirstTimestamp:], uint64(b.firstTime))
	binary.BigEndian.PutUint64(p[atMaxTimestamp:], uint64(b.maxTime))
	binary.BigEndian.PutUint64(p[atProducerID:], uint64(producerID))
	binary.BigEndian.PutUint16(p[atProducerEpoch:], uint16(epoch))
	binary.BigEndian.PutUint32(p[atBaseSequence:], uint32(sequence))
	binary.BigEndian.PutUint32(p[atRecordCount:], uint32(b.count))
	binary.BigEndian.PutUint32(p[atCRC:], crc32.Checksum(p[atAttributes:], castagnoli))
	return b.buf
}

// abandon gives the bytes away to a request that may still read them, so that the next Add cannot change what goes
// over the wire.
func (b *Batch) abandon() { *b = Batch{} }

// varintSize is the length of v as binary.AppendVarint writes it: zigzag, seven bits a byte.
func varintSize(v int64) int {
	return (bits.Len64(uint64(v<<1)^uint64(v>>63)|1) + 6) / 7
}

func bytesSize(p []byte) int {
	if p == nil {
		return 1
	}
	return varintSize(int64(len(p))) + len(p)
}

func appendBytes(dst, p []byte) []byte {
	if p == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(p))), p...)
}
