package view

import (
	"context"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"golang.org/x/sync/errgroup"
)

// Follow calls show for each record that a topic gets from now on, until ctx
// ends. show is called by several goroutines; the record is valid during the call.
func Follow(ctx context.Context, conn *broker.Conn, topic string, show func(*broker.Record)) error {
	offsets, err := conn.TopicOffsets(ctx, topic)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	work, ctx := errgroup.WithContext(ctx)
	for partition, at := range offsets {
		work.Go(func() error {
			var buffer broker.FetchBuffer
			for next := at.End; ; {
				got, err := conn.Fetch(ctx, broker.FetchRequest{Topic: topic, Partition: partition, Offset: next}, &buffer)
				if ctx.Err() != nil {
					return nil
				}
				if err != nil {
					return err
				}
				for i := range got.Records {
					show(&got.Records[i])
				}
				next = got.Next
			}
		})
	}
	return work.Wait()
}
