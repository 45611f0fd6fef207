package window

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Redis is the store that the members of a group share. The logs stand in Redis,
// one Redis or a cluster; the folds stand in the memory of each member, made of
// what it has read of the logs. Nobody leads, and nobody waits for another: the
// position of an entry is what APPEND returns.
//
// # Keys
//
// All begin with a prefix and the version of the layout, sluice:1: by default.
// Braces are the hash tags of Redis Cluster.
//
//	key                       string, 16 bytes: the secret under which identifiers are hashed
//	owner                     string: the consumer group and the topics
//	kinds                     hash: kind of entity -> event time in ns from which on its logs are
//	                          whole; "KIND verdicts": from which on they hold verdicts; "horizon":
//	                          how long logs are kept, in ns
//	log:{KIND:KEY}:SEGMENT    string: entries as in entry.go, back to back. KEY is the entity's hash,
//	                          16 hexadecimal digits. Those of a charge carry the ids of their
//	                          transactions
//	head:{KIND:KEY}           sorted set: "first" and "last" with the numbers of those segments, and the
//	                          number of each sealed one with its latest event time in ms. Absent while
//	                          there is only segment 1; none of its scores ever shrinks
//	tx:{HASH}                 string: the transaction's entry, and its id as text. HASH is 32
//	                          hexadecimal digits
//	parked:{HASH}             list: the outcomes that wait for the transaction, as P entries
//	waiting                   sorted set: the HASHes that have such a list, by when the first came, in ms
//	seen:IDENTITY             string: this outcome was there
//	dec:HASH                  string: the first decision on a transaction
//	outages                   string: A entries, back to back
//	progress                  hash: partition -> event time noted in ns, caught up or not, when in ms
//
// # Appending
//
// A call is two round trips. In the first, each touched entity's log gets one
// APPEND with all that the call adds to it. If the length that comes back is what
// this member had folded plus what it appended, nobody else has written, and the
// fold is complete. Otherwise what lies between is read, in one more round trip,
// and folded first. Nothing beyond one's own entries is looked at. In the last
// round trip, while the fold is computed, the transaction's entry is put under
// tx: only now, because who finds it there relies on its entries standing in all
// logs.
//
// An entity that is not in memory is read before: its head and its segments.
//
// # Segments
//
// Who sees a segment longer than a limit appends a seal (entry S). If several do,
// the first seal counts, and so for whatever stands behind it: it is void. A
// writer learns that from the length: somebody has written in between, so it
// reads that, meets the seal, and appends its bytes again, to the next segment.
// Then head is moved to the new segment, and only then are old ones given up. Who
// dies before has left a seal without a head: the next one who reads or appends
// meets the seal and goes on from there.
//
// # A position never means two things
//
// A position is a segment and an offset. Bytes of a string that is only ever
// appended to do not change, so it could mean something else only if the
// segment's key went away and came back.
//
//   - Segments are taken away (UNLINK) only from the first on, never the last, and
//     when their latest event is older than the horizon. Before, head says that
//     they are gone, so that nobody who asks head appends to them. Who does not
//     ask, because he has folded a part of that segment, finds that the length
//     that comes back is shorter than what he knows. Who is about to append the
//     first entry of a segment looks at head right behind. Both begin anew, with
//     head, and what they appended stands in a segment that nobody reads.
//   - Everything else goes away by expiry, and only of an entity that nobody has
//     written to for longer than the horizon. head is given a longer time than
//     the last segment, by slack, and always before it, so it goes last. When it
//     is gone nothing of the entity is left, and it begins anew with segment 1.
//   - A member that still has a fold from before does not trust it: a fold is
//     used for appending only for as long as the keys certainly live, counted
//     from when this member itself last set their expiry. So the length cannot be
//     right by chance.
//
// # Failures
//
// When a command fails or times out, its bytes may stand in the log or not. The
// call returns an error, the folds of all entities it touched are dropped, and
// made again from the logs when they are needed. The items come again; of those
// that stand in a log already the first entry counts.
//
// When a server was replaced (see nodes), all folds are dropped.
type Redis struct {
	opts   Options
	at     RedisOptions
	client redis.UniversalClient
	where  *redisAddress
	names  names
	nodes  *nodes
	turns  turns

	written atomic.Uint64 // calls that were acknowledged

	mu      sync.Mutex // guards everything below; held for one call with its round trips
	key     Key
	broken  error // why the store can never be used again
	doubt   bool  // something has failed since all nodes were asked
	asked   time.Time
	changes uint64 // of nodes, that were seen
	memory
	logs    []*logged // what memory.folders work on, in the same order
	ours    int       // of these, those that our features look at; they come first
	entries entries
	kinds   kindsKept
	outages outages
	marked  int64           // bytes of the key outages that were read
	parked  map[TxHash]bool // transactions for which outcomes may wait, as far as we know
	kafka   payment.Time    // newest Kafka time that was seen
	chores  []chore
	round   round       // scratch of Append
	pending []*addition // scratch of write
	loaded  int64
	evicted int64
	lost    int64
}

var _ Store = (*Redis)(nil)

// logged is a kind of entity whose logs are written.
type logged struct {
	*folder
	name  string // of the kind
	kind  int    // its place among Redis.logs
	place int    // among Store.Entities; -1: only features of other members look at it
	side  []side // by the number of the fold
}

// side is what this store notes of a fold, beside it.
type side struct {
	refreshed uint32 // when we last set the expiry of its last segment, in s since 1970; 0: never
	touched   uint32 // 1 + its place among the additions of this round; 0: none
}

// OpenRedis connects to a store, and makes it if there is none. The error says
// what is wrong with the address, the password or the server; it is ErrOwner if
// the store belongs to another group.
func OpenRedis(ctx context.Context, at RedisOptions, opts Options) (*Redis, error) {
	opts.fillDefaults()
	at.fillDefaults()
	where, err := parseRedisURL(at.URL)
	if err != nil {
		return nil, err
	}
	s := &Redis{opts: opts, at: at, where: &where, names: namesOf(at.Prefix), nodes: &nodes{}, parked: map[TxHash]bool{}}
	if s.client, err = at.connect(&where, s.nodes); err != nil {
		return nil, fmt.Errorf("store %s: %w", &where, err)
	}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(s.failed("open", err), s.client.Close())
	}
	return s, nil
}

func (s *Redis) open(ctx context.Context) error {
	if err := checkServer(ctx, s.client, s.where); err != nil {
		return err
	}
	if err := s.nodes.askAll(ctx, s.client); err != nil {
		return err
	}
	s.changes, s.asked = s.nodes.changed(), time.Now()
	fresh, err := newKey()
	if err != nil {
		return err
	}
	if s.key, err = s.claimKey(ctx, fresh); err != nil {
		return err
	}
	if err := s.checkOwner(ctx); err != nil {
		return err
	}
	if err := s.readOutages(ctx); err != nil {
		return err
	}
	if err := s.readWaiting(ctx); err != nil {
		return err
	}
	return s.use(ctx, s.opts.Features)
}

// use begins with empty folds for these features.
func (s *Redis) use(ctx context.Context, features []Feature) error {
	if err := s.kinds.read(ctx, s); err != nil {
		return err
	}
	s.opts.Features = features
	s.useGroups(newGroups(features, s.opts.Keep))
	if !s.kinds.begun() && !s.opts.ReadOnly {
		return s.announce(ctx, newKind)
	}
	return nil
}

// claimKey returns the key of the store, which is this one if it had none.
func (s *Redis) claimKey(ctx context.Context, key Key) (Key, error) {
	if !s.opts.ReadOnly {
		if err := s.client.SetNX(ctx, s.names.key(), key.bytes(), 0).Err(); err != nil {
			return Key{}, err
		}
	}
	b, err := s.client.Get(ctx, s.names.key()).Bytes()
	if errors.Is(err, redis.Nil) {
		return Key{}, fmt.Errorf("there is no store with the prefix %q", s.at.Prefix)
	}
	if err != nil {
		return Key{}, err
	}
	if len(b) != 16 {
		return Key{}, fmt.Errorf("%w: %s has %d bytes, not 16", ErrCorrupt, s.names.key(), len(b))
	}
	return keyOf(b), nil
}

func (s *Redis) checkOwner(ctx context.Context) error {
	if s.opts.Owner == "" || s.opts.ReadOnly {
		return nil
	}
	if err := s.client.SetNX(ctx, s.names.owner(), s.opts.Owner, 0).Err(); err != nil {
		return err
	}
	owner, err := s.client.Get(ctx, s.names.owner()).Result()
	if err == nil && owner != s.opts.Owner {
		err = fmt.Errorf("%w: %q; another prefix makes another store", ErrOwner, owner)
	}
	return err
}

// failed says what of which store has failed.
func (s *Redis) failed(what string, err error) error {
	return fmt.Errorf("store %s: %s: %w", s.where, what, explain(err, s.where))
}

// errAgain ends a call whose folds are worth nothing: see renew.
var errAgain = errors.New("the logs are not what was folded")

// change runs an operation that changes the store, to its end.
func (s *Redis) change(ctx context.Context, what string, operation func(context.Context) error) error {
	if s.opts.ReadOnly {
		return ErrReadOnly
	}
	if err := s.do(context.WithoutCancel(ctx), what, operation); err != nil {
		return err
	}
	s.written.Add(1)
	return nil
}

// do runs an operation alone, once more where folds turn out to be worth nothing.
func (s *Redis) do(ctx context.Context, what string, operation func(context.Context) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.failed(what, s.broken)
	}
	err := s.checkNodes(ctx)
	if err == nil {
		err = operation(ctx)
	}
	for tries := 0; errors.Is(err, errAgain) && tries < 3; tries++ {
		if err = s.renew(ctx); err == nil {
			err = operation(ctx)
		}
	}
	s.shrinkAll()
	if err != nil {
		s.doubt = true
		return s.failed(what, err)
	}
	return nil
}

// checkNodes asks all masters who they are, now and then and after each failure.
func (s *Redis) checkNodes(ctx context.Context) error {
	if s.doubt || time.Since(s.asked) > checkNodesEvery {
		if err := s.nodes.askAll(ctx, s.client); err != nil {
			return err
		}
		s.doubt, s.asked = false, time.Now()
	}
	if s.nodes.changed() != s.changes {
		return s.renew(ctx)
	}
	return nil
}

// renew drops all folds, and looks whether the store is still the same.
func (s *Redis) renew(ctx context.Context) error {
	if changes := s.nodes.changed(); changes != s.changes {
		s.changes = changes
		s.lost++
	}
	s.useGroups(s.groups()[:s.ours])
	key, err := s.claimKey(ctx, s.key)
	if err != nil {
		return err
	}
	if key != s.key {
		s.broken = errors.New("another store stands there now, with another key: start again")
		return s.broken
	}
	if err := s.checkOwner(ctx); err != nil {
		return err
	}
	if err := s.readOutages(ctx); err != nil {
		return err
	}
	s.kinds.at = time.Time{}
	return nil
}

// exec sends a pipeline. The error is errAgain if a server was replaced meanwhile.
func (s *Redis) exec(ctx context.Context, p redis.Pipeliner) error {
	err := s.send(ctx, p)
	if err == nil && s.nodes.changed() != s.changes {
		err = errAgain
	}
	return err
}

// send sends a pipeline and looks at the error of each command.
func (s *Redis) send(ctx context.Context, p redis.Pipeliner) error {
	if p.Len() == 0 {
		return nil
	}
	cmds, err := p.Exec(ctx)
	for _, cmd := range cmds {
		if e := cmd.Err(); e != nil && !errors.Is(e, redis.Nil) {
			return e
		}
	}
	if errors.Is(err, redis.Nil) {
		err = nil
	}
	return err
}

// useGroups begins with empty folds for these groups, and for the other kinds
// whose logs are to be written.
func (s *Redis) useGroups(groups []*group) {
	s.memory, s.entries, s.logs, s.ours = memory{}, entries{}, nil, len(groups)
	add := func(g *group, place int) {
		f := s.newFolder(g, &s.entries, s.key, &s.outages, &s.opts)
		s.folders = append(s.folders, f)
		s.logs = append(s.logs, &logged{folder: f, name: g.entity.String(), kind: len(s.logs), place: place})
	}
	for i, g := range groups {
		add(g, i)
	}
	for _, e := range s.kinds.others(groups) {
		add(&group{entity: e}, -1)
	}
}

// begin makes an empty fold.
func (l *logged) begin(key uint64) uint32 {
	n := l.folder.begin(key)
	for int(n) >= len(l.side) {
		l.side = append(l.side, side{})
	}
	l.side[n] = side{}
	return n
}

// give up a fold of which it is unknown whether it is what the log says.
func (l *logged) giveUp(n uint32, key uint64) {
	l.side[n].touched = 0
	if l.foldOf(n).key == key {
		l.evict(n)
	}
}

// horizon is how long logs are kept: as long as any member needs them.
func (s *Redis) horizon() time.Duration {
	return max(s.reach(), s.opts.Keep, s.kinds.reach) + s.opts.Lateness + slack
}

// Expiry times: see "A position never means two things".
func (s *Redis) segmentLives() time.Duration { return s.horizon() + 2*slack }
func (s *Redis) headLives() time.Duration    { return s.horizon() + 3*slack }

const refreshEvery = slack / 2

// trusted tells whether the keys of a fold certainly live: we have set their
// expiry not too long ago, and its events are not so old that others may have
// given up their segment.
func (s *Redis) trusted(l *logged, n uint32, now uint32) bool {
	if now-l.side[n].refreshed >= uint32((s.horizon()+slack)/time.Second) {
		return false
	}
	fd := l.foldOf(n)
	return fd.events.n > 0 && fd.events.at(l.ringsOf(fd), fd.events.end()-1).time > s.kafka.Add(slack/2-s.horizon())
}

func (l *logged) mustRefresh(n uint32, now uint32) bool {
	return now-l.side[n].refreshed > uint32(refreshEvery/time.Second)
}

func seconds32(t time.Time) uint32 { return uint32(t.Unix()) }

// shrinkAll keeps folds and entries within the memory that was given. Entries
// go with the folds that hold them.
func (s *Redis) shrinkAll() {
	for s.bytes()+s.entries.bytes() > s.opts.Memory {
		n := s.shrink(s.bytes() - s.bytes()/16)
		s.evicted += int64(n)
		if n == 0 {
			return
		}
	}
}

// Use implements Store.
func (s *Redis) Use(ctx context.Context, features []Feature) error {
	return s.do(ctx, "use other features", func(context.Context) error { return s.use(ctx, features) })
}

// Since implements Store.
func (s *Redis) Since(of Entity) payment.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	since, ok := s.kinds.since[of.String()]
	if !ok {
		return maxTime
	}
	for _, l := range s.logs[:s.ours] {
		if l.entity == of && len(l.byVerdict) > 0 {
			verdicts, ok := s.kinds.since[of.String()+verdictsOf]
			if !ok {
				return maxTime
			}
			since = max(since, verdicts)
		}
	}
	if s.kafka != 0 {
		since = max(since, s.kafka.Add(-s.horizon()))
	}
	return since
}

// Key implements Store.
func (s *Redis) Key() Key { return s.key } // never changes once the store is open

// Entities implements Store.
func (s *Redis) Entities() []Entity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.memory.kinds()[:s.ours]
}

// ReadsVerdicts implements Store.
func (s *Redis) ReadsVerdicts() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.readsVerdicts()
}

// Written implements Store; it counts calls.
func (s *Redis) Written() uint64 { return s.written.Load() }

// Durable implements Store. What Redis has acknowledged is as durable as Redis is
// configured to be.
func (s *Redis) Durable() uint64 { return s.written.Load() }

// Lost counts how often a server was replaced, so that something may have been
// lost that it had acknowledged.
func (s *Redis) Lost() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// Size implements Store.
func (s *Redis) Size() Size {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Size{FoldBytes: s.bytes() + s.entries.bytes(), Entities: s.memory.entities(), Evicted: s.evicted, Loaded: s.loaded, LogBytes: s.entries.units * entryUnit}
}

// Holds implements Store.
func (s *Redis) Holds(ctx context.Context, h TxHash) (bool, error) {
	n, err := s.client.Exists(ctx, s.names.tx(h)).Result()
	if err != nil {
		return false, s.failed("look for a transaction", err)
	}
	return n > 0, nil
}

// Earlier implements Store. The decisions themselves are in the store: see First.
func (s *Redis) Earlier(TxHash) (Mark, bool) { return Mark{}, false }

// Close implements Store. The logs stay.
func (s *Redis) Close() error { return s.client.Close() }
