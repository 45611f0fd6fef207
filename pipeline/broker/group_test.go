package broker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
)

// quick is a group whose members are declared dead as fast as a Kafka with default limits allows.
func quick(group string, topics ...string) GroupConfig {
	return GroupConfig{Group: group, Topics: topics, SessionTimeout: 6 * time.Second, HeartbeatInterval: 200 * time.Millisecond, RebalanceTimeout: 10 * time.Second}
}

// oneGeneration joins, takes its assignment and leaves.
func oneGeneration(t *testing.T, c *Conn, topic, group string) (assigned []Assignment) {
	t.Helper()
	err := c.JoinGroup(within(t, 30*time.Second), quick(group, topic), func(_ context.Context, g *Generation) error {
		assigned = g.Assigned
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return assigned
}

func TestCommitKeepsMetadataOverGenerations(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		topic, group := newTopic(t, c, 2, nil), unique(t, "group")
		want := []Assignment{{topic, 0, -1, ""}, {topic, 1, -1, ""}}
		for round := range 4 {
			ctx := within(t, 30*time.Second)
			err := c.JoinGroup(ctx, quick(group, topic), func(ctx context.Context, g *Generation) error {
				if !slices.Equal(g.Assigned, want) {
					t.Errorf("round %d: assigned %v, want %v", round, g.Assigned, want)
				}
				want[1].Offset, want[1].Metadata = int64(round*100), "decisions="+strings.Repeat("9", round)
				return g.Commit(ctx, []Commit{{topic, 1, want[1].Offset, want[1].Metadata}})
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestDrainingMemberStillCommitsAndThenLeavesAtOnce(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		topic, group := newTopic(t, c, 1, nil), unique(t, "group")
		ctx, sigterm := context.WithCancel(within(t, 60*time.Second))
		var generations atomic.Int64
		err := c.JoinGroup(ctx, quick(group, topic), func(ctx context.Context, g *Generation) error {
			generations.Add(1)
			sigterm()
			<-ctx.Done()
			if errors.Is(context.Cause(ctx), ErrGenerationEnded) {
				t.Error("the context of a drain says that the generation ended")
			}
			time.Sleep(time.Second) // a drain that takes several heartbeats
			return g.Commit(within(t, 5*time.Second), []Commit{{topic, 0, 42, "drained"}})
		})
		if err != nil || generations.Load() != 1 {
			t.Fatalf("%d generations, %v; want 1", generations.Load(), err)
		}
		begun := time.Now()
		if got := oneGeneration(t, c, topic, group); !slices.Equal(got, []Assignment{{topic, 0, 42, "drained"}}) {
			t.Errorf("the next member was assigned %v", got)
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("the next member waited %v: the one before did not leave", took)
		}
	})
}

func TestSecondMemberEndsTheGenerationAndSharesThePartitions(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		topic, group := newTopic(t, c, 4, nil), unique(t, "group")
		ctx, cancel := context.WithCancel(within(t, 60*time.Second))
		type event struct {
			member   string
			assigned int
			sole     bool
		}
		events := make(chan event, 20)
		done := make(chan error, 2)
		member := func(name string) {
			done <- c.JoinGroup(ctx, quick(group, topic), func(ctx context.Context, g *Generation) error {
				others, err := g.Others(ctx)
				if err != nil && ctx.Err() == nil {
					t.Errorf("%s: %v", name, err)
				}
				events <- event{name, len(g.Assigned), len(others) == 0}
				<-ctx.Done()
				return ctx.Err()
			})
		}
		go member("first")
		if got := <-events; got != (event{"first", 4, true}) {
			t.Fatalf("alone: %+v", got)
		}
		go member("second")
		shared := map[string]bool{}
		for len(shared) < 2 {
			if e := <-events; e.assigned == 2 && !e.sole {
				shared[e.member] = true
			} else {
				t.Logf("on the way: %+v", e)
			}
		}
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// A member that drains for longer than its session is waited for, and is the same member afterwards.
func TestMemberThatDrainsLongerThanItsSessionStaysInTheGroup(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		topic, group := newTopic(t, c, 2, nil), unique(t, "group")
		ctx, cancel := context.WithCancel(within(t, 60*time.Second))
		cfg := quick(group, topic)
		cfg.SessionTimeout = time.Second
		cfg.OnWait = func(err error) {
			if errors.Is(err, kafka.UnknownMemberId) {
				t.Errorf("taken for dead: %v", err)
			}
		}
		first, second := make(chan string, 20), make(chan string, 20)
		done := make(chan error, 2)
		member := func(ids chan string, drain time.Duration) {
			done <- c.JoinGroup(ctx, cfg, func(gen context.Context, g *Generation) error {
				ids <- g.MemberID
				<-gen.Done()
				if ctx.Err() == nil {
					time.Sleep(drain) // the thing that is tested: a member that is busy
				}
				return gen.Err()
			})
		}
		go member(first, 3*time.Second)
		id := <-first
		go member(second, 0)
		if again := <-first; again != id {
			t.Errorf("member %s came back as %s", id, again)
		}
		<-second
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestCommitOfAGenerationThatIsOverIsRefused(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		topic, group := newTopic(t, c, 1, nil), unique(t, "group")
		var old *Generation
		if err := c.JoinGroup(within(t, 30*time.Second), quick(group, topic), func(_ context.Context, g *Generation) error {
			old = g
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if err := old.Commit(within(t, 5*time.Second), []Commit{{topic, 0, 7, ""}}); !errors.Is(err, ErrGenerationEnded) {
			t.Errorf("commit after leaving: %v, want ErrGenerationEnded", err)
		}
		if got := oneGeneration(t, c, topic, group); got[0].Offset != -1 {
			t.Errorf("the refused commit was stored: %v", got)
		}
	})
}

func TestFencedRunJoinsAgainAndOtherErrorsEndTheMembership(t *testing.T) {
	onBrokers(t, func(t *testing.T, c *Conn) {
		topic, group := newTopic(t, c, 1, nil), unique(t, "group")
		broken := errors.New("disk full")
		answers := []error{ErrFenced, ErrPublisherLost, broken}
		var waits []error
		cfg := quick(group, topic)
		cfg.OnWait = func(err error) { waits = append(waits, err) }
		calls := 0
		err := c.JoinGroup(within(t, 60*time.Second), cfg, func(context.Context, *Generation) error {
			calls++
			return answers[calls-1]
		})
		if !errors.Is(err, broken) || calls != 3 || len(waits) < 2 {
			t.Errorf("%d calls, waits %v, error %v; want 3 calls and %v", calls, waits, err, broken)
		}
	})
}

func TestMemberOutlivesARestartOfTheBroker(t *testing.T) {
	dir := t.TempDir()
	addr, kill := embeddedProcess(t, dir, "127.0.0.1:0")
	c := open(t, Config{Brokers: []string{addr}})
	ctx, cancel := context.WithCancel(within(t, 60*time.Second))
	generations, done := make(chan []Assignment), make(chan error)
	go func() {
		done <- c.JoinGroup(ctx, quick("sluice", "payments.transactions"), func(ctx context.Context, g *Generation) error {
			if err := g.Commit(ctx, []Commit{{"payments.transactions", 0, 7, "seven"}}); err != nil {
				return err
			}
			select {
			case generations <- g.Assigned:
			case <-ctx.Done():
			}
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	<-generations
	kill()
	_, kill = embeddedProcess(t, dir, addr)
	defer kill()
	select {
	case got := <-generations:
		if len(got) != 2 || got[0].Metadata != "seven" {
			t.Errorf("after the restart: assigned %v, want both partitions and what was committed", got)
		}
	case err := <-done:
		t.Fatalf("the member gave up: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
