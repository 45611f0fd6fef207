package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// listType is what the values of a list are: which fields of a transaction can
// stand on it, and when two texts are the same value.
type listType uint8

const (
	payerList listType = iota
	payeeList
	cardList
	deviceList
	ipList // addresses and networks
	countryList
	mccList
	phoneList
	emailList
	binList
	stringList // any text; belongs to no field of its own
)

var listTypeNames = [...]string{"payer", "payee", "card", "device", "ip", "country", "mcc", "phone", "email", "bin", "string"}

func (t listType) String() string { return listTypeNames[t] }

// fields are the names that rules may ask about a list of the type, the first
// one being its own; none for stringList, of which any text may be asked.
func (t listType) fields() []string {
	switch t {
	case payerList:
		return []string{"payer.account_id"}
	case payeeList:
		return []string{"payee.account_id"}
	case cardList:
		return []string{"card"}
	case deviceList:
		return []string{"device.id"}
	case ipList:
		return []string{"device.ip"}
	case countryList:
		return []string{"payer.country", "payee.country", "terminal.country", "device.country"}
	case mccList:
		return []string{"payee.mcc"}
	case phoneList:
		return []string{"payer.phone"}
	case emailList:
		return []string{"payer.email"}
	case binList:
		return []string{"instrument.bin"}
	}
	return nil
}

// values appends what a transaction has in the fields of the type: what a list
// that blocks looks at. Addresses are not texts: see list.ofAddr.
func (t listType) values(tx *payment.Transaction, to []string) []string {
	switch t {
	case payerList:
		return append(to, tx.Payer.AccountID)
	case payeeList:
		return append(to, tx.Payee.AccountID)
	case cardList:
		return append(to, cardOf(tx))
	case deviceList:
		return append(to, tx.Device.ID)
	case countryList:
		return append(to, tx.Payer.Country, tx.Payee.Country, tx.Terminal.Country, tx.Device.Country)
	case mccList:
		return append(to, tx.Payee.MCC)
	case phoneList:
		return append(to, tx.Payer.Phone)
	case emailList:
		return append(to, tx.Payer.Email)
	case binList:
		return append(to, tx.Instrument.BIN)
	}
	return to
}

// cardOf is the card of a transaction, "" where it is charged to something else.
func cardOf(tx *payment.Transaction) string { return window.Entity{First: window.Card}.ID(tx) }

// key appends the form of a text in which equal values are equal: e-mail
// without regard to capitals, phone numbers without what stands between their
// digits, everything else byte for byte.
func (t listType) key(to []byte, v string) []byte {
	switch t {
	case emailList:
		for i := range len(v) {
			c := v[i]
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			to = append(to, c)
		}
		return to
	case phoneList:
		for i := range len(v) {
			if c := v[i]; c != ' ' && c != '-' && c != '.' && c != '(' && c != ')' && c != '/' {
				to = append(to, c)
			}
		}
		return to
	}
	return append(to, v...)
}

// keyed tells whether key changes anything.
func (t listType) keyed() bool { return t == emailList || t == phoneList }

// maxListValue is the length of a value, in characters: that of the longest field.
const maxListValue = 320

// check says what is wrong with a value as people write it: what it must be, and
// a suggestion; "" where it is good.
func (t listType) check(v string) (must, suggestion string) {
	if v == "" || utf8.RuneCountInString(v) > maxListValue || strings.ContainsFunc(v, unicode.IsControl) {
		return fmt.Sprintf("1 to %d characters, none of them a control character", maxListValue), ""
	}
	digits := strings.Trim(v, "0123456789") == ""
	switch t {
	case ipList:
		p, ok := parseNet(v)
		if !ok {
			return "an address or a network such as 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32", ""
		}
		if p != p.Masked() {
			return "a network with no bit set beyond its length", "write " + p.Masked().String() + " for the network, or " + p.Addr().String() + " for the address"
		}
	case countryList:
		if !payment.KnownCountry(v) {
			if capitals := strings.ToUpper(v); payment.KnownCountry(capitals) {
				suggestion = "write " + capitals
			}
			return "a country such as CN (ISO 3166-1, two capital letters)", suggestion
		}
	case mccList:
		if !digits || len(v) != 4 {
			return "four digits such as 5812", ""
		}
	case binList:
		if !digits || len(v) < 4 || len(v) > 11 {
			return "4 to 11 digits such as 622202", ""
		}
	case emailList:
		if at := strings.IndexByte(v, '@'); at < 1 || at == len(v)-1 {
			return "an address such as someone@example.com", ""
		}
	case phoneList:
		if !strings.ContainsAny(v, "0123456789") {
			return "a phone number such as +8613800000000", ""
		}
	}
	return "", ""
}

// parseNet reads a network, or an address as the network that holds it alone.
// IPv4 in the form of IPv6 is IPv4.
func parseNet(v string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(v); err == nil {
		if a := p.Addr(); a.Is4In6() {
			return netip.PrefixFrom(a.Unmap(), p.Bits()-96), p.Bits() >= 96
		}
		return p, true
	}
	a, err := netip.ParseAddr(v)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), true
}

// takes tells whether rules may ask a list of the type about a text of this name.
func (t listType) takes(name string) bool {
	return t == stringList || slices.Contains(t.fields(), name)
}
