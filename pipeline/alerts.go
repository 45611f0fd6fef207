package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Alerts tells operations and analysts what goes wrong, through risk.alerts.
//
// It keeps one standing alert for each code and partition, and no queue: while
// the broker is away the newest state of each waits, and that is what is told
// when the broker is back. An alert that came and went before anybody was to be
// told is not told at all; one that comes again before its end was told goes on.
//
// A state stands until it is resolved, and is told again every Repeat. An event
// is told again only if it has happened again, with how often; it is over when
// it has not happened for Repeat.
//
// Its methods may be called from any goroutine, never wait for the broker, and
// do nothing on a nil *Alerts.
type Alerts struct {
	o      AlertOptions
	told   map[payment.AlertCode]prometheus.Counter
	firing map[payment.AlertCode]prometheus.Gauge
	wake   chan struct{} // holds one: something may have to be told

	mu       sync.Mutex // guards what follows
	standing map[alertKey]*alert
	allowed  map[payment.AlertCode]*allowance
}

// AlertOptions are what Alerts need. All but Metrics must be set.
type AlertOptions struct {
	// Send produces records to risk.alerts and returns once they are acknowledged,
	// or when its context ends.
	Send     func(context.Context, []broker.Message) error
	Member   string        // who we are
	Runbooks string        // URL or path below which each code has its page, CODE.md
	Repeat   time.Duration // of an alert that stands
	Metrics  prometheus.Registerer
	Log      *slog.Logger
}

// NoPartition is the partition of an alert that concerns none.
const NoPartition = -1

// alertKey is what one alert stands for.
type alertKey struct {
	code      payment.AlertCode
	about     string // of what, where a code can concern several things at once
	partition int
}

// alert is one that stands, or that is over and must still be told so.
type alert struct {
	since   payment.Time
	summary string    // the newest
	raised  int       // how often since it was told last
	last    time.Time // when it was raised last
	tried   bool      // somebody may have been told
	told    time.Time // when it was told last, acknowledged; zero: never
	over    bool
}

// NewAlerts returns Alerts with nothing standing. Nothing is sent before Run.
func NewAlerts(o AlertOptions) *Alerts {
	a := &Alerts{o: o, wake: make(chan struct{}, 1), standing: map[alertKey]*alert{}, allowed: map[payment.AlertCode]*allowance{},
		told: map[payment.AlertCode]prometheus.Counter{}, firing: map[payment.AlertCode]prometheus.Gauge{}}
	told := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "sluice", Name: "alerts_total",
		Help: "Alerts that began."}, []string{"code", "severity"})
	firing := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "sluice", Name: "alerts_firing",
		Help: "Alerts that stand."}, []string{"code", "severity"})
	for _, c := range payment.AlertCodes() {
		a.told[c] = told.WithLabelValues(c.String(), c.Severity().String())
		a.firing[c] = firing.WithLabelValues(c.String(), c.Severity().String())
		a.allowed[c] = &allowance{}
	}
	if o.Metrics != nil {
		o.Metrics.MustRegister(told, firing)
	}
	return a
}

// Raise says that something is wrong, in one line for people; partition is of
// payments.transactions, or NoPartition.
func (a *Alerts) Raise(code payment.AlertCode, summary string, partition int) {
	a.raise(alertKey{code: code, partition: partition}, summary)
}

// Resolve says that it is over. What does not stand is left alone.
func (a *Alerts) Resolve(code payment.AlertCode, partition int) {
	a.resolve(alertKey{code: code, partition: partition})
}

func (a *Alerts) raise(key alertKey, summary string) {
	if a == nil {
		return
	}
	now := time.Now()
	a.mu.Lock()
	s := a.standing[key]
	if s == nil {
		s = &alert{since: payment.TimeOf(now)}
		a.standing[key] = s
		a.began(key)
	} else if s.over {
		s.over = false
		a.began(key)
	}
	s.summary, s.last = summary, now
	s.raised++
	first := s.raised == 1
	a.mu.Unlock()
	if first { // what was raised before is told with this one
		a.look()
	}
}

func (a *Alerts) resolve(key alertKey) {
	if a == nil {
		return
	}
	a.mu.Lock()
	s := a.standing[key]
	if s == nil || s.over {
		a.mu.Unlock()
		return
	}
	a.end(key, s)
	a.mu.Unlock()
	a.look()
}

// began counts an alert; end lets it be told that it is over, if anybody may
// have been told that it began. Both with mu held.
func (a *Alerts) began(key alertKey) {
	a.told[key.code].Inc()
	a.firing[key.code].Inc()
}

func (a *Alerts) end(key alertKey, s *alert) {
	a.firing[key.code].Dec()
	s.over = true
	if !s.tried {
		delete(a.standing, key)
	}
}

// look lets Run see what is to be told.
func (a *Alerts) look() {
	select {
	case a.wake <- struct{}{}:
	default: // it will look anyway
	}
}

const (
	sendFor   = 5 * time.Second // one attempt: then the newest state is looked at again
	sendPause = time.Second     // after one that failed
	flushFor  = 2 * time.Second // what a member still says when it stops
)

// Run tells what is raised until ctx ends, then once more what is new. A broker
// that does not answer is tried again for ever.
func (a *Alerts) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for failing := false; ; {
		select {
		case <-ctx.Done():
			a.flush(ctx)
			return
		case <-a.wake:
		case <-timer.C:
		}
		attempt, cancel := context.WithTimeout(ctx, sendFor)
		err := a.tell(attempt)
		cancel()
		switch {
		case err == nil:
			failing = false
			timer.Reset(a.next(time.Now()))
		case ctx.Err() == nil:
			if !failing {
				a.o.Log.Error("alerts cannot be told; trying again", "error", err)
			}
			failing = true
			timer.Reset(sendPause)
		}
	}
}

// flush is the last that a stopping member tells.
func (a *Alerts) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushFor)
	defer cancel()
	if err := a.tell(ctx); err != nil {
		a.o.Log.Error("the last alerts could not be told", "error", err)
	}
}

// tell sends what is due, once.
func (a *Alerts) tell(ctx context.Context) error {
	now := time.Now()
	records := a.due(now)
	if len(records) == 0 {
		return nil
	}
	messages := make([]broker.Message, len(records))
	for i := range records {
		r := &records[i]
		messages[i] = broker.Message{Key: []byte(r.key.code.String()), Value: r.alert.Append(nil)}
	}
	err := a.o.Send(ctx, messages)
	a.settle(records, now, err == nil)
	return err
}

// alertRecord is a record under way, and how often it was raised up to it.
type alertRecord struct {
	key    alertKey
	alert  payment.Alert
	raised int
}

// due takes what is to be told now, as it stands now, the oldest first.
func (a *Alerts) due(now time.Time) []alertRecord {
	a.mu.Lock()
	defer a.mu.Unlock()
	var keys []alertKey
	for key, s := range a.standing {
		if key.code.Event() && !s.over && !s.told.IsZero() && now.Sub(s.last) >= a.o.Repeat {
			a.end(key, s)
		}
		if !now.Before(a.dueAt(key, s)) {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(x, y alertKey) int {
		return cmp.Or(cmp.Compare(a.standing[x].since, a.standing[y].since), cmp.Compare(x.code, y.code),
			cmp.Compare(x.partition, y.partition), strings.Compare(x.about, y.about))
	})
	var records []alertRecord
	waiting := map[payment.AlertCode]int{}
	for _, key := range keys {
		if !a.allowed[key.code].take(now) {
			waiting[key.code]++
			continue
		}
		s := a.standing[key]
		s.tried = true
		records = append(records, alertRecord{key, a.record(key, s), s.raised})
	}
	a.sayHowMany(records, waiting)
	return records
}

// dueAt is when an alert is to be told.
func (a *Alerts) dueAt(key alertKey, s *alert) time.Time {
	switch {
	case s.over, s.told.IsZero():
		return time.Time{} // at once
	case key.code.Event() && s.raised == 0:
		return s.last.Add(a.o.Repeat) // then it is over
	}
	return s.told.Add(a.o.Repeat)
}

// next is how long nothing is due.
func (a *Alerts) next(now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	soonest := a.o.Repeat
	for key, s := range a.standing {
		at := a.dueAt(key, s)
		if free := a.allowed[key.code].free(now); at.Before(free) {
			at = free
		}
		soonest = min(soonest, at.Sub(now))
	}
	return max(soonest, 0)
}

func (a *Alerts) record(key alertKey, s *alert) payment.Alert {
	r := payment.Alert{V: 1, Severity: key.code.Severity(), Code: key.code, Summary: s.summary, Since: s.since, Member: a.o.Member,
		Partition: payment.Count{N: key.partition, Present: key.partition >= 0}, State: payment.AlertFiring,
		Runbook: strings.TrimSuffix(a.o.Runbooks, "/") + "/" + key.code.String() + ".md"}
	r.AlertID = string(payment.AppendAlertID(nil, key.code, a.o.Member, key.about, key.partition, s.since))
	if s.over {
		r.State = payment.AlertResolved
	}
	return r
}

// sayHowMany adds to the summaries what they stand for: how often an event has
// happened, and how many alerts of a code must wait to be told.
func (a *Alerts) sayHowMany(records []alertRecord, waiting map[payment.AlertCode]int) {
	for i := range slices.Backward(records) {
		r := &records[i]
		if more := r.raised - 1; r.key.code.Event() && more > 0 {
			r.alert.Summary += fmt.Sprintf(" (and %d more)", more)
		}
		if n := waiting[r.key.code]; n > 0 {
			r.alert.Summary += fmt.Sprintf("; %d more alerts of this code wait to be told", n)
			delete(waiting, r.key.code)
		}
	}
}

// settle notes what became of records.
func (a *Alerts) settle(records []alertRecord, now time.Time, done bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range records {
		r := &records[i]
		s := a.standing[r.key]
		switch {
		case !done:
			a.allowed[r.key.code].giveBack()
		case r.alert.State == payment.AlertFiring:
			s.told = now
			s.raised -= r.raised
		case s.over:
			delete(a.standing, r.key)
		default: // it began again while its end was told
			a.standing[r.key] = &alert{since: payment.TimeOf(s.last), summary: s.summary, raised: s.raised - r.raised, last: s.last}
		}
	}
}

// allowance bounds the records of one code: burst at once, then one every
// allowEvery.
type allowance struct {
	spent int       // of burst
	at    time.Time // spent is as of then
}

const (
	allowBurst = 10
	allowEvery = 6 * time.Second
)

// refill counts the time since the last call.
func (w *allowance) refill(now time.Time) {
	n := int(now.Sub(w.at) / allowEvery)
	if w.at.IsZero() || n >= w.spent {
		w.spent, w.at = 0, now
		return
	}
	w.spent, w.at = w.spent-n, w.at.Add(time.Duration(n)*allowEvery)
}

// take reports whether one more may be told now.
func (w *allowance) take(now time.Time) bool {
	w.refill(now)
	if w.spent >= allowBurst {
		return false
	}
	w.spent++
	return true
}

// giveBack returns one that was taken and not used.
func (w *allowance) giveBack() { w.spent = max(0, w.spent-1) }

// free is when one more may be told.
func (w *allowance) free(now time.Time) time.Time {
	w.refill(now)
	if w.spent < allowBurst {
		return now
	}
	return w.at.Add(allowEvery)
}
