package oracle

import (
	"context"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strings"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// transaction is one as it was sent, and what was said of it.
type transaction struct {
	id       string
	hash     TxID
	time     payment.Time
	invalid  bool      // refused, though it can be answered
	contents []content // that were sent under its id; the one that was decided first is at 0
	outcomes []told    // each once
	arrived  int64     // when the first record was in its topic, ms since 1970
	decideBy payment.Time

	revisions []revision // that were published, by number
	stands    []stand
	answered  int64 // when revision 1 was first in its topic, ms since 1970
}

// content is what may not differ under one id: where it does, one content is
// decided, and the records of all others are dead letters.
type content struct {
	kind, currency, payer, payee, instrument string
	amount                                   int64

	base    int64
	based   bool
	ids     [kinds]string // "" where it names no entity of the kind
	keys    [kinds]uint64
	records []place
}

func (c *content) same(o *content) bool {
	return c.kind == o.kind && c.currency == o.currency && c.payer == o.payer && c.payee == o.payee && c.instrument == o.instrument && c.amount == o.amount
}

// place is a record of a topic, with a sum of its key and value.
type place struct {
	partition int
	offset    int64
	sum       uint64
}

func (p place) String() string { return fmt.Sprintf("%d/%d", p.partition, p.offset) }

// told is an outcome as it was sent.
type told struct {
	time payment.Time
	kind payment.OutcomeKind
}

// decided is the content that was decided.
func (x *transaction) decided() *content { return &x.contents[0] }

// sent is what the input topics hold.
type sent struct {
	byID    map[string]*transaction
	records int
	refused map[[2]int64]place // records of transactions that cannot be used, by partition and offset
	parked  int                // outcomes of transactions that were never sent, or cannot be used
	seed    maphash.Seed
}

func (s *sent) sum(key, value []byte) uint64 {
	return maphash.Bytes(s.seed, key)*31 + maphash.Bytes(s.seed, value)
}

// readSent reads the input topics.
func (g *Gate) readSent(ctx context.Context) (*sent, error) {
	s := &sent{byID: map[string]*transaction{}, refused: map[[2]int64]place{}, seed: maphash.MakeSeed()}
	decoder := payment.Decoder{Limits: payment.DefaultLimits()}
	var entities [kinds]window.Entity
	for i, name := range Kinds() {
		entities[i], _ = window.ParseEntity(name)
	}
	err := g.Each(ctx, g.Transactions, func(r broker.Record) error {
		var tx payment.Transaction
		s.records++
		refusal := decoder.Transaction(r.Value, payment.Time(r.Time)*1e6, &tx)
		at := place{r.Partition, r.Offset, s.sum(r.Key, r.Value)}
		if refusal != nil {
			s.refused[[2]int64{int64(r.Partition), r.Offset}] = at
		}
		if !tx.Identified() {
			return nil
		}
		x := s.byID[tx.ID]
		if x == nil {
			h := g.Key.Tx(tx.ID)
			x = &transaction{id: strings.Clone(tx.ID), hash: TxID{h.Hi, h.Lo}, time: tx.EventTime, invalid: refusal != nil, arrived: math.MaxInt64}
			s.byID[x.id] = x
		}
		if r.Time < x.arrived {
			x.arrived = r.Time
			if x.decideBy = tx.DecideBy; tx.DecideBy == 0 {
				x.decideBy = max(tx.EventTime, payment.Time(r.Time)*1e6).Add(decideWithin()[tx.Type])
			}
		}
		c := content{kind: tx.Type.String(), amount: tx.Amount.Value, currency: strings.Clone(tx.Amount.Currency.String()), payer: strings.Clone(tx.Payer.AccountID),
			payee: strings.Clone(tx.Payee.AccountID), instrument: strings.Clone(tx.Instrument.Token)}
		if i := slices.IndexFunc(x.contents, func(o content) bool { return c.same(&o) }); i >= 0 {
			x.contents[i].records = append(x.contents[i].records, at)
			return nil
		}
		c.records = []place{at}
		if refusal == nil {
			c.base, c.based = InYuan(c.amount, c.currency)
			for k, e := range entities {
				c.ids[k], c.keys[k] = strings.Clone(e.ID(&tx)), g.Key.EntityKey(e, &tx)
			}
		}
		x.contents = append(x.contents, c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = g.Each(ctx, g.Outcomes, func(r broker.Record) error {
		var o payment.Outcome
		if refusal := decoder.Outcome(r.Value, payment.Time(r.Time)*1e6, &o); refusal != nil {
			return fmt.Errorf("outcome %d/%d: %w", r.Partition, r.Offset, refusal)
		}
		x := s.byID[o.TransactionID]
		if x == nil || x.invalid {
			s.parked++
			return nil
		}
		if one := (told{o.EventTime, o.Kind}); !slices.Contains(x.outcomes, one) {
			x.outcomes = append(x.outcomes, one)
		}
		return nil
	})
	return s, err
}
