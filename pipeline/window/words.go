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

// words says an entry for people to read.
func (e entry) words() string {
	var b strings.Builder
	switch e.kind() {
	case entryTransaction:
		fmt.Fprintf(&b, "%s  %s %016x  %d %s", e.time(), e.paymentType(), e.tx().Lo, e.original(), e.currency())
		if e.based() {
			fmt.Fprintf(&b, " (%d in the base currency)", e.base())
		}
		for n, name := range [...]string{"channel", "mcc", "instrument_kind"} {
			if text := e.text(n); text != "" {
				fmt.Fprintf(&b, " %s=%s", name, text)
			}
		}
		for n, name := range [...]string{"payer_country", "payee_country", "device_country", "terminal_country"} {
			if c := e.country(n); c != 0 {
				fmt.Fprintf(&b, " %s=%s", name, c)
			}
		}
		if e.located() {
			lat, lon := e.place()
			fmt.Fprintf(&b, " at=%.5f,%.5f", float64(lat)/1e7, float64(lon)/1e7)
		}
		for k := range kinds {
			if ref := e.ref(k); ref != 0 {
				fmt.Fprintf(&b, " %s=%016x", k, ref)
			}
		}
	case entryOutcome:
		fmt.Fprintf(&b, "%s  %s of %016x", e.time(), e.outcome(), e.tx().Lo)
	case entryVerdict:
		fmt.Fprintf(&b, "%s  verdict %s on %016x", e.time(), e.verdict(), e.tx().Lo)
	case entrySeal:
		b.WriteString("sealed: the log goes on in the next segment")
	default:
		fmt.Fprintf(&b, "unknown kind %q", e.kind())
	}
	return b.String()
}
