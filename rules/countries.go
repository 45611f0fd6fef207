package rules

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/ast"
)

// countries tell the country of an address or of a card's BIN, by the files of
// data/. They are built once and then only read, without allocating.
type countries struct {
	nets   [2]prefixes // of IPv4 and of IPv6
	bins   prefixes
	broken bool // a file has a problem, so that something is missing
}

// prefixKey is a number that a prefix can begin: an address, or a BIN with zeros
// after its last digit.
type prefixKey struct{ high, low uint64 }

func (k prefixKey) compare(o prefixKey) int {
	return cmp.Or(cmp.Compare(k.high, o.high), cmp.Compare(k.low, o.low))
}

// next is the number after k; zero after the largest.
func (k prefixKey) next() prefixKey {
	k.low++
	if k.low == 0 {
		k.high++
	}
	return k
}

// prefixEntry is a prefix while a table is built: all numbers from first to last.
// Of two entries, one holds the other or they are apart.
type prefixEntry struct {
	first, last prefixKey
	country     string
	file        *countryFile
	line        int // where it stands in the file
	column      int // in bytes
}

// prefixes find the country of the longest prefix. The ranges of numbers lie one
// after the other and no longer in each other: countries[i] has those from
// starts[i] until before starts[i+1]; "" is none.
type prefixes struct {
	starts    []prefixKey
	countries []string
}

// newPrefixes lays out entries, which it sorts. Of equal ones the first counts,
// and again is called with it and with the other.
func newPrefixes(entries []prefixEntry, again func(first, other *prefixEntry)) prefixes {
	slices.SortStableFunc(entries, func(a, b prefixEntry) int {
		return cmp.Or(a.first.compare(b.first), b.last.compare(a.last)) // what holds the other goes first
	})
	var p prefixes
	var open []*prefixEntry // those that hold the present number, the shortest prefix first
	closeBefore := func(until *prefixKey) {
		for len(open) > 0 && (until == nil || open[len(open)-1].last.compare(*until) < 0) {
			after := open[len(open)-1].last.next()
			open = open[:len(open)-1]
			country := ""
			if len(open) > 0 {
				country = open[len(open)-1].country
			}
			if after != (prefixKey{}) {
				p.from(after, country)
			}
		}
	}
	for i := range entries {
		e := &entries[i]
		if n := len(open); n > 0 && open[n-1].first == e.first && open[n-1].last == e.last {
			again(open[n-1], e)
			continue
		}
		closeBefore(&e.first)
		open = append(open, e)
		p.from(e.first, e.country)
	}
	closeBefore(nil)
	return p
}

// from begins a range; one that began at the same number has no numbers.
func (p *prefixes) from(start prefixKey, country string) {
	if n := len(p.starts); n > 0 && p.starts[n-1] == start {
		p.countries[n-1] = country
		return
	}
	p.starts, p.countries = append(p.starts, start), append(p.countries, country)
}

// country finds the country of a number; "" for none.
func (p *prefixes) country(k prefixKey) string {
	i, exact := slices.BinarySearchFunc(p.starts, k, prefixKey.compare)
	if !exact {
		i--
	}
	if i < 0 {
		return ""
	}
	return p.countries[i]
}

// addressKey is an address as a number.
func addressKey(a netip.Addr) prefixKey {
	if a.Is4() {
		b := a.As4()
		return prefixKey{low: uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return prefixKey{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// ofAddress finds the country of an address; "" for none.
func (c *countries) ofAddress(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return c.nets[family(a)].country(addressKey(a))
}

// maxBIN is how many digits of a card number a BIN has at most.
const maxBIN = 11

// binRange is the first and the last number, of maxBIN digits, that begins with
// some digits.
func binRange(digits string) (first, last prefixKey, ok bool) {
	if digits == "" || len(digits) > maxBIN || strings.Trim(digits, "0123456789") != "" {
		return first, last, false
	}
	from, _ := strconv.ParseUint(digits, 10, 64)
	width := uint64(1)
	for range maxBIN - len(digits) {
		width *= 10
	}
	return prefixKey{low: from * width}, prefixKey{low: from*width + width - 1}, true
}

// ofBIN finds the country of a card's BIN; "" for none.
func (c *countries) ofBIN(bin string) string {
	k, _, ok := binRange(bin)
	if !ok {
		return ""
	}
	return c.bins.country(k)
}

// readers are what country_of can be asked about, by name.
func (c *countries) readers() map[string]func(*facts) (string, bool) {
	return map[string]func(*facts) (string, bool){
		"device.ip": func(f *facts) (string, bool) {
			country := c.ofAddress(f.Tx.Device.Addr)
			return country, country != ""
		},
		"instrument.bin": func(f *facts) (string, bool) {
			country := c.ofBIN(f.Tx.Instrument.BIN)
			return country, country != ""
		},
	}
}

// country compiles country_of(ip) and country_of(bin).
func (c *compiler[E]) country(n, argument ast.Node) term[E] {
	if c.lang.countries == nil {
		return c.problem(c.span(n), "ask in the rule that reads the feature", "country_of cannot be asked here: where and share look at one event")
	}
	field := c.listField(argument)
	if field.kind == invalid {
		return field
	}
	read := c.lang.countryOf[field.name]
	if read == nil {
		what := field.what()
		if field.name != "" {
			what = field.name
		}
		return c.problem(c.span(argument), "write country_of(ip) or country_of(bin)", "country_of needs the ip or the bin, and this is %s", what)
	}
	all := c.lang.countries
	known := len(all.bins.starts)
	if field.name == "device.ip" {
		known = len(all.nets[0].starts) + len(all.nets[1].starts)
	}
	if known == 0 && !all.broken {
		return c.problem(c.span(n), "write lines such as 203.0.113.0/24,CN or 622202,CN in a file such as data/countries.csv", "no file of data/ tells the country of any %s", field.name)
	}
	return textTerm(read)
}
