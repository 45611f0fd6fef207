package window

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/edsrzf/mmap-go"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// A segment is a part of the journal: a file of at most a few megabytes, or as
// many bytes in memory. It is units of 32 bytes: a header,
//
//	SLUICEJ2  key 16 bytes  number uint32  crc uint32
//
// then records, each beginning with a unit: crc of the entry (Castagnoli,
// uint32), the entry (entry.go, record.go), and zeros up to the next unit. The
// last record of a segment that is complete is a seal with its times.
//
// The number of an entry is its segment's number and the unit where its record
// begins, modulo 2^36: it is unique among the segments that are kept at a time.
type segment struct {
	number       uint32
	data         []byte // up to what was flushed; a mapped file once it is sealed
	mapped       mmap.MMap
	sealed       bool         // its seal is in data
	first, last  payment.Time // of its transactions
	transactions int64
}

const (
	journalMagic = "SLUICEJ2"
	unit         = 32
	frameSize    = 4
	segmentShift = 22 // a segment has at most 2^22 units: 128 MiB
	maxSegment   = unit << segmentShift
	headerSize   = unit
	sealRecord   = unit
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// numberOf is the number of the entry whose record begins at a byte.
func numberOf(segment uint32, at int) uint64 {
	return (uint64(segment)<<segmentShift | uint64(at/unit)) & numberMask
}

// entryAt returns the entry of the record that begins at a byte.
func (s *segment) entryAt(at int) entry {
	n := binary.LittleEndian.Uint32(s.data[at+frameSize:])
	return s.data[at+frameSize : at+frameSize+int(n) : at+frameSize+int(n)]
}

// units is how many bytes a record of an entry takes.
func recordSize(e entry) int { return (frameSize + len(e) + unit - 1) / unit * unit }

// frame returns the entry of the record at the start of data, if it is whole.
func frame(data []byte) (e entry, ok bool) {
	if len(data) < unit {
		return nil, false
	}
	n := binary.LittleEndian.Uint32(data[frameSize:])
	if n < sealSize || uint64(n) > uint64(len(data)-frameSize) || (frameSize+int(n)+unit-1)/unit*unit > len(data) {
		return nil, false
	}
	e = data[frameSize : frameSize+int(n) : frameSize+int(n)]
	for _, b := range data[frameSize+int(n) : recordSize(e)] {
		if b != 0 {
			return e, false
		}
	}
	return e, crc32.Checksum(e, castagnoli) == binary.LittleEndian.Uint32(data) && e.valid()
}

// segmentHeader is the beginning of a segment.
func segmentHeader(key Key, number uint32) []byte {
	b := append(make([]byte, 0, headerSize), journalMagic...)
	b = binary.LittleEndian.AppendUint64(b, key.k0)
	b = binary.LittleEndian.AppendUint64(b, key.k1)
	b = binary.LittleEndian.AppendUint32(b, number)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// readHeader returns the key of a segment; ok is false where it has no header of ours.
func readHeader(data []byte, number uint32) (key Key, ok bool) {
	if len(data) < headerSize {
		return key, false
	}
	key = keyOf(data[len(journalMagic):])
	return key, string(segmentHeader(key, number)) == string(data[:headerSize])
}

// each calls visit for all records of a segment from a byte on, until it returns
// an error; it returns where the last whole record ends.
func (s *segment) each(from int, visit func(at int, e entry) error) (end int, err error) {
	for from < len(s.data) {
		e, ok := frame(s.data[from:])
		if !ok {
			return from, nil
		}
		if err := visit(from, e); err != nil {
			return from, err
		}
		from += recordSize(e)
	}
	return from, nil
}

// note keeps what is asked of a segment about its transactions.
func (s *segment) note(e entry) {
	if e.kind() != entryTransaction {
		return
	}
	if s.transactions == 0 || e.time() < s.first {
		s.first = e.time()
	}
	if s.transactions == 0 || e.time() > s.last {
		s.last = e.time()
	}
	s.transactions++
}

// appendSegmentSeal appends the entry that completes a segment.
func (s *segment) appendSeal(b []byte) []byte {
	b = append(b, 28, 0, 0, 0, entrySeal, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.first))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.last))
	return binary.LittleEndian.AppendUint32(b, uint32(s.transactions))
}

// readSeal reads the times of a segment from its seal; ok is false where it has none.
func (s *segment) readSeal() (ok bool) {
	at := len(s.data) - sealRecord
	if at < headerSize || at%unit != 0 {
		return false
	}
	e, whole := frame(s.data[at:])
	if !whole || e.kind() != entrySeal || len(e) != 28 {
		return false
	}
	s.first, s.last, s.transactions = e.time(), payment.Time(e.u64(16)), int64(binary.LittleEndian.Uint32(e[24:]))
	return true
}

// mapFile replaces the segment's bytes by its file.
func (s *segment) mapFile(name string) error {
	data, err := mapFile(name)
	if err != nil {
		return err
	}
	s.data, s.mapped = data, data
	return nil
}

// mapFile maps a file into memory.
func mapFile(name string) (_ mmap.MMap, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if info, err := f.Stat(); err != nil || info.Size() == 0 {
		return nil, errors.Join(err, fmt.Errorf("%s: %w", name, io.ErrUnexpectedEOF))
	}
	m, err := mmap.Map(f, mmap.RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", name, err)
	}
	return m, nil
}

func (s *segment) unmap() error {
	s.data = nil
	if s.mapped == nil {
		return nil
	}
	err := s.mapped.Unmap()
	s.mapped = nil
	return err
}
