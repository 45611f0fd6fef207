package oracle

import (
	"context"
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// ReadRedis reads the logs that stand in one Redis, or a cluster, under a prefix.
func ReadRedis(ctx context.Context, client redis.UniversalClient, prefix string) (Logs, error) {
	raw := map[string]map[int][]byte{}
	var mu sync.Mutex
	err := eachSegment(ctx, client, prefix, func(ctx context.Context, one redis.Cmdable, keys []string) error {
		pipe := one.Pipeline()
		data := make([]*redis.StringCmd, len(keys))
		for i, key := range keys {
			data[i] = pipe.Get(ctx, key)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for i, key := range keys {
			name, segment, err := segmentOf(key, prefix)
			if err != nil {
				return err
			}
			if raw[name] == nil {
				raw[name] = map[int][]byte{}
			}
			raw[name][segment] = []byte(data[i].Val())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	logs, seed := make(Logs, len(raw)), maphash.MakeSeed()
	for name, segments := range raw {
		l := newLog()
		if err := l.readSegments(segments, seed); err != nil {
			return nil, fmt.Errorf("log %s: %w", name, err)
		}
		logs[name] = l
	}
	return logs, nil
}

// Ends says where each log ends that stands in Redis at this moment.
func Ends(ctx context.Context, client redis.UniversalClient, prefix string) (map[string]At, error) {
	ends := map[string]At{}
	var mu sync.Mutex
	err := eachSegment(ctx, client, prefix, func(ctx context.Context, one redis.Cmdable, keys []string) error {
		pipe := one.Pipeline()
		lengths := make([]*redis.IntCmd, len(keys))
		for i, key := range keys {
			lengths[i] = pipe.StrLen(ctx, key)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for i, key := range keys {
			name, segment, err := segmentOf(key, prefix)
			if err != nil {
				return err
			}
			ends[name] = max(ends[name], atOf(uint64(segment), uint64(lengths[i].Val())))
		}
		return nil
	})
	return ends, err
}

func logsBegin(prefix string) string { return prefix + ":1:log:{" }

// segmentOf reads the name of a key: log:{KIND:KEY}:SEGMENT.
func segmentOf(key, prefix string) (name string, segment int, err error) {
	name, number, ok := strings.Cut(strings.TrimPrefix(key, logsBegin(prefix)), "}:")
	segment, err = strconv.Atoi(number)
	if !ok || err != nil || segment < 1 {
		return "", 0, fmt.Errorf("key %s is not log:{KIND:KEY}:SEGMENT", key)
	}
	return name, segment, nil
}

// eachSegment calls visit with the keys of segments, a few hundred at a time, and
// the server that has them.
func eachSegment(ctx context.Context, client redis.UniversalClient, prefix string, visit func(context.Context, redis.Cmdable, []string) error) error {
	scan := func(ctx context.Context, one *redis.Client) error {
		for cursor := uint64(0); ; {
			keys, next, err := one.Scan(ctx, cursor, logsBegin(prefix)+"*", 1000).Result()
			if err == nil && len(keys) > 0 {
				err = visit(ctx, one, keys)
			}
			if cursor = next; err != nil || cursor == 0 {
				return err
			}
		}
	}
	switch c := client.(type) {
	case *redis.ClusterClient:
		return c.ForEachMaster(ctx, scan)
	case *redis.Client:
		return scan(ctx, c)
	}
	return fmt.Errorf("a client of type %T is neither of one Redis nor of a cluster", client)
}

// readSegments reads the segments of a log, which are given by number. What
// stands behind a seal is void.
func (l *Log) readSegments(segments map[int][]byte, seed maphash.Seed) error {
	for n := 1; n <= len(segments); n++ {
		data, ok := segments[n]
		if !ok {
			return fmt.Errorf("segment %d of %d is missing", n, len(segments))
		}
		sealed, offset := false, 0
		for offset < len(data) && !sealed {
			e, ok := split(data[offset:])
			if !ok {
				return fmt.Errorf("no entry at %d/%d", n, offset)
			}
			if err := l.addEntry(atOf(uint64(n), uint64(offset)), e, seed); err != nil {
				return fmt.Errorf("entry at %d/%d: %w", n, offset, err)
			}
			sealed = e[4] == kindSeal
			offset += len(e)
		}
		l.void += len(data) - offset
		if !sealed && n < len(segments) {
			return fmt.Errorf("segment %d is followed by another and has no seal", n)
		}
	}
	l.order()
	return nil
}

func (l *Log) addEntry(at At, e []byte, seed maphash.Seed) error {
	switch e[4] {
	case kindSeal:
	case kindTransaction:
		ev, err := readTransaction(at, e, seed)
		if err != nil {
			return err
		}
		l.addTransaction(ev)
	case kindOutcome:
		tx, o, err := readOutcome(at, e)
		if err != nil {
			return err
		}
		l.addOutcome(tx, o)
	default:
		return fmt.Errorf("kind %q", e[4])
	}
	return nil
}
