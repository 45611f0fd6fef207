package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

const (
	backoffFirst = 20 * time.Millisecond
	backoffMost  = time.Second
)

// backoff waits longer each time, with jitter so that those who failed together do not come back together.
type backoff struct{ next time.Duration }

// wait sleeps for half to all of the present step, or until ctx ends.
func (b *backoff) wait(ctx context.Context) {
	b.next = min(max(2*b.next, backoffFirst), backoffMost)
	t := time.NewTimer(b.next/2 + rand.N(b.next/2))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// retry calls attempt until it succeeds, fails for good, or ctx ends. attempt bounds its own time.
func (c *Conn) retry(ctx context.Context, what string, attempt func() error) error {
	var b backoff
	var last error
	for ctx.Err() == nil {
		err := c.cause(ctx, attempt())
		if err == nil {
			return nil
		}
		if ctx.Err() != nil && last != nil && errors.Is(err, ctx.Err()) {
			break // what went wrong before says more than that time is up
		}
		last = err
		if ctx.Err() != nil {
			break
		}
		if !heals(err) {
			return c.named(what, err)
		}
		if c.cfg.OnRetry != nil {
			c.cfg.OnRetry(what, c.named(what, err))
		}
		if staleLayout(err) {
			c.refresh()
		}
		b.wait(ctx)
	}
	if last == nil || errors.Is(last, ctx.Err()) {
		return c.named(what, ctx.Err())
	}
	return c.named(what, fmt.Errorf("%w; last error: %w", ctx.Err(), last))
}

// cause replaces an error that only says that the layout is empty by the reason why it is: a transport that never
// reached the cluster answers every request with "topic not found".
func (c *Conn) cause(ctx context.Context, err error) error {
	if err == nil || !staleLayout(err) {
		return err
	}
	if _, errLayout := c.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{}}); errLayout != nil && ctx.Err() == nil {
		return errLayout
	}
	return err
}

// staleLayout: the request went, or would have gone, to the wrong broker.
func staleLayout(err error) bool {
	for _, e := range []error{
		protocol.ErrNoTopic, protocol.ErrNoPartition, protocol.ErrNoLeader, kafka.BrokerNotAvailable, kafka.NotLeaderForPartition,
		kafka.LeaderNotAvailable, kafka.UnknownTopicOrPartition, kafka.FencedLeaderEpoch, kafka.KafkaStorageError, kafka.ReplicaNotAvailable,
		syscall.ECONNREFUSED,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// heals says whether trying again may help. Errors that it does not know do not heal.
func heals(err error) bool {
	if refusedTLS(err) {
		return false
	}
	if code := kafka.Error(0); errors.As(err, &code) {
		switch code {
		case kafka.Unknown, kafka.BrokerNotAvailable, kafka.ReplicaNotAvailable, kafka.ConcurrentTransactions: // Unknown: what a broker says that is being killed
			return true
		}
		return code.Temporary()
	}
	for _, e := range []error{
		protocol.ErrNoTopic, protocol.ErrNoPartition, protocol.ErrNoLeader,
		io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed,
		context.DeadlineExceeded, os.ErrDeadlineExceeded, // of one request; the caller's own context is looked at first
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	var netErr net.Error
	var errno syscall.Errno
	return errors.As(err, &netErr) || errors.As(err, &errno)
}

// refusedTLS: one side did not accept the other's certificate or does not speak TLS at all.
func refusedTLS(err error) bool {
	var verify *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var op *net.OpError
	return errors.As(err, &verify) || errors.As(err, &header) || errors.As(err, &unknown) || errors.As(err, &host) ||
		errors.As(err, &op) && op.Op == "remote error" || expectsTLS(err)
}

func expectsTLS(err error) bool { return strings.Contains(err.Error(), "expecting TLS") }

// named says whom we talked to, as what, and what is wrong with it, in words of the configuration.
func (c *Conn) named(what string, err error) error {
	why := ""
	switch {
	case errors.Is(err, kafka.SASLAuthenticationFailed):
		why = fmt.Sprintf("authentication failed (%s, user %q): ", c.cfg.SASL.Mechanism, c.cfg.SASL.Username)
	case errors.Is(err, kafka.UnsupportedSASLMechanism):
		why = fmt.Sprintf("the broker does not offer %s: ", c.cfg.SASL.Mechanism)
	case errors.Is(err, kafka.IllegalSASLState):
		why = "the broker wants authentication in another way (sasl.mechanism): "
	case expectsTLS(err):
		why = "the broker wants TLS (tls.enabled): "
	case refusedTLS(err):
		why = "TLS failed: "
		if c.cfg.TLS.CertFile == "" && strings.Contains(err.Error(), "remote error") {
			why = "TLS failed, the broker may want a client certificate (tls.cert_file, tls.key_file): "
		}
	}
	return fmt.Errorf("kafka %s: %s: %s%w", strings.Join(c.cfg.Brokers, ","), what, why, err)
}
