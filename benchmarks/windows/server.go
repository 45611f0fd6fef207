package main

import (
	"bufio"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// server is the Redis that all arms use, seen from outside.
type server struct{ *redis.Client }

func openServer(ctx context.Context, addr string) (*server, error) {
	s := &server{redis.NewClient(&redis.Options{
		Addr: addr, DisableIdentity: true, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})}
	if err := s.Ping(ctx).Err(); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("redis at %s: %w", addr, err)
	}
	return s, nil
}

// cpu is the processor time that the server has used.
func (s *server) cpu(ctx context.Context) (time.Duration, error) {
	user, err := s.number(ctx, "cpu", "used_cpu_user")
	if err != nil {
		return 0, err
	}
	system, err := s.number(ctx, "cpu", "used_cpu_sys")
	return time.Duration((user + system) * 1e9), err
}

// memory is the bytes that the server has allocated for data.
func (s *server) memory(ctx context.Context) (float64, error) {
	return s.number(ctx, "memory", "used_memory_dataset")
}

func (s *server) number(ctx context.Context, section, name string) (float64, error) {
	info, err := s.Info(ctx, section).Result()
	if err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(strings.NewReader(info)); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), name+":"); ok {
			return strconv.ParseFloat(text, 64)
		}
	}
	return 0, fmt.Errorf("redis says no %s", name)
}

// clear deletes the keys that hold a prefix: a store may put something before it.
func (s *server) clear(ctx context.Context, prefix string) error {
	const page = 1000
	var cursor uint64
	for {
		keys, next, err := s.Scan(ctx, cursor, "*"+prefix+"*", page).Result()
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			if err := s.Unlink(ctx, keys...).Err(); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}
