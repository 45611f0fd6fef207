package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sluice-risk/sluice/benchmarks/storm/parts"
)

// member is one that is started again whenever it ends, as an orchestrator would.
type member struct {
	*parts.Process
	redis   *parts.Link
	brokers []*parts.Link

	mu      sync.Mutex
	down    bool  // on purpose: it is started again by whoever took it down
	logged  int64 // bytes of its log before the present run
	gaveUp  []giveUp
	refused int // runs that ended by themselves before they decided anything
}

// giveUp is an end that nobody asked for.
type giveUp struct {
	at   time.Time
	last string // line of its log
}

// restartAfter is how long a member that has ended is left alone.
const restartAfter = 500 * time.Millisecond

// start runs the member and keeps it running until stop is closed.
func (m *member) start(stop <-chan struct{}) error {
	if err := m.begin(); err != nil {
		return err
	}
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-m.Exited():
			}
			m.ended()
			select {
			case <-stop:
				return
			case <-time.After(restartAfter):
			}
			m.restart()
		}
	}()
	return nil
}

// restart starts a member that has ended, unless it is down on purpose.
func (m *member) restart() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return
	}
	select {
	case <-m.Exited():
	default:
		return // it was started again meanwhile
	}
	if err := m.begin(); err != nil {
		m.gaveUp = append(m.gaveUp, giveUp{time.Now(), err.Error()})
	}
}

// begin runs the member. Its caller holds mu, or is the only one who knows it.
func (m *member) begin() error {
	if info, err := os.Stat(filepath.Join(m.Dir, "log")); err == nil {
		m.logged = info.Size()
	}
	return m.Start()
}

// run is what the present or last run has logged.
func (m *member) run() []byte {
	log, err := os.ReadFile(filepath.Join(m.Dir, "log"))
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil || int64(len(log)) < m.logged {
		return nil
	}
	return log[m.logged:]
}

// deciding tells whether the present run has decided.
func (m *member) deciding() bool { return bytes.Contains(m.run(), []byte("msg=deciding")) }

// ended notes that the member has ended by itself, if it has: one that ended before
// it was to be taken down counts as well.
func (m *member) ended() {
	log := m.run()
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.down:
	case !bytes.Contains(log, []byte("msg=deciding")):
		m.refused++
	default:
		m.gaveUp = append(m.gaveUp, giveUp{time.Now(), lastWords(log)})
	}
}

// lastWords is what a log says of why its process ended: where it panicked, or
// else its last line.
func lastWords(log []byte) string {
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "panic: ") || strings.HasPrefix(l, "fatal error: ") {
			return strings.Join(lines[i:min(len(lines), i+12)], " ")
		}
	}
	return lines[len(lines)-1]
}

// kill ends the member without warning; it stays down until revive.
func (m *member) kill() error {
	m.setDown(true)
	return m.Kill()
}

func (m *member) revive() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = false
	return m.begin()
}

// leave stops the member for good, as an operator would.
func (m *member) leave() error {
	m.setDown(true)
	return m.Stop(time.Minute)
}

func (m *member) setDown(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}
