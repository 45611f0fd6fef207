package pipeline

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// After an outage partitions are read at different speeds, and the verdict on a
// payment would be made before earlier ones of the same payee are known that
// stand in a partition further back. So the folders of lanes take records in
// slices of event time: a folder notes those of a slice in the logs, waits until
// every other partition has noted its own, and only then looks at the windows.
// What waits has its answer already; the fronts of lanes never do.
//
// A partition that is read to its end is infinitely far, and so is a lane that
// waits for another; the owner of one that says nothing is waited for only up to
// a bound. Progress is shared by the lanes of a process in memory and by the
// members of a group in the store.
type pace struct {
	partitions int           // of payments.transactions
	slice      time.Duration // of event time
	patience   time.Duration // with an owner who says nothing
	behindBy   time.Duration // from so far back on a lane is behind
	now        func() payment.Time
	shared     Shared // nil where one process owns all partitions
	began      time.Time
	over       <-chan struct{} // closed when the generation has ended: the others have stopped, too

	mu     sync.Mutex
	local  map[int]*progress
	remote map[int]window.Progress
	asked  time.Time     // when remote was read
	moved  chan struct{} // closed when local progress changes
	news   chan struct{} // of capacity 1: some progress is untold
	behind bool
}

// progress is how far a partition is.
type progress struct {
	noted    payment.Time // everything before it is in the logs
	caughtUp bool
	deferred bool // its folder is at work: what the front says does not count
	folding  bool // and has noted something
	untold   bool // the other members do not know
}

const farAhead = payment.Time(math.MaxInt64)

// Shared is a store that several members use.
type Shared interface {
	window.Store
	// First makes each decision the first of its transaction, unless there is one:
	// then winners[i] is that one.
	First(ctx context.Context, hashes []window.TxHash, decisions [][]byte) (winners [][]byte, err error)
	// Stand makes each decision the first of its transaction, whatever was there:
	// it stands on the topic.
	Stand(ctx context.Context, hashes []window.TxHash, decisions [][]byte) error
	// SetProgress and Progress tell members of each other's partitions.
	SetProgress(ctx context.Context, partition int, p window.Progress) error
	Progress(ctx context.Context) (map[int]window.Progress, error)
}

func newPace(partitions int, c *WindowConfig, patience time.Duration, now func() payment.Time, shared Shared) *pace {
	return &pace{partitions: partitions, slice: c.Slice, behindBy: c.Behind, patience: patience, now: now, shared: shared,
		began: time.Now(), local: map[int]*progress{}, moved: make(chan struct{}), news: make(chan struct{}, 1)}
}

// join makes a partition one whose progress counts. Until it says otherwise it
// has noted nothing.
func (p *pace) join(partition int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.local[partition] = &progress{noted: math.MinInt64}
}

// sliceEnd is the end of the slice of an event time.
func (p *pace) sliceEnd(t payment.Time) payment.Time {
	s := payment.Time(p.slice)
	return (t/s + 1) * s
}

// noted says that the front of a partition has noted everything before a time;
// caught up, it has read all there is. It does not count while its folder is at work.
func (p *pace) noted(partition int, t payment.Time, caughtUp bool) {
	p.set(partition, func(l *progress) {
		if !l.deferred {
			l.noted, l.caughtUp = t, caughtUp
		}
	})
}

// deferTo says that something is left to the folder of a partition, with event
// times from one on. Once the folder has begun, it alone says how far it is: an
// older payment that comes later in the partition must not set it back while it
// waits for the others, who would then wait for it.
func (p *pace) deferTo(partition int, t payment.Time) {
	p.set(partition, func(l *progress) {
		if !l.deferred {
			l.noted = t
		}
		if !l.folding {
			l.noted = min(l.noted, t)
		}
		l.caughtUp, l.deferred = false, true
	})
}

// isDeferred tells whether something is left to the folder of a partition.
func (p *pace) isDeferred(partition int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.local[partition]
	return l != nil && l.deferred
}

// folded says that the folder of a partition has noted everything before a time,
// and goes on.
func (p *pace) folded(partition int, t payment.Time) {
	p.set(partition, func(l *progress) { l.noted, l.caughtUp, l.deferred, l.folding = t, false, true, true })
}

// healed says that nothing is left to the folder of a partition.
func (p *pace) healed(partition int) {
	p.set(partition, func(l *progress) {
		if l.deferred {
			l.noted, l.caughtUp, l.deferred, l.folding = farAhead, true, false, false
		}
	})
}

// set changes the progress of a partition. The lanes of this process see it at
// once; keepTelling tells the other members, and waits for the store alone.
func (p *pace) set(partition int, change func(*progress)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.local[partition]
	before := *l
	change(l)
	if l.noted != before.noted || l.caughtUp != before.caughtUp {
		close(p.moved)
		p.moved = make(chan struct{})
		l.untold = l.untold || !l.caughtUp || !before.caughtUp
	}
	p.behind = p.isBehind()
	if l.untold && p.shared != nil {
		select {
		case p.news <- struct{}{}:
		default:
		}
	}
}

// tell lets the other members know how far a partition is.
func (p *pace) tell(ctx context.Context, partition int) error {
	p.mu.Lock()
	l := p.local[partition]
	l.untold = false
	said := window.Progress{Noted: l.noted, CaughtUp: l.caughtUp, At: payment.TimeOf(time.Now())}
	p.mu.Unlock()
	return p.shared.SetProgress(ctx, partition, said)
}

// isBehind tells whether some partition is further back than the bound.
func (p *pace) isBehind() bool {
	bound := p.now().Add(-p.behindBy)
	for _, l := range p.local {
		if !l.caughtUp && l.noted != math.MinInt64 && l.noted < bound {
			return true
		}
	}
	for partition, r := range p.remote {
		if p.local[partition] == nil && !r.CaughtUp && r.Noted < bound && p.heard(r) {
			return true
		}
	}
	return false
}

// Behind tells whether windows may lack earlier payments, because some partition
// is further back than the bound.
func (p *pace) Behind() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.behind
}

// heard tells whether the owner of a partition has said something lately.
func (p *pace) heard(r window.Progress) bool {
	return payment.TimeOf(time.Now())-r.At < payment.Time(p.patience)
}

// errOver ends a micro-batch that waits for others when the generation has ended:
// they do not move on, and the group waits for us.
var errOver = errors.New("the generation has ended")

// await returns when every other partition has noted everything before a time,
// or nothing can be hoped of it. The error is errOver where the generation ends
// first.
func (p *pace) await(ctx context.Context, partition int, until payment.Time) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		p.mu.Lock()
		reached, moved := p.reached(partition, until), p.moved
		p.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.over:
			return errOver
		case <-moved:
		case <-tick.C:
			if err := p.ask(ctx); err != nil && !errors.Is(err, window.ErrAway) {
				return err
			}
		}
	}
}

// reached tells whether all partitions but one are at a time or later.
func (p *pace) reached(partition int, until payment.Time) bool {
	for other, l := range p.local {
		if other != partition && !l.caughtUp && l.noted < until {
			return false
		}
	}
	if p.shared == nil {
		return true
	}
	for other := range p.partitions {
		if p.local[other] != nil {
			continue
		}
		r, known := p.remote[other]
		switch {
		case known && p.heard(r):
			if !r.CaughtUp && r.Noted < until {
				return false
			}
		case time.Since(p.began) < p.patience:
			return false // its owner may be about to begin
		}
	}
	return true
}

// ask reads the progress of the other members.
func (p *pace) ask(ctx context.Context) error {
	if p.shared == nil {
		return nil
	}
	p.mu.Lock()
	due := time.Since(p.asked) >= 2*time.Millisecond
	if due {
		p.asked = time.Now()
	}
	p.mu.Unlock()
	if !due {
		return nil
	}
	all, err := p.shared.Progress(ctx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.remote = all
	p.behind = p.isBehind()
	p.mu.Unlock()
	return nil
}

// keepTelling lets the other members know how far the lanes are, and now and then
// that they are alive, and hears of theirs. While the store is away nobody hears
// anything.
func (p *pace) keepTelling(ctx context.Context) error {
	tick := time.NewTicker(p.patience / 8)
	defer tick.Stop()
	for {
		all := false
		select {
		case <-ctx.Done():
			return nil
		case <-p.news:
		case <-tick.C:
			all = true
		}
		var due []int
		p.mu.Lock()
		for partition, l := range p.local {
			if all || l.untold {
				due = append(due, partition)
			}
		}
		p.behind = p.isBehind()
		p.mu.Unlock()
		err := p.tellOf(ctx, due)
		if err == nil && all {
			err = p.ask(ctx)
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, window.ErrAway) {
			return err
		}
	}
}

func (p *pace) tellOf(ctx context.Context, partitions []int) error {
	if p.shared == nil {
		return nil
	}
	for _, partition := range partitions {
		if err := p.tell(ctx, partition); err != nil {
			return err
		}
	}
	return nil
}
