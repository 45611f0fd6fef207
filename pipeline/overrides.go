package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/rules"
)

// overridesKept is how long, beyond what the ledger keeps, a control is known
// after its end: a backlog of that length is still decided by it.
const overridesKept = 7 * 24 * time.Hour

// Controls is what people change at run time, as this member has read it. The
// zero value is ready: nothing was changed, and no ruleset is kept.
//
// Readers of risk.controls note what they read (take) and then let it hold
// (Gate.SettleControls). Lanes look at Overrides, once for each micro-batch; they
// never wait for the others.
type Controls struct {
	// Alert, if set, tells operations.
	Alert func(code payment.AlertCode, summary string)
	// Kept is the folder in which rulesets that were loaded are kept by their
	// hash; "" for none.
	Kept string

	overrides atomic.Pointer[rules.Overrides] // over the ruleset in force

	// mu guards what is below. It is taken before Gate.inForce.
	mu          sync.Mutex
	log         rules.OverrideLog
	newest      payment.Time // the latest Kafka time of a control
	unsettled   bool         // something was noted that does not hold yet
	folder      *rules.Ruleset
	activations []activation // by event time, whatever partition they came from
	missing     string       // the hash of the ruleset that was last said to be missing
}

// activation is one ruleset_activate.
type activation struct {
	control, ruleset, insteadOf string
	eventTime                   payment.Time
}

// Overrides returns what holds now; nil for nothing.
func (c *Controls) Overrides() *rules.Overrides { return c.overrides.Load() }

func (c *Controls) alert(code payment.AlertCode, format string, args ...any) {
	if c.Alert != nil {
		c.Alert(code, fmt.Sprintf(format, args...))
	}
}

// take notes a control; false if it was noted before.
func (c *Controls) take(k *payment.Control, kafkaTime payment.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.Kind == payment.ControlRulesetActivate {
		for _, a := range c.activations {
			if a.control == k.ID {
				return false
			}
		}
		a := activation{strings.Clone(k.ID), strings.Clone(k.Ruleset), strings.Clone(k.InsteadOf), k.EventTime} // k points into its record
		at := len(c.activations)
		for at > 0 && c.activations[at-1].eventTime > a.eventTime {
			at--
		}
		c.activations = slices.Insert(c.activations, at, a)
	} else if !c.log.Apply(k) {
		return false
	}
	c.newest, c.unsettled = max(c.newest, kafkaTime), true
	return true
}

// activated is the hash of the ruleset that is to be in force where the folder
// holds another one, and by which control: the last one that was activated in its
// place, or in the place of any; the folder's own, where there is none.
func (c *Controls) activated(folder string) (hash, control string) {
	for i := len(c.activations) - 1; i >= 0; i-- {
		if a := c.activations[i]; a.insteadOf == "" || a.insteadOf == folder {
			return a.ruleset, a.control
		}
	}
	return folder, ""
}

// loaded notes the ruleset that the folder holds, and keeps a copy. Without a
// copy everything works, until somebody wants this ruleset back.
func (g *Gate) loaded(rs *rules.Ruleset) {
	c := &g.Controls
	c.mu.Lock()
	c.folder = rs
	c.mu.Unlock()
	if c.Kept == "" {
		return
	}
	if err := rs.Save(c.Kept); err != nil {
		g.Log.Warn("the ruleset cannot be kept; nobody can go back to it by its hash", "hash", rs.Hash(), "folder", c.Kept, "error", err)
	}
}

// SettleControls lets what was noted hold: from here on every micro-batch looks
// at it, and the ruleset that was activated is in force. It costs nothing where
// nothing was noted. An activated ruleset that this member does not have is said
// once, and what is in force stays.
func (g *Gate) SettleControls(ctx context.Context) error {
	c := &g.Controls
	c.mu.Lock()
	if !c.unsettled {
		c.mu.Unlock()
		return nil
	}
	c.log.Forget(c.newest.Add(-g.Limits.LedgerKeeps - overridesKept))
	inForce := g.ruleset()
	c.overrides.Store(c.log.Overrides(inForce))
	folder := c.folder
	if folder == nil {
		folder = inForce
	}
	hash, control := c.activated(folder.Hash())
	c.unsettled = false
	c.mu.Unlock()

	if hash == inForce.Hash() {
		return nil
	}
	rs, err := folder, error(nil)
	if hash != folder.Hash() {
		rs, err = g.saved(hash)
	}
	if err != nil {
		g.rulesetMissing(hash, control, err)
		return nil
	}
	if err := g.Use(ctx, rs); err != nil {
		c.mu.Lock()
		c.unsettled = true // the store may be away: once more
		c.mu.Unlock()
		return err
	}
	g.Metrics.reload("activated")
	g.say("an activated ruleset is in force", "hash", hash, "control", control)
	return nil
}

// saved loads a ruleset that was kept.
func (g *Gate) saved(hash string) (*rules.Ruleset, error) {
	if g.Controls.Kept == "" {
		return nil, errors.New("no rulesets are kept here (rules_kept)")
	}
	rs, err := rules.Saved(g.Controls.Kept, hash)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("it was never loaded here, or too long ago: %w", err)
	}
	return rs, err
}

// rulesetMissing says, once for each, that an activated ruleset is not here.
func (g *Gate) rulesetMissing(hash, control string, why error) {
	c := &g.Controls
	c.mu.Lock()
	again := c.missing == hash
	c.missing = hash
	c.mu.Unlock()
	if again {
		return
	}
	g.Metrics.reload("missing")
	if g.Log != nil {
		g.Log.Error("a ruleset was activated that this member does not have; what is in force stays", "hash", hash, "control", control, "error", why)
	}
	c.alert(payment.AlertBadRuleset, "control %s activates the ruleset %s, which this member cannot put in force: %v", control, hash, why)
}

func (g *Gate) say(message string, args ...any) {
	if g.Log != nil {
		g.Log.Info(message, args...)
	}
}

// sayIgnored says what people changed that has no effect on the ruleset in force.
func (g *Gate) sayIgnored() {
	for _, what := range g.Controls.Overrides().Ignored() {
		g.Log.Warn("a control is without effect on the ruleset in force", "what", what)
	}
}
