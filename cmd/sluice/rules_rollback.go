package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/spf13/cobra"
)

// inForceWithin is how long a rollback is waited for.
const inForceWithin = 30 * time.Second

func rulesRollbackCommand() *cobra.Command {
	var m members
	var c controls
	var stay bool
	cmd := &cobra.Command{
		Use:   "rollback [HASH]",
		Short: "Put the ruleset before, or an earlier one, in force on every member",
		Long: `Put the ruleset that was in force before the present one in force on every member again, or one that HASH names,
of which the beginning will do (see sluice rules history). It is done by the control that sluice rules activate
sends; then the members are asked until it is in force on all that answer.

It stands in the place of what the folders hold now, and so ends with the next ruleset that is deployed. With --stay
it stays until another one is activated. Rolling back twice returns to where it began.`,
		Example: "  sluice rules rollback --why 'holds everybody' --brokers kafka-1:9092\n" +
			"  sluice rules rollback 671e506b --why 'holds everybody' --url http://gate-1:8420 --url http://gate-2:8420 --config sluice.yaml",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := m.check(); err != nil {
				return err
			}
			if c.why == "" {
				return errors.New("--why is needed")
			}
			all, err := m.ask(cmd.Context())
			if err != nil {
				return err
			}
			answering := slices.DeleteFunc(all, func(r memberRulesets) bool {
				if r.Error != "" {
					fmt.Fprintf(cmd.ErrOrStderr(), "sluice: %s does not answer, and will follow once it reads controls: %s\n", r.URL, r.Error)
				}
				return r.Error != ""
			})
			prefix := ""
			if len(args) > 0 {
				prefix = args[0]
			}
			to, err := rollbackTo(answering, prefix)
			if err != nil {
				return err
			}
			insteadOf := ""
			if !stay {
				if insteadOf, err = held(answering); err != nil {
					return err
				}
			}
			if err := c.send(cmd, payment.Control{Kind: payment.ControlRulesetActivate, Ruleset: to, InsteadOf: insteadOf}, "ruleset"); err != nil {
				return err
			}
			if err := m.await(cmd.Context(), to); err != nil {
				return err
			}
			if c.format == "text" {
				fmt.Fprintf(cmd.OutOrStdout(), "%s is in force on all members that answer\n", to)
			}
			return nil
		},
	}
	m.flags(cmd)
	c.flags(cmd)
	cmd.Flags().BoolVar(&stay, "stay", false, "until another one is activated, whatever is deployed meanwhile")
	return cmd
}

// rollbackTo is the hash that all members can go to: the one with this beginning
// that they keep, or the one that was in force before the present one.
func rollbackTo(all []memberRulesets, prefix string) (string, error) {
	var named []string // that are meant
	for _, r := range all {
		if prefix == "" {
			if hash := before(&r); hash != "" {
				named = append(named, hash)
			}
			continue
		}
		for _, hash := range r.Kept {
			if strings.HasPrefix(hash, prefix) || strings.HasPrefix(strings.TrimPrefix(hash, "sha256:"), prefix) {
				named = append(named, hash)
			}
		}
	}
	slices.Sort(named)
	named = slices.Compact(named)
	switch {
	case len(named) == 0 && prefix == "":
		return "", errors.New("no member knows of a ruleset before the present one: name one (sluice rules history)")
	case len(named) == 0:
		return "", fmt.Errorf("no member keeps a ruleset %s…", prefix)
	case len(named) > 1 && prefix == "":
		return "", fmt.Errorf("members had different rulesets before the present one; name one of %s", strings.Join(named, ", "))
	case len(named) > 1:
		return "", fmt.Errorf("%s… may be %s", prefix, strings.Join(named, " or "))
	}
	for _, r := range all {
		if !slices.Contains(r.Kept, named[0]) && r.Holds != named[0] {
			return "", fmt.Errorf("%s does not keep %s, so it could not follow (rules_kept); deploy its files instead", r.URL, named[0])
		}
	}
	return named[0], nil
}

// before is the ruleset that was in force on a member before the present one; ""
// where it does not know.
func before(r *memberRulesets) string {
	for _, s := range r.History {
		if s.Ruleset != r.InForce.Ruleset {
			return s.Ruleset
		}
	}
	return ""
}

// held is the ruleset that the folders of all members hold.
func held(all []memberRulesets) (string, error) {
	for _, r := range all {
		if r.Holds != all[0].Holds {
			return "", fmt.Errorf("the folders hold different rulesets, %s at %s and %s at %s: deploy one to all, or use --stay", short(all[0].Holds), all[0].URL, short(r.Holds), r.URL)
		}
	}
	return all[0].Holds, nil
}

// await asks the members until a ruleset is in force on all that answer.
func (m *members) await(ctx context.Context, hash string) error {
	ctx, cancel := context.WithTimeout(ctx, inForceWithin)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		all, err := m.ask(ctx)
		behind := ""
		for _, r := range all {
			if r.Error == "" && r.InForce.Ruleset != hash {
				behind = fmt.Sprintf("%s still has %s", r.URL, short(r.InForce.Ruleset))
			}
		}
		if err == nil && behind == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = errors.New(behind)
			}
			return fmt.Errorf("the control is sent, and after %v %s is not in force everywhere: %w", inForceWithin, short(hash), err)
		case <-tick.C:
		}
	}
}
