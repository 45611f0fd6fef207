package parts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// Kafka is a cluster of brokers that are controllers as well, in one quorum. Each
// topic has a copy on every broker, and writes are acknowledged by two of them.
type Kafka struct {
	Brokers []*Process // by node id, from 1
	direct  []int      // ports without a link
	doors   [][]*Link  // by client, then broker
}

// KafkaOptions say where the software is and where the cluster stands.
type KafkaOptions struct {
	Java    string // the program, of version 17 or later
	Libs    string // folder of the jars
	Dir     string
	Brokers int
	Clients int // that have links of their own, each to a listener of its own
}

// StartKafka formats and starts a cluster. It answers once Ready.
func StartKafka(ctx context.Context, o KafkaOptions) (k *Kafka, err error) {
	k = &Kafka{}
	defer func() {
		if err != nil {
			k.Close()
		}
	}()
	ports, err := freePorts(o.Brokers * (2 + 2*o.Clients))
	if err != nil {
		return nil, err
	}
	next := func() int {
		port := ports[0]
		ports = ports[1:]
		return port
	}
	var voters []string
	var nodes []*node
	for id := range o.Brokers {
		n := &node{id: id + 1, direct: next(), controller: next()}
		voters = append(voters, fmt.Sprintf("%d@%s", n.id, address(n.controller)))
		nodes, k.direct = append(nodes, n), append(k.direct, n.direct)
	}
	for range o.Clients {
		var door []*Link
		for _, n := range nodes {
			at := next()
			link, err := NewLink(next(), address(at))
			if err != nil {
				return k, err
			}
			n.doors, n.advertised, door = append(n.doors, at), append(n.advertised, link.Addr()), append(door, link)
		}
		k.doors = append(k.doors, door)
	}
	var format errgroup.Group
	for _, n := range nodes {
		p, err := n.process(&o, strings.Join(voters, ","))
		if err != nil {
			return k, err
		}
		k.Brokers = append(k.Brokers, p)
		format.Go(func() error {
			out, err := exec.CommandContext(ctx, o.Java, "-XX:TieredStopAtLevel=1", "-Xmx128m", "-cp", filepath.Join(o.Libs, "*"), "kafka.tools.StorageTool",
				"format", "-t", "c2x1aWNlLXN0b3JtLTAwMQ", "-c", filepath.Join(p.Dir, "server.properties")).CombinedOutput()
			if err != nil {
				return fmt.Errorf("format the storage of %s: %w\n%s", p.Name, err, out)
			}
			return nil
		})
	}
	if err := format.Wait(); err != nil {
		return k, err
	}
	for _, p := range k.Brokers {
		err = errors.Join(err, p.Start())
	}
	return k, err
}

// node is one broker.
type node struct {
	id, direct, controller int
	doors                  []int
	advertised             []string // the links before the doors
}

func (n *node) process(o *KafkaOptions, voters string) (*Process, error) {
	p := &Process{Name: fmt.Sprintf("broker-%d", n.id), Env: os.Environ()}
	p.Dir = filepath.Join(o.Dir, p.Name)
	p.Command = []string{o.Java, "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dlog4j2.configurationFile=" + filepath.Join(p.Dir, "log4j2.properties"),
		"-cp", filepath.Join(o.Libs, "*"), "kafka.Kafka", filepath.Join(p.Dir, "server.properties")}
	err := errors.Join(os.MkdirAll(p.Dir, 0o755),
		os.WriteFile(filepath.Join(p.Dir, "server.properties"), []byte(n.properties(o, p.Dir, voters)), 0o644),
		os.WriteFile(filepath.Join(p.Dir, "log4j2.properties"), []byte(`status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c{1}: %m%n
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
`), 0o644))
	return p, err
}

func (n *node) properties(o *KafkaOptions, dir, voters string) string {
	listeners, advertised, protocols := []string{}, []string{}, []string{}
	listen := func(name string, port int, told string) {
		listeners = append(listeners, name+"://"+address(port))
		protocols = append(protocols, name+":PLAINTEXT")
		if told != "" {
			advertised = append(advertised, name+"://"+told)
		}
	}
	listen("DIRECT", n.direct, address(n.direct))
	for i, port := range n.doors {
		listen(fmt.Sprintf("DOOR%d", i+1), port, n.advertised[i])
	}
	listen("CONTROLLER", n.controller, "")
	all, inSync := o.Brokers, min(2, o.Brokers)
	return fmt.Sprintf(`process.roles=broker,controller
node.id=%d
controller.quorum.voters=%s
log.dirs=%s
listeners=%s
advertised.listeners=%s
listener.security.protocol.map=%s
inter.broker.listener.name=DIRECT
controller.listener.names=CONTROLLER
default.replication.factor=%d
min.insync.replicas=%d
offsets.topic.replication.factor=%d
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=%d
transaction.state.log.min.isr=%d
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=%d
share.coordinator.state.topic.min.isr=%d
auto.create.topics.enable=false
unclean.leader.election.enable=false
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.retention.ms=-1
num.network.threads=1
num.io.threads=4
log.cleaner.dedupe.buffer.size=16777216
# A broker that was killed is missed, and its partitions find other leaders, after so long.
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
`, n.id, voters, filepath.Join(dir, "data"), strings.Join(listeners, ","), strings.Join(advertised, ","), strings.Join(protocols, ","),
		all, inSync, all, all, inSync, all, inSync)
}

// Revive starts a broker that was killed, by its place, and returns when it says
// that it serves again.
func (k *Kafka) Revive(ctx context.Context, broker int) error {
	p := k.Brokers[broker]
	log := filepath.Join(p.Dir, "log")
	before, err := os.Stat(log)
	if err != nil {
		return err
	}
	if err := p.Start(); err != nil {
		return err
	}
	for {
		said, err := os.ReadFile(log)
		if err == nil && bytes.Contains(said[min(before.Size(), int64(len(said))):], []byte("Kafka Server started")) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not serve again; its log is %s: %w", p.Name, log, ctx.Err())
		case <-p.Exited():
			return fmt.Errorf("%s has ended; its log is %s", p.Name, log)
		case <-time.After(100 * time.Millisecond): // it tells nobody else
		}
	}
}

// Direct are the brokers' addresses without links.
func (k *Kafka) Direct() (addresses []string) {
	for _, port := range k.direct {
		addresses = append(addresses, address(port))
	}
	return addresses
}

// Door are the links of one client to all brokers.
func (k *Kafka) Door(client int) []*Link { return k.doors[client] }

// Close kills the brokers and closes the links.
func (k *Kafka) Close() {
	for _, p := range k.Brokers {
		_ = p.Kill()
	}
	for _, door := range k.doors {
		for _, link := range door {
			link.Close()
		}
	}
}
