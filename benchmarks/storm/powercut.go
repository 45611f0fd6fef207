package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/sluice-risk/sluice/benchmarks/storm/load"
	"github.com/sluice-risk/sluice/benchmarks/storm/oracle"
	"github.com/sluice-risk/sluice/benchmarks/storm/parts"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
	"golang.org/x/sync/errgroup"
)

// powerCutRate is the payments per second of the arm with an embedded store: its
// member works under a tracer, which looks at every write.
const powerCutRate = 250

// lonely is the arm of the member with an embedded store.
type lonely struct {
	o      *options
	gate   *gate
	member *parts.Process
	disk   *parts.Disk
	store  string
	say    *teller
	losses []oracle.Loss
	bytes  int64 // that were lost
}

// powerCuts lets payments flow through one member with an embedded store, which is
// killed again and again together with the power of its machine.
func powerCuts(ctx context.Context, o *options, dir, program string, k *parts.Kafka, say *teller) (*arm, error) {
	if _, err := exec.LookPath("strace"); err != nil {
		return nil, fmt.Errorf("power cuts need strace, which shows what was synced: %w", err)
	}
	bounded, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	l := &lonely{o: o, say: say}
	var err error
	if l.gate, err = newGate(bounded, "lonely", o, dir, k); err != nil {
		return nil, err
	}
	defer l.gate.close()
	l.store = filepath.Join(l.gate.dir, "store")
	if l.disk, err = parts.NewDisk(l.store, filepath.Join(l.gate.dir, "trace")); err != nil {
		return nil, err
	}
	if l.member, err = l.gate.member(1, program, k.Direct(), "pebble:"+l.store); err != nil {
		return nil, err
	}
	plain := l.member.Command
	l.member.Command = l.disk.Watched(plain)
	defer func() { _ = l.member.Kill() }()

	feed := &load.Feed{Conn: l.gate.conn, Transactions: l.gate.topic("transactions"), Outcomes: l.gate.topic("outcomes"),
		Partitions: o.partitions, Seed: o.seed + 1, Rate: powerCutRate, Payments: 1}
	began, enough := time.Now(), make(chan struct{})
	work, within := errgroup.WithContext(ctx)
	work.Go(func() error { return feed.Run(within, enough) })
	work.Go(func() error {
		defer close(enough)
		return l.cuts(within, began)
	})
	if err := work.Wait(); err != nil {
		return nil, err
	}
	a := &arm{payments: feed.Sent(), flowed: time.Since(began)}
	l.member.Command = plain
	if err := l.member.Start(); err != nil {
		return nil, err
	}
	if a.settled, err = l.gate.settled(ctx, o.settle); err != nil {
		a.broken = append(a.broken, fmt.Sprintf("not everything was settled: %v", err))
	}
	if err := l.member.Stop(time.Minute); err != nil {
		a.broken = append(a.broken, fmt.Sprintf("the member did not leave as it should: %v", err))
	}
	a.losses, a.lostHow = len(l.losses), fmt.Sprintf("%d bytes of the journal and other files", l.bytes)
	return a, l.check(ctx, a)
}

// cuts kills the member at moments of the seed, each time after it has decided
// something, and takes from its disk what was not synced.
func (l *lonely) cuts(ctx context.Context, began time.Time) error {
	rng := rand.New(rand.NewPCG(l.o.seed, 4))
	for n := range l.o.powerCuts {
		if err := l.member.Start(); err != nil {
			return err
		}
		if err := l.decides(ctx); err != nil {
			return err
		}
		if err := sleep(ctx, time.Duration(rng.Int64N(int64(2*time.Second)))); err != nil {
			return err
		}
		pid := l.member.PID()
		if err := l.member.Kill(); err != nil {
			return err
		}
		lost, err := l.disk.LosePower(pid, rng)
		if err != nil {
			return err
		}
		end, err := oracle.JournalEnd(l.store)
		if err != nil {
			return err
		}
		l.bytes += lost
		l.losses = append(l.losses, oracle.Loss{At: payment.TimeOf(time.Now()), End: func(string) oracle.At { return end }})
		l.say.line("%7.1fs  power cut %d of %d: %d bytes lost; the journal ends at %v", time.Since(began).Seconds(), n+1, l.o.powerCuts, lost, end)
	}
	return nil
}

// decides waits until there are more decisions than now.
func (l *lonely) decides(ctx context.Context) error {
	const patience = 90 * time.Second // with the session of the member that died
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	before := int64(-1)
	for {
		sum := int64(0)
		ranges, err := l.gate.conn.TopicOffsets(ctx, l.gate.topic("decisions"))
		if err != nil {
			return err
		}
		for _, r := range ranges {
			sum += r.End
		}
		if before < 0 {
			before = sum
		}
		if sum > before {
			return nil
		}
		select {
		case <-l.member.Exited():
			return fmt.Errorf("the member has ended by itself; its log is %s", filepath.Join(l.member.Dir, "log"))
		case <-ctx.Done():
			return errors.Join(errors.New("the member decides nothing"), ctx.Err())
		case <-time.After(50 * time.Millisecond): // Kafka tells nobody
		}
	}
}

func (l *lonely) check(ctx context.Context, a *arm) error {
	began := time.Now()
	logs, err := oracle.ReadJournal(l.store)
	if err != nil {
		return err
	}
	store, err := window.Open(window.Options{Dir: l.store, ReadOnly: true})
	if err != nil {
		return err
	}
	key := store.Key()
	if err := store.Close(); err != nil {
		return err
	}
	if a.report, err = l.gate.audit(ctx, key, logs, l.losses); err != nil {
		return err
	}
	a.checked = time.Since(began)
	return a.writeLost(l.gate.dir)
}
