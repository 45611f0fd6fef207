// Package parts starts what a storm breaks: brokers, a Redis and members as
// processes, and the links between them, each on a loopback port of its own.
package parts

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Process is a program that can be killed, frozen and started again. Its methods
// may be called from many goroutines.
type Process struct {
	Name    string
	Dir     string   // where it runs; it logs to log in there, each run behind the one before
	Command []string // the program and its arguments
	Env     []string // all of its environment

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{} // closed when the present run has ended
}

// Start runs the program. It is killed with this process.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil && !ended(p.exited) {
		return fmt.Errorf("%s runs already", p.Name)
	}
	if err := os.MkdirAll(p.Dir, 0o755); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(p.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the program has it by then
	cmd := exec.Command(p.Command[0], p.Command[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = p.Dir, p.Env, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	exited := make(chan struct{})
	p.cmd, p.exited = cmd, exited
	go func() {
		_ = cmd.Wait() // the status is read from ProcessState
		close(exited)
	}()
	return nil
}

func ended(exited chan struct{}) bool {
	select {
	case <-exited:
		return true
	default:
		return false
	}
}

// Exited is closed when the present run has ended; a process that was never
// started has ended.
func (p *Process) Exited() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exited == nil {
		p.exited = make(chan struct{})
		close(p.exited)
	}
	return p.exited
}

// Signal sends a signal; to a process that has ended, none.
func (p *Process) Signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil
	}
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	return nil
}

// Kill ends the process without warning and returns when it is gone.
func (p *Process) Kill() error {
	err := p.Signal(syscall.SIGKILL)
	<-p.Exited()
	return err
}

// Stop asks the process to end, and returns what it ended with. One that has not
// ended within the time is killed, and that is an error.
func (p *Process) Stop(within time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.Exited():
	case <-time.After(within):
		return errors.Join(fmt.Errorf("%s did not end within %v of SIGTERM", p.Name, within), p.Kill())
	}
	if code := p.ExitCode(); code != 0 {
		return fmt.Errorf("%s ended with status %d; its log is %s", p.Name, code, filepath.Join(p.Dir, "log"))
	}
	return nil
}

// ExitCode is the status of the run that has ended: -1 where a signal ended it.
func (p *Process) ExitCode() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || p.cmd.ProcessState == nil {
		return -1
	}
	return p.cmd.ProcessState.ExitCode()
}

// PID is the number of the present or last run, 0 of none.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// freePorts returns loopback ports that nobody listens on, below those that the
// kernel hands to clients: a server that is down must find its port free.
func freePorts(n int) ([]int, error) {
	const lowest, many = 12000, 20000
	var ports []int
	taken := map[int]bool{}
	for tries := 0; len(ports) < n; tries++ {
		if tries > 1000+n {
			return nil, errors.New("no free ports")
		}
		port := lowest + rand.IntN(many)
		l, err := net.Listen("tcp", address(port))
		if err != nil || taken[port] {
			if err == nil {
				_ = l.Close()
			}
			continue
		}
		if err := l.Close(); err != nil {
			return nil, err
		}
		taken[port], ports = true, append(ports, port)
	}
	return ports, nil
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
