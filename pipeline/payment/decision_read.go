package payment

import "strconv"

// DecisionReader reads decisions as Append writes them, of any order of fields. Who
// follows the topic reads every decision, and few need to know what one rests on.
// The zero value is ready; one reader serves one goroutine.
type DecisionReader struct {
	s scanner
}

// Read reads into d all of a decision but its evidence and its shadow results,
// which are most of its bytes and are only passed over. The strings of d point into
// data or the reader, and are valid as long as data is not changed, and until the
// next call; the slices of d are used again. An error is a *Refusal.
func (r *DecisionReader) Read(data []byte, d *Decision) error {
	d.Reset()
	d.V, d.Revision = 0, 0
	s := &r.s
	s.scratch = s.scratch[:0]
	s.reset(data)
	if s.peek() != '{' {
		return &Refusal{Reason: ReasonNotJSON}
	}
	r.decision(d)
	if !s.halt && (s.peek() != 0 || s.pos < len(data)) {
		s.broken()
	}
	if s.halt {
		return &Refusal{Reason: ReasonNotJSON}
	}
	if s.refusal.Reason != "" {
		refusal := s.refusal
		return &refusal
	}
	return nil
}

func (r *DecisionReader) decision(d *Decision) {
	s := &r.s
	o, _ := s.enter("")
	for name, more := s.field(&o); more; name, more = s.field(&o) {
		switch name {
		case "v":
			d.V = r.count(name).N
		case "decision_id":
			d.DecisionID, _ = s.text(name)
		case "transaction_id":
			d.TransactionID, _ = s.text(name)
		case "revision":
			d.Revision = r.count(name).N
		case "verdict":
			d.Verdict = r.verdict(name)
		case "source":
			d.Source = r.source(name)
		case "final":
			d.Final = r.bool(name)
		case "corrects":
			d.Corrects = r.source(name)
		case "points":
			d.Points = r.count(name)
		case "score":
			d.Score = r.count(name)
		case "reasons":
			r.reasons(d)
		case "payer_code":
			d.PayerCode, _ = s.text(name)
		case "payer_message":
			d.PayerMessage, _ = s.text(name)
		case "hold":
			r.hold(&d.Hold)
		case "settled_by":
			r.settled(&d.SettledBy)
		case "transaction":
			r.summary(&d.Transaction)
		case "event_time":
			d.EventTime = r.time(name)
		case "received_at":
			d.ReceivedAt = r.time(name)
		case "decided_at":
			d.DecidedAt = r.time(name)
		case "decide_by":
			d.DecideBy = r.time(name)
		case "degraded":
			d.Degraded = r.list(name, d.Degraded)
		case "versions":
			r.versions(&d.Versions)
		default:
			s.skip()
		}
	}
}

func (r *DecisionReader) reasons(d *Decision) {
	s := &r.s
	if !s.array("reasons") {
		return
	}
	for n := 0; s.item(n); n++ {
		var reason DecisionReason
		o, _ := s.enter("reasons")
		for name, more := s.field(&o); more; name, more = s.field(&o) {
			switch name {
			case "code":
				reason.Code, _ = s.text(name)
			case "rule":
				reason.Rule, _ = s.text(name)
			case "points":
				reason.Points = r.count(name).N
			case "detail":
				reason.Detail, _ = s.text(name)
			default:
				s.skip()
			}
		}
		d.Reasons = append(d.Reasons, reason)
	}
}

func (r *DecisionReader) hold(h *HoldTerms) {
	s := &r.s
	o, ok := s.enter("hold")
	if !ok {
		return
	}
	for name, more := s.field(&o); more; name, more = s.field(&o) {
		switch name {
		case "needs":
			h.Needs = r.list(name, h.Needs)
		case "methods":
			h.Methods = r.list(name, h.Methods)
		case "expires_at":
			h.ExpiresAt = r.time(name)
		case "on_expiry":
			h.OnExpiry = r.verdict(name)
		default:
			s.skip()
		}
	}
}

func (r *DecisionReader) summary(t *Summary) {
	s := &r.s
	o, ok := s.enter("transaction")
	if !ok {
		return
	}
	for name, more := s.field(&o); more; name, more = s.field(&o) {
		switch name {
		case "type":
			t.Type, _ = s.text(name)
		case "channel":
			t.Channel, _ = s.text(name)
		case "amount":
			r.amount(&t.Amount)
		case "payer":
			t.Payer, _ = s.text(name)
		case "payee":
			t.Payee, _ = s.text(name)
		case "instrument":
			t.Instrument, _ = s.text(name)
		case "device":
			t.Device, _ = s.text(name)
		case "order_id":
			t.OrderID, _ = s.text(name)
		default:
			s.skip()
		}
	}
}

func (r *DecisionReader) amount(a *Amount) {
	s := &r.s
	o, ok := s.enter("amount")
	if !ok {
		return
	}
	for name, more := s.field(&o); more; name, more = s.field(&o) {
		switch name {
		case "value":
			a.Value, _ = r.number(name)
		case "currency":
			code, ok := s.text(name)
			if !ok {
				continue
			}
			if a.Currency, ok = ParseCurrency(code); !ok {
				s.refuse(ReasonUnknownCurrency, name)
			}
		default:
			s.skip()
		}
	}
}

func (r *DecisionReader) settled(by *Settled) {
	s := &r.s
	o, ok := s.enter("settled_by")
	if !ok {
		return
	}
	for name, more := s.field(&o); more; name, more = s.field(&o) {
		switch name {
		case "review_id":
			by.ReviewID, _ = s.text(name)
		case "reviewer":
			by.Reviewer, _ = s.text(name)
		case "label":
			by.Label, _ = s.text(name)
		case "outcome_id":
			by.OutcomeID, _ = s.text(name)
		case "outcome":
			by.Outcome, _ = s.text(name)
		default:
			s.skip()
		}
	}
}

func (r *DecisionReader) versions(v *Versions) {
	s := &r.s
	o, ok := s.enter("versions")
	if !ok {
		return
	}
	for name, more := s.field(&o); more; name, more = s.field(&o) {
		switch name {
		case "rules":
			v.Rules, _ = s.text(name)
		case "model":
			v.Model, _ = s.text(name)
		case "rates":
			v.Rates, _ = s.text(name)
		default:
			s.skip()
		}
	}
}

// list reads strings into a slice that is used again.
func (r *DecisionReader) list(path string, into []string) []string {
	into = into[:0]
	s := &r.s
	if !s.array(path) {
		return into
	}
	for n := 0; s.item(n); n++ {
		item, _ := s.text(path)
		into = append(into, item)
	}
	return into
}

func (r *DecisionReader) verdict(path string) (v Verdict) {
	name, ok := r.s.text(path)
	if !ok {
		return 0
	}
	if v, ok = ParseVerdict(name); !ok {
		r.s.refuse(ReasonWrongType, path)
	}
	return v
}

func (r *DecisionReader) source(path string) Source {
	name, _ := r.s.text(path)
	return Source(name)
}

func (r *DecisionReader) time(path string) Time {
	text, ok := r.s.text(path)
	if !ok {
		return 0
	}
	t, ok := ParseTime(text)
	if !ok {
		r.s.refuse(ReasonBadTime, path)
	}
	return t
}

// number reads a whole number; ok is false for null and for what is refused.
func (r *DecisionReader) number(path string) (v int64, ok bool) {
	token, _, ok := r.s.number(path)
	if !ok {
		return 0, false
	}
	v, err := strconv.ParseInt(token, 10, 64)
	if err != nil {
		r.s.refuse(ReasonWrongType, path)
	}
	return v, err == nil
}

func (r *DecisionReader) count(path string) Count {
	v, ok := r.number(path)
	return Count{int(v), ok}
}

func (r *DecisionReader) bool(path string) bool {
	switch s := &r.s; s.peek() {
	case 't':
		s.literal("true")
		return true
	case 'f':
		s.literal("false")
	case 'n':
		s.literal("null")
	default:
		s.wrongType(path)
	}
	return false
}
