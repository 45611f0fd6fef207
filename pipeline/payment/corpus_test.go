package payment

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// corpusTime is the Kafka time of every record of the corpus, as its head says.
const corpusTime = "2026-11-23T00:15:31Z"

// corpusRecord is one record of testdata/corpus and what is expected of it.
type corpusRecord struct {
	title  string
	record []byte
	want   *Refusal // nil: accepted
	beyond bool     // a schema cannot refuse it
}

func (c *corpusRecord) String() string { return strconv.Quote(c.title) }

// corpusKinds are the files of the corpus, which are kinds of records.
func corpusKinds() []string { return []string{"transaction", "outcome", "review", "control"} }

func corpus(tb testing.TB, kind string) []corpusRecord {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "corpus", kind+".txtar"))
	if err != nil {
		tb.Fatal(err)
	}
	var records []corpusRecord
	for _, file := range txtar.Parse(text).Files {
		expected, title, ok := strings.Cut(file.Name, " | ")
		if !ok {
			tb.Fatalf("%s: %q has no title", kind, file.Name)
		}
		c := corpusRecord{record: expandRecord(tb, bytes.TrimSuffix(file.Data, []byte("\n")))}
		c.title, c.beyond = strings.CutSuffix(title, " [+]")
		if expected != "accept" {
			reason, field, _ := strings.Cut(expected, " ")
			c.want = &Refusal{Reason: Reason(reason), Field: field}
		}
		records = append(records, c)
	}
	return records
}

var (
	repeated = regexp.MustCompile(`^(.+)\*([0-9]+)$`)
	angled   = regexp.MustCompile(`«[^»]*»`)
)

// expandRecord replaces what stands between « and », as the head of each file explains.
func expandRecord(tb testing.TB, record []byte) []byte {
	tb.Helper()
	padTo := 0
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil {
			tb.Fatal(err)
		}
		return n
	}
	record = angled.ReplaceAllFunc(record, func(b []byte) []byte {
		inner := strings.Trim(string(b), "«»")
		if size, ok := strings.CutPrefix(inner, "pad "); ok {
			padTo = number(size)
			return []byte("«pad»")
		}
		if m := repeated.FindStringSubmatch(inner); m != nil {
			return []byte(strings.Repeat(m[1], number(m[2])))
		}
		raw, err := hex.DecodeString(strings.ReplaceAll(inner, " ", ""))
		if err != nil {
			tb.Fatalf("%s: %v", b, err)
		}
		return raw
	})
	if padTo > 0 {
		pad := []byte("«pad»")
		record = bytes.Replace(record, pad, bytes.Repeat([]byte(" "), padTo-len(record)+len(pad)), 1)
	}
	return record
}

// parseTime is ParseTime of a constant.
func parseTime(tb testing.TB, s string) Time {
	tb.Helper()
	t, ok := ParseTime(s)
	if !ok {
		tb.Fatalf("%q is no time", s)
	}
	return t
}

// decode decodes a record of a kind of the corpus with a fresh decoder.
func decode(kind string, record []byte, at Time) *Refusal {
	d := Decoder{Limits: DefaultLimits()}
	switch kind {
	case "outcome":
		return d.Outcome(record, at, new(Outcome))
	case "review":
		return d.Review(record, at, new(Review))
	case "control":
		return d.Control(record, at, new(Control))
	}
	return d.Transaction(record, at, new(Transaction))
}

func TestDecoderJudgesCorpusAsExpected(t *testing.T) {
	at := parseTime(t, corpusTime)
	for _, kind := range corpusKinds() {
		t.Run(kind, func(t *testing.T) {
			for _, c := range corpus(t, kind) {
				got := decode(kind, c.record, at)
				switch {
				case c.want == nil && got != nil:
					t.Errorf("%v: refused (%v), want it accepted", &c, got)
				case c.want != nil && got == nil:
					t.Errorf("%v: accepted, want %v", &c, c.want)
				case c.want != nil && *got != *c.want:
					t.Errorf("%v: got %+v, want %+v", &c, *got, *c.want)
				}
			}
		})
	}
}

func TestCorpusHasEveryReasonOfDecodingTwice(t *testing.T) {
	count := map[Reason]int{}
	for _, kind := range corpusKinds() {
		for _, c := range corpus(t, kind) {
			if c.want != nil {
				count[c.want.Reason]++
			}
		}
	}
	known := map[Reason]bool{}
	for _, reason := range Reasons() {
		known[reason] = true
		ofLedger := slices.Contains([]Reason{ReasonIDConflict, ReasonUnmatched, ReasonNotHeld, ReasonNotNeeded, ReasonAfterEnd}, reason)
		if n := count[reason]; !ofLedger && n < 2 {
			t.Errorf("%s: %d records", reason, n)
		}
	}
	for reason := range count {
		if !known[reason] {
			t.Errorf("%s is in the corpus but not in the closed set", reason)
		}
	}
}
