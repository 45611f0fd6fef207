package broker

import (
	"testing"
	"time"
)

func TestOffsetsAreFoundByTime(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		topic := newTopic(t, c, 2, nil)
		ctx := within(t, 20*time.Second)
		began := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
		for i := range 5 { // a batch each
			if err := c.Produce(ctx, topic, 0, []Message{{Value: []byte("x"), Time: began.Add(time.Duration(i) * time.Minute).UnixMilli()}}); err != nil {
				t.Fatal(err)
			}
		}
		for _, test := range []struct {
			after time.Duration
			want  int64
		}{{-time.Minute, 0}, {0, 0}, {time.Millisecond, 1}, {3 * time.Minute, 3}, {4 * time.Minute, 4}, {5 * time.Minute, 5}, {24 * time.Hour, 5}} {
			got, err := c.OffsetsAt(ctx, topic, began.Add(test.after))
			if err != nil || len(got) != 2 || got[0] != test.want || got[1] != 0 {
				t.Errorf("%v after the first record: %v (%v), want [%d 0]", test.after, got, err, test.want)
			}
		}
	})
}

func TestAnybodyMayAskWhatAGroupHasCommitted(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		topic, group := newTopic(t, c, 3, nil), unique(t, "group")
		ctx := within(t, 30*time.Second)
		for _, want := range [][]int64{{-1, -1, -1}, {-1, 7, -1}} {
			got, err := c.Committed(ctx, group, topic)
			if err != nil || len(got) != 3 {
				t.Fatalf("%v (%v)", got, err)
			}
			for p := range got {
				if got[p].Partition != p || got[p].Topic != topic || got[p].Offset != want[p] {
					t.Errorf("%+v, want offset %d", got[p], want[p])
				}
			}
			if want[1] == 7 {
				return
			}
			g := &Generation{ID: -1, conn: c, group: group} // as a consumer without a group does
			if err := g.Commit(ctx, []Commit{{Topic: topic, Partition: 1, Offset: 7}}); err != nil {
				t.Fatal(err)
			}
		}
	})
}
