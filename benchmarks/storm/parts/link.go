package parts

import (
	"net"
	"sync"
	"time"
)

// Link is a way to a server that can be cut, made slow or silent. Its methods may
// be called from many goroutines.
type Link struct {
	to       string
	listener net.Listener

	mu      sync.Mutex
	open    map[net.Conn]bool
	cut     bool          // connections end at once
	delay   time.Duration // of everything, each way
	silent  chan struct{} // nothing passes until it is closed; nil: it passes
	changed chan struct{} // closed when the link ends
}

// NewLink listens on a loopback port, 0 for any, and connects to a server.
func NewLink(port int, to string) (*Link, error) {
	l, err := net.Listen("tcp", address(port))
	if err != nil {
		return nil, err
	}
	k := &Link{to: to, listener: l, open: map[net.Conn]bool{}, changed: make(chan struct{})}
	go k.accept()
	return k, nil
}

// Addr is where the link listens.
func (k *Link) Addr() string { return k.listener.Addr().String() }

// Close ends the link and its connections.
func (k *Link) Close() {
	_ = k.listener.Close()
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case <-k.changed:
	default:
		close(k.changed)
	}
	k.endAll()
}

// Cut ends all connections; new ones end at once.
func (k *Link) Cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut = true
	k.endAll()
}

// Delay holds back everything, each way, for so long, and keeps its order.
func (k *Link) Delay(d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.delay = d
}

// Silence lets nothing pass until Heal, and then all of it: connections stay, and
// nobody is told.
func (k *Link) Silence() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.silent == nil {
		k.silent = make(chan struct{})
	}
}

// Heal makes the link an ordinary one again.
func (k *Link) Heal() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut, k.delay = false, 0
	if k.silent != nil {
		close(k.silent)
		k.silent = nil
	}
}

func (k *Link) endAll() {
	for c := range k.open {
		_ = c.Close()
	}
}

func (k *Link) accept() {
	for {
		client, err := k.listener.Accept()
		if err != nil {
			return // closed
		}
		go k.connect(client)
	}
}

// connect carries one connection until either side ends.
func (k *Link) connect(client net.Conn) {
	if !k.pass() {
		_ = client.Close()
		return
	}
	server, err := net.Dial("tcp", k.to)
	if err != nil {
		_ = client.Close()
		return
	}
	k.mu.Lock()
	k.open[client], k.open[server] = true, true
	cut := k.cut
	k.mu.Unlock()
	end := func() {
		_, _ = client.Close(), server.Close()
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.open, client)
		delete(k.open, server)
	}
	if cut {
		end()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { k.carry(server, client); end() })
	both.Go(func() { k.carry(client, server); end() })
	both.Wait()
}

// pass waits until the link is not silent; ok is false if it is cut or closed.
func (k *Link) pass() (ok bool) {
	for {
		k.mu.Lock()
		silent, cut := k.silent, k.cut
		k.mu.Unlock()
		if silent == nil {
			return !cut
		}
		select {
		case <-silent:
		case <-k.changed:
			return false
		}
	}
}

// carry copies one way. What was read waits in a queue for its time, so that a
// delay is one of distance: it does not make the link narrow.
func (k *Link) carry(to, from net.Conn) {
	type parcel struct {
		bytes []byte
		due   time.Time
	}
	queue := make(chan parcel, 256)
	go func() {
		defer close(queue)
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			k.mu.Lock()
			due := time.Now().Add(k.delay)
			k.mu.Unlock()
			queue <- parcel{append([]byte(nil), buf[:n]...), due}
		}
	}()
	failed := false
	for p := range queue {
		if failed {
			continue // until the reader has noticed
		}
		if wait := time.Until(p.due); wait > 0 {
			time.Sleep(wait)
		}
		if !k.pass() {
			failed = true
		} else if _, err := to.Write(p.bytes); err != nil {
			failed = true
		}
		if failed {
			_ = from.Close()
		}
	}
}
