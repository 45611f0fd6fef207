package parts_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/benchmarks/storm/parts"
)

// An echo behind a link.
func linked(t *testing.T) (*parts.Link, func() net.Conn) {
	t.Helper()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c) }()
		}
	}()
	link, err := parts.NewLink(0, server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.Close)
	return link, func() net.Conn {
		c, err := net.Dial("tcp", link.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
}

func says(t *testing.T, c net.Conn, text string) (string, error) {
	t.Helper()
	if _, err := io.WriteString(c, text+"\n"); err != nil {
		return "", err
	}
	return bufio.NewReader(c).ReadString('\n')
}

func TestLinkCarriesBothWays(t *testing.T) {
	_, dial := linked(t)
	if got, err := says(t, dial(), "hello"); err != nil || got != "hello\n" {
		t.Fatalf("%q %v", got, err)
	}
}

func TestCutLinkEndsConnectionsAndHealedOneTakesNew(t *testing.T) {
	link, dial := linked(t)
	old := dial()
	if _, err := says(t, old, "hello"); err != nil {
		t.Fatal(err)
	}
	link.Cut()
	if _, err := old.Read(make([]byte, 1)); err == nil {
		t.Error("the connection lives")
	}
	if got, err := says(t, dial(), "hello"); err == nil {
		t.Errorf("a new connection through a cut link says %q", got)
	}
	link.Heal()
	if got, err := says(t, dial(), "again"); err != nil || got != "again\n" {
		t.Errorf("%q %v", got, err)
	}
}

func TestSilentLinkKeepsWhatItIsGiven(t *testing.T) {
	link, dial := linked(t)
	c := dial()
	if _, err := says(t, c, "hello"); err != nil {
		t.Fatal(err)
	}
	link.Silence()
	if err := c.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if got, err := says(t, c, "late"); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("through a silent link came %q, %v", got, err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	link.Heal()
	if got, err := bufio.NewReader(c).ReadString('\n'); err != nil || got != "late\n" {
		t.Fatalf("%q %v", got, err)
	}
}

func TestSlowLinkIsLateAndNotNarrow(t *testing.T) {
	link, dial := linked(t)
	c := dial()
	link.Delay(50 * time.Millisecond)
	began := time.Now()
	const chunks = 20
	go func() {
		for range chunks {
			_, _ = io.WriteString(c, "x")
			time.Sleep(time.Millisecond)
		}
	}()
	if _, err := io.ReadFull(c, make([]byte, chunks)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 100*time.Millisecond || took > time.Second {
		t.Errorf("%d chunks took %v there and back, 50ms each way", chunks, took)
	}
}
