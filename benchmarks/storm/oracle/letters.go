package oracle

import (
	"context"
	"strconv"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// checkLetters: what was refused, and nothing else, stands in dead letters, byte
// for byte.
func (a *audit) checkLetters(ctx context.Context) error {
	type owed struct {
		place
		conflict, paid bool
	}
	letters := map[[2]int64]*owed{}
	for at, r := range a.sent.refused {
		letters[at] = &owed{place: r}
	}
	for _, x := range a.sent.byID {
		for i := 1; i < len(x.contents); i++ {
			for _, r := range x.contents[i].records {
				letters[[2]int64{int64(r.partition), r.offset}] = &owed{place: r, conflict: true}
				a.report.Conflicts++
			}
		}
	}
	a.report.Refused = len(a.sent.refused)
	err := a.gate.Each(ctx, a.gate.DeadLetters, func(r broker.Record) error {
		a.report.DeadLetters++
		d := said{r}
		partition, err1 := strconv.ParseInt(d.header("partition"), 10, 32)
		offset, err2 := strconv.ParseInt(d.header("offset"), 10, 64)
		o := letters[[2]int64{partition, offset}]
		if d.header("topic") != a.gate.Transactions || err1 != nil || err2 != nil || o == nil {
			a.found(Letters, "dead letter %d/%d (%s) is of %s %s/%s, which is no refused record", r.Partition, r.Offset, d.header("reason"), d.header("topic"), d.header("partition"), d.header("offset"))
			return nil
		}
		if o.sum != a.sent.sum(r.Key, r.Value) {
			a.found(Letters, "dead letter %d/%d has other bytes than record %v", r.Partition, r.Offset, o.place)
		}
		if conflict := d.header("reason") == string(payment.ReasonIDConflict); d.header("reason") == "" || conflict != o.conflict {
			a.found(Letters, "dead letter %d/%d of record %v has the reason %q", r.Partition, r.Offset, o.place, d.header("reason"))
		}
		o.paid = true
		return nil
	})
	for _, o := range letters {
		if !o.paid {
			a.found(Letters, "record %v was refused (conflict: %v) and is in no dead letter", o.place, o.conflict)
		}
	}
	return err
}
