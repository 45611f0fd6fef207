package sortedsets

import (
	"context"
	"fmt"
)

// Clear deletes every sorted set under the prefix, for tests and benchmarks that
// leave nothing behind.
func (f *Features) Clear(ctx context.Context) error {
	const page = 1000
	keys := f.client.Scan(ctx, 0, f.config.Prefix+"*", page).Iterator()
	pipe := f.client.Pipeline()
	for keys.Next(ctx) {
		pipe.Unlink(ctx, keys.Val())
		if pipe.Len() == page {
			if _, err := pipe.Exec(ctx); err != nil {
				return fmt.Errorf("delete the sorted sets %s*: %w", f.config.Prefix, err)
			}
		}
	}
	if err := keys.Err(); err != nil {
		return fmt.Errorf("list the sorted sets %s*: %w", f.config.Prefix, err)
	}
	if pipe.Len() == 0 {
		return nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("delete the sorted sets %s*: %w", f.config.Prefix, err)
	}
	return nil
}
