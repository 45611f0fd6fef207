package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
	"github.com/sluice-risk/sluice/benchmarks/ruleset"
	"github.com/sluice-risk/sluice/pipeline/broker"
)

// group is members as processes, with topics and keys of their own.
type group struct {
	name    string
	o       *options
	conn    *broker.Conn
	client  *kafka.Client
	dir     string // of the program and its ruleset
	members []*member
}

// member is a running sluice.
type member struct {
	cmd      *exec.Cmd
	deciding chan struct{} // closed when it decides
	ended    chan struct{}
}

func newGroup(ctx context.Context, o *options) (g *group, err error) {
	if len(o.brokers) == 0 || o.redis == "" {
		return nil, errors.New("--brokers and --redis are needed")
	}
	g = &group{name: fmt.Sprintf("gap-%d", time.Now().UnixNano()), o: o, client: &kafka.Client{Addr: kafka.TCP(o.brokers...), Timeout: 5 * time.Second}}
	if g.conn, err = broker.Open(broker.Config{Brokers: o.brokers}); err != nil {
		return nil, err
	}
	if g.dir, err = os.MkdirTemp("", "sluice-gap-*"); err != nil {
		return nil, err
	}
	rules, err := fs.Sub(ruleset.Files, ".")
	if err == nil {
		err = os.CopyFS(filepath.Join(g.dir, "rules"), rules)
	}
	if err != nil {
		return nil, err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(g.dir, "sluice"), "github.com/sluice-risk/sluice/cmd/sluice")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	topics := make([]broker.Topic, 0, len(names))
	for _, name := range names {
		topic := broker.Topic{Name: g.topic(name), Partitions: o.partitions, Replication: 1}
		if name == "controls" {
			topic.Partitions = 1
		}
		topics = append(topics, topic)
	}
	return g, g.conn.EnsureTopics(ctx, topics, true)
}

// names are those of the topics, as settings call them.
var names = [...]string{"transactions", "outcomes", "reviews", "controls", "decisions", "notices", "alerts", "dead_letters"}

func (g *group) topic(name string) string { return g.name + "." + name }

// environment is that of a member.
func (g *group) environment() (env []string) {
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "SLUICE_") {
			env = append(env, kv)
		}
	}
	for _, name := range names {
		env = append(env, "SLUICE_TOPICS_"+strings.ToUpper(name)+"="+g.topic(name))
	}
	return append(env, "SLUICE_REDIS_PREFIX="+g.name, "SLUICE_KAFKA_SESSION_TIMEOUT="+g.o.session.String())
}

// join starts a member and returns when it decides.
func (g *group) join() error {
	m := &member{deciding: make(chan struct{}), ended: make(chan struct{})}
	m.cmd = exec.Command(filepath.Join(g.dir, "sluice"), "run", "--brokers", strings.Join(g.o.brokers, ","), "--group", g.name,
		"--store", "redis://"+g.o.redis, "--rules", filepath.Join(g.dir, "rules"), "--http", "")
	m.cmd.Env = g.environment()
	log, err := m.cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := m.cmd.Start(); err != nil {
		return err
	}
	go func() {
		decides := false
		for lines := bufio.NewScanner(log); lines.Scan(); {
			if strings.Contains(lines.Text(), "msg=deciding") && !decides {
				decides = true
				close(m.deciding)
			}
			if os.Getenv("GAP_LOG") != "" {
				fmt.Fprintln(os.Stderr, m.cmd.Process.Pid, lines.Text())
			}
		}
		_ = m.cmd.Wait()
		close(m.ended)
	}()
	g.members = append(g.members, m)
	select {
	case <-m.deciding:
		return nil
	case <-m.ended:
		return errors.New("a member ended before it decided anything")
	}
}

// leave lets the oldest member leave as it should.
func (g *group) leave() error { return g.end(syscall.SIGTERM) }

// kill ends the oldest member without warning.
func (g *group) kill() error { return g.end(syscall.SIGKILL) }

func (g *group) end(s syscall.Signal) error {
	m := g.members[0]
	g.members = g.members[1:]
	err := m.cmd.Process.Signal(s)
	<-m.ended
	return err
}

// state asks the coordinator.
func (g *group) state(ctx context.Context) (stable bool, members int) {
	res, err := g.client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{g.name}})
	if err != nil || len(res.Groups) != 1 || res.Groups[0].Error != nil {
		return false, 0
	}
	return res.Groups[0].GroupState == "Stable", len(res.Groups[0].Members)
}

// settle waits until the group is stable with so many members.
func (g *group) settle(ctx context.Context, members int) error {
	for {
		if stable, n := g.state(ctx); stable && n == members {
			return nil
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// watch tells when the group began to rebalance and when it was stable again with
// so many members.
func (g *group) watch(ctx context.Context, members int) (noticed, stable time.Time, err error) {
	for {
		ok, n := g.state(ctx)
		now := time.Now()
		if noticed.IsZero() && (!ok || n == members) {
			noticed = now
		}
		if ok && n == members {
			return noticed, now, nil
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return noticed, now, err
		}
	}
}

// remove ends all members and removes topics, keys and files.
func (g *group) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for len(g.members) > 0 {
		_ = g.kill()
	}
	var topics []string
	for _, name := range names {
		topics = append(topics, g.topic(name))
	}
	_, err := g.client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: topics})
	if err = errors.Join(err, g.removeKeys(ctx), os.RemoveAll(g.dir)); err != nil {
		fmt.Fprintln(os.Stderr, "gap: clean up:", err)
	}
	g.conn.Close()
}

func (g *group) removeKeys(ctx context.Context) error {
	client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: strings.Split(g.o.redis, ",")})
	defer func() { _ = client.Close() }()
	remove := func(ctx context.Context, one *redis.Client) error {
		keys := one.Scan(ctx, 0, g.name+":*", 1000).Iterator()
		pipe := one.Pipeline()
		for keys.Next(ctx) {
			if pipe.Unlink(ctx, keys.Val()); pipe.Len() >= 1000 {
				if _, err := pipe.Exec(ctx); err != nil {
					return err
				}
			}
		}
		_, err := pipe.Exec(ctx)
		return errors.Join(keys.Err(), err)
	}
	if cluster, ok := client.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, remove)
	}
	return remove(ctx, client.(*redis.Client))
}
