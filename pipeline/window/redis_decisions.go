package window

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// Decided implements Store. Verdicts are written only to the logs of kinds of which
// some feature has ever looked at them.
func (s *Redis) Decided(ctx context.Context, marks []Mark) error {
	if len(marks) == 0 {
		return nil
	}
	return s.change(ctx, "note verdicts", func(ctx context.Context) error {
		if err := s.know(ctx); err != nil {
			return err
		}
		if !slices.ContainsFunc(s.logs, s.logsVerdicts) {
			return nil
		}
		pipe := s.client.Pipeline()
		txs := make([]*redis.StringCmd, len(marks))
		for i := range marks {
			txs[i] = pipe.Get(ctx, s.names.tx(marks[i].Tx))
		}
		if err := s.exec(ctx, pipe); err != nil {
			return err
		}
		var all []news
		for i := range marks {
			if tx, ok := transactionOf(txs[i].Val()); ok {
				all = append(all, news{tx, appendVerdict(nil, &marks[i], tx.time())})
			}
		}
		return s.tell(ctx, all, s.logsVerdicts)
	})
}

// First makes each decision the first of its transaction, unless there is one
// already: then winners[i] is that one, and nil otherwise. What it says stands
// for Options.KeepMarks; it is this member's own decision as well where a call
// that failed comes again.
func (s *Redis) First(ctx context.Context, hashes []TxHash, decisions [][]byte) (winners [][]byte, err error) {
	if len(hashes) == 0 {
		return nil, nil
	}
	if s.opts.ReadOnly {
		return nil, ErrReadOnly
	}
	found := make([]*redis.Cmd, len(hashes))
	err = s.inPipelines(ctx, len(hashes), decisionsAtOnce, func(pipe redis.Pipeliner, i int) {
		found[i] = pipe.Do(ctx, "set", s.names.decision(hashes[i]), decisions[i], "nx", "get", "px", s.decisionsLive().Milliseconds())
	})
	if err != nil {
		return nil, s.failed("make decisions the first", err)
	}
	winners = make([][]byte, len(hashes))
	for i := range found {
		if text, err := found[i].Text(); err == nil && !bytes.Equal(bytesOf(text), decisions[i]) {
			winners[i] = []byte(text)
		}
	}
	return winners, nil
}

// Stand makes each decision the first of its transaction, whatever the store said
// before: what stands on the topic is the truth. It is called after an outage or
// a loss, for what was decided without First. The error wraps ErrAway where the
// store does not take them; then some may have been taken.
func (s *Redis) Stand(ctx context.Context, hashes []TxHash, decisions [][]byte) error {
	if s.opts.ReadOnly {
		return ErrReadOnly
	}
	err := s.inPipelines(ctx, len(hashes), decisionsAtOnce, func(pipe redis.Pipeliner, i int) {
		pipe.Set(ctx, s.names.decision(hashes[i]), decisions[i], s.decisionsLive())
	})
	if err != nil {
		return s.failed("let decisions stand", err)
	}
	return nil
}

// decisionsAtOnce is how many go in one pipeline: some are of several kilobytes.
const decisionsAtOnce = 256

// inPipelines sends n commands, so many at once.
func (s *Redis) inPipelines(ctx context.Context, n, atOnce int, add func(pipe redis.Pipeliner, i int)) error {
	for from := 0; from < n; from += atOnce {
		pipe := s.client.Pipeline()
		for i := from; i < min(n, from+atOnce); i++ {
			add(pipe, i)
		}
		if err := s.send(ctx, pipe); err != nil {
			return err
		}
	}
	return nil
}

// decisionsLive is how long the first decision of a transaction is known.
func (s *Redis) decisionsLive() time.Duration {
	if s.opts.KeepMarks == 0 {
		return s.opts.Keep
	}
	return s.opts.KeepMarks
}
