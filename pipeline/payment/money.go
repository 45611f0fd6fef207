package payment

import "strings"

// Currency is an active ISO 4217 code, packed so that it can be compared and
// stored without a pointer. Zero means absent.
type Currency uint16

// Money is an amount in minor units of its currency.
type Money struct {
	Value    int64    // minor units, 0 to 2^63-1
	Currency Currency // as sent
}

// currencies holds every active ISO 4217 code of a circulating currency with
// its number of minor digits, in the order of the codes.
const currencies = "AED2AFN2ALL2AMD2AOA2ARS2AUD2AWG2AZN2BAM2BBD2BDT2BGN2BHD3BIF0BMD2BND2BOB2BRL2BSD2BTN2BWP2BYN2BZD2" +
	"CAD2CDF2CHF2CLF4CLP0CNY2COP2CRC2CUP2CVE2CZK2DJF0DKK2DOP2DZD2EGP2ERN2ETB2EUR2FJD2FKP2GBP2GEL2GHS2GIP2GMD2GNF0GTQ2GYD2" +
	"HKD2HNL2HTG2HUF2IDR2ILS2INR2IQD3IRR2ISK0JMD2JOD3JPY0KES2KGS2KHR2KMF0KPW2KRW0KWD3KYD2KZT2LAK2LBP2LKR2LRD2LSL2LYD3" +
	"MAD2MDL2MGA2MKD2MMK2MNT2MOP2MRU2MUR2MVR2MWK2MXN2MYR2MZN2NAD2NGN2NIO2NOK2NPR2NZD2OMR3PAB2PEN2PGK2PHP2PKR2PLN2PYG0" +
	"QAR2RON2RSD2RUB2RWF0SAR2SBD2SCR2SDG2SEK2SGD2SHP2SLE2SOS2SRD2SSP2STN2SVC2SYP2SZL2THB2TJS2TMT2TND3TOP2TRY2TTD2TWD2TZS2" +
	"UAH2UGX0USD2UYI0UYU2UZS2VED2VES2VND0VUV0WST2XAF0XCD2XCG2XOF0XPF0YER2ZAR2ZMW2ZWG2"

// CurrencyCodes returns all codes that ParseCurrency accepts, in order.
func CurrencyCodes() []string {
	codes := make([]string, 0, len(currencies)/4)
	for i := 0; i < len(currencies); i += 4 {
		codes = append(codes, currencies[i:i+3])
	}
	return codes
}

// ParseCurrency returns the currency of an upper-case ISO 4217 code.
func ParseCurrency(code string) (Currency, bool) {
	if len(code) != 3 {
		return 0, false
	}
	lo, hi := 0, len(currencies)/4
	for lo < hi {
		mid := (lo + hi) / 2
		switch at := currencies[mid*4 : mid*4+3]; {
		case at == code:
			return Currency(mid + 1), true
		case at < code:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return 0, false
}

// String returns the ISO 4217 code, or "" for the zero Currency.
func (c Currency) String() string {
	if c == 0 || int(c) > len(currencies)/4 {
		return ""
	}
	return currencies[(c-1)*4 : (c-1)*4+3]
}

// Digits returns the number of minor digits: 2 for CNY, 0 for JPY, 3 for KWD.
func (c Currency) Digits() int {
	if c == 0 || int(c) > len(currencies)/4 {
		return 0
	}
	return int(currencies[(c-1)*4+3] - '0')
}

// MarshalText implements encoding.TextMarshaler.
func (c Currency) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Currency) UnmarshalText(b []byte) error {
	v, ok := ParseCurrency(string(b))
	if !ok {
		return &Refusal{Reason: ReasonUnknownCurrency}
	}
	*c = v
	return nil
}

// AppendMajor appends minor units of c as people read them: 12850 CNY is "128.50".
func (c Currency) AppendMajor(b []byte, minor int64) []byte {
	u := uint64(minor)
	if minor < 0 {
		b = append(b, '-')
		u = -u
	}
	var tmp [24]byte
	i, n := len(tmp), 0
	for d := c.Digits(); u > 0 || n <= d; n++ {
		if n == d && d > 0 {
			i--
			tmp[i] = '.'
		}
		i--
		tmp[i] = byte('0' + u%10)
		u /= 10
	}
	return append(b, tmp[i:]...)
}

// countries holds the ISO 3166-1 alpha-2 codes, and XK, which cards carry.
const countries = " AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ" +
	" CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR" +
	" GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP" +
	" KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ" +
	" NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ" +
	" TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW "

// CountryCodes returns all codes that a country field may hold, in order.
func CountryCodes() []string { return strings.Fields(countries) }

// countrySet has one bit for each pair of letters.
var countrySet = func() (set [26 * 26]bool) {
	for i := 1; i+2 < len(countries); i += 3 {
		set[int(countries[i]-'A')*26+int(countries[i+1]-'A')] = true
	}
	return set
}()

// KnownCountry reports whether code is an upper-case ISO 3166-1 alpha-2 code.
func KnownCountry(code string) bool {
	if len(code) != 2 || code[0] < 'A' || code[0] > 'Z' || code[1] < 'A' || code[1] > 'Z' {
		return false
	}
	return countrySet[int(code[0]-'A')*26+int(code[1]-'A')]
}
