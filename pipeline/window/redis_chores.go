package window

import (
	"context"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// chore is what is to be done about a segment that is full. Its steps go along
// with the pipelines that are sent anyway. A step is sent when the one before it
// was acknowledged; a chore that dies with its member is taken up by whoever
// meets the seal.
type chore struct {
	entity  Entity
	name    string
	key     uint64
	segment uint32
	step    step
	latest  payment.Time // no event of the segment is later
	sealed  *redis.IntCmd
	head    *redis.ZSliceCmd
	old     []uint32 // segments to be taken away
}

type step uint8

const (
	sealing step = iota // append the seal
	heading             // head moves to the next segment; look what is old
	pruning             // take that away
	finished
)

// chore notes that a segment is full, or was sealed. Only who has folded it knows
// how late its events are; others leave it to them.
func (s *Redis) chore(a *addition, segment uint32, begin step) {
	if a.n == none || slices.ContainsFunc(s.chores, func(c chore) bool { return c.key == a.key && c.segment == segment && c.entity == a.l.entity }) {
		return
	}
	latest := a.latest
	if fd := a.l.foldOf(a.n); fd.events.n > 0 {
		latest = max(latest, fd.events.at(a.l.ringsOf(fd), fd.events.end()-1).time)
	}
	if latest == 0 {
		return
	}
	s.chores = append(s.chores, chore{entity: a.l.entity, name: a.l.name, key: a.key, segment: segment, step: begin, latest: latest})
}

// addChores sends the next step of each chore; seals only where nothing is
// appended to logs in the same pipeline.
func (s *Redis) addChores(ctx context.Context, pipe redis.Pipeliner, seals bool) {
	for i := range s.chores {
		c := &s.chores[i]
		head := s.names.head(c.name, c.key)
		switch c.step {
		case sealing:
			if !seals {
				continue
			}
			c.sealed = pipe.Append(ctx, s.names.log(c.name, c.key, c.segment), string(appendSeal(nil)))
		case heading:
			pipe.ZAddArgs(ctx, head, redis.ZAddArgs{GT: true, Members: []redis.Z{
				{Member: firstSegment, Score: 1},
				{Member: lastSegment, Score: float64(c.segment + 1)},
				{Member: strconv.Itoa(int(c.segment)), Score: milliseconds(c.latest)},
			}})
			pipe.PExpire(ctx, head, s.headLives())
			c.head = pipe.ZRangeWithScores(ctx, head, 0, -1)
		case pruning:
			pipe.ZAddArgs(ctx, head, redis.ZAddArgs{GT: true, Members: []redis.Z{{Member: firstSegment, Score: float64(c.old[len(c.old)-1] + 1)}}})
			for _, segment := range c.old {
				pipe.Unlink(ctx, s.names.log(c.name, c.key, segment))
				pipe.ZRem(ctx, head, strconv.Itoa(int(segment)))
			}
		}
	}
}

// endChores looks at what came of the steps that were sent.
func (s *Redis) endChores(seals bool) {
	for i := range s.chores {
		switch c := &s.chores[i]; c.step {
		case sealing:
			if !seals {
				continue
			}
			s.sealed(c)
			c.step = heading
		case heading:
			c.step = finished
			if c.old = s.oldSegments(c.head.Val()); len(c.old) > 0 {
				c.step = pruning
			}
		case pruning:
			c.step = finished
		}
	}
	s.chores = slices.DeleteFunc(s.chores, func(c chore) bool { return c.step == finished })
}

// sealed moves a fold to the next segment if our seal stands right behind what
// was folded. If something stands between, it may be a seal as well: then the
// next append finds out.
func (s *Redis) sealed(c *chore) {
	at := slices.IndexFunc(s.logs, func(l *logged) bool { return l.entity == c.entity })
	if at < 0 {
		return
	}
	l := s.logs[at]
	if n, ok := l.find(c.key); ok {
		fd := l.foldOf(n)
		if fd.log == (logEnd{c.segment, uint32(c.sealed.Val()) - sealSize}) {
			fd.log = logEnd{segment: c.segment + 1}
		}
	}
}

// oldSegments are the first segments of an entity whose events have all left the
// horizon.
func (s *Redis) oldSegments(head []redis.Z) (old []uint32) {
	latest := map[uint32]float64{}
	for _, m := range head {
		if name, ok := m.Member.(string); ok {
			if n, err := strconv.ParseUint(name, 10, 32); err == nil {
				latest[uint32(n)] = m.Score
			}
		}
	}
	before := milliseconds(s.kafka.Add(-s.horizon()))
	for segment, last := headOf(head); segment < last; segment++ {
		if t, ok := latest[segment]; !ok || t >= before {
			break
		}
		old = append(old, segment)
	}
	return old
}

func milliseconds(t payment.Time) float64 { return float64(int64(t)/1e6 + 1) }
