package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/broker"
)

// The ways to be let in by the broker's secured listeners, each by
// configuration file and by environment.
func TestSecuredBrokersAreReached(t *testing.T) {
	for _, way := range []struct{ name, listener, mechanism string }{
		{"SASL PLAIN", "SLUICE_TEST_KAFKA_SASL", "PLAIN"},
		{"SASL SCRAM-SHA-512", "SLUICE_TEST_KAFKA_SASL", "SCRAM-SHA-512"},
		{"mutual TLS", "SLUICE_TEST_KAFKA_MTLS", ""},
	} {
		addr, certs := fromEnv(t, way.listener), fromEnv(t, "SLUICE_TEST_KAFKA_CERTS")
		file := fmt.Sprintf("  tls:\n    enabled: true\n    ca: %s\n", filepath.Join(certs, "ca.pem"))
		env := []string{"SLUICE_KAFKA_TLS_ENABLED=true", "SLUICE_KAFKA_TLS_CA=" + filepath.Join(certs, "ca.pem"), "SLUICE_KAFKA_BROKERS=" + addr}
		if way.mechanism != "" {
			user, password := fromEnv(t, "SLUICE_TEST_KAFKA_USER"), fromEnv(t, "SLUICE_TEST_KAFKA_PASSWORD")
			file += fmt.Sprintf("  sasl: {mechanism: %s, username: %s, password: %q}\n", way.mechanism, user, password)
			env = append(env, "SLUICE_KAFKA_SASL_MECHANISM="+way.mechanism, "SLUICE_KAFKA_SASL_USERNAME="+user, "SLUICE_KAFKA_SASL_PASSWORD="+password)
		} else {
			cert, key := filepath.Join(certs, "client.pem"), filepath.Join(certs, "client.key")
			file += fmt.Sprintf("    cert: %s\n    key: %s\n", cert, key)
			env = append(env, "SLUICE_KAFKA_TLS_CERT="+cert, "SLUICE_KAFKA_TLS_KEY="+key)
		}
		t.Run(way.name+" by file", func(t *testing.T) {
			g := newGate(t, demoRules, "")
			config, err := os.ReadFile(g.file)
			if err != nil {
				t.Fatal(err)
			}
			secured := strings.Replace(string(config), fmt.Sprintf("  brokers: [%q]\n", g.addr), fmt.Sprintf("  brokers: [%q]\n%s", addr, file), 1)
			write(t, g.file, secured)
			decidesOne(t, g, g.run())
		})
		t.Run(way.name+" by environment", func(t *testing.T) {
			g := newGate(t, demoRules, "")
			decidesOne(t, g, start(t, env, "run", "--config", g.file))
		})
	}
}

// decidesOne sends a payment, reads its verdict, and drains.
func decidesOne(t *testing.T, g *gate, p *process) {
	t.Helper()
	g.send(g.transactions(), 2, broker.Message{Key: []byte("u-1"), Value: pay("t-1", "u-1")})
	p.says("msg=deciding")
	if d := g.read(g.decisions(), 2, 0, 1)[0]; header(d, "transaction_id") != "t-1" || header(d, "verdict") != "approve" {
		t.Errorf("the decision is %v %s", d.Headers, d.Value)
	}
	p.drain(5 * time.Second)
}

// refuses expects that the process ends with status 2 and says why, in one place.
func refuses(t *testing.T, p *process, says ...string) {
	t.Helper()
	if status := p.wait(30 * time.Second); status != exitUsage {
		t.Errorf("exit status %d, want %d", status, exitUsage)
	}
	for _, part := range says {
		if !strings.Contains(p.log.text(), part) {
			t.Errorf("standard error does not say %q:\n%s", part, p.log.text())
		}
	}
}

func TestWrongPasswordIsSaid(t *testing.T) {
	addr, certs, user := fromEnv(t, "SLUICE_TEST_KAFKA_SASL"), fromEnv(t, "SLUICE_TEST_KAFKA_CERTS"), fromEnv(t, "SLUICE_TEST_KAFKA_USER")
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			g := bareGate(t, demoRules, "")
			p := start(t, []string{
				"SLUICE_KAFKA_BROKERS=" + addr, "SLUICE_KAFKA_TLS_ENABLED=true", "SLUICE_KAFKA_TLS_CA=" + filepath.Join(certs, "ca.pem"),
				"SLUICE_KAFKA_SASL_MECHANISM=" + mechanism, "SLUICE_KAFKA_SASL_USERNAME=" + user, "SLUICE_KAFKA_SASL_PASSWORD=guessed-wrong",
			}, "run", "--config", g.file)
			refuses(t, p, "authentication failed", mechanism, user)
			if strings.Contains(p.log.text(), "guessed-wrong") {
				t.Error("the password is shown")
			}
		})
	}
}

func TestBrokerThatWantsCertificateIsSaid(t *testing.T) {
	addr, certs := fromEnv(t, "SLUICE_TEST_KAFKA_MTLS"), fromEnv(t, "SLUICE_TEST_KAFKA_CERTS")
	g := bareGate(t, demoRules, "")
	refuses(t, start(t, []string{"SLUICE_KAFKA_BROKERS=" + addr, "SLUICE_KAFKA_TLS_ENABLED=true", "SLUICE_KAFKA_TLS_CA=" + filepath.Join(certs, "ca.pem")}, "run", "--config", g.file),
		"TLS failed", "client certificate")
	refuses(t, start(t, []string{"SLUICE_KAFKA_BROKERS=" + addr, "SLUICE_KAFKA_TLS_ENABLED=true"}, "run", "--config", g.file),
		"TLS failed", "unknown authority")
}

// Missing topics are named all at once, and made when that is wanted.
func TestMissingTopicsAreNamedOrMade(t *testing.T) {
	g := bareGate(t, demoRules, "")
	refuses(t, g.run(), g.transactions(), g.outcomes(), g.decisions(), g.deadLetters(), g.controls(), g.reviews(), g.notices(), g.alerts(), "topics are missing")

	p := start(t, []string{"SLUICE_TOPICS_CREATE=true"}, "run", "--config", g.file)
	p.says("msg=deciding")
	for _, topic := range g.topics() {
		want := partitions
		if topic == g.controls() {
			want = 1 // what one record does, a later one takes back
		}
		if n, err := g.conn.Partitions(g.within(10*time.Second), topic); err != nil || n != want {
			t.Errorf("topic %s has %d partitions, want %d (%v)", topic, n, want, err)
		}
	}
	decidesOne(t, g, p)
}

// A decision goes to the partition number of its transaction, so there must be one.
func TestTooFewPartitionsForDecisionsAreSaid(t *testing.T) {
	g := bareGate(t, demoRules, "")
	var topics []broker.Topic
	for i, name := range g.topics() {
		topics = append(topics, broker.Topic{Name: name, Partitions: []int{4, 4, 3, 4, 1, 4, 4, 4}[i], Replication: 1})
	}
	if err := g.conn.EnsureTopics(g.within(30*time.Second), topics, true); err != nil {
		t.Fatal(err)
	}
	refuses(t, g.run(), g.decisions()+" has 3 partitions", g.transactions()+" has 4")
}

// Operations ask whether it lives, whether it decides, and what it counts.
func TestHealthReadinessAndMetricsAnswer(t *testing.T) {
	g := newGate(t, demoRules, "")
	p := g.run()
	line := p.says("msg=listening")
	url := "http://" + line[strings.Index(line, "http=")+len("http="):]
	if status, body := get(t, url+"/healthz"); status != 200 || body != "ok\n" {
		t.Errorf("/healthz: %d %q", status, body)
	}
	p.says("msg=deciding")
	if status, body := get(t, url+"/readyz"); status != 200 || body != "ready\n" {
		t.Errorf("/readyz: %d %q", status, body)
	}
	g.send(g.transactions(), 0,
		broker.Message{Key: []byte("u-1"), Value: pay("t-1", "u-1")},
		broker.Message{Key: []byte("u-2"), Value: pay("t-2", "u-2")},
		broker.Message{Key: []byte("u-1"), Value: []byte("{")})
	g.settled(20 * time.Second)
	status, body := get(t, url+"/metrics")
	for _, want := range []string{
		`sluice_decisions_total{source="rules",verdict="approve"} 2`,
		`sluice_refused_records_total{reason="not_json"} 1`,
		`sluice_dead_letters_total 1`,
		`sluice_answered_in_time_total`,
		fmt.Sprintf(`sluice_lag_records{partition="0",topic=%q} 0`, g.transactions()),
		`go_goroutines`,
	} {
		if status != 200 || !strings.Contains(body, want) {
			t.Errorf("/metrics (%d) does not have %s:\n%s", status, want, body)
		}
	}
	p.drain(5 * time.Second)
}

// A gate that waits for its broker lives, and is not ready.
func TestGateWithoutBrokerLivesAndIsNotReady(t *testing.T) {
	p := start(t, nil, "run", "--brokers", "127.0.0.1:1", "--store", "pebble:"+t.TempDir(), "--rules", demoRules, "--http", "127.0.0.1:0")
	line := p.says("msg=listening")
	url := "http://" + line[strings.Index(line, "http=")+len("http="):]
	p.says("connection refused")
	if status, _ := get(t, url+"/healthz"); status != 200 {
		t.Errorf("/healthz: %d", status)
	}
	if status, _ := get(t, url+"/readyz"); status != 503 {
		t.Errorf("/readyz: %d", status)
	}
	p.drain(5 * time.Second)
}

// What is in force is shown without secrets, whoever set it.
func TestPrintedConfigurationHidesThePassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	write(t, file, "kafka:\n  tls: {enabled: true}\n  sasl: {mechanism: PLAIN, username: gate, password: from-the-file}\n")
	for name, env := range map[string][]string{"from-the-file": nil, "from-the-environment": {"SLUICE_KAFKA_SASL_PASSWORD=from-the-environment"}} {
		p := start(t, env, "run", "--config", file, "--print-config", "--group", "by-flag")
		if status := p.wait(10 * time.Second); status != exitFine {
			t.Fatalf("exit status %d: %s", status, p.log.text())
		}
		out := p.out.text()
		if strings.Contains(out+p.log.text(), name) {
			t.Errorf("the password is shown:\n%s", out)
		}
		for _, want := range []string{"password: (hidden)", "username: gate", "group: by-flag", "session_timeout: 10s"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is not shown:\n%s", want, out)
			}
		}
	}
}

// Whoever fixes a configuration wants to see everything that is wrong with it.
func TestEveryMistakeInTheConfigurationIsReportedAtOnce(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "sluice.yaml")
	t.Run("unknown keys and wrong types", func(t *testing.T) {
		write(t, file, "kafka:\n  brokerz: [a:1]\nwindows:\n  batch_size: many\n")
		p := start(t, []string{"SLUICE_KAFKA_GRUOP=x", "SLUICE_WINDOWS_LATENESS=soon"}, "run", "--config", file)
		refuses(t, p, "sluice.yaml", "brokerz", "SLUICE_KAFKA_GRUOP: no such setting", "SLUICE_WINDOWS_LATENESS", `"soon" is no duration`)
	})
	t.Run("values out of bounds", func(t *testing.T) {
		write(t, file, "kafka:\n  brokers: [nowhere]\n  session_timeout: 1ms\n  sasl: {mechanism: ROT13, username: a, password: b}\ntopics: {partitions: 0, decisions: same, dead_letters: same}\nstore: cassandra://x\nevidence: some\nwindows: {batch_size: 0}\n")
		p := start(t, nil, "run", "--config", file)
		refuses(t, p, "kafka.session_timeout", "topics.partitions", `"same" is also`, "store:", `evidence "some"`, "windows.batch_size", `"nowhere" is not host:port`, "ROT13")
	})
	t.Run("no such file", func(t *testing.T) {
		refuses(t, start(t, nil, "run", "--config", filepath.Join(dir, "none.yaml")), "none.yaml")
	})
	t.Run("no ruleset", func(t *testing.T) {
		refuses(t, start(t, nil, "run", "--rules", filepath.Join(dir, "none"), "--store", "pebble:"+filepath.Join(dir, "s"), "--http", ""), filepath.Join(dir, "none"))
	})
}
