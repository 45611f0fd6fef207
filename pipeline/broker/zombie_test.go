package broker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// memberEnv makes this test binary a member of a group instead: "name address group transactions decisions session".
const memberEnv = "SLUICE_TEST_MEMBER"

// Two members without a store decide transactions. One of them is frozen after it fetched and before it publishes, for
// longer than its session; the other takes over; then the first one is woken up in the middle of its sentence.
// The hardest moment for that is when the other has read all decisions up to its fence and has not published yet: only
// the marker stands between the two.
func TestWokenZombieCannotPublish(t *testing.T) {
	for _, moment := range []string{"before the new owner publishes", "after it"} {
		t.Run(moment, func(t *testing.T) {
			onBrokers(t, func(t *testing.T, c *Conn) { wakeZombie(t, c, moment == "after it") })
		})
	}
}

func wakeZombie(t *testing.T, c *Conn, late bool) {
	session := 6 * time.Second // what a Kafka with default limits allows
	if strings.HasSuffix(t.Name(), "embedded") {
		session = time.Second
	}
	transactions, decisions, group := newTopic(t, c, 2, nil), newTopic(t, c, 2, nil), unique(t, "group")
	ctx := within(t, 60*time.Second)
	start := func(name string) *memberProcess {
		return startMember(t, fmt.Sprint(name, " ", c.cfg.Brokers[0], " ", group, " ", transactions, " ", decisions, " ", session))
	}
	sent := 0
	send := func(n int) { // one by one, so that the members take many turns
		for range n {
			if err := c.Produce(ctx, transactions, sent%2, []Message{{Value: fmt.Appendf(nil, "tx-%d", sent)}}); err != nil {
				t.Fatal(err)
			}
			sent++
		}
	}

	zombie, other := start("zombie"), start("other")
	zombie.await("lanes 1")
	other.await("lanes 1")
	send(100)
	c.awaitDecisions(ctx, t, decisions, sent)

	zombie.say("hold publishing")
	send(100)
	held := strings.TrimPrefix(zombie.await("holds "), "holds ") // fetched, and about to be published
	zombie.signal(syscall.SIGSTOP)
	if !late {
		other.say("hold taking over")
	}
	other.await("lanes 2")
	if late {
		for _, id := range strings.Split(held, ",") {
			if by := c.awaitDecisions(ctx, t, decisions, sent); by[id] != "other" {
				t.Errorf("%s was held by the zombie and decided by %q, want the other member", id, by[id])
			}
		}
	} else {
		other.await("has read")
		other.await("has read") // both lanes
	}

	zombie.say("go on") // waits in the pipe until the zombie is awake
	zombie.signal(syscall.SIGCONT)
	zombie.await("fenced")
	other.say("go on")
	zombie.await("lanes 1") // and it is a good member again
	send(100)
	shares := map[string]int{}
	for _, member := range c.awaitDecisions(ctx, t, decisions, sent) {
		shares[member]++
	}
	if shares["zombie"] == 0 || shares["other"] == 0 {
		t.Errorf("decisions by member: %v, want both", shares)
	}
	zombie.finish()
	other.finish()
	c.awaitDecisions(ctx, t, decisions, sent) // nothing came late
}

// awaitDecisions reads the decisions until every transaction has one, fails if any has two, and returns who made them.
func (c *Conn) awaitDecisions(ctx context.Context, t *testing.T, decisions string, sent int) (by map[string]string) {
	t.Helper()
	by = make(map[string]string)
	next, buf := [2]int64{}, [2]FetchBuffer{}
	for {
		for p := range 2 {
			res, err := c.Fetch(ctx, FetchRequest{Topic: decisions, Partition: p, Offset: next[p], MaxWait: 20 * time.Millisecond}, &buf[p])
			if err != nil {
				t.Fatalf("%d of %d transactions are decided: %v", len(by), sent, err)
			}
			for _, r := range res.Records {
				if first := by[string(r.Key)]; first != "" {
					t.Errorf("%s is decided twice: by %s, and by %s at %d/%d", r.Key, first, r.Value, p, r.Offset)
				}
				by[string(r.Key)] = string(r.Value)
			}
			next[p] = res.Next
			if len(by) == sent && res.Next == res.HighWater && p == 1 {
				return by
			}
		}
	}
}

// memberProcess is a member in a process of its own, which can be frozen.
type memberProcess struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string
}

func startMember(t *testing.T, setting string) *memberProcess {
	t.Helper()
	m := &memberProcess{t: t, name: strings.Fields(setting)[0], cmd: exec.Command(os.Args[0]), lines: make(chan string, 1000)}
	m.cmd.Env = append(os.Environ(), memberEnv+"="+setting)
	m.cmd.Stderr = os.Stderr
	var err error
	if m.stdin, err = m.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.cmd.Process.Kill() }) // also ends one that is frozen
	go func() {
		defer close(m.lines)
		for s := bufio.NewScanner(stdout); s.Scan(); {
			m.lines <- s.Text()
		}
	}()
	return m
}

// await returns the next line of the member that begins like this.
func (m *memberProcess) await(prefix string) string {
	m.t.Helper()
	limit := time.After(45 * time.Second)
	for {
		select {
		case line, ok := <-m.lines:
			if !ok {
				m.t.Fatalf("%s ended before it said %q", m.name, prefix)
			}
			m.t.Logf("%s: %.60s", m.name, line)
			if strings.HasPrefix(line, prefix) {
				return line
			}
		case <-limit:
			m.t.Fatalf("%s did not say %q", m.name, prefix)
		}
	}
}

func (m *memberProcess) say(line string) {
	m.t.Helper()
	if _, err := fmt.Fprintln(m.stdin, line); err != nil {
		m.t.Fatal(err)
	}
}

func (m *memberProcess) signal(s os.Signal) {
	m.t.Helper()
	if err := m.cmd.Process.Signal(s); err != nil {
		m.t.Fatal(err)
	}
}

// finish lets the member drain and expects it to leave in good order.
func (m *memberProcess) finish() {
	m.t.Helper()
	_ = m.stdin.Close()
	for range m.lines { // until it has closed its end
	}
	if err := m.cmd.Wait(); err != nil {
		m.t.Errorf("%s: %v", m.name, err)
	}
}

// member is what runs in the process.
type member struct {
	name, group, transactions, decisions string

	conn *Conn
	hold atomic.Value // string: what to hold before, as the test said
	goOn chan struct{}
}

// waits stops a lane where the test wants it, until the test says go on.
func (m *member) waits(before string, say ...any) {
	if m.hold.Load() == before {
		fmt.Println(say...)
		<-m.goOn
	}
}

// fencedMember is the process's main function.
func fencedMember() {
	s := strings.Fields(os.Getenv(memberEnv))
	m := &member{name: s[0], group: s[2], transactions: s[3], decisions: s[4], goOn: make(chan struct{})}
	session, errSession := time.ParseDuration(s[5])
	var errOpen error
	m.conn, errOpen = Open(Config{Brokers: []string{s[1]}})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			if before, ok := strings.CutPrefix(in.Text(), "hold "); ok {
				m.hold.Store(before)
			} else {
				m.hold.Store("")
				close(m.goOn)
			}
		}
		cancel()
	}()
	err := errors.Join(errSession, errOpen)
	if err == nil {
		err = m.conn.JoinGroup(ctx, GroupConfig{
			Group: m.group, Topics: []string{m.transactions}, SessionTimeout: session, HeartbeatInterval: session / 6,
		}, m.run)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, m.name, err)
		os.Exit(1)
	}
}

func (m *member) run(ctx context.Context, g *Generation) error {
	lanes, ctx := errgroup.WithContext(ctx)
	for _, a := range g.Assigned {
		lanes.Go(func() error { return m.lane(ctx, g, a) })
	}
	fmt.Println("lanes", len(g.Assigned))
	lanes.Go(func() error { <-ctx.Done(); return ctx.Err() })
	return lanes.Wait()
}

// lane fences its partition, reads what was decided below the fence, and then decides what is not decided yet.
func (m *member) lane(ctx context.Context, g *Generation, a Assignment) error {
	p, fence, err := m.conn.Fence(ctx, m.group+"/"+strconv.Itoa(a.Partition), m.decisions, a.Partition)
	if err != nil {
		return err
	}
	from, next := int64(FirstOffset), int64(FirstOffset)
	if a.Offset >= 0 {
		next = a.Offset
		if from, err = strconv.ParseInt(a.Metadata, 10, 64); err != nil {
			return err
		}
	}
	decided := make(map[string]bool)
	if _, err := m.conn.ReadRange(ctx, m.decisions, a.Partition, from, fence, func(r Record) error {
		decided[string(r.Key)] = true
		return nil
	}); err != nil {
		return err
	}
	m.waits("taking over", "has read", a.Partition, "up to", fence)

	var buf FetchBuffer
	var batch Batch
	for {
		res, err := m.conn.Fetch(ctx, FetchRequest{Topic: m.transactions, Partition: a.Partition, Offset: next, MaxBytes: 4096}, &buf)
		if err != nil {
			return err
		}
		batch.Reset()
		var ids []string
		for _, r := range res.Records {
			if id := string(r.Value); !decided[id] {
				decided[id] = true
				ids = append(ids, id)
				batch.Add(r.Time, r.Value, []byte(m.name), nil)
			}
		}
		if len(ids) > 0 {
			m.waits("publishing", "holds", strings.Join(ids, ","))
			// Not under ctx: a batch on its way does not hear that the generation has ended.
			late, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			base, err := p.Publish(late, &batch)
			cancel()
			if errors.Is(err, ErrFenced) {
				fmt.Println("fenced")
			}
			if err != nil {
				return err
			}
			fence = base + int64(len(ids))
		}
		next = res.Next
		// The metadata says up to where the decisions are known to belong to settled transactions.
		if err := g.Commit(ctx, []Commit{{m.transactions, a.Partition, next, strconv.FormatInt(fence, 10)}}); err != nil {
			return err
		}
	}
}
