package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/rules"
	"github.com/spf13/cobra"
)

// sendWithin is how long a broker may take to acknowledge a control.
const sendWithin = 30 * time.Second

// controls are the flags of the commands that change something at run time. Each
// writes one record to risk.controls, which every member reads.
type controls struct {
	file, rules, id, by, why, until, effective, format string
	brokers                                            []string
}

// where takes the flags that say where the topics are, and the ruleset.
func (c *controls) where(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.file, "config", "", "configuration file (YAML) of the gate: its cluster, and the names of its topics")
	f.StringSliceVar(&c.brokers, "brokers", pipeline.DefaultConfig().Kafka.Brokers, "addresses of the Kafka cluster")
	f.StringVar(&c.rules, "rules", "", "folder of the ruleset, to know its lists and rules")
	f.StringVar(&c.format, "format", "text", "text or json")
}

// flags takes all that a control has in common with the others.
func (c *controls) flags(cmd *cobra.Command) {
	c.where(cmd)
	f := cmd.Flags()
	f.StringVar(&c.id, "id", "", "id of the control; one that was sent before counts once (default: a new one)")
	f.StringVar(&c.by, "by", "", "who does it (default: the user of this machine)")
	f.StringVar(&c.why, "why", "", "why, in a few words")
}

// effectiveFlag takes --effective-at.
func (c *controls) effectiveFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.effective, "effective-at", "", "event time of payments from which on it counts: RFC 3339, or how long from now, such as 10m (default: now)")
}

// untilFlag takes --until.
func (c *controls) untilFlag(cmd *cobra.Command, otherwise string) {
	cmd.Flags().StringVar(&c.until, "until", "", "event time of payments until which it counts: RFC 3339, a day (its end), or how long from now, such as 90m or 3d"+otherwise)
}

// loaded returns the settings, and the ruleset where --rules names one.
func (c *controls) loaded(cmd *cobra.Command) (config pipeline.Config, set *rules.Ruleset, err error) {
	if c.format != "text" && c.format != "json" {
		return config, nil, fmt.Errorf("--format %q: must be text or json", c.format)
	}
	if config, err = pipeline.LoadConfig(c.file, os.Environ()); err != nil {
		return config, nil, err
	}
	if cmd.Flags().Changed("brokers") {
		config.Kafka.Brokers = c.brokers
	}
	if c.rules != "" {
		set, err = rules.Load(c.rules)
	}
	return config, set, err
}

// openCluster prepares a connection; a broker that does not answer is said.
func openCluster(cmd *cobra.Command, config *pipeline.Config) (*broker.Conn, error) {
	var said time.Time
	return config.Connect(func(_ string, err error) {
		if now := time.Now(); now.Sub(said) > 5*time.Second {
			said = now
			fmt.Fprintln(cmd.ErrOrStderr(), "sluice: the broker does not answer as hoped; trying again:", err)
		}
	})
}

// send completes a control, checks it as a gate would, and writes it to
// risk.controls. Controls about one subject keep their order.
func (c *controls) send(cmd *cobra.Command, k payment.Control, subject string) error {
	config, set, err := c.loaded(cmd)
	if err != nil {
		return err
	}
	now := time.Now()
	if err := c.complete(&k, now, set); err != nil {
		return err
	}
	record := k.Append(nil)
	decoder := payment.Decoder{Limits: config.Limits()}
	if refusal := decoder.Control(record, payment.TimeOf(now), new(payment.Control)); refusal != nil {
		return refused(refusal)
	}
	if set != nil {
		if err := set.CheckControl(&k); err != nil {
			return err
		}
	}
	conn, err := openCluster(cmd, &config)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), sendWithin)
	defer cancel()
	if err := conn.Produce(ctx, config.Topics.Controls, broker.ByKey, []broker.Message{{Key: []byte(subject), Value: record}}); err != nil {
		return fmt.Errorf("nobody knows whether %s has the control; send it again with --id %s, and it counts once: %w", config.Topics.Controls, k.ID, err)
	}
	if c.format == "json" {
		fmt.Fprintf(cmd.OutOrStdout(), "%s\n", record)
	} else {
		fmt.Fprintf(cmd.OutOrStdout(), "%s  %s %s\n", k.ID, k.Kind, subject)
	}
	return nil
}

// complete fills in what the flags say.
func (c *controls) complete(k *payment.Control, now time.Time, set *rules.Ruleset) (err error) {
	zone := time.UTC
	if set != nil && set.Policy().Location != nil {
		zone = set.Policy().Location
	}
	k.ID, k.By, k.Why, k.EventTime = c.id, c.by, c.why, payment.TimeOf(now)
	if k.ID == "" {
		var random [8]byte
		_, _ = rand.Read(random[:]) // it never fails
		k.ID = "k-" + hex.EncodeToString(random[:])
	}
	if k.By == "" {
		u, err := user.Current()
		if err != nil {
			return fmt.Errorf("--by is needed: the user of this machine is not known: %w", err)
		}
		k.By = u.Username
	}
	if k.Until == 0 {
		if k.Until, err = moment("--until", c.until, now, zone); err != nil {
			return err
		}
	}
	k.EffectiveAt, err = moment("--effective-at", c.effective, now, zone)
	return err
}

// refused says in the words of the command line why a gate would refuse a control.
func refused(r *payment.Refusal) error {
	field := r.Field
	switch field {
	case "until", "why", "by", "from":
		field = "--" + field
	case "effective_at":
		field = "--effective-at"
	case "instead_of":
		field = "--instead-of"
	case "control_id":
		field = "--id"
	}
	switch r.Reason {
	case payment.ReasonMissingField:
		if r.Field == "match" {
			return errors.New("it must be said which payments are meant")
		}
		return fmt.Errorf("%s is needed", field)
	case payment.ReasonExpired:
		return fmt.Errorf("%s is over already", field)
	case payment.ReasonUntilEarly:
		return fmt.Errorf("%s is not after the beginning", field)
	case payment.ReasonBadHash:
		return fmt.Errorf("%s: a ruleset is named by its hash, sha256: and 64 digits", field)
	}
	return fmt.Errorf("%s: %s", field, r.Reason)
}

// moment reads a time: RFC 3339, a day, of which it is the end in the zone, or a
// length of time from now; 0 for "".
func moment(flag, s string, now time.Time, zone *time.Location) (payment.Time, error) {
	if s == "" {
		return 0, nil
	}
	if t, ok := payment.ParseTime(s); ok {
		return t, nil
	}
	if day, err := time.Parse(time.DateOnly, s); err == nil {
		return payment.TimeOf(time.Date(day.Year(), day.Month(), day.Day()+1, 0, 0, 0, 0, zone)), nil
	}
	if d, ok := length(s); ok {
		return payment.TimeOf(now.Add(d)), nil
	}
	return 0, fmt.Errorf("%s %q: must be a time such as 2027-03-31T18:00:00+08:00, a day such as 2027-03-31, or a length of time such as 90m or 3d", flag, s)
}

// length reads a length of time, in days and weeks too.
func length(s string) (time.Duration, bool) {
	for suffix, unit := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if digits, ok := strings.CutSuffix(s, suffix); ok {
			n, err := strconv.Atoi(digits)
			return time.Duration(n) * unit, err == nil && n > 0 && n < 10_000
		}
	}
	d, err := time.ParseDuration(s)
	return d, err == nil
}
