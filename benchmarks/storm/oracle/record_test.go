package oracle_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"
)

// place is where the first transaction stands in a segment of the journal.
func place(t *testing.T, data []byte) (from, entry, to int) {
	t.Helper()
	for at := 32; at+8 < len(data); {
		n := int(binary.LittleEndian.Uint32(data[at+4:]))
		size := (4 + n + 31) / 32 * 32
		if data[at+8] == 'T' {
			return at, at + 4, at + size
		}
		at += size
	}
	t.Fatal("there is no transaction in the journal")
	return 0, 0, 0
}

// rewrite changes the first transaction, and its checksum.
func rewrite(t *testing.T, data []byte, change func(entry []byte)) []byte {
	t.Helper()
	from, entry, _ := place(t, data)
	n := binary.LittleEndian.Uint32(data[entry:])
	change(data[entry : entry+int(n)])
	binary.LittleEndian.PutUint32(data[from:], crc32.Checksum(data[entry:entry+int(n)], crc32.MakeTable(crc32.Castagnoli)))
	return data
}

// appendChanged appends the first transaction once more, changed.
func appendChanged(t *testing.T, data []byte, change func(entry []byte)) []byte {
	t.Helper()
	from, _, to := place(t, data)
	record := bytes.Clone(data[from:to])
	n := binary.LittleEndian.Uint32(record[4:])
	change(record[4 : 4+n])
	binary.LittleEndian.PutUint32(record, crc32.Checksum(record[4:4+n], crc32.MakeTable(crc32.Castagnoli)))
	return append(data, record...)
}
