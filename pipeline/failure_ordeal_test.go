package pipeline_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/window/disk/disktest"
)

// service is the client id of the payment service; a gate's is another one.
const service = "payment-service"

const ordealPartitions = 2

// ordeal is what a gate goes through in one row of the failure table: it meets
// faults, dies, and is followed by another member. It keeps what was sent, and
// what was committed when.
type ordeal struct {
	*liveGate // its way to the broker is the payment service's
	row       *row
	rng       *rand.Rand
	kafka     *kafkaWire
	redis     *redisWire // of the present gate
	redisAddr string
	disk      *badDisk // of the present gate; nil where its disk is a good one
	rules     *badRules
	ahead     atomic.Int64 // of the machine's clock
	members   int          // so many there were
	kill      func()       // as SIGKILL does; a gate with a bad disk, as a loss of power does
	fault     *fault       // at present

	sentSoFar
	heard     heardSoFar
	sightings []sighting
}

// newOrdeal starts a gate on a broker and a store of its own.
func newOrdeal(t *testing.T, r *row) *ordeal {
	t.Helper()
	kafka, addr := startKafka(t)
	o := &ordeal{liveGate: &liveGate{t: t, config: pipeline.DefaultConfig()}, row: r, kafka: kafka, rng: rand.New(rand.NewPCG(1, uint64(len(r.promise)))),
		rules: &badRules{MapFS: ordealRules()}, sentSoFar: newSent()}
	c := &o.config
	c.Kafka.Brokers, c.Kafka.SessionTimeout = []string{addr}, time.Second
	c.Topics.Create, c.Topics.Partitions, c.Topics.Replication = true, ordealPartitions, 1
	c.Sandbox, c.Evidence, c.RulesFS, c.RulesKept = true, "all", []fs.FS{o.rules}, "none"
	c.Notices.PerHour, c.Notices.PerDay = 1000, 1000
	c.Store = "pebble:" + filepath.Join(t.TempDir(), "1")
	if r.redis {
		useRedis(t, c)
		o.redisAddr = strings.TrimPrefix(c.Store, "redis://")
	}
	var err error
	if o.conn, err = broker.Open(broker.Config{Brokers: c.Kafka.Brokers, ClientID: service}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.conn.Close)
	o.start()
	t.Cleanup(func() { o.stop() })
	return o
}

// start starts the next member.
func (o *ordeal) start() {
	o.t.Helper()
	o.members++
	o.config.Kafka.ClientID = fmt.Sprint("gate-", o.members)
	if o.row.redis {
		o.redis = startRedisWire(o.t, o.redisAddr)
		o.config.Store = "redis://" + o.redis.listener.Addr().String()
		o.breaks(o.fault)
	}
	if o.row.disk != "" {
		o.disk = &badDisk{Disk: disktest.New()}
		o.config.StoreFiles = o.disk
		o.breaks(o.fault)
	}
	o.metrics = prometheus.NewRegistry()
	said := &log{to: o.t.Output()}
	gate, err := pipeline.NewService(o.t.Context(), o.config, o.metrics, slog.New(slog.NewTextHandler(said, nil)).With("member", o.members))
	if err != nil {
		o.t.Fatal(err)
	}
	o.liveGate.service = gate
	gate.Gate().SetClock(func() time.Duration { return time.Duration(o.ahead.Load()) })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- gate.Run(ctx) }()
	client, redis, disk, stopped := o.config.Kafka.ClientID, o.redis, o.disk, false
	o.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			o.t.Error(err)
		}
	}
	o.kill = func() {
		stopped = true
		o.kafka.cutOff(client)
		said.mute()
		cancel()
		switch {
		case o.row.redis:
			redis.cutOff()
		case disk == nil:
			o.leaveStore()
		default:
			disk.Off()
			if err := <-done; err != nil { // it was torn down on purpose
				o.t.Logf("as the gate ended: %v", err)
			}
			if err := disk.Lose(rand.New(rand.NewPCG(1, 1))); err != nil {
				o.t.Error(err)
			}
			return
		}
		o.t.Cleanup(func() { // nobody hears what it does now
			if err := <-done; err != nil {
				o.t.Logf("as the gate ended: %v", err)
			}
		})
	}
}

// leaveStore goes on with a copy of the store as the dead member has left it.
func (o *ordeal) leaveStore() {
	o.t.Helper()
	dir := strings.TrimPrefix(o.config.Store, "pebble:")
	next := filepath.Join(filepath.Dir(dir), fmt.Sprint(o.members+1))
	if err := os.CopyFS(next, os.DirFS(dir)); err != nil {
		o.t.Fatal(err)
	}
	o.config.Store = "pebble:" + next
}

// log is where a member writes its log until it is dead.
type log struct {
	mu sync.Mutex
	to io.Writer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(p)
}

func (l *log) mute() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = io.Discard
}

// breaks lets what the row is about fail as f says.
func (o *ordeal) breaks(f *fault) {
	o.fault = f
	o.kafka.breaks(func(key int16, topic string) *fault {
		if o.row.request != nil && o.row.request(key, topic) {
			return f
		}
		return nil
	})
	if o.redis != nil {
		o.redis.breaks(func(command string) *fault {
			if o.row.command != "" && matches(command, o.row.command) {
				return f
			}
			return nil
		})
	}
	if o.disk != nil {
		o.disk.breaks(func(operation string) *fault {
			if operation == o.row.disk {
				return f
			}
			return nil
		})
	}
	if o.row.rules {
		o.rules.breaks(f)
	}
}

// works ends all faults.
func (o *ordeal) works() {
	o.breaks(nil)
	o.ahead.Store(0)
}

// strikes lets what the row is about fail. What is needed to start is broken
// before another member starts.
func (o *ordeal) strikes(f *fault) {
	o.t.Helper()
	if o.row.starting {
		o.kill()
	}
	o.breaks(f)
	if o.row.starting {
		o.start()
	}
	if o.row.acts != nil {
		o.row.acts(o, f.manner)
	}
}

// reloads lets the gate load its rules again.
func (o *ordeal) reloads(m manner) {
	o.t.Helper()
	if err := o.service.Reload(o.t.Context()); (err == nil) != (m == late) {
		o.t.Errorf("rules that %s: %v", m, err)
	}
}

// turns sets the clock of the machine.
func (o *ordeal) turns(m manner) {
	o.ahead.Store(int64(time.Hour))
	if m == backwards {
		o.ahead.Store(-int64(time.Hour))
	}
}

// crowds lets another member join, and the one before die while payments come.
func (o *ordeal) crowds(manner) {
	o.t.Helper()
	killOther := o.kill
	o.start()
	o.trades()
	o.awaits(o.unanswered)
	o.trades()
	killOther()
}

// matches tells whether a command has all words of a pattern.
func matches(command, pattern string) bool {
	for word := range strings.FieldsSeq(pattern) {
		if not, ok := strings.CutPrefix(word, "!"); ok && strings.Contains(command, not) || !ok && !strings.Contains(command, word) {
			return false
		}
	}
	return true
}

// meets waits until a fault has struck so often.
func (o *ordeal) meets(f *fault, times int) {
	o.t.Helper()
	for i := range times {
		select {
		case <-f.hit:
		case <-time.After(patienceOfTests):
			o.t.Fatalf("the gate has asked for it %d times, want %d: the row tests nothing", i, times)
		}
	}
}

// patienceOfTests is how long something may take that must happen.
const patienceOfTests = 60 * time.Second

// awaits waits until nothing is missing.
func (o *ordeal) awaits(missing func() string) {
	o.t.Helper()
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) { // Kafka tells nobody
		o.listen()
		what := missing()
		if what == "" {
			return
		}
		if time.Since(began) > patienceOfTests {
			o.t.Fatal(what)
		}
	}
}

// ordealRules hold some payments, one kind of them for a short time; and one rule
// in the shadow would block them all.
func ordealRules() fstest.MapFS {
	return fstest.MapFS{
		"features/all.yaml": {Data: []byte(`features:
  - {entity: payer, name: events, windows: [1h], value: count}
  - {entity: payer, name: settled, windows: [1h], value: count, where: 'status == "settled"'}
  - {entity: payee, name: spent, windows: [1h], value: sum}
  - {entity: card, name: payers, windows: [1h], value: distinct(payer)}
`)},
		"rules/all.yaml": {Data: []byte(`rules:
  - {id: reviewed, description: held for a review, owner: test, applies_to: {channel: [web]}, when: 'payer.events_1h >= 1', verdict: hold, reason: REVIEWED,
     hold: {needs: review, for: 1h, on_expiry: block}, without_features: hit}
  - {id: forgotten, description: held for a moment, owner: test, applies_to: {channel: [bill]}, when: 'payer.events_1h >= 1', verdict: hold, reason: FORGOTTEN,
     hold: {needs: review, for: 1s, on_expiry: block}, without_features: hit}
  - {id: shade, description: would block everything, owner: test, when: 'payer.events_1h >= 1', verdict: block, reason: SHADE, mode: shadow, without_features: hit}
`)},
	}
}
