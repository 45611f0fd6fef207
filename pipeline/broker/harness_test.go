package broker

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// brokerEnv names the real broker that `make test` starts.
const brokerEnv = "SLUICE_TEST_KAFKA"

func TestMain(m *testing.M) {
	if os.Getenv(memberEnv) != "" {
		fencedMember() // this process is a member of the fencing test, not a test run
		return
	}
	if dir := os.Getenv(embeddedEnv); dir != "" {
		embeddedMain(dir)
		return
	}
	os.Exit(m.Run())
}

// realBroker returns the setting of the environment, skips the test without it, and fails it in CI.
func realBroker(t testing.TB, env string) string {
	t.Helper()
	v := os.Getenv(env)
	if v == "" && os.Getenv("CI") != "" {
		t.Fatalf("%s is not set: CI must run against a real Kafka", env)
	}
	if v == "" {
		t.Skipf("%s is not set; `make test` starts a Kafka and sets it", env)
	}
	return v
}

// onBrokers runs the test against the embedded broker and against a real Kafka.
func onBrokers(t *testing.T, test func(t *testing.T, c *Conn)) {
	t.Run("embedded", func(t *testing.T) {
		e, err := StartEmbedded(EmbeddedConfig{Addr: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Close() })
		test(t, open(t, Config{Brokers: []string{e.Addr()}}))
	})
	t.Run("kafka", func(t *testing.T) {
		test(t, open(t, Config{Brokers: strings.Split(realBroker(t, brokerEnv), ",")}))
	})
}

func open(t testing.TB, cfg Config) *Conn {
	t.Helper()
	c, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// within bounds a test's calls.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// unique makes a name of the test's own, so that tests on a shared broker do not meet.
func unique(t testing.TB, what string) string {
	name := strings.NewReplacer("/", ".", " ", "_", "=", "_").Replace(t.Name())
	return fmt.Sprintf("%s.%s.%d", name, what, time.Now().UnixNano())
}

// newTopic makes a topic that is deleted by nobody: the broker is the test's.
func newTopic(t testing.TB, c *Conn, partitions int, configs map[string]string) string {
	t.Helper()
	name := unique(t, "topic")
	err := c.EnsureTopics(within(t, 20*time.Second), []Topic{{Name: name, Partitions: partitions, Replication: 1, Configs: configs}}, true)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// readAll returns what the partition holds from offset from up to its present end, with bytes of its own.
func readAll(t testing.TB, c *Conn, topic string, partition int, from int64) []Record {
	t.Helper()
	ctx := within(t, 30*time.Second)
	_, end, err := c.Offsets(ctx, topic, partition)
	if err != nil {
		t.Fatal(err)
	}
	var all []Record
	if _, err := c.ReadRange(ctx, topic, partition, from, end, func(r Record) error {
		all = append(all, r.clone())
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func (r Record) clone() Record {
	c := r
	c.Key, c.Value, c.Headers = clone(r.Key), clone(r.Value), nil
	for _, h := range r.Headers {
		c.Headers = append(c.Headers, Header{Key: h.Key, Value: clone(h.Value)})
	}
	return c
}

// clone keeps nil nil.
func clone(p []byte) []byte {
	if p == nil {
		return nil
	}
	return append([]byte{}, p...)
}

func messages(n int, format string) []Message {
	all := make([]Message, n)
	for i := range all {
		all[i] = Message{Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, format, i)}
	}
	return all
}
