package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/spf13/cobra"
)

func holdsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "holds",
		Short: "Look at the payments on hold, and settle those that wait for a person",
		Long: `Payments on hold wait for a review, a step-up by the payer, or both, until they expire. They are
listed from the topics, and what a reviewer does is a record on the topic of reviews: the member of
the gate that owns the payment makes the next revision of its decision. A review that comes too late,
or to no hold, ends in dead letters with an alert.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(listHoldsCommand())
	for kind, what := range map[payment.ReviewKind]string{
		payment.ReviewClaim:    "Say that you work on a hold",
		payment.ReviewUnclaim:  "Leave a hold that you had claimed to others",
		payment.ReviewNote:     "Write a note about a payment",
		payment.ReviewEscalate: "Hand a hold to somebody who may decide it",
		payment.ReviewRelease:  "Let a payment go: what it needs beside a review, it still needs",
		payment.ReviewReject:   "Block a payment that is on hold, finally",
	} {
		cmd.AddCommand(reviewCommand(kind, what))
	}
	return cmd
}

// reviewCommand writes one kind of review.
func reviewCommand(kind payment.ReviewKind, what string) *cobra.Command {
	var at cluster
	r := payment.Review{Kind: kind}
	cmd := &cobra.Command{
		Use:   kind.String() + " TRANSACTION",
		Short: what,
		Long: what + `. It writes one record to the topic of reviews, prints its review_id, and does
not wait for the gate; sluice holds list shows what became of it.`,
		Example: fmt.Sprintf("  sluice holds %s 42000012342026112300001 --reviewer reviewer-7 --note 'payer called back'", kind),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.TransactionID = args[0]
			if r.Reviewer == "" {
				return errors.New("--reviewer is needed: who says so")
			}
			if kind == payment.ReviewNote && r.Note == "" {
				return errors.New("--note is needed: what there is to say")
			}
			id, err := sendReview(cmd, &at, r)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), id)
			return err
		},
	}
	at.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&r.Reviewer, "reviewer", reviewerName(), "who does it")
	f.StringVar(&r.Note, "note", "", "why, in your words; the payer never sees it")
	f.StringVar(&r.PayerID, "payer", "", "account id of the payer, the record's key; without it, the transaction's id is")
	if kind == payment.ReviewRelease || kind == payment.ReviewReject {
		f.StringVar(&r.Label, "label", "", "what you take the payment for: "+strings.Join(payment.ReviewLabels(), ", "))
	}
	return cmd
}

// reviewerName is who sits at the terminal, "" where nobody can say.
func reviewerName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return os.Getenv("USER")
}

// sendReview completes a review, checks it as the gate will, and writes it.
func sendReview(cmd *cobra.Command, at *cluster, r payment.Review) (id string, err error) {
	config, conn, err := at.open(cmd)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	var random [12]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", err
	}
	now := time.Now()
	r.ID, r.EventTime = "r-"+hex.EncodeToString(random[:]), payment.TimeOf(now.Truncate(time.Millisecond))
	record := r.Append(nil)
	decoder := payment.Decoder{Limits: config.Limits()}
	if refusal := decoder.Review(record, payment.TimeOf(now), new(payment.Review)); refusal != nil {
		return "", fmt.Errorf("this is no review: %w", refusal)
	}
	key := r.PayerID
	if key == "" {
		key = r.TransactionID
	}
	if err := conn.EnsureTopics(cmd.Context(), []broker.Topic{{Name: config.Topics.Reviews}}, false); err != nil {
		return "", err
	}
	message := broker.Message{Key: []byte(key), Value: record, Time: now.UnixMilli()}
	return r.ID, conn.Produce(cmd.Context(), config.Topics.Reviews, broker.ByKey, []broker.Message{message})
}

// readHolds folds the topics into the open holds, with progress.
func readHolds(ctx context.Context, conn *broker.Conn, topics *pipeline.Topics, since time.Time) ([]pipeline.OpenHold, error) {
	if err := conn.EnsureTopics(ctx, []broker.Topic{{Name: topics.Decisions}, {Name: topics.Reviews}}, false); err != nil {
		return nil, err
	}
	var bar *progress
	holds, err := pipeline.ReadHolds(ctx, conn, topics, since, func(done, of int64) {
		if bar == nil {
			bar = newCount(int(of), "reading "+topics.Decisions, "records")
		}
		bar.set(done)
	})
	if bar != nil {
		bar.end()
	}
	return holds, err
}
