package window

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// ownRedis is a server of this test alone, which may be killed and counted.
type ownRedis struct {
	addr    string
	dir     string
	command *exec.Cmd
	args    []string // besides
	t       testing.TB
}

// startRedis starts a server on a free port. Without the program the test is
// skipped; with CI set, it fails.
func startRedis(t testing.TB, args ...string) *ownRedis {
	t.Helper()
	part(t, "SLUICE_TEST_REDIS") // where there is one, the program is installed
	s := &ownRedis{addr: net.JoinHostPort("127.0.0.1", freePort(t)), dir: t.TempDir(), args: args, t: t}
	s.start()
	t.Cleanup(s.kill)
	return s
}

// freePort is a port on which nobody listens.
func freePort(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return port
}

func (s *ownRedis) start() {
	s.t.Helper()
	_, port, _ := net.SplitHostPort(s.addr)
	s.command = exec.Command("redis-server", append([]string{"--bind", "127.0.0.1", "--port", port, "--dir", s.dir, "--save", "", "--daemonize", "no"}, s.args...)...)
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	s.command.Stdout = log
	if err := s.command.Start(); err != nil {
		s.t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: s.addr, MaxRetries: 200, MaxRetryBackoff: 50 * time.Millisecond})
	defer func() { _ = client.Close() }()
	if err := client.Ping(s.t.Context()).Err(); err != nil {
		s.t.Fatal(err)
	}
}

// signal freezes and wakes the server.
func (s *ownRedis) signal(which os.Signal) {
	s.t.Helper()
	if err := s.command.Process.Signal(which); err != nil {
		s.t.Error(err)
	}
}

// do sends it a command, past the store.
func (s *ownRedis) do(args ...any) {
	s.t.Helper()
	client := redis.NewClient(&redis.Options{Addr: s.addr})
	defer func() { _ = client.Close() }()
	if err := client.Do(s.t.Context(), args...).Err(); err != nil {
		s.t.Fatalf("%v: %v", args, err)
	}
}

func (s *ownRedis) kill() {
	if err := s.command.Process.Kill(); err != nil {
		s.t.Error(err)
	}
	_ = s.command.Wait()
}

// calls is how often each command was called, by the server's own count.
func (s *ownRedis) calls(client redis.UniversalClient) map[string]int {
	s.t.Helper()
	text, err := client.Info(s.t.Context(), "commandstats").Result()
	if err != nil {
		s.t.Fatal(err)
	}
	calls := map[string]int{}
	for name, value := range infoOf(text) {
		n, _, _ := strings.Cut(strings.TrimPrefix(value, "calls="), ",")
		calls[strings.TrimPrefix(name, "cmdstat_")], err = strconv.Atoi(n)
		if err != nil {
			s.t.Fatal(err)
		}
	}
	return calls
}

// trips counts round trips.
type trips struct{ n int }

func (c *trips) DialHook(next redis.DialHook) redis.DialHook { return next }
func (c *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.n++
		return next(ctx, cmd)
	}
}
func (c *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.n++
		return next(ctx, cmds)
	}
}

// A micro-batch is one APPEND for each entity that it touches, and two round
// trips; three when another member has written to the same entities, and one more
// where entities are not in memory.
func TestAMicroBatchIsOneAppendAnEntityAndTwoRoundTrips(t *testing.T) {
	server := startRedis(t)
	var features []Feature
	for _, name := range []string{"payer", "payee", "card", "device", "ip"} {
		e, _ := ParseEntity(name)
		features = append(features, countOf(e, time.Hour))
	}
	open := func() (*Redis, *trips) {
		s, err := OpenRedis(t.Context(), RedisOptions{URL: "redis://" + server.addr}, Options{Features: features})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		count := &trips{}
		s.client.AddHook(count)
		return s, count
	}
	clock := payment.Time(1_800_000_000e9)
	batch := func(name string) (items []*Item) {
		for i := range 100 { // 100 payers, 10 payees, 100 cards, 20 devices, 5 ips
			clock += payment.Time(time.Millisecond)
			tx := &payment.Transaction{ID: fmt.Sprint(name, i), Type: payment.TypePayment, EventTime: clock}
			tx.Payer.AccountID, tx.Payee.AccountID = fmt.Sprint("p", i), fmt.Sprint("m", i%10)
			tx.Instrument.Kind, tx.Instrument.Token = "card", fmt.Sprint("c", i)
			tx.Device.ID = fmt.Sprint("d", i%20)
			tx.Device.IP = fmt.Sprint("10.0.0.", i%5)
			tx.Device.Addr = mustAddr(tx.Device.IP)
			items = append(items, &Item{Tx: tx, KafkaTime: clock})
		}
		return items
	}
	const entities = 100 + 10 + 100 + 20 + 5
	one, oneTrips := open()
	other, _ := open()
	check := func(name string, s *Redis, count *trips, appends, getranges, roundTrips int) {
		t.Helper()
		s.kinds.at = time.Now() // not to ask for the kinds just now, which it does once a second
		s.asked = time.Now()
		before := server.calls(other.client)
		count.n = 0
		if err := s.Append(t.Context(), batch(name)); err != nil {
			t.Fatal(err)
		}
		n := count.n
		after := server.calls(other.client)
		for command, want := range map[string]int{"append": appends, "getrange": getranges, "set": 100} {
			if got := after[command] - before[command]; got != want {
				t.Errorf("%s: %d %s, not %d", name, got, command, want)
			}
		}
		if n != roundTrips {
			t.Errorf("%s: %d round trips, not %d", name, n, roundTrips)
		}
	}
	check("never seen", one, oneTrips, entities, entities, 3)
	check("in memory", one, oneTrips, entities, 0, 2)
	check("once more", one, oneTrips, entities, 0, 2)
	if err := other.Append(t.Context(), batch("another member")); err != nil {
		t.Fatal(err)
	}
	check("after another member", one, oneTrips, entities, entities, 3)
	check("alone again", one, oneTrips, entities, 0, 2)
}

// A server that comes back without its data is noticed: what was folded from it
// is dropped, and values are those of the logs that are there.
func TestAReplacedServerIsNoticed(t *testing.T) {
	server := startRedis(t)
	s, err := OpenRedis(t.Context(), RedisOptions{URL: "redis://" + server.addr}, Options{Owner: "me", Features: []Feature{countOf(payer, time.Hour)}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	at := payment.Time(1_800_000_000e9)
	appended(t, s, paying("a", "p", at, 1))
	if it := appended(t, s, paying("b", "p", at+1, 1)); it.Values[0].Int() != 2 {
		t.Fatalf("before: %v", asJSON(it.Values[0]))
	}
	server.kill()
	if err := s.Append(t.Context(), []*Item{paying("c", "p", at+2, 1)}); err == nil {
		t.Fatal("a payment was appended to a server that is gone")
	}
	server.start()
	comeBack(s)
	if it := appended(t, s, paying("c", "p", at+2, 1)); it.Values[0].Int() != 1 {
		t.Errorf("after the loss %v payments are in the log", asJSON(it.Values[0]))
	}
	if s.Lost() != 1 {
		t.Errorf("%d losses were counted", s.Lost())
	}
	again, err := OpenRedis(t.Context(), RedisOptions{URL: "redis://" + server.addr}, Options{Owner: "me", Features: []Feature{countOf(payer, time.Hour)}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	if again.Key() != s.Key() {
		t.Error("the store has another key now")
	}
	if it := appended(t, again, paying("d", "p", at+3, 1)); it.Values[0].Int() != 2 {
		t.Errorf("another member counts %v", asJSON(it.Values[0]))
	}
}
