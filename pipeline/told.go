package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/rules"
)

// told is how a gate tells people: operations and analysts through alerts,
// payers through notices. Nothing that decides waits for it.
type told struct {
	alerts   *Alerts
	watchdog *Watchdog
	notices  *Notices // nil when payers are not told
}

// newTold prepares what a service tells by; nothing is sent before run.
func newTold(config *Config, conn *broker.Conn, rs *rules.Ruleset, reg prometheus.Registerer, log *slog.Logger) *told {
	to := func(topic string) func(context.Context, []broker.Message) error {
		return func(ctx context.Context, messages []broker.Message) error {
			return conn.Produce(ctx, topic, broker.ByKey, messages)
		}
	}
	t := &told{alerts: NewAlerts(AlertOptions{Send: to(config.Topics.Alerts), Member: memberName(), Runbooks: config.Alerts.Runbooks,
		Repeat: config.Alerts.Repeat, Metrics: reg, Log: log})}
	t.watchdog = NewWatchdog(t.alerts, DefaultWatchdogOptions())
	if config.Notices.Enabled {
		t.notices = NewNotices(rs, NoticeOptions{Send: to(config.Topics.Notices), PerHour: config.Notices.PerHour, PerDay: config.Notices.PerDay,
			Alerts: t.alerts, Metrics: reg, Log: log})
	}
	return t
}

// memberName tells members apart for people: the machine and the process.
func memberName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}

// start begins to tell. stop tells what is left, for some seconds at most, and
// returns when nothing is under way; alerts last, since the others raise some.
func (t *told) start() (stop func()) {
	run := func(f func(context.Context)) func() {
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { f(ctx) })
		return func() {
			cancel()
			running.Wait()
		}
	}
	stopAlerts, stopWatchdog := run(t.alerts.Run), run(t.watchdog.Run)
	stopNotices := func() {}
	if t.notices != nil {
		stopNotices = run(t.notices.Run)
	}
	return func() {
		stopNotices()
		stopWatchdog()
		stopAlerts()
	}
}

// alertOf is how the rest of the service raises an alert that stands for the
// whole member; a summary of "" says that it is over.
func (s *Service) alertOf(code payment.AlertCode) func(_, summary string) {
	return func(_, summary string) {
		if summary == "" {
			s.told.alerts.Resolve(code, NoPartition)
		} else {
			s.told.alerts.Raise(code, summary, NoPartition)
		}
	}
}
