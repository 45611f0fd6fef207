package window

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// An outcome that comes first waits, is told of once it has waited too long, and
// is given up when that is said; one of those that came later stays.
func TestEveryStoreKeepsOutcomesUntilTheirTransaction(t *testing.T) {
	eachStore(t, func(t *testing.T, begin func() func(Options) (Store, error)) {
		s, err := begin()(Options{Features: []Feature{countOf(payer, time.Hour)}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		at := payment.Time(1_800_000_000e9)
		park := func(id, of string, since payment.Time) OutcomeStatus {
			it := &OutcomeItem{Since: since, Source: Source{Topic: "o", Partition: 3, Offset: int64(since - at), Key: []byte("k"), Value: []byte(id)},
				Outcome: &payment.Outcome{ID: id, TransactionID: of, Kind: payment.OutcomeSettled, EventTime: at}}
			if err := s.Outcomes(t.Context(), []*OutcomeItem{it}); err != nil {
				t.Fatal(err)
			}
			return it.Status
		}
		ids := func(before payment.Time) (list string) {
			old, err := s.Parked(t.Context(), before)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range old {
				if p.Source.Topic != "o" || p.Source.Partition != 3 || string(p.Source.Key) != "k" || p.Tx != s.Key().Tx("never") && p.Tx != s.Key().Tx("a") {
					t.Errorf("it comes back as %+v", p)
				}
				list += string(p.Source.Value) + " "
			}
			return list
		}
		for i, id := range []string{"1", "2", "3"} {
			if got := park(id, "never", at+payment.Time(i)); got != OutcomeParked {
				t.Errorf("%s became %d", id, got)
			}
		}
		if got := park("4", "a", at); got != OutcomeParked {
			t.Errorf("4 became %d", got)
		}
		if got := ids(at + 2); got != "1 4 2 " && got != "4 1 2 " {
			t.Errorf("these wait: %s", got)
		}
		appended(t, s, paying("a", "p", at, 1))
		if got := ids(at + 2); got != "1 2 " {
			t.Errorf("after its transaction these wait: %s", got)
		}
		if got := park("4", "a", at); got != OutcomeRepeated {
			t.Errorf("the same once more became %d", got)
		}
		if err := s.ForgetParked(t.Context(), at+2); err != nil {
			t.Fatal(err)
		}
		if got := ids(at + 9); got != "3 " {
			t.Errorf("after two were given up these wait: %s", got)
		}
	})
}

// A log reads the same in all stores: the transaction, what became of it, the
// verdict on it.
func TestEveryStoreTellsALogInOrder(t *testing.T) {
	eachStore(t, func(t *testing.T, begin func() func(Options) (Store, error)) {
		blocked := countOf(payer, time.Hour)
		blocked.ReadsVerdict, blocked.ReadsStatus = true, true
		blocked.Where = func(e *Event) Truth { return TruthOf(e.verdict == payment.Block) }
		s, err := begin()(Options{Features: []Feature{blocked}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		at := payment.Time(1_800_000_000e9)
		a := paying("a", "p", at, 77)
		appended(t, s, a)
		if there, err := s.Holds(t.Context(), a.Hash); err != nil || !there {
			t.Errorf("the store holds it: %v, %v", there, err)
		}
		if there, err := s.Holds(t.Context(), s.Key().Tx("b")); err != nil || there {
			t.Errorf("the store holds what never came: %v, %v", there, err)
		}
		if err := s.Decided(t.Context(), []Mark{{Tx: a.Hash, Verdict: payment.Block}}); err != nil {
			t.Fatal(err)
		}
		if err := s.Outcomes(t.Context(), []*OutcomeItem{{Outcome: &payment.Outcome{ID: "o", TransactionID: "a", Kind: payment.OutcomeCancelled, EventTime: at}}}); err != nil {
			t.Fatal(err)
		}
		var words []string
		var last payment.Position
		if err := s.Log(t.Context(), payer, s.Key().EntityKey(payer, a.Tx), func(e LogEntry) bool {
			if !last.Before(e.Position) && len(words) > 0 {
				t.Errorf("%v stands behind %v", e.Position, last)
			}
			last = e.Position
			words = append(words, e.Words.String())
			return true
		}); err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{"payment", "verdict block", "cancelled"} {
			if len(words) != 3 || !strings.Contains(words[i], want) {
				t.Errorf("the log reads %q", words)
				break
			}
		}
	})
}

// Of two decisions on one transaction the first stands, for both members.
func TestTheFirstDecisionStands(t *testing.T) {
	at := newOwnStore(t, redisURL(t))
	one, two := openedRedis(t, at, Options{}), openedRedis(t, at, Options{})
	hashes := []TxHash{one.Key().Tx("a"), one.Key().Tx("b")}
	winners, err := one.First(t.Context(), hashes[:1], [][]byte{[]byte("of one")})
	if err != nil || winners[0] != nil {
		t.Errorf("the first is told %q, %v", winners, err)
	}
	winners, err = two.First(t.Context(), hashes, [][]byte{[]byte("of two"), []byte("of two")})
	if err != nil || !bytes.Equal(winners[0], []byte("of one")) || winners[1] != nil {
		t.Errorf("the second is told %q, %v", winners, err)
	}
	winners, err = one.First(t.Context(), hashes[:1], [][]byte{[]byte("of one")})
	if err != nil || winners[0] != nil {
		t.Errorf("when it comes again, the first is told %q, %v", winners, err)
	}
}

// Members see how far each other's partitions are.
func TestProgressIsSharedAsItWasTold(t *testing.T) {
	at := newOwnStore(t, redisURL(t))
	one, two := openedRedis(t, at, Options{}), openedRedis(t, at, Options{})
	want := Progress{Noted: 1_800_000_000_123_456_789, CaughtUp: true, At: 1_800_000_000_123_000_000}
	if err := one.SetProgress(t.Context(), 7, want); err != nil {
		t.Fatal(err)
	}
	all, err := two.Progress(t.Context())
	if err != nil || len(all) != 1 || all[7] != want {
		t.Errorf("it reads as %v, %v", all, err)
	}
}

func openedRedis(t *testing.T, at *ownStore, opts Options) *Redis {
	t.Helper()
	s, err := at.open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// During a rollout a member with old rules logs what only the new ones look at,
// so that nothing is missing once it has loaded them; and a kind that only its
// own rules looked at is still logged by the others.
func TestMembersWithOtherRulesWriteTheSameLogs(t *testing.T) {
	at := newOwnStore(t, redisURL(t))
	payee := Entity{First: Payee}
	old := openedRedis(t, at, Options{Features: []Feature{countOf(payer, time.Hour)}})
	clock := payment.Time(1_800_000_000e9)
	pay := func(s *Redis, id string) *Item {
		clock++
		it := paying(id, "p", clock, 1)
		it.Tx.Payee.AccountID = "m"
		s.kinds.at, s.kinds.known = time.Time{}, time.Time{} // a second has passed
		return appended(t, s, it)
	}
	pay(old, "before")
	fresh := openedRedis(t, at, Options{Features: []Feature{countOf(payee, time.Hour)}})
	if got := pay(fresh, "first").Values[0].Int(); got != 1 {
		t.Errorf("the new member counts %d", got)
	}
	if got := pay(old, "second").Values[0].Int(); got != 3 {
		t.Errorf("the old member counts %d", got)
	}
	if got := pay(fresh, "third").Values[0].Int(); got != 3 {
		t.Errorf("the new member counts %d: the old one has left one out", got)
	}
	if since := fresh.Since(payee); since <= clock-3 || since > clock.Add(time.Minute) {
		t.Errorf("the logs of payees are whole from %s", since)
	}
	if since := fresh.Since(payer); since > clock-3 {
		t.Errorf("the logs of payers are whole from %s", since)
	}
	if err := fresh.Use(t.Context(), []Feature{countOf(payer, time.Hour), countOf(payee, time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if it := pay(fresh, "fourth"); it.Values[0].Int() != 5 || it.Values[1].Int() != 4 {
		t.Errorf("after the reload it counts %v %v", asJSON(it.Values[0]), asJSON(it.Values[1]))
	}
}

// Under a steady load the memory of Redis levels off: segments whose events have
// all left the horizon are taken away, and positions never come back.
func TestLogsInRedisLevelOff(t *testing.T) {
	at := newOwnStore(t, redisURL(t))
	opts := Options{Features: []Feature{countOf(payer, time.Hour)}, Keep: time.Hour, Lateness: time.Hour}
	s, other := openedRedis(t, at, opts), openedRedis(t, at, opts)
	clock := payment.Time(1_800_000_000e9)
	held := func() (n int64) {
		head, err := s.client.ZRangeWithScores(t.Context(), s.names.head("payer", s.key.Ref(Payer, "p")), 0, -1).Result()
		if err != nil {
			t.Fatal(err)
		}
		first, last := headOf(head)
		for segment := uint32(1); segment <= last; segment++ {
			size, err := s.client.StrLen(t.Context(), s.names.log("payer", s.key.Ref(Payer, "p"), segment)).Result()
			if err != nil {
				t.Fatal(err)
			}
			if n += size; size > 0 && segment < first {
				t.Errorf("segment %d has %d bytes, and the first is %d", segment, size, first)
			}
		}
		return n
	}
	var lastAt payment.Position
	var sizes []int64
	for i := range 1200 { // an hour between two of them: 27 stay
		clock = clock.Add(time.Hour)
		if i%300 == 299 {
			sizes = append(sizes, held())
		}
		by := s
		if i%100 > 90 {
			by = other
		}
		it := appended(t, by, paying(fmt.Sprint("t", i), "p", clock, 1))
		if !lastAt.Before(it.Positions[0]) {
			t.Fatalf("%v comes after %v", it.Positions[0], lastAt)
		}
		if lastAt = it.Positions[0]; it.Values[0].Int() != 1 {
			t.Fatalf("payment %d counts %d", i, it.Values[0].Int())
		}
	}
	if sizes[3] > 8000 || sizes[3] > 2*sizes[0] {
		t.Errorf("the log has %v bytes", sizes)
	}
}

// Folds and the entries they refer to stay within the memory that was given, and
// what was given up costs no value.
func TestMemoryOfRedisFoldsIsKept(t *testing.T) {
	at := newOwnStore(t, redisURL(t))
	const limit = 1 << 20
	s := openedRedis(t, at, Options{Features: []Feature{countOf(payer, time.Hour)}, Memory: limit})
	clock := payment.Time(1_800_000_000e9)
	for i := range 20 {
		items := make([]*Item, 1000)
		for k := range items {
			clock++
			items[k] = paying(fmt.Sprint("t", i, "-", k), fmt.Sprint("p", (i%10)*1000+k), clock, 1)
		}
		appended(t, s, items...)
		for _, it := range items {
			if want := int64(1 + i/10); it.Values[0].Int() != want {
				t.Fatalf("call %d: %s counts %d, not %d", i, it.Tx.Payer.AccountID, it.Values[0].Int(), want)
			}
		}
		if size := s.Size(); size.FoldBytes > limit {
			t.Errorf("call %d: folds take %d bytes", i, size.FoldBytes)
		}
	}
	if size := s.Size(); size.Evicted == 0 || size.Loaded == 0 {
		t.Errorf("nothing was given up: %+v", size)
	}
}

// What an operator sees with redis-cli is what the comment of Redis says, and
// everything but what belongs to the store as a whole expires.
func TestKeysAreThoseOfTheComment(t *testing.T) {
	at := newOwnStore(t, redisURL(t))
	s := openedRedis(t, at, Options{Owner: "me", Features: []Feature{countOf(payer, time.Hour)}})
	a := paying("a", "p", 1_800_000_000e9, 1)
	appended(t, s, a)
	hash, prefix := a.Hash.hex(), at.Prefix
	if _, err := s.First(t.Context(), []TxHash{a.Hash}, [][]byte{[]byte("x")}); err != nil {
		t.Fatal(err)
	}
	for name, expires := range map[string]bool{
		prefix + ":1:key": false, prefix + ":1:owner": false, prefix + ":1:kinds": false,
		fmt.Sprintf("%s:1:log:{payer:%016x}:1", prefix, s.key.Ref(Payer, "p")): true,
		prefix + ":1:tx:{" + hash + "}":                                        true,
		prefix + ":1:dec:" + hash:                                              true,
	} {
		ttl, err := s.client.TTL(t.Context(), name).Result()
		if err != nil || (ttl > 0) != expires || ttl == -2 {
			t.Errorf("%s expires in %v, %v", name, ttl, err)
		}
	}
	if _, err := at.open(t.Context(), Options{Owner: "you"}); !errors.Is(err, ErrOwner) {
		t.Errorf("another group opens the store: %v", err)
	}
	if err := s.client.Append(t.Context(), s.names.log("payer", s.key.Ref(Payer, "p"), 1), "garbage").Err(); err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), []*Item{paying("b", "p", 1_800_000_000e9, 1)}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a log that somebody else has written to: %v", err)
	}
}
