package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"
	"github.com/twmb/franz-go/pkg/kfake"
)

// EmbeddedConfig describes the broker of the sandbox.
type EmbeddedConfig struct {
	Addr   string  // host:port to listen on, such as 127.0.0.1:0; clients are told the same address
	Dir    string  // where to keep everything; empty: in memory, gone with the process
	Topics []Topic // made if they do not exist yet
}

// Embedded is a Kafka broker within this process, for any client that can connect: it speaks the real protocol with
// groups, transactions and idempotent producers. It is for one machine and one person, not for money: nothing is
// replicated.
//
// With a folder, records, topics, committed offsets and producer epochs survive Close, and also a SIGKILL, since every
// batch and commit is handed to the operating system before it is acknowledged; a power failure may take the last
// seconds. The sequence numbers of producers are kept by Close only, and read back from the log after a SIGKILL.
type Embedded struct {
	cluster *kfake.Cluster
	addr    string
	lock    *flock.Flock // of the folder; nil without one
}

// ErrFolderInUse: another process keeps its embedded broker in the folder.
var ErrFolderInUse = errors.New("another process uses this folder")

// StartEmbedded listens and returns once the topics can be used. Errors: an address that is taken, a folder that cannot
// be read, ErrFolderInUse.
func StartEmbedded(cfg EmbeddedConfig) (*Embedded, error) {
	e := &Embedded{}
	if cfg.Dir != "" {
		if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("embedded broker: %w", err)
		}
		e.lock = flock.New(filepath.Join(cfg.Dir, "LOCK"))
		if got, err := e.lock.TryLock(); err != nil || !got {
			return nil, fmt.Errorf("embedded broker in %s: %w", cfg.Dir, errors.Join(ErrFolderInUse, err))
		}
	}
	if err := e.start(cfg); err != nil {
		return nil, errors.Join(err, e.unlock())
	}
	// kfake seeds topics only into an empty folder, so they are made as any client would.
	if err := e.ensure(cfg.Topics); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func (e *Embedded) start(cfg EmbeddedConfig) error {
	opts := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.GroupMinSessionTimeout(100 * time.Millisecond),
		kfake.ListenFn(func(network, _ string) (net.Listener, error) { return net.Listen(network, cfg.Addr) }),
	}
	if cfg.Dir != "" {
		opts = append(opts, kfake.DataDir(cfg.Dir))
	}
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		return fmt.Errorf("embedded broker on %s: %w", cfg.Addr, err)
	}
	e.cluster, e.addr = cluster, cluster.ListenAddrs()[0]
	return nil
}

func (e *Embedded) ensure(topics []Topic) error {
	conn, err := Open(Config{Brokers: []string{e.addr}})
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	topics = slices.Clone(topics)
	for i := range topics {
		topics[i].Replication = 1
	}
	return conn.EnsureTopics(ctx, topics, true)
}

// Addr is the host:port that clients connect to.
func (e *Embedded) Addr() string { return e.addr }

// Close stops the broker and, with a folder, writes down what it still has in memory.
func (e *Embedded) Close() error {
	e.cluster.Close()
	return e.unlock()
}

func (e *Embedded) unlock() error {
	if e.lock == nil {
		return nil
	}
	return e.lock.Unlock()
}
