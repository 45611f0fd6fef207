package pipeline

import (
	"context"
	"fmt"

	"github.com/sluice-risk/sluice/rules"
)

// Use puts a ruleset in force between two micro-batches. Its features are exact
// from the first payment after it, as far back as the logs reach; nothing that
// was folded is lost, since folds are made from the logs.
func (g *Gate) Use(ctx context.Context, rs *rules.Ruleset) error {
	g.inForce.Lock()
	defer g.inForce.Unlock()
	if err := g.Store.Use(ctx, rs.Features()); err != nil {
		return fmt.Errorf("the store cannot take the features of the new ruleset: %w", err)
	}
	g.Rules = rs
	g.Metrics.ruleset(rs)
	return nil
}

// Reload loads the ruleset again from its folder and puts it in force, if it is
// a good one and not the one that is in force. A bad one changes nothing.
func (s *Service) Reload(ctx context.Context) error {
	rs, err := s.config.ruleset()
	if err == nil && rs.Hash() != s.gate.Rules.Hash() {
		err = s.gate.Use(ctx, rs)
	}
	if err != nil {
		s.gate.Metrics.reloads.WithLabelValues("refused").Inc()
		return fmt.Errorf("the ruleset stays as it was, %s: %w", s.gate.Rules.Hash(), err)
	}
	s.gate.Metrics.reloads.WithLabelValues("done").Inc()
	s.log.Info("ruleset in force", "hash", rs.Hash(), "features", len(rs.OwnFeatures()), "rules", len(rs.RuleIDs()))
	return nil
}
