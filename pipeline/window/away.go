package window

import (
	"errors"
	"fmt"
	"time"
)

// ErrAway is what every error wraps that says: the store cannot be reached, or
// cannot take writes, and the same call may succeed later without anybody doing
// anything to this process. Health tells since when and why, Back when to try
// again. Nothing that a call failed to do is lost by calling again: an entry that
// stands already is found.
var ErrAway = errors.New("the store is away")

// ErrReplaced is returned by every call once another store, with another key,
// stands where this one was. Waiting does not heal it: what is in memory was
// hashed under the first key. The process has to begin anew.
var ErrReplaced = errors.New("another store stands there now, with another key: start again")

// Health is how a store is, as its breaker knows it.
type Health struct {
	Away   bool
	Since  time.Time // when it went away, or when it was last back; zero: it never was away
	Opened int64     // how often it went away since it was opened
	Err    error     // why it is away, as was said last; nil while it is not
}

// away makes an error one that says "later".
func away(err error) error {
	if err == nil || errors.Is(err, ErrAway) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrAway, err)
}
