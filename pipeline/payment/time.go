package payment

import (
	"math"
	"time"
)

// Time is an instant in nanoseconds since 1970-01-01T00:00:00Z. Zero means absent.
// Instants outside the years 1678 to 2262 saturate; both ends are refused by
// the checks against a record's Kafka time.
type Time int64

// TimeOf converts a time.Time.
func TimeOf(t time.Time) Time { return Time(t.UnixNano()) }

// Std converts to a time.Time in UTC.
func (t Time) Std() time.Time { return time.Unix(0, int64(t)).UTC() }

// Add returns the instant d later, saturating.
func (t Time) Add(d time.Duration) Time {
	s := t + Time(d)
	if d > 0 && s < t {
		return math.MaxInt64
	}
	if d < 0 && s > t {
		return math.MinInt64
	}
	return s
}

// AppendRFC3339 appends the instant in UTC with at least milliseconds, and with
// microseconds or nanoseconds where they are not zero.
func (t Time) AppendRFC3339(b []byte) []byte {
	sec, nano := floorDiv(int64(t), 1e9)
	days, rest := floorDiv(sec, 86400)
	y, m, d := civil(days)
	b = appendDigits(b, y, 4)
	b = append(b, '-')
	b = appendDigits(b, m, 2)
	b = append(b, '-')
	b = appendDigits(b, d, 2)
	b = append(b, 'T')
	b = appendDigits(b, int(rest/3600), 2)
	b = append(b, ':')
	b = appendDigits(b, int(rest/60%60), 2)
	b = append(b, ':')
	b = appendDigits(b, int(rest%60), 2)
	b = append(b, '.')
	switch {
	case nano%1e6 == 0:
		b = appendDigits(b, int(nano/1e6), 3)
	case nano%1e3 == 0:
		b = appendDigits(b, int(nano/1e3), 6)
	default:
		b = appendDigits(b, int(nano), 9)
	}
	return append(b, 'Z')
}

// String formats as AppendRFC3339 does.
func (t Time) String() string { return string(t.AppendRFC3339(nil)) }

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	return append(t.AppendRFC3339([]byte{'"'}), '"'), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Time) UnmarshalJSON(b []byte) error {
	if len(b) >= 2 && b[0] == '"' {
		if v, ok := ParseTime(string(b[1 : len(b)-1])); ok {
			*t = v
			return nil
		}
	}
	return &Refusal{Reason: ReasonBadTime}
}

// ParseTime reads an RFC 3339 date-time: capital T and Z, an offset, at most
// nine digits of fraction, no leap second.
func ParseTime(s string) (Time, bool) {
	if len(s) < len("2006-01-02T15:04:05Z") || s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' {
		return 0, false
	}
	y, ok1 := digits(s[0:4])
	mo, ok2 := digits(s[5:7])
	d, ok3 := digits(s[8:10])
	h, ok4 := digits(s[11:13])
	mi, ok5 := digits(s[14:16])
	sec, ok6 := digits(s[17:19])
	if !(ok1 && ok2 && ok3 && ok4 && ok5 && ok6) || mo < 1 || mo > 12 || d < 1 || d > daysIn(y, mo) || h > 23 || mi > 59 || sec > 59 {
		return 0, false
	}
	rest := s[19:]
	nano := 0
	if rest[0] == '.' {
		n, scale := 1, 100_000_000
		for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
			if n > 9 {
				return 0, false
			}
			nano += int(rest[n]-'0') * scale
			scale /= 10
			n++
		}
		if n == 1 || n == len(rest) {
			return 0, false
		}
		rest = rest[n:]
	}
	offset := 0
	switch {
	case rest == "Z":
	case len(rest) == 6 && (rest[0] == '+' || rest[0] == '-') && rest[3] == ':':
		oh, ok1 := digits(rest[1:3])
		om, ok2 := digits(rest[4:6])
		if !ok1 || !ok2 || oh > 23 || om > 59 {
			return 0, false
		}
		offset = oh*3600 + om*60
		if rest[0] == '-' {
			offset = -offset
		}
	default:
		return 0, false
	}
	unix := daysFromCivil(y, mo, d)*86400 + int64(h*3600+mi*60+sec) - int64(offset)
	const bound = math.MaxInt64 / 1_000_000_000
	if unix >= bound {
		return math.MaxInt64, true
	}
	if unix <= -bound {
		return math.MinInt64, true
	}
	return Time(unix*1e9 + int64(nano)), true
}

func digits(s string) (int, bool) {
	n := 0
	for i := 0; i < len(s); i++ {
		c := s[i] - '0'
		if c > 9 {
			return 0, false
		}
		n = n*10 + int(c)
	}
	return n, true
}

func appendDigits(b []byte, v, width int) []byte {
	for p := pow10[width-1]; p > 0; p /= 10 {
		b = append(b, byte('0'+v/p%10))
	}
	return b
}

var pow10 = [...]int{1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8}

func floorDiv(a, b int64) (q, r int64) {
	q, r = a/b, a%b
	if r < 0 {
		q, r = q-1, r+b
	}
	return q, r
}

func daysIn(y, m int) int {
	switch m {
	case 2:
		if y%4 == 0 && (y%100 != 0 || y%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// civil and daysFromCivil convert between days since 1970-01-01 and the
// proleptic Gregorian calendar (H. Hinnant, "chrono-Compatible Low-Level Date
// Algorithms", days_from_civil and civil_from_days).
func civil(days int64) (y, m, d int) {
	z := days + 719468
	era, doe := floorDiv(z, 146097)
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	d = int(doy - (153*mp+2)/5 + 1)
	m = int(mp) + 3
	if m > 12 {
		m -= 12
	}
	y = int(yoe + era*400)
	if m <= 2 {
		y++
	}
	return y, m, d
}

func daysFromCivil(y, m, d int) int64 {
	if m <= 2 {
		y--
	}
	era, yoe := floorDiv(int64(y), 400)
	mp := int64(m) - 3
	if m <= 2 {
		mp = int64(m) + 9
	}
	doy := (153*mp+2)/5 + int64(d) - 1
	doe := yoe*365 + yoe/4 - yoe/100 + doy
	return era*146097 + doe - 719468
}
