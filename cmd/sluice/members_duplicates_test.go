package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// duplicateOf reads from a decision which payment it says was the first, "" where
// it is no duplicate.
func duplicateOf(decision []byte) string {
	_, rest, found := bytes.Cut(decision, []byte(`{"code":"DUPLICATE_PAYMENT","detail":"`))
	if !found {
		return ""
	}
	first, _, _ := strings.Cut(string(rest), " of ")
	return first
}

// checkDuplicates holds what was said of duplicate payments against the logs of
// charges: whoever killed whom, a payment is one if an earlier entry of its charge
// names the same order, or one of them names none and it is near; if nothing has
// ended that one before; and unless it was blocked, which may have become known
// too late.
func (s *said) checkDuplicates(t *testing.T, logs map[string]*entityLog) {
	t.Helper()
	byHash := map[txID]string{}
	for id, x := range s.byID {
		byHash[x.hash] = id
	}
	charge, found, excused := kindsLogged-1, 0, 0
	for id, x := range s.byID {
		if x.invalid || x.keys[charge] == 0 {
			continue
		}
		l := logs[logName("charge", x.keys[charge])]
		own := &l.events[l.of[x.hash]]
		first, must := "", false
		firsts := map[string]bool{}
		for i := range l.events {
			e := &l.events[i]
			status, _ := e.standing(own.time, own.at)
			order, theirs := own.refs[refOrder], e.refs[refOrder]
			near := max(e.time, own.time)-min(e.time, own.time) <= payment.Time(time.Minute)
			if e.at >= own.at || !(order != 0 && order == theirs || (order == 0 || theirs == 0) && near) || overForGood(status) {
				continue
			}
			q := byHash[e.tx]
			firsts[q] = true
			if !must && s.byID[q].said.verdict != "block" {
				first, must = q, true
			}
		}
		switch said := x.said.duplicate; {
		case must && said == "":
			t.Errorf("transaction %s repeats %s, and was decided as if it did not", id, first)
		case said != "" && !firsts[said]:
			t.Errorf("transaction %s does not repeat %s, as its decision says", id, said)
		case said != "":
			if found++; said != first {
				excused++
			}
		}
	}
	t.Logf("%d duplicate payments, %d of them of one that was blocked a moment later", found, excused)
	if found == 0 {
		t.Error("there was no duplicate payment: the test proves little")
	}
}

// overForGood tells whether a payment with this status can be made again.
func overForGood(status payment.OutcomeKind) bool {
	return status == payment.OutcomeTechnicalFailure || status == payment.OutcomeCancelled ||
		status == payment.OutcomeDeclinedByBank || status == payment.OutcomeRefunded
}
