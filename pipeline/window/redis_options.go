package window

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// RedisOptions says where a Redis store is and how to reach it.
type RedisOptions struct {
	// URL is redis://user:password@host:port/db, or rediss:// for TLS. Several
	// addresses separated by commas, or the query cluster=true, are a Redis Cluster.
	URL string
	// User and Password, where set, are used instead of those in URL.
	User, Password string
	// Files in PEM: the authority that signed the server's certificate (the
	// system's, if empty), and a certificate and key to show to the server.
	CA, Certificate, PrivateKey string
	// Prefix begins the name of each key; "sluice" if empty.
	Prefix string
	// Timeout bounds each round trip, with connecting, TLS and log in where these are
	// needed: 100 ms if zero. A store that takes longer counts as away, and payments
	// go on without it. Opening a store may take longer.
	Timeout time.Duration
	// SegmentBytes is when the first segments of a log are sealed; 64 KiB if zero.
	// Those of long logs grow up to sixteen times as large.
	SegmentBytes int
}

func (o *RedisOptions) fillDefaults() {
	if o.Prefix == "" {
		o.Prefix = "sluice"
	}
	if o.Timeout == 0 {
		o.Timeout = 100 * time.Millisecond
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 64 << 10
	}
}

// redisAddress is what a URL says.
type redisAddress struct {
	addresses      []string // host:port
	user, password string
	db             int
	tls, cluster   bool
}

// String names the servers; never the password.
func (a *redisAddress) String() string { return strings.Join(a.addresses, ",") }

func parseRedisURL(text string) (a redisAddress, err error) {
	scheme, rest, _ := strings.Cut(text, "://")
	if scheme != "redis" && scheme != "rediss" {
		return a, errors.New("the address of a Redis store begins with redis:// or rediss://")
	}
	hostsEnd := len(rest)
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		hostsEnd = i
	}
	user, hosts := "", rest[:hostsEnd]
	if i := strings.LastIndexByte(hosts, '@'); i >= 0 {
		user, hosts = hosts[:i+1], hosts[i+1:]
	}
	u, err := url.Parse(scheme + "://" + user + "host" + rest[hostsEnd:])
	if err != nil { // it would print the password
		return a, errors.New("the address of the Redis store is no URL; a user or password with other than letters and digits is written with %XX")
	}
	a.tls = scheme == "rediss"
	a.user = u.User.Username()
	a.password, _ = u.User.Password()
	for _, host := range strings.Split(hosts, ",") {
		if host == "" {
			return a, errors.New("the address of the Redis store names no host")
		}
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(strings.Trim(host, "[]"), "6379")
		}
		a.addresses = append(a.addresses, host)
	}
	if path := strings.Trim(u.Path, "/"); path != "" {
		if a.db, err = strconv.Atoi(path); err != nil || a.db < 0 {
			return a, fmt.Errorf("the address of the Redis store has the database %q, not a number", path)
		}
	}
	a.cluster = len(a.addresses) > 1
	for name, values := range u.Query() {
		if name != "cluster" || len(values) != 1 {
			return a, fmt.Errorf("the address of the Redis store has an unknown parameter %q; known is cluster=true", name)
		}
		yes, err := strconv.ParseBool(values[0])
		if err != nil {
			return a, fmt.Errorf("the address of the Redis store has cluster=%q, neither true nor false", values[0])
		}
		a.cluster = a.cluster || yes
	}
	if a.cluster && a.db != 0 {
		return a, errors.New("a Redis Cluster has only database 0")
	}
	return a, nil
}

// tlsConfig reads the certificates.
func (o *RedisOptions) tlsConfig() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("authority of the server's certificate: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("authority of the server's certificate: no certificate in %s", o.CA)
		}
	}
	if o.Certificate != "" || o.PrivateKey != "" {
		pair, err := tls.LoadX509KeyPair(o.Certificate, o.PrivateKey)
		if err != nil {
			return nil, fmt.Errorf("own certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// opening is how long a round trip may take while the store is opened: nobody
// waits for a verdict yet.
const opening = 2 * time.Second

// connect makes the client. Nothing is sent twice by itself: whoever gets an
// error decides what to do.
//
// What bounds a round trip is the deadline of its context (see attempt): it holds
// for connecting and answer together, and to the millisecond. The client's own
// times are only for what it does beside, such as asking a cluster for its slots.
func (o *RedisOptions) connect(a *redisAddress, n *nodes) (redis.UniversalClient, error) {
	beside := max(o.Timeout, opening)
	u := &redis.UniversalOptions{
		Addrs: a.addresses, Username: a.user, Password: a.password, DB: a.db, IsClusterMode: a.cluster,
		OnConnect: n.connected, Protocol: 2, DisableIdentity: true,
		MaxRetries: -1, MaxRedirects: 3, DialerRetries: 1,
		DialTimeout: beside, ReadTimeout: beside, WriteTimeout: beside, PoolTimeout: beside, ContextTimeoutEnabled: true,
		PoolSize: 8, ReadBufferSize: 1 << 16, WriteBufferSize: 1 << 16,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if o.User != "" {
		u.Username = o.User
	}
	if o.Password != "" {
		u.Password = o.Password
	}
	if a.tls {
		c, err := o.tlsConfig()
		if err != nil {
			return nil, err
		}
		u.TLSConfig = c
	}
	return redis.NewUniversalClient(u), nil
}
