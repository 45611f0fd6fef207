package payment

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"
)

// Limits bounds what a record may be. The zero value is not useful: start from DefaultLimits.
type Limits struct {
	RecordBytes int           // a larger record is refused as too_large
	FutureBound time.Duration // how far event_time may lie after the record's Kafka time
	LedgerKeeps time.Duration // an older transaction could have been decided and forgotten
}

// DefaultLimits are the limits of the contract: 64 KiB, 5 minutes, 180 days.
func DefaultLimits() Limits {
	return Limits{RecordBytes: 64 << 10, FutureBound: 5 * time.Minute, LedgerKeeps: 180 * 24 * time.Hour}
}

// The lengths, in characters, that the contract allows.
const (
	maxID         = 128 // every identifier
	maxText       = 64  // kinds, banks, locales, methods
	maxContact    = 320 // e-mail and phone
	maxChannel    = 32
	maxAttribute  = 1024 // the value of an attribute, and what people note
	maxAttributes = 64   // entries
	maxItems      = 16   // of auth.methods and accepts
)

// Decoder decodes records of the contract. It keeps its buffers: one decoder
// serves one goroutine, and what it decoded is valid until the next call.
type Decoder struct {
	Limits Limits
	// Batch keeps what was decoded valid until Release, for callers that decode
	// many records before they use them.
	Batch bool
	s     scanner
}

// Release ends a batch: what was decoded before is no longer valid.
func (d *Decoder) Release() { d.s.scratch = d.s.scratch[:0] }

// Transaction decodes one transaction record whose Kafka time is kafkaTime into
// t. A refused record still leaves in t what could be read, so that the caller
// can answer it where t.Identified() says so.
func (d *Decoder) Transaction(data []byte, kafkaTime Time, t *Transaction) *Refusal {
	t.Reset()
	if !d.begin(data) {
		return d.result()
	}
	d.transaction(t)
	d.end()
	if d.s.halt { // nothing that was read from a broken text can be trusted
		t.Reset()
		return d.result()
	}
	s := &d.s
	switch {
	case t.ID == "":
		s.refuse(ReasonMissingField, "transaction_id")
	case t.Type == 0:
		s.refuse(ReasonMissingField, "type")
	case t.EventTime == 0:
		s.refuse(ReasonMissingField, "event_time")
	case t.Payer.AccountID == "":
		s.refuse(ReasonMissingField, "payer.account_id")
	case t.Type == TypeRefund && t.OriginalTransactionID == "":
		s.refuse(ReasonMissingField, "original_transaction_id")
	case t.DecideBy != 0 && t.DecideBy < t.EventTime:
		s.refuse(ReasonDecideByEarly, "decide_by")
	case t.EventTime > kafkaTime.Add(d.Limits.FutureBound):
		s.refuse(ReasonFutureTime, "event_time")
	case t.EventTime < kafkaTime.Add(-d.Limits.LedgerKeeps):
		s.refuse(ReasonOlderThanLedger, "event_time")
	}
	return d.result()
}

// begin checks the record as a whole and prepares the scanner.
func (d *Decoder) begin(data []byte) bool {
	if !d.Batch {
		d.Release()
	}
	s := &d.s
	s.reset(data)
	if len(data) > d.Limits.RecordBytes {
		s.refuse(ReasonTooLarge, "")
		return false
	}
	switch s.peek() {
	case 0:
		if s.pos < len(data) {
			s.broken()
		} else {
			s.refuse(ReasonEmpty, "")
		}
		return false
	case '{':
	default:
		s.broken()
		return false
	}
	if !utf8.Valid(data) {
		s.badUTF8 = true
		s.refuse(ReasonInvalidUTF8, "")
	}
	return true
}

// end makes sure that nothing follows the object.
func (d *Decoder) end() {
	if s := &d.s; !s.halt && (s.peek() != 0 || s.pos < len(s.data)) {
		s.broken()
	}
	// A broken text is broken whatever else was wrong before the break.
	if d.s.halt && d.s.refusal.Reason != ReasonInvalidUTF8 {
		d.s.refusal = Refusal{Reason: ReasonNotJSON}
	}
}

func (d *Decoder) result() *Refusal {
	if d.s.refusal.Reason == "" {
		return nil
	}
	r := d.s.refusal
	return &r
}

func (d *Decoder) transaction(t *Transaction) {
	s := &d.s
	ids, payers, amounts := 0, 0, 0 // sent twice: nobody can say which is meant
	o, _ := s.enter("")
	for name, more := s.field(&o); more; name, more = s.field(&o) {
		switch name {
		case "v":
			d.version()
		case "transaction_id":
			t.ID = d.id("transaction_id")
			ids++
		case "type":
			if v, ok := d.word("type"); ok {
				if t.Type, ok = ParseType(v); !ok {
					s.refuse(ReasonUnknownType, "type")
				}
			}
		case "channel":
			t.Channel = d.channel("channel")
		case "event_time":
			t.EventTime = d.time("event_time")
		case "decide_by":
			t.DecideBy = d.time("decide_by")
		case "amount":
			t.Amount = d.amount()
			amounts++
		case "order_id":
			t.OrderID = d.id("order_id")
		case "payer":
			d.payer(t)
			payers++
		case "payee":
			d.payee(t)
		case "instrument":
			d.instrument(t)
		case "terminal":
			d.terminal(t)
		case "device":
			d.device(t)
		case "auth":
			d.auth(t)
		case "accepts":
			d.accepts(t)
		case "original_transaction_id":
			t.OriginalTransactionID = d.id("original_transaction_id")
		case "locale":
			t.Locale = d.string("locale", maxText)
		case "attributes":
			d.attributes(t)
		default:
			s.skip()
		}
	}
	if ids > 1 {
		t.ID = ""
	}
	if payers > 1 {
		t.Payer.AccountID = ""
	}
	if amounts == 0 {
		s.refuse(ReasonMissingField, "amount")
	}
}

func (d *Decoder) version() {
	if token, whole, ok := d.s.number("v"); ok {
		if v, r := wholeNumber(token, whole); r != integerOK || v != 1 {
			d.s.refuse(ReasonUnknownVersion, "v")
		}
	}
}

func (d *Decoder) payer(t *Transaction) {
	s, p := &d.s, &t.Payer
	o, ok := s.enter("payer")
	if !ok {
		return
	}
	accounts := 0
	for name, more := s.field(&o); more; name, more = s.field(&o) {
		switch name {
		case "account_id":
			p.AccountID = d.id("payer.account_id")
			accounts++
		case "country":
			p.Country = d.country("payer.country")
		case "email":
			p.Email = d.string("payer.email", maxContact)
		case "phone":
			p.Phone = d.string("payer.phone", maxContact)
		default:
			s.skip()
		}
	}
	if accounts > 1 {
		p.AccountID = ""
	}
}

func (d *Decoder) payee(t *Transaction) {
	s, p := &d.s, &t.Payee
	o, ok := s.enter("payee")
	if !ok {
		return
	}
	for name, more := s.field(&o); more; name, more = s.field(&o) {
		switch name {
		case "account_id":
			p.AccountID = d.id("payee.account_id")
		case "merchant_id":
			p.MerchantID = d.id("payee.merchant_id")
		case "mcc":
			p.MCC = d.string("payee.mcc", maxText)
		case "country":
			p.Country = d.country("payee.country")
		default:
			s.skip()
		}
	}
}

func (d *Decoder) instrument(t *Transaction) {
	s, i := &d.s, &t.Instrument
	o, ok := s.enter("instrument")
	if !ok {
		return
	}
	for name, more := s.field(&o); more; name, more = s.field(&o) {
		switch name {
		case "kind":
			i.Kind = d.string("instrument.kind", maxText)
		case "token":
			i.Token = d.id("instrument.token")
		case "bin":
			i.BIN = d.string("instrument.bin", maxText)
		case "bank":
			i.Bank = d.string("instrument.bank", maxText)
		default:
			s.skip()
		}
	}
}

func (d *Decoder) terminal(t *Transaction) {
	s := &d.s
	o, ok := s.enter("terminal")
	if !ok {
		return
	}
	for name, more := s.field(&o); more; name, more = s.field(&o) {
		switch name {
		case "id":
			t.Terminal.ID = d.id("terminal.id")
		case "country":
			t.Terminal.Country = d.country("terminal.country")
		default:
			s.skip()
		}
	}
}

func (d *Decoder) device(t *Transaction) {
	s, v := &d.s, &t.Device
	o, ok := s.enter("device")
	if !ok {
		return
	}
	var lat, lon bool
	for name, more := s.field(&o); more; name, more = s.field(&o) {
		switch name {
		case "id":
			v.ID = d.id("device.id")
		case "ip":
			v.IP, v.Addr = d.ip("device.ip")
		case "country":
			v.Country = d.country("device.country")
		case "lat":
			v.Lat, lat = d.degrees("device.lat", 90)
		case "lon":
			v.Lon, lon = d.degrees("device.lon", 180)
		default:
			s.skip()
		}
	}
	if v.Located = lat && lon; !v.Located {
		v.Lat, v.Lon = 0, 0 // half a place is none
	}
}

func (d *Decoder) auth(t *Transaction) {
	s := &d.s
	o, ok := s.enter("auth")
	if !ok {
		return
	}
	for name, more := s.field(&o); more; name, more = s.field(&o) {
		if name != "methods" {
			s.skip()
			continue
		}
		if !s.array("auth.methods") {
			continue
		}
		n := 0
		for ; s.item(n); n++ {
			if v, ok := d.element("auth.methods"); ok && n < maxItems {
				t.AuthMethods = append(t.AuthMethods, v)
			}
		}
		if n > maxItems {
			s.refuse(ReasonTooManyFields, "auth.methods")
		}
	}
}

func (d *Decoder) accepts(t *Transaction) {
	s := &d.s
	if !s.array("accepts") {
		return
	}
	t.Accepts = AcceptsStated
	n := 0
	for ; s.item(n); n++ {
		switch v, _ := d.element("accepts"); v {
		case "hold":
			t.Accepts |= AcceptsHold
		case "step_up":
			t.Accepts |= AcceptsStepUp
		}
	}
	if n > maxItems {
		s.refuse(ReasonTooManyFields, "accepts")
	}
}

func (d *Decoder) attributes(t *Transaction) {
	s := &d.s
	o, ok := s.enter("attributes")
	if !ok {
		return
	}
	n := 0
	for name, more := s.field(&o); more; name, more = s.field(&o) {
		n++
		if tooLong(name, maxText) {
			s.refuse(ReasonTooLong, "attributes")
		}
		v, ok := s.text("attributes")
		if tooLong(v, maxAttribute) {
			s.refuse(ReasonTooLong, "attributes")
		}
		if ok && n <= maxAttributes {
			t.Attributes = append(t.Attributes, Attribute{name, v})
		}
	}
	if n > maxAttributes {
		s.refuse(ReasonTooManyFields, "attributes")
	}
}

// amount reads {"value": minor units, "currency": code}; both are required.
func (d *Decoder) amount() (m Money) {
	s := &d.s
	o, ok := s.enter("amount")
	if !ok {
		s.refuse(ReasonMissingField, "amount")
		return m
	}
	valued := false
	for name, more := s.field(&o); more; name, more = s.field(&o) {
		switch name {
		case "value":
			token, whole, ok := s.number("amount.value")
			if !ok {
				continue
			}
			v, r := wholeNumber(token, whole)
			valued = r == integerOK
			switch r {
			case integerFraction:
				s.refuse(ReasonWrongType, "amount.value")
			case integerNegative:
				s.refuse(ReasonAmountNegative, "amount.value")
			case integerOverflow:
				s.refuse(ReasonAmountOverflow, "amount.value")
			}
			m.Value = v
		case "currency":
			code, ok := d.word("amount.currency")
			if !ok {
				continue
			}
			if m.Currency, ok = ParseCurrency(code); !ok {
				s.refuse(ReasonUnknownCurrency, "amount.currency")
			}
		default:
			s.skip()
		}
	}
	switch {
	case !valued: // a value that was refused is no missing one: the first refusal stands
		s.refuse(ReasonMissingField, "amount.value")
	case m.Currency == 0:
		s.refuse(ReasonMissingField, "amount.currency")
	}
	if !valued {
		return Money{} // what could not be read is absent, not zero
	}
	return m
}

// word reads a string of a closed set: "" is as wrong as any other stranger.
func (d *Decoder) word(path string) (string, bool) { return d.s.text(path) }

// id reads an identifier: at most maxID characters, none of them a control
// character. "" is absent.
func (d *Decoder) id(path string) string { return d.string(path, maxID) }

// string reads a string of at most limit characters without control characters.
// What is refused reads as absent.
func (d *Decoder) string(path string, limit int) string {
	v, ok := d.s.text(path)
	if !ok || !d.clean(v, path, limit) {
		return ""
	}
	return v
}

// element is string for an item of a list, where null has no meaning.
func (d *Decoder) element(path string) (string, bool) {
	if d.s.peek() == 'n' {
		d.s.literal("null")
		d.s.refuse(ReasonWrongType, path)
		return "", false
	}
	v, ok := d.s.text(path)
	return v, ok && d.clean(v, path, maxText)
}

// clean checks the string that was read last.
func (d *Decoder) clean(v, path string, limit int) bool {
	if tooLong(v, limit) {
		d.s.refuse(ReasonTooLong, path)
		return false
	}
	if d.s.plain {
		return true
	}
	for i := 0; i < len(v); i++ {
		// C0, DEL, and C1, which is U+0080 to U+009F: 0xC2 and a byte below 0xA0.
		if c := v[i]; c < ' ' || c == 0x7f || c == 0xc2 && i+1 < len(v) && v[i+1] < 0xa0 {
			d.s.refuse(ReasonControlCharacter, path)
			return false
		}
	}
	return true
}

func tooLong(v string, limit int) bool {
	return len(v) > limit && utf8.RuneCountInString(v) > limit
}

// channel reads a short identifier: letters, digits, and _ - . after the first.
func (d *Decoder) channel(path string) string {
	v, ok := d.s.text(path)
	if !ok {
		return ""
	}
	good := len(v) > 0 && len(v) <= maxChannel
	for i := 0; good && i < len(v); i++ {
		c := v[i]
		good = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
			i > 0 && (c == '_' || c == '-' || c == '.')
	}
	if !good {
		d.s.refuse(ReasonMalformedChannel, path)
		return ""
	}
	return v
}

func (d *Decoder) time(path string) Time {
	v, ok := d.s.text(path)
	if !ok {
		return 0
	}
	t, ok := ParseTime(v)
	if !ok {
		d.s.refuse(ReasonBadTime, path)
		return 0
	}
	if t == 0 {
		t = 1 // the first nanosecond of 1970 is no absent time
	}
	return t
}

func (d *Decoder) country(path string) string {
	v, ok := d.s.text(path)
	if !ok || v == "" {
		return ""
	}
	if !KnownCountry(v) {
		d.s.refuse(ReasonBadCountry, path)
		return ""
	}
	return v
}

func (d *Decoder) ip(path string) (string, netip.Addr) {
	v, ok := d.s.text(path)
	if !ok || v == "" {
		return "", netip.Addr{}
	}
	addr, ok := parseIP(v)
	if !ok {
		d.s.refuse(ReasonBadIP, path)
		return "", netip.Addr{}
	}
	return v, addr
}

// parseIP refuses a zone, since it means something on one machine only.
func parseIP(v string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(v)
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, false
	}
	return addr.Unmap(), true
}

func (d *Decoder) degrees(path string, bound float64) (float64, bool) {
	token, _, ok := d.s.number(path)
	if !ok {
		return 0, false
	}
	v, err := strconv.ParseFloat(token, 64)
	if err != nil || v < -bound || v > bound {
		d.s.refuse(ReasonBadLocation, path)
		return 0, false
	}
	return v, true
}
