package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"github.com/sluice-risk/sluice/pipeline/broker"
)

// perfect are settings that carry every promise.
func perfect(t *Topics) (all []broker.TopicSettings) {
	for _, topic := range t.watched() {
		all = append(all, broker.TopicSettings{Topic: topic, Replication: 3, Configs: map[string]string{
			minInSync: "2", uncleanElection: "false", cleanupPolicy: "delete", retentionTime: "-1", retentionBytes: "-1",
			timestampType: "LogAppendTime", mostBytes: "1048588"}})
	}
	return all
}

// Each setting that a promise rests on is found where it does not carry it, and nothing else is.
func TestEverySettingThatFallsShortIsFound(t *testing.T) {
	topics := DefaultConfig().Topics
	if short := topics.shortfalls(perfect(&topics)); len(short) > 0 {
		t.Fatalf("of settings that are as they should be: %v", short)
	}
	for _, tc := range []struct {
		topic, setting, value string
		wanted                string // "": it is fine
	}{
		{topics.Transactions, minInSync, "1", "2"},
		{topics.Decisions, minInSync, "3", "2"}, // nothing could be written with a broker away
		{topics.Outcomes, uncleanElection, "true", "false"},
		{topics.Decisions, cleanupPolicy, "compact,delete", "delete"},
		{topics.Decisions, retentionTime, "604800000", "-1"},
		{topics.Decisions, retentionBytes, "1073741824", "-1"},
		{topics.DeadLetters, retentionTime, "0", "-1"},
		{topics.Controls, retentionTime, "604800000", "-1"},
		{topics.Reviews, retentionTime, "604800000", "-1"},
		{topics.Transactions, retentionTime, "604800000", ""}, // read once, and then in the decisions
		{topics.Outcomes, retentionTime, "604800000", ""},
		{topics.Transactions, timestampType, "CreateTime", "LogAppendTime"},
		{topics.Decisions, timestampType, "CreateTime", ""},
		{topics.Decisions, mostBytes, "500000", "1000000"},
		{topics.DeadLetters, mostBytes, "1000012", "1048588"},
		{topics.Transactions, mostBytes, "100000", ""},
	} {
		all := perfect(&topics)
		i := slices.IndexFunc(all, func(s broker.TopicSettings) bool { return s.Topic == tc.topic })
		all[i].Configs[tc.setting] = tc.value
		short := topics.shortfalls(all)
		switch {
		case tc.wanted == "" && len(short) > 0:
			t.Errorf("%s %s=%s: %v", tc.topic, tc.setting, tc.value, short)
		case tc.wanted != "" && (len(short) != 1 || short[0].Topic != tc.topic || short[0].Setting != tc.setting || short[0].Is != tc.value || short[0].Wanted != tc.wanted || short[0].Why == ""):
			t.Errorf("%s %s=%s: found %v, wanted %s", tc.topic, tc.setting, tc.value, short, tc.wanted)
		}
		if advice := tc.setting == timestampType; len(short) == 1 && short[0].Advice != advice {
			t.Errorf("%s: advice %v", short[0], short[0].Advice)
		}
		if tc.wanted != "" && !slices.Contains(topics.judged(tc.topic), tc.setting) {
			t.Errorf("%s %s has no metric while it is as it should be", tc.topic, tc.setting)
		}
	}
	all := perfect(&topics)
	all[0].Replication = 2
	if short := topics.shortfalls(all); len(short) != 2 || short[0].Setting != replicationFactor || short[1].Setting != minInSync {
		t.Errorf("two copies: %v", short)
	}
	all[1] = broker.TopicSettings{Topic: topics.Decisions}
	if short := topics.shortfalls(all[1:2]); len(short) > 0 {
		t.Errorf("what is not known falls short: %v", short)
	}
}

// heard is what a check said.
type heard struct {
	lines  strings.Builder
	alerts []string
}

// checkOn is a check of topics of its own on a real cluster.
func checkOn(t *testing.T, env string, config func(topic string) map[string]string) (*settingsCheck, *heard, *kafka.Client) {
	t.Helper()
	addr := os.Getenv(env)
	if addr == "" && os.Getenv("CI") != "" {
		t.Fatalf("%s is not set: CI must run against a real Kafka", env)
	}
	if addr == "" {
		t.Skipf("%s is not set; `make test` starts a Kafka and sets it", env)
	}
	c := DefaultConfig()
	c.Kafka.Brokers = strings.Split(addr, ",")
	c.Topics.Partitions = 1
	prefix := fmt.Sprintf("%s.%d.", t.Name(), time.Now().UnixNano())
	for _, name := range []*string{&c.Topics.Transactions, &c.Topics.Outcomes, &c.Topics.Reviews, &c.Topics.Controls, &c.Topics.Decisions, &c.Topics.Notices, &c.Topics.Alerts, &c.Topics.DeadLetters} {
		*name = prefix + *name
	}
	conn, err := broker.Open(c.brokerConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	topics := c.Topics.needed()
	for i := range topics {
		if more := config(topics[i].Name); more != nil {
			topics[i].Configs = maps.Clone(topics[i].Configs)
			if topics[i].Configs == nil {
				topics[i].Configs = map[string]string{}
			}
			maps.Copy(topics[i].Configs, more)
		}
	}
	if err := conn.EnsureTopics(ctx, topics, true); err != nil {
		t.Fatal(err)
	}
	said := &heard{}
	check := newSettingsCheck(&c, conn, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&said.lines, nil)))
	check.alert = func(code, summary string) { said.alerts = append(said.alerts, code+": "+summary) }
	return check, said, &kafka.Client{Addr: kafka.TCP(c.Kafka.Brokers...), Timeout: 10 * time.Second}
}

// sum is how many settings the metric shows as falling short, of how many.
func (c *settingsCheck) sum(t *testing.T) (short, of int) {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(c.gauge)
	families, err := reg.Gather()
	if err != nil || len(families) != 1 {
		t.Fatal(families, err)
	}
	for _, m := range families[0].Metric {
		short, of = short+int(m.GetGauge().GetValue()), of+1
	}
	return short, of
}

// The topics that the gate makes on three brokers carry what it promises; a setting that somebody changes later is
// said once, alerted, and said again when it is right.
func TestSettingsAreLookedAtAgain(t *testing.T) {
	check, said, client := checkOn(t, "SLUICE_TEST_KAFKA3", func(topic string) map[string]string {
		if strings.HasSuffix(topic, "payments.transactions") {
			return map[string]string{timestampType: "LogAppendTime"}
		}
		return nil
	})
	check.look(t.Context())
	if short, of := check.sum(t); short != 0 || of != 6*4+1+2+4*2 || said.lines.Len() > 0 || len(said.alerts) > 0 {
		t.Fatalf("of topics that the gate made, %d settings of %d fall short:\n%s%v", short, of, said.lines.String(), said.alerts)
	}
	alter := func(value string) {
		res, err := client.AlterConfigs(t.Context(), &kafka.AlterConfigsRequest{Resources: []kafka.AlterConfigRequestResource{{
			ResourceType: kafka.ResourceTypeTopic, ResourceName: check.topics.Decisions,
			Configs: []kafka.AlterConfigRequestConfig{{Name: retentionTime, Value: "-1"}, {Name: minInSync, Value: value}}}}})
		if err == nil {
			for _, e := range res.Errors {
				err = e
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	until := func(want int) {
		for deadline := time.Now().Add(20 * time.Second); ; {
			check.look(t.Context())
			if short, _ := check.sum(t); short == want {
				break
			} else if time.Now().After(deadline) {
				t.Fatalf("%d settings fall short, want %d", short, want)
			}
		}
		check.look(t.Context()) // and once more, with nothing new to say
	}
	alter("1")
	until(1)
	if n := strings.Count(said.lines.String(), "level=WARN"); n != 1 || !strings.Contains(said.lines.String(), "setting=min.insync.replicas is=1 wanted=2") {
		t.Errorf("%d warnings:\n%s", n, said.lines.String())
	}
	if len(said.alerts) != 1 || !strings.Contains(said.alerts[0], "broker_settings: topic "+check.topics.Decisions+": min.insync.replicas is 1, wanted 2") {
		t.Errorf("alerts %q", said.alerts)
	}
	alter("2")
	until(0)
	if n := strings.Count(said.lines.String(), "as it should be again"); n != 1 || len(said.alerts) != 2 || said.alerts[1] != "broker_settings: " {
		t.Errorf("said %d times that all is well, %d alerts:\n%s", n, len(said.alerts), said.lines.String())
	}
}

// One broker keeps one copy: every topic is said, and what is only recommended is no alert.
func TestSettingsOfASingleBrokerFallShort(t *testing.T) {
	check, said, _ := checkOn(t, "SLUICE_TEST_KAFKA", func(string) map[string]string { return nil })
	check.look(t.Context())
	text := said.lines.String()
	if want := "setting=replication.factor is=1 wanted=3 topics=" + strings.Join(check.topics.watched(), ","); strings.Count(text, want) != 1 {
		t.Errorf("%s is not said once:\n%s", want, text)
	}
	if n := strings.Count(text, "level=INFO"); n != 1 || !strings.Contains(text, "setting=message.timestamp.type is=CreateTime wanted=LogAppendTime") {
		t.Errorf("%d recommendations:\n%s", n, text)
	}
	if len(said.alerts) != 1 || strings.Contains(said.alerts[0], timestampType) {
		t.Errorf("alerts %q", said.alerts)
	}
	check.said, check.sandbox = nil, true
	said.lines.Reset()
	said.alerts = nil
	check.look(t.Context())
	check.look(t.Context())
	if n := strings.Count(said.lines.String(), "\n"); n != 1 || strings.Contains(said.lines.String(), "WARN") || len(said.alerts) > 0 {
		t.Errorf("the sandbox nags:\n%s%v", said.lines.String(), said.alerts)
	}
}

// A cluster that does not tell its settings is not called a good one.
func TestSettingsThatAreNotKnownAreSaid(t *testing.T) {
	check, said, _ := checkOn(t, "SLUICE_TEST_KAFKA", func(string) map[string]string { return nil })
	topics := *check.topics
	topics.Decisions += ".missing"
	check.topics = &topics
	for range 2 {
		check.look(t.Context())
	}
	if n := strings.Count(said.lines.String(), "are not known"); n != 1 || !strings.Contains(said.lines.String(), topics.Decisions) {
		t.Errorf("said %d times:\n%s", n, said.lines.String())
	}
}
