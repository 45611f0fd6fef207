package window

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// kindsKept is what the members have agreed on: which logs are written, and for
// how long they are kept. A kind that was ever logged is logged by all members,
// whatever their own features look at, until somebody deletes it from the hash:
// so a reload that begins to look at it is warm, and during a rollout members
// with old and new rules write the same logs.
type kindsKept struct {
	since map[string]payment.Time // by the name of the kind, or that with verdictsOf; maxTime: nothing was logged yet
	reach time.Duration           // the longest that any member has needed, without lateness
	at    time.Time               // when all that we look at was in it; zero: that is to be done
	known time.Time               // when it was read
}

const (
	verdictsOf   = " verdicts"
	horizonField = "horizon"
	newKind      = "new" // in a store that has seen nothing yet
	// agreeEvery bounds how long a member goes on without knowing of a new kind.
	agreeEvery = time.Second
)

func (k *kindsKept) read(ctx context.Context, s *Redis) error {
	pipe := s.client.Pipeline()
	fields := pipe.HGetAll(ctx, s.names.kinds())
	if err := s.trip(ctx, pipe); err != nil {
		return err
	}
	k.since, k.reach = make(map[string]payment.Time, len(fields.Val())), 0
	k.at, k.known = time.Time{}, time.Now()
	for name, text := range fields.Val() {
		if text == newKind {
			k.since[name] = maxTime
			continue
		}
		v, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%w: %s of %s is %q", ErrCorrupt, name, s.names.kinds(), text)
		}
		if name == horizonField {
			k.reach = time.Duration(v)
		} else {
			k.since[name] = payment.Time(v)
		}
	}
	return nil
}

// begun tells whether anything was logged.
func (k *kindsKept) begun() bool {
	for _, t := range k.since {
		if t != maxTime {
			return true
		}
	}
	return false
}

// others are the kinds that are logged, but not among those of these groups.
func (k *kindsKept) others(groups []*group) []Entity {
	var all []Entity
	for name := range k.since {
		e, ok := ParseEntity(name)
		if ok && !slices.ContainsFunc(groups, func(g *group) bool { return g.entity == e }) {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b Entity) int { return int(a.First)*64 + int(a.Second) - int(b.First)*64 - int(b.Second) })
	return all
}

// logsVerdicts tells whether the logs of a kind have verdicts.
func (s *Redis) logsVerdicts(l *logged) bool {
	_, ok := s.kinds.since[l.name+verdictsOf]
	return ok || len(l.byVerdict) > 0
}

// announce says what we look at, where nobody has said so before.
func (s *Redis) announce(ctx context.Context, since any) error {
	pipe := s.client.Pipeline()
	want := func(name string) {
		switch t, ok := s.kinds.since[name]; {
		case !ok:
			pipe.HSetNX(ctx, s.names.kinds(), name, since)
		case t == maxTime && since != newKind:
			pipe.HSet(ctx, s.names.kinds(), name, since)
		}
	}
	for _, l := range s.logs {
		want(l.name)
		if s.logsVerdicts(l) {
			want(l.name + verdictsOf)
		}
	}
	if reach := max(s.reach(), s.opts.Keep); reach > s.kinds.reach {
		pipe.HSet(ctx, s.names.kinds(), horizonField, int64(reach))
	}
	if pipe.Len() == 0 {
		return nil
	}
	if err := s.exec(ctx, pipe); err != nil {
		return err
	}
	return s.kinds.read(ctx, s)
}

// agree makes sure, now and then, that all members write the same logs. from is
// the event time of what is appended next, and now the Kafka time.
func (s *Redis) agree(ctx context.Context, from, now payment.Time) error {
	if time.Since(s.kinds.at) < agreeEvery {
		return nil
	}
	if err := s.kinds.read(ctx, s); err != nil {
		return err
	}
	// The first transaction of all has missed nothing. Otherwise members that know
	// nothing of a new kind may leave it out until they have read this.
	since := from
	if s.kinds.begun() {
		since = now.Add(5 * agreeEvery)
	}
	if err := s.announce(ctx, int64(since)); err != nil {
		return err
	}
	s.kinds.at = time.Now()
	s.logOthers()
	return nil
}

// know is agree where nothing is appended that could say since when.
func (s *Redis) know(ctx context.Context) error {
	if s.kafka != 0 {
		return s.agree(ctx, s.kafka, s.kafka)
	}
	if time.Since(s.kinds.known) < agreeEvery {
		return nil
	}
	if err := s.kinds.read(ctx, s); err != nil {
		return err
	}
	s.logOthers()
	return nil
}

// logOthers makes sure that the kinds are logged that only others look at.
func (s *Redis) logOthers() {
	if others := s.kinds.others(s.groups()[:s.ours]); !slices.Equal(others, s.memory.kinds()[s.ours:]) {
		s.useGroups(s.groups()[:s.ours])
	}
}
