package traffic

import (
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// Config says what a Generator makes. The zero value is useful; every field
// that is zero means its default.
type Config struct {
	// Seed chooses the people, the merchants and what they do. The people and
	// merchants of a seed are the same whatever Start is.
	Seed uint64
	// Start is the event time at which the stream begins; default
	// 2026-01-05T00:00:00Z.
	Start payment.Time
	// Rate is transactions per second of event time; default 50. Outcomes come on
	// top, about one a transaction.
	Rate float64
	// People is how many people pay; default 400 for each transaction per second,
	// so that one person pays about every seven minutes and windows fill while
	// somebody watches, but at least 2,000 and at most 200,000. The least is 10.
	People int
	// Merchants is about how many merchants are paid; default a tenth of People.
	// Every region has at least one of every category.
	Merchants int
	// FraudShare is the share of transactions that are labelled fraud; default
	// 0.02, at most 0.5. Negative means none. At rates of some ten thousand a
	// second there are fewer, since what is under way is bounded.
	FraudShare float64
	// OutcomeSpeed makes what takes long come sooner: of every delay (of an
	// outcome, or of the days that stolen cards lie quiet) the part beyond one
	// minute is divided by it. Default 1; at 2000 a day is 43 seconds.
	OutcomeSpeed float64
	// Patient is an event time: payments before it may be decided until a minute
	// after it, so that a stream that begins in the past is not late when it comes.
	// Zero: every payment is in a hurry.
	Patient payment.Time
}

const (
	defaultStart      = payment.Time(1767571200e9) // 2026-01-05T00:00:00Z, a Monday
	defaultRate       = 50
	defaultFraudShare = 0.02
	maxFraudShare     = 0.5
	minPeople         = 10
)

func (c Config) withDefaults() Config {
	if c.Start == 0 {
		c.Start = defaultStart
	}
	if !(c.Rate > 0) {
		c.Rate = defaultRate
	}
	switch {
	case c.People <= 0:
		c.People = int(min(max(c.Rate*400, 2000), 200_000))
	case c.People < minPeople:
		c.People = minPeople
	}
	if c.Merchants <= 0 {
		c.Merchants = c.People / 10
	}
	switch {
	case c.FraudShare == 0:
		c.FraudShare = defaultFraudShare
	case !(c.FraudShare > 0):
		c.FraudShare = 0
	case c.FraudShare > maxFraudShare:
		c.FraudShare = maxFraudShare
	}
	if !(c.OutcomeSpeed > 0) {
		c.OutcomeSpeed = 1
	}
	return c
}

// sooner shortens a long delay by OutcomeSpeed.
func (c *Config) sooner(d time.Duration) time.Duration {
	if d <= time.Minute {
		return d
	}
	return time.Minute + time.Duration(float64(d-time.Minute)/c.OutcomeSpeed)
}
