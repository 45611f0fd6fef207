package broker

import (
	"encoding/binary"
	"io"

	"github.com/segmentio/kafka-go/protocol"
)

// deleteRecords is Kafka's DeleteRecords request, version 0, for partition 0, which kafka-go does not have: it stands in
// for retention, which cannot be hurried.
type deleteRecords struct {
	topic    string
	offset   int64
	clientID string
	answer   []byte
}

func (d *deleteRecords) ApiKey() protocol.ApiKey { return protocol.DeleteRecords }

func (d *deleteRecords) Broker(cluster protocol.Cluster) (protocol.Broker, error) {
	return (&fetchExchange{FetchRequest: FetchRequest{Topic: d.topic}}).Broker(cluster)
}

func (d *deleteRecords) Required(map[protocol.ApiKey]int16) bool { return true }

func (d *deleteRecords) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	be := binary.BigEndian
	text := func(p []byte, s string) []byte { return append(be.AppendUint16(p, uint16(len(s))), s...) }
	p := be.AppendUint16(make([]byte, 4), uint16(protocol.DeleteRecords))
	p = be.AppendUint16(p, 0)
	p = be.AppendUint32(p, 0)
	p = text(p, d.clientID)
	p = be.AppendUint32(p, 1)
	p = text(p, d.topic)
	p = be.AppendUint32(p, 1)
	p = be.AppendUint32(p, 0)
	p = be.AppendUint64(p, uint64(d.offset))
	p = be.AppendUint32(p, 5000)
	be.PutUint32(p, uint32(len(p)-4))
	if _, err := rw.Write(p); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(rw, size[:]); err != nil {
		return nil, err
	}
	d.answer = make([]byte, be.Uint32(size[:]))
	_, err := io.ReadFull(rw, d.answer)
	return d, err
}
