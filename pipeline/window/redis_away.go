package window

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// send sends a pipeline and waits for its answers, for no longer than a command
// may take, connecting included. While the breaker is open it sends nothing. Of
// the errors of all commands it returns the first; one that says "away" wraps
// ErrAway, and has moved the breaker.
//
// It is called without the store's lock: see exec.
func (s *Redis) send(ctx context.Context, p redis.Pipeliner) error {
	if p.Len() == 0 {
		return nil
	}
	return s.attempt(ctx, func(ctx context.Context) error {
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
	})
}

// attempt asks the servers something, and lets the breaker know what came of it.
func (s *Redis) attempt(ctx context.Context, ask func(context.Context) error) error {
	if err := s.breaker.check(); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	own, _ := within.Deadline()
	err := ask(within)
	if err == nil {
		return nil
	}
	later := passes(err)
	err = explain(err, s.where)
	if !later || errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	if !endsBy(ctx, own) { // else the caller's time is over, which says nothing of the store
		s.breaker.open(err)
	}
	return away(err)
}

// endsBy tells whether a context is over at a time at the latest. A connection
// notices a moment before the context does, so it is no use to ask ctx.Err.
func endsBy(ctx context.Context, t time.Time) bool {
	end, bounded := ctx.Deadline()
	return ctx.Err() != nil || bounded && !end.After(t) && !time.Now().Before(end)
}

// passes tells whether an error of the client may pass: a server has answered "not
// now", or none has answered.
func passes(err error) bool {
	var answer redis.Error
	switch {
	case errors.Is(err, redis.ErrClosed):
		return false
	case errors.As(err, &answer):
		return notNow(answer.Error())
	}
	return true // whatever is no answer of a server is about the way to it
}

// notNow tells whether an answer says that a server lives and cannot take writes at
// this moment: it reads its data, is a replica, is full, cannot save, misses its
// master, its replicas or a part of its cluster, or is busy with a script. That a
// password or a right was taken away is such an answer too, since whoever rotates
// passwords has a moment where ours is wrong: payments go on without the store, and
// Health says why.
func notNow(answer string) bool {
	for _, beginning := range [...]string{"LOADING", "READONLY", "OOM", "MISCONF", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "BUSY",
		"MOVED", "ASK", "ERR max number of clients reached", "WRONGPASS", "NOAUTH", "NOPERM", "ERR invalid password"} {
		if strings.HasPrefix(answer, beginning) {
			return true
		}
	}
	return false
}

// probe is the attempt of the breaker: every master takes a write, and says who
// it is. So a server that was replaced is known as such before the first call
// comes through.
func (s *Redis) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	err := s.probeAll(ctx)
	if err != nil {
		err = explain(err, s.where)
	}
	return err
}

func (s *Redis) probeAll(ctx context.Context) error {
	c, clustered := s.client.(*redis.ClusterClient)
	if !clustered {
		return s.probeMaster(ctx, s.client, s.names.probe(0))
	}
	keys, err := s.probeKeys(ctx, c)
	if err != nil {
		return err
	}
	return c.ForEachMaster(ctx, func(ctx context.Context, one *redis.Client) error {
		if keys[one] == "" {
			return nil // it has no slots
		}
		return s.probeMaster(ctx, one, keys[one])
	})
}

// probeKeys finds a key for each master of a cluster that it holds.
func (s *Redis) probeKeys(ctx context.Context, c *redis.ClusterClient) (map[*redis.Client]string, error) {
	const enough = 512 // keys; with fewer than fifty masters each has one of them
	keys := map[*redis.Client]string{}
	for i := range enough {
		key := s.names.probe(i)
		one, err := c.MasterForKey(ctx, key)
		if err != nil {
			return nil, err
		}
		if keys[one] == "" {
			keys[one] = key
		}
	}
	return keys, nil
}

const probeLives = time.Minute

func (s *Redis) probeMaster(ctx context.Context, one redis.UniversalClient, key string) error {
	if s.opts.ReadOnly {
		if err := one.Exists(ctx, key).Err(); err != nil {
			return err
		}
	} else if err := one.Set(ctx, key, "1", probeLives).Err(); err != nil {
		return err
	}
	return s.nodes.ask(ctx, one)
}
