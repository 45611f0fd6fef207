package window

import (
	"context"
	"errors"
	"time"
)

var ErrAway = errors.New("the store is away")

type Health struct {
	Away   bool
	Since  time.Time
	Opened int64
	Err    error
}

func (s *Embedded) Peek(items []*Item)                                                {}
func (s *Redis) Peek(items []*Item)                                                   {}
func (s *Embedded) Health() Health                                                    { return Health{} }
func (s *Redis) Health() Health                                                       { return Health{} }
func (s *Embedded) Epoch() uint64                                                     { return 1 }
func (s *Redis) Epoch() uint64                                                        { return 1 }
func (s *Redis) Stand(ctx context.Context, hashes []TxHash, decisions [][]byte) error { return nil }

func (s *Embedded) Incarnation() string { return "-" }
func (s *Redis) Incarnation() string    { return "-" }
