package pipeline_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A broker takes what payment services send and refuses for a while what the
// gate says: nothing that waits for that is committed, everything is said in the
// end, and nothing twice (invariant 2).
func TestNothingIsCommittedBeforeWhatItLedToIsAcknowledged(t *testing.T) {
	topics := pipeline.DefaultConfig().Topics
	for topic, settled := range map[string]int64{
		topics.Decisions:   5,     // nothing of the second part
		topics.DeadLetters: 5 + 3, // up to the record that is refused, at the most
	} {
		t.Run(topic, func(t *testing.T) {
			var refusing atomic.Bool
			refusals := make(chan struct{}, 100)
			cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(cluster.Close)
			cluster.ControlKey(kmsg.Produce.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				req := r.(*kmsg.ProduceRequest)
				if !refusing.Load() || req.Topics[0].Topic != topic {
					return nil, nil, false
				}
				refusals <- struct{}{}
				return refuseProduce(req), nil, true
			})
			g := startLiveOn(t, cluster.ListenAddrs()[0], nil)
			var records []string
			for i := range 20 {
				records = append(records, paid(fmt.Sprint("t-", i)))
			}
			g.send(topics.Transactions, 0, records[:5]...)
			g.commits(0, 5)

			refusing.Store(true)
			records[8] = paid("t-8", "1250", "-1")
			g.send(topics.Transactions, 0, records[5:]...)
			for range 6 { // offsets would be committed every 100 ms
				select {
				case <-refusals:
				case <-time.After(20 * time.Second):
					t.Fatal("the gate does not try again")
				}
			}
			if got := g.committed(0); got > settled {
				t.Errorf("%d is committed while everything from %d on waits for %s", got, settled, topic)
			}
			refusing.Store(false)
			g.commits(0, 20)
			for id, d := range g.decisions(20) {
				if len(d) != 1 {
					t.Errorf("%s has %d decisions", id, len(d))
				}
			}
			if letters := g.read(topics.DeadLetters, 1); len(letters) != 1 {
				t.Errorf("%d dead letters", len(letters))
			}
		})
	}
}

// refuseProduce answers that the partition has moved, which is worth another try.
func refuseProduce(req *kmsg.ProduceRequest) kmsg.Response {
	res := req.ResponseKind().(*kmsg.ProduceResponse)
	for _, t := range req.Topics {
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic = t.Topic
		for _, p := range t.Partitions {
			partition := kmsg.NewProduceResponseTopicPartition()
			partition.Partition, partition.ErrorCode = p.Partition, 6 // NOT_LEADER_OR_FOLLOWER
			topic.Partitions = append(topic.Partitions, partition)
		}
		res.Topics = append(res.Topics, topic)
	}
	return res
}
