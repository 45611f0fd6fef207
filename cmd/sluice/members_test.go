package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
	"github.com/sluice-risk/sluice/benchmarks/storm/oracle"
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
	c.settled(3 * time.Minute)
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
		if time.Since(began) > 3*time.Minute {
			c.t.Fatalf("%d of %d decisions after three minutes", sum, n)
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
	logs, err := oracle.ReadRedis(c.within(2*time.Minute), c.redis, c.prefix)
	if err != nil {
		t.Fatal(err)
	}
	g := oracle.Gate{Each: oracle.Kafka(c.conn), Transactions: c.transactions(), Outcomes: c.outcomes(), Decisions: c.decisions(), DeadLetters: c.deadLetters(),
		Key: c.storeKey(), Logs: logs, Features: oracle.Features(time.Minute)}
	r, err := g.Audit(c.within(5 * time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range oracle.Checks() {
		if f := r.Findings[check]; f.Count > 0 {
			t.Errorf("%d %s:\n%s", f.Count, check, strings.Join(f.Examples, "\n"))
		}
	}
	t.Logf("%d transactions, %d of them invalid, one verdict each; %d repeated byte for byte; %d records refused; answered by %v", r.Transactions, r.Invalid, r.Repeats, r.Refused, r.Sources)
	t.Logf("%d logs: %d transactions and outcomes stand in them as they should; %d are there again, and count once; %d outcomes have found no transaction", r.Logs, r.Entries, r.Again, r.Parked)
	t.Logf("%d values compared; %d positions are the payment's own, %d those of a backlog", r.Compared, r.Own, r.Later)
	t.Logf("%d duplicate payments, %d of them of one that was blocked a moment later", r.Duplicates, r.Excused)
	if r.Duplicates == 0 {
		t.Error("there was no duplicate payment: the test proves little")
	}
	if r.Repeats < r.Transactions/200 || r.Invalid == 0 {
		t.Errorf("%d repeats and %d invalid ones: the test proves little", r.Repeats, r.Invalid)
	}
	if r.Again > r.Entries/5 {
		t.Errorf("%d of %d entries are in logs again: that is more than crashes explain", r.Again, r.Entries)
	}
	if r.Own == 0 || r.Later == 0 {
		t.Error("not both kinds of positions: the test proves little")
	}
}

// sharedRuleset writes the ruleset of the oracle.
func sharedRuleset(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range oracle.Ruleset(time.Minute) {
		write(t, filepath.Join(dir, name), content)
	}
	return dir
}

// connectRedis connects to one Redis or a cluster; what stands under the prefix is
// removed when the test ends.
func connectRedis(t testing.TB, addresses, prefix string) redis.UniversalClient {
	t.Helper()
	client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: strings.Split(addresses, ",")})
	remove := func(ctx context.Context, one *redis.Client) error {
		keys := one.Scan(ctx, 0, prefix+":*", 1000).Iterator()
		pipe := one.Pipeline()
		for keys.Next(ctx) {
			if pipe.Unlink(ctx, keys.Val()); pipe.Len() >= 1000 {
				if _, err := pipe.Exec(ctx); err != nil {
					return err
				}
			}
		}
		_, err := pipe.Exec(ctx)
		return errors.Join(keys.Err(), err)
	}
	t.Cleanup(func() {
		var err error
		if cluster, ok := client.(*redis.ClusterClient); ok {
			err = cluster.ForEachMaster(context.Background(), remove)
		} else {
			err = remove(context.Background(), client.(*redis.Client))
		}
		if err != nil {
			t.Errorf("remove what the test left in Redis: %v", err)
		}
		_ = client.Close()
	})
	return client
}
