package window

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"sort"
	"unsafe"

	"github.com/edsrzf/mmap-go"

	"github.com/sluice-risk/sluice/pipeline/window/disk"
)

// An index finds the entries of an entity, and of a transaction, in sealed
// segments. A run is the index of some consecutive segments: pairs of a key and
// the number of an entry that has this key, sorted by key and, of one key, in
// the order of the log. Keys are keyed hashes, spread evenly: a table of their
// highest bits leads to the few pairs that have the same ones, and a filter says
// at once of most keys that they are not there.
//
// A run is written once, beside the segments that it indexes, and replaced by one
// of eight times as many segments when there are eight of its size. It holds
// nothing that the segments do not: a run that is missing is made again.
type run struct {
	from, to uint32   // the segments, to included
	pairs    []pair   //
	first    []uint32 // by the highest bits of the key: the first pair that has these or higher ones
	filter   []uint64 // see filtered
	mapped   mmap.MMap
	stuck    bool                    // its file could not be written, or one of it and those behind it
	waits    bool                    // it is stuck until the disk takes it
	search   func(key uint64) []pair // instead of all these, where a segment has no index: see readonly.go
}

type pair struct{ key, number uint64 }

const (
	runMagic    = "SLUICEI2"
	runHeader   = 64
	runFanout   = 8
	filterShare = 8 // pairs to a word of the filter
)

// newRun makes the index of segments from their pairs, which come in the order
// of the log. They are dealt out by their highest bits, as the table will look
// for them, and the few of each place are put in order there.
func newRun(from, to uint32, pairs []pair) *run {
	r := &run{from: from, to: to, pairs: make([]pair, len(pairs))}
	table, _ := r.bits()
	next := make([]uint32, 1<<table+1)
	for i := range pairs {
		next[pairs[i].key>>(64-table)+1]++
	}
	for i := 1; i < len(next); i++ {
		next[i] += next[i-1]
	}
	for _, p := range pairs {
		at := &next[p.key>>(64-table)]
		r.pairs[*at] = p
		*at++
	}
	for i := 1; i < len(r.pairs); i++ { // equal keys stay as they came
		p := r.pairs[i]
		at := i
		for ; at > 0 && r.pairs[at-1].key > p.key; at-- {
			r.pairs[at] = r.pairs[at-1]
		}
		r.pairs[at] = p
	}
	return r.prepare()
}

// bits is how many of a key's highest bits the table, and the filter, look at.
func (r *run) bits() (table, filter int) {
	n := uint(len(r.pairs))
	return max(1, bits.Len(n)-4), max(1, bits.Len(n/filterShare))
}

// prepare makes the table and the filter. The table has an end, and one word
// more, so that pairs behind it in a file stand at a multiple of eight.
func (r *run) prepare() *run {
	table, filter := r.bits()
	r.first, r.filter = make([]uint32, 1<<table+2), make([]uint64, 1<<filter)
	next := 0
	for i := range r.pairs {
		for top := int(r.pairs[i].key >> (64 - table)); next <= top; next++ {
			r.first[next] = uint32(i)
		}
		word, mask := r.filtered(r.pairs[i].key)
		*word |= mask
	}
	for ; next < len(r.first); next++ {
		r.first[next] = uint32(len(r.pairs))
	}
	return r
}

// filtered returns a key's word of the filter and its bits there: a Bloom filter
// within one word (Putze, Sanders, Singler 2007), four bits for each key.
func (r *run) filtered(key uint64) (word *uint64, mask uint64) {
	mask = 1<<(key&63) | 1<<(key>>6&63) | 1<<(key>>12&63) | 1<<(key>>18&63)
	_, filter := r.bits()
	return &r.filter[key>>(64-filter)], mask
}

// find returns the pairs of a key, in the order of the log.
func (r *run) find(key uint64) []pair {
	if r.search != nil {
		return r.search(key)
	}
	if word, mask := r.filtered(key); *word&mask != mask {
		return nil
	}
	table, _ := r.bits()
	top := key >> (64 - table)
	lo, hi := int(r.first[top]), int(r.first[top+1])
	lo += sort.Search(hi-lo, func(i int) bool { return r.pairs[lo+i].key >= key })
	end := lo
	for end < hi && r.pairs[end].key == key {
		end++
	}
	return r.pairs[lo:end]
}

// mergeRuns makes one run of several that follow each other.
func mergeRuns(runs []*run) *run {
	n := 0
	for _, r := range runs {
		n += len(r.pairs)
	}
	all := make([]pair, 0, n)
	heads := make([]int, len(runs))
	for len(all) < n {
		least := -1
		for i, r := range runs { // of equal keys the earlier run comes first
			if heads[i] < len(r.pairs) && (least < 0 || r.pairs[heads[i]].key < runs[least].pairs[heads[least]].key) {
				least = i
			}
		}
		all = append(all, runs[least].pairs[heads[least]])
		heads[least]++
	}
	return (&run{from: runs[0].from, to: runs[len(runs)-1].to, pairs: all}).prepare()
}

// A file of a run is a header (magic, from, to, number of pairs, checksum of the
// plan and of all this), then filter, table and pairs as they are in memory:
// little endian, as all machines that we build for.

func runName(from, to uint32) string { return fmt.Sprintf("index-%08d-%08d", from, to) }

func (r *run) header(plan string) []byte {
	b := append(make([]byte, 0, runHeader), runMagic...)
	b = binary.LittleEndian.AppendUint32(b, r.from)
	b = binary.LittleEndian.AppendUint32(b, r.to)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(r.pairs)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum([]byte(plan), castagnoli))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return b[:runHeader]
}

// save writes a run to a file, which appears when it is whole.
func (r *run) save(files disk.Files, name, plan string) (err error) {
	f, err := files.Create(name + ".part")
	if err != nil {
		return err
	}
	at := int64(0)
	for _, part := range [][]byte{r.header(plan), rawBytes(r.filter), rawBytes(r.first), rawBytes(r.pairs)} {
		if err == nil {
			_, err = f.WriteAt(part, at)
			at += int64(len(part))
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return files.Rename(name+".part", name)
}

// openRun maps the file of a run that was made for a plan.
func openRun(name, plan string) (*run, error) {
	data, err := mapFile(name)
	if err != nil {
		return nil, err
	}
	r := &run{mapped: data}
	if len(data) < runHeader {
		return nil, errors.Join(io.ErrUnexpectedEOF, data.Unmap())
	}
	r.from, r.to = binary.LittleEndian.Uint32(data[8:]), binary.LittleEndian.Uint32(data[12:])
	n := binary.LittleEndian.Uint64(data[16:])
	if n > 1<<32 {
		return nil, errors.Join(errCutIndex, data.Unmap())
	}
	r.pairs = make([]pair, 0)
	filters, firsts := uint64(1)<<max(1, bits.Len(uint(n/filterShare))), uint64(1)<<max(1, bits.Len(uint(n))-4)+2
	if uint64(len(data)) != runHeader+8*filters+4*firsts+16*n {
		return nil, errors.Join(errCutIndex, data.Unmap())
	}
	at := uint64(runHeader)
	r.filter = unsafe.Slice((*uint64)(unsafe.Pointer(&data[at])), filters)
	at += 8 * filters
	r.first = unsafe.Slice((*uint32)(unsafe.Pointer(&data[at])), firsts)
	at += 4 * firsts
	if n > 0 {
		r.pairs = unsafe.Slice((*pair)(unsafe.Pointer(&data[at])), n)
	}
	if string(data[:32]) != string(r.header(plan)[:32]) {
		return nil, errors.Join(errors.New("the file of an index was made for other features"), data.Unmap())
	}
	return r, nil
}

var errCutIndex = errors.New("the file of an index is cut")

func (r *run) unmap() error {
	if r.mapped == nil {
		return nil
	}
	m := r.mapped
	r.mapped, r.pairs, r.first, r.filter = nil, nil, nil, nil
	return m.Unmap()
}

// rawBytes views words as bytes.
func rawBytes[T any](s []T) []byte {
	if len(s) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), uintptr(len(s))*unsafe.Sizeof(s[0]))
}
