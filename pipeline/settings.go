package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/pipeline/broker"
)

// The promises of the gate rest on settings of the cluster that are not ours. Ours is acks=all, always; the others are
// looked at here, at start and every few minutes, and what falls short is said. It never stops the gate.

// Shortfall is a setting of a topic that does not carry what the gate promises.
type Shortfall struct {
	Topic   string
	Setting string // as Kafka names it, or replication.factor
	Is      string
	Wanted  string
	Why     string // what can be lost
	Advice  bool   // nothing is lost, but something would be better
}

// String says all of it in one line.
func (s Shortfall) String() string {
	return fmt.Sprintf("topic %s: %s is %s, wanted %s: %s", s.Topic, s.Setting, s.Is, s.Wanted, s.Why)
}

const (
	replicationFactor = "replication.factor"
	minInSync         = "min.insync.replicas"
	uncleanElection   = "unclean.leader.election.enable"
	cleanupPolicy     = "cleanup.policy"
	retentionTime     = "retention.ms"
	retentionBytes    = "retention.bytes"
	timestampType     = "message.timestamp.type"
	mostBytes         = "max.message.bytes"
)

// watched are the topics whose settings are looked at: those whose records nobody else has.
func (t *Topics) watched() []string {
	return []string{t.Transactions, t.Decisions, t.DeadLetters, t.Outcomes, t.Reviews, t.Controls}
}

// judged are the settings that count in a topic.
func (t *Topics) judged(topic string) []string {
	all := []string{replicationFactor, minInSync, uncleanElection, cleanupPolicy}
	if topic == t.Transactions {
		all = append(all, timestampType)
	}
	if topic == t.Decisions || topic == t.DeadLetters {
		all = append(all, mostBytes)
	}
	if t.keptForGood(topic) != "" {
		all = append(all, retentionTime, retentionBytes)
	}
	return all
}

// keptForGood says what is lost where a topic that must be kept is not; "" for a topic that need not.
func (t *Topics) keptForGood(topic string) string {
	switch topic {
	case t.Decisions:
		return "a payment that comes again after its decision is gone cannot be answered"
	case t.DeadLetters:
		return "a record that could not be used is gone before it was re-submitted"
	case t.Controls:
		return "a member that starts does not know what was changed before"
	case t.Reviews:
		return "what reviewers did can no longer be read again"
	}
	return ""
}

// shortfalls are the settings that fall short, in the order of the topics. What is not known is none.
func (t *Topics) shortfalls(all []broker.TopicSettings) (short []Shortfall) {
	largest := t.largestInput(all)
	for _, s := range all {
		add := func(setting, is, wanted, why string) {
			short = append(short, Shortfall{Topic: s.Topic, Setting: setting, Is: is, Wanted: wanted, Why: why})
		}
		if n := s.Replication; n > 0 && n < 3 {
			add(replicationFactor, strconv.Itoa(n), "3", "with a copy away for maintenance, the next failure stops or loses records")
		}
		inSync, known := number(s.Configs[minInSync])
		switch {
		case known && inSync < 2:
			add(minInSync, strconv.FormatInt(inSync, 10), "2", "an acknowledged record may be on one broker only, and is lost with it")
		case known && s.Replication > 1 && inSync >= int64(s.Replication):
			add(minInSync, strconv.FormatInt(inSync, 10), strconv.Itoa(s.Replication-1), "nothing can be written while one broker is away")
		}
		if s.Configs[uncleanElection] == "true" {
			add(uncleanElection, "true", "false", "a leader that lacks acknowledged records can take over, and they are lost")
		}
		if policy := s.Configs[cleanupPolicy]; strings.Contains(policy, "compact") {
			add(cleanupPolicy, policy, "delete", "of the records of one account only the last is kept")
		}
		if lost := t.keptForGood(s.Topic); lost != "" && s.Configs != nil {
			for _, setting := range []string{retentionTime, retentionBytes} {
				if kept, known := number(s.Configs[setting]); known && kept >= 0 {
					add(setting, s.Configs[setting], "-1", lost)
				}
			}
		}
		takes, known := number(s.Configs[mostBytes])
		switch {
		case known && s.Topic == t.Decisions && takes < broker.MaxBatchBytes:
			add(mostBytes, strconv.FormatInt(takes, 10), strconv.Itoa(broker.MaxBatchBytes), "decisions are published in batches as large as that, and would be refused")
		case known && s.Topic == t.DeadLetters && takes < largest:
			add(mostBytes, strconv.FormatInt(takes, 10), strconv.FormatInt(largest, 10), "a record as large as its topic takes is cut when it cannot be used, and cannot be re-submitted")
		}
		if s.Topic == t.Transactions && s.Configs[timestampType] == "CreateTime" {
			add(timestampType, "CreateTime", "LogAppendTime", "it is recommended: the time of a record is then the broker's, and no sender's clock can move a deadline")
			short[len(short)-1].Advice = true
		}
	}
	return short
}

// largestInput is the largest batch that a topic of records which may become dead letters takes, in bytes.
func (t *Topics) largestInput(all []broker.TopicSettings) (largest int64) {
	for _, s := range all {
		if s.Topic == t.Transactions || s.Topic == t.Outcomes || s.Topic == t.Reviews || s.Topic == t.Controls {
			n, _ := number(s.Configs[mostBytes])
			largest = max(largest, n)
		}
	}
	return largest
}

func number(text string) (n int64, ok bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}

// settingsEvery is how often the settings are looked at again: somebody may have changed them.
const settingsEvery = 5 * time.Minute

// settingsCheck looks at the cluster's settings and says what falls short: in the log when it is new, a metric
// all the time, an alert when it changes. It belongs to one goroutine.
type settingsCheck struct {
	conn    *broker.Conn
	topics  *Topics
	sandbox bool // nobody's money: one line, no more
	log     *slog.Logger
	gauge   *prometheus.GaugeVec
	alert   func(code, summary string) // told of every change; a summary of "" says that it is over. nil: nobody is told
	said    []Shortfall                // that were found the last time
	unknown string                     // what was not known the last time
}

func newSettingsCheck(config *Config, conn *broker.Conn, reg prometheus.Registerer, log *slog.Logger) *settingsCheck {
	c := &settingsCheck{conn: conn, topics: &config.Topics, sandbox: config.Sandbox, log: log}
	c.gauge = prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "sluice", Name: "broker_shortfall",
		Help: "1 where a setting of a topic does not carry what the gate promises, 0 where it does; absent where it is not known."}, []string{"topic", "setting"})
	reg.MustRegister(c.gauge)
	return c
}

// follow looks now and every few minutes, until ctx ends.
func (c *settingsCheck) follow(ctx context.Context) {
	tick := time.NewTicker(settingsEvery)
	defer tick.Stop()
	for {
		c.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look looks once.
func (c *settingsCheck) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settingsEvery/2)
	defer cancel()
	all, err := c.conn.Settings(ctx, c.topics.watched())
	if err != nil {
		if ctx.Err() == nil {
			c.sayUnknown(err.Error())
		}
		return
	}
	short := c.topics.shortfalls(all)
	c.measure(all, short)
	if c.sandbox {
		if c.said == nil && len(short) > 0 {
			c.log.Info("the embedded broker keeps no copies: it is for looking around, not for money")
		}
		c.said = short
		return
	}
	c.say(short)
	var unknown []string
	for _, s := range all {
		if s.Unknown != nil {
			unknown = append(unknown, s.Unknown.Error())
		}
	}
	c.sayUnknown(strings.Join(unknown, "; "))
}

// measure sets the metric of every setting that is known.
func (c *settingsCheck) measure(all []broker.TopicSettings, short []Shortfall) {
	c.gauge.Reset()
	for _, s := range all {
		for _, setting := range c.topics.judged(s.Topic) {
			_, known := s.Configs[setting]
			if known || setting == replicationFactor && s.Replication > 0 {
				c.gauge.WithLabelValues(s.Topic, setting).Set(0)
			}
		}
	}
	for _, s := range short {
		c.gauge.WithLabelValues(s.Topic, s.Setting).Set(1)
	}
}

// say logs what is new, a line for each setting with its topics, and alerts where what can be lost has changed.
func (c *settingsCheck) say(short []Shortfall) {
	var summary []string
	changed := false
	topics := map[Shortfall][]string{} // of what is new, by the same without its topic
	var fresh []Shortfall
	for _, s := range short {
		old := slices.Contains(c.said, s)
		if !s.Advice {
			summary = append(summary, s.String())
			changed = changed || !old
		}
		if line := (Shortfall{Setting: s.Setting, Is: s.Is, Wanted: s.Wanted, Why: s.Why, Advice: s.Advice}); !old {
			if topics[line] == nil {
				fresh = append(fresh, line)
			}
			topics[line] = append(topics[line], s.Topic)
		}
	}
	for _, s := range fresh {
		level := slog.LevelWarn
		if s.Advice {
			level = slog.LevelInfo
		}
		c.log.Log(context.Background(), level, "a setting of the cluster falls short of what the gate promises",
			"setting", s.Setting, "is", s.Is, "wanted", s.Wanted, "topics", strings.Join(topics[s], ","), "why", s.Why)
	}
	for _, s := range c.said {
		if !slices.ContainsFunc(short, func(now Shortfall) bool { return now.Topic == s.Topic && now.Setting == s.Setting }) {
			c.log.Info("a setting of the cluster is as it should be again", "topic", s.Topic, "setting", s.Setting)
		}
	}
	serious := func(s Shortfall) bool { return !s.Advice }
	over := slices.ContainsFunc(c.said, serious) && !slices.ContainsFunc(short, serious)
	c.said = short
	if c.alert != nil && (changed || over) {
		c.alert("broker_settings", strings.Join(summary, "; "))
	}
}

// sayUnknown logs what is not known, when that changes.
func (c *settingsCheck) sayUnknown(what string) {
	if what != "" && what != c.unknown {
		c.log.Warn("settings of the cluster are not known, so nobody checks that it keeps what it acknowledges; allow DescribeConfigs on the topics", "error", what)
	}
	c.unknown = what
}
