package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/sluice-risk/sluice/benchmarks/storm/load"
	"github.com/sluice-risk/sluice/benchmarks/storm/oracle"
	"github.com/sluice-risk/sluice/benchmarks/storm/parts"
	"github.com/sluice-risk/sluice/pipeline/window"
	"golang.org/x/sync/errgroup"
)

// run does what the options say: both arms, one after the other.
func run(ctx context.Context, o options, progress io.Writer) (r *report, err error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	dir := o.dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "sluice-storm-*"); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	} else if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	say := newTeller(progress)
	say.line("%v; data and logs in %s", &o, dir)
	r = &report{options: &o}
	program := filepath.Join(dir, "sluice")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/sluice-risk/sluice/cmd/sluice").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w\n%s", err, out)
	}
	k, err := parts.StartKafka(ctx, parts.KafkaOptions{Java: o.java, Libs: o.libs, Dir: dir, Brokers: brokers, Clients: members})
	if err != nil {
		return nil, err
	}
	defer k.Close()
	if o.faults > 0 {
		if r.shared, err = many(ctx, &o, dir, program, k, say); err != nil {
			return nil, err
		}
	}
	if o.powerCuts > 0 {
		if r.alone, err = powerCuts(ctx, &o, dir, program, k, say); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// storm is the arm of the members that share a Redis.
type storm struct {
	o       *options
	gate    *gate
	kafka   *parts.Kafka
	redis   *parts.Redis
	members []*member
	feed    *load.Feed
	say     *teller

	mu     sync.Mutex
	losses []oracle.Loss
	active map[int]*fault // that have begun and are not healed
	struck int
}

// many lets payments flow through three members while faults strike.
func many(ctx context.Context, o *options, dir, program string, k *parts.Kafka, say *teller) (a *arm, err error) {
	s := &storm{o: o, kafka: k, say: say, active: map[int]*fault{}}
	bounded, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if s.gate, err = newGate(bounded, "storm", o, dir, k); err != nil {
		return nil, err
	}
	defer s.gate.close()
	if s.redis, err = parts.StartRedis(bounded, filepath.Join(dir, "redis")); err != nil {
		return nil, err
	}
	defer s.redis.Close()
	stop := make(chan struct{})
	defer func() {
		close(stop)
		for _, m := range s.members {
			err = errors.Join(err, m.kill())
			m.redis.Close()
		}
	}()
	for n := range members {
		m := &member{brokers: k.Door(n)}
		if m.redis, err = parts.NewLink(0, s.redis.Addr()); err != nil {
			return nil, err
		}
		s.members = append(s.members, m)
		var addresses []string
		for _, l := range m.brokers {
			addresses = append(addresses, l.Addr())
		}
		if m.Process, err = s.gate.member(n+1, program, addresses, "redis://"+m.redis.Addr()); err != nil {
			return nil, err
		}
		if err := m.start(stop); err != nil {
			return nil, err
		}
	}
	for _, m := range s.members {
		for !m.deciding() {
			if err := sleep(bounded, 50*time.Millisecond); err != nil {
				return nil, fmt.Errorf("%s does not begin to decide; its log is in %s: %w", m.Name, m.Dir, err)
			}
		}
	}
	return s.flow(ctx)
}

// flow sends the payments, lets the faults strike, waits until all is settled, and
// looks at what came of it.
func (s *storm) flow(ctx context.Context) (*arm, error) {
	o := s.o
	over := time.Duration(float64(o.payments) / o.rate * float64(time.Second))
	faults := plan(o, over)
	s.feed = &load.Feed{Conn: s.gate.conn, Transactions: s.gate.topic("transactions"), Outcomes: s.gate.topic("outcomes"),
		Partitions: o.partitions, Seed: o.seed, Rate: o.rate, Payments: o.payments}
	for _, f := range faults {
		if f.kind.touches == theRedis { // what two members say of one payment at the same moment is then anybody's guess: see pipeline/DESIGN.md
			s.feed.Apart = 20 * time.Second
		}
	}
	began, enough, done := time.Now(), make(chan struct{}), make(chan struct{})
	work, within := errgroup.WithContext(ctx)
	work.Go(func() error { return s.feed.Run(within, enough) })
	work.Go(func() error {
		defer close(enough)
		return s.strike(within, began, faults)
	})
	go s.tell(ctx, began, len(faults), done)
	err := work.Wait()
	flowed := time.Since(began)
	if err != nil {
		close(done)
		return nil, err
	}
	s.say.line("%d payments in %v; waiting until all is settled", s.feed.Sent(), flowed.Round(time.Second))
	settled, unsettled := s.gate.settled(ctx, o.settle)
	close(done)
	a := &arm{payments: s.feed.Sent(), flowed: flowed, settled: settled, faults: faults, losses: len(s.losses)}
	if unsettled != nil {
		a.broken = append(a.broken, fmt.Sprintf("not everything was settled: %v", unsettled))
	}
	for _, m := range s.members {
		if err := m.leave(); err != nil {
			a.broken = append(a.broken, fmt.Sprintf("a member did not leave as it should: %v", err))
		}
		for _, g := range m.gaveUp {
			a.broken = append(a.broken, fmt.Sprintf("%s ended by itself after %v: %s", m.Name, g.at.Sub(began).Round(10*time.Millisecond), g.last))
		}
		a.refused += m.refused
	}
	s.say.line("settled after %v; checking", settled.Round(100*time.Millisecond))
	return a, s.check(ctx, a)
}

// check holds what was said and kept against what was sent.
func (s *storm) check(ctx context.Context, a *arm) error {
	began := time.Now()
	logs, err := oracle.ReadRedis(ctx, s.redis.Client, s.gate.name)
	if err != nil {
		return err
	}
	store, err := window.OpenRedis(ctx, window.RedisOptions{URL: "redis://" + s.redis.Addr(), Prefix: s.gate.name, Timeout: 10 * time.Second}, window.Options{})
	if err != nil {
		return err
	}
	key := store.Key()
	if err := store.Close(); err != nil {
		return err
	}
	if a.report, err = s.gate.audit(ctx, key, logs, s.losses); err != nil {
		return err
	}
	a.checked = time.Since(began)
	return a.writeLost(s.gate.dir)
}

// strike lets the faults strike, each when its time has come and what it touches
// is whole, and returns when all are healed.
func (s *storm) strike(ctx context.Context, began time.Time, faults []*fault) error {
	const patience = 90 * time.Second // with the healing of one fault
	free := map[string]chan struct{}{}
	for _, f := range faults {
		if free[f.part()] == nil {
			free[f.part()] = make(chan struct{}, 1)
		}
	}
	work, within := errgroup.WithContext(ctx)
	for _, f := range faults {
		if err := sleep(within, time.Until(began.Add(f.after))); err != nil {
			return errors.Join(work.Wait(), ctx.Err())
		}
		select {
		case free[f.part()] <- struct{}{}:
		case <-within.Done():
			return errors.Join(work.Wait(), ctx.Err())
		}
		work.Go(func() error {
			defer func() { <-free[f.part()] }()
			bounded, cancel := context.WithTimeout(within, f.lasts+patience)
			defer cancel()
			if err := s.one(bounded, f, began); err != nil {
				return fmt.Errorf("%v: %w", f, err)
			}
			return nil
		})
	}
	return work.Wait()
}

// one lets a fault strike and heals it.
func (s *storm) one(ctx context.Context, f *fault, began time.Time) error {
	s.mu.Lock()
	s.active[f.number] = f
	s.struck++
	s.mu.Unlock()
	f.struck = time.Now()
	heal, err := f.kind.strike(ctx, s, f)
	if err != nil {
		return err
	}
	s.say.line("%7.1fs  %v %s", f.struck.Sub(began).Seconds(), f, f.note)
	if err := sleep(ctx, f.lasts); err != nil {
		return err
	}
	if err := heal(ctx); err != nil {
		return err
	}
	f.healed = time.Now()
	s.mu.Lock()
	delete(s.active, f.number)
	s.mu.Unlock()
	s.say.line("%7.1fs  fault %d is healed after %v %s", f.healed.Sub(began).Seconds(), f.number, f.healed.Sub(f.struck).Round(time.Millisecond), f.note)
	return nil
}

// tell says now and then how far everything is.
func (s *storm) tell(ctx context.Context, began time.Time, faults int, done <-chan struct{}) {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		bounded, cancel := context.WithTimeout(ctx, tellEvery)
		p, err := s.gate.progress(bounded)
		cancel()
		lag := fmt.Sprint("lag ", p.lag())
		if err != nil {
			lag = "lag not known"
		}
		s.mu.Lock()
		struck, active := s.struck, len(s.active)
		s.mu.Unlock()
		s.say.now("%7.1fs  %d of %d payments, %d of %d faults, %d of them not healed, %s", time.Since(began).Seconds(), s.feed.Sent(), s.o.payments, struck, faults, active, lag)
	}
}

func (s *storm) lost(l oracle.Loss) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.losses = append(s.losses, l)
}

func (s *storm) toRedis() (links []*parts.Link) {
	for _, m := range s.members {
		links = append(links, m.redis)
	}
	return links
}

// inSync waits until every partition has all its copies in sync again.
func (s *storm) inSync(ctx context.Context) error {
	client := kafka.Client{Addr: s.gate.client.Addr, Timeout: time.Second, Transport: &kafka.Transport{MetadataTTL: 100 * time.Millisecond}}
	var last error
	for {
		meta, err := client.Metadata(ctx, &kafka.MetadataRequest{})
		if err == nil {
			behind := 0
			for _, t := range meta.Topics {
				for _, p := range t.Partitions {
					if len(p.Isr) < min(brokers, len(p.Replicas)) || p.Error != nil {
						behind++
					}
				}
			}
			if behind == 0 && len(meta.Brokers) == brokers {
				return nil
			}
			last = fmt.Errorf("%d partitions lack a copy in sync; %d brokers", behind, len(meta.Brokers))
		} else {
			last = err
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return fmt.Errorf("%w (%w)", err, last)
		}
	}
}

// moveLeaders gives every partition of transactions and decisions another order of
// brokers, and lets the first of them lead.
func (s *storm) moveLeaders(ctx context.Context, rng *rand.Rand) error {
	topics := []string{s.gate.topic("transactions"), s.gate.topic("decisions")}
	req := &kafka.AlterPartitionReassignmentsRequest{Timeout: 5 * time.Second}
	for _, t := range topics {
		for p := range s.o.partitions {
			order := rng.Perm(brokers)
			for i := range order {
				order[i]++
			}
			req.Assignments = append(req.Assignments, kafka.AlterPartitionReassignmentsRequestAssignment{Topic: t, PartitionID: p, BrokerIDs: order})
		}
	}
	for {
		_, err := s.gate.client.AlterPartitionReassignments(ctx, req)
		for _, t := range topics {
			if err == nil {
				all := make([]int, s.o.partitions)
				for p := range all {
					all[p] = p
				}
				_, err = s.gate.client.ElectLeaders(ctx, &kafka.ElectLeadersRequest{Topic: t, Partitions: all, Timeout: 5 * time.Second})
			}
		}
		if err == nil {
			return nil
		}
		if late := sleep(ctx, 200*time.Millisecond); late != nil { // a controller that moves
			return errors.Join(late, err)
		}
	}
}

// kindsOf are the kinds of faults, in the order of kinds.
func kindsOf(faults []*fault) (names []string) {
	for _, k := range kinds() {
		if slices.ContainsFunc(faults, func(f *fault) bool { return f.kind.name == k.name }) {
			names = append(names, k.name)
		}
	}
	return names
}
