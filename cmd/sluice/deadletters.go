package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/spf13/cobra"
)

func deadLettersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dead-letters",
		Short: "Look at the records that could not be used, and re-submit them after a fix",
		Long: `Records that could not be used stand in the topic of dead letters, byte for byte, with the reason.
They are listed, shown, and, when what was wrong has been put right, re-submitted: written once more
to the topic and the partition that they came from. A payment that had been answered with "invalid"
then gets its real verdict as the next revision of its decision.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(listLettersCommand(), showLettersCommand(), resubmitCommand())
	return cmd
}

// cluster are the flags that say where the topics are.
type cluster struct {
	file    string
	brokers []string
}

func (c *cluster) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.file, "config", "", "configuration file (YAML) of the gate: its cluster, and the names of its topics")
	f.StringSliceVar(&c.brokers, "brokers", pipeline.DefaultConfig().Kafka.Brokers, "addresses of the Kafka cluster")
}

// open reads the settings and prepares the connection. A cluster that does not answer is said, and waited for.
func (c *cluster) open(cmd *cobra.Command) (pipeline.Config, *broker.Conn, error) {
	config, err := pipeline.LoadConfig(c.file, os.Environ())
	if err != nil {
		return config, nil, err
	}
	if cmd.Flags().Changed("brokers") {
		config.Kafka.Brokers = c.brokers
	}
	var mu sync.Mutex
	var said time.Time
	conn, err := config.Connect(func(_ string, err error) {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(said) > 5*time.Second {
			said = time.Now()
			fmt.Fprintln(os.Stderr, "sluice: trying again:", err)
		}
	})
	return config, conn, err
}

// choice is which letters are meant; all conditions must hold.
type choice struct {
	reasons []string
	since   string
	topic   string
	id      string
	places  []pipeline.LetterAt // any of them; none: all
}

func (c *choice) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&c.reasons, "reason", nil, "only those refused for this reason (may be given several times)")
	f.StringVar(&c.since, "since", "", "only those refused since then: a time (RFC 3339), or how long ago (2h)")
	f.StringVar(&c.topic, "topic", "", "only those that came from this topic")
	f.StringVar(&c.id, "id", "", "only those of this transaction")
}

// among returns the letters that are meant, in the order of their places.
func (c *choice) among(letters *pipeline.Letters) (chosen []*pipeline.Letter, err error) {
	var known []string
	for _, r := range payment.Reasons() {
		known = append(known, string(r))
	}
	for _, r := range c.reasons {
		if !slices.Contains(known, r) {
			return nil, fmt.Errorf("--reason %q: must be one of %s", r, strings.Join(known, ", "))
		}
	}
	since, err := sinceTime(c.since, time.Now())
	if err != nil {
		return nil, err
	}
	for _, at := range c.places {
		if letters.At(at) == nil {
			return nil, fmt.Errorf("there is no dead letter %s", at)
		}
	}
	for _, l := range letters.All() {
		here := len(c.places) == 0 || slices.ContainsFunc(c.places, func(at pipeline.LetterAt) bool { return letters.At(at) == l })
		if here && !l.Time.Before(since) && (c.topic == "" || l.Topic == c.topic) && (c.id == "" || l.TransactionID == c.id) &&
			(len(c.reasons) == 0 || slices.Contains(c.reasons, string(l.Reason))) {
			chosen = append(chosen, l)
		}
	}
	return chosen, nil
}

// sinceTime reads a time, or how long before now it was; "" is the beginning.
func sinceTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, fmt.Errorf("--since %q: must be a time such as 2026-11-23T00:00:00Z, or how long ago, such as 2h", text)
	}
	return at, nil
}

// placesOf reads arguments of the form P/O.
func placesOf(args []string) (places []pipeline.LetterAt, err error) {
	for _, arg := range args {
		at, err := pipeline.ParseLetterAt(arg)
		if err != nil {
			return nil, err
		}
		places = append(places, at)
	}
	return places, nil
}

// readLetters reads the topic of dead letters, with progress. A topic that is not there is not waited for.
func readLetters(ctx context.Context, conn *broker.Conn, topic string) (*pipeline.Letters, error) {
	if err := conn.EnsureTopics(ctx, []broker.Topic{{Name: topic}}, false); err != nil {
		return nil, err
	}
	var bar *progress
	letters, err := pipeline.ReadLetters(ctx, conn, topic, func(done, of int64) {
		if bar == nil {
			bar = newCount(int(of), "reading "+topic, "records")
		}
		bar.set(done)
	})
	if bar != nil {
		bar.end()
	}
	return letters, err
}

// checkFormat allows text and json.
func checkFormat(format string) error {
	if format != "text" && format != "json" {
		return fmt.Errorf("--format %q: must be text or json", format)
	}
	return nil
}
