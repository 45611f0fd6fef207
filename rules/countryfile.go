package rules

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// A file data/*.csv says of which country addresses and BINs are, one prefix a
// line: 203.0.113.0/24,CN or 622202,CN. A line that begins with # is a comment,
// and the first one may name the columns.

// The bounds of a file of data/.
const (
	maxCountryFile     = 64 << 20 // bytes
	maxCountryProblems = 20       // shown of one file
)

// countryFiles gathers the prefixes of all files of data/.
type countryFiles struct {
	nets   [2][]prefixEntry
	bins   []prefixEntry
	codes  map[string]string // one copy of each country's code
	broken bool              // some file has a problem
}

// countryFile is one file while it is read.
type countryFile struct {
	all     *countryFiles
	report  *report
	name    string
	content []byte
	lines   *source // made for the first problem: files are large, and mostly good
	faults  int
}

// read takes the prefixes of one file.
func (f *countryFiles) read(r *report, name string, content []byte) {
	content = bytes.TrimPrefix(content, []byte("\ufeff"))
	if len(content) > maxCountryFile {
		r.file(name, "", "the file has more than %d bytes", maxCountryFile)
		f.broken = true
		return
	}
	one := &countryFile{all: f, report: r, name: name, content: content}
	rows := csv.NewReader(bytes.NewReader(content))
	rows.Comment, rows.FieldsPerRecord, rows.ReuseRecord = '#', -1, true
	for first := true; ; first = false {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		if fault := (*csv.ParseError)(nil); errors.As(err, &fault) {
			one.problem(fault.Line, fault.Column, 1, "", "%v", fault.Err)
			return
		}
		if !first || len(row) != 2 || !strings.EqualFold(row[1], "country") {
			one.line(rows, row)
		}
		if one.faults == maxCountryProblems {
			r.file(name, "", "the lines after the first %d mistakes were not looked at", maxCountryProblems)
			return
		}
	}
}

// line takes one prefix and its country.
func (f *countryFile) line(rows *csv.Reader, row []string) {
	problem := func(field int, suggestion, format string, args ...any) {
		line, column := rows.FieldPos(field)
		f.problem(line, column, utf8.RuneCountInString(row[field]), suggestion, format, args...)
	}
	if len(row) != 2 {
		problem(0, "write a prefix and a country, such as 203.0.113.0/24,CN", "a line has two values, and this has %d", len(row))
		return
	}
	prefix, country := row[0], row[1]
	if must, suggestion := countryList.check(country); must != "" {
		problem(1, suggestion, "a country must be %s", must)
		return
	}
	code, ok := f.all.codes[country]
	if !ok {
		code = strings.Clone(country) // not a piece of the line, which it would keep
		f.all.codes[code] = code
	}
	e := prefixEntry{country: code, file: f}
	e.line, e.column = rows.FieldPos(0)
	if e.first, e.last, ok = binRange(prefix); ok {
		f.all.bins = append(f.all.bins, e)
		return
	}
	if must, suggestion := ipList.check(prefix); must != "" {
		if !strings.ContainsAny(prefix, ".:") {
			must = "1 to 11 digits of a BIN, or " + must
		}
		problem(0, suggestion, "a prefix must be %s", must)
		return
	}
	p, _ := parseNet(prefix)
	e.first = addressKey(p.Addr())
	e.last = e.first
	if host := p.Addr().BitLen() - p.Bits(); host > 64 {
		e.last = prefixKey{e.first.high | (1<<(host-64) - 1), math.MaxUint64}
	} else {
		e.last.low |= 1<<host - 1
	}
	to := &f.all.nets[family(p.Addr())]
	*to = append(*to, e)
}

// problem notes a mistake; the column counts bytes.
func (f *countryFile) problem(line, column, width int, suggestion, format string, args ...any) {
	if f.lines == nil {
		f.lines = newSource(f.name, f.content)
	}
	f.all.broken = true
	f.faults++
	before := f.lines.line(line)
	before = before[:min(max(column-1, 0), len(before))]
	f.report.suggest(place{f.lines, line, utf8.RuneCountInString(before) + 1, width}, suggestion, format, args...)
}

// build lays out what the files say. The same prefix with another country is a
// mistake: nobody could say which one counts.
func (f *countryFiles) build() *countries {
	again := func(first, other *prefixEntry) {
		if o := other.file; first.country != other.country && o.faults < maxCountryProblems {
			o.problem(other.line, other.column, 1, "", "this prefix is of %s, and in %s:%d it is of %s", other.country, first.file.name, first.line, first.country)
		}
	}
	c := &countries{bins: newPrefixes(f.bins, again)}
	for i := range f.nets {
		c.nets[i] = newPrefixes(f.nets[i], again)
	}
	c.broken = f.broken
	return c
}
