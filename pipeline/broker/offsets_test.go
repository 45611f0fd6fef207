package broker

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A connection that breaks while offsets are asked for is no error of the broker:
// it is asked again.
func TestOffsetsAreAskedForAgain(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	breaks := func() {
		cluster.ControlKey(kmsg.ListOffsets.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
			return nil, errors.New("cut"), true // once
		})
	}
	c := open(t, Config{Brokers: cluster.ListenAddrs()})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := c.Produce(ctx, "t", 0, []Message{{Value: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	breaks()
	if first, end, err := c.Offsets(ctx, "t", 0); err != nil || first != 0 || end != 1 {
		t.Errorf("offsets %d to %d, %v", first, end, err)
	}
	breaks()
	if at, err := c.OffsetsAt(ctx, "t", 1); err != nil || len(at) != 1 || at[0] != 0 {
		t.Errorf("offsets by time %v, %v", at, err)
	}
}
