package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// Three members share one group and one Redis. Payments and outcomes of eight
// partitions name the same cards, devices, addresses, payers and payees, while
// members are killed without warning, leave and join. Then, from the logs in
// Redis and the topics alone: each payment has one verdict, whatever was repeated
// on the way; it stands in the log of each of its entities, with its outcomes;
// and every value of every decision is what its definition says of the log up to
// the position that the decision names.
//
// SLUICE_TEST_MEMBERS is the number of payments, 100000 by default.
func TestMembersShareOneTruth(t *testing.T) {
	if testing.Short() {
		t.Skip("takes more than a minute")
	}
	size := 100_000
	if text := os.Getenv("SLUICE_TEST_MEMBERS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("SLUICE_TEST_MEMBERS: %v", err)
		}
		size = n
	}
	shareOneTruth(t, "SLUICE_TEST_REDIS", size, max(shockKinds, size/16_000))
}

// The same on a Redis Cluster, with fewer payments.
func TestMembersShareOneTruthOnRedisCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a quarter of a minute")
	}
	shareOneTruth(t, "SLUICE_TEST_REDIS_CLUSTER", 10_000, shockKinds)
}

func shareOneTruth(t *testing.T, redisEnv string, size, shocks int) {
	rng := rand.New(rand.NewPCG(sharedSeed, 1))
	c := newCrew(t, redisEnv)
	for range 3 {
		c.join()
	}
	feed := newSharedFeed(c, size, shocks+1)
	began := time.Now()
	var order []int
	for n := range shocks {
		feed.allow(size / shocks)
		c.awaitDecided(int64(n*size/shocks) + rng.Int64N(int64(size/shocks)))
		if n%shockKinds == 0 {
			order = rng.Perm(shockKinds)
		}
		c.shock(rng, order[n%shockKinds])
	}
	feed.allow(size)
	if err := feed.done(); err != nil {
		t.Fatal(err)
	}
	c.settled(90 * time.Second)
	t.Logf("seed %d: %d payments in %v; %d kills, %d of them while payments were undecided, %d members left and %d joined",
		sharedSeed, size, time.Since(began).Round(100*time.Millisecond), c.kills, c.busy, c.left, c.joined)
	if c.busy < min(3, c.kills) || c.kills == 0 {
		t.Errorf("only %d of %d kills came while payments were undecided: the test proves little", c.busy, c.kills)
	}
	for _, p := range c.members {
		p.drain(15 * time.Second)
	}
	checked := time.Now()
	c.check(t)
	t.Logf("checked in %v", time.Since(checked).Round(100*time.Millisecond))
}

// crew is the members of a group that share a store.
type crew struct {
	*gate
	client  *kafka.Client
	redis   redis.UniversalClient
	store   string // its address
	prefix  string
	members []*process
	kills   int
	busy    int // of kills
	left    int
	joined  int
}

const crewPartitions = 8

func newCrew(t testing.TB, redisEnv string) *crew {
	t.Helper()
	addresses := fromEnv(t, redisEnv)
	prefix := fmt.Sprintf("test-members-%d", time.Now().UnixNano())
	g := bareGate(t, sharedRuleset(t), "redis: {prefix: "+prefix+", timeout: 5s}\n")
	c := &crew{gate: g, store: "redis://" + addresses, prefix: prefix}
	c.client = &kafka.Client{Addr: kafka.TCP(g.addr), Timeout: 10 * time.Second}
	c.redis = connectRedis(t, addresses, prefix)
	var topics []broker.Topic
	for _, name := range g.topics() {
		topics = append(topics, broker.Topic{Name: name, Partitions: crewPartitions, Replication: 1})
	}
	if err := g.conn.EnsureTopics(g.within(30*time.Second), topics, true); err != nil {
		t.Fatal(err)
	}
	return c
}

// join starts one more member.
func (c *crew) join() {
	c.joined++
	c.members = append(c.members, start(c.t, nil, "run", "--config", c.file, "--store", c.store, "--evidence", "all"))
}

// take takes a member from the crew.
func (c *crew) take(rng *rand.Rand) *process {
	i := rng.IntN(len(c.members))
	p := c.members[i]
	c.members = slices.Delete(c.members, i, i+1)
	return p
}

const shockKinds = 5

// shock changes who works, in one of five ways.
func (c *crew) shock(rng *rand.Rand, kind int) {
	some := func() time.Duration { return time.Duration(rng.Int64N(int64(1500 * time.Millisecond))) }
	switch kind {
	case 0: // one dies and comes back at once
		c.kill(rng)
		c.join()
	case 1: // one dies, and the others go on without
		c.kill(rng)
		c.members[0].pause(2*time.Second + some())
		c.join()
	case 2: // two die, one of them maybe before it has decided anything
		c.kill(rng)
		c.join()
		c.members[0].pause(some())
		c.kill(rng)
		c.join()
	case 3: // one leaves as it should, and another comes
		c.left++
		c.take(rng).drain(25 * time.Second)
		c.join()
	default: // a fourth comes and another one dies
		c.join()
		c.members[len(c.members)-1].says("msg=deciding")
		c.kill(rng)
	}
}

func (c *crew) kill(rng *rand.Rand) {
	if c.kills++; c.undecided() > 0 {
		c.busy++
	}
	c.take(rng).kill()
}

// undecided is how many records of payments are not committed.
func (c *crew) undecided() (n int64) {
	ends, committed := c.endsOf(c.transactions()), c.committedOf(c.transactions())
	for p := range ends {
		n += ends[p] - max(0, committed[p])
	}
	return n
}

// awaitDecided waits until there are so many decisions.
func (c *crew) awaitDecided(n int64) {
	c.t.Helper()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) { // Kafka tells nobody
		sum := int64(0)
		for _, end := range c.endsOf(c.decisions()) {
			sum += end
		}
		if sum >= n {
			return
		}
		if time.Since(began) > time.Minute {
			c.t.Fatalf("%d of %d decisions after a minute", sum, n)
		}
	}
}

// settled waits until all input is committed.
func (c *crew) settled(within time.Duration) {
	c.t.Helper()
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) { // Kafka tells nobody
		left := c.undecided()
		ends, committed := c.endsOf(c.outcomes()), c.committedOf(c.outcomes())
		for p := range ends {
			left += ends[p] - max(0, committed[p])
		}
		if left == 0 {
			return
		}
		if time.Since(began) > within {
			c.t.Fatalf("%d records are not settled after %v", left, within)
		}
	}
}

func (c *crew) endsOf(topic string) (ends [crewPartitions]int64) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ranges, err := c.conn.TopicOffsets(ctx, topic)
	if err != nil {
		c.t.Fatal(err)
	}
	for p, r := range ranges {
		ends[p] = r.End
	}
	return ends
}

// committedOf is what the group has committed; a coordinator that is busy with
// its members is asked again.
func (c *crew) committedOf(topic string) (offsets [crewPartitions]int64) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	asked := map[string][]int{topic: {0, 1, 2, 3, 4, 5, 6, 7}}
	for ; ; time.Sleep(10 * time.Millisecond) {
		res, err := c.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: c.name, Topics: asked})
		if err == nil {
			err = res.Error
		}
		if err == nil {
			for _, p := range res.Topics[topic] {
				offsets[p.Partition] = p.CommittedOffset
			}
			return offsets
		}
		if ctx.Err() != nil {
			c.t.Fatal(err)
		}
	}
}

// each visits every record of a topic as it is now.
func (c *crew) each(topic string, visit func(broker.Record)) {
	c.t.Helper()
	ctx := c.within(2 * time.Minute)
	ranges, err := c.conn.TopicOffsets(ctx, topic)
	if err != nil {
		c.t.Fatal(err)
	}
	for p, r := range ranges {
		_, err := c.conn.ReadRange(ctx, topic, p, r.First, r.End, func(r broker.Record) error {
			r.Partition = p
			visit(r)
			return nil
		})
		if err != nil {
			c.t.Fatal(err)
		}
	}
}

// storeKey is the secret under which the store hashes identifiers.
func (c *crew) storeKey() window.Key {
	c.t.Helper()
	s, err := window.OpenRedis(c.within(30*time.Second), window.RedisOptions{URL: c.store, Prefix: c.prefix, Timeout: 10 * time.Second}, window.Options{})
	if err != nil {
		c.t.Fatal(err)
	}
	key := s.Key()
	if err := s.Close(); err != nil {
		c.t.Fatal(err)
	}
	return key
}

// check holds the topics and the logs against each other.
func (c *crew) check(t *testing.T) {
	t.Helper()
	s := &said{byID: map[string]*sentTx{}, oracle: newOracle()}
	c.readSent(t, s)
	c.readDecisions(t, s)
	invalid := 0
	for id, x := range s.byID {
		if x.said == nil {
			t.Fatalf("transaction %s has no decision", id)
		}
		if x.invalid {
			invalid++
		}
	}
	t.Logf("%d transactions, %d of them invalid, one verdict each; %d repeated byte for byte; %d records refused", len(s.byID), invalid, s.repeats, s.refused)
	if s.repeats < len(s.byID)/200 || invalid == 0 {
		t.Errorf("%d repeats and %d invalid ones: the test proves little", s.repeats, invalid)
	}
	logs, err := readLogs(c.within(2*time.Minute), c.redis, c.prefix)
	if err != nil {
		t.Fatal(err)
	}
	s.checkLogs(t, logs)
	s.checkValues(t, logs)
	s.checkDuplicates(t, logs)
}

// checkLogs: a transaction stands in the logs of its entities, as it was sent,
// with each of its outcomes, and nothing else stands there.
func (s *said) checkLogs(t *testing.T, logs map[string]*entityLog) {
	t.Helper()
	entries, again, retold, orphans, segments, outcomes := 0, 0, 0, 0, 0, 0
	for _, l := range logs {
		entries, again, retold, orphans, segments = entries+len(l.events), again+l.again, retold+l.retold, orphans+l.orphans, max(segments, l.segments)
		for i := range l.events {
			outcomes += len(l.events[i].outcomes)
		}
	}
	expected, wrong := 0, 0
	for id, x := range s.byID {
		for k, kind := range loggedKinds() {
			if x.keys[k] == 0 {
				continue
			}
			expected++
			l := logs[logName(kind, x.keys[k])]
			if l == nil {
				t.Fatalf("%s %s has no log", kind, x.ids[k])
			}
			i, ok := l.of[x.hash]
			if !ok {
				t.Fatalf("transaction %s does not stand in the log of %s %s", id, kind, x.ids[k])
			}
			e := &l.events[i]
			if e.time != x.time || e.based != x.based || x.based && e.base != x.base {
				t.Errorf("transaction %s stands in the log of %s %s as %+v", id, kind, x.ids[k], *e)
			}
			missing := maps.Clone(x.outcomes)
			for _, o := range e.outcomes {
				delete(missing, logOutcome{time: o.time, kind: o.kind})
			}
			if len(missing) > 0 || len(e.outcomes) < len(x.outcomes) {
				if wrong++; wrong <= 10 {
					t.Errorf("transaction %s in the log of %s %s has the outcomes %v, and %v are missing", id, kind, x.ids[k], e.outcomes, slices.Collect(maps.Keys(missing)))
				}
			}
		}
	}
	if entries != expected {
		t.Errorf("%d transactions stand in logs, and %d were sent", entries, expected)
	}
	if wrong > 10 || orphans > 0 {
		t.Errorf("outcomes are missing from %d entries; %d stand before their transaction", wrong, orphans)
	}
	t.Logf("%d logs of up to %d segments: %d transactions and %d outcomes stand in them as they should; %d and %d are there again, and count once; %d outcomes have found no transaction",
		len(logs), segments, entries, outcomes, again, retold, s.parked)
	if again+retold > (entries+outcomes)/5 {
		t.Errorf("%d transactions and %d outcomes are in logs again: that is more than crashes explain", again, retold)
	}
}

func logName(kind string, key uint64) string { return fmt.Sprintf("%s:%016x", kind, key) }

// checkValues recomputes every value of every decision.
func (s *said) checkValues(t *testing.T, logs map[string]*entityLog) {
	t.Helper()
	features := sharedFeatures()
	ids := slices.Collect(maps.Keys(s.byID))
	var mu sync.Mutex
	var workers sync.WaitGroup
	compared, wrong, own, later := 0, 0, 0, 0
	const parts = 2
	texts := maps.Clone(s.oracle.texts)
	for part := range parts {
		workers.Go(func() {
			o := newOracle()
			o.texts = maps.Clone(texts) // what no decision says is wrong anyway
			n := [4]int{}
			for at := part; at < len(ids); at += parts {
				x := s.byID[ids[at]]
				if x.invalid {
					continue
				}
				for i := range features {
					f := &features[i]
					k := i / (len(features) / kindsShared)
					want := absent
					if x.keys[k] != 0 {
						l := logs[logName(f.entity, x.keys[k])]
						place := l.of[x.hash]
						want = o.value(f, l, place, x.said.upTo[k])
						if i%(len(features)/kindsShared) == 0 {
							if l.events[place].at == x.said.upTo[k] {
								n[2]++
							} else if l.events[place].at > x.said.upTo[k] {
								t.Errorf("transaction %s stands at %v in the log of %s %s, and was decided up to %v", ids[at], l.events[place].at, f.entity, x.ids[k], x.said.upTo[k])
							} else {
								n[3]++
							}
						}
					}
					got := x.said.values[i]
					n[0]++
					if got == want || math.IsNaN(got) && math.IsNaN(want) {
						continue
					}
					mu.Lock()
					if n[1]++; wrong < 10 {
						wrong++
						t.Errorf("transaction %s: %s of %s up to %v is %v, by definition %v", ids[at], f.fullName(), x.ids[k], x.said.upTo[k], got, want)
					}
					mu.Unlock()
				}
			}
			mu.Lock()
			defer mu.Unlock()
			compared, own, later = compared+n[0], own+n[2], later+n[3]
			if wrong += n[1]; n[1] > 0 {
				t.Errorf("%d of %d values are wrong", n[1], n[0])
			}
		})
	}
	workers.Wait()
	t.Logf("%d values compared; %d positions are the payment's own, %d those of a backlog", compared, own, later)
	if own == 0 || later == 0 {
		t.Error("not both kinds of positions: the test proves little")
	}
}
