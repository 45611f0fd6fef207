package window

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Three members write to the logs of the same entities at the same time, with
// segments so small that they race for each seal; some payments are delivered to
// two of them. Every value is what the definitions make of the logs, as they are
// read back, at the position that the member was given.
func TestMembersThatRaceAreExactAtTheirPositions(t *testing.T) {
	for name, url := range map[string]func(*testing.T) string{"redis": redisURL, "redis cluster": redisClusterURL} {
		t.Run(name, func(t *testing.T) { raceMembers(t, newOwnStore(t, url(t))) })
	}
}

const (
	racingMembers = 3
	racingCalls   = 40
)

// seenItem is an item that was answered, in a copy.
type seenItem struct {
	hash      TxHash
	values    []payment.Value
	positions []payment.Position
}

func raceMembers(t *testing.T, at *ownStore) {
	all := testFeatures(t)
	opts := Options{Features: plainFeatures(all), Lateness: 40 * 24 * time.Hour}
	start := payment.Time(1_800_000_000e9)
	var mu sync.Mutex // guards what follows
	txs := map[TxHash]*Item{}
	var answers []seenItem
	var shared []*payment.Transaction
	var wait sync.WaitGroup
	stores := make([]*Redis, racingMembers)
	for m := range stores {
		var err error
		if stores[m], err = at.open(t.Context(), opts); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		for _, s := range stores {
			_ = s.Close()
		}
	}()
	for m, s := range stores {
		for lane := range 2 {
			wait.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(m), uint64(lane)))
				clock := start
				for call := range racingCalls {
					clock += payment.Time(rng.IntN(600)) * payment.Time(time.Second)
					var items []*Item
					for k := range 1 + rng.IntN(6) {
						tx := &payment.Transaction{ID: fmt.Sprintf("t-%d-%d-%d-%d", m, lane, call, k), Type: payment.TypePayment, Channel: []string{"web", "qr"}[rng.IntN(2)]}
						tx.EventTime = clock - payment.Time(rng.IntN(3))*payment.Time(time.Hour)
						tx.Payer.AccountID, tx.Payee.AccountID = fmt.Sprint("p", rng.IntN(3)), fmt.Sprint("m", rng.IntN(2))
						tx.Instrument.Token, tx.Instrument.Kind = fmt.Sprint("c", rng.IntN(3)), "card"
						tx.Amount.Value = rng.Int64N(1000)
						mu.Lock()
						switch rng.IntN(8) {
						case 0:
							shared = append(shared, tx)
						case 1:
							if len(shared) > 0 {
								tx = shared[rng.IntN(len(shared))]
							}
						}
						mu.Unlock()
						items = append(items, &Item{Tx: tx, KafkaTime: clock, Base: tx.Amount.Value, Based: true})
					}
					if rng.IntN(12) == 0 {
						evictAll(s)
					}
					if err := s.Append(t.Context(), items); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					for _, it := range items {
						txs[it.Hash] = it
						answers = append(answers, seenItem{it.Hash, slices.Clone(it.Values), slices.Clone(it.Positions)})
					}
					mu.Unlock()
					of := items[rng.IntN(len(items))]
					if rng.IntN(2) == 0 {
						o := &payment.Outcome{ID: fmt.Sprint(of.Tx.ID, call), TransactionID: of.Tx.ID, Kind: payment.OutcomeTechnicalFailure, EventTime: clock}
						if err := s.Outcomes(t.Context(), []*OutcomeItem{{Outcome: o}}); err != nil {
							t.Error(err)
						}
					} else if err := s.Decided(t.Context(), []Mark{{Tx: of.Hash, Verdict: payment.Verdict(1 + rng.IntN(3))}}); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wait.Wait()
	if t.Failed() {
		return
	}
	last, err := at.open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = last.Close() }()
	logs := map[string]*oracleLog{}
	checked, segments := 0, uint32(0)
	for _, a := range answers {
		for place, of := range last.Entities() {
			tx := txs[a.hash].Tx
			key := last.key.EntityKey(of, tx)
			if key == 0 {
				continue
			}
			name := fmt.Sprint(of, key)
			if logs[name] == nil {
				logs[name] = readBack(t, last, of, key, txs)
			}
			log := logs[name]
			segments = max(segments, log.segments)
			own, ok := log.at[a.positions[place]]
			if !ok || log.hashes[own] != a.hash {
				t.Fatalf("%s %s stands not at %v", of, tx.ID, a.positions[place])
			}
			for k, f := range all {
				if f.Entity != of {
					continue
				}
				checked++
				if got, want := a.values[k], log.value(f, &log.events[own]); !same(got, want) {
					t.Fatalf("%s of %s at %v is %s, its log says %s", f.FullName(), tx.ID, a.positions[place], asJSON(got), asJSON(want))
				}
			}
		}
	}
	if segments < 10 || checked < 100_000 {
		t.Errorf("only %d segments, %d values", segments, checked)
	}
	if voidBytes(t, last, segments) == 0 {
		t.Error("nobody has ever raced a seal")
	}
}

// voidBytes counts what stands behind the first seals of all logs of payers.
func voidBytes(t *testing.T, s *Redis, segments uint32) (n int) {
	for _, id := range []string{"p0", "p1", "p2"} {
		key := s.key.Ref(Payer, id)
		for segment := range segments {
			data, err := s.client.Get(t.Context(), s.names.log("payer", key, segment+1)).Bytes()
			if err != nil && !errors.Is(err, redis.Nil) {
				t.Fatal(err)
			}
			for len(data) > 0 {
				e, rest, ok := nextEntry(data)
				if !ok {
					t.Fatal("a log has what is no entry")
				}
				if data = rest; e.kind() == entrySeal {
					n += len(rest)
					break
				}
			}
		}
	}
	return n
}

// oracleLog is an entity's log, read back.
type oracleLog struct {
	oracle
	hashes   []TxHash // of events
	at       map[payment.Position]int
	segments uint32
}

// readBack reads a log. What stands in it twice counts once, its first entry.
func readBack(t *testing.T, s *Redis, of Entity, key uint64, txs map[TxHash]*Item) *oracleLog {
	l := &oracleLog{at: map[payment.Position]int{}}
	find := func(tx TxHash) *oracleEvent {
		if i := slices.Index(l.hashes, tx); i >= 0 {
			return &l.events[i]
		}
		return nil
	}
	err := s.each(t.Context(), of.String(), key, func(at payment.Position, e entry) bool {
		l.ordinal++
		l.segments = at.Segment
		switch own := find(e.tx0()); e.kind() {
		case entryTransaction:
			if own == nil {
				l.at[at] = len(l.events)
				l.hashes = append(l.hashes, e.tx())
				l.events = append(l.events, oracleEvent{tx: *txs[e.tx()].Tx, base: e.base(), based: e.based(), ordinal: l.ordinal})
			}
		case entryOutcome:
			if own == nil {
				t.Errorf("an outcome stands before its transaction in the log of %s", of)
			} else {
				own.outcomes = append(own.outcomes, oracleOutcome{e.time(), e.outcome(), l.ordinal})
			}
		case entryVerdict:
			if own == nil {
				t.Errorf("a verdict stands before its transaction in the log of %s", of)
			} else if own.verdict == 0 {
				own.verdict, own.verdictAt = e.verdict(), l.ordinal
			}
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// tx0 is the transaction of an entry, none of a seal.
func (e entry) tx0() TxHash {
	if e.kind() == entrySeal {
		return TxHash{}
	}
	return e.tx()
}
