package parts

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Redis is one server that writes an append-only file, and looks at how that
// grows.
type Redis struct {
	*Process
	Client *redis.Client // without a link
	addr   string

	done chan struct{}
	ends sync.WaitGroup
	mu   sync.Mutex
	tail []tail // of the last seconds, oldest first
}

// tail is how long the append-only file was at a moment.
type tail struct {
	at   time.Time
	name string
	size int64
}

const (
	tailEvery = 20 * time.Millisecond
	tailKeeps = 5 * time.Second
)

// StartRedis starts a server in a folder and returns when it answers.
func StartRedis(ctx context.Context, dir string) (*Redis, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	r := &Redis{addr: address(ports[0]), done: make(chan struct{})}
	r.Process = &Process{Name: "redis", Dir: dir, Env: os.Environ(), Command: []string{"redis-server", "--bind", "127.0.0.1", "--port", strconv.Itoa(ports[0]), "--save", "",
		"--appendonly", "yes", "--appendfsync", "everysec", "--aof-load-truncated", "yes", "--maxmemory-policy", "noeviction"}}
	r.Client = redis.NewClient(&redis.Options{Addr: r.addr, MaxRetries: -1, DialTimeout: time.Second, DialerRetries: 1, ReadTimeout: time.Minute})
	r.ends.Go(r.watch)
	if err := r.Start(); err != nil {
		r.Close()
		return nil, err
	}
	if err := r.Ready(ctx); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Addr is where the server listens.
func (r *Redis) Addr() string { return r.addr }

// Ready waits until the server has read its file and answers.
func (r *Redis) Ready(ctx context.Context) error {
	for {
		err := r.ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("redis: %w", err)
		case <-r.Exited():
			return fmt.Errorf("redis has ended; its log is %s", filepath.Join(r.Dir, "log"))
		case <-time.After(tailEvery):
		}
	}
}

// ping fails while the server does not listen, or is loading. The client, which
// logs what it cannot reach, is asked only once it can.
func (r *Redis) ping(ctx context.Context) error {
	c, err := net.DialTimeout("tcp", r.addr, time.Second)
	if err != nil {
		return err
	}
	return errors.Join(c.Close(), r.Client.Ping(ctx).Err())
}

// Close kills the server.
func (r *Redis) Close() {
	close(r.done)
	r.ends.Wait()
	_ = r.Kill()
	_ = r.Client.Close()
}

// watch notes how the append-only file grows.
func (r *Redis) watch() {
	tick := time.NewTicker(tailEvery)
	defer tick.Stop()
	for {
		select {
		case <-r.done:
			return
		case now := <-tick.C:
			name, size, err := r.file()
			if err != nil {
				continue // it is being made, or replaced
			}
			r.mu.Lock()
			r.tail = append(r.tail, tail{now, name, size})
			for now.Sub(r.tail[0].at) > tailKeeps {
				r.tail = r.tail[1:]
			}
			r.mu.Unlock()
		}
	}
}

// file is the append-only file that is being written: the last one of the manifest.
func (r *Redis) file() (name string, size int64, err error) {
	dir := filepath.Join(r.Dir, "appendonlydir")
	manifest, err := os.ReadFile(filepath.Join(dir, "appendonly.aof.manifest"))
	if err != nil {
		return "", 0, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(manifest)); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) == 6 && fields[5] == "i" {
			name = filepath.Join(dir, fields[1])
		}
	}
	if name == "" {
		return "", 0, errors.New("the manifest of Redis names no file that is being written")
	}
	info, err := os.Stat(name)
	if err != nil {
		return "", 0, err
	}
	return name, info.Size(), nil
}

// AwaitGrowth waits until the append-only file has grown within the last time.
func (r *Redis) AwaitGrowth(ctx context.Context, last time.Duration) error {
	for {
		r.mu.Lock()
		grown := false
		for i, t := range r.tail {
			grown = grown || time.Since(t.at) < last && i > 0 && t.name == r.tail[i-1].name && t.size > r.tail[i-1].size
		}
		r.mu.Unlock()
		if grown {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nothing is appended to the file of Redis: %w", ctx.Err())
		case <-time.After(tailEvery):
		}
	}
}

// CutTail takes from the server's file what was appended in the last time before a
// moment, as a machine would that lost its power then: the server must be dead. It
// returns how many bytes were lost.
func (r *Redis) CutTail(before time.Time, lost time.Duration) (int64, error) {
	name, size, err := r.file()
	if err != nil {
		return 0, err
	}
	keep := int64(0)
	r.mu.Lock()
	for _, t := range r.tail {
		if t.name == name && t.at.Before(before.Add(-lost)) {
			keep = t.size
		}
	}
	r.mu.Unlock()
	return size - keep, os.Truncate(name, keep)
}
