package payment

// ControlKind is the closed set of what people change at run time. Zero means absent.
type ControlKind uint8

// What a control does.
const (
	ControlOutage    ControlKind = iota + 1 // marks an outage: the technical failures that it covers stop counting
	ControlOutageEnd                        // takes a mark back: from then on they count again
)

var controlNames = [...]string{"", "outage", "outage_end"}

// ControlNames returns the closed set as it is written.
func ControlNames() []string { return append([]string(nil), controlNames[1:]...) }

// ParseControlKind returns the kind of a name.
func ParseControlKind(name string) (ControlKind, bool) {
	return parseName[ControlKind](name, controlNames[:])
}

// String returns the name as it is written.
func (k ControlKind) String() string { return controlNames[k] }

// Control is what a person changed at run time. Its strings live as those of Transaction.
type Control struct {
	ID        string // names the control, so that a repeated record counts once
	Kind      ControlKind
	EventTime Time
	By        string      // who did it
	Why       string      // "" when absent
	Of        string      // of an outage_end: the ID of the outage that it takes back
	From      Time        // of an outage: its first instant
	Until     Time        // of an outage: the first instant after it, later than From
	Match     OutageMatch // of an outage: whom it concerns, never empty
}

// OutageMatch says which transactions an outage concerns. A field that is ""
// asks for nothing; the others must all hold.
type OutageMatch struct {
	Channel string
	Bank    string // instrument.bank
	Payee   string // payee.account_id
}

// Matches reports whether the outage concerns a transaction with this channel,
// bank of the instrument and account of the payee, "" where it has none. An
// empty match concerns none.
func (m OutageMatch) Matches(channel, bank, payee string) bool {
	return m != OutageMatch{} &&
		(m.Channel == "" || m.Channel == channel) &&
		(m.Bank == "" || m.Bank == bank) &&
		(m.Payee == "" || m.Payee == payee)
}

// Control decodes one control record whose Kafka time is kafkaTime into c.
func (d *Decoder) Control(data []byte, kafkaTime Time, c *Control) *Refusal {
	*c = Control{}
	if !d.begin(data) {
		return d.result()
	}
	s := &d.s
	top, _ := s.enter("")
	for name, more := s.field(&top); more; name, more = s.field(&top) {
		switch name {
		case "v":
			d.version()
		case "control_id":
			c.ID = d.id("control_id")
		case "control":
			if v, ok := d.word("control"); ok {
				if c.Kind, ok = ParseControlKind(v); !ok {
					s.refuse(ReasonUnknownControl, "control")
				}
			}
		case "event_time":
			c.EventTime = d.time("event_time")
		case "by":
			c.By = d.id("by")
		case "why":
			c.Why = d.note("why")
		case "of":
			c.Of = d.id("of")
		case "from":
			c.From = d.time("from")
		case "until":
			c.Until = d.time("until")
		case "match":
			c.Match = d.outageMatch()
		default:
			s.skip()
		}
	}
	d.end()
	switch {
	case c.ID == "":
		s.refuse(ReasonMissingField, "control_id")
	case c.Kind == 0:
		s.refuse(ReasonMissingField, "control")
	case c.By == "":
		s.refuse(ReasonMissingField, "by")
	case c.Kind == ControlOutage:
		d.checkOutage(c)
	case c.Kind == ControlOutageEnd && c.Of == "":
		s.refuse(ReasonMissingField, "of")
	}
	return d.timed(c.EventTime, kafkaTime)
}

// checkOutage refuses an outage that does not say when it was and whom it
// concerned. It may lie ahead: a bank announces its maintenance.
func (d *Decoder) checkOutage(c *Control) {
	switch s := &d.s; {
	case c.From == 0:
		s.refuse(ReasonMissingField, "from")
	case c.Until == 0:
		s.refuse(ReasonMissingField, "until")
	case c.Until <= c.From:
		s.refuse(ReasonUntilEarly, "until")
	case c.Match == OutageMatch{}:
		s.refuse(ReasonMissingField, "match")
	}
}

// outageMatch reads whom an outage concerns. Unlike elsewhere a name that is
// not known is refused: without it the outage would concern more than was meant.
func (d *Decoder) outageMatch() (m OutageMatch) {
	s := &d.s
	o, ok := s.enter("match")
	if !ok {
		return m
	}
	for name, more := s.field(&o); more; name, more = s.field(&o) {
		switch name {
		case "channel":
			m.Channel = d.channel("match.channel")
		case "instrument.bank":
			m.Bank = d.string("match.instrument.bank", maxText)
		case "payee.account_id":
			m.Payee = d.id("match.payee.account_id")
		default:
			s.refuse(ReasonUnknownControl, "match."+name)
			s.skip()
		}
	}
	return m
}
