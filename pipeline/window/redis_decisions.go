package window

import (
	"bytes"
	"context"
	"slices"

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
	keep := s.opts.KeepMarks
	if keep == 0 {
		keep = s.opts.Keep
	}
	pipe := s.client.Pipeline()
	found := make([]*redis.Cmd, len(hashes))
	for i, h := range hashes {
		found[i] = pipe.Do(ctx, "set", s.names.decision(h), decisions[i], "nx", "get", "px", keep.Milliseconds())
	}
	if err := s.send(ctx, pipe); err != nil {
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
