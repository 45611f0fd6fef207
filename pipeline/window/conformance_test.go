package window

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// The suite that every store passes. It is played against the embedded store, in
// memory and in a folder, one real Redis, and a real Redis Cluster. begin makes a
// new store, which can be opened again and again.
func eachStore(t *testing.T, test func(t *testing.T, begin func() func(Options) (Store, error))) {
	t.Run("embedded in memory", func(t *testing.T) {
		test(t, func() func(Options) (Store, error) { return func(o Options) (Store, error) { return Open(o) } })
	})
	t.Run("embedded in a folder", func(t *testing.T) {
		test(t, func() func(Options) (Store, error) {
			dir := t.TempDir()
			return func(o Options) (Store, error) {
				o.Dir = dir
				return Open(o)
			}
		})
	})
	for _, name := range []string{"redis", "redis cluster"} {
		t.Run(name, func(t *testing.T) {
			url := redisURL
			if name == "redis cluster" {
				url = redisClusterURL
			}
			test(t, func() func(Options) (Store, error) {
				at := newOwnStore(t, url(t))
				return func(o Options) (Store, error) { return at.open(t.Context(), o) }
			})
		})
	}
}

// part is what the environment names for a test, which is skipped without it;
// with CI set, it fails.
func part(t testing.TB, name string) string {
	t.Helper()
	v := os.Getenv(name)
	if v == "" && os.Getenv("CI") != "" {
		t.Fatalf("%s is not set", name)
	}
	if v == "" {
		t.Skipf("%s is not set: `make test` starts what this test needs", name)
	}
	return v
}

func redisURL(t *testing.T) string { return "redis://" + part(t, "SLUICE_TEST_REDIS") }
func redisClusterURL(t *testing.T) string {
	return "redis://" + part(t, "SLUICE_TEST_REDIS_CLUSTER")
}

// ownStore is a store under a prefix of its own, with small segments, whose keys
// are deleted in the end.
type ownStore struct {
	RedisOptions
	mu   sync.Mutex
	keys map[string]bool // that were written
}

func newOwnStore(t testing.TB, url string) *ownStore {
	t.Helper()
	o := &ownStore{RedisOptions: RedisOptions{URL: url, Prefix: "test-" + rand.Text()[:8], SegmentBytes: 700, Timeout: 5 * time.Second}, keys: map[string]bool{}}
	n := namesOf(o.Prefix)
	for _, key := range []string{n.key(), n.owner(), n.kinds(), n.waiting(), n.outages(), n.progress()} {
		o.keys[key] = true
	}
	t.Cleanup(func() { o.delete(t) })
	return o
}

// open opens the store.
func (o *ownStore) open(ctx context.Context, opts Options) (*Redis, error) {
	s, err := OpenRedis(ctx, o.RedisOptions, opts)
	if err == nil {
		s.client.AddHook(o)
	}
	return s, err
}

// DialHook, ProcessHook and ProcessPipelineHook note the keys of all commands.
func (o *ownStore) DialHook(next redis.DialHook) redis.DialHook { return next }
func (o *ownStore) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		o.note(cmd)
		return next(ctx, cmd)
	}
}
func (o *ownStore) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		o.note(cmds...)
		return next(ctx, cmds)
	}
}

func (o *ownStore) note(cmds ...redis.Cmder) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, cmd := range cmds {
		if args := cmd.Args(); len(args) > 1 {
			if key, ok := args[1].(string); ok && strings.HasPrefix(key, o.Prefix) {
				o.keys[key] = true
			}
		}
	}
}

func (o *ownStore) delete(t testing.TB) {
	s, err := OpenRedis(context.Background(), o.RedisOptions, Options{})
	if err != nil {
		t.Error(err)
		return
	}
	for keys := range slices.Chunk(slices.Collect(maps.Keys(o.keys)), 1000) {
		pipe := s.client.Pipeline()
		for _, key := range keys {
			pipe.Unlink(context.Background(), key)
		}
		if _, err := pipe.Exec(context.Background()); err != nil {
			t.Error(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// However payments are handed over to whichever store, whatever is evicted, and
// wherever the store is closed and opened again, every value is the oracle's.
func TestEveryStoreGivesAHistoryItsOneMeaning(t *testing.T) {
	all := testFeatures(t)
	seeds := uint64(3)
	if v := os.Getenv("SLUICE_HISTORIES"); v != "" {
		if _, err := fmt.Sscan(v, &seeds); err != nil {
			t.Fatal(err)
		}
	}
	eachStore(t, func(t *testing.T, begin func() func(Options) (Store, error)) {
		for seed := range seeds {
			var ways []play
			for _, how := range plays { // each in a store of its own
				if how.reopen && t.Name() == "TestEveryStoreGivesAHistoryItsOneMeaning/embedded_in_memory" {
					continue // it keeps nothing
				}
				how.kept, how.open = false, begin()
				ways = append(ways, how)
			}
			if why := verifyPlays(t, randomScenario(1000+seed, 90), all, ways); why != "" {
				t.Fatalf("seed %d: %s", seed, why)
			}
		}
	})
}

func firstOf(list string) string {
	first, _, _ := strings.Cut(list, ",")
	return first
}

func contains(err error, text string) bool { return strings.Contains(err.Error(), text) }

func mustAddr(text string) netip.Addr { return netip.MustParseAddr(text) }
