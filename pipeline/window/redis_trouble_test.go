package window

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// badWire is a proxy before a server. When it is told, it lets the server have
// everything, but not the client the answers: it cuts the connection, or goes
// silent, after some answers more.
type badWire struct {
	to       string
	listener net.Listener

	mu     sync.Mutex
	armed  bool
	after  int           // so many reads of answers still pass
	held   chan struct{} // if set, answers wait until it is closed
	silent bool
	open   map[net.Conn]bool
}

func startBadWire(t testing.TB, to string) *badWire {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &badWire{to: to, listener: l, open: map[net.Conn]bool{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			go w.carry(c)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		w.mu.Lock()
		defer w.mu.Unlock()
		for c := range w.open {
			_ = c.Close()
		}
	})
	return w
}

func (w *badWire) carry(client net.Conn) {
	server, err := net.Dial("tcp", w.to)
	if err != nil {
		_ = client.Close()
		return
	}
	w.mu.Lock()
	w.open[client], w.open[server] = true, true
	w.mu.Unlock()
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil {
			break
		}
		w.mu.Lock()
		held := w.held
		w.mu.Unlock()
		if held != nil {
			<-held
		}
		w.mu.Lock()
		cut, silent := false, w.silent
		if w.armed {
			cut = w.after == 0
			w.after = max(0, w.after-1)
		}
		w.mu.Unlock()
		if cut && silent {
			continue // the client waits for this in vain
		}
		if cut {
			break
		}
		if _, err := client.Write(buf[:n]); err != nil {
			break
		}
	}
	_ = client.Close()
}

// arm lets answers be lost from the next but so many on.
func (w *badWire) arm(after int, silent bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed, w.after, w.silent = true, after, silent
}

// hold lets all answers wait until they are let go.
func (w *badWire) hold() (letGo func()) {
	held := make(chan struct{})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = held
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.held = nil
		close(held)
	}
}

func (w *badWire) disarm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed = false
}

// unsure is a store whose calls fail first, at some step, although the server may
// have done what it was told; then they come again.
type unsure struct {
	*Redis
	wire  *badWire
	rng   *rand.Rand
	fails *int
}

func (u *unsure) twice(call func() error) error {
	u.wire.arm(u.rng.IntN(5), u.rng.IntN(8) == 0)
	err := call()
	u.wire.disarm()
	if err == nil {
		return nil
	}
	*u.fails++
	for range 5 { // the machine may be slow as well
		comeBack(u.Redis)
		if err = call(); !errors.Is(err, ErrAway) {
			return err
		}
	}
	return err
}

func (u *unsure) Append(ctx context.Context, items []*Item) error {
	return u.twice(func() error { return u.Redis.Append(ctx, items) })
}

func (u *unsure) Decided(ctx context.Context, marks []Mark) error {
	return u.twice(func() error { return u.Redis.Decided(ctx, marks) })
}

func (u *unsure) Outage(ctx context.Context, o Outage) error {
	return u.twice(func() error { return u.Redis.Outage(ctx, o) })
}

func (u *unsure) Use(ctx context.Context, f []Feature) error {
	return u.twice(func() error { return u.Redis.Use(ctx, f) })
}

func (u *unsure) Outcomes(ctx context.Context, items []*OutcomeItem) error {
	failed := false
	err := u.twice(func() error {
		err := u.Redis.Outcomes(ctx, items)
		failed = failed || err != nil
		return err
	})
	if err == nil && failed && items[0].Status == OutcomeRepeated { // what it was, the call that failed would have said
		there, err := u.Holds(ctx, u.Key().Tx(items[0].Outcome.TransactionID))
		if items[0].Status = OutcomeParked; there {
			items[0].Status = OutcomeCounted
		}
		return err
	}
	return err
}

// comeBack waits until a store is not away, without the pauses that grow.
func comeBack(s *Redis) {
	s.breaker.mu.Lock()
	s.breaker.pause = time.Millisecond
	s.breaker.mu.Unlock()
	<-s.Back()
}

// Connections that break or go silent at any step, after the server has done what
// it was told, change no value: what comes again is found.
func TestResentPipelinesChangeNoValue(t *testing.T) {
	wire := startBadWire(t, part(t, "SLUICE_TEST_REDIS"))
	all := testFeatures(t)
	fails := 0
	for seed := range uint64(4) {
		h := randomScenario(seed, 90)
		for i := range h.Steps { // whether an outcome is repeated, a call that failed cannot tell
			if o := h.Steps[i].Outcome; o != nil {
				o.ID = fmt.Sprint("o", i)
			}
		}
		rng := rand.New(rand.NewPCG(seed, 5))
		for _, how := range []play{{name: "one by one"}, {name: "in batches", batches: true}} {
			at := newOwnStore(t, redisURL(t))
			at.URL = "redis://" + wire.listener.Addr().String()
			at.Timeout = 300 * time.Millisecond
			how.open = func(o Options) (Store, error) {
				s, err := at.open(t.Context(), o)
				return &unsure{Redis: s, wire: wire, rng: rng, fails: &fails}, err
			}
			if _, err := carryOut(t, h, how, all, true); err != nil {
				t.Fatalf("seed %d, %s: %v", seed, how.name, err)
			}
		}
	}
	if fails < 100 {
		t.Errorf("only %d calls have failed", fails)
	}
}

// What is wrong with an address, a password or a server is said so that one can
// put it right, and the password is not told.
func TestOpeningSaysWhatIsWrong(t *testing.T) {
	plain, encrypted := part(t, "SLUICE_TEST_REDIS"), part(t, "SLUICE_TEST_REDIS_TLS")
	user, password, certs := part(t, "SLUICE_TEST_REDIS_USER"), part(t, "SLUICE_TEST_REDIS_PASSWORD"), part(t, "SLUICE_TEST_CERTS")
	node := firstOf(part(t, "SLUICE_TEST_REDIS_CLUSTER"))
	ca := certs + "/ca.pem"
	if _, err := os.Stat(ca); err != nil {
		t.Fatal(err)
	}
	prefix := newOwnStore(t, "redis://"+plain).Prefix
	open := func(o RedisOptions, opts Options) error {
		o.Prefix, o.Timeout = prefix, 2*time.Second
		s, err := OpenRedis(t.Context(), o, opts)
		if err == nil {
			err = s.Close()
		}
		return err
	}
	if err := open(RedisOptions{URL: "rediss://" + user + ":" + password + "@" + encrypted, CA: ca}, Options{Owner: "a"}); err != nil {
		t.Errorf("with TLS, user and password: %v", err)
	}
	if err := open(RedisOptions{URL: "rediss://" + encrypted, User: user, Password: password, CA: ca}, Options{Owner: "a"}); err != nil {
		t.Errorf("with user and password apart: %v", err)
	}
	for _, c := range []struct {
		at   RedisOptions
		opts Options
		want string
	}{
		{RedisOptions{URL: "http://x"}, Options{}, "begins with redis://"},
		{RedisOptions{URL: "redis://"}, Options{}, "names no host"},
		{RedisOptions{URL: "redis://a/x"}, Options{}, "not a number"},
		{RedisOptions{URL: "redis://a,b/1"}, Options{}, "only database 0"},
		{RedisOptions{URL: "redis://a?b=c"}, Options{}, "unknown parameter"},
		{RedisOptions{URL: "redis://u:secret%zz@a"}, Options{}, "written with %XX"},
		{RedisOptions{URL: "redis://" + user + ":secret@" + plain}, Options{}, "wrong user or password"},
		{RedisOptions{URL: "redis://127.0.0.1:1"}, Options{}, "no server answers"},
		{RedisOptions{URL: "rediss://" + plain, CA: ca}, Options{}, "use redis://"},
		{RedisOptions{URL: "rediss://" + encrypted}, Options{}, "certificate is not accepted"},
		{RedisOptions{URL: "redis://" + encrypted}, Options{}, "use rediss://"},
		{RedisOptions{URL: "rediss://" + encrypted, CA: "/does/not/exist"}, Options{}, "authority of the server's certificate"},
		{RedisOptions{URL: "redis://" + node}, Options{}, "node of a Redis Cluster"},
		{RedisOptions{URL: "redis://" + plain + "?cluster=true"}, Options{}, "no Redis Cluster"},
		{RedisOptions{URL: "redis://" + plain}, Options{Owner: "b"}, ErrOwner.Error()},
	} {
		err := open(c.at, c.opts)
		if err == nil || !contains(err, c.want) {
			t.Errorf("%s: %v; it should say %q", c.at.URL, err, c.want)
		}
		if err != nil && contains(err, "secret") {
			t.Errorf("%v tells the password", err)
		}
	}
}
