package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
	"github.com/sluice-risk/sluice/rules"
)

// Every member reads the whole of risk.controls: it is short, and what it says
// holds for all. Before the first payment is decided it is read to its end; then
// it is followed.

// Control takes a record of risk.controls. An outage takes effect at once; the
// rest once SettleControls is called.
func (g *Gate) Control(ctx context.Context, decoder *payment.Decoder, r *broker.Record) (*payment.Refusal, error) {
	var c payment.Control
	if refusal := decoder.Control(r.Value, g.kafkaTime(r), &c); refusal != nil {
		return refusal, nil
	}
	var o window.Outage
	switch c.Kind {
	case payment.ControlOutage:
		o = window.Outage{ID: c.ID, From: c.From, Until: c.Until, Channel: c.Match.Channel, Bank: c.Match.Bank, Payee: c.Match.Payee}
	case payment.ControlOutageEnd:
		o = window.Outage{ID: c.Of}
	default:
		if g.Controls.take(&c, g.kafkaTime(r)) {
			g.Metrics.control(&c)
			g.say("a control is taken", "control_id", strings.Clone(c.ID), "control", c.Kind, "by", strings.Clone(c.By), "why", strings.Clone(c.Why), "offset", r.Offset)
		}
		return nil, nil
	}
	for _, text := range []*string{&o.ID, &o.Channel, &o.Bank, &o.Payee} {
		*text = strings.Clone(*text) // they point into the record
	}
	g.outages.add(o)
	return nil, g.outages.mark(ctx, g.Store)
}

// outageMarks are the outages that were read. A store that is away gets them when
// it is back, and one that has lost something gets all of them again.
type outageMarks struct {
	mu     sync.Mutex
	all    []window.Outage // and the ends of outages
	marked int             // of all: what the store knows
}

func (m *outageMarks) add(o window.Outage) {
	m.mu.Lock()
	m.all = append(m.all, o)
	m.mu.Unlock()
}

func (m *outageMarks) forget() {
	m.mu.Lock()
	m.all, m.marked = nil, 0
	m.mu.Unlock()
}

// again says that the store may have lost some.
func (m *outageMarks) again() {
	m.mu.Lock()
	m.marked = 0
	m.mu.Unlock()
}

// mark tells the store what it does not know yet, as far as it is there.
func (m *outageMarks) mark(ctx context.Context, store window.Store) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.marked < len(m.all) {
		if err := store.Outage(ctx, m.all[m.marked]); errors.Is(err, window.ErrAway) {
			return nil
		} else if err != nil {
			return fmt.Errorf("mark an outage: %w", err)
		}
		m.marked++
	}
	return nil
}

// controlReader is the reader of one partition of risk.controls.
type controlReader struct {
	gate      *Gate
	conn      *broker.Conn
	topics    *Topics
	partition int
	next      int64
	decoder   payment.Decoder
	// letters is set on one member: it writes what cannot be used to dead letters,
	// and alerts.
	letters bool
	live    bool // what is there at the start has been read
}

// controls are the readers of all partitions, each at its beginning.
func (s *Service) controls(ctx context.Context, letters bool) (all []*controlReader, err error) {
	s.gate.outages.forget() // all are read again
	ranges, err := s.conn.TopicOffsets(ctx, s.config.Topics.Controls)
	if err != nil {
		return nil, err
	}
	for p, r := range ranges {
		c := &controlReader{gate: s.gate, conn: s.conn, topics: &s.config.Topics, partition: p, next: r.First, decoder: payment.Decoder{Limits: s.gate.Limits}}
		if _, err := s.conn.ReadRange(ctx, s.config.Topics.Controls, p, r.First, r.End, func(r broker.Record) error { return c.take(ctx, &r) }); err != nil {
			return nil, err
		}
		c.next, c.letters, c.live = r.End, letters, true
		all = append(all, c)
	}
	s.gate.trySettle(ctx)
	s.rulesets.begin()
	s.gate.sayIgnored()
	return all, nil
}

// trySettle lets controls hold. What fails is tried again with the next fetch:
// payments must not wait for it.
func (g *Gate) trySettle(ctx context.Context) {
	if err := g.SettleControls(ctx); err != nil && ctx.Err() == nil {
		g.Log.Error("an activated ruleset is not in force yet", "error", err)
	}
}

// take lets one record take effect.
func (c *controlReader) take(ctx context.Context, r *broker.Record) error {
	refusal, err := c.gate.Control(ctx, &c.decoder, r)
	if err != nil {
		return err
	}
	if refusal == nil {
		c.checkNames(r)
		return nil
	}
	c.gate.Log.Error("a control cannot be used", "topic", c.topics.Controls, "partition", c.partition, "offset", r.Offset, "reason", refusal.Reason, "field", refusal.Field)
	if !c.letters {
		return nil
	}
	c.gate.Metrics.refuse(refusal)
	c.gate.Controls.alert(payment.AlertControlRefused, "the control at %s/%d/%d cannot be used: %v", c.topics.Controls, c.partition, r.Offset, refusal)
	return produceDeadLetters(ctx, c.conn, c.topics.DeadLetters, []broker.Message{deadLetter(c.topics.Controls, r, refusal)})
}

// checkNames says of a control that comes live what it names and the ruleset in
// force does not have. It is kept: a reload may bring the name.
func (c *controlReader) checkNames(r *broker.Record) {
	var k payment.Control
	if !c.live || c.decoder.Control(r.Value, c.gate.kafkaTime(r), &k) != nil {
		return
	}
	err := c.gate.ruleset().CheckControl(&k)
	if err == nil {
		return
	}
	c.gate.Log.Warn("a control is without effect on the ruleset in force", "control_id", strings.Clone(k.ID), "what", err)
	if c.letters {
		c.gate.Controls.alert(payment.AlertControlRefused, "control %s: %v", k.ID, err)
	}
}

// follow reads on until ctx ends.
func (c *controlReader) follow(ctx context.Context) error {
	var buffer broker.FetchBuffer
	for {
		got, err := c.conn.Fetch(ctx, broker.FetchRequest{Topic: c.topics.Controls, Partition: c.partition, Offset: c.next, MaxWait: 200 * time.Millisecond}, &buffer)
		if ctx.Err() != nil {
			return nil
		}
		if after, gone := c.gate.passOver(c.topics.Controls, c.partition, c.next, err); gone {
			c.next = after
			continue
		}
		if err != nil {
			return err
		}
		for i := range got.Records {
			if err := c.take(ctx, &got.Records[i]); err != nil {
				return err
			}
		}
		c.gate.trySettle(ctx)
		c.next = got.Next
	}
}

// ReadControls gathers what the topic of controls says up to its present end,
// for who looks at it beside a gate. What a gate would refuse is passed over.
func (c *Config) ReadControls(ctx context.Context, conn *broker.Conn) (*rules.OverrideLog, error) {
	ranges, err := conn.TopicOffsets(ctx, c.Topics.Controls)
	if err != nil {
		return nil, err
	}
	log := &rules.OverrideLog{}
	decoder := payment.Decoder{Limits: c.Limits()}
	for p, r := range ranges {
		_, err := conn.ReadRange(ctx, c.Topics.Controls, p, r.First, r.End, func(r broker.Record) error {
			var k payment.Control
			if decoder.Control(r.Value, payment.Time(r.Time)*1e6, &k) == nil {
				log.Apply(&k)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return log, nil
}
