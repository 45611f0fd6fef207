package window

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// A scenario is what happens to a store, step by step. It says everything that
// its values depend on, so that a failing one can be kept as a file.
type scenario struct {
	Seed  uint64         `json:"seed"`
	Steps []scenarioStep `json:"steps"`
}

// scenarioStep is one step; exactly one field is set.
type scenarioStep struct {
	Pay     *payStep     `json:"pay,omitempty"`
	Again   string       `json:"again,omitempty"` // a payment of this id comes again
	Outcome *outcomeStep `json:"outcome,omitempty"`
	Verdict *verdictStep `json:"verdict,omitempty"`
	Outage  *Outage      `json:"outage,omitempty"`
	Use     []string     `json:"use,omitempty"` // a reload to the features of these entities
}

type payStep struct {
	ID       string       `json:"id"`
	Time     payment.Time `json:"time"`
	Kafka    payment.Time `json:"kafka"`
	Payer    string       `json:"payer"`
	Payee    string       `json:"payee,omitempty"`
	Card     string       `json:"card,omitempty"`
	Channel  string       `json:"channel,omitempty"`
	Amount   int64        `json:"amount"`
	Unbased  bool         `json:"unbased,omitempty"`
	Location *[2]float64  `json:"location,omitempty"`
}

type outcomeStep struct {
	ID   string              `json:"id"`
	Of   string              `json:"of"`
	Kind payment.OutcomeKind `json:"kind"`
	Time payment.Time        `json:"time"`
}

type verdictStep struct {
	Of        string          `json:"of"`
	Verdict   payment.Verdict `json:"verdict"`
	Published bool            `json:"published"`
}

const (
	historyLateness = 48 * time.Hour
	historyKeep     = 44 * day // more than the longest window and the farthest lag
)

// randomScenario has equal times, late payments (some beyond the horizon),
// repeats, far jumps, one busy entity, outcomes before and after their payment,
// repeated and corrected, verdicts formed and published, outages marked and taken
// back, and reloads that take features away and bring them back.
func randomScenario(seed uint64, steps int) scenario {
	rng := rand.New(rand.NewPCG(seed, 99))
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	h := scenario{Seed: seed}
	clock, ids := payment.Time(1_800_000_000e9), 0
	anyID := func(ahead int) string { return fmt.Sprint("t", rng.IntN(ids+1+ahead)) }
	seconds := func(n int) payment.Time { return payment.Time(rng.IntN(n)) * payment.Time(time.Second) }
	for range steps {
		switch rng.IntN(40) {
		case 0:
			clock += seconds(30 * 3600)
		case 1:
			clock += seconds(60 * 24 * 3600)
		default:
			clock += seconds(90) * payment.Time(rng.IntN(2))
		}
		switch r := rng.IntN(40); {
		case r < 22:
			p := &payStep{ID: fmt.Sprint("t", ids), Time: clock, Kafka: clock, Payer: pick("p1", "p1", "p1", "p2", "p3"),
				Payee: pick("m1", "m2", "m3", ""), Card: pick("c1", "c2", ""), Channel: pick("web", "qr", ""), Amount: rng.Int64N(1000), Unbased: rng.IntN(10) == 0}
			switch rng.IntN(14) {
			case 4: // from a partition that is far behind, in time by its own Kafka time
				p.Time -= seconds(12 * 24 * 3600)
				p.Kafka = p.Time
			case 0, 1:
				p.Time -= seconds(2 * 3600)
			case 2:
				p.Time -= seconds(60 * 3600)
			case 3:
				p.Time += seconds(300) // its clock is ahead
			}
			if rng.IntN(3) > 0 {
				p.Location = &[2]float64{float64(rng.IntN(180) - 90), float64(rng.IntN(360) - 180)}
			}
			ids++
			h.Steps = append(h.Steps, scenarioStep{Pay: p})
		case r < 24: // that the ledger does not know comes soon after
			h.Steps = append(h.Steps, scenarioStep{Again: fmt.Sprint("t", max(0, ids-1-rng.IntN(8)))})
		case r < 31:
			kinds := []payment.OutcomeKind{payment.OutcomeSettled, payment.OutcomeTechnicalFailure, payment.OutcomeTechnicalFailure, payment.OutcomeFraudConfirmed, payment.OutcomeFraudCleared}
			h.Steps = append(h.Steps, scenarioStep{Outcome: &outcomeStep{ID: fmt.Sprint("o", rng.IntN(steps)), Of: anyID(3), Kind: kinds[rng.IntN(len(kinds))], Time: clock - seconds(7200) + seconds(600)}})
		case r < 36:
			h.Steps = append(h.Steps, scenarioStep{Verdict: &verdictStep{Of: anyID(1), Verdict: payment.Verdict(1 + rng.IntN(3)), Published: rng.IntN(2) == 0}})
		case r < 38:
			o := &Outage{ID: pick("x", "y"), From: clock - seconds(24*3600), Channel: pick("", "web"), Payee: pick("", "m1")}
			if o.Until = clock; rng.IntN(3) == 0 {
				o.Until = o.From - 1 // taken back
			}
			h.Steps = append(h.Steps, scenarioStep{Outage: o})
		default:
			use := []string{"payer", "card", "payer_payee"}
			rng.Shuffle(len(use), func(i, k int) { use[i], use[k] = use[k], use[i] })
			use = use[:1+rng.IntN(3)]
			if rng.IntN(3) == 0 {
				use = append(use, "plain") // of these only what looks at nothing that changes
			}
			h.Steps = append(h.Steps, scenarioStep{Use: use})
		}
	}
	return h
}

// play is one way to carry out a history: what must make no difference.
type play struct {
	name    string
	kept    bool // in a directory
	batches bool // payments that follow each other in one call
	reopen  bool // at each step
	evict   bool // every fold, before each call
	noted   bool // Note and View instead of Append
	peeked  bool // at each payment, before it is appended
	// open opens the store; nil: an embedded one.
	open func(Options) (Store, error)
}

func (how *play) opened(opts Options) (Store, error) {
	if how.open == nil {
		return Open(opts)
	}
	return how.open(opts)
}

var plays = [...]play{
	{name: "one by one"},
	{name: "in batches", batches: true},
	{name: "reopened at each step", kept: true, reopen: true},
	{name: "evicted at each step", kept: true, evict: true},
	{name: "in batches, evicted", batches: true, evict: true},
	{name: "noted, then viewed", noted: true},
	{name: "in batches, peeked at", batches: true, peeked: true},
	{name: "evicted, peeked at", kept: true, evict: true, peeked: true},
}

// historyFeatures are the features that a reload brings. A window without a
// length is left out: it looks back as far as logs are kept, which the oracle
// does not know.
func historyFeatures(all []named, use []string) (some []named) {
	plain := slices.Contains(use, "plain")
	for _, entity := range use {
		for _, f := range all {
			if f.Entity.String() == entity && (!plain || !f.ReadsStatus && !f.ReadsVerdict) {
				some = append(some, f)
			}
		}
	}
	return some
}

func plainFeatures(of []named) []Feature {
	features := make([]Feature, len(of))
	for i := range of {
		features[i] = of[i].Feature
	}
	return features
}

// carryOut plays a history and returns the values of each payment step, nil for
// one that was late; or an error that says where the store differs from the oracle.
func carryOut(t testing.TB, h scenario, how play, all []named, check bool) (values [][]payment.Value, err error) {
	opts := Options{Lateness: historyLateness, Keep: historyKeep, SegmentBytes: 4 << 10}
	if how.kept {
		opts.Dir = t.TempDir()
		opts.SyncEvery = time.Hour
	}
	features := historyFeatures(all, []string{"payer", "card", "payer_payee"})
	opts.Features = plainFeatures(features)
	store, err := how.opened(opts)
	if err != nil {
		return nil, err
	}
	defer func() {
		if store != nil {
			_ = store.Close()
		}
	}()
	o := newScenarioOracle()
	type sent struct {
		item            *Item
		own, asOf, step int // asOf is the position up to which its values look
	}
	var batch []sent
	waited := false // for one of batch, an outcome: it counts for those behind it, and memory alone does not know it
	settle := func() error {
		if len(batch) == 0 {
			return nil
		}
		items := make([]*Item, len(batch))
		for i := range batch {
			items[i] = batch[i].item
		}
		if how.evict {
			evictAll(store)
		}
		var peeked []*Item
		if how.peeked {
			for _, it := range items { // one by one: each counts those before it
				again := &Item{Tx: it.Tx, KafkaTime: it.KafkaTime, Base: it.Base, Based: it.Based}
				store.Peek([]*Item{again})
				peeked = append(peeked, again)
			}
		}
		if how.noted {
			if err := store.Note(t.Context(), items); err != nil {
				return err
			}
			if err := store.View(t.Context(), items); err != nil {
				return err
			}
		} else if err := store.Append(t.Context(), items); err != nil {
			return err
		}
		for i, p := range peeked {
			if waited {
				break
			}
			if err := samePeek(p, items[i]); err != nil {
				return fmt.Errorf("step %d: %w", batch[i].step, err)
			}
		}
		for _, b := range batch {
			if b.own < 0 {
				if !b.item.Late {
					return fmt.Errorf("step %d: %s is not late", b.step, b.item.Tx.ID)
				}
				values = append(values, nil)
				continue
			}
			values = append(values, slices.Clone(b.item.Values))
			if !check {
				continue
			}
			for k := range features {
				got, want := b.item.Values[k], o.valueAt(features[k], b.own, b.asOf)
				if !same(got, want) {
					return fmt.Errorf("step %d: %s of %s is %s, by definition %s", b.step, features[k].FullName(), b.item.Tx.ID, asJSON(got), asJSON(want))
				}
			}
		}
		batch, waited = batch[:0], false
		return nil
	}
	for n, step := range h.Steps {
		if how.reopen {
			if err := settle(); err != nil {
				return values, err
			}
			if err := store.Close(); err != nil {
				return values, err
			}
			if store, err = how.opened(opts); err != nil {
				return values, err
			}
		}
		if step.Pay == nil && step.Again == "" || !how.batches {
			if err := settle(); err != nil {
				return values, err
			}
		}
		switch {
		case step.Pay != nil:
			waited = waited || len(o.waits[step.Pay.ID]) > 0
			own := o.pay(step.Pay)
			asOf := 0
			if own >= 0 {
				asOf = o.events[own].ordinal
			}
			if how.noted { // outcomes that waited for it stand behind it, and are seen
				asOf = o.ordinal
			}
			batch = append(batch, sent{step.Pay.item(), own, asOf, n})
		case step.Again != "":
			if p := o.paid[step.Again]; p != nil {
				own, asOf := o.find(step.Again), 0
				if own >= 0 {
					asOf = o.events[own].ordinal
				}
				batch = append(batch, sent{p.item(), own, asOf, n})
			}
		case step.Outcome != nil:
			out := step.Outcome
			_, late := o.paid[out.Of]
			late = late && o.find(out.Of) < 0
			it := &OutcomeItem{Known: late, Since: out.Time, Outcome: &payment.Outcome{ID: out.ID, TransactionID: out.Of, Kind: out.Kind, EventTime: out.Time}}
			if err := store.Outcomes(t.Context(), []*OutcomeItem{it}); err != nil {
				return values, err
			}
			if want := o.outcome(out); it.Status != want && !o.forgotten(out.Of) {
				return values, fmt.Errorf("step %d: outcome %s of %s became %d, not %d", n, out.ID, out.Of, it.Status, want)
			}
		case step.Verdict != nil:
			v := step.Verdict
			m := Mark{Tx: store.Key().Tx(v.Of), Verdict: v.Verdict, Offset: int64(n)}
			if !v.Published {
				m.Offset = -1
			}
			if err := store.Decided(t.Context(), []Mark{m}); err != nil {
				return values, err
			}
			o.verdict(v)
		case step.Outage != nil:
			if err := store.Outage(t.Context(), *step.Outage); err != nil {
				return values, err
			}
			o.outage(*step.Outage)
		case len(step.Use) > 0:
			features = historyFeatures(all, step.Use)
			opts.Features = plainFeatures(features)
			if err := store.Use(t.Context(), opts.Features); err != nil {
				return values, err
			}
		}
	}
	if err := settle(); err != nil {
		return values, err
	}
	closing := store
	store = nil
	return values, closing.Close()
}

// samePeek compares what memory has said of a payment with what its logs say. Of
// one that had come before memory says what it knows now.
func samePeek(p, it *Item) error {
	if it.known {
		return nil
	}
	if p.Late != it.Late || p.Hash != it.Hash {
		return fmt.Errorf("%s was peeked at as another", it.Tx.ID)
	}
	for k := range it.Values {
		switch {
		case p.Without != nil && p.Without[k]:
			if p.Values[k].Kind() != payment.Absent {
				return fmt.Errorf("%s is without value %d, which is %s", it.Tx.ID, k, asJSON(p.Values[k]))
			}
		case !same(p.Values[k], it.Values[k]):
			return fmt.Errorf("value %d of %s is %s, and from memory it was %s", k, it.Tx.ID, asJSON(it.Values[k]), asJSON(p.Values[k]))
		}
	}
	return nil
}

func evictAll(s Store) {
	var m *memory
	switch s := s.(type) {
	case *Embedded:
		s.mu.Lock()
		defer s.mu.Unlock()
		m = &s.memory
	case *Redis:
		s.calls <- struct{}{} // folds stay while a call is under way
		defer func() { <-s.calls }()
		s.mu.Lock()
		defer s.mu.Unlock()
		m = &s.memory
	}
	for m.entities() > 0 {
		m.shrink(0)
	}
}

func (p *payStep) item() *Item {
	tx := &payment.Transaction{ID: p.ID, Type: payment.TypePayment, Channel: p.Channel, EventTime: p.Time, Amount: payment.Money{Value: p.Amount}}
	tx.Payer.AccountID, tx.Payee.AccountID = p.Payer, p.Payee
	if p.Card != "" {
		tx.Instrument.Token, tx.Instrument.Kind = p.Card, "card"
	}
	if p.Location != nil {
		tx.Device.Located, tx.Device.Lat, tx.Device.Lon = true, p.Location[0], p.Location[1]
	}
	return &Item{Tx: tx, KafkaTime: p.Kafka, Base: p.Amount, Based: !p.Unbased}
}

// scenarioOracle is the oracle, and what only whole histories have: payments that
// are too late, outcomes that wait, outages.
type scenarioOracle struct {
	oracle
	paid     map[string]*payStep
	waits    map[string][]oracleOutcome
	seen     map[outcomeStep]bool
	verdicts map[string][]oracleVerdict
	outages  []Outage
}

type oracleVerdict struct {
	verdictStep
	ordinal int
}

func newScenarioOracle() *scenarioOracle {
	return &scenarioOracle{paid: map[string]*payStep{}, waits: map[string][]oracleOutcome{}, seen: map[outcomeStep]bool{}, verdicts: map[string][]oracleVerdict{}}
}

// pay returns the index of the payment's event, -1 where it is too late.
func (o *scenarioOracle) pay(p *payStep) int {
	if o.paid[p.ID] != nil {
		return o.find(p.ID)
	}
	o.paid[p.ID] = p
	if p.Time < p.Kafka.Add(-historyLateness) {
		return -1
	}
	o.events = append(o.events, oracleEvent{tx: *p.item().Tx, base: p.Amount, based: !p.Unbased, ordinal: o.ordinal})
	o.ordinal++
	last := &o.events[len(o.events)-1]
	for _, w := range o.waits[p.ID] {
		w.ordinal = o.ordinal
		o.ordinal++
		last.outcomes = append(last.outcomes, w)
	}
	delete(o.waits, p.ID)
	return len(o.events) - 1
}

func (o *scenarioOracle) outcome(out *outcomeStep) OutcomeStatus {
	if o.seen[*out] {
		return OutcomeRepeated
	}
	w := oracleOutcome{time: out.Time, kind: out.Kind, ordinal: o.ordinal}
	at := o.find(out.Of)
	switch {
	case at >= 0:
		o.events[at].outcomes = append(o.events[at].outcomes, w)
	case o.paid[out.Of] != nil:
		return OutcomeIdle
	}
	o.ordinal++
	o.seen[*out] = true
	if at < 0 {
		o.waits[out.Of] = append(o.waits[out.Of], w)
		return OutcomeParked
	}
	return OutcomeCounted
}

// forgotten tells whether the log may have lost a payment.
func (o *scenarioOracle) forgotten(id string) bool {
	newest := payment.Time(0)
	for _, p := range o.paid {
		newest = max(newest, p.Kafka)
	}
	return o.paid[id] != nil && o.paid[id].Time < newest.Add(-historyKeep)
}

func (o *scenarioOracle) verdict(v *verdictStep) {
	o.verdicts[v.Of] = append(o.verdicts[v.Of], oracleVerdict{*v, o.ordinal})
	o.ordinal++
}

// decide sets the verdicts on all events as of a position: the first that was
// published stands; until there is one, the last that was formed.
func (o *scenarioOracle) decide(at int) {
	for i := range o.events {
		e := &o.events[i]
		e.verdict, e.verdictAt = 0, -1
		for _, v := range o.verdicts[e.tx.ID] {
			if v.ordinal > at || v.ordinal < e.ordinal {
				continue
			}
			if e.verdict = v.Verdict; v.Published {
				break
			}
		}
	}
}

func (o *scenarioOracle) outage(m Outage) {
	o.outages = slices.DeleteFunc(o.outages, func(k Outage) bool { return k.ID == m.ID })
	if m.Until > m.From {
		o.outages = append(o.outages, m)
	}
}

func (o *scenarioOracle) covered(tx *payment.Transaction) bool {
	return slices.ContainsFunc(o.outages, func(k Outage) bool {
		return tx.EventTime >= k.From && tx.EventTime < k.Until && (k.Channel == "" || k.Channel == tx.Channel) && (k.Payee == "" || k.Payee == tx.Payee.AccountID)
	})
}

// valueAt is the oracle's value as of a position, where technical failures of an outage take no
// part in what looks at the status.
func (o *scenarioOracle) valueAt(f named, own, asOf int) payment.Value {
	first := o.events[own].ordinal
	o.events[own].ordinal = asOf
	defer func() { o.events[own].ordinal = first }()
	if f.ReadsVerdict {
		o.decide(asOf)
	}
	if !f.ReadsStatus || len(o.outages) == 0 {
		return o.value(f, &o.events[own])
	}
	var rest oracle
	at := 0
	for i := range o.events {
		e := &o.events[i]
		kind, _ := e.status(o.events[own].tx.EventTime, o.events[own].ordinal)
		if i != own && kind == payment.OutcomeTechnicalFailure && o.covered(&e.tx) {
			continue
		}
		if i == own {
			at = len(rest.events)
		}
		rest.events = append(rest.events, *e)
	}
	return rest.value(f, &rest.events[at])
}

func asJSON(v payment.Value) string {
	b, err := v.MarshalJSON()
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// verify plays a history in every way and says what differs, "" if nothing does.
func verify(t testing.TB, h scenario, all []named) string { return verifyPlays(t, h, all, plays[:]) }

// verifyPlays holds the first play, and those that note, to the oracle, and the
// others to the first.
func verifyPlays(t testing.TB, h scenario, all []named, plays []play) string {
	var first [][]payment.Value
	for _, how := range plays {
		values, err := carryOut(t, h, how, all, first == nil || how.noted)
		if err != nil {
			return fmt.Sprintf("%s: %v", how.name, err)
		}
		if first == nil {
			first = values
		}
		for k := range values {
			if !how.noted && !slices.Equal(values[k], first[k]) {
				return fmt.Sprintf("%s: the values of payment step %d are not those of %s", how.name, k, plays[0].name)
			}
		}
	}
	return ""
}

// shorten takes steps away while the history still fails.
func shorten(h scenario, fails func(scenario) bool) scenario {
	for size := max(1, len(h.Steps)/2); ; size = max(1, size/2) {
		again := false
		for from := 0; from < len(h.Steps); {
			less := scenario{Seed: h.Seed, Steps: slices.Delete(slices.Clone(h.Steps), from, min(from+size, len(h.Steps)))}
			if fails(less) {
				h, again = less, true
			} else {
				from += size
			}
		}
		if size == 1 && !again {
			return h
		}
	}
}

// However payments are handed over, whatever is evicted, and wherever the store
// is closed and opened again, every value is the oracle's.
func TestAHistoryHasOneMeaningHoweverItIsPlayed(t *testing.T) {
	all := testFeatures(t)
	seeds := uint64(6)
	if os.Getenv("SLUICE_HISTORIES") != "" {
		if _, err := fmt.Sscan(os.Getenv("SLUICE_HISTORIES"), &seeds); err != nil {
			t.Fatal(err)
		}
	}
	for seed := range seeds {
		h := randomScenario(seed, 90)
		why := verify(t, h, all)
		if why == "" {
			continue
		}
		t.Errorf("seed %d: %s", seed, why)
		// What differs shows in the first play, or between it and one other.
		which := plays[:1]
		for _, how := range plays[1:] {
			if strings.HasPrefix(why, how.name) {
				which = []play{plays[0], how}
			}
		}
		h = shorten(h, func(h scenario) bool { return verifyPlays(t, h, all, which) != "" })
		name := filepath.Join("testdata", "histories", fmt.Sprintf("seed-%d.json", seed))
		text, err := json.MarshalIndent(h, "", " ")
		if err == nil {
			err = os.WriteFile(name, append(text, '\n'), 0o600)
		}
		if err != nil {
			t.Error(err)
		}
		t.Fatalf("the history is kept, shrunk to %d steps, as %s: %s", len(h.Steps), name, verify(t, h, all))
	}
}

// Histories that failed once hold now.
func TestHistoriesThatFailedOnceHold(t *testing.T) {
	names, err := filepath.Glob("testdata/histories/*.json")
	if err != nil {
		t.Fatal(err)
	}
	all := testFeatures(t)
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".json"), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var h scenario
			if err := json.Unmarshal(text, &h); err != nil {
				t.Fatal(err)
			}
			if why := verify(t, h, all); why != "" {
				t.Error(why)
			}
		})
	}
}
