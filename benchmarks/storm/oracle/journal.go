package oracle

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"hash/maphash"
	"os"
	"path/filepath"
	"slices"
)

// The layout of a segment of the journal.
const (
	journalMagic = "SLUICEJ2"
	journalUnit  = 32 // of a header, and what records are multiples of
	journalFrame = 4  // the checksum before an entry
)

// ReadJournal reads the logs that stand in the journal of an embedded store,
// which holds each transaction once, beside its owner or without one. Bytes at
// the end that are no whole record are left out.
func ReadJournal(dir string) (Logs, error) {
	logs, seed := Logs{}, maphash.MakeSeed()
	named := map[TxID][refKinds]uint64{} // what each transaction's first entry refers to
	charges := map[TxID]string{}
	err := eachRecord(dir, func(at At, e []byte) error {
		switch e[4] {
		case kindTransaction:
			ev, err := readTransaction(at, e, seed)
			if err != nil {
				return err
			}
			for i, kind := range Kinds() {
				if key := ev.refs[kindRefs()[i]]; key != 0 {
					logs.of(kind, key).addTransaction(ev)
				}
			}
			if name := chargeOf(&ev, e); name != "" {
				logs.named(name).addTransaction(ev)
				charges[ev.tx] = name
			}
			if _, known := named[ev.tx]; !known {
				named[ev.tx] = ev.refs
			}
		case kindOutcome:
			tx, o, err := readOutcome(at, e)
			if err != nil {
				return err
			}
			for i, kind := range Kinds() {
				if key := named[tx][kindRefs()[i]]; key != 0 {
					logs.of(kind, key).addOutcome(tx, o)
				}
			}
			if name := charges[tx]; name != "" {
				logs.named(name).addOutcome(tx, o)
			}
		}
		return nil
	})
	for _, l := range logs {
		l.order()
	}
	return logs, err
}

func (l Logs) of(kind string, key uint64) *Log { return l.named(logName(kind, key)) }

func (l Logs) named(name string) *Log {
	if l[name] == nil {
		l[name] = newLog()
	}
	return l[name]
}

// JournalEnd says where the journal of an embedded store ends at this moment: the
// position behind its last whole record.
func JournalEnd(dir string) (end At, err error) {
	err = eachRecord(dir, func(at At, e []byte) error {
		end = at + At(recordSize(e))
		return nil
	})
	return end, err
}

func recordSize(e []byte) int {
	return (journalFrame + len(e) + journalUnit - 1) / journalUnit * journalUnit
}

// eachRecord visits every whole record of a journal.
func eachRecord(dir string, visit func(at At, e []byte) error) error {
	names, err := filepath.Glob(filepath.Join(dir, "journal-*"))
	if err != nil {
		return err
	}
	slices.Sort(names)
	for i, name := range names {
		var number uint64
		if _, err := fmt.Sscanf(filepath.Base(name), "journal-%08d", &number); err != nil {
			return fmt.Errorf("%s is no segment: %w", name, err)
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if len(data) < journalUnit || !bytes.HasPrefix(data, []byte(journalMagic)) {
			if i == len(names)-1 {
				break // a crash came while it was begun
			}
			return fmt.Errorf("%s has no header", name)
		}
		for offset := journalUnit; offset+journalFrame < len(data); {
			e, ok := split(data[offset+journalFrame:])
			sum := uint32(data[offset]) | uint32(data[offset+1])<<8 | uint32(data[offset+2])<<16 | uint32(data[offset+3])<<24
			if !ok || crc32.Checksum(e, crc32.MakeTable(crc32.Castagnoli)) != sum {
				break
			}
			if err := visit(atOf(number, uint64(offset)), e); err != nil {
				return fmt.Errorf("%s at byte %d: %w", name, offset, err)
			}
			offset += recordSize(e)
		}
	}
	return nil
}
