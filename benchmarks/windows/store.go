package main

import (
	"context"
	"time"

	"github.com/sluice-risk/sluice/pipeline/window"
)

// How stores are opened stands in this file.

// openEmbedded opens the store of one process; dir "" is one that keeps nothing.
func (o *options) openEmbedded(dir string, features []window.Feature) (window.Store, error) {
	return window.Open(window.Options{Dir: dir, Owner: "benchmarks/windows", Features: features, Memory: int64(o.memory) << 20})
}

// openRedis opens the shared store, its keys under a prefix.
func openRedis(ctx context.Context, url, prefix string, features []window.Feature) (window.Store, error) {
	s, err := window.OpenRedis(ctx, window.RedisOptions{URL: url, Prefix: prefix, Timeout: time.Minute}, window.Options{Owner: "benchmarks/windows", Features: features})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// kept is how much longer than its longest window a store keeps events by
// default: its lateness and some slack.
const kept = 8 * day
