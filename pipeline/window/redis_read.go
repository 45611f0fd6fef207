package window

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// What goes in one pipeline, so that a round trip stays far below the time that
// it may take, also where a hot entity's log of many megabytes is read: a million
// bytes, or a thousand commands, are five to ten milliseconds of a busy server.
const (
	commandsAtOnce = 1024
	bytesAtOnce    = 1 << 20
	rangeBytes     = bytesAtOnce / 4 // of one log, at the most
	firstBytes     = 4 << 10         // of a log of which nothing is known: most are shorter
	readsAtOnce    = bytesAtOnce / firstBytes
	segmentsAtOnce = 4 // of one log
)

// reading is an entity's log while it is read on from addition.at.
type reading struct {
	*addition
	last   uint32 // the last segment, as far as is known
	ranges []ranged
}

// ranged is a range of a segment that was asked for.
type ranged struct {
	at    logEnd
	bytes uint32
	data  *redis.StringCmd
}

func (s *Redis) readRange(ctx context.Context, pipe redis.Pipeliner, l *reading, at logEnd, bytes uint32) {
	data := pipe.GetRange(ctx, s.names.log(l.l.name, l.key, at.segment), int64(at.offset), int64(at.offset)+int64(bytes)-1)
	l.ranges = append(l.ranges, ranged{at, bytes, data})
}

// load makes the folds of entities from their logs; all are new and empty. Those
// that it could not make are given up, and what was there before them is there
// again.
func (s *Redis) load(ctx context.Context, r *round, adds []*addition) error {
	for len(adds) > 0 {
		some := adds[:min(len(adds), readsAtOnce)]
		if err := s.loadSome(ctx, r, some); err != nil {
			for _, a := range adds {
				a.l.unload(a.n)
				a.n = none
			}
			return err
		}
		for _, a := range some {
			a.l.loaded(a.n)
			if a.l.foldOf(a.n).events.n > 0 {
				s.loaded++
			}
		}
		adds = adds[len(some):]
	}
	return nil
}

func (s *Redis) loadSome(ctx context.Context, r *round, adds []*addition) error {
	// Most logs are short and have no head: both are asked at once.
	pipe := s.client.Pipeline()
	all := make([]*reading, len(adds))
	heads := make([]*redis.ZSliceCmd, len(adds))
	for i, a := range adds {
		a.at = logEnd{segment: 1}
		all[i] = &reading{addition: a}
		heads[i] = pipe.ZRangeWithScores(ctx, s.names.head(a.l.name, a.key), 0, -1)
		s.readRange(ctx, pipe, all[i], a.at, firstBytes)
	}
	if err := s.exec(ctx, pipe); err != nil {
		return err
	}
	var more []*reading
	for i, l := range all {
		l.at.segment, l.last = headOf(heads[i].Val())
		done, err := s.readOnce(r, l)
		if err != nil {
			return err
		}
		if !done {
			more = append(more, l)
		}
	}
	return s.readLogs(ctx, r, more)
}

// readLogs reads logs to their ends.
func (s *Redis) readLogs(ctx context.Context, r *round, all []*reading) error {
	for len(all) > 0 {
		each := uint32(min(rangeBytes, max(firstBytes, bytesAtOnce/len(all))))
		pipe := s.client.Pipeline()
		some := 0
		for budget := bytesAtOnce; some < len(all) && budget > 0; some++ {
			l := all[some]
			s.readRange(ctx, pipe, l, l.at, each)
			budget -= int(each)
			for n := uint32(1); n < segmentsAtOnce && l.at.segment+n <= l.last && budget > 0; n++ {
				s.readRange(ctx, pipe, l, logEnd{segment: l.at.segment + n}, each)
				budget -= int(each)
			}
		}
		if err := s.exec(ctx, pipe); err != nil {
			return err
		}
		var more []*reading
		for _, l := range all[:some] {
			done, err := s.readOnce(r, l)
			if err != nil {
				return err
			}
			if !done {
				more = append(more, l)
			}
		}
		all = append(more, all[some:]...)
	}
	return nil
}

// readOnce folds the ranges that came, and reports whether the log was read to its
// end. A range that does not begin where the log goes on was asked for in vain.
func (s *Redis) readOnce(r *round, l *reading) (done bool, err error) {
	defer func() { l.ranges = l.ranges[:0] }()
	for _, came := range l.ranges {
		if came.at != l.at {
			continue
		}
		data := bytesOf(came.data.Val())
		full := uint32(len(data)) == came.bytes
		sealed, err := s.follow(r, l.addition, data, full)
		switch {
		case err != nil:
			return false, err
		case sealed:
			if came.at.segment >= l.last { // whoever sealed it did not move the head
				s.chore(l.addition, came.at.segment, heading)
				l.last = l.at.segment
			}
		case full: // it goes on
		case came.at.segment < l.last:
			l.at = logEnd{segment: came.at.segment + 1}
		default:
			l.l.foldOf(l.n).log = l.at
			return true, nil
		}
	}
	return false, nil
}
