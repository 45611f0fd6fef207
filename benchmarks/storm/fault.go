package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-risk/sluice/benchmarks/storm/oracle"
	"github.com/sluice-risk/sluice/benchmarks/storm/parts"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// kind is a way in which something breaks. Faults that touch the same part never
// overlap; a kind that touches members or brokers strikes one of them.
type kind struct {
	name    string
	touches part
	says    string
	least   time.Duration // how long it lasts, beside the session timeout where that must pass
	most    time.Duration
	session bool // it lasts longer than a session
	// strike breaks it and returns how it is healed.
	strike func(ctx context.Context, s *storm, f *fault) (heal func(context.Context) error, err error)
}

type part int

const (
	aMember part = iota
	theBrokers
	theRedis
)

// kinds are all that can happen.
func kinds() []kind {
	const s, ms = time.Second, time.Millisecond
	return []kind{
		{name: "member-kill", touches: aMember, least: 0, most: 2 * s, says: "SIGKILL of a member, started again up to 2 s later", strike: killMember},
		{name: "member-freeze", touches: aMember, least: 500 * ms, most: 3 * s, session: true, says: "a member frozen past its session timeout and woken, so that two believe that they own a partition", strike: freezeMember},
		{name: "member-cut", touches: aMember, least: 500 * ms, most: 4 * s, says: "the links of a member to all brokers cut", strike: ofMember(cut)},
		{name: "member-silent", touches: aMember, least: 500 * ms, most: 3 * s, session: true, says: "the links of a member to all brokers silent past its session timeout, and what they held delivered then", strike: ofMember(silence)},
		{name: "member-slow", touches: aMember, least: 2 * s, most: 4 * s, says: "20 to 120 ms more, each way, between a member and the brokers", strike: ofMember(slow(20*ms, 120*ms))},
		{name: "broker-kill", touches: theBrokers, least: 1 * s, most: 6 * s, says: "SIGKILL of a broker, started again up to 6 s later, until all copies are in sync", strike: killBroker},
		{name: "leader-move", touches: theBrokers, least: 0, most: 500 * ms, says: "the leaders of all partitions of transactions and decisions move to other brokers", strike: moveLeaders},
		{name: "redis-kill", touches: theRedis, least: 200 * ms, most: 3 * s, says: "SIGKILL of Redis with appendfsync always", strike: killRedis},
		{name: "redis-tail", touches: theRedis, least: 200 * ms, most: 3 * s, says: "SIGKILL of Redis with appendfsync everysec, and the last second of its file cut off before it starts again", strike: cutRedisTail},
		{name: "redis-freeze", touches: theRedis, least: 500 * ms, most: 4 * s, says: "Redis frozen", strike: freezeRedis},
		{name: "redis-full", touches: theRedis, least: 1 * s, most: 4 * s, says: "Redis out of memory: it refuses writes", strike: fillRedis},
		{name: "redis-cut", touches: theRedis, least: 500 * ms, most: 4 * s, says: "the links of one member, or of all, to Redis cut", strike: ofRedis(cut)},
		{name: "redis-silent", touches: theRedis, least: 500 * ms, most: 4 * s, says: "the same links silent, and what they held delivered then", strike: ofRedis(silence)},
		{name: "redis-slow", touches: theRedis, least: 2 * s, most: 4 * s, says: "50 to 800 ms more, each way, on the same links", strike: ofRedis(slow(50*ms, 800*ms))},
	}
}

func kindNames() (names []string) {
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return names
}

func kindOf(name string) *kind {
	all := kinds()
	if i := slices.IndexFunc(all, func(k kind) bool { return k.name == name }); i >= 0 {
		return &all[i]
	}
	return nil
}

func describeKinds() string {
	var b strings.Builder
	for _, k := range kinds() {
		fmt.Fprintf(&b, "  %-14s %s\n", k.name, k.says)
	}
	return b.String()
}

// fault is one that is planned, and what became of it.
type fault struct {
	number int // from 1
	kind   kind
	target int // a member or a broker
	chance uint64
	after  time.Duration // since the payments began, when nothing it touches is still being healed
	lasts  time.Duration
	struck time.Time
	healed time.Time
	note   string
}

func (f *fault) String() string {
	text := fmt.Sprintf("%s %d", f.kind.name, f.target+1)
	if f.kind.touches == theRedis {
		text = f.kind.name
	}
	return fmt.Sprintf("fault %d: %s for %v", f.number, text, f.lasts.Round(time.Millisecond))
}

// parts is what the fault must have for itself: all brokers, because two are never
// down at once.
func (f *fault) part() string {
	switch f.kind.touches {
	case aMember:
		return fmt.Sprint("member ", f.target)
	case theBrokers:
		return "brokers"
	}
	return "redis"
}

// rng is what the fault chooses by while it strikes.
func (f *fault) rng() *rand.Rand { return rand.New(rand.NewPCG(f.chance, 1)) }

const members, brokers = 3, 3 // as many, so that a target is one of either

// plan chooses the faults: all kinds equally often, in an order of the seed, over
// the time that the payments take; one in four comes right behind the one before.
func plan(o *options, over time.Duration) []*fault {
	rng := rand.New(rand.NewPCG(o.seed, 3))
	var among []kind
	for _, k := range kinds() {
		if len(o.only) == 0 || slices.Contains(o.only, k.name) {
			among = append(among, k)
		}
	}
	var all []*fault
	var order []int
	step := over / time.Duration(o.faults+1)
	for n := range o.faults {
		if n%len(among) == 0 {
			order = rng.Perm(len(among))
		}
		f := &fault{number: n + 1, kind: among[order[n%len(among)]], target: rng.IntN(members), chance: rng.Uint64()}
		f.after = step/2 + time.Duration(n)*step + time.Duration(rng.Int64N(int64(max(1, step/2))))
		if rng.IntN(4) == 0 && n > 0 {
			f.after = all[n-1].after + time.Duration(rng.Int64N(int64(time.Second)))
		}
		f.lasts = f.kind.least + time.Duration(rng.Int64N(int64(f.kind.most-f.kind.least)))
		if f.kind.session {
			f.lasts += o.session
		}
		all = append(all, f)
	}
	return all
}

func killMember(_ context.Context, s *storm, f *fault) (func(context.Context) error, error) {
	m := s.members[f.target]
	return func(context.Context) error { return m.revive() }, m.kill()
}

func freezeMember(_ context.Context, s *storm, f *fault) (func(context.Context) error, error) {
	m := s.members[f.target]
	return func(context.Context) error { return m.Signal(syscall.SIGCONT) }, m.Signal(syscall.SIGSTOP)
}

// breaking is what is done to a link.
type breaking func(l *parts.Link, rng *rand.Rand)

func cut(l *parts.Link, _ *rand.Rand)     { l.Cut() }
func silence(l *parts.Link, _ *rand.Rand) { l.Silence() }

func slow(least, most time.Duration) breaking {
	return func(l *parts.Link, rng *rand.Rand) { l.Delay(least + time.Duration(rng.Int64N(int64(most-least)))) }
}

// strike breaks links and returns how they are healed.
func (b breaking) strike(links []*parts.Link, rng *rand.Rand) (heal func(context.Context) error) {
	for _, l := range links {
		b(l, rng)
	}
	return func(context.Context) error {
		for _, l := range links {
			l.Heal()
		}
		return nil
	}
}

// ofMember breaks the links of one member to the brokers.
func ofMember(b breaking) func(context.Context, *storm, *fault) (func(context.Context) error, error) {
	return func(_ context.Context, s *storm, f *fault) (func(context.Context) error, error) {
		return b.strike(s.members[f.target].brokers, f.rng()), nil
	}
}

// ofRedis breaks the links of one member, or of all, to Redis.
func ofRedis(b breaking) func(context.Context, *storm, *fault) (func(context.Context) error, error) {
	return func(_ context.Context, s *storm, f *fault) (func(context.Context) error, error) {
		rng, links := f.rng(), []*parts.Link{s.members[f.target].redis}
		f.note = fmt.Sprintf("of member %d", f.target+1)
		if rng.IntN(2) == 0 {
			links, f.note = s.toRedis(), "of all members"
		}
		return b.strike(links, rng), nil
	}
}

func killBroker(_ context.Context, s *storm, f *fault) (func(context.Context) error, error) {
	return func(ctx context.Context) error {
		if err := s.kafka.Revive(ctx, f.target); err != nil {
			return err
		}
		return s.inSync(ctx)
	}, s.kafka.Brokers[f.target].Kill()
}

func moveLeaders(ctx context.Context, s *storm, f *fault) (func(context.Context) error, error) {
	return s.inSync, s.moveLeaders(ctx, f.rng())
}

func killRedis(ctx context.Context, s *storm, f *fault) (func(context.Context) error, error) {
	return s.replaceRedis(ctx, f, "always", 0)
}

func cutRedisTail(ctx context.Context, s *storm, f *fault) (func(context.Context) error, error) {
	return s.replaceRedis(ctx, f, "everysec", time.Second)
}

// replaceRedis kills the server; before it starts again, what was appended to its
// file in the last time is cut off. What is lost is noted before any member can
// append again.
func (s *storm) replaceRedis(ctx context.Context, f *fault, fsync string, lost time.Duration) (func(context.Context) error, error) {
	if err := s.redis.Client.ConfigSet(ctx, "appendfsync", fsync).Err(); err != nil {
		return nil, err
	}
	if err := sleep(ctx, time.Second); err != nil { // what comes in this mode is what counts
		return nil, err
	}
	if lost > 0 {
		if err := s.redis.AwaitGrowth(ctx, lost/2); err != nil {
			return nil, err
		}
	}
	f.struck = time.Now()
	if err := s.redis.Kill(); err != nil {
		return nil, err
	}
	for _, l := range s.toRedis() {
		l.Cut()
	}
	return func(ctx context.Context) error {
		if lost > 0 {
			bytes, err := s.redis.CutTail(f.struck, lost)
			if err != nil {
				return err
			}
			f.note = fmt.Sprintf("%d bytes lost", bytes)
		}
		if err := s.redis.Start(); err != nil {
			return err
		}
		if err := s.redis.Ready(ctx); err != nil {
			return err
		}
		ends, err := oracle.Ends(ctx, s.redis.Client, s.gate.name)
		if err != nil {
			return err
		}
		s.lost(oracle.Loss{At: payment.TimeOf(time.Now()), End: func(log string) oracle.At { return ends[log] }})
		for _, l := range s.toRedis() {
			l.Heal()
		}
		return nil
	}, nil
}

func freezeRedis(_ context.Context, s *storm, _ *fault) (func(context.Context) error, error) {
	return func(context.Context) error { return s.redis.Signal(syscall.SIGCONT) }, s.redis.Signal(syscall.SIGSTOP)
}

func fillRedis(ctx context.Context, s *storm, _ *fault) (func(context.Context) error, error) {
	return func(ctx context.Context) error { return s.redis.Client.ConfigSet(ctx, "maxmemory", "0").Err() },
		s.redis.Client.ConfigSet(ctx, "maxmemory", "1mb").Err()
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
