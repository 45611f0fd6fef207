package main

import (
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/spf13/cobra"
)

func rulesDisableCommand() *cobra.Command {
	var c controls
	cmd := &cobra.Command{
		Use:     "disable RULE",
		Short:   "Switch a rule off on every member, until a time",
		Long:    "Switch a rule off for payments from --effective-at (now) until --until, by their event time. It is not evaluated, and nothing is reloaded.",
		Example: "  sluice rules disable card-testing --until 2h --why 'holds everybody since the sale began' --brokers kafka-1:9092",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.send(cmd, payment.Control{Kind: payment.ControlRuleDisable, Rule: args[0]}, args[0])
		},
	}
	c.flags(cmd)
	c.effectiveFlag(cmd)
	c.untilFlag(cmd, " (needed)")
	return cmd
}

func rulesEnableCommand() *cobra.Command {
	var c controls
	var match payment.SnoozeMatch
	cmd := &cobra.Command{
		Use:   "enable RULE",
		Short: "Take back what has disabled a rule, or snoozed it",
		Long: `Take back what has disabled a rule, for payments from --effective-at (now) on. With --payer, --payee, --card or
--device, the snoozes of the rule for just these are taken back instead.`,
		Example: "  sluice rules enable card-testing --brokers kafka-1:9092\n  sluice rules enable impossible-travel --payer u-1001 --brokers kafka-1:9092",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.send(cmd, payment.Control{Kind: payment.ControlRuleEnable, Rule: args[0], Snooze: match}, args[0])
		},
	}
	c.flags(cmd)
	c.effectiveFlag(cmd)
	matchFlags(cmd, &match)
	return cmd
}

func rulesSnoozeCommand() *cobra.Command {
	var c controls
	var match payment.SnoozeMatch
	cmd := &cobra.Command{
		Use:     "snooze RULE",
		Short:   "Keep a rule from firing for one payer, payee, card or device, until a time",
		Long:    "Keep a rule from firing for the payments of a payer, payee, card or device (of several, all must hold), from --effective-at (now) until --until, by event time.",
		Example: "  sluice rules snooze impossible-travel --payer u-1001 --until 7d --why 'on a journey, has called' --brokers kafka-1:9092",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.send(cmd, payment.Control{Kind: payment.ControlSnooze, Rule: args[0], Snooze: match}, args[0])
		},
	}
	c.flags(cmd)
	c.effectiveFlag(cmd)
	c.untilFlag(cmd, " (needed)")
	matchFlags(cmd, &match)
	return cmd
}

func matchFlags(cmd *cobra.Command, m *payment.SnoozeMatch) {
	f := cmd.Flags()
	f.StringVar(&m.Payer, "payer", "", "account of the payer")
	f.StringVar(&m.Payee, "payee", "", "account of the payee")
	f.StringVar(&m.Card, "card", "", "token of the card")
	f.StringVar(&m.Device, "device", "", "id of the device")
}

func rulesActivateCommand() *cobra.Command {
	var c controls
	var insteadOf string
	cmd := &cobra.Command{
		Use:   "activate HASH",
		Short: "Put a ruleset that was loaded before in force on every member",
		Long: `Put a ruleset in force that the members have loaded before and kept (rules_kept), by its hash. It stays, over
restarts and reloads of the folder, until another one is activated: activating the hash of the folder's own
ruleset ends it. With --instead-of, it stands in the place of that ruleset only, and ends with the next one that
is deployed.`,
		Example: "  sluice rules activate sha256:671e506b… --instead-of sha256:34668b03… --why 'back to what was good' --brokers kafka-1:9092",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.send(cmd, payment.Control{Kind: payment.ControlRulesetActivate, Ruleset: args[0], InsteadOf: insteadOf}, "ruleset")
		},
	}
	c.flags(cmd)
	cmd.Flags().StringVar(&insteadOf, "instead-of", "", "hash of the ruleset of the folder in whose place it is put")
	return cmd
}
