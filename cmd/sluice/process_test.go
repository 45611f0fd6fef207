package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a running sluice. What it prints is read line by line, so that a
// test can wait for a line instead of a time.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	out    *transcript // standard output
	log    *transcript // standard error
	exited chan struct{}
	killed bool // by the test, on purpose
}

// start runs sluice with settings added to a bare environment. The process is
// killed when the test ends.
func start(t testing.TB, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(binary, args...), out: newTranscript(), log: newTranscript(), exited: make(chan struct{})}
	p.cmd.Env = append(bareEnv(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // the exit status is read from ProcessState
		close(p.exited)
	}()
	t.Cleanup(func() {
		deliberate := p.killed
		p.kill()
		if t.Failed() && !deliberate {
			t.Logf("sluice %s\nstandard output:\n%s\nstandard error:\n%s", strings.Join(args, " "), p.out.tail(40), p.log.tail(60))
		}
	})
	return p
}

// kill ends the process without warning and returns when it is gone.
func (p *process) kill() {
	p.killed = true
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// signal sends a signal and returns the exit status and how long the process
// took to end.
func (p *process) signal(s os.Signal) (status int, took time.Duration) {
	p.t.Helper()
	began := time.Now()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatal(err)
	}
	return p.wait(30 * time.Second), time.Since(began)
}

// drain asks the process to end and fails the test unless it exits 0 in time.
func (p *process) drain(within time.Duration) {
	p.t.Helper()
	if status, took := p.signal(syscall.SIGTERM); status != exitFine || took > within {
		p.t.Fatalf("SIGTERM: exit status %d after %v; want %d within %v", status, took, exitFine, within)
	}
}

// wait returns the exit status.
func (p *process) wait(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(within):
		p.t.Fatalf("the process did not end within %v", within)
	}
	return p.cmd.ProcessState.ExitCode()
}

// says waits for a line of standard error and returns it.
func (p *process) says(part string) string { p.t.Helper(); return p.await(p.log, part, 30*time.Second) }

// prints waits for a line of standard output and returns it.
func (p *process) prints(part string) string {
	p.t.Helper()
	return p.await(p.out, part, 30*time.Second)
}

func (p *process) await(s *transcript, part string, within time.Duration) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-p.exited:
			cancel()
		case <-stop:
		}
	}()
	line, ok := s.await(ctx, part)
	if !ok {
		p.t.Fatalf("no line with %q came within %v", part, within)
	}
	return line
}

// transcript is what a process prints, by lines.
type transcript struct {
	mu      sync.Mutex
	lines   []string
	partial string
	grew    chan struct{} // closed at the next line
}

func newTranscript() *transcript { return &transcript{grew: make(chan struct{})} }

// Write implements io.Writer.
func (s *transcript) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := strings.Split(s.partial+string(b), "\n")
	s.partial = parts[len(parts)-1]
	if len(parts) > 1 {
		s.lines = append(s.lines, parts[:len(parts)-1]...)
		close(s.grew)
		s.grew = make(chan struct{})
	}
	return len(b), nil
}

// await returns the first line that contains part; ok is false if ctx ends before.
func (s *transcript) await(ctx context.Context, part string) (line string, ok bool) {
	for from := 0; ; {
		s.mu.Lock()
		lines, grew := s.lines, s.grew
		s.mu.Unlock()
		for ; from < len(lines); from++ {
			if strings.Contains(lines[from], part) {
				return lines[from], true
			}
		}
		select {
		case <-grew:
		case <-ctx.Done():
			return "", false
		}
	}
}

// count is the number of lines that contain part.
func (s *transcript) count(part string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lines {
		if strings.Contains(l, part) {
			n++
		}
	}
	return n
}

// text is everything so far.
func (s *transcript) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n") + "\n" + s.partial
}

func (s *transcript) tail(n int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines[max(0, len(s.lines)-n):], "\n")
}
