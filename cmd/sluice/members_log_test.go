package main

import (
	"context"
	enc "encoding/binary" // binary is the program
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// What the logs of a store on Redis say, from their raw bytes, by the layout that
// is documented and without the code that wrote them.

// at is a place in a log: the segment above the offset.
type at uint64

func (a at) String() string { return fmt.Sprintf("%d/%d", a>>32, a&(1<<32-1)) }

// entityLog is the log of one entity: its transactions by (event time, arrival).
type entityLog struct {
	kind     string
	events   []logEvent
	of       map[txID]int32 // places in events
	again    int            // entries of a transaction that stood there before
	retold   int            // entries of an outcome that stood there before
	orphans  int            // outcomes before their transaction
	segments int
}

type txID [2]uint64

// logEvent is the first entry of a transaction.
type logEvent struct {
	at       at
	time     payment.Time
	tx       txID
	base     int64
	based    bool
	refs     [refKinds]uint64
	channel  string
	outcomes []logOutcome // in the order of the log
}

// logOutcome is the first entry of an outcome.
type logOutcome struct {
	at       at
	time     payment.Time
	kind     payment.OutcomeKind
	identity txID
}

// The kinds of references, by their bits in an entry.
const (
	refPayer, refPayee, refCard, refDevice, refIP, refOrder = 0, 1, 3, 4, 5, 10

	refKinds = 12
)

// parse reads the segments of a log, which are given by number.
func (l *entityLog) parse(segments map[int][]byte) error {
	l.of, l.segments = map[txID]int32{}, len(segments)
	for n := 1; n <= len(segments); n++ {
		data, ok := segments[n]
		if !ok {
			return fmt.Errorf("segment %d of %d is missing", n, len(segments))
		}
		sealed := false
		for offset := 0; offset < len(data) && !sealed; {
			rest := data[offset:]
			if len(rest) < 8 || int(enc.LittleEndian.Uint32(rest)) > len(rest) || enc.LittleEndian.Uint32(rest) < 8 {
				return fmt.Errorf("no entry at %d/%d", n, offset)
			}
			e := rest[:enc.LittleEndian.Uint32(rest)]
			if err := l.add(at(n)<<32|at(offset), e); err != nil {
				return fmt.Errorf("entry at %d/%d: %w", n, offset, err)
			}
			sealed = e[4] == 'S' // what stands behind it is void
			offset += len(e)
		}
		if !sealed && n < len(segments) {
			return fmt.Errorf("segment %d is followed by another and has no seal", n)
		}
	}
	slices.SortFunc(l.events, func(a, b logEvent) int {
		if a.time != b.time {
			return int(max(-1, min(1, a.time-b.time)))
		}
		return int(max(-1, min(1, int64(a.at)-int64(b.at))))
	})
	for i := range l.events {
		l.of[l.events[i].tx] = int32(i)
	}
	return nil
}

func (l *entityLog) add(where at, e []byte) error {
	u64 := func(i int) uint64 { return enc.LittleEndian.Uint64(e[i:]) }
	switch e[4] {
	case 'S':
		return nil
	case 'O':
		o := logOutcome{where, payment.Time(u64(8)), payment.OutcomeKind(e[5]), txID{u64(40), u64(48)}}
		i, ok := l.of[txID{u64(16), u64(24)}]
		if !ok {
			l.orphans++
			return nil
		}
		of := &l.events[i]
		if slices.ContainsFunc(of.outcomes, func(was logOutcome) bool { return was.identity == o.identity }) {
			l.retold++
			return nil
		}
		of.outcomes = append(of.outcomes, o)
		return nil
	case 'T':
	default:
		return fmt.Errorf("kind %q", e[4])
	}
	ev := logEvent{at: where, time: payment.Time(u64(8)), tx: txID{u64(16), u64(24)}, base: int64(u64(32)), based: e[5]&1 != 0}
	if _, ok := l.of[ev.tx]; ok {
		l.again++
		return nil
	}
	next := 64
	if e[5]&2 != 0 { // located
		next += 8
	}
	for named := enc.LittleEndian.Uint16(e[6:]); named != 0; named &= named - 1 {
		ev.refs[bits.TrailingZeros16(named)] = u64(next)
		next += 8
	}
	ev.channel = string(e[next : next+int(e[59])])
	l.of[ev.tx] = int32(len(l.events))
	l.events = append(l.events, ev)
	return nil
}

// connectRedis connects to one Redis or a cluster; what stands under the prefix is
// removed when the test ends.
func connectRedis(t testing.TB, addresses, prefix string) redis.UniversalClient {
	t.Helper()
	client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: strings.Split(addresses, ",")})
	t.Cleanup(func() {
		err := eachKey(context.Background(), client, prefix+":*", func(ctx context.Context, one redis.Cmdable, keys []string) error {
			pipe := one.Pipeline()
			for _, key := range keys {
				pipe.Unlink(ctx, key)
			}
			_, err := pipe.Exec(ctx)
			return err
		})
		if err != nil {
			t.Errorf("remove what the test left in Redis: %v", err)
		}
		_ = client.Close()
	})
	return client
}

// eachKey calls visit with the keys of a pattern, a few hundred at a time, and the
// server that has them.
func eachKey(ctx context.Context, client redis.UniversalClient, pattern string, visit func(context.Context, redis.Cmdable, []string) error) error {
	scan := func(ctx context.Context, one *redis.Client) error {
		for cursor := uint64(0); ; {
			keys, next, err := one.Scan(ctx, cursor, pattern, 500).Result()
			if err == nil && len(keys) > 0 {
				err = visit(ctx, one, keys)
			}
			if cursor = next; err != nil || cursor == 0 {
				return err
			}
		}
	}
	if c, ok := client.(*redis.ClusterClient); ok {
		return c.ForEachMaster(ctx, scan)
	}
	return scan(ctx, client.(*redis.Client))
}

// readLogs reads the logs of all entities, by "KIND:KEY".
func readLogs(ctx context.Context, client redis.UniversalClient, prefix string) (map[string]*entityLog, error) {
	raw := map[string]map[int][]byte{}
	var mu sync.Mutex
	begin := prefix + ":1:log:{"
	err := eachKey(ctx, client, begin+"*", func(ctx context.Context, one redis.Cmdable, keys []string) error {
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
			name, number, ok := strings.Cut(strings.TrimPrefix(key, begin), "}:")
			segment, err := strconv.Atoi(number)
			if !ok || err != nil {
				return fmt.Errorf("key %s is not log:{KIND:KEY}:SEGMENT", key)
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
	logs := make(map[string]*entityLog, len(raw))
	for name, segments := range raw {
		kind, _, _ := strings.Cut(name, ":")
		l := &entityLog{kind: kind}
		if err := l.parse(segments); err != nil {
			return nil, fmt.Errorf("log %s: %w", name, err)
		}
		logs[name] = l
	}
	return logs, nil
}
