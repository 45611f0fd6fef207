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
	// Switched, if set, is told of each ruleset that has come into force after the
	// first one, in their order.
	Switched func(RulesetSwitch)
	// Found, if set, is told when what is activated is here again.
	Found func()

	overrides atomic.Pointer[rules.Overrides] // over the ruleset in force

	// switching is held while a ruleset is chosen and put in force, so that the last
	// one that is chosen is the last one that comes into force. It is taken before mu.
	switching sync.Mutex

	// mu guards what is below. It is taken before Gate.inForce.
	mu          sync.Mutex
	log         rules.OverrideLog
	newest      payment.Time // the latest Kafka time of a control
	unsettled   bool         // something was noted that does not hold yet
	folder      *rules.Ruleset
	activations []activation // by event time, whatever partition they came from
	missing     string       // the hash of the ruleset that was last said to be missing
	lacking     bool         // what is activated is missing now
	// stored is a ruleset with whose features the store works; nil: nobody knows.
	stored *rules.Ruleset
}

// activation is one ruleset_activate.
type activation struct {
	control, by, why   string
	ruleset, insteadOf string
	eventTime          payment.Time
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
		a := activation{control: strings.Clone(k.ID), by: strings.Clone(k.By), why: strings.Clone(k.Why),
			ruleset: strings.Clone(k.Ruleset), insteadOf: strings.Clone(k.InsteadOf), eventTime: k.EventTime} // k points into its record
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

// activated says which ruleset is to be in force where the folder holds another
// one: the last one that was activated in its place, or in the place of any; the
// folder's own, and no control, where there is none.
func (c *Controls) activated(folder string) activation {
	for i := len(c.activations) - 1; i >= 0; i-- {
		if a := c.activations[i]; a.insteadOf == "" || a.insteadOf == folder {
			return a
		}
	}
	return activation{ruleset: folder}
}

// loaded notes the ruleset that the folder at a path holds, and keeps a copy.
// Without a copy everything works, until somebody wants this ruleset back.
func (g *Gate) loaded(rs *rules.Ruleset, path string) {
	c := &g.Controls
	c.mu.Lock()
	c.folder = rs
	c.mu.Unlock()
	if c.Kept == "" {
		return
	}
	err := rs.Save(c.Kept)
	if err == nil {
		err = rs.NoteLastGood(c.Kept, path)
	}
	if err != nil {
		g.Log.Warn("the ruleset cannot be kept; nobody can go back to it by its hash, nor start with it", "hash", rs.Hash(), "folder", c.Kept, "error", err)
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
	was := g.ruleset()
	c.overrides.Store(c.log.Overrides(was))
	c.unsettled = false
	c.mu.Unlock()

	chosen, err := g.choose(ctx, false)
	if err != nil {
		c.mu.Lock()
		c.unsettled = true // the store may be away: once more
		c.mu.Unlock()
		return err
	}
	if chosen.hash != was.Hash() {
		g.Metrics.reload("activated")
		g.say("an activated ruleset is in force", "hash", chosen.hash, "control", chosen.control)
	}
	return nil
}

// choice is the ruleset that choose has put in force.
type choice struct {
	hash    string
	control string // that has activated it; "" for that of the folder
	missing bool   // another one is activated, which is not here
}

// choose puts in force what is to be: the ruleset that people have activated in
// the place of the folder's, or the folder's. Where the activated one is not here,
// that is said, and what is in force stays, or gives way to the folder's if that
// was just loaded.
func (g *Gate) choose(ctx context.Context, justLoaded bool) (choice, error) {
	c := &g.Controls
	c.switching.Lock()
	defer c.switching.Unlock()
	inForce := g.ruleset()
	c.mu.Lock()
	folder := c.folder
	if folder == nil {
		folder = inForce
	}
	a := c.activated(folder.Hash())
	c.mu.Unlock()

	rs, by, missing := folder, RulesetSwitch{By: ByFolder}, false
	if a.control != "" {
		by = RulesetSwitch{By: ByControl, Control: a.control, Actor: a.by, Why: a.why}
	}
	switch a.ruleset {
	case folder.Hash():
	case inForce.Hash():
		rs = inForce
	default:
		kept, err := g.saved(a.ruleset)
		if err == nil {
			rs = kept
			break
		}
		g.rulesetMissing(a.ruleset, a.control, err)
		missing, by = true, RulesetSwitch{By: ByFolder}
		if !justLoaded {
			rs = inForce
		}
	}
	if rs.Hash() != inForce.Hash() {
		if err := g.Use(ctx, rs); err != nil {
			return choice{}, err
		}
		if by.Ruleset, by.Since = rs.Hash(), now(); c.Switched != nil {
			c.Switched(by)
		}
	}
	c.mu.Lock()
	found := c.lacking && !missing
	c.lacking = missing
	c.mu.Unlock()
	if found && c.Found != nil {
		c.Found()
	}
	return choice{hash: rs.Hash(), control: by.Control, missing: missing}, nil
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
