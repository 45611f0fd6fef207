package sortedsets

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"golang.org/x/sync/errgroup"
)

// Config says where the sorted sets are and what is computed.
type Config struct {
	Addr     string          // host:port of one Redis
	Prefix   string          // of every key
	Entities []string        // the names of the kinds, in the order of Transaction.Entities
	Windows  []time.Duration // shortest first, whole milliseconds
	Reading  Reading
	// Connections work side by side, each for its share of the entities; 0 is the
	// default, four. With one, Redis waits while its replies are parsed; beyond
	// four there is nothing to gain (BenchmarkReading).
	Connections int
	Protocol    int // of Redis, 2 or 3; 0 is the default, 3. Both are equally fast here
}

// Transaction is what the features are about.
type Transaction struct {
	ID       string   // unique, no colon
	Time     int64    // Unix milliseconds
	Amount   int64    // minor units of one currency
	Entities []string // by kind; "" where the transaction names none
}

// Value is what one window of one entity holds, the transaction itself included.
type Value struct {
	Count int64
	Sum   int64 // minor units
}

// Features computes windows. One goroutine uses it at a time.
type Features struct {
	config  Config
	client  *redis.Client
	windows []int64 // Unix milliseconds
	lanes   []lane
}

// Open connects to Redis and waits for its answer.
func Open(ctx context.Context, c Config) (*Features, error) {
	if c.Connections == 0 {
		c.Connections = 4
	}
	if c.Protocol == 0 {
		c.Protocol = 3
	}
	if len(c.Windows) == 0 || !slices.IsSorted(c.Windows) || c.Windows[0] < time.Millisecond {
		return nil, fmt.Errorf("windows %v: must be given, the shortest first", c.Windows)
	}
	f := &Features{config: c, lanes: make([]lane, c.Connections)}
	for _, w := range c.Windows {
		f.windows = append(f.windows, w.Milliseconds())
	}
	f.client = redis.NewClient(&redis.Options{
		Addr: c.Addr, Protocol: c.Protocol, PoolSize: c.Connections, PipelinePoolSize: c.Connections,
		MaxRetries:               -1, // a pipeline that is sent again reads what came after it
		ReadTimeout:              30 * time.Second,
		WriteTimeout:             30 * time.Second,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	if err := f.client.Ping(ctx).Err(); err != nil {
		return nil, errors.Join(fmt.Errorf("sorted sets: %w", err), f.client.Close())
	}
	return f, nil
}

// Close closes the connections and leaves the sorted sets to expire.
func (f *Features) Close() error { return f.client.Close() }

// Width is how many values a transaction has: kind by kind, the windows of each
// in the order of the configuration.
func (f *Features) Width() int { return len(f.config.Entities) * len(f.windows) }

// Observe adds transactions to the windows of their entities, in order, and
// fills in the values of each, Width of them a transaction; those of an entity
// that a transaction does not name are zero. It is one round trip. On an error
// nothing is known of what Redis has done.
func (f *Features) Observe(ctx context.Context, txs []Transaction, values []Value) error {
	if len(values) != len(txs)*f.Width() {
		return fmt.Errorf("room for %d values of %d transactions: must be %d for each", len(values), len(txs), f.Width())
	}
	clear(values)
	for i := range f.lanes {
		f.lanes[i].visits = f.lanes[i].visits[:0]
	}
	for i := range txs {
		for kind, id := range txs[i].Entities {
			if id == "" {
				continue
			}
			key := f.config.Prefix + f.config.Entities[kind] + ":" + id
			l := &f.lanes[hash(key)%uint32(len(f.lanes))]
			at := (i*len(f.config.Entities) + kind) * len(f.windows)
			l.visits = append(l.visits, visit{tx: &txs[i], key: key, values: values[at : at+len(f.windows)]})
		}
	}
	work, ctx := errgroup.WithContext(ctx)
	for i := range f.lanes {
		work.Go(func() error { return f.lanes[i].run(ctx, f) })
	}
	return work.Wait()
}

// hash is FNV-1a.
func hash(key string) uint32 {
	h := uint32(2166136261)
	for i := range len(key) {
		h = (h ^ uint32(key[i])) * 16777619
	}
	return h
}
