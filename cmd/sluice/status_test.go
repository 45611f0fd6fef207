package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
)

var updateStatus = flag.Bool("update-status", false, "write what is printed into the goldens of testdata/status")

// listensAt is the URL of a running gate.
func listensAt(p *process) string {
	p.t.Helper()
	line := p.says("msg=listening")
	return "http://" + line[strings.Index(line, "http=")+len("http="):]
}

// pageOf reads `status --format json`.
func pageOf(t testing.TB, out string) (page statusPage) {
	t.Helper()
	if err := json.Unmarshal([]byte(out), &page); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	return page
}

func (m *memberStatus) line(name string) (l statusLine) {
	for _, l := range m.Lines {
		if l.Name == name {
			return l
		}
	}
	return statusLine{Name: name, Text: "(there is no such line)"}
}

// A gate that works is shown as one, with what it does at this moment.
func TestStatusOfAGateThatWorks(t *testing.T) {
	g := newGate(t, demoRules, "")
	p := g.run()
	url := listensAt(p)
	p.says("msg=deciding")
	g.send(g.transactions(), 0, broker.Message{Key: []byte("u-0"), Value: pay("t-0", "u-0")})
	g.settled(20 * time.Second)
	watch := start(t, nil, "status", "--url", url, "--over", "3s", "--format", "json")
	for i, deadline := 1, time.Now().Add(3*time.Second); time.Now().Before(deadline); i++ { // traffic while it watches
		g.send(g.transactions(), i%partitions, broker.Message{Key: []byte("u-1"), Value: pay(fmt.Sprint("t-", i), fmt.Sprint("u-", i))})
		select {
		case <-watch.exited:
		case <-time.After(20 * time.Millisecond):
		}
	}
	status := watch.wait(20 * time.Second)
	page := pageOf(t, watch.out.text())
	if len(page.Members) != 1 {
		t.Fatalf("status %d, page\n%s\n%s", status, watch.out.text(), watch.log.text())
	}
	m := page.Members[0]
	for _, l := range m.Lines { // the cluster of the tests has one broker, which is alerted
		if l.Bad && (l.Name != "alerts" || l.Text != "broker_settings") {
			t.Errorf("%s: %s is bad", l.Name, l.Text)
		}
	}
	for name, want := range map[string]string{"deciding": "yes", "verdicts": "approve 100 %", "in time": "100 % now, 100 % since start; half within", "lost records": "none",
		"dead letters": "none since start", "ruleset": "sha256:", "broker": "of topics short of what is promised"} {
		if l := m.line(name); !strings.Contains(l.Text, want) || l.Bad {
			t.Errorf("%s: %q, bad: %v; want %q", name, l.Text, l.Bad, want)
		}
	}
	if strings.HasPrefix(m.line("verdicts").Text, "0/s") {
		t.Errorf("verdicts do not flow: %s", m.line("verdicts").Text)
	}

	// A record that cannot be used, while somebody watches, is bad, and what to do is said.
	watch = start(t, nil, "status", "--url", url, "--over", "2s")
	for i, deadline := 0, time.Now().Add(2*time.Second); time.Now().Before(deadline); i++ {
		g.send(g.transactions(), 0, broker.Message{Value: []byte("{")})
		select {
		case <-watch.exited:
		case <-time.After(50 * time.Millisecond):
		}
	}
	if status := watch.wait(20 * time.Second); status != exitBad || !strings.Contains(watch.out.text(), "! dead letters") || !strings.Contains(watch.out.text(), "not_json") ||
		!strings.Contains(watch.out.text(), "→ sluice dead-letters list") {
		t.Errorf("status %d\n%s", status, watch.out.text())
	}
	p.drain(10 * time.Second)
}

// A member that is dead, one that decides nothing, and members that disagree are all on one page.
func TestStatusOfMembersInTrouble(t *testing.T) {
	serve := func(hash string, ready int) string {
		mux := http.NewServeMux()
		mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, "# TYPE sluice_ruleset_info gauge\nsluice_ruleset_info{hash=%q} 1\n", hash)
		})
		mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no partition is being decided", ready) })
		s := httptest.NewServer(mux)
		t.Cleanup(s.Close)
		return s.URL
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	a, b, c := serve("sha256:aaaaaaaaaaaaaaaa", 200), serve("sha256:bbbbbbbbbbbbbbbb", 503), gone.URL
	status, out, log := ended(t, "status", "--url", a, "--url", b+"/", "--url", c, "--over", "100ms")
	for _, want := range []string{a + "\n  deciding         yes\n", b + "\n! deciding         no: no partition is being decided\n", c + "\n! answers          it does not:", "connection refused",
		"! ruleset          members decide by different rulesets: " + a + " has sha256:aaaaaaaaaaaa, " + b + " has sha256:bbbbbbbbbbbb\n", "in time          not measured", "defaults         not measured"} {
		if status != exitBad || !strings.Contains(out, want) {
			t.Errorf("status %d; %q is not in\n%s%s", status, want, out, log)
		}
	}
	if status, out, log := ended(t, "status", "--url", c); status != exitUsage || !strings.Contains(log, "no member answers") || strings.TrimSpace(out) != "" {
		t.Errorf("nobody there: status %d\n%s%s", status, out, log)
	}
	if status, _, log := ended(t, "status", "--url", a+"/nothing"); status != exitUsage || !strings.Contains(log, "404") {
		t.Errorf("no metrics there: status %d, %s", status, log)
	}
}

// What is printed of metrics that were recorded: a quiet gate, and one in a bad night, two seconds apart.
func TestStatusPages(t *testing.T) {
	const folder = "testdata/status"
	for _, name := range []string{"quiet", "bad-night"} {
		t.Run(name, func(t *testing.T) {
			w := memberWatch{url: "http://gate-1:8420", ready: true, reading: reading{seconds: 2}}
			for when, to := range map[string]*metrics{"before": &w.reading.before, "after": &w.reading.after} {
				m, err := parseMetrics(readText(t, filepath.Join(folder, name+"-"+when+".prom")))
				if err != nil {
					t.Fatal(err)
				}
				*to = m
			}
			page := &statusPage{Time: time.Date(2026, 11, 23, 3, 12, 0, 0, time.UTC), Members: []memberStatus{w.status()}}
			page.agree()
			var out strings.Builder
			page.print(&out, false)
			golden := filepath.Join(folder, name+".golden")
			if *updateStatus {
				write(t, golden, out.String())
			}
			if want, err := os.ReadFile(golden); err != nil || out.String() != string(want) {
				t.Errorf("%v; the page is\n%s\nwant\n%s", err, out.String(), want)
			}
			if bad := name == "bad-night"; page.Bad != bad {
				t.Errorf("bad: %v", page.Bad)
			}
		})
	}
}
