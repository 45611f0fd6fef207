package rules

import (
	"math"
	"net/netip"
	"slices"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// always and never bound an entry that has no beginning or no end.
const (
	always payment.Time = math.MinInt64
	never  payment.Time = math.MaxInt64
)

// listEntry is one reason for a value to be on a list: from some event time until
// before another.
type listEntry struct {
	from, until    payment.Time
	value, why, by string // as written; by: who made it
	control        string // id of the control that made it, "" of a file's
	earlier        int32  // the entry of the same value before it, -1 for none
}

func (e *listEntry) at(t payment.Time) bool { return e.from <= t && t < e.until }

// listEntries are values with what is said of them. They are built once and then
// only read, without allocating: texts by hash; networks by hash, for each of
// the few lengths that are there.
type listEntries struct {
	all   []listEntry
	texts map[string]int32 // the last entry of a value, by its key
	nets  map[netip.Prefix]int32
	bits  [2][]int // the lengths of networks of IPv4 and of IPv6, longest first
}

func newEntries() listEntries {
	return listEntries{texts: map[string]int32{}, nets: map[netip.Prefix]int32{}}
}

// addText notes an entry of a text, given by its key.
func (s *listEntries) addText(key string, e listEntry) {
	e.earlier = before(s.texts, key)
	s.texts[key] = int32(len(s.all))
	s.all = append(s.all, e)
}

// addNet notes an entry of a network.
func (s *listEntries) addNet(p netip.Prefix, e listEntry) {
	e.earlier = before(s.nets, p)
	s.nets[p] = int32(len(s.all))
	s.all = append(s.all, e)
	lengths := &s.bits[family(p.Addr())]
	if at, there := slices.BinarySearchFunc(*lengths, p.Bits(), func(a, b int) int { return b - a }); !there {
		*lengths = slices.Insert(*lengths, at, p.Bits())
	}
}

func before[K comparable](last map[K]int32, key K) int32 {
	if i, ok := last[key]; ok {
		return i
	}
	return -1
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// text returns an entry of a text that counts at an event time; nil for none.
func (s *listEntries) text(key string, t payment.Time) *listEntry {
	if i, ok := s.texts[key]; ok {
		return s.counting(i, t)
	}
	return nil
}

// net returns an entry of this very network that counts at an event time.
func (s *listEntries) net(p netip.Prefix, t payment.Time) *listEntry {
	if i, ok := s.nets[p]; ok {
		return s.counting(i, t)
	}
	return nil
}

func (s *listEntries) counting(i int32, t payment.Time) *listEntry {
	for ; i >= 0; i = s.all[i].earlier {
		if e := &s.all[i]; e.at(t) {
			return e
		}
	}
	return nil
}

// addr returns an entry, of the smallest network that holds an address, which
// counts at an event time and is not among those taken off; nil for none.
// passed, if set, is called for each entry that had taken one off.
func (s *listEntries) addr(a netip.Addr, t payment.Time, off *listEntries, passed func(*listEntry)) *listEntry {
	for _, bits := range s.bits[family(a)] {
		p, err := a.Prefix(bits)
		if err != nil {
			continue
		}
		e := s.net(p, t)
		if e == nil {
			continue
		}
		if off != nil {
			if by := off.net(p, t); by != nil {
				passed(by)
				continue
			}
		}
		return e
	}
	return nil
}

// end ends all entries of a key that are there before an event time.
func (s *listEntries) end(i int32, t payment.Time) {
	for ; i >= 0; i = s.all[i].earlier {
		s.all[i].until = min(s.all[i].until, t)
	}
}
