package window

import (
	"slices"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Outage is a time in which a channel, a bank or a payee could not work. What
// failed technically then says nothing about who paid: such events take no part
// in features that look at the status.
type Outage struct {
	ID          string
	From, Until payment.Time // [From, Until)
	// What must hold; an empty one always does.
	Channel, Bank, Payee string
}

// outages are those in force.
type outages struct {
	list []hashedOutage
}

type hashedOutage struct {
	Outage
	bank, payee uint64
}

// cover tells whether an event lies in an outage.
func (o *outages) cover(e entry) bool {
	for i := range o.list {
		k := &o.list[i]
		if t := e.time(); t >= k.From && t < k.Until &&
			(k.Channel == "" || e.text(textChannel) == k.Channel) &&
			(k.bank == 0 || e.ref(Bank) == k.bank) && (k.payee == 0 || e.ref(Payee) == k.payee) {
			return true
		}
	}
	return false
}

// set marks an outage, or takes it back where Until is not after From. It reports
// whether anything changed.
func (o *outages) set(key Key, m Outage) bool {
	at := slices.IndexFunc(o.list, func(k hashedOutage) bool { return k.ID == m.ID })
	switch {
	case m.Until <= m.From && at < 0, m.Until > m.From && at >= 0 && o.list[at].Outage == m:
		return false
	case m.Until <= m.From:
		o.list = slices.Delete(o.list, at, at+1)
	default:
		k := hashedOutage{Outage: m, bank: key.Ref(Bank, m.Bank), payee: key.Ref(Payee, m.Payee)}
		if at < 0 {
			o.list = append(o.list, k)
		} else {
			o.list[at] = k
		}
	}
	return true
}
