package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// embeddedEnv makes this test binary an embedded broker in a folder, so that it can be killed.
const embeddedEnv = "SLUICE_TEST_EMBEDDED_DIR"

var oneTopic = []Topic{{Name: "payments.transactions", Partitions: 2}}

func TestEmbeddedBrokerGoesOnWhereItStopped(t *testing.T) {
	for _, ending := range []string{"closed", "killed"} {
		t.Run(ending, func(t *testing.T) {
			dir, group := t.TempDir(), "sluice"
			begin := embeddedProcess
			if ending == "closed" {
				begin = embeddedHere
			}
			records, fence, addr := 0, int64(0), "127.0.0.1:0"
			for round := range 3 {
				listening, end := begin(t, dir, addr)
				addr = listening // the same one again: clients are configured with it
				c := open(t, Config{Brokers: []string{addr}})
				ctx := within(t, 30*time.Second)
				if got := readAll(t, c, "payments.transactions", 0, 0); len(got) != records {
					t.Fatalf("round %d: %d records, want %d", round, len(got), records)
				}
				assigned := oneGeneration(t, c, "payments.transactions", group)
				if want := int64(round*50 - 1); assigned[1].Offset != max(want, -1) || round > 0 && assigned[1].Metadata != fmt.Sprint("round ", round-1) {
					t.Errorf("round %d: committed %v, want %d", round, assigned, want)
				}
				p, f, err := c.Fence(ctx, "sluice/0", "payments.transactions", 0)
				if err != nil || f <= fence {
					t.Fatalf("round %d: fence %d after %d, %v", round, f, fence, err)
				}
				fence = f
				for range 10 {
					if _, err := p.Publish(ctx, oneRecord("x")); err != nil {
						t.Fatal(err)
					}
					records++
				}
				if err := c.JoinGroup(ctx, quick(group, "payments.transactions"), func(ctx context.Context, g *Generation) error {
					return g.Commit(ctx, []Commit{{"payments.transactions", 1, int64((round+1)*50 - 1), fmt.Sprint("round ", round)}})
				}); err != nil {
					t.Fatal(err)
				}
				end()
			}
		})
	}
}

// A zombie of before a broker's sudden end is still refused after it.
func TestEmbeddedBrokerRemembersFencesWhenKilled(t *testing.T) {
	dir := t.TempDir()
	addr, kill := embeddedProcess(t, dir, "127.0.0.1:0")
	c := open(t, Config{Brokers: []string{addr}})
	ctx := within(t, 30*time.Second)
	fence := func() *Publisher {
		p, _, err := c.Fence(ctx, "sluice/0", "payments.transactions", 0)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	older, newer := fence(), fence()
	if _, err := newer.Publish(ctx, oneRecord("newer")); err != nil {
		t.Fatal(err)
	}
	kill()
	_, kill = embeddedProcess(t, dir, addr)
	defer kill()
	if _, err := older.Publish(ctx, oneRecord("late")); !errors.Is(err, ErrFenced) {
		t.Errorf("the older publisher after the kill: %v, want ErrFenced", err)
	}
	if _, err := newer.Publish(ctx, oneRecord("newer")); err != nil && !errors.Is(err, ErrPublisherLost) {
		t.Errorf("the newer publisher after the kill: %v", err)
	}
}

// kcat stands for the clients that nobody here wrote.
func TestKcatProducesAndConsumesOnTheEmbeddedBroker(t *testing.T) {
	kcat := realBroker(t, "SLUICE_TEST_KCAT")
	addr, end := embeddedHere(t, "", "127.0.0.1:0")
	defer end()
	ctx := within(t, 30*time.Second)
	in := exec.CommandContext(ctx, kcat, "-P", "-b", addr, "-t", "payments.transactions", "-p", "1", "-K", ":", "-H", "a=b", "-z", "snappy")
	in.Stdin = strings.NewReader("u-1:hello\nu-2:world\n")
	if out, err := in.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c := open(t, Config{Brokers: []string{addr}})
	got := readAll(t, c, "payments.transactions", 1, 0)
	if len(got) != 2 || string(got[0].Key) != "u-1" || string(got[1].Value) != "world" || got[0].Headers[0].Key != "a" {
		t.Errorf("we read %+v", got)
	}
	if err := c.Produce(ctx, "payments.transactions", 0, []Message{{Key: []byte("k"), Value: []byte("from us"), Headers: []Header{{"verdict", []byte("hold")}}}}); err != nil {
		t.Fatal(err)
	}
	p, _, err := c.Fence(ctx, "sluice/0", "payments.transactions", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Publish(ctx, oneRecord("published")); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(ctx, kcat, "-C", "-b", addr, "-t", "payments.transactions", "-p", "0", "-e", "-q", "-f", "%k|%s|%h\n").CombinedOutput()
	if want := "k|from us|verdict=hold\n|published|\n"; err != nil || string(out) != want {
		t.Errorf("kcat read %q, %v; want %q", out, err, want)
	}
}

func TestEmbeddedBrokerSaysThatItsAddressIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if _, err := StartEmbedded(EmbeddedConfig{Addr: l.Addr().String()}); err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("error %v, want one that names %s", err, l.Addr())
	}
}

func TestEmbeddedBrokerMakesTopicsThatAreNewInItsFolder(t *testing.T) {
	dir := t.TempDir()
	e, err := StartEmbedded(EmbeddedConfig{Addr: "127.0.0.1:0", Dir: dir, Topics: oneTopic})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e, err = StartEmbedded(EmbeddedConfig{Addr: "127.0.0.1:0", Dir: dir, Topics: append(slices.Clone(oneTopic), Topic{Name: "new", Partitions: 3})})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	if n, err := open(t, Config{Brokers: []string{e.Addr()}}).Partitions(within(t, 10*time.Second), "new"); err != nil || n != 3 {
		t.Errorf("%d partitions, %v; want 3", n, err)
	}
}

// embeddedHere starts an embedded broker in this process.
func embeddedHere(t *testing.T, dir, addr string) (listening string, end func()) {
	t.Helper()
	e, err := StartEmbedded(EmbeddedConfig{Addr: addr, Dir: dir, Topics: oneTopic})
	if err != nil {
		t.Fatal(err)
	}
	return e.Addr(), func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

// embeddedProcess starts one in a process of its own, which end kills.
func embeddedProcess(t *testing.T, dir, addr string) (listening string, end func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], addr)
	cmd.Env = append(os.Environ(), embeddedEnv+"="+dir)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
	}
	t.Cleanup(end)
	line := make([]byte, 100)
	n, err := stdout.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(line[:n])), end
}

// embeddedMain is that process's main function.
func embeddedMain(dir string) {
	e, err := StartEmbedded(EmbeddedConfig{Addr: os.Args[1], Dir: dir, Topics: oneTopic})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(e.Addr())
	select {}
}
