package main

import (
	"bytes"
	"fmt"
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
			m.mu.Lock()
			down := m.down
			m.mu.Unlock()
			if !down {
				m.ended()
			}
			select {
			case <-stop:
				return
			case <-time.After(restartAfter):
			}
			if !down {
				if err := m.begin(); err != nil {
					m.mu.Lock()
					m.gaveUp = append(m.gaveUp, giveUp{time.Now(), err.Error()})
					m.mu.Unlock()
				}
			}
		}
	}()
	return nil
}

func (m *member) begin() error {
	m.mu.Lock()
	if info, err := os.Stat(filepath.Join(m.Dir, "log")); err == nil {
		m.logged = info.Size()
	}
	m.mu.Unlock()
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

// ended notes that the member has ended by itself.
func (m *member) ended() {
	log := m.run()
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	m.mu.Lock()
	defer m.mu.Unlock()
	if !bytes.Contains(log, []byte("msg=deciding")) {
		m.refused++
		return
	}
	m.gaveUp = append(m.gaveUp, giveUp{time.Now(), lines[len(lines)-1]})
}

// kill ends the member without warning; it stays down until revive.
func (m *member) kill() error {
	m.mu.Lock()
	m.down = true
	m.mu.Unlock()
	return m.Kill()
}

func (m *member) revive() error {
	err := m.begin()
	m.mu.Lock()
	m.down = false
	m.mu.Unlock()
	return err
}

// leave stops the member for good, as an operator would.
func (m *member) leave() error {
	m.mu.Lock()
	m.down = true
	m.mu.Unlock()
	return m.Stop(time.Minute)
}

func (m *member) String() string { return fmt.Sprintf("member %s", m.Name) }
