package sortedsets

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// visit is one transaction's stay at one of its entities.
type visit struct {
	tx     *Transaction
	key    string
	values []Value // to be filled in, by window
}

// lane is what one connection does of a batch: its visits in the order of their
// transactions, in one pipeline.
type lane struct{ visits []visit }

func (l *lane) run(ctx context.Context, f *Features) error {
	if len(l.visits) == 0 {
		return nil
	}
	pipe := f.client.Pipeline()
	longest := f.windows[len(f.windows)-1]
	member := make([]byte, 0, 64)
	for i := range l.visits {
		v := &l.visits[i]
		member = strconv.AppendInt(member[:0], v.tx.Time, 10)
		member = append(member, ':')
		member = strconv.AppendInt(member, v.tx.Amount, 10)
		member = append(member, ':')
		member = append(member, v.tx.ID...)
		pipe.ZAdd(ctx, v.key, redis.Z{Score: float64(v.tx.Time), Member: string(member)})
		pipe.ZRemRangeByScore(ctx, v.key, "-inf", strconv.FormatInt(v.tx.Time-longest, 10))
		f.config.Reading.ask(ctx, pipe, v, f.windows)
		pipe.Expire(ctx, v.key, time.Duration(longest)*time.Millisecond)
	}
	replies, err := pipe.Exec(ctx)
	if err != nil {
		return fmt.Errorf("sorted sets: %w", err)
	}
	each := len(replies) / len(l.visits)
	for i := range l.visits {
		v, own := &l.visits[i], replies[i*each:(i+1)*each]
		if err := f.config.Reading.answer(own[2:each-1], v, f.windows); err != nil {
			return fmt.Errorf("sorted set %s: %w", v.key, err)
		}
	}
	return nil
}
