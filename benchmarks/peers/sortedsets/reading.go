package sortedsets

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Reading is how the values of all windows are got out of a sorted set. Both
// ways are in use; BenchmarkReading compares them.
type Reading uint8

const (
	// Ranged fetches the members of the longest window and computes every window
	// from them. It is the default, and the faster one.
	Ranged Reading = iota
	// Counted asks Redis for the count of each window, and adds up the sums from
	// the members of the longest.
	Counted
)

// ask queues the reads of a visit.
func (r Reading) ask(ctx context.Context, pipe redis.Pipeliner, v *visit, windows []int64) {
	now := strconv.FormatInt(v.tx.Time, 10)
	var after string
	for _, w := range windows {
		after = "(" + strconv.FormatInt(v.tx.Time-w, 10)
		if r == Counted {
			pipe.ZCount(ctx, v.key, after, now)
		}
	}
	pipe.ZRangeByScore(ctx, v.key, &redis.ZRangeBy{Min: after, Max: now})
}

// answer computes the values of a visit from the replies to what ask queued.
func (r Reading) answer(replies []redis.Cmder, v *visit, windows []int64) error {
	members := replies[len(replies)-1].(*redis.StringSliceCmd).Val()
	if r == Counted {
		for w := range windows {
			v.values[w].Count = replies[w].(*redis.IntCmd).Val()
		}
		return sumLast(members, v.values)
	}
	return fold(members, v.tx.Time, windows, v.values)
}

// fold goes from the newest member to the oldest and closes each window on its way.
func fold(members []string, now int64, windows []int64, values []Value) error {
	var sofar Value
	w := 0
	for i := len(members) - 1; i >= 0; i-- {
		time, amount, err := parse(members[i])
		if err != nil {
			return err
		}
		for time <= now-windows[w] {
			values[w] = sofar
			w++
		}
		sofar.Count++
		sofar.Sum += amount
	}
	for ; w < len(windows); w++ {
		values[w] = sofar
	}
	return nil
}

// sumLast adds up as many of the newest members as each window counts.
func sumLast(members []string, values []Value) error {
	var sum, added int64
	for w := range values {
		for ; added < values[w].Count; added++ {
			_, amount, err := parse(members[int64(len(members))-1-added])
			if err != nil {
				return err
			}
			sum += amount
		}
		values[w].Sum = sum
	}
	return nil
}

// parse reads time and amount out of time:amount:id.
func parse(member string) (time, amount int64, err error) {
	first, rest, _ := strings.Cut(member, ":")
	second, _, ok := strings.Cut(rest, ":")
	if !ok {
		return 0, 0, fmt.Errorf("member %q is not time:amount:id", member)
	}
	if time, err = strconv.ParseInt(first, 10, 64); err != nil {
		return 0, 0, fmt.Errorf("member %q: %w", member, err)
	}
	if amount, err = strconv.ParseInt(second, 10, 64); err != nil {
		return 0, 0, fmt.Errorf("member %q: %w", member, err)
	}
	return time, amount, nil
}

// String is the name as benchmarks write it.
func (r Reading) String() string { return [...]string{"ranged", "counted"}[r] }
