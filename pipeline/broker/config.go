package broker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// Config says which cluster to talk to and as whom.
type Config struct {
	Brokers  []string // host:port, at least one; any of them introduces the others
	ClientID string   // shown in the broker's logs, metrics and quotas
	TLS      TLSConfig
	SASL     SASLConfig

	// OnRetry, if set, is told of every failure that is about to be retried, so that a gate that cannot make
	// progress is seen. It is called from many goroutines and must not block.
	OnRetry func(what string, err error)
}

// TLSConfig says how connections are encrypted. Files are PEM.
type TLSConfig struct {
	Enabled    bool
	CAFile     string // authorities that may sign the broker's certificate; empty: those of the system
	CertFile   string // our own certificate, for mutual TLS; together with KeyFile
	KeyFile    string
	ServerName string // expected in the broker's certificate; empty: the host that is dialled
}

// SASLConfig says as whom we authenticate.
type SASLConfig struct {
	Mechanism string // "", "PLAIN", "SCRAM-SHA-256" or "SCRAM-SHA-512"
	Username  string
	Password  string
}

// Validate names every bad field, joined into one error.
func (c Config) Validate() error {
	var bad []error
	field := func(name, format string, args ...any) {
		bad = append(bad, fmt.Errorf("%s: %s", name, fmt.Sprintf(format, args...)))
	}
	if len(c.Brokers) == 0 {
		field("brokers", "at least one host:port is needed")
	}
	for _, b := range c.Brokers {
		host, port, err := net.SplitHostPort(b)
		n, errPort := strconv.Atoi(port)
		if err != nil || host == "" || errPort != nil || n < 1 || n > 65535 || strings.ContainsAny(b, ", ") {
			field("brokers", "%q is not host:port", b)
		}
	}
	if !c.TLS.Enabled && c.TLS != (TLSConfig{}) {
		field("tls.enabled", "is false, but other tls settings are given")
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		field("tls.cert_file, tls.key_file", "belong together, only one is given")
	}
	switch c.SASL.Mechanism {
	case "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512":
		if c.SASL.Username == "" {
			field("sasl.username", "is needed for %s", c.SASL.Mechanism)
		}
		if c.SASL.Password == "" {
			field("sasl.password", "is needed for %s", c.SASL.Mechanism)
		}
	case "":
		if c.SASL != (SASLConfig{}) {
			field("sasl.mechanism", "is empty, but a user or password is given")
		}
	default:
		field("sasl.mechanism", "%q is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512", c.SASL.Mechanism)
	}
	return errors.Join(bad...)
}

// load reads the files; it returns nil when TLS is off.
func (c TLSConfig) load() (*tls.Config, error) {
	if !c.Enabled {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls.ca_file: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca_file: %s holds no PEM certificate", c.CAFile)
		}
	}
	if c.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("tls.cert_file, tls.key_file: %w", err)
		}
		t.Certificates = []tls.Certificate{cert}
	}
	return t, nil
}

// load returns nil without a mechanism.
func (c SASLConfig) load() (sasl.Mechanism, error) {
	switch c.Mechanism {
	case "":
		return nil, nil
	case "PLAIN":
		return plain.Mechanism{Username: c.Username, Password: c.Password}, nil
	case "SCRAM-SHA-256":
		return scram.Mechanism(scram.SHA256, c.Username, c.Password)
	default:
		return scram.Mechanism(scram.SHA512, c.Username, c.Password)
	}
}

const (
	// requestTimeout bounds one request, not the call that makes it: what runs out is retried.
	requestTimeout = 10 * time.Second
	dialTimeout    = 5 * time.Second
	// metadataTTL bounds how long a moved leader goes unnoticed by someone who asks nothing of it; whoever is
	// refused because of stale metadata refreshes it at once.
	metadataTTL = 10 * time.Second
	// refreshEvery keeps many lanes that lose one leader from asking for the cluster's layout all at once.
	refreshEvery = 200 * time.Millisecond
)

// Conn is a client of one cluster. All methods may be called from many goroutines.
type Conn struct {
	cfg       Config
	addr      net.Addr
	tls       *tls.Config
	sasl      sasl.Mechanism
	transport *kafka.Transport
	client    *kafka.Client
	batches   sync.Pool // *Batch, for Produce

	mu        sync.Mutex
	refreshed time.Time // when the layout was last thrown away; guarded by mu
}

// Open checks the configuration and loads its files. It does not connect: the first call does.
func Open(cfg Config) (*Conn, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka configuration: %w", err)
	}
	if cfg.ClientID == "" {
		cfg.ClientID = "sluice"
	}
	tlsConfig, err := cfg.TLS.load()
	if err != nil {
		return nil, fmt.Errorf("kafka configuration: %w", err)
	}
	mechanism, err := cfg.SASL.load()
	if err != nil {
		return nil, fmt.Errorf("kafka configuration: sasl: %w", err)
	}
	c := &Conn{
		cfg:  cfg,
		addr: kafka.TCP(cfg.Brokers...),
		tls:  tlsConfig,
		sasl: mechanism,
		transport: &kafka.Transport{
			ClientID:    cfg.ClientID,
			TLS:         tlsConfig,
			SASL:        mechanism,
			DialTimeout: dialTimeout,
			MetadataTTL: metadataTTL,
		},
	}
	c.client = &kafka.Client{Addr: c.addr, Transport: c.transport, Timeout: requestTimeout}
	c.batches.New = func() any { return new(Batch) }
	return c, nil
}

// Close drops the connections. Calls under way end by themselves or with their context.
func (c *Conn) Close() { c.transport.CloseIdleConnections() }

// refresh throws the cached layout of the cluster away, with the idle connections; the next request asks anew.
// It is how a moved leader is found before the layout's time is up.
func (c *Conn) refresh() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.refreshed) >= refreshEvery {
		c.refreshed = time.Now()
		c.transport.CloseIdleConnections()
	}
}
