package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Whatever happens to Redis: payments get their verdict before their deadline, from
// what is in memory; they say so, and rules obey without_features; Redis is not
// hammered; and once it is there again, the same process counts every payment, each
// once, and values are exact. One gate goes through all of it, one after the other.
//
// SLUICE_TEST_FIRE is how many seconds each trouble lasts, 1.2 by default.
func TestTheGateAnswersInTimeWhateverHappensToRedis(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	lasts := envSeconds(t, "SLUICE_TEST_FIRE", 1200*time.Millisecond)
	server := startRedis(t)
	w := startWire(t, server.addr)
	g := newFireGate(t, "redis: {prefix: fire}\nwindows: {loss_bound: 1h}\n")
	g.useStore("redis://" + w.addr())
	g.begin()
	g.pulse = feelPulse(t)
	for n, c := range []struct {
		name      string
		lasts     time.Duration
		slow      bool // the store is there, and answers late
		take, end func()
	}{
		{"it is frozen", 2 * lasts, false, func() { server.signal(syscall.SIGSTOP) }, func() { server.signal(syscall.SIGCONT) }},
		{"it dies and comes back", lasts, false, server.kill, server.start},
		{"the wire is cut", lasts, false, func() { w.set(wireCut) }, func() { w.set(wireCarries) }},
		{"the wire is silent", lasts, false, func() { w.set(wireSilent) }, func() { w.set(wireCarries) }},
		{"the wire lies", lasts, false, func() { w.set(wireLies) }, func() { w.set(wireCarries); w.cutAll() }},
		{"it has no memory left", lasts, false, func() {
			server.do("config", "set", "maxmemory-policy", "noeviction")
			server.do("config", "set", "maxmemory", "1")
		}, func() { server.do("config", "set", "maxmemory", "0") }},
		{"it becomes a replica", lasts, false, func() { server.do("replicaof", "127.0.0.1", "1") }, func() { server.do("replicaof", "no", "one") }},
		{"it is slow", lasts, true, func() { w.set(wireDelays) }, func() { w.set(wireCarries) }},
		{"it dies and has lost everything", lasts, false, server.kill, func() { server.empty(); server.start() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			prefix := fmt.Sprint("t", n)
			calm := g.traffic(200, prefix+"-before")
			time.Sleep(300 * time.Millisecond) // of traffic
			calm()
			stop := g.traffic(200, prefix)
			time.Sleep(100 * time.Millisecond) // of traffic
			began := time.Now()
			c.take()
			taken := time.Now()
			if !c.slow {
				g.becomes("sluice_store_away", 1)
			}
			time.Sleep(200*time.Millisecond - min(200*time.Millisecond, time.Since(taken)))
			asked, since := w.asks(), time.Now()
			time.Sleep(c.lasts - min(c.lasts, time.Since(began)))
			asked, away := w.asks()-asked, time.Since(since)
			ended := time.Now()
			c.end()
			g.becomes("sluice_store_away", 0)
			back := time.Since(ended)
			sent := stop()
			g.settled(30 * time.Second)
			whole := time.Since(ended)
			of := g.verdicts()
			var during []firePayment
			for _, p := range sent {
				if p.at.After(taken.Add(150*time.Millisecond)) && p.at.Before(ended) {
					during = append(during, p)
				}
			}
			s := g.share(during, of)
			t.Logf("%v; %d requests in %v; back after %v, whole after %v", s, asked, away.Round(time.Millisecond), back.Round(time.Millisecond), whole.Round(time.Millisecond))
			s.atLeast(t, 99)
			if !c.slow {
				if limit := 20 + int(20*away.Seconds()); asked > limit {
					t.Errorf("%d requests in %v to a store that is away", asked, away)
				}
				if s.degraded[payment.DegradedUnshared] < len(during)*8/10 || s.degraded[payment.DegradedStale] < len(during)/2 || s.degraded[payment.DegradedNoFeatures] == 0 {
					t.Errorf("of %d payments only so many say what they went without: %v", len(during), s.degraded)
				}
			}
			if s.blindApproved > 0 || !c.slow && s.blind == 0 {
				t.Errorf("of the payments without features %d were held by the rule that says so, and %d were not", s.blind, s.blindApproved)
			}
			chainsAreWhole(t, sent, of)
			g.logsAreWhole(t)
			g.valuesAreExact(t, prefix)
		})
		if t.Failed() {
			return // what follows would say nothing
		}
	}
	if n := g.p.log.count("msg=deciding"); n != 1 {
		t.Logf("the group was formed %d times", n)
	}
	g.p.drain(15 * time.Second)
}

// useStore writes another store into the configuration.
func (g *fireGate) useStore(store string) {
	g.t.Helper()
	text := readText(g.t, g.file)
	write(g.t, g.file, replaceLine(text, "store: ", "store: "+store))
}

// The process stands still for a moment, shorter than its session. Nobody could
// answer what came meanwhile; it is answered late and marked, and corrected where the
// verdict is another one; before and after it everything is in time.
func TestAMemberThatStoodStillAnswersLateAndMarked(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	const still = 600 * time.Millisecond
	g := newFireGate(t, "")
	write(t, g.file, replaceLine(readText(t, g.file), "  session_timeout: ", "  session_timeout: 10s"))
	g.begin()
	g.pulse = feelPulse(t)
	g.pay(0, firePayment{id: "first", payer: "u-first", payee: "m-1", at: time.Now()})
	g.settled(20 * time.Second)
	stop := g.traffic(200, "t")
	time.Sleep(500 * time.Millisecond) // of traffic
	began := time.Now()
	g.freeze(still)
	woken := time.Now()
	time.Sleep(700 * time.Millisecond) // of traffic
	sent := stop()
	g.settled(20 * time.Second)
	of := g.verdicts()
	var around, hit []firePayment
	for _, p := range sent {
		by := p.at.Add(fireWithin)
		switch {
		case by.Before(began) || p.at.After(woken.Add(100*time.Millisecond)):
			around = append(around, p)
		case p.at.After(began) && by.Before(woken):
			hit = append(hit, p)
		}
	}
	s := g.share(around, of)
	t.Logf("before and after it: %v", s)
	s.atLeast(t, 99)
	s = g.share(hit, of)
	t.Logf("those whose time was up while it stood still: %v", s)
	if s.counted+s.passed == 0 || s.unanswered > 0 || s.unmarked > 0 {
		t.Errorf("of %d payments %d were not answered, and %d are late and not marked", len(hit), s.unanswered, s.unmarked)
	}
	for _, p := range hit {
		if first := of[p.id][0]; first.Source != payment.SourceDefaultDeadline {
			t.Errorf("%s came and was overdue while the process stood still, and says %s", p.id, first.text)
		}
	}
	for _, p := range hit { // they hold 12.50 CNY: the default was right
		if n := len(of[p.id]); n != 1 {
			t.Errorf("%s has %d decisions", p.id, n)
		}
	}
	chainsAreWhole(t, sent, of)
	g.valuesAreExact(t, "p")
	g.p.drain(15 * time.Second)
}

// freeze lets the process stand still for a time.
func (g *fireGate) freeze(d time.Duration) {
	g.t.Helper()
	if err := g.p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		g.t.Fatal(err)
	}
	time.Sleep(d)
	if err := g.p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		g.t.Fatal(err)
	}
}

// Payments were answered with a default while the store was away, so that nobody
// could correct it; then the process is killed. The next one makes the corrections,
// each once, and none of what a person has settled meanwhile.
func TestADefaultIsCorrectedAfterAKillAndAPersonStands(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	server := startRedis(t)
	g := newFireGate(t, "redis: {prefix: fire}\n")
	g.useStore("redis://" + server.addr)
	g.begin()
	g.pay(0, firePayment{id: "first", payer: "u-first", payee: "m-1", at: time.Now()})
	g.settled(20 * time.Second)
	server.signal(syscall.SIGSTOP)
	defer server.signal(syscall.SIGCONT)
	g.pay(0, firePayment{id: "second", payer: "u-first", payee: "m-1", at: time.Now()})
	g.becomes("sluice_store_away", 1)
	at := time.Now().Add(-2 * time.Second) // overdue when they come
	fen := map[string]int{"right": 30_000, "wrong": 45_000, "too much": 60_000, "released": 60_000, "rejected": 60_000}
	var records []broker.Message
	for _, id := range []string{"right", "wrong", "too much", "released", "rejected"} {
		p := firePayment{id: id, payer: "u-1", payee: "m-1", at: at}
		records = append(records, broker.Message{Value: p.record(fen[id], "")})
	}
	g.send(g.transactions(), 1, records...)
	g.eventually("five defaults", func(of map[string][]verdict) bool {
		for id := range fen {
			if len(of[id]) != 1 {
				return false
			}
		}
		return true
	})
	for id, kind := range map[string]string{"released": "release", "rejected": "reject"} {
		g.send(g.reviews(), 1, broker.Message{Value: fmt.Appendf(nil, `{"v":1,"review_id":"r-%s","transaction_id":%q,"review":%q,"event_time":%q,"payer":{"account_id":"u-1"},"reviewer":"reviewer-7"}`,
			id, id, kind, time.Now().UTC().Format(time.RFC3339Nano))})
	}
	g.eventually("two reviews", func(of map[string][]verdict) bool { return len(of["released"]) == 2 && len(of["rejected"]) == 2 })
	for id, all := range g.verdicts() {
		if fen[id] > 0 && all[0].Source != payment.SourceDefaultDeadline || all[len(all)-1].Corrects != "" {
			t.Errorf("%s: %s", id, all[len(all)-1].text)
		}
	}
	g.p.kill()
	server.signal(syscall.SIGCONT)
	g.begin()
	want := map[string]string{
		"right": "approve default_deadline", "wrong": "approve default_deadline, block rules", "too much": "hold default_deadline, approve rules",
		"released": "hold default_deadline, approve review", "rejected": "hold default_deadline, block review",
	}
	g.settled(30 * time.Second)
	g.p.kill() // and nothing is said otherwise
	g.begin()
	g.send(g.transactions(), 1, records...)
	g.settled(30 * time.Second)
	for id, want := range want {
		var got []string
		said := map[int]string{} // by revision
		for _, v := range g.verdicts()[id] {
			if before := said[v.Revision]; before == "" {
				said[v.Revision] = string(v.text)
				got = append(got, fmt.Sprint(v.Verdict, " ", v.Source))
			} else if before != string(v.text) {
				t.Errorf("%s: revision %d was\n%s\nand then\n%s", id, v.Revision, before, v.text)
			}
		}
		if got := strings.Join(got, ", "); got != want {
			t.Errorf("%s: %s; want %s", id, got, want)
		}
	}
	g.p.drain(15 * time.Second)
}

// eventually waits until something is true of what was said.
func (g *fireGate) eventually(what string, done func(map[string][]verdict) bool) {
	g.t.Helper()
	for began := time.Now(); !done(g.verdicts()); time.Sleep(20 * time.Millisecond) { // Kafka tells nobody
		if time.Since(began) > 20*time.Second {
			g.t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// The disk of the embedded store takes no more: payments get their verdicts from
// memory and say so, rules obey without_features, and once there is room the same
// process counts every payment.
func TestTheGateAnswersInTimeWhileItsDiskIsFull(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	g := newFireGate(t, "")
	g.begin()
	g.pulse = feelPulse(t)
	stop := g.traffic(200, "t")
	time.Sleep(300 * time.Millisecond) // of traffic
	g.limitFiles(1)
	g.becomes("sluice_store_away", 1)
	taken := time.Now()
	time.Sleep(1200 * time.Millisecond) // of traffic
	ended := time.Now()
	g.limitFiles(^uint64(0))
	g.becomes("sluice_store_away", 0)
	back := time.Since(ended)
	sent := stop()
	g.settled(20 * time.Second)
	of := g.verdicts()
	var during []firePayment
	for _, p := range sent {
		if p.at.After(taken) && p.at.Before(ended) {
			during = append(during, p)
		}
	}
	s := g.share(during, of)
	t.Logf("%v; back after %v", s, back.Round(time.Millisecond))
	s.atLeast(t, 99)
	if s.degraded[payment.DegradedStale] < len(during)/2 || s.degraded[payment.DegradedNoFeatures] == 0 || s.degraded[payment.DegradedUnshared] > 0 || s.blindApproved > 0 {
		t.Errorf("of %d payments only so many say what they went without: %v; %d were approved without the features of a rule that holds then", len(during), s.degraded, s.blindApproved)
	}
	chainsAreWhole(t, sent, of)
	g.valuesAreExact(t, "p")
	g.p.drain(15 * time.Second)
	g.logsAreWhole(t)
}

// limitFiles sets how long a file of the process may be.
func (g *fireGate) limitFiles(bytes uint64) {
	g.t.Helper()
	limit := syscall.Rlimit{Cur: bytes, Max: ^uint64(0)}
	if _, _, err := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(g.p.cmd.Process.Pid), syscall.RLIMIT_FSIZE, uintptr(unsafe.Pointer(&limit)), 0, 0, 0); err != 0 {
		if errors.Is(err, os.ErrPermission) && os.Getenv("CI") == "" {
			g.t.Skip("the limits of a process cannot be set here")
		}
		g.t.Fatal(err)
	}
}
