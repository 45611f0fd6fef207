package bench

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/benchmarks/ruleset"
	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/ledger"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
	"github.com/sluice-risk/sluice/rules"
)

// Engine is what one transaction costs without a broker, on one core.
type Engine struct {
	Memory  EngineCost `json:"memory"`  // with a store that keeps nothing
	Journal EngineCost `json:"journal"` // with the embedded store and its journal
	Stages  Stages     `json:"stages"`  // where the time of Memory.Decide goes, measured one by one
	Bytes   float64    `json:"bytes"`   // a transaction's record, on average
}

// EngineCost is per transaction, in micro-batches of batchSize.
type EngineCost struct {
	Decide       float64 `json:"decide_us"` // decode, ledger, windows, rules, encode: microseconds
	Settle       float64 `json:"settle_us"` // noting it in journal and ledger: microseconds
	DecideAllocs float64 `json:"decide_allocs"`
	SettleAllocs float64 `json:"settle_allocs"`
	DecideBytes  float64 `json:"decide_bytes"` // of memory allocated
	Held         float64 `json:"held"`         // share of transactions that were not approved
}

// Stages are microseconds a transaction.
type Stages struct {
	Decode  float64 `json:"decode_us"`
	Windows float64 `json:"windows_us"` // append and fold
	Rules   float64 `json:"rules_us"`
	Encode  float64 `json:"encode_us"`
}

// batchSize is the micro-batch of the service's default configuration.
const batchSize = 500

// engineLoad is what the engine is measured with.
type engineLoad struct {
	warm    []broker.Record
	measure []broker.Record
}

func newEngineLoad(seed uint64, people, warm, measure int) *engineLoad {
	s := newStream(seed, people, 0, 50)
	record := func() broker.Record {
		e := s.next()
		return broker.Record{Key: []byte(e.Key), Value: e.Value, Time: int64(e.Time / 1e6)}
	}
	l := &engineLoad{}
	for range warm {
		l.warm = append(l.warm, record())
	}
	for range measure {
		l.measure = append(l.measure, record())
	}
	return l
}

// bench is an engine with its store.
type bench struct {
	gate   *pipeline.Gate
	engine *pipeline.Engine
	batch  pipeline.Batch
}

// newBench opens an engine with a journal in dir, or with a store in memory
// where dir is "".
func newBench(dir string) (*bench, error) {
	rs, err := rules.LoadFS(ruleset.Files)
	if err != nil {
		return nil, fmt.Errorf("ruleset of the benchmark: %w", err)
	}
	store, err := window.Open(window.Options{Dir: dir, Owner: "bench", Features: rs.Features()})
	if err != nil {
		return nil, err
	}
	gate := &pipeline.Gate{
		Rules: rs, Store: store, Ledger: ledger.New(64<<20, store.Earlier), Limits: payment.DefaultLimits(),
		Metrics: pipeline.NewMetrics(prometheus.NewRegistry()),
		Now:     func() payment.Time { return payment.TimeOf(time.Now()) },
	}
	return &bench{gate: gate, engine: gate.NewEngine()}, nil
}

// usage is what a piece of work took. Time is the process's own, garbage
// collection included, so that others on the machine disturb it little.
type usage struct {
	time          time.Duration
	allocs, bytes uint64
}

func (u *usage) add(work func() error) error {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := cpuTime()
	err := work()
	u.time += cpuTime() - began
	runtime.ReadMemStats(&after)
	u.allocs += after.Mallocs - before.Mallocs
	u.bytes += after.TotalAlloc - before.TotalAlloc
	return err
}

// run takes records through the engine. deciding and settling may be nil.
func (b *bench) run(records []broker.Record, deciding, settling *usage) (held int, err error) {
	for len(records) > 0 {
		n := min(batchSize, len(records))
		if err := deciding.add(func() error {
			done, wait, err := b.engine.Decide(context.Background(), records[:n], &b.batch)
			if err == nil && (done != n || wait != nil) {
				err = fmt.Errorf("%d of %d transactions were decided", done, n)
			}
			return err
		}); err != nil {
			return held, err
		}
		if err := settling.add(func() error { return b.gate.Settle(context.Background(), &b.batch) }); err != nil {
			return held, err
		}
		for i := range n {
			if b.batch.Verdict(i) != payment.Approve {
				held++
			}
		}
		records = records[n:]
	}
	return held, nil
}

// measureEngine measures the engine alone, on one core.
func measureEngine(l *engineLoad, progress func(string)) (Engine, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var e Engine
	dir, err := os.MkdirTemp("", "sluice-bench-*")
	if err != nil {
		return e, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	progress("engine alone, store in memory")
	if e.Memory, err = engineCost(l, ""); err != nil {
		return e, err
	}
	progress("engine alone, store with a journal")
	if e.Journal, err = engineCost(l, dir); err != nil {
		return e, err
	}
	progress("engine alone, stage by stage")
	e.Stages, err = measureStages(l)
	for i := range l.measure {
		e.Bytes += float64(len(l.measure[i].Value)) / float64(len(l.measure))
	}
	return e, err
}

func engineCost(l *engineLoad, dir string) (c EngineCost, err error) {
	b, err := newBench(dir)
	if err != nil {
		return c, err
	}
	defer func() {
		if closed := b.gate.Store.Close(); err == nil {
			err = closed
		}
	}()
	var deciding, settling usage
	if _, err := b.run(l.warm, new(usage), new(usage)); err != nil {
		return c, err
	}
	runtime.GC()
	held, err := b.run(l.measure, &deciding, &settling)
	if err != nil {
		return c, err
	}
	n := float64(len(l.measure))
	return EngineCost{
		Decide: deciding.time.Seconds() * 1e6 / n, Settle: settling.time.Seconds() * 1e6 / n,
		DecideAllocs: float64(deciding.allocs) / n, SettleAllocs: float64(settling.allocs) / n,
		DecideBytes: float64(deciding.bytes) / n, Held: float64(held) / n,
	}, nil
}

// measureStages calls the stages one after the other, as the engine does, but
// each for a whole micro-batch, so that a clock can stand between them.
func measureStages(l *engineLoad) (s Stages, err error) {
	b, err := newBench("")
	if err != nil {
		return s, err
	}
	if _, err := b.run(l.warm, new(usage), new(usage)); err != nil {
		return s, err
	}
	runtime.GC()
	rs, key := b.gate.Rules, b.gate.Store.Key()
	decoder := payment.Decoder{Limits: b.gate.Limits, Batch: true}
	evaluator := rs.NewEvaluator()
	var decision payment.Decision
	var out []byte
	txs := make([]payment.Transaction, batchSize)
	items := make([]window.Item, batchSize)
	pointers := make([]*window.Item, batchSize)
	for i := range items {
		pointers[i] = &items[i]
	}
	var decode, windows, judge, write time.Duration
	for records := l.measure; len(records) > 0; {
		n := min(batchSize, len(records))
		began := cpuTime()
		decoder.Release()
		for i := range n {
			if r := decoder.Transaction(records[i].Value, payment.Time(records[i].Time)*1e6, &txs[i]); r != nil {
				return s, fmt.Errorf("the benchmark's own transaction is refused: %w", r)
			}
		}
		decode += lap(&began)
		for i := range n {
			base, based := rs.ToBase(txs[i].Amount)
			items[i] = window.Item{Tx: &txs[i], KafkaTime: payment.Time(records[i].Time) * 1e6, Base: base, Based: based, Values: items[i].Values}
		}
		if err := b.gate.Store.Append(context.Background(), pointers[:n]); err != nil {
			return s, err
		}
		windows += lap(&began)
		evaluate := func(i int) {
			it := &items[i]
			decision.Reset()
			evaluator.Decide(&rules.Input{
				Tx: it.Tx, Amount: it.Base, HasAmount: it.Based, Features: it.Values,
				Hash: func(k window.Kind) uint64 { return key.RefOf(k, it.Tx) },
			}, &decision)
		}
		for i := range n {
			evaluate(i)
		}
		once := lap(&began)
		out = out[:0]
		for i := range n { // what a decision shows is valid until the next one: evaluate again
			evaluate(i)
			decision.TransactionID, decision.Transaction = txs[i].ID, payment.SummaryOf(&txs[i])
			decision.EventTime, decision.DecideBy = txs[i].EventTime, txs[i].DecideBy
			decision.ReceivedAt, decision.DecidedAt = items[i].KafkaTime, items[i].KafkaTime
			out = decision.Append(out)
		}
		judge, write = judge+once, write+lap(&began)-once
		records = records[n:]
	}
	each := func(d time.Duration) float64 { return d.Seconds() * 1e6 / float64(len(l.measure)) }
	return Stages{Decode: each(decode), Windows: each(windows), Rules: each(judge), Encode: each(write)}, nil
}

// lap returns the processor time since *began and begins again.
func lap(began *time.Duration) time.Duration {
	now := cpuTime()
	d := now - *began
	*began = now
	return d
}
