package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
	"github.com/sluice-risk/sluice/rules"
)

// `sluice log` as people type it, beside a process that has the store open: see
// testdata/log. There, "store" is the folder of an embedded store that holds
// what keepLogs writes.
func TestLogOfAnEntityIsPrintedBesideARunningGate(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/log",
		UpdateScripts: *updateScripts,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"))
			rs, err := rules.Load(filepath.Join(env.WorkDir, "rules"))
			if err != nil {
				return err
			}
			store, err := window.Open(window.Options{Dir: filepath.Join(env.WorkDir, "store"), Owner: "a running gate", Features: rs.Features()})
			if err != nil {
				return err
			}
			env.Defer(func() { _ = store.Close() })
			return keepLogs(store)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"status": status},
	})
}

// keepLogs writes three payments into a store, their verdicts, and the outcome of the second.
func keepLogs(store window.Store) error {
	begin, _ := payment.ParseTime("2026-11-23T08:15:30+08:00")
	var items []*window.Item
	var marks []window.Mark
	for i, ip := range []string{"203.0.113.7", "::ffff:203.0.113.7", "2001:db8::7"} {
		tx := &payment.Transaction{ID: fmt.Sprint("t-", i+1), Type: payment.TypePayment, Channel: "web", OrderID: "order 66"}
		tx.EventTime = begin + payment.Time(i)*60e9
		tx.Amount.Value = 12850 + int64(i)
		tx.Amount.Currency, _ = payment.ParseCurrency("CNY")
		tx.Payer.AccountID, tx.Payee.AccountID = "u-1001", fmt.Sprint("m-", i%2)
		tx.Instrument.Kind, tx.Instrument.Token, tx.Instrument.Bank = "card", "c-7f", "icbc"
		tx.Device.IP, tx.Device.Addr = ip, netip.MustParseAddr(ip).Unmap()
		items = append(items, &window.Item{Tx: tx, KafkaTime: tx.EventTime, Base: tx.Amount.Value, Based: true})
		marks = append(marks, window.Mark{Tx: store.Key().Tx(tx.ID), Verdict: payment.Approve, Offset: int64(i)})
	}
	marks[2].Verdict = payment.Hold
	outcome := &payment.Outcome{TransactionID: "t-2", ID: "o-1", Kind: payment.OutcomeSettled, EventTime: begin + 3600e9}
	return errors.Join(
		store.Append(context.Background(), items),
		store.Decided(context.Background(), marks),
		store.Outcomes(context.Background(), []*window.OutcomeItem{{Outcome: outcome}}))
}

// The same from Redis, beside the members that share it: looking makes no kind
// of entity one that they log.
func TestLogOfAnEntityIsPrintedFromRedis(t *testing.T) {
	addr := fromEnv(t, "SLUICE_TEST_REDIS")
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer client.Close()
	prefix := fmt.Sprint("log-test-", time.Now().UnixNano())
	kept := func() []string {
		t.Helper()
		keys, err := client.Keys(t.Context(), prefix+":*").Result()
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	features := []window.Feature{{Entity: window.Entity{First: window.Card}, Name: "n", Aggregate: window.Count, Length: time.Hour, ReadsStatus: true}}
	store, err := window.OpenRedis(t.Context(), window.RedisOptions{URL: "redis://" + addr, Prefix: prefix, Timeout: 10 * time.Second}, window.Options{Features: features})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(store.Close(), client.Del(context.Background(), kept()...).Err()); err != nil {
			t.Error(err)
		}
	}()
	if err := keepLogs(store); err != nil {
		t.Fatal(err)
	}
	kinds, err := client.HGetAll(t.Context(), prefix+":1:kinds").Result()
	if err != nil || len(kinds) == 0 {
		t.Fatalf("%v %v", kinds, err)
	}
	sluice := func(args ...string) (stdout string, status int) {
		t.Helper()
		cmd := exec.Command(binary, append(args, "--store", "redis://"+addr)...)
		cmd.Env = append(bareEnv(), "SLUICE_REDIS_PREFIX="+prefix)
		out, err := cmd.Output()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	out, status := sluice("log", "card", "c-7f")
	if status != 0 || strings.Count(out, "  payment ") != 3 || strings.Count(out, " card=c-7f ") != 3 || strings.Count(out, "  settled of ") != 1 {
		t.Errorf("status %d:\n%s", status, out)
	}
	for _, nobody := range [][]string{{"log", "card", "c-8"}, {"log", "bank", "icbc"}} {
		if out, status := sluice(nobody...); status != 1 || out != "" {
			t.Errorf("%s: status %d:\n%s", nobody, status, out)
		}
	}
	if now, err := client.HGetAll(t.Context(), prefix+":1:kinds").Result(); err != nil || !maps.Equal(now, kinds) {
		t.Errorf("the kinds that are logged were %v, and are %v (%v)", kinds, now, err)
	}
}
