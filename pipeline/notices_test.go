package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/rules"
)

// mailbox stands for the topic of notices: it keeps what it gets, or is away.
type mailbox struct {
	*Notices
	t        *testing.T
	alerts   *listener
	counters *prometheus.Registry

	mu   sync.Mutex
	away bool
	got  []payment.Notice
}

func (m *mailbox) send(_ context.Context, messages []broker.Message) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return errors.New("away")
	}
	for _, message := range messages {
		var n payment.Notice
		if err := json.Unmarshal(message.Value, &n); err != nil || string(message.Key) != n.Payer.AccountID {
			m.t.Errorf("%s with key %s: %v", message.Value, message.Key, err)
		}
		m.got = append(m.got, n)
	}
	return nil
}

func (m *mailbox) goAway(away bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away = away
}

// took returns what has come since the last call.
func (m *mailbox) took() []payment.Notice {
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	got := m.got
	m.got = nil
	return got
}

// tells expects notices, one line each.
func (m *mailbox) tells(want ...string) {
	m.t.Helper()
	var got []string
	for _, n := range m.took() {
		got = append(got, fmt.Sprintf("%s %s %s %s %s: %s|%s", n.Payer.AccountID, n.TransactionID, n.Kind, n.Code, n.Language, n.Message, n.Next))
	}
	if !slices.Equal(got, want) {
		m.t.Errorf("told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func noticeRules(t *testing.T) *rules.Ruleset {
	t.Helper()
	rs, err := rules.LoadFS(fstest.MapFS{
		"rules/a.yaml": {Data: []byte(`rules:
  - {id: a, when: 'amount > CNY(1)', verdict: hold, payer_message: {en: "Please confirm.", zh-CN: "请确认。"}}
`)},
		"notices.yaml": {Data: []byte(`notices:
  ASK_AGAIN: {en: {message: Not now., next: Ask again.}, zh-CN: {message: 现在不行。, next: 请再试。}}
  CONFIRM_IT_IS_YOU: {en: {message: Is it you?, next: Confirm.}, zh-CN: {message: 是您本人吗?, next: 请确认。}}
  RELEASED: {en: {message: It goes on.}, zh-CN: {message: 继续处理。}}
  DECLINED: {en: {message: No., next: Call.}}
  UNDER_REVIEW: {en: {message: We look.}}
  HOLD_EXPIRED: {en: {message: Too late.}}
  PAYMENT_FAILED: {en: {message: It failed., next: Again.}, zh-CN: {message: 失败。, next: 重试。}}
  NOT_NOW: {en: {message: Not yet.}}
  INVALID_REQUEST: {en: {message: What?}}
  DUPLICATE: {en: {message: Twice?}}
`)}})
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// withNotices runs a test in a bubble of time with notices that a mailbox takes,
// with the limits of the defaults.
func withNotices(t *testing.T, test func(*mailbox)) {
	t.Helper()
	rs := noticeRules(t)
	withAlerts(t, func(a *Alerts, l *listener) {
		m := &mailbox{t: l.t, alerts: l, counters: prometheus.NewRegistry()}
		limits := DefaultConfig().Notices
		m.Notices = NewNotices(rs, NoticeOptions{Send: m.send, PerHour: limits.PerHour, PerDay: limits.PerDay, Alerts: a, Metrics: m.counters, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { m.Run(ctx) })
		defer running.Wait()
		defer cancel()
		test(m)
	})
}

// decided is a first decision of a payer's transaction, and the transaction.
func decided(id, payer, locale string, verdict payment.Verdict, change func(*payment.Decision)) (*payment.Transaction, payment.Verdict, []byte) {
	tx := &payment.Transaction{ID: id, Locale: locale}
	tx.Payer.AccountID = payer
	return tx, verdict, revision(1, id, payer, verdict, change)
}

// revision is a decision in bytes.
func revision(n int, id, payer string, verdict payment.Verdict, change func(*payment.Decision)) []byte {
	var d payment.Decision
	d.Reset()
	d.TransactionID, d.Revision, d.Verdict, d.Source, d.Transaction.Payer, d.EventTime = id, n, verdict, payment.SourceRules, payer, 7
	if verdict == payment.Hold {
		d.Hold.Needs = []string{"review"}
	}
	if change != nil {
		change(&d)
	}
	return d.Append(nil)
}

func code(payerCode, message string) func(*payment.Decision) {
	return func(d *payment.Decision) { d.PayerCode, d.PayerMessage = payerCode, message }
}

func TestPayersAreToldWhatHappenedAndWhatToDoInTheirLanguage(t *testing.T) {
	withNotices(t, func(m *mailbox) {
		m.Decided(decided("t-0", "u-0", "zh-CN", payment.Approve, nil)) // no news
		m.Decided(decided("t-1", "u-1", "en-GB", payment.Hold, code("ASK_AGAIN", "Please confirm.")))
		m.Decided(decided("t-2", "u-2", "zh-CN", payment.Block, code("ASK_AGAIN", "")))
		m.Decided(decided("t-3", "u-3", "zh-CN", payment.Hold, code("OTHER", "请确认。"))) // of which only the rule says something
		m.Decided(decided("t-4", "u-4", "", payment.Block, code("OTHER", "")))         // of which nobody does
		m.Decided(decided("t-5", "u-5", "", payment.Hold, code("OTHER", "")))
		m.tells(
			"u-1 t-1 held ASK_AGAIN en: Not now.|Ask again.",
			"u-2 t-2 blocked ASK_AGAIN zh-CN: 现在不行。|请再试。",
			"u-3 t-3 held OTHER zh-CN: 请确认。|",
			"u-4 t-4 blocked OTHER en: No.|Call.",
			"u-5 t-5 held OTHER en: We look.|")
	})
}

func TestDecisionWithoutAPayerCodeIsToldByWhatMadeIt(t *testing.T) {
	withNotices(t, func(m *mailbox) {
		by := func(source payment.Source, needs ...string) func(*payment.Decision) {
			return func(d *payment.Decision) { d.Source, d.Hold.Needs = source, needs }
		}
		m.Decided(decided("t-1", "u-1", "en", payment.Hold, by(payment.SourceDefaultDeadline, "review")))
		m.Decided(decided("t-2", "u-2", "en", payment.Hold, by(payment.SourceRules, "step_up", "review")))
		m.Decided(decided("t-3", "u-3", "en", payment.Hold, by(payment.SourceDuplicate, "review")))
		m.Decided(decided("t-4", "u-4", "en", payment.Hold, by(payment.SourceRules, "review")))
		m.Decided(decided("t-5", "u-5", "en", payment.Block, by(payment.SourceInvalid)))
		m.Decided(decided("t-6", "u-6", "en", payment.Block, by(payment.SourceList)))
		m.tells(
			"u-1 t-1 held NOT_NOW en: Not yet.|",
			"u-2 t-2 held CONFIRM_IT_IS_YOU en: Is it you?|Confirm.",
			"u-3 t-3 held DUPLICATE en: Twice?|",
			"u-4 t-4 held UNDER_REVIEW en: We look.|",
			"u-5 t-5 blocked INVALID_REQUEST en: What?|",
			"u-6 t-6 blocked DECLINED en: No.|Call.")
	})
}

// What begins a hold is not what it comes to: the code of the first revision is
// not told again.
func TestLaterRevisionsAreToldByWhatTheyBring(t *testing.T) {
	withNotices(t, func(m *mailbox) {
		by := func(source, corrects payment.Source, needs ...string) func(*payment.Decision) {
			return func(d *payment.Decision) {
				d.Source, d.Corrects, d.Hold.Needs, d.PayerCode, d.PayerMessage = source, corrects, needs, "ASK_AGAIN", "Please confirm."
			}
		}
		m.Revised(revision(2, "t-1", "u-1", payment.Approve, by(payment.SourceReview, "")))
		m.Revised(revision(2, "t-2", "u-2", payment.Block, by(payment.SourceExpiry, "")))
		m.Revised(revision(2, "t-3", "u-3", payment.Block, by(payment.SourceStepUp, "")))
		m.Revised(revision(2, "t-4", "u-4", payment.Hold, by(payment.SourceStepUp, "", "review")))
		m.Revised(revision(2, "t-5", "u-5", payment.Block, by(payment.SourceRules, payment.SourceDefaultDeadline)))
		m.Revised(revision(2, "t-6", "u-6", payment.Approve, by(payment.SourceRules, payment.SourceDefaultDeadline)))
		m.tells(
			"u-1 t-1 released RELEASED en: It goes on.|",
			"u-2 t-2 blocked HOLD_EXPIRED en: Too late.|",
			"u-3 t-3 blocked DECLINED en: No.|Call.",
			"u-4 t-4 held UNDER_REVIEW en: We look.|",
			"u-5 t-5 blocked ASK_AGAIN en: Not now.|Ask again.",
			"u-6 t-6 released RELEASED en: It goes on.|")
	})
}

func TestLanguageOfAPayerIsKeptForWhatComesLater(t *testing.T) {
	withNotices(t, func(m *mailbox) {
		m.Decided(decided("t-1", "u-1", "zh-CN", payment.Approve, nil))
		m.Decided(decided("t-2", "u-2", "zh-CN", payment.Hold, code("ASK_AGAIN", "")))
		m.Revised(revision(2, "t-2", "u-2", payment.Approve, nil))
		m.Happened(&payment.Outcome{TransactionID: "t-1", Kind: payment.OutcomeTechnicalFailure, EventTime: 9, PayerID: "u-1"}, "", payment.Approve)
		m.Happened(&payment.Outcome{TransactionID: "t-9", Kind: payment.OutcomeTechnicalFailure, EventTime: 9}, "u-9", 0)
		m.tells(
			"u-2 t-2 held ASK_AGAIN zh-CN: 现在不行。|请再试。",
			"u-2 t-2 released RELEASED zh-CN: 继续处理。|",
			"u-1 t-1 failed PAYMENT_FAILED zh-CN: 失败。|重试。",
			"u-9 t-9 failed PAYMENT_FAILED en: It failed.|Again.")
	})
}

func TestOnlySomeOutcomesAreNews(t *testing.T) {
	withNotices(t, func(m *mailbox) {
		kinds := map[string]payment.NoticeKind{"technical_failure": payment.NoticeFailed, "declined_by_bank": payment.NoticeFailed,
			"cancelled": payment.NoticeFailed, "refunded": payment.NoticeRefunded}
		for i, name := range payment.OutcomeNames() {
			kind, _ := payment.ParseOutcomeKind(name)
			o := &payment.Outcome{TransactionID: "t-" + name, Kind: kind, EventTime: 9}
			m.Happened(o, fmt.Sprint("u-", i), payment.Approve)
			m.Happened(o, fmt.Sprint("u-b", i), payment.Block) // whose payer knows already
			m.Happened(o, "", payment.Approve)                 // whom should we tell
		}
		got := m.took()
		for _, n := range got {
			name := strings.TrimPrefix(n.TransactionID, "t-")
			if n.Kind != kinds[name] || n.Message == "" || n.Next == "" || n.EventTime != 9 {
				t.Errorf("%s: %+v", name, n)
			}
		}
		if len(got) != len(kinds) {
			t.Errorf("%d notices", len(got))
		}
	})
}

func TestSameNewsHasTheSameNoticeID(t *testing.T) {
	withNotices(t, func(m *mailbox) {
		hold := revision(1, "t-1", "u-1", payment.Hold, nil)
		m.Revised(hold)
		m.Revised(hold)
		m.Revised(revision(2, "t-1", "u-1", payment.Hold, nil))
		o := &payment.Outcome{TransactionID: "t-1", Kind: payment.OutcomeRefunded, ID: "o-1", EventTime: 9}
		m.Happened(o, "u-1", payment.Approve)
		m.Happened(o, "u-1", payment.Approve)
		ids := map[string]int{}
		for _, n := range m.took() {
			ids[n.NoticeID]++
		}
		if len(ids) != 3 {
			t.Errorf("%v", ids)
		}
	})
}

func TestNobodyCanFloodAPayerThroughUs(t *testing.T) {
	withNotices(t, func(m *mailbox) {
		perHour, perDay := m.limit.perHour, m.limit.perDay
		tries := func(n int) (got int) {
			for i := range n {
				m.Decided(decided(fmt.Sprint("t-", i), "u-1", "en", payment.Hold, nil))
			}
			return len(m.took())
		}
		if got := tries(100); got != perHour {
			t.Errorf("%d notices in the first hour", got)
		}
		m.alerts.one("payer_flood firing: payer u-1 has got 5 notices within an hour; the rest are not sent")
		m.Decided(decided("t-1", "u-2", "en", payment.Hold, nil))
		if len(m.took()) != 1 {
			t.Error("another payer is not told")
		}
		time.Sleep(59 * time.Minute)
		if got := tries(3); got != 0 {
			t.Errorf("%d notices more within the hour", got)
		}
		total := perHour
		for range 22 { // in any hour five at most, until the day is full
			time.Sleep(time.Hour)
			got := tries(9)
			if got > perHour {
				t.Errorf("%d notices in an hour", got)
			}
			total += got
		}
		if total != perDay {
			t.Errorf("%d notices in a day", total)
		}
		time.Sleep(time.Hour + time.Minute)
		if got := tries(9); got != perHour {
			t.Errorf("%d notices when the first are a day old", got)
		}
		if n := values(t, m.counters)["sluice_notices_suppressed_total limit"]; n != 100+3+22*9+9-float64(perDay+perHour) {
			t.Errorf("%v counted as suppressed", n)
		}
	})
}

func TestPayerLimitRemembersThoseWhoWereToldLast(t *testing.T) {
	l := payerLimit{perHour: 1, perDay: 1}
	now := time.Unix(1_800_000_000, 0)
	for i := range 5 * maxLimited {
		if of := l.exceeded(fmt.Sprint("u-", i), now); of != "" {
			t.Fatalf("u-%d: %s", i, of)
		}
		if i%(maxLimited/2) == 0 && l.exceeded("u-0", now) == "" {
			t.Fatalf("after %d payers the one who is told again and again is forgotten", i)
		}
	}
	if n := len(l.young) + len(l.old); n > 2*maxLimited {
		t.Errorf("%d payers are kept", n)
	}
	if l.exceeded(fmt.Sprint("u-", 5*maxLimited-maxLimited), now) == "" {
		t.Error("one of the last is forgotten")
	}
}

func TestHoldThatHasEndedIsNotAskedFor(t *testing.T) {
	withNotices(t, func(m *mailbox) {
		until := func(d time.Duration) func(*payment.Decision) {
			at := payment.TimeOf(time.Now().Add(d))
			return func(d *payment.Decision) { d.Hold.ExpiresAt = at }
		}
		m.Decided(decided("t-1", "u-1", "en", payment.Hold, until(-time.Second)))
		m.Decided(decided("t-2", "u-2", "en", payment.Hold, until(time.Second)))
		m.tells("u-2 t-2 held UNDER_REVIEW en: We look.|")
		if n := values(t, m.counters)["sluice_notices_suppressed_total expired"]; n != 1 {
			t.Errorf("%v counted as expired", n)
		}
	})
}

func TestNoticesWaitForTheBrokerAndBeyondTheirBoundAreDroppedLoudly(t *testing.T) {
	withNotices(t, func(m *mailbox) {
		m.goAway(true)
		tell := func(from, n int) {
			for i := range n {
				m.Decided(decided(fmt.Sprint("t-", from+i), fmt.Sprint("u-", from+i), "en", payment.Hold, nil))
			}
			synctest.Wait()
		}
		tell(0, 1) // the one that is tried
		tell(1, maxNews)
		time.Sleep(time.Hour)
		m.alerts.hears()
		tell(1+maxNews, 7)
		m.alerts.one("notices_dropped firing: 8192 notices wait to be sent, and no more can")
		m.goAway(false)
		time.Sleep(sendPause)
		got := m.took()
		for i, n := range got {
			if n.TransactionID != fmt.Sprint("t-", i) {
				t.Fatalf("%d is %s", i, n.TransactionID)
			}
		}
		counted := values(t, m.counters)
		if len(got) != maxNews+1 || counted["sluice_notices_total held"] != maxNews+1 || counted["sluice_notices_dropped_total"] != 7 {
			t.Errorf("%d came, %v", len(got), counted)
		}
	})
}

func TestStoppingMemberSendsTheNoticesThatWait(t *testing.T) {
	rs := noticeRules(t)
	synctest.Test(t, func(t *testing.T) {
		for _, away := range []bool{false, true} {
			m := &mailbox{t: t, away: away, counters: prometheus.NewRegistry()}
			m.Notices = NewNotices(rs, NoticeOptions{Send: m.send, PerHour: 5, PerDay: 20, Metrics: m.counters, Log: slog.New(slog.DiscardHandler)})
			for i := range 1200 {
				m.Decided(decided(fmt.Sprint("t-", i), fmt.Sprint("u-", i), "en", payment.Hold, nil))
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			m.Run(ctx)
			sent, dropped := len(m.took()), values(t, m.counters)["sluice_notices_dropped_total"]
			if away && (sent != 0 || dropped != 1200) || !away && (sent != 1200 || dropped != 0) {
				t.Errorf("away %v: %d sent, %v dropped", away, sent, dropped)
			}
		}
	})
}

func TestNewRulesetTellsInItsOwnWords(t *testing.T) {
	withNotices(t, func(m *mailbox) {
		rs, err := rules.LoadFS(fstest.MapFS{"notices.yaml": {Data: []byte("notices: {UNDER_REVIEW: {en: {message: Other words.}}}\n")}})
		if err != nil {
			t.Fatal(err)
		}
		m.Use(rs)
		m.Decided(decided("t-1", "u-1", "en", payment.Hold, nil))
		m.tells("u-1 t-1 held UNDER_REVIEW en: Other words.|")
	})
}

// A locale points into a record that is soon another one.
func TestNothingOfARecordIsKept(t *testing.T) {
	withNotices(t, func(m *mailbox) {
		record := []byte("zh-CN t-1 u-1 o-1")
		text := func(from, to int) string { return unsafe.String(&record[from], to-from) }
		tx := &payment.Transaction{ID: text(6, 9), Locale: text(0, 5)}
		tx.Payer.AccountID = text(10, 13)
		decision := revision(1, "t-1", "u-1", payment.Hold, code("ASK_AGAIN", ""))
		m.Decided(tx, payment.Hold, decision)
		m.Happened(&payment.Outcome{TransactionID: text(6, 9), ID: text(14, 17), Kind: payment.OutcomeTechnicalFailure}, text(10, 13), payment.Approve)
		clear(record)
		clear(decision)
		m.tells("u-1 t-1 held ASK_AGAIN zh-CN: 现在不行。|请再试。", "u-1 t-1 failed PAYMENT_FAILED zh-CN: 失败。|重试。")
	})
}

func TestNoNoticesTellNobody(t *testing.T) {
	var n *Notices
	n.Use(nil)
	n.Decided(decided("t-1", "u-1", "en", payment.Hold, nil))
	n.Revised(nil)
	n.Happened(&payment.Outcome{Kind: payment.OutcomeCancelled}, "u-1", 0)
}

func TestLanguagesTakeNoMoreThanTheirSlots(t *testing.T) {
	var l languages
	l.init()
	for i := range 1000 {
		l.note(fmt.Sprint("u-", i), fmt.Sprintf("l%d", i)) // more locales than there are numbers
	}
	right := 0
	for i := range 1000 {
		switch got := l.of(fmt.Sprint("u-", i)); got {
		case fmt.Sprintf("l%d", i):
			right++
		case "":
		default:
			t.Errorf("u-%d is told in %s", i, got)
		}
	}
	if n := len(l.locales.Load().names); n != maxLocales+1 || right < maxLocales-5 {
		t.Errorf("%d locales, %d payers remembered", n, right)
	}
	l.note("u-0", "l1")
	l.note("u-0", "")
	if l.of("u-0") != "l1" || l.of("nobody") != "" {
		t.Errorf("%q %q", l.of("u-0"), l.of("nobody"))
	}
}

func TestApprovalsAllocateNothingForNotices(t *testing.T) {
	n := NewNotices(noticeRules(t), NoticeOptions{PerHour: 1, PerDay: 1, Log: slog.New(slog.DiscardHandler)})
	tx, verdict, decision := decided("t-1", "u-1", "zh-CN", payment.Approve, nil)
	n.Decided(tx, verdict, decision)
	if allocs := testing.AllocsPerRun(100, func() { n.Decided(tx, verdict, decision) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkNoticesDecided(b *testing.B) {
	rs, err := rules.LoadFS(fstest.MapFS{"rules/a.yaml": {Data: []byte("rules: []\n")}})
	if err != nil {
		b.Fatal(err)
	}
	n := NewNotices(rs, NoticeOptions{PerHour: 5, PerDay: 20, Log: slog.New(slog.DiscardHandler)})
	var payers []*payment.Transaction
	for i := range 10_000 {
		tx, _, _ := decided("t-1", fmt.Sprint("u-", i), "zh-CN", payment.Approve, nil)
		payers = append(payers, tx)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		n.Decided(payers[i%len(payers)], payment.Approve, nil)
	}
}
