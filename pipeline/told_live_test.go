package pipeline_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/rules"
)

// teller is what tells, on an embedded broker that can be taken away.
type teller struct {
	t       *testing.T
	broker  broker.EmbeddedConfig
	kafka   *broker.Embedded
	conn    *broker.Conn
	alerts  *pipeline.Alerts
	notices *pipeline.Notices
	retried chan struct{} // holds one: the broker did not answer
}

func startTeller(t *testing.T) *teller {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	_ = free.Close()
	r := &teller{t: t, retried: make(chan struct{}, 1), broker: broker.EmbeddedConfig{Addr: addr, Dir: t.TempDir(),
		Topics: []broker.Topic{{Name: "alerts", Partitions: 1}, {Name: "notices", Partitions: 1}}}}
	r.back()
	t.Cleanup(func() { _ = r.kafka.Close() })
	if r.conn, err = broker.Open(broker.Config{Brokers: []string{addr}, OnRetry: func(string, error) {
		select {
		case r.retried <- struct{}{}:
		default:
		}
	}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.conn.Close)
	to := func(topic string) func(context.Context, []broker.Message) error {
		return func(ctx context.Context, messages []broker.Message) error {
			return r.conn.Produce(ctx, topic, broker.ByKey, messages)
		}
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	r.alerts = pipeline.NewAlerts(pipeline.AlertOptions{Send: to("alerts"), Member: "gate-1", Runbooks: "runbooks", Repeat: time.Hour, Log: log})
	rs, err := rules.Load(countingRules(t, "hold", 3))
	if err != nil {
		t.Fatal(err)
	}
	r.notices = pipeline.NewNotices(rs, pipeline.NoticeOptions{Send: to("notices"), PerHour: 5, PerDay: 20, Alerts: r.alerts, Log: log})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.alerts.Run(ctx) })
	running.Go(func() { r.notices.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return r
}

func (r *teller) back() {
	r.t.Helper()
	var err error
	if r.kafka, err = broker.StartEmbedded(r.broker); err != nil {
		r.t.Fatal(err)
	}
}

func (r *teller) goAway() {
	r.t.Helper()
	if err := r.kafka.Close(); err != nil {
		r.t.Fatal(err)
	}
}

// read waits until a topic holds n records and returns them in their order.
func (r *teller) read(topic string, n int) (values []string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	var buffer broker.FetchBuffer
	for offset := int64(0); len(values) < n; {
		got, err := r.conn.Fetch(ctx, broker.FetchRequest{Topic: topic, Offset: offset}, &buffer)
		if err != nil {
			r.t.Fatalf("%s has %d of %d records: %v", topic, len(values), n, err)
		}
		for i := range got.Records {
			values = append(values, string(got.Records[i].Value))
		}
		offset = got.Next
	}
	return values
}

// states reads alerts as lines.
func (r *teller) states(n int) (lines []string) {
	r.t.Helper()
	for _, value := range r.read("alerts", n) {
		var a payment.Alert
		if err := json.Unmarshal([]byte(value), &a); err != nil {
			r.t.Fatalf("%s: %v", value, err)
		}
		lines = append(lines, fmt.Sprintf("%s %s: %s", a.Code, a.State, a.Summary))
	}
	return lines
}

func TestAlertsAndNoticesOutlastABrokerThatIsAway(t *testing.T) {
	r := startTeller(t)
	r.alerts.Raise(payment.AlertClockSkew, "two seconds ahead", pipeline.NoPartition)
	r.notices.Happened(&payment.Outcome{TransactionID: "t-0", Kind: payment.OutcomeCancelled, EventTime: 7}, "u-1", payment.Approve)
	r.states(1)
	r.read("notices", 1)

	r.goAway()
	for len(r.retried) > 0 {
		<-r.retried
	}
	r.alerts.Raise(payment.AlertStoreAway, "no answer", 3)
	for i := range 1000 {
		r.alerts.Raise(payment.AlertIDConflict, fmt.Sprintf("t-%d came with other content", i), pipeline.NoPartition)
	}
	r.alerts.Resolve(payment.AlertClockSkew, pipeline.NoPartition)
	for i := range 3 {
		r.notices.Happened(&payment.Outcome{TransactionID: fmt.Sprint("t-", i+1), Kind: payment.OutcomeRefunded, EventTime: 7}, "u-1", payment.Approve)
	}
	select {
	case <-r.retried: // it was tried while the broker was away
	case <-time.After(20 * time.Second):
		t.Fatal("nobody tries to tell")
	}
	r.alerts.Raise(payment.AlertStoreAway, "no answer for long", 3)
	r.back()

	// What was under way when the broker went may be older than what stands.
	told := strings.Join(r.states(4), "\n")
	for _, want := range []string{"clock_skew firing: two seconds ahead", "clock_skew resolved: two seconds ahead", "store_away firing: no answer", "id_conflict firing: t-"} {
		if !strings.Contains(told, want) {
			t.Errorf("no %q in\n%s", want, told)
		}
	}
	var order []string
	seen := map[string]bool{}
	for _, value := range r.read("notices", 4) {
		var n payment.Notice
		if err := json.Unmarshal([]byte(value), &n); err != nil {
			t.Fatalf("%s: %v", value, err)
		}
		if !seen[n.NoticeID] { // an acknowledgement that was lost lets a notice come twice
			seen[n.NoticeID] = true
			order = append(order, n.TransactionID)
		}
	}
	if strings.Join(order, " ") != "t-0 t-1 t-2 t-3" {
		t.Errorf("notices of %v", order)
	}
}

func TestRefusedRulesetIsAlertedUntilAGoodOneIsInForce(t *testing.T) {
	g := startLive(t, nil)
	rule := filepath.Join(g.config.Rules, "rules", "many.yaml")
	good, err := os.ReadFile(rule)
	if err != nil {
		t.Fatal(err)
	}
	load := func(content string, works bool) {
		t.Helper()
		if err := os.WriteFile(rule, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := g.service.Reload(t.Context()); (err == nil) != works {
			t.Fatal(err)
		}
	}
	load("rules: [{id: many}]\n", false)
	first := g.read(g.config.Topics.Alerts, 1)[0]
	load(string(good), true)
	all := g.read(g.config.Topics.Alerts, 2)
	var firing, resolved payment.Alert
	if err := json.Unmarshal([]byte(first.value), &firing); err != nil {
		t.Fatal(err)
	}
	if all[0].partition != all[1].partition {
		t.Errorf("one alert in two partitions: %+v", all)
	}
	if err := json.Unmarshal([]byte(all[1].value), &resolved); err != nil {
		t.Fatal(err)
	}
	if first.key != "bad_ruleset" || firing.Code != payment.AlertBadRuleset || firing.State != payment.AlertFiring || firing.Member == "" ||
		firing.Runbook != "deploy/runbooks/bad_ruleset.md" || resolved.State != payment.AlertResolved || resolved.AlertID != firing.AlertID {
		t.Errorf("%+v\n%+v", firing, resolved)
	}
}

func TestSettingsOfAlertsAndNoticesHaveBounds(t *testing.T) {
	config := pipeline.DefaultConfig()
	if err := config.Validate(); err != nil {
		t.Fatal(err)
	}
	config.Alerts = pipeline.AlertConfig{Repeat: time.Second}
	config.Notices = pipeline.NoticeConfig{Enabled: true, PerHour: 0, PerDay: 2000}
	err := config.Validate()
	for _, key := range []string{"alerts.runbooks: ", "alerts.repeat: 1s", "notices.per_hour: 0", "notices.per_day: 2000"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%v does not say %q", err, key)
		}
	}
	read, err := pipeline.LoadConfig("", []string{"SLUICE_ALERTS_RUNBOOKS=https://wiki/sluice", "SLUICE_ALERTS_REPEAT=5m", "SLUICE_NOTICES_ENABLED=false", "SLUICE_NOTICES_PER_DAY=9"})
	if err != nil || read.Alerts != (pipeline.AlertConfig{Runbooks: "https://wiki/sluice", Repeat: 5 * time.Minute}) || read.Notices != (pipeline.NoticeConfig{PerHour: 5, PerDay: 9}) {
		t.Errorf("%+v %+v %v", read.Alerts, read.Notices, err)
	}
}

// A page must not send people to a metric that is not there.
func TestEveryMetricOfTheRunbooksExists(t *testing.T) {
	g := startLive(t, nil)
	known := map[string]bool{}
	descriptions := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptions)
		g.metrics.Describe(descriptions)
	}()
	name := regexp.MustCompile(`fqName: "([a-z_]+)"`)
	for d := range descriptions {
		known[name.FindStringSubmatch(d.String())[1]] = true
	}
	pages, err := filepath.Glob("../deploy/runbooks/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	asked := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, metric := range regexp.MustCompile(`sluice_[a-z_]+`).FindAllString(string(text), -1) {
			asked++
			if !known[metric] {
				t.Errorf("%s: there is no %s", filepath.Base(page), metric)
			}
		}
	}
	if asked < 10 {
		t.Errorf("only %d metrics are named", asked)
	}
}
