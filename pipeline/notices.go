package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/rules"
)

// Notices tells payers, through risk.notices, what became of their payments.
//
// It is called with what has been acknowledged: a decision that is on its topic,
// an outcome that windows have counted. What is news is queued, and Run puts it
// into words, holds it against the payer's limit, and produces it. Nobody waits
// for that. While the broker is away the queue waits; beyond its bound news is
// dropped, counted and alerted. What waits when a process is killed is lost,
// unless its decision is given to Notices again: the id of a notice is the hash
// of what it is about, so that receivers show it once.
//
// Its methods may be called from any goroutine, and do nothing on a nil *Notices.
type Notices struct {
	o         NoticeOptions
	texts     atomic.Pointer[rules.Ruleset]
	languages languages
	queue     chan news
	limit     payerLimit // of Run

	sent            [noticeKinds]prometheus.Counter
	limited, tooOld prometheus.Counter
	dropped         prometheus.Counter
}

// noticeKinds is one more than the last kind.
const noticeKinds = int(payment.NoticeRefunded) + 1

// NoticeOptions are what Notices need. All but Metrics and Alerts must be set.
type NoticeOptions struct {
	// Send produces records to risk.notices and returns once they are
	// acknowledged, or when its context ends.
	Send    func(context.Context, []broker.Message) error
	PerHour int // notices for one payer, in any hour
	PerDay  int // and in any day
	Alerts  *Alerts
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

// news is what a payer is to be told about: a decision, or an outcome.
type news struct {
	decision []byte
	locale   string // of the transaction; "" where only the payer says it
	outcome  payment.Outcome
	payer    string // of the outcome
}

const (
	maxNews        = 8192 // that wait
	maxNoticesSent = 500  // at once
)

// NewNotices returns Notices in the words of a ruleset. Nothing is sent before Run.
func NewNotices(rs *rules.Ruleset, o NoticeOptions) *Notices {
	n := &Notices{o: o, queue: make(chan news, maxNews), limit: payerLimit{perHour: o.PerHour, perDay: o.PerDay}}
	n.languages.init()
	n.Use(rs)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "sluice", Name: name, Help: help}, labels)
		if o.Metrics != nil {
			o.Metrics.MustRegister(v)
		}
		return v
	}
	sent := counter("notices_total", "Notices to payers that the broker has acknowledged.", "kind")
	for k := payment.NoticeHeld; int(k) < noticeKinds; k++ {
		n.sent[k] = sent.WithLabelValues(k.String())
	}
	suppressed := counter("notices_suppressed_total", "Notices that were not sent: the payer had got enough, or the hold had ended before.", "reason")
	n.limited, n.tooOld = suppressed.WithLabelValues("limit"), suppressed.WithLabelValues("expired")
	n.dropped = counter("notices_dropped_total", "News for payers that was given up: too much waited, or the gate stopped.").WithLabelValues()
	return n
}

// Use lets payers be told in the words of a ruleset from now on.
func (n *Notices) Use(rs *rules.Ruleset) {
	if n != nil {
		n.texts.Store(rs)
	}
}

// Decided takes the first decision of a transaction, once it is acknowledged. An
// approval is no news; its payer's language is remembered. Nothing is kept of
// tx and decision.
func (n *Notices) Decided(tx *payment.Transaction, verdict payment.Verdict, decision []byte) {
	if n == nil {
		return
	}
	n.languages.note(tx.Payer.AccountID, tx.Locale)
	if verdict != payment.Approve {
		n.add(news{decision: append([]byte(nil), decision...), locale: strings.Clone(tx.Locale)})
	}
}

// Revised takes a later revision, or a first one whose transaction is not at
// hand, once it is acknowledged. Nothing is kept of decision.
func (n *Notices) Revised(decision []byte) {
	if n != nil {
		n.add(news{decision: append([]byte(nil), decision...)})
	}
}

// Happened takes an outcome that has not come before. payer is whom it concerns
// where the outcome does not say; verdict is that of the decision, 0 where it is
// not known. Nothing is kept of o.
func (n *Notices) Happened(o *payment.Outcome, payer string, verdict payment.Verdict) {
	if n == nil || verdict == payment.Block { // whose payer knows
		return
	}
	if kind, _ := newsOfOutcome(o.Kind); kind == 0 {
		return
	}
	if o.PayerID != "" {
		payer = o.PayerID
	}
	kept := payment.Outcome{ID: strings.Clone(o.ID), TransactionID: strings.Clone(o.TransactionID), Kind: o.Kind, EventTime: o.EventTime, Amount: o.Amount}
	n.add(news{outcome: kept, payer: strings.Clone(payer)})
}

// add queues news, or drops it.
func (n *Notices) add(one news) {
	select {
	case n.queue <- one:
	default:
		n.drop(1, fmt.Sprintf("%d notices wait to be sent, and no more can", maxNews))
	}
}

// drop counts news that is given up, and says why.
func (n *Notices) drop(count int, why string) {
	n.dropped.Add(float64(count))
	n.o.Alerts.Raise(payment.AlertNoticesDropped, why, NoPartition)
}

// Run sends what is queued until ctx ends, and then what is queued still, as far
// as it can be sent at once.
func (n *Notices) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			n.flush(ctx)
			return
		case one := <-n.queue:
			notices := n.gather(one)
			if !n.send(ctx, notices) {
				n.flush(ctx, notices...)
				return
			}
		}
	}
}

// gather puts one piece of news, and what is queued behind it, into words.
func (n *Notices) gather(one news) []payment.Notice {
	var notices []payment.Notice
	for {
		if notice, ok := n.notice(&one); ok {
			notices = append(notices, notice)
		}
		if len(notices) >= maxNoticesSent {
			return notices
		}
		select {
		case one = <-n.queue:
		default:
			return notices
		}
	}
}

// send produces notices, in their order, until they are acknowledged; false when
// ctx ended before.
func (n *Notices) send(ctx context.Context, notices []payment.Notice) bool {
	for failing := false; len(notices) > 0; {
		attempt, cancel := context.WithTimeout(ctx, sendFor)
		err := n.try(attempt, notices)
		cancel()
		switch {
		case err == nil:
			return true
		case ctx.Err() != nil:
			return false
		case !failing:
			n.o.Log.Error("notices to payers cannot be sent; trying again", "error", err)
			failing = true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(sendPause):
		}
	}
	return true
}

// try produces notices once.
func (n *Notices) try(ctx context.Context, notices []payment.Notice) error {
	messages := make([]broker.Message, len(notices))
	for i := range notices {
		messages[i] = broker.Message{Key: []byte(notices[i].Payer.AccountID), Value: notices[i].Append(nil)}
	}
	if err := n.o.Send(ctx, messages); err != nil {
		return err
	}
	for i := range notices {
		n.sent[notices[i].Kind].Inc()
	}
	return nil
}

// flush is the last that a stopping member sends: notices, and what is queued.
func (n *Notices) flush(ctx context.Context, notices ...payment.Notice) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushFor)
	defer cancel()
	for {
		if len(notices) > 0 {
			if err := n.try(ctx, notices); err != nil {
				lost := len(notices) + len(n.queue)
				n.drop(lost, fmt.Sprintf("%d notices could not be sent before the member stopped", lost))
				n.o.Log.Error("the last notices to payers could not be sent", "notices", lost, "error", err)
				return
			}
		}
		select {
		case one := <-n.queue:
			notices = n.gather(one)
		default:
			return
		}
	}
}
