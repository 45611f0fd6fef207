package payment

// OutcomeKind is the closed set of what can become of a payment. Zero means
// that nothing is known yet: the status is `pending`.
type OutcomeKind uint8

// What became of a payment.
const (
	OutcomeSettled OutcomeKind = iota + 1
	OutcomeDeclinedByBank
	OutcomeTechnicalFailure
	OutcomeCancelled
	OutcomeRefunded
	OutcomeDisputed
	OutcomeDisputeWon
	OutcomeDisputeLost
	OutcomeFraudConfirmed
	OutcomeFraudCleared
	OutcomeStepUpPassed
	OutcomeStepUpFailed
)

var outcomeNames = [...]string{"pending", "settled", "declined_by_bank", "technical_failure", "cancelled", "refunded", "disputed",
	"dispute_won", "dispute_lost", "fraud_confirmed", "fraud_cleared", "step_up_passed", "step_up_failed"}

// OutcomeNames returns the closed set as it is written, without `pending`.
func OutcomeNames() []string { return append([]string(nil), outcomeNames[1:]...) }

// ParseOutcomeKind returns the kind of a name; `pending` is no outcome.
func ParseOutcomeKind(name string) (OutcomeKind, bool) {
	return parseName[OutcomeKind](name, outcomeNames[:])
}

// String returns the name as it is written; that of zero is pending.
func (k OutcomeKind) String() string { return outcomeNames[k] }

// Outcome is what became of a payment. Its strings live as those of Transaction.
type Outcome struct {
	ID            string // tells two equal partial refunds apart; "" when absent
	TransactionID string
	Kind          OutcomeKind
	EventTime     Time
	PayerID       string // "" when absent
	Amount        Money  // of a refund; Currency 0 when absent
	Source        string // who says so
	StandIn       bool   // the caller decided by itself, for want of an answer
}

// ReviewKind is the closed set of what a reviewer can do.
type ReviewKind uint8

// What a reviewer did.
const (
	ReviewClaim ReviewKind = iota + 1
	ReviewUnclaim
	ReviewNote
	ReviewEscalate
	ReviewRelease
	ReviewReject
)

var reviewNames = [...]string{"", "claim", "unclaim", "note", "escalate", "release", "reject"}

// ReviewNames returns the closed set as it is written.
func ReviewNames() []string { return append([]string(nil), reviewNames[1:]...) }

// ParseReviewKind returns the kind of a name.
func ParseReviewKind(name string) (ReviewKind, bool) {
	return parseName[ReviewKind](name, reviewNames[:])
}

// String returns the name as it is written.
func (k ReviewKind) String() string { return reviewNames[k] }

// ReviewLabels returns the closed set of labels that a review can carry.
func ReviewLabels() []string { return []string{"fraud", "genuine", "unknown"} }

// Review is what a reviewer did about a hold. Its strings live as those of Transaction.
type Review struct {
	ID            string // "" when absent
	TransactionID string
	Kind          ReviewKind
	Label         string // fraud, genuine, unknown, or "" when absent
	EventTime     Time
	PayerID       string // "" when absent
	Reviewer      string
	Note          string // "" when absent
}

// Outcome decodes one outcome record whose Kafka time is kafkaTime into o.
func (d *Decoder) Outcome(data []byte, kafkaTime Time, o *Outcome) *Refusal {
	*o = Outcome{}
	if !d.begin(data) {
		return d.result()
	}
	s := &d.s
	top, _ := s.enter("")
	for name, more := s.field(&top); more; name, more = s.field(&top) {
		switch name {
		case "v":
			d.version()
		case "outcome_id":
			o.ID = d.id("outcome_id")
		case "transaction_id":
			o.TransactionID = d.id("transaction_id")
		case "outcome":
			if v, ok := d.word("outcome"); ok {
				if o.Kind, ok = ParseOutcomeKind(v); !ok {
					s.refuse(ReasonUnknownOutcome, "outcome")
				}
			}
		case "event_time":
			o.EventTime = d.time("event_time")
		case "payer":
			o.PayerID = d.payerID()
		case "amount":
			if s.peek() == 'n' {
				s.literal("null")
			} else {
				o.Amount = d.amount()
			}
		case "source":
			o.Source = d.string("source", maxText)
		case "stand_in":
			o.StandIn = d.bool("stand_in")
		default:
			s.skip()
		}
	}
	d.end()
	switch {
	case o.TransactionID == "":
		s.refuse(ReasonMissingField, "transaction_id")
	case o.Kind == 0:
		s.refuse(ReasonMissingField, "outcome")
	}
	return d.timed(o.EventTime, kafkaTime)
}

// Review decodes one review record whose Kafka time is kafkaTime into r.
func (d *Decoder) Review(data []byte, kafkaTime Time, r *Review) *Refusal {
	*r = Review{}
	if !d.begin(data) {
		return d.result()
	}
	s := &d.s
	top, _ := s.enter("")
	for name, more := s.field(&top); more; name, more = s.field(&top) {
		switch name {
		case "v":
			d.version()
		case "review_id":
			r.ID = d.id("review_id")
		case "transaction_id":
			r.TransactionID = d.id("transaction_id")
		case "review":
			if v, ok := d.word("review"); ok {
				if r.Kind, ok = ParseReviewKind(v); !ok {
					s.refuse(ReasonUnknownReview, "review")
				}
			}
		case "label":
			if v, ok := d.word("label"); ok {
				if r.Label = v; v != "fraud" && v != "genuine" && v != "unknown" {
					s.refuse(ReasonUnknownReview, "label")
				}
			}
		case "event_time":
			r.EventTime = d.time("event_time")
		case "payer":
			r.PayerID = d.payerID()
		case "reviewer":
			r.Reviewer = d.id("reviewer")
		case "note":
			r.Note = d.note("note")
		default:
			s.skip()
		}
	}
	d.end()
	switch {
	case r.TransactionID == "":
		s.refuse(ReasonMissingField, "transaction_id")
	case r.Kind == 0:
		s.refuse(ReasonMissingField, "review")
	case r.Reviewer == "":
		s.refuse(ReasonMissingField, "reviewer")
	}
	return d.timed(r.EventTime, kafkaTime)
}

// timed checks the time that outcomes, reviews and controls must have, and ends the decoding.
func (d *Decoder) timed(t, kafkaTime Time) *Refusal {
	switch {
	case t == 0:
		d.s.refuse(ReasonMissingField, "event_time")
	case t > kafkaTime.Add(d.Limits.FutureBound):
		d.s.refuse(ReasonFutureTime, "event_time")
	}
	return d.result()
}

// payerID reads the payer of an outcome or review, of which only the account counts.
func (d *Decoder) payerID() (id string) {
	s := &d.s
	o, ok := s.enter("payer")
	if !ok {
		return ""
	}
	for name, more := s.field(&o); more; name, more = s.field(&o) {
		if name == "account_id" {
			id = d.id("payer.account_id")
		} else {
			s.skip()
		}
	}
	return id
}

// note reads what a person wrote: control characters, such as line feeds, are welcome.
func (d *Decoder) note(path string) string {
	v, _ := d.s.text(path)
	if tooLong(v, maxAttribute) {
		d.s.refuse(ReasonTooLong, path)
	}
	return v
}

func (d *Decoder) bool(path string) bool {
	switch d.s.peek() {
	case 't':
		d.s.literal("true")
		return !d.s.halt
	case 'f':
		d.s.literal("false")
	case 'n':
		d.s.literal("null")
	default:
		d.s.wrongType(path)
	}
	return false
}

// RecordKind is what a line of a file of records is.
type RecordKind uint8

// The kinds of records that stand in one file.
const (
	RecordTransaction RecordKind = iota
	RecordOutcome
	RecordReview
	RecordControl
)

// Kind tells what a line of a file of records is: one with a field `outcome`,
// `review` or `control` is that, any other a transaction.
func (d *Decoder) Kind(line []byte) RecordKind {
	kind, _ := d.Peek(line)
	return kind
}

// Peek tells what a line of a file of records is, as Kind does, and its event
// time, 0 where none can be read. It judges nothing else.
func (d *Decoder) Peek(line []byte) (kind RecordKind, eventTime Time) {
	if !d.begin(line) {
		return RecordTransaction, 0
	}
	s := &d.s
	top, _ := s.enter("")
	for name, more := s.field(&top); more; name, more = s.field(&top) {
		switch name {
		case "outcome":
			kind = RecordOutcome
		case "review":
			kind = RecordReview
		case "control":
			kind = RecordControl
		case "event_time":
			eventTime = d.time("event_time")
			continue
		}
		s.skip()
	}
	return kind, eventTime
}
