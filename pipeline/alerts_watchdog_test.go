package pipeline

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// watched is a watchdog in a bubble of time, and what its alerts say.
type watched struct {
	*Watchdog
	*listener
}

func withWatchdog(t *testing.T, test func(*watched)) {
	t.Helper()
	withAlerts(t, func(a *Alerts, l *listener) {
		w := &watched{NewWatchdog(a, DefaultWatchdogOptions()), l}
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { w.Run(ctx) })
		defer running.Wait()
		defer cancel()
		test(w)
	})
}

// sees lets traffic pass for a while: each second 200 decisions, of which the
// first n are changed.
func (w *watched) sees(d time.Duration, n int, change func(*payment.Decision)) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
		for i := range 200 {
			dec := payment.Decision{Revision: 1, Verdict: payment.Approve, Source: payment.SourceRules}
			if i < n {
				change(&dec)
			}
			w.Saw(&dec)
		}
	}
}

func stoppedBy(ids ...string) func(*payment.Decision) {
	return func(d *payment.Decision) {
		d.Verdict = payment.Hold
		for _, id := range ids {
			d.Reasons = append(d.Reasons, payment.DecisionReason{Code: "R", Rule: id})
		}
	}
}

// stormOf is a rule that stops 40 a second, beside one that stops 2.
func stormOf(id, steady string) func(*payment.Decision) {
	n, alone, both := 0, stoppedBy(id), stoppedBy(id, steady)
	return func(d *payment.Decision) {
		if n++; n%20 == 0 {
			both(d)
		} else {
			alone(d)
		}
	}
}

func TestRuleThatStopsFarMoreThanItsUsualShareIsToldUntilItStops(t *testing.T) {
	withWatchdog(t, func(w *watched) {
		usual, storm := stoppedBy("steady", "amount-spike"), stormOf("amount-spike", "steady")
		w.sees(time.Hour, 2, usual) // one in a hundred is usual
		w.hears()
		w.sees(2*time.Minute, 6, usual) // three times that is a busy evening
		w.hears()
		w.sees(2*time.Minute, 40, storm)
		w.one("rule_storm firing: rule amount-spike stops")
		w.sees(9*time.Minute, 40, storm)
		w.one("rule_storm firing: rule amount-spike stops 20 % of the payments, ")
		w.sees(3*time.Hour, 40, storm) // a long storm does not become usual
		for _, line := range w.heard() {
			if !strings.Contains(line, "firing") {
				t.Errorf("heard %s", line)
			}
		}
		w.sees(4*time.Minute, 2, usual)
		w.one("rule_storm resolved")
		w.sees(time.Hour, 2, usual)
		w.hears()
	})
}

func TestTwoStormsAreTwoAlerts(t *testing.T) {
	withWatchdog(t, func(w *watched) {
		w.sees(10*time.Minute, 0, nil)
		w.sees(time.Minute, 40, stoppedBy("a"))
		w.one("rule a stops")
		w.sees(time.Minute, 40, stoppedBy("a", "b"))
		w.one("rule b stops")
		w.sees(5*time.Minute, 40, stoppedBy("b"))
		w.one("rule_storm resolved: rule a stops")
	})
}

// A few stops of a rule that hardly ever fires are no storm, however few are usual.
func TestFewStopsAreNoStorm(t *testing.T) {
	withWatchdog(t, func(w *watched) {
		w.sees(30*time.Minute, 0, nil)
		for range 29 { // under the count
			w.sees(2*time.Second, 1, stoppedBy("rare"))
			w.sees(4*time.Second, 0, nil)
		}
		w.hears()
	})
}

func TestLaterRevisionsAndShadowAndApprovalsStopNothing(t *testing.T) {
	withWatchdog(t, func(w *watched) {
		w.sees(3*time.Minute, 100, func(d *payment.Decision) {
			d.Reasons = []payment.DecisionReason{{Code: "POINTS", Rule: "adds-points"}}
			d.Shadow = []payment.ShadowResult{{Rule: "shadow", Verdict: payment.Block}}
		})
		for range 180 {
			for range 1000 {
				d := payment.Decision{Revision: 2, Verdict: payment.Block, Source: payment.SourceDefaultDeadline, Degraded: []string{payment.DegradedStale}}
				stoppedBy("many")(&d)
				w.Saw(&d)
			}
			time.Sleep(time.Second)
		}
		w.hears()
	})
}

func TestDefaultsAboveTheirShareAreToldUntilTheyAreHalfOfIt(t *testing.T) {
	withWatchdog(t, func(w *watched) {
		late := func(d *payment.Decision) { d.Source = payment.SourceDefaultDeadline }
		w.sees(10*time.Minute, 1, late) // half of the bound
		w.hears()
		w.sees(2*time.Minute, 10, late)
		w.one("deadline_defaults firing: ")
		w.sees(5*time.Minute, 1, late)
		w.hears() // between half and the whole it stands
		w.sees(8*time.Minute, 0, nil)
		w.one("deadline_defaults resolved: ")
		w.sees(10*time.Minute, 1, late) // and does not begin there
		w.hears()
	})
}

func TestDegradedOperationSaysWhatIsMissing(t *testing.T) {
	withWatchdog(t, func(w *watched) {
		w.sees(5*time.Minute, 200, func(d *payment.Decision) { d.Degraded = []string{payment.DegradedLate} }) // about the payment, not about us
		w.hears()
		w.sees(4*time.Second, 60, func(d *payment.Decision) { d.Degraded = []string{payment.DegradedStale, payment.DegradedUnshared} })
		w.one("degraded_operation firing: ")
		w.sees(11*time.Minute, 50, func(d *payment.Decision) { d.Degraded = []string{payment.DegradedStale, payment.DegradedUnshared} })
		w.one("degraded_operation firing: 25 % of the decisions of the last minute are degraded: stale_features 25 %, unshared 25 %")
	})
}

func TestAlertsOfAGateWithoutTrafficEnd(t *testing.T) {
	withWatchdog(t, func(w *watched) {
		w.sees(5*time.Minute, 100, func(d *payment.Decision) {
			stoppedBy("many")(d)
			d.Source = payment.SourceDefaultDeadline
			d.Degraded = append(d.Degraded, payment.DegradedStale)
		})
		if got := w.heard(); len(got) < 2 {
			t.Errorf("heard %v", got)
		}
		time.Sleep(20 * time.Minute)
		got := w.heard()
		if len(got) < 2 || !strings.Contains(strings.Join(got, "\n"), "resolved") || len(w.alerts.standing) != 0 {
			t.Errorf("%d stand; heard\n%s", len(w.alerts.standing), strings.Join(got, "\n"))
		}
	})
}

func TestWatchedRulesAreBoundedAndIdleOnesForgotten(t *testing.T) {
	withWatchdog(t, func(w *watched) {
		for i := range 2 * maxWatched {
			d := payment.Decision{Revision: 1}
			stoppedBy(fmt.Sprintf("rule-%d", i))(&d)
			w.Saw(&d)
		}
		if n := len(*w.rules.Load()); n != maxWatched {
			t.Errorf("%d rules are watched", n)
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if n := len(*w.rules.Load()); n != 0 {
			t.Errorf("%d idle rules are watched", n)
		}
	})
}

func TestSeeingADecisionAllocatesNothing(t *testing.T) {
	w := NewWatchdog(nil, DefaultWatchdogOptions())
	d := payment.Decision{Revision: 1, Source: payment.SourceDefaultDeadline, Degraded: []string{payment.DegradedStale, payment.DegradedUnshared}}
	stoppedBy("card-testing", "amount-spike")(&d)
	w.Saw(&d)
	if n := testing.AllocsPerRun(100, func() { w.Saw(&d) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	var none *Watchdog
	none.Saw(&d)
}

func BenchmarkWatchdogSaw(b *testing.B) {
	w := NewWatchdog(nil, DefaultWatchdogOptions())
	for _, name := range []string{"approve", "hold"} {
		d := payment.Decision{Revision: 1, Verdict: payment.Approve}
		if name == "hold" {
			stoppedBy("card-testing")(&d)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.Saw(&d)
			}
		})
	}
}
