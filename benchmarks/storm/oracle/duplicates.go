package oracle

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// chargeLogs begin with this; those of a shared store have its own keys behind it.
const chargeLogs = "charge:"

// chargeOf names the log of the charge in an entry of the journal: by type, payer,
// payee, amount and currency. "" where it is none.
func chargeOf(ev *event, e []byte) string {
	if payment.Type(e[58]) == payment.TypeRefund || ev.refs[refPayer] == 0 || ev.refs[refPayee] == 0 {
		return ""
	}
	return fmt.Sprintf("%s%d %x %x %d %d", chargeLogs, e[58], ev.refs[refPayer], ev.refs[refPayee],
		binary.LittleEndian.Uint64(e[40:]), binary.LittleEndian.Uint16(e[48:]))
}

// duplicate is the payment that a decision says its own repeats, "" for none.
func (d said) duplicate() string {
	_, rest, ok := bytes.Cut(d.record.Value, []byte(`{"code":"DUPLICATE_PAYMENT","detail":"`))
	if !ok {
		return ""
	}
	first, _, _ := strings.Cut(string(rest), " of ")
	return first
}

// withinDefault is how near two payments without an order are by the policy.
const withinDefault = payment.Time(time.Minute)

// checkDuplicates holds what was said of duplicate payments against the logs of
// charges. A payment is one if an entry before its own names the same order, or
// one of the two names none and they are near; if nothing has ended that payment
// by then; and unless that one was blocked, which may have become known too late.
func (a *audit) checkDuplicates() {
	ids := make(map[TxID]string, len(a.sent.byID))
	for id, x := range a.sent.byID {
		ids[x.hash] = id
	}
	for name, l := range a.gate.Logs {
		if !strings.HasPrefix(name, chargeLogs) {
			continue
		}
		for i := range l.events {
			if x := a.sent.byID[ids[l.events[i].tx]]; x != nil {
				a.checkDuplicate(x, l, i, ids)
			}
		}
	}
}

func (a *audit) checkDuplicate(x *transaction, l *Log, at int, ids map[TxID]string) {
	own := &l.events[at]
	firsts, first := map[string]bool{}, ""
	for i := range l.events {
		e := &l.events[i]
		same := own.order != 0 && own.order == e.order
		near := max(own.time, e.time)-min(own.time, e.time) <= withinDefault
		if e.at >= own.at || !same && !((own.order == 0 || e.order == 0) && near) {
			continue
		}
		switch status, _ := e.standing(own.time, own.at); status {
		case payment.OutcomeTechnicalFailure, payment.OutcomeCancelled, payment.OutcomeDeclinedByBank, payment.OutcomeRefunded:
			continue
		}
		id := ids[e.tx]
		firsts[id] = true
		if q := a.sent.byID[id]; first == "" && q != nil && !q.blocked() {
			first = id
		}
	}
	for _, r := range x.revisions {
		switch {
		case !r.exact || a.gate.everLost(r.decided):
		case r.duplicate == "" && first != "":
			a.found(Repeated, "transaction %s repeats %s, and was decided as if it did not", x.id, first)
		case r.duplicate != "" && !firsts[r.duplicate]:
			a.found(Repeated, "transaction %s does not repeat %s, as its decision says", x.id, r.duplicate)
		case r.duplicate != "":
			if a.report.Duplicates++; r.duplicate != first {
				a.report.Excused++
			}
		}
	}
}

// blocked tells whether any revision was a block.
func (x *transaction) blocked() bool {
	for _, r := range x.revisions {
		if r.verdict == payment.Block.String() {
			return true
		}
	}
	return false
}
