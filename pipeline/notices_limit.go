package pipeline

import (
	"fmt"
	"time"
)

// payerLimit keeps anybody from flooding a payer through us: so many notices in
// any hour, and so many in any day. Each member counts for itself, from its
// start on.
//
// It remembers at least the maxLimited payers that were told last, and at most
// twice as many, in two generations: who is told again moves to the younger one,
// and the elder one is forgotten as a whole.
type payerLimit struct {
	perHour, perDay int
	young, old      map[string][]int64 // when a payer was told, within a day, in seconds since 1970, ascending
}

const maxLimited = 100_000

// exceeded counts one more notice for a payer and returns "", or returns which
// limit it would exceed, such as "5 notices within an hour".
func (l *payerLimit) exceeded(payer string, now time.Time) string {
	at := now.Unix()
	told := l.of(payer)
	for len(told) > 0 && told[0] <= at-int64(24*time.Hour/time.Second) {
		told = told[1:]
	}
	lastHour := 0
	for _, t := range told {
		if t > at-int64(time.Hour/time.Second) {
			lastHour++
		}
	}
	switch {
	case len(told) >= l.perDay:
		return fmt.Sprintf("%d notices within a day", l.perDay)
	case lastHour >= l.perHour:
		return fmt.Sprintf("%d notices within an hour", l.perHour)
	}
	l.young[payer] = append(told, at)
	return ""
}

// of is when a payer was told, and keeps the payer among the young.
func (l *payerLimit) of(payer string) []int64 {
	told, known := l.young[payer]
	if known {
		return told
	}
	if len(l.young) >= maxLimited || l.young == nil {
		l.old, l.young = l.young, map[string][]int64{}
	}
	told = l.old[payer]
	l.young[payer] = told
	return told
}
