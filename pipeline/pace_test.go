package pipeline

import (
	"context"
	"errors"
	"math"
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
	if err := p.noted(context.Background(), 1, math.MaxInt64, true); err != nil {
		t.Fatal(err)
	}
	if err := p.await(context.Background(), 0, 1); err != nil {
		t.Errorf("what need not wait is decided still: %v", err)
	}
}
