package payment

import "strings"

// ControlKind is the closed set of what people change at run time. Zero means absent.
type ControlKind uint8

// What a control does.
const (
	ControlOutage          ControlKind = iota + 1 // marks an outage: the technical failures that it covers stop counting
	ControlOutageEnd                              // takes a mark back: from then on they count again
	ControlListAdd                                // puts an entry on a list
	ControlListRemove                             // takes the entries of a value off a list, those of its file too
	ControlRuleDisable                            // a rule is not evaluated
	ControlRuleEnable                             // takes back what disables a rule, or what snoozes it for one match
	ControlSnooze                                 // a rule does not fire for some payments
	ControlRulesetActivate                        // puts a ruleset that was loaded before in force
)

var controlNames = [...]string{"", "outage", "outage_end", "list_add", "list_remove", "rule_disable", "rule_enable", "snooze", "ruleset_activate"}

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
	Why       string      // "" when absent, which it is not where something is switched off, listed or activated
	Of        string      // of an outage_end: the ID of the outage that it takes back
	From      Time        // of an outage: its first instant
	Match     OutageMatch // of an outage: whom it concerns, never empty
	// Until is, of an outage, the first instant after it, later than From. Of a
	// list_add, a rule_disable and a snooze it is the first event time at which
	// they no longer count, later than EffectiveAt; 0 for an entry without end.
	Until Time
	// EffectiveAt is the event time of payments from which on the control counts;
	// EventTime, where the record does not say. Outages do not have it.
	EffectiveAt Time
	List        string      // of a list_add or list_remove: its name
	Value       string      // and the value, as people write it
	Rule        string      // of a rule_disable, rule_enable or snooze: the rule's id
	Snooze      SnoozeMatch // of a snooze: which payments, never empty; of a rule_enable: which snoozes end, empty for none
	Ruleset     string      // of a ruleset_activate: the hash that names the ruleset
	InsteadOf   string      // of a ruleset_activate: the ruleset of the folder in whose place it is put, "" for any
}

// SnoozeMatch says for which payments a rule is snoozed. A field that is ""
// asks for nothing; the others must all hold.
type SnoozeMatch struct {
	Payer  string // payer.account_id
	Payee  string // payee.account_id
	Card   string // instrument.token of a card
	Device string // device.id
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
	var match matchNames
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
		case "effective_at":
			c.EffectiveAt = d.time("effective_at")
		case "list":
			c.List = d.id("list")
		case "value":
			c.Value = d.string("value", maxContact)
		case "rule":
			c.Rule = d.id("rule")
		case "ruleset":
			c.Ruleset = d.rulesetHash("ruleset")
		case "instead_of":
			c.InsteadOf = d.rulesetHash("instead_of")
		case "match":
			match = d.match(c)
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
	case c.Kind > ControlOutageEnd:
		d.checkOverride(c, &match, kafkaTime)
	}
	d.checkMatch(c, &match)
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

// checkOverride refuses what does not say what it changes, until when and why,
// and what had ended when it came to Kafka: who sends that means another time.
func (d *Decoder) checkOverride(c *Control, match *matchNames, kafkaTime Time) {
	s := &d.s
	ends, accounts := false, true // has an end; says why
	switch c.Kind {
	case ControlListAdd, ControlListRemove:
		ends, accounts = c.Kind == ControlListAdd, c.Kind == ControlListAdd
		d.need(c.List, "list")
		d.need(c.Value, "value")
	case ControlRuleDisable, ControlSnooze:
		ends = true
		d.need(c.Rule, "rule")
		if c.Until == 0 {
			s.refuse(ReasonMissingField, "until")
		}
		if c.Kind == ControlSnooze && c.Snooze == (SnoozeMatch{}) {
			s.refuse(ReasonMissingField, "match")
		}
	case ControlRuleEnable:
		accounts = false
		d.need(c.Rule, "rule")
		if match.there && c.Snooze == (SnoozeMatch{}) { // whoever sends it means one payer, not all
			s.refuse(ReasonMissingField, "match")
		}
	case ControlRulesetActivate:
		d.need(c.Ruleset, "ruleset")
		if c.EffectiveAt != 0 { // it acts when it comes: two rulesets cannot be in force
			s.refuse(ReasonWrongType, "effective_at")
		}
	}
	if accounts {
		d.need(c.Why, "why")
	}
	if c.EffectiveAt == 0 && c.Kind != ControlRulesetActivate {
		c.EffectiveAt = c.EventTime
	}
	switch {
	case !ends || c.Until == 0:
	case c.Until <= c.EffectiveAt:
		s.refuse(ReasonUntilEarly, "until")
	case c.Until <= kafkaTime:
		s.refuse(ReasonExpired, "until")
	}
}

// need refuses a record without a text.
func (d *Decoder) need(v, path string) {
	if v == "" {
		d.s.refuse(ReasonMissingField, path)
	}
}

// rulesetHash reads the name of a ruleset: sha256: and 64 hexadecimal digits.
func (d *Decoder) rulesetHash(path string) string {
	v := d.id(path)
	if v == "" {
		return ""
	}
	digits, ok := strings.CutPrefix(v, "sha256:")
	if !ok || len(digits) != 64 || strings.Trim(digits, "0123456789abcdef") != "" {
		d.s.refuse(ReasonBadHash, path)
		return ""
	}
	return v
}

// matchNames is which names a match had: those of outages are not those of snoozes.
type matchNames struct {
	there          bool   // an object, be it empty
	outage, snooze string // the last name of each kind
}

// match reads whom an outage or a snooze concerns. Unlike elsewhere a name that
// is not known is refused: without it the control would concern more than was
// meant.
func (d *Decoder) match(c *Control) (names matchNames) {
	s := &d.s
	o, ok := s.enter("match")
	if !ok {
		return names
	}
	names.there = true
	for name, more := s.field(&o); more; name, more = s.field(&o) {
		switch name {
		case "channel":
			c.Match.Channel, names.outage = d.channel("match.channel"), "match.channel"
		case "instrument.bank":
			c.Match.Bank, names.outage = d.string("match.instrument.bank", maxText), "match.instrument.bank"
		case "payee.account_id":
			c.Match.Payee, names.outage = d.id("match.payee.account_id"), "match.payee.account_id"
		case "payer":
			c.Snooze.Payer, names.snooze = d.id("match.payer"), "match.payer"
		case "payee":
			c.Snooze.Payee, names.snooze = d.id("match.payee"), "match.payee"
		case "card":
			c.Snooze.Card, names.snooze = d.id("match.card"), "match.card"
		case "device":
			c.Snooze.Device, names.snooze = d.id("match.device"), "match.device"
		default:
			s.refuse(ReasonUnknownControl, "match."+name)
			s.skip()
		}
	}
	return names
}

// checkMatch refuses names that are not those of the control's kind.
func (d *Decoder) checkMatch(c *Control, names *matchNames) {
	foreign := names.snooze
	if c.Kind == ControlSnooze || c.Kind == ControlRuleEnable {
		foreign = names.outage
	}
	if foreign != "" {
		d.s.refuse(ReasonUnknownControl, foreign)
	}
}
