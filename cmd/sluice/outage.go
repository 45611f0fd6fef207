package main

import (
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/spf13/cobra"
)

// outageSubject keeps marks and what takes them back in order.
const outageSubject = "outage"

func outageCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "outage", Short: "Mark outages, whose technical failures stop counting", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(outageMarkCommand(), outageEndCommand())
	return cmd
}

func outageMarkCommand() *cobra.Command {
	var c controls
	var match payment.OutageMatch
	var from string
	cmd := &cobra.Command{
		Use:   "mark",
		Short: "Mark an outage, also after the fact: its technical failures stop counting",
		Long: `Mark the outage of a bank, a channel or a payee (of several, all must hold): the technical failures of its
payments with event times from --from until --until stop counting in every window.`,
		Example: "  sluice outage mark --bank icbc --from 2026-11-23T00:40:00Z --until 2026-11-23T00:55:00Z --why 'bank down' --brokers kafka-1:9092",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			begins, err := moment("--from", from, now, time.UTC)
			if err != nil {
				return err
			}
			return c.send(cmd, payment.Control{Kind: payment.ControlOutage, From: begins, Match: match}, outageSubject)
		},
	}
	c.flags(cmd)
	c.untilFlag(cmd, " (needed)")
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "event time at which it began: RFC 3339, or how long ago, such as -20m (needed)")
	f.StringVar(&match.Bank, "bank", "", "bank of the instrument")
	f.StringVar(&match.Channel, "channel", "", "channel")
	f.StringVar(&match.Payee, "payee", "", "account of the payee")
	return cmd
}

func outageEndCommand() *cobra.Command {
	var c controls
	cmd := &cobra.Command{
		Use:     "end CONTROL",
		Short:   "Take the mark of an outage back: its failures count again",
		Example: "  sluice outage end k-5f0c1d2e3a4b5c6d --why 'it was another bank' --brokers kafka-1:9092",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.send(cmd, payment.Control{Kind: payment.ControlOutageEnd, Of: args[0]}, outageSubject)
		},
	}
	c.flags(cmd)
	return cmd
}
