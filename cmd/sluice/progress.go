package main

import (
	"fmt"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"
)

// progress is a bar on a terminal, and a line every few seconds elsewhere.
type progress struct {
	bar  *progressbar.ProgressBar
	what string
	unit string // of the lines
	per  int64  // what is counted makes one unit
	size int64
	last time.Time
}

// newProgress counts bytes; size is -1 where nobody knows it.
func newProgress(size int64, what string) *progress {
	return progressOf(size, what, "MB", 1<<20, progressbar.OptionShowBytes(true))
}

// newCount counts things.
func newCount(size int, what, things string) *progress {
	return progressOf(int64(size), what, things, 1, progressbar.OptionShowCount())
}

func progressOf(size int64, what, unit string, per int64, shown progressbar.Option) *progress {
	p := &progress{what: what, unit: unit, per: per, size: size, last: time.Now()}
	if isatty.IsTerminal(os.Stderr.Fd()) {
		p.bar = progressbar.NewOptions64(size, progressbar.OptionSetDescription(what), progressbar.OptionSetWriter(os.Stderr),
			shown, progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
	}
	return p
}

func (p *progress) set(done int64) {
	if p.bar != nil {
		_ = p.bar.Set64(done)
		return
	}
	if time.Since(p.last) > 5*time.Second {
		p.last = time.Now()
		fmt.Fprintf(os.Stderr, "%s: %d", p.what, done/p.per)
		if p.size > 0 {
			fmt.Fprintf(os.Stderr, " of %d", p.size/p.per)
		}
		fmt.Fprintln(os.Stderr, "", p.unit)
	}
}

func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}
