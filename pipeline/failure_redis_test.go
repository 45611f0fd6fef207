package pipeline_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// redisWire is the way of one gate to Redis: it spoils some commands.
type redisWire struct {
	to       string
	listener net.Listener

	mu    sync.Mutex
	spoil func(command string) *fault // which commands; nil: none
	dead  bool
	open  map[net.Conn]bool
}

func startRedisWire(t testing.TB, to string) *redisWire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &redisWire{to: to, listener: l, open: map[net.Conn]bool{}}
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
		w.cutOff()
	})
	return w
}

func (w *redisWire) breaks(which func(command string) *fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spoil = which
}

// cutOff lets nothing through any more.
func (w *redisWire) cutOff() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead = true
	for c := range w.open {
		_ = c.Close()
	}
}

// judge returns what is wrong with a command, if anything is.
func (w *redisWire) judge(command string) *fault {
	w.mu.Lock()
	spoil := w.spoil
	w.mu.Unlock()
	if spoil == nil {
		return nil
	}
	if f := spoil(command); f.strikes() {
		return f
	}
	return nil
}

// lastWords is how long a server may take for what it was told before its answers
// are cut off.
const lastWords = 30 * time.Millisecond

func (w *redisWire) carry(client net.Conn) {
	server, err := net.Dial("tcp", w.to)
	if err != nil {
		_ = client.Close()
		return
	}
	w.mu.Lock()
	w.open[client], w.open[server] = true, true
	dead := w.dead
	w.mu.Unlock()
	hangUp := func() {
		_, _ = client.Close(), server.Close()
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.open, client)
		delete(w.open, server)
	}
	if dead {
		hangUp()
		return
	}
	var mu sync.Mutex // guards the next two
	lost := false     // the answers are
	var until time.Time
	go func() {
		defer hangUp()
		r := bufio.NewReaderSize(client, 64<<10)
		for {
			raw, command, err := readCommand(r)
			if err != nil {
				return
			}
			if f := w.judge(command); f != nil {
				mu.Lock()
				switch f.manner {
				case before:
					mu.Unlock()
					return
				case after:
					if !lost {
						time.AfterFunc(lastWords, hangUp)
					}
					lost = true
				default:
					until = time.Now().Add(f.delay)
				}
				mu.Unlock()
			}
			if _, err := server.Write(raw); err != nil {
				return
			}
		}
	}()
	defer hangUp()
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		mu.Lock()
		silent, pause := lost, time.Until(until)
		mu.Unlock()
		if pause > 0 {
			time.Sleep(pause)
		}
		if silent {
			continue
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

// readCommand reads one command, and says it in one line of lower case: its name
// and arguments, long ones cut.
func readCommand(r *bufio.Reader) (raw []byte, command string, err error) {
	var whole bytes.Buffer
	number := func(kind byte) (int, error) {
		line, err := r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		whole.WriteString(line)
		if line[0] != kind {
			return 0, fmt.Errorf("%q is no command", line)
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := number('*')
	if err != nil {
		return nil, "", err
	}
	var words []string
	for range n {
		size, err := number('$')
		if err != nil {
			return nil, "", err
		}
		word := make([]byte, size+2)
		if _, err := io.ReadFull(r, word); err != nil {
			return nil, "", err
		}
		whole.Write(word)
		words = append(words, string(word[:min(size, 100)]))
	}
	return whole.Bytes(), strings.ToLower(strings.Join(words, " ")), nil
}
