package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// listener stands for the broker: it keeps what it is told, or is away.
type listener struct {
	t       *testing.T
	mu      sync.Mutex
	away    bool
	records []payment.Alert
	asked   int
}

func (l *listener) send(_ context.Context, messages []broker.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	if l.away {
		return errors.New("away")
	}
	for _, m := range messages {
		var a payment.Alert
		if err := json.Unmarshal(m.Value, &a); err != nil || string(m.Key) != a.Code.String() {
			l.t.Errorf("%s with key %s: %v", m.Value, m.Key, err)
		}
		l.records = append(l.records, a)
	}
	return nil
}

func (l *listener) goAway(away bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = away
}

// heard returns what was told since the last call, one line a record.
func (l *listener) heard() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []string
	for _, a := range l.records {
		where := ""
		if a.Partition.Present {
			where = fmt.Sprintf("/%d", a.Partition.N)
		}
		lines = append(lines, fmt.Sprintf("%s%s %s: %s", a.Code, where, a.State, a.Summary))
	}
	l.records = nil
	return lines
}

func (l *listener) hears(want ...string) {
	l.t.Helper()
	if got := l.heard(); !slices.Equal(got, want) {
		l.t.Errorf("heard\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// one expects one record with a text in it.
func (l *listener) one(about string) {
	l.t.Helper()
	if got := l.heard(); len(got) != 1 || !strings.Contains(got[0], about) {
		l.t.Errorf("heard\n%s\nwant %q", strings.Join(got, "\n"), about)
	}
}

// values are the counters and gauges of a registry, by name and values of labels.
func values(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			all[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return all
}

// withAlerts runs a test in a bubble of time with alerts that a listener hears,
// repeated every ten minutes.
func withAlerts(t *testing.T, test func(*Alerts, *listener)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &listener{t: t}
		a := NewAlerts(AlertOptions{Send: l.send, Member: "gate-1", Runbooks: "https://runbooks/", Repeat: 10 * time.Minute, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { a.Run(ctx) })
		defer running.Wait()
		defer cancel()
		test(a, l)
	})
}

func TestStateIsToldOnceThenRepeatedUntilItIsResolved(t *testing.T) {
	withAlerts(t, func(a *Alerts, l *listener) {
		began := payment.TimeOf(time.Now())
		a.Raise(payment.AlertStoreAway, "no answer", 3)
		synctest.Wait()
		first := l.records[0]
		if first.Since != began || first.Member != "gate-1" || first.Severity != payment.SeverityCritical || first.Runbook != "https://runbooks/store_away.md" {
			t.Errorf("%+v", first)
		}
		l.hears("store_away/3 firing: no answer")
		for range 9 {
			time.Sleep(time.Minute)
			a.Raise(payment.AlertStoreAway, "no answer yet", 3)
		}
		l.hears()
		time.Sleep(time.Minute)
		l.hears("store_away/3 firing: no answer yet")
		time.Sleep(10 * time.Minute) // nobody raises it, and it stands
		synctest.Wait()
		if again := l.records[0]; again.AlertID != first.AlertID || again.Since != first.Since {
			t.Errorf("repeated as %+v", again)
		}
		l.hears("store_away/3 firing: no answer yet")
		a.Resolve(payment.AlertStoreAway, 3)
		synctest.Wait()
		if end := l.records[0]; end.AlertID != first.AlertID {
			t.Errorf("ends as %+v", end)
		}
		l.hears("store_away/3 resolved: no answer yet")
		a.Resolve(payment.AlertStoreAway, 3)
		time.Sleep(time.Hour)
		l.hears()
		if n := len(a.standing); n != 0 {
			t.Errorf("%d stand", n)
		}
	})
}

func TestEventIsRepeatedOnlyWithMoreOfItAndEndsByItself(t *testing.T) {
	withAlerts(t, func(a *Alerts, l *listener) {
		a.Raise(payment.AlertIDConflict, "t-1 came with other content", NoPartition)
		l.hears("id_conflict firing: t-1 came with other content")
		time.Sleep(time.Minute)
		for i := range 313 {
			a.Raise(payment.AlertIDConflict, fmt.Sprintf("t-%d came with other content", i+2), NoPartition)
		}
		l.hears()
		time.Sleep(9 * time.Minute)
		l.hears("id_conflict firing: t-314 came with other content (and 312 more)")
		time.Sleep(time.Minute)
		l.hears("id_conflict resolved: t-314 came with other content")
		time.Sleep(time.Hour)
		l.hears()
	})
}

func TestBurstOfPartitionsIsBoundedAndNoneIsForgotten(t *testing.T) {
	withAlerts(t, func(a *Alerts, l *listener) {
		for p := range 25 {
			a.Raise(payment.AlertStoreAway, "no answer", p)
		}
		a.Raise(payment.AlertBadRuleset, "another code is told all the same", NoPartition)
		got := l.heard()
		if n := len(got); n != allowBurst+1 {
			t.Fatalf("%d records at once:\n%s", n, strings.Join(got, "\n"))
		}
		if want := "store_away/9 firing: no answer; 15 more alerts of this code wait to be told"; !slices.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, strings.Join(got, "\n"))
		}
		a.Resolve(payment.AlertStoreAway, 24) // it came and went, and nobody was to be told
		time.Sleep(14 * allowEvery)
		later := l.heard()
		told := map[string]bool{}
		for _, line := range slices.Concat(got, later) {
			told[strings.Fields(line)[0]] = true
		}
		if len(later) != 14 || len(told) != 24+1 || told["store_away/24"] {
			t.Errorf("%d later, %d alerts:\n%s", len(later), len(told), strings.Join(later, "\n"))
		}
	})
}

func TestNewestStateOfEachAlertIsToldWhenTheBrokerIsBack(t *testing.T) {
	withAlerts(t, func(a *Alerts, l *listener) {
		a.Raise(payment.AlertClockSkew, "two seconds ahead", NoPartition)
		l.hears("clock_skew firing: two seconds ahead")
		l.goAway(true)
		a.Resolve(payment.AlertClockSkew, NoPartition)
		a.Raise(payment.AlertStoreAway, "no answer", 0)
		for i := range 100_000 {
			a.Raise(payment.AlertIDConflict, fmt.Sprintf("t-%d", i), NoPartition)
		}
		time.Sleep(time.Hour)
		a.Raise(payment.AlertStoreAway, "no answer for an hour", 0)
		l.hears()
		if l.asked > 4000 || len(a.standing) != 3 {
			t.Errorf("asked %d times, %d alerts kept", l.asked, len(a.standing))
		}
		l.goAway(false)
		time.Sleep(sendPause)
		got := l.heard()
		slices.Sort(got)
		if want := []string{"clock_skew resolved: two seconds ahead", "id_conflict firing: t-99999 (and 99999 more)", "id_conflict resolved: t-99999",
			"store_away/0 firing: no answer for an hour"}; !slices.Equal(got, want) {
			t.Errorf("heard\n%s", strings.Join(got, "\n"))
		}
	})
}

func TestAlertThatComesAgainBeforeItsEndWasToldGoesOn(t *testing.T) {
	withAlerts(t, func(a *Alerts, l *listener) {
		a.Raise(payment.AlertStoreAway, "no answer", 0)
		synctest.Wait()
		first := l.records[0].AlertID
		l.hears("store_away/0 firing: no answer")
		l.goAway(true)
		a.Resolve(payment.AlertStoreAway, 0)
		synctest.Wait()
		time.Sleep(time.Minute)
		a.Raise(payment.AlertStoreAway, "no answer again", 0)
		l.goAway(false)
		time.Sleep(9 * time.Minute)
		synctest.Wait()
		if len(l.records) != 1 || l.records[0].AlertID != first || l.records[0].State != payment.AlertFiring {
			t.Errorf("%+v", l.records)
		}
		l.heard()
		a.Resolve(payment.AlertStoreAway, 0)
		l.hears("store_away/0 resolved: no answer again")
		time.Sleep(time.Second)
		a.Raise(payment.AlertStoreAway, "another one", 0)
		synctest.Wait()
		if len(l.records) != 1 || l.records[0].AlertID == first {
			t.Errorf("after its end: %+v", l.records)
		}
	})
}

// A record whose acknowledgement was lost may have been read: its end is told too.
func TestEndIsToldOfAnAlertThatSomebodyMayHaveHeard(t *testing.T) {
	withAlerts(t, func(a *Alerts, l *listener) {
		l.goAway(true)
		a.Raise(payment.AlertStoreAway, "no answer", 0)
		l.hears()
		a.Resolve(payment.AlertStoreAway, 0)
		l.goAway(false)
		time.Sleep(sendPause)
		l.hears("store_away/0 resolved: no answer")
		if len(a.standing) != 0 {
			t.Errorf("%d stand", len(a.standing))
		}
	})
}

func TestStoppingMemberSaysWhatIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &listener{t: t}
		a := NewAlerts(AlertOptions{Send: l.send, Member: "gate-1", Repeat: time.Minute, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		a.Raise(payment.AlertLedgerHole, "decisions are gone", 2)
		a.Run(ctx)
		l.hears("ledger_hole/2 firing: decisions are gone")
	})
}

func TestAlertsAreCounted(t *testing.T) {
	withAlerts(t, func(a *Alerts, l *listener) {
		is := func(began, firing float64) {
			t.Helper()
			got := values(t, a.o.Metrics.(*prometheus.Registry))
			if b, f := got["sluice_alerts_total store_away critical"], got["sluice_alerts_firing store_away critical"]; b != began || f != firing {
				t.Errorf("%v began, %v stand; want %v, %v", b, f, began, firing)
			}
		}
		for p := range 3 {
			a.Raise(payment.AlertStoreAway, "no answer", p)
			a.Raise(payment.AlertStoreAway, "no answer", p)
		}
		is(3, 3)
		a.Resolve(payment.AlertStoreAway, 1)
		a.Resolve(payment.AlertStoreAway, 1)
		a.Resolve(payment.AlertStoreAway, 7)
		is(3, 2)
		synctest.Wait()
		is(3, 2)
		a.Raise(payment.AlertStoreAway, "no answer", 1)
		is(4, 3)
	})
}

func TestNoAlertsTellNobody(t *testing.T) {
	var a *Alerts
	a.Raise(payment.AlertStoreAway, "no answer", 0)
	a.Resolve(payment.AlertStoreAway, 0)
}

func TestEveryAlertHasARunbookAndEveryRunbookAnAlert(t *testing.T) {
	const folder = "../deploy/runbooks/"
	pages := map[string]bool{"README.md": true}
	index, err := os.ReadFile(folder + "README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range payment.AlertCodes() {
		page := c.String() + ".md"
		pages[page] = true
		text, err := os.ReadFile(folder + page)
		if err != nil {
			t.Errorf("%s: %v", c, err)
			continue
		}
		for _, part := range []string{"# " + c.String() + "\n", "\nSeverity: " + c.Severity().String() + "\n", "\n## What it means\n", "\n## What to look at\n", "\n## What to do\n"} {
			if !strings.Contains(string(text), part) {
				t.Errorf("%s: no %q", page, strings.TrimSpace(part))
			}
		}
		if !strings.Contains(string(index), "]("+page+")") {
			t.Errorf("README.md does not lead to %s", page)
		}
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !pages[e.Name()] {
			t.Errorf("%s belongs to no alert", e.Name())
		}
	}
}
