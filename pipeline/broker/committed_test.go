package broker

import (
	"testing"
	"time"
)

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
