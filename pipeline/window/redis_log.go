package window

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// addition is what one call adds to the log of one entity.
type addition struct {
	l           *logged
	key         uint64       // of the entity
	n           uint32       // its fold, which is complete up to `at`; none: nobody needs it
	at          logEnd       // up to here the log holds no seal that was not followed
	first, last int32        // of its pieces; -1: it adds nothing
	from, to    int          // what it adds, in pieces.buf
	latest      payment.Time // of the transactions that it adds
	stands      bool         // it was appended, at `at`
	refresh     bool         // expiries are set with it
	assumed     bool         // nobody has looked whether the log is empty: see redis_charges.go
	tries       int
	length      *redis.IntCmd   // of the segment, once appended
	oldest      *redis.FloatCmd // the first segment by head, where that was asked
}

// piece is an entry of an addition.
type piece struct {
	item   int32  // the transaction of the round whose entry it is; -1: e is the entry
	number uint64 // of that entry in memory
	e      entry
	next   int32 // of the same addition; -1: it was the last
}

// pieces are the pieces of all additions of a call.
type pieces struct {
	all []piece
	buf []byte
}

func (p *pieces) reset() { p.all, p.buf = p.all[:0], p.buf[:0] }

func (p *pieces) add(a *addition, what piece) {
	what.next = -1
	p.all = append(p.all, what)
	at := int32(len(p.all) - 1)
	if a.first < 0 {
		a.first = at
	} else {
		p.all[a.last].next = at
	}
	a.last = at
}

// join writes the entries of an addition one behind the other.
func (p *pieces) join(a *addition) {
	a.from = len(p.buf)
	for i := a.first; i >= 0; i = p.all[i].next {
		e := p.all[i].e
		p.buf = append(p.buf, e...)
		if e.kind() == entryTransaction {
			a.latest = max(a.latest, e.time())
		}
	}
	a.to = len(p.buf)
}

func (a *addition) bytes(p *pieces) []byte { return p.buf[a.from:a.to] }
func (a *addition) size() uint32           { return uint32(a.to - a.from) }

// position is where the addition begins in the log.
func (a *addition) position() payment.Position {
	return payment.Position{Segment: a.at.segment, Offset: uint64(a.at.offset)}
}

// limit is from which length on a segment is sealed. Long logs have longer
// segments, a 16th of what the fold has of them; nobody needs to agree on it.
func (s *Redis) limit(a *addition) uint32 {
	least := uint32(s.at.SegmentBytes)
	if a.n == none {
		return least
	}
	const entryBytes = 128 // or so
	return min(max(least, a.l.foldOf(a.n).events.n*(entryBytes/16)), 16*least)
}

// write appends additions, each contiguous, and folds what others have written
// before them. At the end each stands at its `at`, and its fold is complete up to
// there; its own pieces are not folded yet. r is the round whose transactions are
// answered where their entry is met; it may be nil.
func (s *Redis) write(ctx context.Context, r *round, p *pieces, adds []addition) (err error) {
	now := seconds32(time.Now())
	pending := s.pending[:0]
	for i := range adds {
		if a := &adds[i]; a.first >= 0 {
			p.join(a)
			pending = append(pending, a)
		}
	}
	for len(pending) > 0 {
		some := pending[:min(len(pending), commandsAtOnce)]
		pipe := s.client.Pipeline()
		s.addChores(ctx, pipe, false)
		for _, a := range some {
			s.sendAppend(ctx, pipe, a, p, now)
		}
		mark := pipe.StrLen(ctx, s.names.outages())
		if err := s.exec(ctx, pipe); err != nil {
			return err
		}
		s.endChores(false)
		if mark.Val() != s.marked {
			return errAgain // an outage was marked: folds may judge otherwise
		}
		var behind, again []*addition
		for _, a := range some {
			if a.refresh && a.n != none {
				a.l.side[a.n].refreshed = now
			}
			switch before := uint32(a.length.Val()) - a.size(); {
			case before < a.at.offset, a.oldest != nil && uint32(a.oldest.Val()) > a.at.segment:
				if err := s.beginAnew(ctx, r, a); err != nil {
					return err
				}
				again = append(again, a)
			case before == a.at.offset:
				a.stands = true
			default:
				behind = append(behind, a)
			}
		}
		if len(behind) > 0 {
			more, err := s.catchUp(ctx, r, behind)
			if err != nil {
				return err
			}
			again = append(again, more...)
		}
		for _, a := range some {
			if end := a.at.offset + a.size(); a.stands && end >= s.limit(a) {
				s.chore(a, a.at.segment, sealing)
			}
		}
		left := copy(pending, pending[len(some):])
		pending = append(pending[:left], again...)
	}
	s.pending = pending
	return nil
}

func (s *Redis) sendAppend(ctx context.Context, pipe redis.Pipeliner, a *addition, p *pieces, now uint32) {
	key := s.names.log(a.l.name, a.key, a.at.segment)
	a.length = redis.NewIntCmd(ctx, "append", key, a.bytes(p))
	_ = pipe.Process(ctx, a.length) // its error is looked at when the pipeline was sent
	a.oldest = nil
	if a.at.offset == 0 && (a.at.segment > 1 || a.assumed) {
		a.oldest = pipe.ZScore(ctx, s.names.head(a.l.name, a.key), firstSegment)
	}
	if a.refresh = a.n == none || a.at.offset == 0 || a.l.mustRefresh(a.n, now); a.refresh {
		if a.at.segment > 1 {
			pipe.PExpire(ctx, s.names.head(a.l.name, a.key), s.headLives())
		}
		pipe.PExpire(ctx, key, s.segmentLives())
	}
}

// catchUp reads what others have appended before additions that were just
// appended, and returns those that stand behind a seal and must be appended again.
func (s *Redis) catchUp(ctx context.Context, r *round, behind []*addition) (again []*addition, err error) {
	for len(behind) > 0 {
		some, bytes := behind, 0
		for i, a := range behind {
			if bytes += int(a.length.Val()) - int(a.size()) - int(a.at.offset); i > 0 && bytes > bytesAtOnce {
				some = behind[:i]
				break
			}
		}
		behind = behind[len(some):]
		more, err := s.catchUpSome(ctx, r, some)
		if err != nil {
			return nil, err
		}
		again = append(again, more...)
	}
	return again, nil
}

func (s *Redis) catchUpSome(ctx context.Context, r *round, behind []*addition) (again []*addition, err error) {
	pipe := s.client.Pipeline()
	between := make([]*redis.StringCmd, len(behind))
	for i, a := range behind {
		key := s.names.log(a.l.name, a.key, a.at.segment)
		between[i] = pipe.GetRange(ctx, key, int64(a.at.offset), a.length.Val()-int64(a.size())-1)
		a.oldest = pipe.ZScore(ctx, s.names.head(a.l.name, a.key), firstSegment)
	}
	if err := s.exec(ctx, pipe); err != nil {
		return nil, err
	}
	for i, a := range behind {
		data := bytesOf(between[i].Val())
		if want := uint32(a.length.Val()) - a.size() - a.at.offset; uint32(len(data)) != want || uint32(a.oldest.Val()) > a.at.segment {
			if err := s.beginAnew(ctx, r, a); err != nil { // it was given up by others
				return nil, err
			}
			again = append(again, a)
			continue
		}
		segment := a.at.segment
		sealed, err := s.follow(r, a, data, false)
		if err != nil {
			return nil, err
		}
		if sealed {
			s.chore(a, segment, heading)
			again = append(again, a)
			continue
		}
		a.stands = true
	}
	return again, nil
}

// beginAnew reads an entity's log once more, of which the last segment that we
// knew was given up by others.
func (s *Redis) beginAnew(ctx context.Context, r *round, a *addition) error {
	old := a.at.segment
	if a.tries++; a.tries > 3 {
		return errAgain
	}
	if a.n == none {
		if err := s.askHeads(ctx, []*addition{a}); err != nil {
			return err
		}
	} else {
		touched := a.l.side[a.n].touched
		a.n = s.begin(a.l, a.key)
		a.l.side[a.n].touched = touched
		if err := s.load(ctx, r, []*addition{a}); err != nil {
			return err
		}
	}
	if a.at.segment == old {
		s.gone = true // nobody gave it up: it was lost
		return errAgain
	}
	pipe := s.client.Pipeline()
	pipe.Unlink(ctx, s.names.log(a.l.name, a.key, old)) // what we appended there nobody reads
	return s.exec(ctx, pipe)
}

// follow takes what stands in the log behind a.at: it folds it, if there is a
// fold, and moves a.at; at a seal, to the next segment. cut tells that the data
// may end within an entry.
func (s *Redis) follow(r *round, a *addition, data []byte, cut bool) (sealed bool, err error) {
	for len(data) > 0 {
		e, rest, ok := nextEntry(data)
		if !ok && cut && len(data) < maxEntry {
			break
		}
		if !ok || len(e) > maxEntry {
			if a.n != none {
				a.l.side[a.n].trust = 0 // it has what fold.log does not say
			}
			return false, fmt.Errorf("%w: no entry at %d of %s", ErrCorrupt, a.at.offset, s.names.log(a.l.name, a.key, a.at.segment))
		}
		if e.kind() == entrySeal {
			a.at = logEnd{segment: a.at.segment + 1}
			sealed = true
			break
		}
		if a.n != none {
			s.foldEntry(r, a, e)
		}
		a.at.offset += uint32(len(e))
		data = rest
	}
	if a.n != none {
		a.l.foldOf(a.n).log = a.at
	}
	return sealed, nil
}

// foldEntry folds one entry that stands at a.at.
func (s *Redis) foldEntry(r *round, a *addition, e entry) {
	if e.kind() != entryTransaction {
		a.l.apply(a.n, e, 0)
		return
	}
	number := s.entries.hold(e)
	if at, fresh := a.l.apply(a.n, s.entries.entryAt(number), number); fresh && r != nil {
		if i, ok := r.find(e.tx()); ok {
			s.answer(r, i, a, at, a.position())
		}
	}
	s.entries.release(number)
}

// The members of a head that are no segments.
const (
	firstSegment = "first"
	lastSegment  = "last"
)

// headOf is what a head says: the first and last segment.
func headOf(members []redis.Z) (first, last uint32) {
	first, last = 1, 1
	for _, m := range members {
		switch m.Member {
		case firstSegment:
			first = uint32(m.Score)
		case lastSegment:
			last = uint32(m.Score)
		}
	}
	return first, last
}

// askHeads finds where the logs of entities end that are not to be folded.
func (s *Redis) askHeads(ctx context.Context, adds []*addition) error {
	pipe := s.client.Pipeline()
	heads := make([]*redis.ZSliceCmd, len(adds))
	for i, a := range adds {
		heads[i] = pipe.ZRangeWithScores(ctx, s.names.head(a.l.name, a.key), 0, -1)
	}
	if err := s.exec(ctx, pipe); err != nil {
		return err
	}
	for i, a := range adds {
		_, last := headOf(heads[i].Val())
		a.at = logEnd{segment: last}
	}
	return nil
}

// each calls yield for each entry of a log that is not void, in order.
func (s *Redis) each(ctx context.Context, kind string, key uint64, yield func(payment.Position, entry) bool) error {
	pipe := s.client.Pipeline()
	head := pipe.ZRangeWithScores(ctx, s.names.head(kind, key), 0, -1)
	if err := s.send(ctx, pipe); err != nil {
		return err
	}
	segment, last := headOf(head.Val())
	for ; segment <= last; segment++ {
		data, err := s.segment(ctx, kind, key, segment)
		if err != nil {
			return err
		}
		for offset := uint64(0); len(data) > 0; {
			e, rest, ok := nextEntry(data)
			if !ok {
				return fmt.Errorf("%w: no entry at %d of %s", ErrCorrupt, offset, s.names.log(kind, key, segment))
			}
			if !yield(payment.Position{Segment: segment, Offset: offset}, e) {
				return nil
			}
			if e.kind() == entrySeal {
				last = max(last, segment+1)
				break
			}
			offset += uint64(len(e))
			data = rest
		}
	}
	return nil
}

// segment reads a whole segment.
func (s *Redis) segment(ctx context.Context, kind string, key uint64, number uint32) (data []byte, err error) {
	for {
		pipe := s.client.Pipeline()
		some := pipe.GetRange(ctx, s.names.log(kind, key, number), int64(len(data)), int64(len(data))+bytesAtOnce-1)
		if err := s.send(ctx, pipe); err != nil {
			return nil, err
		}
		if data = append(data, some.Val()...); len(some.Val()) < bytesAtOnce {
			return data, nil
		}
	}
}

// Log implements Store.
func (s *Redis) Log(ctx context.Context, of Entity, key uint64, yield func(LogEntry) bool) error {
	err := s.each(ctx, of.String(), key, func(at payment.Position, e entry) bool {
		return yield(LogEntry{at, e.words()})
	})
	if err != nil {
		return s.failed("read a log", err)
	}
	return nil
}
