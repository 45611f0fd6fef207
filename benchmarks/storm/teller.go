package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// teller says what happens, a line each; on a terminal the last line is how far
// everything is, and is written over.
type teller struct {
	mu       sync.Mutex
	to       io.Writer
	terminal bool
	shown    int // characters of the line that is written over
}

// tellEvery is how often it is said how far everything is.
const tellEvery = 5 * time.Second

func newTeller(to io.Writer) *teller {
	t := &teller{to: to}
	if f, ok := to.(*os.File); ok {
		info, err := f.Stat()
		t.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return t
}

func (t *teller) line(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clear()
	fmt.Fprintf(t.to, format+"\n", args...)
}

// now replaces the last line on a terminal.
func (t *teller) now(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clear()
	text := fmt.Sprintf(format, args...)
	fmt.Fprint(t.to, text)
	if t.terminal {
		t.shown = len(text)
		return
	}
	fmt.Fprintln(t.to)
}

func (t *teller) clear() {
	if t.shown > 0 {
		fmt.Fprintf(t.to, "\r%s\r", strings.Repeat(" ", t.shown))
		t.shown = 0
	}
}
