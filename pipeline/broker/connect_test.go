package broker

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func certs(t *testing.T, name string) string {
	t.Helper()
	return filepath.Join(realBroker(t, "SLUICE_TEST_KAFKA_CERTS"), name)
}

func saslConfig(t *testing.T, mechanism string) Config {
	t.Helper()
	return Config{
		Brokers: strings.Split(realBroker(t, "SLUICE_TEST_KAFKA_SASL"), ","),
		TLS:     TLSConfig{Enabled: true, CAFile: certs(t, "ca.pem")},
		SASL:    SASLConfig{Mechanism: mechanism, Username: os.Getenv("SLUICE_TEST_KAFKA_USER"), Password: os.Getenv("SLUICE_TEST_KAFKA_PASSWORD")},
	}
}

func mtlsConfig(t *testing.T) Config {
	t.Helper()
	return Config{
		Brokers: strings.Split(realBroker(t, "SLUICE_TEST_KAFKA_MTLS"), ","),
		TLS:     TLSConfig{Enabled: true, CAFile: certs(t, "ca.pem"), CertFile: certs(t, "client.pem"), KeyFile: certs(t, "client.key")},
	}
}

// Every way to authenticate carries every kind of traffic: topics, records, the fence, and the group, which kafka-go
// connects in another way than the rest.
func TestAuthenticatedConnectionsCarryEverything(t *testing.T) {
	for _, tc := range []struct {
		name string
		cfg  func(t *testing.T) Config
	}{
		{"mTLS", mtlsConfig},
		{"PLAIN", func(t *testing.T) Config { return saslConfig(t, "PLAIN") }},
		{"SCRAM-SHA-512", func(t *testing.T) Config { return saslConfig(t, "SCRAM-SHA-512") }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := open(t, tc.cfg(t))
			ctx := within(t, 30*time.Second)
			topic := newTopic(t, c, 2, nil)
			if err := c.Produce(ctx, topic, ByKey, messages(100, "v%d")); err != nil {
				t.Fatal(err)
			}
			if n := len(readAll(t, c, topic, 0, 0)) + len(readAll(t, c, topic, 1, 0)); n != 100 {
				t.Errorf("%d records of 100", n)
			}
			if _, _, err := c.Fence(ctx, topic, topic, 0); err != nil {
				t.Error(err)
			}
			if got := oneGeneration(t, c, topic, unique(t, "group")); len(got) != 2 {
				t.Errorf("assigned %v, want both partitions", got)
			}
		})
	}
}

func TestRefusedConnectionSaysWhy(t *testing.T) {
	for _, tc := range []struct {
		name string
		cfg  func(t *testing.T) Config
		want []string
	}{
		{"wrong password PLAIN", func(t *testing.T) Config {
			c := saslConfig(t, "PLAIN")
			c.SASL.Password = "wrong"
			return c
		}, []string{"authentication failed (PLAIN, user \"sluice\")", "127.0.0.1:"}},
		{"wrong password SCRAM-SHA-512", func(t *testing.T) Config {
			c := saslConfig(t, "SCRAM-SHA-512")
			c.SASL.Password = "wrong"
			return c
		}, []string{"authentication failed (SCRAM-SHA-512, user \"sluice\")"}},
		{"mechanism not offered", func(t *testing.T) Config { return saslConfig(t, "SCRAM-SHA-256") },
			[]string{"the broker does not offer SCRAM-SHA-256"}},
		{"no client certificate", func(t *testing.T) Config {
			c := mtlsConfig(t)
			c.TLS.CertFile, c.TLS.KeyFile = "", ""
			return c
		}, []string{"client certificate", "tls.cert_file"}},
		{"unknown authority", func(t *testing.T) Config {
			c := mtlsConfig(t)
			c.TLS.CAFile = ""
			return c
		}, []string{"TLS failed", "certificate signed by unknown authority"}},
		{"TLS expected", func(t *testing.T) Config {
			c := mtlsConfig(t)
			c.TLS = TLSConfig{}
			return c
		}, []string{"the broker wants TLS (tls.enabled)"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := open(t, tc.cfg(t))
			begun := time.Now()
			err := c.EnsureTopics(within(t, 20*time.Second), []Topic{{Name: "any"}}, false)
			if err == nil {
				t.Fatal("the broker let us in")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("took %v: what does not heal must not be retried until time is up", took)
			}
			group := GroupConfig{Group: "any", Topics: []string{"any"}}
			err = c.JoinGroup(within(t, 20*time.Second), group, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want[0]) {
				t.Errorf("joining a group: error %v does not say %q", err, tc.want[0])
			}
		})
	}
}

func TestUnreachableBrokerIsRetriedUntilTimeIsUpAndThenNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port where nobody answers
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	c := open(t, Config{Brokers: []string{addr}})
	err = c.EnsureTopics(within(t, 500*time.Millisecond), []Topic{{Name: "any"}}, false)
	if err == nil || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("error %v, want one that names %s and says connection refused", err, addr)
	}
}

func TestMissingTopicsAreAllNamedOrMade(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		ctx := within(t, 30*time.Second)
		there := newTopic(t, c, 3, nil)
		a, b := unique(t, "a"), unique(t, "b")
		topics := []Topic{{Name: a, Partitions: 2, Replication: 3}, {Name: there, Partitions: 9}, {Name: b, Partitions: 4, Replication: 1, Configs: map[string]string{"retention.ms": "-1"}}}
		err := c.EnsureTopics(ctx, topics, false)
		var missing *MissingTopicsError
		if !errors.As(err, &missing) || !slices.Equal(missing.Topics, []string{a, b}) {
			t.Fatalf("error %v, want a MissingTopicsError with %s and %s", err, a, b)
		}
		for range 2 { // the second time there is nothing to do
			if err := c.EnsureTopics(ctx, topics, true); err != nil {
				t.Fatal(err)
			}
		}
		for name, want := range map[string]int{a: 2, there: 3, b: 4} {
			if n, err := c.Partitions(ctx, name); err != nil || n != want {
				t.Errorf("%s has %d partitions, %v; want %d", name, n, err, want)
			}
			if err := c.Produce(ctx, name, want-1, messages(1, "%d")); err != nil {
				t.Errorf("the last partition of %s cannot be written to at once: %v", name, err)
			}
		}
		ranges, err := c.TopicOffsets(ctx, b)
		if err != nil || !slices.Equal(ranges, []OffsetRange{{}, {}, {}, {0, 1}}) {
			t.Errorf("offsets of %s: %v, %v", b, ranges, err)
		}
	})
}

func TestValidateNamesEveryBadField(t *testing.T) {
	err := Config{
		Brokers: []string{"good:9092", "no-port", "bad:port"},
		TLS:     TLSConfig{CertFile: "a.pem"},
		SASL:    SASLConfig{Mechanism: "GSSAPI"},
	}.Validate()
	for _, want := range []string{`"no-port"`, `"bad:port"`, "tls.enabled", "tls.key_file", `"GSSAPI"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
	if err := (Config{Brokers: []string{"a:9092"}, SASL: SASLConfig{Mechanism: "PLAIN"}}).Validate(); err == nil ||
		!strings.Contains(err.Error(), "sasl.username") || !strings.Contains(err.Error(), "sasl.password") {
		t.Errorf("error %v does not name user and password", err)
	}
	if err := (Config{Brokers: []string{"a:9092", "[::1]:9093"}, TLS: TLSConfig{Enabled: true}, SASL: SASLConfig{"PLAIN", "u", "p"}}).Validate(); err != nil {
		t.Errorf("a good configuration: %v", err)
	}
}
