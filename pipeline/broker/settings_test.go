package broker

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What a topic was made with is what the cluster says, and what nobody set is there too.
func TestSettingsAreThoseInForce(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		plain := newTopic(t, c, 2, nil)
		set := newTopic(t, c, 1, map[string]string{"retention.ms": "-1", "message.timestamp.type": "LogAppendTime"})
		all, err := c.Settings(within(t, 20*time.Second), []string{set, plain})
		if err != nil || len(all) != 2 || all[0].Topic != set || all[1].Topic != plain {
			t.Fatalf("%v, %v; want those of %s and %s", all, err, set, plain)
		}
		for i, want := range []map[string]string{
			{"retention.ms": "-1", "message.timestamp.type": "LogAppendTime", "min.insync.replicas": "1"},
			{"message.timestamp.type": "CreateTime", "cleanup.policy": "delete"},
		} {
			got := maps.Clone(all[i].Configs)
			maps.DeleteFunc(got, func(name, _ string) bool { _, asked := want[name]; return !asked })
			if all[i].Replication != 1 || all[i].Unknown != nil || !maps.Equal(got, want) {
				t.Errorf("%s: %d copies, %v, %v; want 1 copy and %v", all[i].Topic, all[i].Replication, got, all[i].Unknown, want)
			}
		}
	})
}

// A topic that we make on three brokers loses no acknowledged record with one of them, and takes records without it.
func TestTopicsThatWeMakeOutliveABroker(t *testing.T) {
	c := open(t, Config{Brokers: strings.Split(realBroker(t, "SLUICE_TEST_KAFKA3"), ",")})
	topic := Topic{Name: unique(t, "topic"), Partitions: 2, Replication: 3, MinInSync: 2}
	ctx := within(t, 30*time.Second)
	if err := c.EnsureTopics(ctx, []Topic{topic}, true); err != nil {
		t.Fatal(err)
	}
	all, err := c.Settings(ctx, []string{topic.Name})
	if err != nil {
		t.Fatal(err)
	}
	if s := all[0]; s.Replication != 3 || s.Configs["min.insync.replicas"] != "2" || s.Configs["unclean.leader.election.enable"] != "false" {
		t.Errorf("%d copies, %v, %v", s.Replication, s.Configs, s.Unknown)
	}
}

// Who may not ask is told so, and the rest is known all the same.
func TestSettingsThatWeMayNotSeeAreUnknown(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	c := open(t, Config{Brokers: cluster.ListenAddrs()})
	topic := newTopic(t, c, 1, nil)
	cluster.ControlKey(int16(kmsg.DescribeConfigs), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		req := request.(*kmsg.DescribeConfigsRequest)
		response := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
		for _, r := range req.Resources {
			answer := kmsg.NewDescribeConfigsResponseResource()
			answer.ResourceType, answer.ResourceName, answer.ErrorCode = r.ResourceType, r.ResourceName, kerr.TopicAuthorizationFailed.Code
			response.Resources = append(response.Resources, answer)
		}
		return response, nil, true
	})
	all, err := c.Settings(within(t, 10*time.Second), []string{topic})
	if err != nil {
		t.Fatal(err)
	}
	if s := all[0]; s.Replication != 1 || s.Configs != nil || !errors.Is(s.Unknown, kafka.TopicAuthorizationFailed) || !strings.Contains(s.Unknown.Error(), topic) {
		t.Errorf("%d copies, %v, %v; want one copy, and no leave to see more of %s", s.Replication, s.Configs, s.Unknown, topic)
	}
}

// A topic that is not there has no settings, and takes nothing from the others.
func TestSettingsOfAMissingTopicAreUnknown(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		there, missing := newTopic(t, c, 1, nil), unique(t, "missing")
		all, err := c.Settings(within(t, 20*time.Second), []string{missing, there})
		if err != nil {
			t.Fatal(err)
		}
		if all[0].Unknown == nil || all[0].Configs != nil || all[1].Unknown != nil || all[1].Configs == nil {
			t.Errorf("missing: %v; there: %v", all[0], all[1].Unknown)
		}
	})
}

// Where a time begins is found in each partition, and its end where nothing is as late.
func TestOffsetsAreFoundByTime(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		topic := newTopic(t, c, 3, nil)
		ctx := within(t, 20*time.Second)
		for p, times := range [][]int64{{1000, 2000, 3000}, {500}, nil} {
			for _, at := range times {
				if err := c.Produce(ctx, topic, p, []Message{{Value: []byte("v"), Time: time.Now().UnixMilli() - 1_000_000 + at}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		first, err := c.ReadRange(ctx, topic, 0, 0, 3, func(r Record) error {
			if r.Offset == 1 {
				got, err := c.OffsetsAt(ctx, topic, r.Time)
				if err != nil || len(got) != 3 || got[0] != 1 || got[1] != 1 || got[2] != 0 {
					t.Errorf("offsets %v, %v; want 1 (the second record), 1 (the end) and 0 (empty)", got, err)
				}
			}
			return nil
		})
		if err != nil || first != 0 {
			t.Fatal(first, err)
		}
	})
}
