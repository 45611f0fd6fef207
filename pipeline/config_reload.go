package pipeline

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/sluice-risk/sluice/rules"
)

// ReloadConfig says how the ruleset follows the files of its folder.
type ReloadConfig struct {
	Watch bool `yaml:"watch"` // false: only SIGHUP and HTTP load the folder again
	// Poll is the time between two looks at the folder.
	Poll time.Duration `yaml:"poll"`
	// Quiet is how long nothing in the folder must have changed before it is loaded.
	Quiet time.Duration `yaml:"quiet"`
	// AtMost is after what time a folder is loaded that is never quiet.
	AtMost time.Duration `yaml:"at_most"`
}

// DefaultReloadConfig looks once a second, and waits for half of one.
func DefaultReloadConfig() ReloadConfig {
	return ReloadConfig{Watch: true, Poll: time.Second, Quiet: 500 * time.Millisecond, AtMost: 30 * time.Second}
}

// Validate reports every setting that is out of its bounds.
func (c *ReloadConfig) Validate() error {
	var errs []error
	within := func(key string, d, least, most time.Duration) {
		if d < least || d > most {
			errs = append(errs, fmt.Errorf("reload.%s: %v is not between %v and %v", key, d, least, most))
		}
	}
	within("poll", c.Poll, 50*time.Millisecond, time.Minute)
	within("quiet", c.Quiet, 10*time.Millisecond, time.Minute)
	within("at_most", c.AtMost, c.Quiet, time.Hour)
	return errors.Join(errs...)
}

// watcher watches the folder of the ruleset from now on; nil where it is not to
// be watched, or where the ruleset is in no folder.
func (c *Config) watcher() *rules.Watcher {
	if !c.Reload.Watch || c.RulesFS != nil {
		return nil
	}
	return rules.NewWatcher(c.Rules, rules.WatchTimes{Poll: c.Reload.Poll, Quiet: c.Reload.Quiet, AtMost: c.Reload.AtMost})
}

// rulesFolder names the folder of the ruleset, wherever the process was started.
func (c *Config) rulesFolder() string {
	if c.RulesFS != nil {
		return c.Rules
	}
	if at, err := filepath.Abs(c.Rules); err == nil {
		return at
	}
	return c.Rules
}
