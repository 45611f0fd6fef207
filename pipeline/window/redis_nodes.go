package window

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// nodes knows who answers at the store's addresses. A server that was started
// anew, or a replica that took over, may have lost what its predecessor had
// acknowledged; then no fold is to be trusted, since what follows in a log need
// not follow what was folded.
//
// A process is known by its run id, and the history of its data by its
// replication id, which changes when a replica is promoted. Both are asked for
// on each new connection, after each failed command, and every few seconds.
type nodes struct {
	clustered bool

	mu      sync.Mutex
	known   map[string]bool
	changes uint64   // how often somebody unknown has answered
	asked   []string // who answered since all were asked last
	masters []string // of the masters, as far as all are known; nil where they are not
}

// checkNodesEvery is how often all masters are asked who they are.
const checkNodesEvery = 10 * time.Second

// connected is called for each new connection.
func (n *nodes) connected(ctx context.Context, cn *redis.Conn) error {
	return n.ask(ctx, cn)
}

// informant is a connection or the client of one server.
type informant interface {
	Info(ctx context.Context, sections ...string) *redis.StringCmd
}

func (n *nodes) ask(ctx context.Context, of informant) error {
	text, err := of.Info(ctx, "server", "replication").Result()
	if err != nil {
		return err
	}
	info := infoOf(text)
	if info["role"] != "master" {
		return nil // nobody writes there
	}
	id := info["run_id"] + " " + info["master_replid"]
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known == nil {
		n.known = map[string]bool{}
	}
	switch {
	case !n.clustered:
		n.masters = []string{id}
	case !n.known[id]:
		n.masters = nil // until all are asked: whom it has replaced is not known
	}
	if !n.known[id] {
		n.known[id] = true
		n.changes++
	}
	if !slices.Contains(n.asked, id) {
		n.asked = append(n.asked, id)
	}
	return nil
}

// incarnation names all masters as they are now, "" where they are not known.
func (n *nodes) incarnation() string {
	n.mu.Lock()
	ids := slices.Sorted(slices.Values(n.masters))
	n.mu.Unlock()
	if len(ids) == 0 {
		return ""
	}
	sum := sha256.Sum256([]byte(strings.Join(ids, "\n")))
	return hex.EncodeToString(sum[:8])
}

func (n *nodes) changed() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changes
}

// askAll asks every master.
func (n *nodes) askAll(ctx context.Context, client redis.UniversalClient) error {
	n.mu.Lock()
	n.asked = n.asked[:0]
	n.mu.Unlock()
	err := n.askEach(ctx, client)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil { // who does not answer may be there still
		n.masters = slices.Clone(n.asked)
	}
	return err
}

func (n *nodes) askEach(ctx context.Context, client redis.UniversalClient) error {
	if c, ok := client.(*redis.ClusterClient); ok {
		return c.ForEachMaster(ctx, func(ctx context.Context, one *redis.Client) error { return n.ask(ctx, one) })
	}
	return n.ask(ctx, client)
}

// infoOf reads the answer to INFO: lines of name:value.
func infoOf(text string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			all[name] = value
		}
	}
	return all
}

// checkServer tells whether the servers are what the address says, in a version
// that has the commands.
func checkServer(ctx context.Context, client redis.UniversalClient, a *redisAddress) error {
	check := func(ctx context.Context, one informant) error {
		text, err := one.Info(ctx, "server", "cluster").Result()
		if err != nil {
			return err
		}
		info := infoOf(text)
		version := info["redis_version"]
		major, _, _ := strings.Cut(version, ".")
		if n, err := strconv.Atoi(major); err != nil || n < 7 {
			return fmt.Errorf("it is Redis %s; version 7 or later is needed", version)
		}
		if !a.cluster && info["cluster_enabled"] == "1" {
			return errors.New("it is a node of a Redis Cluster; give the addresses of several nodes, or cluster=true")
		}
		return nil
	}
	if c, ok := client.(*redis.ClusterClient); ok {
		return c.ForEachMaster(ctx, func(ctx context.Context, one *redis.Client) error { return check(ctx, one) })
	}
	return check(ctx, client)
}

// explain adds to an error of a connection what people can do about it.
func explain(err error, a *redisAddress) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "WRONGPASS"), strings.Contains(text, "invalid password"):
		return fmt.Errorf("wrong user or password: %w", err)
	case strings.Contains(text, "NOAUTH"):
		return fmt.Errorf("a password is needed: %w", err)
	case strings.Contains(text, "NOPERM"):
		return fmt.Errorf("the user may not do what the store needs: %w", err)
	case strings.Contains(text, "cluster support disabled"):
		return fmt.Errorf("it is no Redis Cluster; give one address only: %w", err)
	case strings.Contains(text, "first record does not look like a TLS handshake"):
		return fmt.Errorf("the server does not speak TLS there; use redis://: %w", err)
	case a.tls && strings.Contains(text, "context deadline exceeded"):
		return fmt.Errorf("no TLS handshake in time; if the server does not speak TLS there, use redis://: %w", err)
	case strings.Contains(text, "x509:"):
		return fmt.Errorf("the server's certificate is not accepted: %w", err)
	case strings.Contains(text, "certificate required"):
		return fmt.Errorf("the server wants a client's certificate: %w", err)
	case !a.tls && (strings.HasSuffix(text, "EOF") || strings.Contains(text, "connection reset")):
		return fmt.Errorf("the server hung up; if it wants TLS, use rediss://: %w", err)
	case strings.Contains(text, "connection refused"), strings.Contains(text, "i/o timeout"), strings.Contains(text, "no such host"):
		return fmt.Errorf("no server answers: %w", err)
	}
	return err
}
