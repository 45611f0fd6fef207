package pipeline

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// When a generation ends all its lanes stop: one that waits for another would wait
// for nothing, and the whole group for it.
func TestBacklogDoesNotHoldUpARebalance(t *testing.T) {
	over := make(chan struct{})
	p := newPace(2, &WindowConfig{Slice: time.Second, Behind: time.Minute}, time.Minute, func() payment.Time { return 0 }, nil)
	p.over = over
	p.join(0)
	p.join(1) // and says nothing
	waited := make(chan error, 1)
	go func() { waited <- p.await(context.Background(), 0, 1) }()
	select {
	case err := <-waited:
		t.Fatalf("did not wait for the other partition: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(over)
	if err := <-waited; !errors.Is(err, errOver) {
		t.Errorf("error %v; want %v", err, errOver)
	}
	p.noted(1, farAhead, true)
	if err := p.await(context.Background(), 0, 1); err != nil {
		t.Errorf("what need not wait is decided still: %v", err)
	}
}

// While its folder is at work, a partition is as far as that, whatever its front says.
func TestAPartitionIsAsFarAsItsFolder(t *testing.T) {
	p := newPace(2, &WindowConfig{Slice: time.Second, Behind: time.Minute}, time.Minute, func() payment.Time { return 1000 * 1e9 }, nil)
	p.join(0)
	p.join(1)
	p.noted(0, farAhead, true)
	if !p.reached(1, 50) || p.Behind() {
		t.Fatal("a partition that has read all there is holds up another one")
	}
	p.deferTo(0, 40)
	p.noted(0, farAhead, true)
	if p.reached(1, 50) || !p.Behind() {
		t.Fatal("what was left to a folder is not waited for, or nobody is told")
	}
	p.deferTo(0, 30) // an earlier one
	p.folded(0, 60)
	if !p.reached(1, 50) || p.reached(1, 61) {
		t.Fatal("a partition is not as far as its folder")
	}
	p.healed(0)
	if !p.reached(1, 61) || p.Behind() {
		t.Fatal("a partition whose folder has nothing left holds up another one")
	}
}

// Two folders wait for each other's slices. An older payment that comes later in a
// partition, as they do, must not set one back: both would wait for ever.
func TestAnOlderPaymentBehindAYoungerOneStopsNoFolder(t *testing.T) {
	p := newPace(2, &WindowConfig{Slice: time.Second, Behind: time.Minute}, time.Minute, func() payment.Time { return 1000 * 1e9 }, nil)
	p.join(0)
	p.join(1)
	p.deferTo(0, 8)
	p.deferTo(1, 9)
	p.folded(0, 10) // and waits until partition 1 is there
	p.folded(1, 9)  // and waits until partition 0 is there
	p.deferTo(0, 5)
	if !p.reached(1, 9) {
		t.Error("the folder of partition 1 waits for one that waits for it")
	}
	p.folded(1, 12)
	if !p.reached(0, 10) {
		t.Error("the folder of partition 0 is not let go")
	}
}
