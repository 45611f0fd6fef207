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

// An embedded store sees only what its own member has folded: the second member
// of a group refuses to work, and the first one does not even notice.
func TestSecondMemberWithAnEmbeddedStoreRefuses(t *testing.T) {
	g := newGate(t, demoRules, "")
	first := g.run()
	first.says("msg=deciding")
	second := g.run("--store", "pebble:"+filepath.Join(t.TempDir(), "other"))
	refuses(t, second, "group "+g.name+" has another member", "client sluice at", "embedded store cannot be shared")
	if n := first.log.count("msg=deciding"); n != 1 || strings.Contains(second.log.text(), "msg=deciding") {
		t.Errorf("the first member began to decide %d times:\n%s\n%s", n, first.log.text(), second.log.text())
	}
	decidesOne(t, g, first)
}

// Two that start at the same moment do not both work, and not neither.
func TestOfTwoMembersThatStartTogetherOneWorks(t *testing.T) {
	g := newGate(t, demoRules, "")
	both := []*process{g.run(), g.run("--store", "pebble:"+filepath.Join(t.TempDir(), "other"))}
	var stays, refused *process
	select {
	case <-both[0].exited:
		refused, stays = both[0], both[1]
	case <-both[1].exited:
		refused, stays = both[1], both[0]
	case <-g.within(60 * time.Second).Done():
		t.Fatal("both stay")
	}
	refuses(t, refused, "has another member")
	decidesOne(t, g, stays)
}

// What was killed is a member until its session has run out: the next start waits for that.
func TestStartAfterCrashWaitsForTheDeadMember(t *testing.T) {
	g := newGate(t, demoRules, "")
	for range 3 {
		p := g.run()
		p.says("msg=deciding")
		p.kill()
	}
	decidesOne(t, g, g.run())
}

func TestStoreInUseIsRefused(t *testing.T) {
	g := newGate(t, demoRules, "")
	first := g.run()
	first.says("msg=deciding")
	refuses(t, g.run("--group", g.name+".other"), g.dir, "another process uses this store")
	decidesOne(t, g, first)
}

func TestStoreOfAnotherGroupIsRefused(t *testing.T) {
	g := newGate(t, demoRules, "")
	first := g.run()
	first.says("msg=deciding")
	first.drain(10 * time.Second)
	refuses(t, g.run("--group", g.name+".other"), g.dir, "belongs to another consumer group", g.name, g.name+".other")
}

// A sandbox's folder belongs to one sandbox at a time, and whoever comes second
// changes nothing in it.
func TestSandboxFolderInUseIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sandbox")
	first, kafka := sandboxed(t, "--dir", dir, "--traffic", "none")
	first.prints("time (UTC)")
	decided := ask(t, kafka, 0, pay("t-1", "u-1"))
	second := start(t, nil, "sandbox", "--dir", dir, "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0")
	refuses(t, second, dir, "another process uses this folder")
	if again := ask(t, kafka, 0, pay("t-2", "u-1"))[0]; again.Offset != decided[0].Offset+1 {
		t.Errorf("the decision after %d has offset %d", decided[0].Offset, again.Offset)
	}
	interrupt(t, first)
	next, kafka := sandboxed(t, "--dir", dir, "--traffic", "none", "--evidence", "all")
	if d := ask(t, kafka, 0, pay("t-3", "u-1"))[0]; featureOf(t, d, "payer.events_30d") != "3" {
		t.Errorf("the third payment: %s", d.Value)
	}
	interrupt(t, next)
}

// What a crash of the machine cut off in the middle of a record was committed to
// nobody: it is cut, and the gate goes on. Damage anywhere else is said, and
// nothing is changed.
func TestTornJournalGoesOnAndDamagedJournalIsSaid(t *testing.T) {
	g := newGate(t, demoRules, "")
	p := g.run("--evidence", "all")
	for i := range 200 {
		g.send(g.transactions(), 1, broker.Message{Key: []byte("u-1"), Value: pay(fmt.Sprint("t-", i), "u-1")})
	}
	g.settled(20 * time.Second)
	p.drain(10 * time.Second)
	segments, err := filepath.Glob(filepath.Join(g.dir, "journal-*"))
	if err != nil || len(segments) != 1 {
		t.Fatalf("journal: %v %v", segments, err)
	}
	whole, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]int{"magic": 3, "key": 12, "first record": 60, "middle": len(whole) / 2, "length": len(whole)/2 + 7} {
		damaged := append([]byte(nil), whole...)
		damaged[at] ^= 0x55
		write(t, segments[0], string(damaged))
		refuses(t, g.run(), g.dir, filepath.Base(segments[0]), "the journal is damaged")
		if now, err := os.ReadFile(segments[0]); err != nil || string(now) != string(damaged) {
			t.Errorf("%s: the damaged journal was changed (%v)", name, err)
		}
	}
	write(t, segments[0], string(whole[:len(whole)-1])) // was on the disk, and is not any more
	refuses(t, g.run(), filepath.Base(segments[0]), "the journal is damaged")
	torn := append(append([]byte(nil), whole...), whole[40:77]...) // the beginning of a record
	write(t, segments[0], string(torn))
	p = g.run("--evidence", "all")
	p.says("msg=deciding")
	from := g.ends(g.decisions())[1]
	g.send(g.transactions(), 1, broker.Message{Key: []byte("u-1"), Value: pay("t-last", "u-1")})
	if d := g.read(g.decisions(), 1, from, 1)[0]; featureOf(t, d, "payer.events_30d") != "201" {
		t.Errorf("the 201st payment: %s", d.Value)
	}
	p.drain(10 * time.Second)
}
