package pipeline_test

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// manner is how a request to a dependency fails.
type manner string

const (
	before manner = "fails before its effect" // it never arrives
	after  manner = "fails after its effect"  // it is carried out, and the answer is lost
	late   manner = "answers late"            // it is carried out, and the answer comes after a while

	forwards  manner = "is set forwards" // of a clock
	backwards manner = "is set backwards"
)

// fault is what is wrong with a dependency, and for how many requests.
type fault struct {
	manner manner
	delay  time.Duration // of an answer that is late
	hit    chan struct{} // gets one for each request that it has spoiled

	mu   sync.Mutex
	left int // so many requests are spoiled yet; -1: all
}

// newFault is a fault that spoils so many requests, -1 for all.
func newFault(m manner, times int, delay time.Duration) *fault {
	return &fault{manner: m, left: times, delay: delay, hit: make(chan struct{}, 10_000)}
}

// strikes tells whether the next request is spoiled.
func (f *fault) strikes() bool {
	if f == nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left == 0 {
		return false
	}
	if f.left > 0 {
		f.left--
	}
	select {
	case f.hit <- struct{}{}:
	default:
	}
	return true
}

// kafkaWire is the way to an embedded broker: it spoils some requests of gates,
// and cuts a gate off that has died. Clients that are no gates go unharmed.
type kafkaWire struct {
	over chan struct{} // closed when the test ends

	mu    sync.Mutex
	spoil func(key int16, topic string) *fault // which requests; nil: none
	dead  map[string]bool                      // by client id
	open  map[*kafkaConn]bool
}

// startKafka starts a broker behind a wire.
func startKafka(t testing.TB) (*kafkaWire, string) {
	t.Helper()
	w := &kafkaWire{over: make(chan struct{}), dead: map[string]bool{}, open: map[*kafkaConn]bool{}}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond), kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		return kafkaListener{l, w}, err
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(w.over)
		cluster.Close()
	})
	return w, cluster.ListenAddrs()[0]
}

// breaks lets requests be spoiled that which names; nil ends it.
func (w *kafkaWire) breaks(which func(key int16, topic string) *fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spoil = which
}

// cutOff lets nothing of a client through any more. What it has sent is carried out.
func (w *kafkaWire) cutOff(client string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead[client] = true
	for c := range w.open {
		if c.client == client {
			_ = c.Conn.Close()
		}
	}
}

type kafkaListener struct {
	net.Listener
	wire *kafkaWire
}

func (l kafkaListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	k := &kafkaConn{Conn: c, wire: l.wire, spoiled: map[int32]*fault{}}
	l.wire.mu.Lock()
	l.wire.open[k] = true
	l.wire.mu.Unlock()
	return k, nil
}

// kafkaConn is a connection as the broker has it. The broker takes one request
// after the other from it, and writes each answer with one call.
type kafkaConn struct {
	net.Conn
	wire   *kafkaWire
	client string // its id; guarded by wire.mu
	rest   []byte // of the request that the broker is reading

	mu      sync.Mutex
	spoiled map[int32]*fault // answers, by correlation id
}

func (c *kafkaConn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// next reads a request.
func (c *kafkaConn) next() error {
	var size [4]byte
	if _, err := io.ReadFull(c.Conn, size[:]); err != nil {
		return c.ended(err)
	}
	c.rest = append(size[:], make([]byte, binary.BigEndian.Uint32(size[:]))...)
	if _, err := io.ReadFull(c.Conn, c.rest[4:]); err != nil {
		return c.ended(err)
	}
	key, topic, client, correlation := readRequest(c.rest[4:])
	c.wire.mu.Lock()
	c.client = client
	dead, spoil := c.wire.dead[client], c.wire.spoil
	c.wire.mu.Unlock()
	if dead {
		_, _ = c.Conn.Write([]byte{21, 3, 3, 0, 2}) // an alert of TLS: it must not try again for long
		return net.ErrClosed
	}
	if spoil == nil || client == service {
		return nil
	}
	f := spoil(key, topic)
	if !f.strikes() {
		return nil
	}
	if f.manner == before {
		return net.ErrClosed
	}
	c.mu.Lock()
	c.spoiled[correlation] = f
	c.mu.Unlock()
	return nil
}

// ended hides from the broker that a dead client's connection is gone: the embedded
// one never ends the session of a member that it could not tell of its joining.
func (c *kafkaConn) ended(err error) error {
	if c.isDead() {
		<-c.wire.over
	}
	return err
}

func (c *kafkaConn) isDead() bool {
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	return c.wire.dead[c.client]
}

func (c *kafkaConn) Write(p []byte) (int, error) {
	if c.isDead() {
		return len(p), nil
	}
	correlation := int32(binary.BigEndian.Uint32(p[4:]))
	c.mu.Lock()
	f := c.spoiled[correlation]
	delete(c.spoiled, correlation)
	c.mu.Unlock()
	switch {
	case f == nil:
	case f.manner == after:
		_ = c.Conn.Close()
		return 0, net.ErrClosed
	default:
		select {
		case <-time.After(f.delay):
		case <-c.wire.over:
		}
	}
	return c.Conn.Write(p)
}

func (c *kafkaConn) Close() error {
	c.wire.mu.Lock()
	delete(c.wire.open, c)
	c.wire.mu.Unlock()
	return c.Conn.Close()
}

// readRequest reads what tells one request from another; topic is the first that a
// fetch or produce names.
func readRequest(request []byte) (key int16, topic, client string, correlation int32) {
	r := kbin.Reader{Src: request}
	key, version := r.Int16(), r.Int16()
	correlation = r.Int32()
	if id := r.NullableString(); id != nil {
		client = *id
	}
	parsed := kmsg.RequestForKey(key)
	if parsed == nil {
		return key, "", client, correlation
	}
	parsed.SetVersion(version)
	if parsed.IsFlexible() {
		kmsg.SkipTags(&r)
	}
	if parsed.ReadFrom(r.Src) != nil {
		return key, "", client, correlation
	}
	switch q := parsed.(type) {
	case *kmsg.FetchRequest:
		topic = q.Topics[0].Topic
	case *kmsg.ProduceRequest:
		topic = q.Topics[0].Topic
	}
	return key, topic, client, correlation
}
