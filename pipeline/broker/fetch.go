package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
)

// Offsets that stand for a place: FetchRequest resolves them by asking the broker.
const (
	FirstOffset = kafka.FirstOffset // -2: the first one the partition still holds
	EndOffset   = kafka.LastOffset  // -1: the one that the next record will get
)

// FetchRequest asks for records of one partition.
type FetchRequest struct {
	Topic     string
	Partition int
	Offset    int64         // from here on; or FirstOffset, EndOffset
	MinBytes  int           // the broker waits until it has as much, or MaxWait has passed; default 1
	MaxBytes  int           // of the answer; a single larger batch is sent all the same; default 1 MiB
	MaxWait   time.Duration // default 500 ms
}

// Fetched is what one Fetch returned.
type Fetched struct {
	Records   []Record // none is fine: markers only, or nothing came within MaxWait; valid until the next Fetch
	Next      int64    // where to read on, past records, markers and gaps
	HighWater int64    // end of what is replicated and can be read
}

// OffsetOutOfRangeError says that the partition does not hold the offset: retention took it away, or it never was.
type OffsetOutOfRangeError struct {
	Topic     string
	Partition int
	Offset    int64
	OffsetRange
}

func (e *OffsetOutOfRangeError) Error() string {
	return fmt.Sprintf("topic %s partition %d: offset %d is not in the log, which holds %d to %d", e.Topic, e.Partition, e.Offset, e.First, e.End-1)
}

// Fetch reads records into buf. It waits for MinBytes up to MaxWait and may then return none.
// Errors: *OffsetOutOfRangeError, *CorruptBatchError, the end of ctx, or what no retry heals.
func (c *Conn) Fetch(ctx context.Context, req FetchRequest, buf *FetchBuffer) (Fetched, error) {
	if req.MinBytes <= 0 {
		req.MinBytes = 1
	}
	if req.MaxBytes <= 0 {
		req.MaxBytes = 1 << 20
	}
	if req.MaxWait <= 0 {
		req.MaxWait = 500 * time.Millisecond
	}
	if req.Offset == FirstOffset || req.Offset == EndOffset {
		first, end, err := c.Offsets(ctx, req.Topic, req.Partition)
		if err != nil {
			return Fetched{}, err
		}
		if req.Offset == FirstOffset {
			req.Offset = first
		} else {
			req.Offset = end
		}
	}
	res, err := c.exchangeFetch(ctx, req, buf)
	if errors.Is(err, kafka.OffsetOutOfRange) {
		return Fetched{}, c.outOfRange(ctx, req)
	}
	if err != nil {
		return Fetched{}, err
	}

	buf.records, buf.headers, buf.inflated = buf.records[:0], buf.headers[:0], buf.inflated[:0]
	if cap(buf.inflated) > 4*enoughInflated {
		buf.inflated = nil // one batch was huge; the next ones need not pay for it
	}
	next, err := buf.decode(res.set, req.Partition, req.Offset)
	if corrupt := (*CorruptBatchError)(nil); errors.As(err, &corrupt) {
		corrupt.Topic, corrupt.Partition = req.Topic, req.Partition
	}
	return Fetched{Records: buf.records, Next: next, HighWater: res.highWater}, err
}

// fetchResult is the answer before its batches are decoded; set lies in the buffer's exchange.
type fetchResult struct {
	set       []byte
	highWater int64
}

func (c *Conn) exchangeFetch(ctx context.Context, req FetchRequest, buf *FetchBuffer) (res fetchResult, err error) {
	err = c.retry(ctx, fmt.Sprintf("fetch %s/%d", req.Topic, req.Partition), func() error {
		if buf.exchange == nil {
			buf.exchange = &fetchExchange{clientID: c.cfg.ClientID}
		}
		x := buf.exchange
		x.FetchRequest = req
		bound, cancel := context.WithTimeout(ctx, req.MaxWait+requestTimeout)
		defer cancel()
		if _, err := c.transport.RoundTrip(bound, c.addr, x); err != nil {
			// The connection's goroutine may go on reading into x after we were told to give up.
			buf.exchange = nil
			return err
		}
		res, err = x.result()
		return err
	})
	return res, err
}

func (c *Conn) outOfRange(ctx context.Context, req FetchRequest) error {
	first, end, err := c.Offsets(ctx, req.Topic, req.Partition)
	if err != nil {
		return err
	}
	return c.named("fetch", &OffsetOutOfRangeError{Topic: req.Topic, Partition: req.Partition, Offset: req.Offset, OffsetRange: OffsetRange{first, end}})
}

// fetchVersion is the version of Kafka's fetch request that we speak: the last one before topics became ids.
// Kafka 2.3 or newer answers it.
const fetchVersion = 11

// mostResponse bounds what a peer that speaks another protocol can make us allocate.
const mostResponse = 1 << 30

// fetchExchange is a fetch request that travels by kafka-go's transport, to the partition's leader, over its pooled
// connections, but writes and reads its own bytes: kafka-go's decoder allocates for every record and does not tell
// where a batch ended.
//
// It is owned by the connection's goroutine during RoundTrip, and by the FetchBuffer otherwise.
type fetchExchange struct {
	FetchRequest
	clientID string
	version  int16
	request  []byte
	response []byte
}

func (x *fetchExchange) ApiKey() protocol.ApiKey { return protocol.Fetch }

// Broker finds the partition's leader, as kafka-go's own request does.
func (x *fetchExchange) Broker(cluster protocol.Cluster) (protocol.Broker, error) {
	route := fetch.Request{Topics: []fetch.RequestTopic{{
		Topic:      x.Topic,
		Partitions: []fetch.RequestPartition{{Partition: int32(x.Partition)}},
	}}}
	return route.Broker(cluster)
}

// Required makes kafka-go hand the connection to RawExchange, with the versions that were negotiated on it.
func (x *fetchExchange) Required(versions map[protocol.ApiKey]int16) bool {
	x.version = versions[protocol.Fetch]
	return true
}

func (x *fetchExchange) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	if x.version != fetchVersion {
		return nil, fmt.Errorf("the broker is too old: it answers fetch version %d, and %d is needed (Kafka 2.3)", x.version, fetchVersion)
	}
	if _, err := rw.Write(x.encode()); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(rw, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > mostResponse {
		return nil, fmt.Errorf("the broker's answer claims %d bytes: this is not Kafka", n)
	}
	x.response = slices.Grow(x.response[:0], int(n))[:n]
	if _, err := io.ReadFull(rw, x.response); err != nil {
		return nil, err
	}
	return x, nil
}

func (x *fetchExchange) encode() []byte {
	be := binary.BigEndian
	text := func(p []byte, s string) []byte { return append(be.AppendUint16(p, uint16(len(s))), s...) }
	p := append(x.request[:0], 0, 0, 0, 0) // size, filled in below
	p = be.AppendUint16(p, uint16(protocol.Fetch))
	p = be.AppendUint16(p, fetchVersion)
	p = be.AppendUint32(p, 0) // correlation: one request at a time on a connection
	p = text(p, x.clientID)
	p = be.AppendUint32(p, ^uint32(0)) // replica: none
	p = be.AppendUint32(p, uint32(x.MaxWait.Milliseconds()))
	p = be.AppendUint32(p, uint32(x.MinBytes))
	p = be.AppendUint32(p, uint32(x.MaxBytes))
	p = append(p, 0)                   // read uncommitted
	p = be.AppendUint32(p, 0)          // no fetch session
	p = be.AppendUint32(p, ^uint32(0)) // nor to be made
	p = be.AppendUint32(p, 1)
	p = text(p, x.Topic)
	p = be.AppendUint32(p, 1)
	p = be.AppendUint32(p, uint32(x.Partition))
	p = be.AppendUint32(p, ^uint32(0)) // leader epoch: not checked
	p = be.AppendUint64(p, uint64(x.Offset))
	p = be.AppendUint64(p, ^uint64(0)) // log start: only followers know
	p = be.AppendUint32(p, uint32(x.MaxBytes))
	p = be.AppendUint32(p, 0) // forgotten topics
	p = text(p, "")           // rack
	be.PutUint32(p, uint32(len(p)-4))
	x.request = p
	return p
}

// result reads the answer down to the record batches of our one partition.
func (x *fetchExchange) result() (fetchResult, error) {
	r := reader{p: x.response}
	r.uint32() // correlation
	r.uint32() // throttled for
	if code := r.uint16(); code != 0 {
		return fetchResult{}, kafka.Error(int16(code))
	}
	r.uint32() // session
	topics := r.uint32()
	r.skip(int(r.uint16())) // name
	partitions := r.uint32()
	r.uint32() // partition
	code := int16(r.uint16())
	res := fetchResult{highWater: int64(r.uint64())}
	r.uint64() // last stable offset
	r.uint64() // log start
	if aborted := int32(r.uint32()); aborted > 0 {
		r.skip(16 * int(aborted))
	}
	r.uint32() // preferred replica
	size := int32(r.uint32())
	if r.short || topics != 1 || partitions != 1 || int(size) > len(r.p) {
		return fetchResult{}, fmt.Errorf("the broker's answer to a fetch does not name the one partition asked for: %w", io.ErrUnexpectedEOF)
	}
	if code != 0 {
		return fetchResult{}, kafka.Error(code)
	}
	res.set = r.p[:max(size, 0)]
	return res, nil
}

// reader takes big-endian numbers off p; short is set once there were too few bytes.
type reader struct {
	p     []byte
	short bool
}

func (r *reader) skip(n int) []byte {
	if n < 0 || n > len(r.p) {
		r.short, r.p = true, nil
		return make([]byte, 8)
	}
	taken := r.p[:n]
	r.p = r.p[n:]
	return taken
}

func (r *reader) uint16() uint16 { return binary.BigEndian.Uint16(r.skip(2)) }
func (r *reader) uint32() uint32 { return binary.BigEndian.Uint32(r.skip(4)) }
func (r *reader) uint64() uint64 { return binary.BigEndian.Uint64(r.skip(8)) }
