package window

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
//	probe:N                   string: was written to see whether a master takes writes; lives a minute
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
// When a command fails or times out, its bytes may stand in the log or not, now or
// later: a server that was stopped may still do what it was told long ago. To us
// that is another member who writes. A fold is at any time what the log says up to
// fold.log, since its entries are folded in the order in which they were read, and
// our own only once they stand; so a call that fails leaves its folds as they are.
// The items come again; of those that stand in a log already, the first entry
// counts. A fold that was only half read is given up, and the one before it stays.
//
// The first failure opens the breaker (breaker.go, redis_away.go). While it is
// open every call fails at once with ErrAway, and Peek goes on with what is in
// memory (peek.go).
//
// When a server was replaced (see nodes), or keys are gone, no fold is trusted any
// more, and each is made again when it is needed; until then Peek may look at it.
//
// # Locks
//
// calls is held for one call with all its round trips, so that what one call adds
// to a log is contiguous in this member's view. mu guards memory and is given up
// for each round trip (see exec): so Peek, and what only reads memory, waits for
// no server, but at most for what a call computes between two of them. During a
// round trip others may look at folds, and copy them; only the holder of calls
// changes or evicts them.
type Redis struct {
	opts   Options
	at     RedisOptions
	client redis.UniversalClient
	where  *redisAddress
	names  names
	nodes  *nodes
	turns  turns
	// patience is how long a round trip may take.
	patience time.Duration
	breaker  *breaker
	key      Key // never changes once the store is open

	written  atomic.Uint64 // calls that were acknowledged
	vanished atomic.Uint64 // how often keys were gone that the same servers had

	calls chan struct{} // holds one while a call is under way
	mu    sync.Mutex    // guards everything below: see Locks

	broken  error // why the store can never be used again
	doubt   bool  // something has failed since all nodes were asked
	gone    bool  // keys are, that nobody has given up
	asked   time.Time
	begun   uint64 // changes of nodes when the store was opened
	changes uint64 // of nodes, that were seen
	trust   uint32 // folds that were made under another number are not trusted
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
	peeked  []byte // scratch of Peek
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
	trust     uint32 // Redis.trust when it was made
	loading   bool   // it is being read, and shown to nobody
	before    uint32 // while it is: 1 + the number of the fold that it will replace; 0: there is none
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
	s := &Redis{opts: opts, at: at, where: &where, names: namesOf(at.Prefix), nodes: &nodes{clustered: where.cluster}, parked: map[TxHash]bool{},
		calls: make(chan struct{}, 1), patience: max(at.Timeout, opening), trust: 1}
	s.breaker = newBreaker(s.probe, opts.OnHealth)
	if s.client, err = at.connect(&where, s.nodes); err != nil {
		return nil, fmt.Errorf("store %s: %w", &where, err)
	}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(s.failed("open", err), s.Close())
	}
	if !opts.ReadOnly { // else no payment waits for it
		s.patience = at.Timeout
	}
	return s, nil
}

func (s *Redis) open(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.ask(ctx, func(ctx context.Context) error {
		if err := checkServer(ctx, s.client, s.where); err != nil {
			return err
		}
		return s.nodes.askAll(ctx, s.client)
	})
	if err != nil {
		return err
	}
	s.begun, s.asked = s.nodes.changed(), time.Now()
	s.changes = s.begun
	fresh, err := newKey()
	if err != nil {
		return err
	}
	if s.key, _, err = s.claimKey(ctx, fresh); err != nil {
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

// claimKey returns the key of the store, which is this one if it had none: then
// made is true.
func (s *Redis) claimKey(ctx context.Context, key Key) (_ Key, made bool, err error) {
	pipe := s.client.Pipeline()
	var set *redis.BoolCmd
	if !s.opts.ReadOnly {
		set = pipe.SetNX(ctx, s.names.key(), key.bytes(), 0)
	}
	get := pipe.Get(ctx, s.names.key())
	if err := s.trip(ctx, pipe); err != nil {
		return Key{}, false, err
	}
	b, err := get.Bytes()
	if errors.Is(err, redis.Nil) {
		return Key{}, false, fmt.Errorf("there is no store with the prefix %q", s.at.Prefix)
	}
	if err != nil {
		return Key{}, false, err
	}
	if len(b) != 16 {
		return Key{}, false, fmt.Errorf("%w: %s has %d bytes, not 16", ErrCorrupt, s.names.key(), len(b))
	}
	return keyOf(b), set != nil && set.Val(), nil
}

func (s *Redis) checkOwner(ctx context.Context) error {
	if s.opts.Owner == "" || s.opts.ReadOnly {
		return nil
	}
	pipe := s.client.Pipeline()
	pipe.SetNX(ctx, s.names.owner(), s.opts.Owner, 0)
	owner := pipe.Get(ctx, s.names.owner())
	if err := s.trip(ctx, pipe); err != nil {
		return err
	}
	if owner.Val() != s.opts.Owner {
		return fmt.Errorf("%w: %q; another prefix makes another store", ErrOwner, owner.Val())
	}
	return nil
}

// failed says what of which store has failed.
func (s *Redis) failed(what string, err error) error {
	return fmt.Errorf("store %s: %s: %w", s.where, what, err)
}

// errAgain ends a call whose folds are worth nothing: see renew.
var errAgain = errors.New("the logs are not what was folded")

// change runs an operation that changes the store, to its end.
func (s *Redis) change(ctx context.Context, what string, operation func(context.Context) error) error {
	if s.opts.ReadOnly {
		return ErrReadOnly
	}
	if err := s.do(ctx, what, operation); err != nil {
		return err
	}
	s.written.Add(1)
	return nil
}

// do runs an operation alone, once more where folds turn out to be worth nothing.
// The caller's patience ends its waiting for its turn; what has begun is carried
// out, and bounded by what each round trip may take.
func (s *Redis) do(ctx context.Context, what string, operation func(context.Context) error) error {
	if err := s.breaker.check(); err != nil {
		return s.failed(what, err)
	}
	select {
	case s.calls <- struct{}{}:
		defer func() { <-s.calls }()
	case <-ctx.Done():
		return s.failed(what, overdue(ctx))
	}
	ctx = context.WithoutCancel(ctx)
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
	if errors.Is(err, errAgain) {
		err = away(err) // it goes on changing under our hands
	}
	s.shrinkAll()
	if err != nil {
		s.doubt = true
		return s.failed(what, err)
	}
	s.dropGuesses()
	return nil
}

// checkNodes asks all masters who they are, now and then and after each failure,
// and whether the store is still there.
func (s *Redis) checkNodes(ctx context.Context) error {
	if s.doubt || time.Since(s.asked) > checkNodesEvery {
		if err := s.ask(ctx, func(ctx context.Context) error { return s.nodes.askAll(ctx, s.client) }); err != nil {
			return err
		}
		pipe := s.client.Pipeline()
		there := pipe.Exists(ctx, s.names.key())
		if err := s.trip(ctx, pipe); err != nil {
			return err
		}
		s.gone = there.Val() == 0
		s.doubt, s.asked = false, time.Now()
	}
	if s.gone || s.nodes.changed() != s.changes {
		return s.renew(ctx)
	}
	return nil
}

// renew trusts no fold any more, and looks whether the store is still the same.
// What it has found counts only once all of it was found: a call that fails on the
// way begins again here.
func (s *Redis) renew(ctx context.Context) error {
	changes, outages := s.nodes.changed(), s.outages.list
	key, made, err := s.claimKey(ctx, s.key)
	if err != nil {
		return err
	}
	if key != s.key {
		s.broken = ErrReplaced
		return s.broken
	}
	if err := s.checkOwner(ctx); err != nil {
		if errors.Is(err, ErrOwner) {
			s.broken = err
		}
		return err
	}
	if err := s.readOutages(ctx); err != nil {
		return err
	}
	if changes != s.changes || made || s.gone {
		s.chores = nil // of logs that may be gone; whoever meets a seal takes them up
	}
	if (made || s.gone) && changes == s.changes {
		s.vanished.Add(1)
	}
	s.changes, s.gone = changes, false
	s.trust++
	if !slices.Equal(outages, s.outages.list) { // folds take away by the outages by which they added
		s.useGroups(s.groups()[:s.ours])
	}
	s.kinds.at = time.Time{}
	return nil
}

// exec is trip for what rests on folds: the error is errAgain if a server was
// replaced meanwhile.
func (s *Redis) exec(ctx context.Context, p redis.Pipeliner) error {
	err := s.trip(ctx, p)
	if err == nil && s.nodes.changed() != s.changes {
		err = errAgain
	}
	return err
}

// trip sends a pipeline, and gives up mu until the answers are there.
func (s *Redis) trip(ctx context.Context, p redis.Pipeliner) error {
	s.mu.Unlock()
	defer s.mu.Lock()
	return s.send(ctx, p)
}

// ask is trip for what is no pipeline.
func (s *Redis) ask(ctx context.Context, what func(context.Context) error) error {
	s.mu.Unlock()
	defer s.mu.Lock()
	return s.attempt(ctx, what)
}

// yield lets those go on who wait for mu, between two steps of a long computation.
func (s *Redis) yield() {
	s.mu.Unlock()
	s.mu.Lock()
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

// horizon is how long logs are kept: as long as any member needs them.
func (s *Redis) horizon() time.Duration {
	return max(s.reach(), s.opts.Keep, s.kinds.reach) + s.opts.Lateness + slack
}

// Expiry times: see "A position never means two things".
func (s *Redis) segmentLives() time.Duration { return s.horizon() + 2*slack }
func (s *Redis) headLives() time.Duration    { return s.horizon() + 3*slack }

const refreshEvery = slack / 2

// trusted tells whether a fold is what its log says, and the keys of that certainly
// live: no server was replaced since it was made, we have set their expiry not too long ago, and its events are not so old that others may have
// given up their segment.
func (s *Redis) trusted(l *logged, n uint32, now uint32) bool {
	if l.side[n].trust != s.trust || now-l.side[n].refreshed >= uint32((s.horizon()+slack)/time.Second) {
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
func (s *Redis) Key() Key { return s.key }

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

// Epoch implements Store. It grows as soon as a server is known to be another one:
// with the probe that ends an outage, or with the first answer of a new
// connection. A master that joins a cluster is taken for one that was replaced.
func (s *Redis) Epoch() uint64 { return 1 + uint64(s.Lost()) }

// Lost counts how often a server was replaced, or keys were gone, so that something
// may have been lost that was acknowledged.
func (s *Redis) Lost() int64 {
	return int64(s.nodes.changed() - s.begun + s.vanished.Load())
}

// Health implements Store.
func (s *Redis) Health() Health { return s.breaker.state() }

// Back implements Store.
func (s *Redis) Back() <-chan struct{} { return s.breaker.whenBack() }

// Incarnation implements Store.
func (s *Redis) Incarnation() string { return s.nodes.incarnation() }

// Size implements Store.
func (s *Redis) Size() Size {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Size{FoldBytes: s.bytes() + s.entries.bytes(), Entities: s.memory.entities(), Evicted: s.evicted, Loaded: s.loaded, LogBytes: s.entries.units * entryUnit}
}

// Holds implements Store.
func (s *Redis) Holds(ctx context.Context, h TxHash) (bool, error) {
	pipe := s.client.Pipeline()
	there := pipe.Exists(ctx, s.names.tx(h))
	if err := s.send(ctx, pipe); err != nil {
		return false, s.failed("look for a transaction", err)
	}
	return there.Val() > 0, nil
}

// Earlier implements Store. The decisions themselves are in the store: see First.
func (s *Redis) Earlier(TxHash) (Mark, bool) { return Mark{}, false }

// Close implements Store. The logs stay. What is under way fails.
func (s *Redis) Close() error {
	err := s.client.Close()
	s.breaker.end()
	return err
}
