package view

import (
	"context"
	"encoding/json"
	"log/slog"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"golang.org/x/sync/errgroup"
)

// Follow calls show for each decision that is published from now on, until ctx
// ends. show is called by several goroutines.
func Follow(ctx context.Context, conn *broker.Conn, topic string, log *slog.Logger, show func(*payment.Decision)) error {
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
					var d payment.Decision
					if err := json.Unmarshal(got.Records[i].Value, &d); err != nil {
						log.Warn("a decision cannot be read", "topic", topic, "partition", partition, "offset", got.Records[i].Offset, "error", err)
						continue
					}
					show(&d)
				}
				next = got.Next
			}
		})
	}
	return work.Wait()
}
