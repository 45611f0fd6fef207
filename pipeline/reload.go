package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/rules"
)

// Use puts a ruleset in force between two micro-batches, with what people have
// changed at run time over it. Its features are exact from the first payment
// after it, as far back as the logs reach; nothing that was folded is lost,
// since folds are made from the logs. Where the features are those that the
// store has, its folds stay.
//
// Whatever can be made ready before is: lanes stand still only from the end of
// their micro-batch to that of the slowest lane's, and while the store takes
// other features.
func (g *Gate) Use(ctx context.Context, rs *rules.Ruleset) error {
	c := &g.Controls
	c.mu.Lock()
	defer c.mu.Unlock()
	overrides := c.log.Overrides(rs)
	warm := c.stored != nil && c.stored.SameFeatures(rs)
	g.Metrics.resolve(rs)
	began := time.Now()
	if err := g.swap(ctx, rs, overrides, warm); err != nil {
		return err
	}
	g.Metrics.stoodStill(time.Since(began))
	g.Metrics.ruleset(rs)
	return nil
}

// swap is the moment of Use in which no lane works.
func (g *Gate) swap(ctx context.Context, rs *rules.Ruleset, overrides *rules.Overrides, warm bool) error {
	c := &g.Controls
	g.inForce.Lock()
	defer g.inForce.Unlock()
	if !warm {
		c.stored = nil // until the store has said yes, nobody knows what it has
		if err := g.Store.Use(ctx, rs.Features()); err != nil {
			return fmt.Errorf("the store cannot take the features of the new ruleset: %w", err)
		}
	}
	c.stored, g.Rules = rs, rs
	c.overrides.Store(overrides)
	g.newest.Store(rs)
	g.Notices.Use(rs)
	return nil
}

// RefusedError says that a folder holds no good ruleset, so that another one
// stays in force. The mistakes, where it could be read, are a rules.Problems in
// its chain.
type RefusedError struct {
	InForce string // the hash of the one that stays
	Err     error  // what is wrong with the folder
}

// Error names the ruleset that stays, and what is wrong.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("the ruleset stays as it was, %s: %v", e.InForce, e.Err)
}

// Unwrap returns what is wrong.
func (e *RefusedError) Unwrap() error { return e.Err }

// Reload loads the ruleset again from its folder and puts it in force, if it is
// a good one and not the one that is in force. A bad one changes nothing, and is
// a *RefusedError; any other error says why a good one could not be put in force.
// While people have activated another one in its place, the folder's is only
// kept. Reloads that come together are done one after the other.
func (s *Service) Reload(ctx context.Context) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	rs, err := s.config.ruleset()
	if err != nil {
		return s.notReloaded(err)
	}
	s.gate.loaded(rs, s.rulesets.folder)
	s.rulesets.holds(rs)
	chosen, err := s.gate.choose(ctx, true)
	if err != nil {
		s.gate.Metrics.reload("failed")
		s.told.alerts.Raise(payment.AlertBadRuleset, fmt.Sprintf("the ruleset %s is good and cannot be put in force; %s stays: %v", rs.Hash(), s.gate.ruleset().Hash(), err), NoPartition)
		return fmt.Errorf("the ruleset stays as it was, %s: %w", s.gate.ruleset().Hash(), err)
	}
	if chosen.hash != rs.Hash() {
		s.log.Warn("the ruleset of the folder is good, and another one is activated in its place", "folder", rs.Hash(), "activated", chosen.hash, "control", chosen.control)
	}
	s.gate.Metrics.reload("done")
	if !chosen.missing {
		s.told.alerts.Resolve(payment.AlertBadRuleset, NoPartition)
	}
	in := s.gate.ruleset()
	s.log.Info("ruleset in force", "hash", in.Hash(), "features", len(in.OwnFeatures()), "rules", len(in.RuleIDs()))
	s.gate.sayIgnored()
	return nil
}

func (s *Service) notReloaded(err error) error {
	s.gate.Metrics.reload("refused")
	s.refuse(err)
	return &RefusedError{InForce: s.gate.ruleset().Hash(), Err: err}
}

// refuse tells people that the folder's ruleset was refused.
func (s *Service) refuse(err error) {
	s.rulesets.refuse(err)
	s.told.alerts.Raise(payment.AlertBadRuleset, fmt.Sprintf("the ruleset of %s was refused; %s stays in force: %s", s.rulesets.folder, s.gate.ruleset().Hash(), firstMistake(err)), NoPartition)
}

// firstMistake is an error in one line.
func firstMistake(err error) string {
	var problems rules.Problems
	if !errors.As(err, &problems) || len(problems) == 0 {
		return err.Error()
	}
	p := problems[0]
	text := p.File
	if p.Line > 0 {
		text += fmt.Sprintf(":%d:%d", p.Line, p.Column)
	}
	text += ": " + p.Message
	if n := len(problems) - 1; n > 0 {
		text += fmt.Sprintf(" (and %d more)", n)
	}
	return text
}

// watchRules reloads the ruleset whenever its folder has changed, until ctx ends.
func (s *Service) watchRules(ctx context.Context) {
	if s.watcher == nil {
		return
	}
	s.watcher.Watch(ctx, func(ctx context.Context) (done bool) {
		err := s.Reload(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Error("the folder of the ruleset has changed", "folder", s.rulesets.folder, "error", err)
		}
		refused := (*RefusedError)(nil)
		return err == nil || errors.As(err, &refused)
	})
}

// startRuleset loads the ruleset to begin with. Where the folder holds a bad one,
// it is the last good one of that folder, and refused says what is wrong: a
// mistake in a file must not keep a gate down. Without any, it is an error.
func (c *Config) startRuleset() (rs *rules.Ruleset, refused, err error) {
	rs, refused = c.ruleset()
	if refused == nil || c.rulesKept() == "" {
		return rs, nil, refused
	}
	rs, err = rules.LastGood(c.rulesKept(), c.rulesFolder())
	if err != nil {
		return nil, nil, fmt.Errorf("%w\nand there is no last good ruleset to start with: %w", refused, err)
	}
	return rs, refused, nil
}
