package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// ownRedis is a server of one test alone, which may be frozen, killed and emptied.
type ownRedis struct {
	t    testing.TB
	addr string
	dir  string
	cmd  *exec.Cmd
}

// startRedis starts a server that has everything on its disk before it answers.
func startRedis(t testing.TB) *ownRedis {
	t.Helper()
	fromEnv(t, "SLUICE_TEST_REDIS") // where there is one, the program is installed
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &ownRedis{t: t, addr: l.Addr().String(), dir: t.TempDir()}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s.start()
	t.Cleanup(func() { s.kill() })
	return s
}

func (s *ownRedis) start() {
	s.t.Helper()
	_, port, _ := net.SplitHostPort(s.addr)
	s.cmd = exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", s.dir, "--save", "", "--appendonly", "yes", "--appendfsync", "always")
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: s.addr, MaxRetries: 200, MaxRetryBackoff: 50 * time.Millisecond})
	defer func() { _ = client.Close() }()
	if err := client.Ping(s.t.Context()).Err(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *ownRedis) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// empty takes what a dead server had.
func (s *ownRedis) empty() {
	s.t.Helper()
	if err := os.RemoveAll(filepath.Join(s.dir, "appendonlydir")); err != nil {
		s.t.Fatal(err)
	}
}

func (s *ownRedis) signal(which os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(which); err != nil {
		s.t.Fatal(err)
	}
}

// do sends it a command, past the wire.
func (s *ownRedis) do(args ...any) {
	s.t.Helper()
	client := redis.NewClient(&redis.Options{Addr: s.addr})
	defer func() { _ = client.Close() }()
	if err := client.Do(s.t.Context(), args...).Err(); err != nil {
		s.t.Fatalf("%v: %v", args, err)
	}
}

// wireState is what a wire does with what goes over it.
type wireState uint8

const (
	wireCarries wireState = iota
	wireCut               // connections end, and new ones are ended at once
	wireSilent            // the server has everything, and the client no answer
	wireDelays            // answers come later
	wireLies              // every answer is an error that no server gives
)

// wireDelay is how much later the answers come.
const wireDelay = 80 * time.Millisecond

// wire is a way to a server, which can be cut and delayed.
type wire struct {
	to       string
	listener net.Listener

	mu    sync.Mutex
	state wireState
	asked int // reads of what the client sends, and connections
	open  map[net.Conn]bool
}

func startWire(t testing.TB, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{to: to, listener: l, open: map[net.Conn]bool{}}
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
		w.cutAll()
	})
	return w
}

func (w *wire) addr() string { return w.listener.Addr().String() }

// set changes what the wire does from now on.
func (w *wire) set(s wireState) {
	w.mu.Lock()
	w.state = s
	w.mu.Unlock()
	if s == wireCut {
		w.cutAll()
	}
}

func (w *wire) cutAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.open {
		_ = c.Close()
	}
	clear(w.open)
}

// note counts a request, and returns what the wire does.
func (w *wire) note(n int) wireState {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked += n
	return w.state
}

func (w *wire) asks() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked
}

func (w *wire) carry(client net.Conn) {
	defer func() { _ = client.Close() }()
	if w.note(1) == wireCut {
		return
	}
	server, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	w.mu.Lock()
	w.open[client], w.open[server] = true, true
	w.mu.Unlock()
	go func() {
		defer func() { _ = server.Close() }()
		buf := make([]byte, 64<<10)
		for {
			n, err := client.Read(buf)
			if err != nil {
				return
			}
			w.note(1)
			if _, err := server.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		answer := buf[:n]
		switch w.note(0) {
		case wireSilent:
			continue
		case wireDelays:
			time.Sleep(wireDelay)
		case wireLies:
			answer = []byte("$-7\r\n!!\r\n")
		}
		if _, err := client.Write(answer); err != nil {
			return
		}
	}
}
