package pipeline

import (
	"context"
	"fmt"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/rules"
)

// Use puts a ruleset in force between two micro-batches, with what people have
// changed at run time over it. Its features are exact from the first payment
// after it, as far back as the logs reach; nothing that was folded is lost,
// since folds are made from the logs.
func (g *Gate) Use(ctx context.Context, rs *rules.Ruleset) error {
	g.Controls.mu.Lock()
	defer g.Controls.mu.Unlock()
	overrides := g.Controls.log.Overrides(rs)
	g.inForce.Lock()
	defer g.inForce.Unlock()
	if err := g.Store.Use(ctx, rs.Features()); err != nil {
		return fmt.Errorf("the store cannot take the features of the new ruleset: %w", err)
	}
	g.Rules = rs
	g.Controls.overrides.Store(overrides)
	g.newest.Store(rs)
	g.Notices.Use(rs)
	g.Metrics.ruleset(rs)
	return nil
}

// Reload loads the ruleset again from its folder and puts it in force, if it is
// a good one and not the one that is in force. A bad one changes nothing. While
// people have activated another one in its place, the folder's is only kept.
func (s *Service) Reload(ctx context.Context) error {
	rs, err := s.config.ruleset()
	if err != nil {
		return s.notReloaded(err)
	}
	s.gate.loaded(rs)
	s.gate.Controls.mu.Lock()
	hash, control := s.gate.Controls.activated(rs.Hash())
	s.gate.Controls.mu.Unlock()
	if hash != rs.Hash() {
		kept, err := s.gate.saved(hash)
		if err == nil {
			s.log.Warn("the ruleset of the folder is good, and another one is activated in its place", "folder", rs.Hash(), "activated", hash, "control", control)
			rs = kept
		} else {
			s.gate.rulesetMissing(hash, control, err)
		}
	}
	if rs.Hash() != s.gate.ruleset().Hash() {
		if err := s.gate.Use(ctx, rs); err != nil {
			return s.notReloaded(err)
		}
	}
	s.gate.Metrics.reload("done")
	s.told.alerts.Resolve(payment.AlertBadRuleset, NoPartition)
	s.log.Info("ruleset in force", "hash", rs.Hash(), "features", len(rs.OwnFeatures()), "rules", len(rs.RuleIDs()))
	s.gate.sayIgnored()
	return nil
}

func (s *Service) notReloaded(err error) error {
	s.gate.Metrics.reload("refused")
	s.told.alerts.Raise(payment.AlertBadRuleset, fmt.Sprintf("a ruleset was refused; %s stays in force", s.gate.ruleset().Hash()), NoPartition)
	return fmt.Errorf("the ruleset stays as it was, %s: %w", s.gate.ruleset().Hash(), err)
}
