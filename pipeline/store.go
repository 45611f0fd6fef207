package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/sluice-risk/sluice/pipeline/window"
)

// storePrefix begins the name of an embedded store.
const storePrefix = "pebble:"

// MemoryStore names a store that keeps nothing when the process ends. It is for
// the sandbox: a gate with it forgets all windows at every restart, and reads
// the whole topic of decisions to know what was decided.
const MemoryStore = "memory"

// RedisConfig is what a store on Redis needs beside its address.
type RedisConfig struct {
	Username string        `yaml:"username"`
	Password string        `yaml:"password" secret:"true"`
	CA       string        `yaml:"ca"`      // file; "": the authorities of the system. For rediss://
	Cert     string        `yaml:"cert"`    // file, for mutual TLS, with key
	Key      string        `yaml:"key"`     //
	Prefix   string        `yaml:"prefix"`  // of all keys
	Timeout  time.Duration `yaml:"timeout"` // of a round trip; a store that takes longer is away
	// SegmentKB is from what size on the log of an entity goes on in another key.
	SegmentKB int `yaml:"segment_kb"`
}

// onRedis tells whether the store is one that members share.
func (c *Config) onRedis() bool {
	return strings.HasPrefix(c.Store, "redis://") || strings.HasPrefix(c.Store, "rediss://")
}

// storeDir is the folder of the embedded store, "" for one in memory.
func (c *Config) storeDir() string {
	if c.Store == MemoryStore {
		return ""
	}
	return strings.TrimPrefix(c.Store, storePrefix)
}

// storeName is the store for people to read: without a password.
func (c *Config) storeName() string {
	if u, err := url.Parse(c.Store); err == nil && u.User != nil {
		return u.Redacted()
	}
	return c.Store
}

// checkStore reports what is wrong with the name of the store.
func (c *Config) checkStore() error {
	switch {
	case c.Store == MemoryStore, c.onRedis():
		return nil
	case strings.HasPrefix(c.Store, storePrefix) && len(c.Store) > len(storePrefix):
		return nil
	}
	return fmt.Errorf("store: %q is neither %sDIR nor redis://HOST:PORT", c.storeName(), storePrefix)
}

// OpenStore opens the store that the settings name.
func OpenStore(ctx context.Context, c *Config, features []window.Feature, log *slog.Logger) (window.Store, error) {
	opened := time.Now()
	options := c.Windows.options(features)
	options.Owner, options.KeepMarks = c.owner(), c.Ledger.Keeps
	options.OnProgress = func(done, total int64) {
		if time.Since(opened) > 2*time.Second {
			log.Info("reading the journal", "done", done, "of", total)
			opened = time.Now()
		}
	}
	if !c.onRedis() {
		options.Dir, options.Files = c.storeDir(), c.StoreFiles
		return window.Open(options)
	}
	r := &c.Redis
	return window.OpenRedis(ctx, window.RedisOptions{URL: c.Store, User: r.Username, Password: r.Password, CA: r.CA, Certificate: r.Cert,
		PrivateKey: r.Key, Prefix: r.Prefix, Timeout: r.Timeout, SegmentBytes: r.SegmentKB << 10}, options)
}
