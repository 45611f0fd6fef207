package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// What went into the topics of a crew and what came out.

// sentTx is a transaction as it was sent.
type sentTx struct {
	hash     txID
	time     payment.Time
	base     int64
	based    bool
	invalid  bool
	ids      [kindsLogged]string // "" where it names no entity of the kind
	keys     [kindsLogged]uint64
	outcomes map[logOutcome]bool // by time and kind
	said     *saidDecision
}

// saidDecision is the decision on a transaction.
type saidDecision struct {
	digest [sha256.Size]byte
	values []float64       // by feature, as in sharedFeatures; absent where there is none
	upTo   [kindsLogged]at // the positions

	verdict   string
	duplicate string // the transaction that it repeats, "" for none
}

const (
	kindsShared = 5
	kindsLogged = kindsShared + 1 // and charges
)

// said is everything that was said in the end.
type said struct {
	byID      map[string]*sentTx
	oracle    *oracle
	repeats   int // decisions that were there before
	refused   int // records
	parked    int // outcomes of transactions that were never sent, or invalid
	decisions int
	bytes     int64 // of decisions
}

// readSent reads the input topics, and holds dead letters against them.
func (c *crew) readSent(t *testing.T, s *said) {
	t.Helper()
	key := c.storeKey()
	decoder := payment.Decoder{Limits: payment.DefaultLimits()}
	letters := map[place]bool{}
	c.each(c.deadLetters(), func(r broker.Record) {
		partition, err1 := strconv.Atoi(header(r, "partition"))
		offset, err2 := strconv.ParseInt(header(r, "offset"), 10, 64)
		if err1 != nil || err2 != nil || header(r, "topic") != c.transactions() {
			t.Fatalf("a dead letter that is none of a payment: %v", r.Headers)
		}
		letters[place{partition, offset}] = true
	})
	var entities [kindsLogged]window.Entity
	for i, name := range loggedKinds() {
		entities[i], _ = window.ParseEntity(name)
	}
	c.each(c.transactions(), func(r broker.Record) {
		var tx payment.Transaction
		refusal := decoder.Transaction(r.Value, min(payment.Time(r.Time)*1e6, payment.TimeOf(time.Now())), &tx)
		if refusal != nil {
			s.refused++
			if !letters[place{r.Partition, r.Offset}] {
				t.Errorf("record %d/%d was refused (%v) and is in no dead letter", r.Partition, r.Offset, refusal)
			}
			delete(letters, place{r.Partition, r.Offset})
		}
		if !tx.Identified() || s.byID[tx.ID] != nil {
			return
		}
		h := key.Tx(tx.ID)
		x := &sentTx{hash: txID{h.Hi, h.Lo}, time: tx.EventTime, invalid: refusal != nil, outcomes: map[logOutcome]bool{}}
		s.byID[strings.Clone(tx.ID)] = x
		if x.invalid {
			return
		}
		x.base, x.based = inYuan(tx.Amount.Value, tx.Amount.Currency.String())
		for k, e := range entities {
			x.ids[k], x.keys[k] = strings.Clone(e.ID(&tx)), key.EntityKey(e, &tx)
		}
	})
	for at := range letters {
		t.Errorf("record %v was not refused and is in dead letters", at)
	}
	c.each(c.outcomes(), func(r broker.Record) {
		var o payment.Outcome
		if refusal := decoder.Outcome(r.Value, payment.Time(r.Time)*1e6, &o); refusal != nil {
			t.Fatal(refusal)
		}
		if x := s.byID[o.TransactionID]; x != nil && !x.invalid {
			x.outcomes[logOutcome{time: o.EventTime, kind: o.Kind}] = true
		} else {
			s.parked++
		}
	})
}

// readDecisions reads what was decided: each transaction once, or again in the
// same bytes, and in the partition of each of its records.
func (c *crew) readDecisions(t *testing.T, s *said) {
	t.Helper()
	features := map[string]int{}
	for i, f := range sharedFeatures() {
		features[f.fullName()] = i
	}
	type in struct {
		x         *sentTx
		partition int
	}
	answered := map[in]bool{}
	c.each(c.decisions(), func(r broker.Record) {
		x := s.byID[header(r, "transaction_id")]
		if x == nil {
			t.Fatalf("decision %d/%d is of a transaction that was never sent: %s", r.Partition, r.Offset, r.Value)
		}
		s.decisions, s.bytes = s.decisions+1, s.bytes+int64(len(r.Value))
		answered[in{x, r.Partition}] = true
		digest := sha256.Sum256(r.Value)
		if x.said != nil {
			if s.repeats++; x.said.digest != digest {
				t.Fatalf("a transaction has two different verdicts; the second one, %d/%d, is %s", r.Partition, r.Offset, r.Value)
			}
			return
		}
		x.said = &saidDecision{digest: digest}
		sources := []string{"rules", "duplicate"}
		if x.invalid {
			sources = []string{"invalid"}
		}
		if !slices.ContainsFunc(sources, func(s string) bool { return bytes.Contains(r.Value, []byte(`,"source":"`+s+`",`)) }) {
			t.Fatalf("decision %d/%d should have the source %s: %s", r.Partition, r.Offset, strings.Join(sources, " or "), r.Value)
		}
		if x.invalid {
			return
		}
		x.said.verdict, x.said.duplicate = header(r, "verdict"), duplicateOf(r.Value)
		if err := s.readEvidence(x, r.Value, features); err != nil {
			t.Fatalf("decision %d/%d: %v: %s", r.Partition, r.Offset, err, r.Value)
		}
	})
	decoder := payment.Decoder{Limits: payment.DefaultLimits()}
	c.each(c.transactions(), func(r broker.Record) {
		var tx payment.Transaction
		_ = decoder.Transaction(r.Value, payment.Time(r.Time)*1e6, &tx) // readSent looked at refusals
		if tx.Identified() && !answered[in{s.byID[tx.ID], r.Partition}] {
			t.Errorf("transaction %s (record %d/%d) has no decision in its partition", tx.ID, r.Partition, r.Offset)
		}
	})
}

// readEvidence reads the values and positions of a decision. They are all exact,
// and no identifier of the test needs a backslash.
func (s *said) readEvidence(x *sentTx, decision []byte, features map[string]int) error {
	_, rest, found := strings.Cut(string(decision), `"evidence":{"features":{`)
	values, rest, found2 := strings.Cut(rest, `},"positions":{`)
	positions, rest, found3 := strings.Cut(rest, `}`)
	if !found || !found2 || !found3 || strings.Contains(values+positions, `\`) || strings.HasPrefix(rest, `,"approximate"`) {
		return fmt.Errorf("evidence cannot be read")
	}
	x.said.values = make([]float64, len(features))
	for i := range x.said.values {
		x.said.values[i] = absent
	}
	for _, pair := range strings.Split(values, ",") {
		name, value, _ := strings.Cut(pair, `":`)
		i, ok := features[strings.TrimPrefix(name, `"`)]
		if !ok || !math.IsNaN(x.said.values[i]) {
			return fmt.Errorf("feature %s is unknown or there twice", name)
		}
		if text, ok := strings.CutPrefix(value, `"`); ok {
			x.said.values[i] = s.oracle.number(strings.Clone(strings.TrimSuffix(text, `"`)))
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return err
		}
		x.said.values[i] = v
	}
	for _, pair := range strings.Split(positions, ",") {
		entity, position, _ := strings.Cut(strings.Trim(pair, `"`), `":"`)
		segment, offset, _ := strings.Cut(position, "/")
		a, err1 := strconv.ParseUint(segment, 10, 32)
		b, err2 := strconv.ParseUint(offset, 10, 32)
		if err1 != nil || err2 != nil {
			return fmt.Errorf("position %s cannot be read", pair)
		}
		for k, kind := range loggedKinds() {
			if entity == kind+":"+x.ids[k] {
				x.said.upTo[k] = at(a)<<32 | at(b)
			}
		}
	}
	for k, kind := range loggedKinds() {
		if (x.ids[k] != "") != (x.said.upTo[k] != 0) {
			return fmt.Errorf("%s: the position is missing, or there is one too many", kind)
		}
	}
	return nil
}
