package main

import (
	"bufio"
	"io"
	"iter"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// labelDelay is when the Handbook knows of a fraud.
const labelDelay = 7 * 24 * time.Hour

// record is one line of a file, or one record of a topic.
type record struct {
	kind  payment.RecordKind // a transaction or an outcome
	at    payment.Time       // its event time
	key   string             // the payer
	value []byte             // valid until the next record
}

// records makes transactions of purchases, and of each fraud the outcome
// fraud_confirmed when it becomes known, delay after its transaction, all in the
// order of event time: an outcome comes before the transactions of its second,
// but always behind its own. The last outcomes follow the last transaction.
func records(purchases iter.Seq2[purchase, error], delay time.Duration) iter.Seq2[record, error] {
	return func(yield func(record, error) bool) {
		var value []byte
		var unknown []purchase // frauds nobody knows of yet, oldest first
		confirm := func(until payment.Time) bool {
			for ; len(unknown) > 0 && unknown[0].at.Add(delay) <= until; unknown = unknown[1:] {
				o := confirmed(&unknown[0], delay)
				value = o.Append(value[:0])
				if !yield(record{payment.RecordOutcome, o.EventTime, o.PayerID, value}, nil) {
					return false
				}
			}
			return true
		}
		for p, err := range purchases {
			if err != nil {
				yield(record{}, err)
				return
			}
			if !confirm(p.at) {
				return
			}
			t := transaction(&p)
			value = t.Append(value[:0])
			if !yield(record{payment.RecordTransaction, p.at, p.customer, value}, nil) {
				return
			}
			if p.fraud {
				unknown = append(unknown, p)
			}
			if delay == 0 && !confirm(p.at) {
				return
			}
		}
		confirm(payment.Time(1<<63 - 1))
	}
}

func transaction(p *purchase) payment.Transaction {
	t := payment.Transaction{ID: p.id, Type: payment.TypePayment, Channel: "pos", EventTime: p.at}
	t.Amount = payment.Money{Value: p.cents, Currency: euro()}
	t.Payer.AccountID = p.customer
	t.Terminal.ID = p.terminal
	return t
}

func confirmed(p *purchase, delay time.Duration) payment.Outcome {
	return payment.Outcome{TransactionID: p.id, Kind: payment.OutcomeFraudConfirmed, EventTime: p.at.Add(delay), PayerID: p.customer}
}

// euro is the currency of the data set.
func euro() payment.Currency {
	c, _ := payment.ParseCurrency("EUR")
	return c
}

// writeLines writes records as JSON Lines.
func writeLines(w io.Writer, all iter.Seq2[record, error]) error {
	out := bufio.NewWriterSize(w, 1<<20)
	for r, err := range all {
		if err != nil {
			return err
		}
		if _, err := out.Write(r.value); err != nil {
			return err
		}
		if err := out.WriteByte('\n'); err != nil {
			return err
		}
	}
	return out.Flush()
}
