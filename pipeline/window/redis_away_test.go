package window

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// wired is a store on a server of the test's own.
func wired(t *testing.T, server *ownRedis, at RedisOptions, opts Options) *Redis {
	t.Helper()
	if at.URL == "" {
		at.URL = "redis://" + server.addr
	}
	s, err := OpenRedis(t.Context(), at, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// takenAway waits until a store is away: some errors need a few calls.
func takenAway(t *testing.T, s *Redis, items ...*Item) {
	t.Helper()
	for range 20 {
		err := s.Append(t.Context(), items)
		if !errors.Is(err, ErrAway) {
			t.Fatalf("an append ends with %v", err)
		}
		if s.Health().Away {
			return
		}
	}
	t.Fatal("the breaker does not open")
}

func isBack(t *testing.T, s Store) {
	t.Helper()
	select {
	case <-s.Back():
	case <-time.After(30 * time.Second):
		t.Fatalf("it does not come back: %+v", s.Health())
	}
}

// The servers are there and do not answer. From the first command that hangs to the
// answer from memory it takes a payment no longer than one command may take, and a
// payment that comes meanwhile does not wait at all. The payments of the outage
// count each other; once the store is back, they are appended, and their values are
// exact.
func TestPaymentsGoOnWhileRedisHangs(t *testing.T) {
	server := startRedis(t)
	s := wired(t, server, RedisOptions{}, Options{Features: []Feature{countOf(payer, time.Hour), countOf(Entity{First: Payee}, time.Hour)}})
	at := payment.Time(1_800_000_000e9)
	pay := func(id string) *Item {
		at++
		it := paying(id, "p", at, 1)
		it.Tx.Payee.AccountID = id // that nobody has seen
		return it
	}
	appended(t, s, pay("a"), pay("b"))
	server.signal(syscall.SIGSTOP)
	c := pay("c")
	began := time.Now()
	failed := make(chan error, 1)
	go func() { failed <- s.Append(t.Context(), []*Item{c}) }()
	until(t, "a call", func() bool { return len(s.calls) == 1 })
	early := pay("early")
	s.Peek([]*Item{early})
	err := <-failed
	s.Peek([]*Item{c})
	took := time.Since(began)
	if !errors.Is(err, ErrAway) {
		t.Fatalf("the append ends with %v", err)
	}
	if took > time.Second { // a loaded machine; alone it is a few ms above 100
		t.Errorf("from the command that hangs to the answer it took %v", took)
	}
	t.Logf("from the command that hangs to the answer from memory: %v", took)
	if !c.Stale || c.Values[0].Int() != 3 || c.Without == nil || c.Without[0] || !c.Without[1] || c.Values[1].Kind() != payment.Absent {
		t.Errorf("from memory it counts %s and %s, stale %v, without %v", asJSON(c.Values[0]), asJSON(c.Values[1]), c.Stale, c.Without)
	}
	if early.Values[0].Int() != 3 || c.Positions[0] != (payment.Position{}) {
		t.Errorf("the one that came meanwhile counts %s; positions %v", asJSON(early.Values[0]), c.Positions)
	}
	d := pay("d")
	began = time.Now()
	if err := s.Append(t.Context(), []*Item{d}); !errors.Is(err, ErrAway) {
		t.Errorf("the next append ends with %v", err)
	}
	s.Peek([]*Item{d})
	if took := time.Since(began); took > 20*time.Millisecond {
		t.Errorf("the next one waits %v", took)
	}
	if d.Values[0].Int() != 5 {
		t.Errorf("the next one counts %s", asJSON(d.Values[0]))
	}
	if h := s.Health(); !h.Away || h.Opened != 1 || h.Err == nil || h.Since.IsZero() {
		t.Errorf("its health is %+v", h)
	}
	loaded := s.Size().Loaded
	server.signal(syscall.SIGCONT)
	woken := time.Now()
	isBack(t, s)
	t.Logf("from recovery to the closed breaker: %v", time.Since(woken))
	appended(t, s, early, c, d)
	for i, it := range []*Item{early, c, d} { // c is older than the early one, and comes after it
		if it.Values[0].Int() != []int64{3, 3, 5}[i] || it.Values[1].Int() != 1 || it.Stale || it.Without != nil {
			t.Errorf("payment %d then counts %s and %s, stale %v", i, asJSON(it.Values[0]), asJSON(it.Values[1]), it.Stale)
		}
	}
	if got := s.Size().Loaded; got != loaded {
		t.Errorf("the outage has cost %d folds", got-loaded)
	}
	if s.Epoch() != 1 {
		t.Errorf("nothing was lost, and the epoch is %d", s.Epoch())
	}
}

// While a call waits for the servers, whatever it waits for, memory answers: with
// what it knew before; and never with half of a log. The call then ends as if nobody
// had looked.
func TestMemoryAnswersWhileACallWaits(t *testing.T) {
	wire := startBadWire(t, part(t, "SLUICE_TEST_REDIS"))
	at := newOwnStore(t, redisURL(t))
	at.URL, at.Timeout = "redis://"+wire.listener.Addr().String(), time.Minute
	s := openedRedis(t, at, Options{Features: []Feature{countOf(payer, time.Hour)}})
	clock := payment.Time(1_800_000_000e9)
	for n, c := range []struct {
		name    string
		before  func()
		without bool
	}{
		{name: "it appends", before: func() {}},
		{name: "it makes a fold anew", before: func() { s.trust++ }},
		{name: "it makes a fold that was not there", before: func() { evictAll(s) }, without: true},
	} {
		count := int64(4 * n)
		for i := range 3 {
			clock++
			count++
			if it := appended(t, s, paying(fmt.Sprint(n, "-", i), "p", clock, 1)); it.Values[0].Int() != count {
				t.Fatalf("it counts %s, not %d", asJSON(it.Values[0]), count)
			}
		}
		c.before()
		s.kinds.at = time.Now() // so that it waits for the log at once
		clock++
		letGo, own, meanwhile := wire.hold(), paying(fmt.Sprint(n, "-own"), "p", clock, 1), paying(fmt.Sprint(n, "-meanwhile"), "p", clock, 1)
		ended, answered := make(chan error, 1), make(chan struct{})
		go func() { ended <- s.Append(t.Context(), []*Item{own}) }()
		until(t, "a call", func() bool { return len(s.calls) == 1 })
		time.Sleep(20 * time.Millisecond) // now it waits; what it does before takes microseconds
		go func() {
			defer close(answered)
			s.Peek([]*Item{meanwhile})
		}()
		select {
		case <-answered:
		case <-time.After(20 * time.Second):
			t.Fatalf("while %s, memory does not answer", c.name)
		}
		if missing := meanwhile.Without != nil; missing != c.without || meanwhile.Stale == c.without || !missing && meanwhile.Values[0].Int() != count+1 {
			t.Errorf("while %s, memory says %s, without %v", c.name, asJSON(meanwhile.Values[0]), meanwhile.Without)
		}
		letGo()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if own.Values[0].Int() != count+1 {
			t.Errorf("%s: it counts %s, not %d", c.name, asJSON(own.Values[0]), count+1)
		}
	}
}

// Whatever keeps the servers from taking writes: every call says ErrAway, memory
// answers, the breaker closes by itself when the cause is gone, and each payment
// then stands in the logs once.
func TestWhateverKeepsRedisFromWritingPasses(t *testing.T) {
	for _, c := range []struct {
		name      string
		take, end func(r *ownRedis)
	}{
		{"frozen", func(r *ownRedis) { r.signal(syscall.SIGSTOP) }, func(r *ownRedis) { r.signal(syscall.SIGCONT) }},
		{"out of memory", func(r *ownRedis) {
			r.do("config", "set", "maxmemory-policy", "noeviction")
			r.do("config", "set", "maxmemory", "1")
		}, func(r *ownRedis) { r.do("config", "set", "maxmemory", "0") }},
		{"without its replicas", func(r *ownRedis) { r.do("config", "set", "min-replicas-to-write", "1") },
			func(r *ownRedis) { r.do("config", "set", "min-replicas-to-write", "0") }},
		{"not allowed to write", func(r *ownRedis) { r.do("acl", "setuser", "default", "-@write") },
			func(r *ownRedis) { r.do("acl", "setuser", "default", "+@write") }},
		{"not able to save", func(r *ownRedis) {
			r.do("config", "set", "save", "3600 1")
			if err := os.Mkdir(filepath.Join(r.dir, "dump.rdb"), 0o700); err != nil {
				r.t.Fatal(err)
			}
			r.do("bgsave")
			r.saved("err")
		}, func(r *ownRedis) {
			if err := os.Remove(filepath.Join(r.dir, "dump.rdb")); err != nil {
				r.t.Fatal(err)
			}
			r.do("bgsave")
			r.saved("ok")
		}},
		{"paused", func(r *ownRedis) { r.do("client", "pause", "600000", "write") }, func(r *ownRedis) { r.do("client", "unpause") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := startRedis(t)
			at := RedisOptions{Timeout: 300 * time.Millisecond}
			var told []bool
			var mu sync.Mutex // guards told
			s := wired(t, server, at, Options{Features: []Feature{countOf(payer, time.Hour)}, OnHealth: func(h Health) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, h.Away)
			}})
			now := payment.Time(1_800_000_000e9)
			a, b := paying("a", "p", now, 1), paying("b", "p", now+1, 1)
			appended(t, s, a)
			c.take(server)
			takenAway(t, s, b)
			everyCallIsAway(t, s, a)
			s.Peek([]*Item{b})
			if !b.Stale || b.Values[0].Int() != 2 {
				t.Errorf("memory says %s", asJSON(b.Values[0]))
			}
			time.Sleep(300 * time.Millisecond) // some probes, in vain
			if !s.Health().Away {
				t.Error("it came back although the cause is still there")
			}
			c.end(server)
			isBack(t, s)
			for n := 0; ; n++ { // what is slow to come back may go once more
				if err := s.Append(t.Context(), []*Item{b}); err == nil {
					break
				} else if !errors.Is(err, ErrAway) || n > 20 {
					t.Fatal(err)
				}
				isBack(t, s)
			}
			if b.Values[0].Int() != 2 || b.Stale {
				t.Errorf("then it counts %s", asJSON(b.Values[0]))
			}
			if n := len(readBack(t, s, payer, s.Key().EntityKey(payer, a.Tx), map[TxHash]*Item{a.Hash: a, b.Hash: b}).events); n != 2 {
				t.Errorf("%d payments stand in the log", n)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(told) < 2 || !told[0] || told[len(told)-1] {
				t.Errorf("it was told of %v", told)
			}
		})
	}
}

// saved waits until the last save has ended so.
func (s *ownRedis) saved(status string) {
	s.t.Helper()
	client := redis.NewClient(&redis.Options{Addr: s.addr})
	defer func() { _ = client.Close() }()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) { // the server tells nobody
		text, err := client.Info(s.t.Context(), "persistence").Result()
		if err != nil {
			s.t.Fatal(err)
		}
		if info := infoOf(text); info["rdb_bgsave_in_progress"] == "0" && info["rdb_last_bgsave_status"] == status {
			return
		}
	}
	s.t.Fatalf("no save has ended with %s", status)
}

// everyCallIsAway calls all that needs the servers, of a store that is away.
func everyCallIsAway(t *testing.T, s *Redis, it *Item) {
	t.Helper()
	ctx, items, hashes := t.Context(), []*Item{onceMore(it)}, []TxHash{it.Hash}
	for name, call := range map[string]func() error{
		"Append":       func() error { return s.Append(ctx, items) },
		"Note":         func() error { return s.Note(ctx, items) },
		"View":         func() error { return s.View(ctx, items) },
		"Decided":      func() error { return s.Decided(ctx, []Mark{{Tx: it.Hash}}) },
		"Outcomes":     func() error { return s.Outcomes(ctx, []*OutcomeItem{outcomeOf("a", "o", it.Tx.EventTime)}) },
		"Parked":       func() error { _, err := s.Parked(ctx, it.Tx.EventTime); return err },
		"ForgetParked": func() error { return s.ForgetParked(ctx, it.Tx.EventTime) },
		"Outage":       func() error { return s.Outage(ctx, Outage{ID: "x"}) },
		"Use":          func() error { return s.Use(ctx, s.opts.Features) },
		"Holds":        func() error { _, err := s.Holds(ctx, it.Hash); return err },
		"Log":          func() error { return s.Log(ctx, payer, 1, func(LogEntry) bool { return true }) },
		"First":        func() error { _, err := s.First(ctx, hashes, [][]byte{nil}); return err },
		"Stand":        func() error { return s.Stand(ctx, hashes, [][]byte{nil}) },
		"SetProgress":  func() error { return s.SetProgress(ctx, 1, Progress{}) },
		"Progress":     func() error { _, err := s.Progress(ctx); return err },
	} {
		began := time.Now()
		if err := call(); !errors.Is(err, ErrAway) {
			t.Errorf("%s ends with %v", name, err)
		}
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("%s takes %v to say so", name, took)
		}
	}
	if _, known := s.Earlier(it.Hash); known {
		t.Error("an earlier decision is known")
	}
}

// A server that died comes back with another life, at which nobody can be sure what
// it has kept: that is known before the first call comes through, and what calls
// then say is what the logs hold.
func TestAServerThatDiedMayHaveLostSomething(t *testing.T) {
	for name, c := range map[string]struct {
		args  []string
		count int64
	}{"and has": {nil, 1}, "and has not": {[]string{"--appendonly", "yes", "--appendfsync", "always"}, 3}} {
		t.Run(name, func(t *testing.T) {
			server := startRedis(t, c.args...)
			s := wired(t, server, RedisOptions{Timeout: 300 * time.Millisecond}, Options{Owner: "me", Features: []Feature{countOf(payer, time.Hour)}})
			at := payment.Time(1_800_000_000e9)
			appended(t, s, paying("a", "p", at, 1), paying("b", "p", at+1, 1))
			server.kill()
			it := paying("c", "p", at+2, 1)
			takenAway(t, s, it)
			if s.Epoch() != 1 {
				t.Errorf("before anything answers the epoch is %d", s.Epoch())
			}
			s.Peek([]*Item{it})
			if it.Values[0].Int() != 3 {
				t.Errorf("from memory it counts %s", asJSON(it.Values[0]))
			}
			server.start()
			isBack(t, s)
			if s.Epoch() != 2 || s.Lost() != 1 {
				t.Errorf("the epoch is %d, and %d losses were counted", s.Epoch(), s.Lost())
			}
			again := onceMore(it) // until its log was read, memory answers
			s.Peek([]*Item{again})
			if again.Values[0].Int() != 3 {
				t.Errorf("from memory it counts %s once the server is back", asJSON(again.Values[0]))
			}
			if appended(t, s, it); it.Values[0].Int() != c.count {
				t.Errorf("then %s payments are in the log", asJSON(it.Values[0]))
			}
			if s.Epoch() != 2 {
				t.Errorf("the epoch is %d", s.Epoch())
			}
		})
	}
}

// Keys that are gone although the server is the same are a loss as well.
func TestKeysThatAreGoneAreALoss(t *testing.T) {
	server := startRedis(t)
	s := wired(t, server, RedisOptions{Timeout: time.Second}, Options{Owner: "me", Features: []Feature{countOf(payer, time.Hour)}})
	at := payment.Time(1_800_000_000e9)
	appended(t, s, paying("a", "p", at, 1), paying("b", "p", at+1, 1))
	server.do("flushall")
	if it := appended(t, s, paying("c", "p", at+2, 1)); it.Values[0].Int() != 1 {
		t.Errorf("after all keys were deleted it counts %s", asJSON(it.Values[0]))
	}
	if s.Epoch() < 2 {
		t.Errorf("the epoch is %d", s.Epoch())
	}
	epoch := s.Epoch()
	a := paying("d", "p", at+3, 1)
	appended(t, s, paying("before", "p", at+3, 1)) // so that its expiry is ours
	server.do("del", s.names.log("payer", s.Key().EntityKey(payer, a.Tx), 1))
	if appended(t, s, a); a.Values[0].Int() != 1 {
		t.Errorf("after one log was deleted it counts %s", asJSON(a.Values[0]))
	}
	if s.Epoch() != epoch+1 {
		t.Errorf("the epoch was %d, and is %d", epoch, s.Epoch())
	}
	server.do("flushall")
	s.mu.Lock()
	s.asked = time.Time{} // ten seconds later, and nobody has paid
	s.mu.Unlock()
	if err := s.Decided(t.Context(), []Mark{{Tx: a.Hash}}); err != nil {
		t.Fatal(err)
	}
	if s.Epoch() != epoch+2 {
		t.Errorf("the epoch was %d, and is %d", epoch+1, s.Epoch())
	}
}

// A replica that takes over keeps what it got; its history has another name from
// then on, and nobody can be sure that it got all.
func TestAReplicaThatTakesOverMayLackSomething(t *testing.T) {
	server := startRedis(t)
	s := wired(t, server, RedisOptions{Timeout: 300 * time.Millisecond}, Options{Features: []Feature{countOf(payer, time.Hour)}})
	at := payment.Time(1_800_000_000e9)
	appended(t, s, paying("a", "p", at, 1))
	server.do("replicaof", "127.0.0.1", "1")
	it := paying("b", "p", at+1, 1)
	takenAway(t, s, it)
	server.do("replicaof", "no", "one")
	isBack(t, s)
	if s.Epoch() != 2 {
		t.Errorf("the epoch is %d", s.Epoch())
	}
	if appended(t, s, it); it.Values[0].Int() != 2 {
		t.Errorf("it counts %s", asJSON(it.Values[0]))
	}
}

// Who has stopped waiting owns its items again: the turn that they are in goes on
// without touching them, and the others in it get their exact values.
func TestACallerWhoStopsWaitingOwnsItsItems(t *testing.T) {
	wire := startBadWire(t, part(t, "SLUICE_TEST_REDIS"))
	at := newOwnStore(t, redisURL(t))
	at.URL, at.Timeout = "redis://"+wire.listener.Addr().String(), 20*time.Second
	s := openedRedis(t, at, Options{Features: []Feature{countOf(payer, time.Hour)}})
	clock := payment.Time(1_800_000_000e9)
	appended(t, s, paying("first", "p", clock, 1))
	for round := range 40 {
		clock++
		s.mu.Lock()
		s.kinds.at, s.asked = time.Now(), time.Now()
		switch round % 8 / 2 { // what it waits for first
		case 0:
			s.asked = time.Time{}
		case 1:
			s.kinds.at = time.Time{}
		case 2:
			s.trust++
		}
		s.mu.Unlock()
		letGo := wire.hold()
		patient, impatient := paying(fmt.Sprint("patient", round), "p", clock, 1), paying(fmt.Sprint("impatient", round), "p", clock, 1)
		wait, done := sync.WaitGroup{}, make(chan error, 1)
		waits := func() { done <- s.Append(t.Context(), []*Item{patient}) }
		leaves := func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+round%10)*time.Millisecond)
			defer cancel()
			err := s.Append(ctx, []*Item{impatient})
			if !errors.Is(err, ErrAway) && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("it stops waiting with %v", err)
			}
			s.Peek([]*Item{impatient})
			*impatient.Tx = payment.Transaction{ID: "another", EventTime: clock}
			*impatient = Item{Tx: impatient.Tx, Values: impatient.Values[:0]}
			letGo()
		}
		first, second := waits, leaves
		if round%2 == 0 { // it is under way, not only in the queue
			first, second = leaves, waits
		}
		wait.Go(first)
		until(t, "a call", func() bool { return len(s.calls) == 1 })
		wait.Go(second)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		wait.Wait()
		if len(impatient.Values) != 0 || impatient.Hash != (TxHash{}) {
			t.Fatalf("the items of who had left were written: %+v", impatient)
		}
		log := readBackAll(t, s, patient)
		own := log.at[patient.Positions[0]]
		if got, want := patient.Values[0].Int(), int64(own+1); got != want {
			t.Fatalf("round %d: it counts %d, and is the %dth in its log", round, got, want)
		}
	}
}

// readBackAll reads the log of a payment's payer, whatever else is in it.
func readBackAll(t *testing.T, s *Redis, it *Item) *oracleLog {
	t.Helper()
	txs := map[TxHash]*Item{}
	key := s.Key().EntityKey(payer, it.Tx)
	if err := s.each(t.Context(), "payer", key, func(_ payment.Position, e entry) bool {
		if e.kind() == entryTransaction {
			txs[e.tx()] = it
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return readBack(t, s, payer, key, txs)
}

// traffic counts what is sent, and how much comes back at once.
type traffic struct {
	mu       sync.Mutex
	commands int
	largest  int // answer to a pipeline, in bytes of strings
}

func (c *traffic) DialHook(next redis.DialHook) redis.DialHook { return next }
func (c *traffic) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.mu.Lock()
		c.commands++
		c.mu.Unlock()
		return next(ctx, cmd)
	}
}
func (c *traffic) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		bytes := 0
		for _, cmd := range cmds {
			if s, ok := cmd.(*redis.StringCmd); ok {
				bytes += len(s.Val())
			}
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.commands += len(cmds)
		c.largest = max(c.largest, bytes)
		return err
	}
}

// Eight lanes go on with their payments while the store is away: the servers are
// asked by the probe alone, which is a few commands a second.
func TestAStoreThatIsAwayIsNotHammered(t *testing.T) {
	server := startRedis(t)
	s := wired(t, server, RedisOptions{}, Options{Features: []Feature{countOf(payer, time.Hour)}})
	at := payment.Time(1_800_000_000e9)
	appended(t, s, paying("a", "p", at, 1))
	server.kill()
	takenAway(t, s, paying("b", "p", at, 1))
	sent := &traffic{}
	s.client.AddHook(sent)
	const lasts = 3 * time.Second
	var wait sync.WaitGroup
	var asked sync.Map
	end := time.Now().Add(lasts)
	for lane := range 8 {
		wait.Go(func() {
			n := 0
			for ; time.Now().Before(end); n++ {
				it := paying(fmt.Sprint(lane, "-", n), "p", at, 1)
				if err := s.Append(t.Context(), []*Item{it}); !errors.Is(err, ErrAway) {
					t.Error(err)
					return
				}
				s.Peek([]*Item{it})
				if _, err := s.First(t.Context(), []TxHash{it.Hash}, [][]byte{nil}); !errors.Is(err, ErrAway) {
					t.Error(err)
					return
				}
				time.Sleep(time.Millisecond)
			}
			asked.Store(lane, n)
		})
	}
	wait.Wait()
	calls := 0
	asked.Range(func(_, n any) bool { calls += n.(int); return true })
	rate := float64(sent.commands) / lasts.Seconds()
	t.Logf("%d payments were decided without the store, which got %.1f commands a second", calls, rate)
	if rate > 10 || calls < 100 {
		t.Errorf("%d payments, and %.1f commands a second", calls, rate)
	}
	server.start()
	began := time.Now()
	isBack(t, s)
	t.Logf("from recovery to the closed breaker: %v", time.Since(began))
}

// A long log is read in many short round trips, none of which comes near the time
// that it may take.
func TestALongLogIsReadInShortTrips(t *testing.T) {
	at := newOwnStore(t, redisURL(t))
	at.SegmentBytes = 64 << 10
	s := openedRedis(t, at, Options{Features: []Feature{countOf(payer, 24*time.Hour)}})
	clock := payment.Time(1_800_000_000e9)
	const batches, batch = 30, 1000
	for n := range batches {
		items := make([]*Item, batch)
		for i := range items {
			clock++
			items[i] = paying(fmt.Sprint(n, "-", i), "p", clock, 1)
		}
		appended(t, s, items...)
	}
	sent := &traffic{}
	s.client.AddHook(sent)
	evictAll(s)
	if it := appended(t, s, paying("last", "p", clock+1, 1)); it.Values[0].Int() != batches*batch+1 {
		t.Errorf("it counts %s", asJSON(it.Values[0]))
	}
	if sent.largest > bytesAtOnce+rangeBytes || sent.largest < rangeBytes {
		t.Errorf("the largest answer has %d bytes", sent.largest)
	}
	other := openedRedis(t, at, Options{Features: []Feature{countOf(payer, 24*time.Hour)}}) // which is behind by nothing, then by all
	appended(t, other, paying("other", "p", clock+2, 1))
	for n := range 3 {
		items := make([]*Item, batch)
		for i := range items {
			clock++
			items[i] = paying(fmt.Sprint("more", n, "-", i), "p", clock+2, 1)
		}
		appended(t, s, items...)
	}
	if it := appended(t, other, paying("end", "p", clock+3, 1)); it.Values[0].Int() != batches*batch+3*batch+3 {
		t.Errorf("the other member counts %s", asJSON(it.Values[0]))
	}
}

// What stands on the topic is the first decision, whatever the store said before.
func TestWhatStandsOnTheTopicIsTheFirstDecision(t *testing.T) {
	at := newOwnStore(t, redisURL(t))
	s := openedRedis(t, at, Options{})
	a, b := s.Key().Tx("a"), s.Key().Tx("b")
	if _, err := s.First(t.Context(), []TxHash{a}, [][]byte{[]byte("in the store")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Stand(t.Context(), []TxHash{a, b}, [][]byte{[]byte("on the topic"), []byte("b")}); err != nil {
		t.Fatal(err)
	}
	winners, err := s.First(t.Context(), []TxHash{a, b}, [][]byte{[]byte("in the store"), []byte("b")})
	if err != nil || string(winners[0]) != "on the topic" || winners[1] != nil {
		t.Errorf("the first ones are %q, %v", winners, err)
	}
	if ttl := s.client.PTTL(t.Context(), s.names.decision(b)).Val(); ttl < 89*24*time.Hour {
		t.Errorf("it expires in %v", ttl)
	}
}

// That a caller's time is over says nothing of the store. A connection notices it a
// moment before the caller's context does.
func TestACallersTimeThatIsOverIsNoOutage(t *testing.T) {
	wire := startBadWire(t, part(t, "SLUICE_TEST_REDIS"))
	at := newOwnStore(t, redisURL(t))
	at.URL, at.Timeout = "redis://"+wire.listener.Addr().String(), 20*time.Second
	s := openedRedis(t, at, Options{})
	letGo := wire.hold()
	defer letGo()
	for i := range 100 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*100*time.Microsecond)
		_, err := s.First(ctx, []TxHash{{uint64(i), 1}}, [][]byte{[]byte("{}")})
		cancel()
		if !errors.Is(err, ErrAway) && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("it stops waiting with %v", err)
		}
	}
	if h := s.Health(); h.Away || h.Opened != 0 {
		t.Errorf("the store is taken for away: %+v", h)
	}
}
