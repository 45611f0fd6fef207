package window

import (
	"fmt"
	"math"
	"strings"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

const (
	minTime payment.Time = math.MinInt64
	maxTime payment.Time = math.MaxInt64
)

// Words says an entry of a log, for people to read.
type Words struct {
	Kind  string       // transaction, outcome, verdict or seal
	Time  payment.Time // the event time; of a verdict that of its transaction, and of a seal none
	Facts []Fact       // in the order in which they are said
}

// Fact is one thing that an entry says: under `transaction` and the kinds of
// entities the 16 digits of a hash, under amount and base minor units, under lat
// and lon degrees.
type Fact struct {
	Name  string
	Value any // a string, an int64 or a float64
}

// String says the entry on one line.
func (w Words) String() string {
	switch w.Kind {
	case "outcome":
		return fmt.Sprintf("%s  %s of %s", w.Time, w.Facts[0].Value, w.Facts[1].Value)
	case "verdict":
		return fmt.Sprintf("%s  verdict %s on %s", w.Time, w.Facts[0].Value, w.Facts[1].Value)
	case "seal":
		return "sealed: the log goes on in the next segment"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s ", w.Time)
	for _, f := range w.Facts {
		switch f.Name {
		case "type", "transaction", "currency":
			fmt.Fprintf(&b, " %s", f.Value)
		case "amount":
			fmt.Fprintf(&b, "  %d", f.Value)
		case "base":
			fmt.Fprintf(&b, " (%d in the base currency)", f.Value)
		default:
			fmt.Fprintf(&b, " %s=%v", f.Name, f.Value)
		}
	}
	return b.String()
}

// words says an entry.
func (e entry) words() Words {
	var w Words
	say := func(name string, value any) { w.Facts = append(w.Facts, Fact{name, value}) }
	hash := func(h uint64) string { return fmt.Sprintf("%016x", h) }
	switch e.kind() {
	case entryTransaction:
		w.Kind, w.Time = "transaction", e.time()
		say("type", e.paymentType().String())
		say("transaction", hash(e.tx().Lo))
		say("amount", e.original())
		say("currency", e.currency())
		if e.based() {
			say("base", e.base())
		}
		for n, name := range [...]string{"channel", "mcc", "instrument_kind"} {
			if text := e.text(n); text != "" {
				say(name, strings.Clone(text)) // the entry may be gone when it is read
			}
		}
		for n, name := range [...]string{"payer_country", "payee_country", "device_country", "terminal_country"} {
			if c := e.country(n); c != 0 {
				say(name, c.String())
			}
		}
		if e.located() {
			lat, lon := e.place()
			say("lat", float64(lat)/1e7)
			say("lon", float64(lon)/1e7)
		}
		for k := range kinds {
			if ref := e.ref(k); ref != 0 {
				say(k.String(), hash(ref))
			}
		}
	case entryOutcome:
		w.Kind, w.Time = "outcome", e.time()
		say("outcome", e.outcome().String())
		say("transaction", hash(e.tx().Lo))
	case entryVerdict:
		w.Kind, w.Time = "verdict", e.time()
		say("verdict", e.verdict().String())
		say("transaction", hash(e.tx().Lo))
	case entrySeal:
		w.Kind = "seal"
	default:
		w.Kind = fmt.Sprintf("unknown kind %q", e.kind())
	}
	return w
}
