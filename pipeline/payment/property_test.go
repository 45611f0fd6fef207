package payment

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// trials is how many random cases a property is held against.
const trials = 50_000

func seeded(tb testing.TB) *rand.Rand {
	tb.Helper()
	return rand.New(rand.NewPCG(1, 2))
}

// randomNumber writes a JSON number, often near the bounds of int64.
func randomNumber(r *rand.Rand) string {
	var b []byte
	if r.IntN(4) == 0 {
		b = append(b, '-')
	}
	digits := func(n int) {
		for range n {
			b = append(b, "0123456789000"[r.IntN(13)])
		}
	}
	switch r.IntN(4) {
	case 0:
		b = append(b, '0')
	case 1:
		edge := new(big.Int).Add(big.NewInt(math.MaxInt64), big.NewInt(int64(r.IntN(7)-3)))
		b = edge.Append(b, 10)
	default:
		b = append(b, '1'+byte(r.IntN(9)))
		digits(r.IntN(22))
	}
	if r.IntN(3) == 0 {
		b = append(b, '.')
		digits(1 + r.IntN(22))
	}
	if r.IntN(3) == 0 {
		b = append(b, "eE"[r.IntN(2)])
		b = append(b, []string{"", "+", "-"}[r.IntN(3)]...)
		b = strconv.AppendInt(b, int64(r.IntN(25)), 10)
	}
	return string(b)
}

func TestWholeNumberAgreesWithBigRationals(t *testing.T) {
	r := seeded(t)
	var seen [4]int
	for range trials {
		text := randomNumber(r)
		var s scanner
		s.reset([]byte(text))
		token, whole, ok := s.rawNumber()
		if !ok || token != text {
			t.Fatalf("%s: read as %q", text, token)
		}
		got, result := wholeNumber(token, whole)

		exact, _ := new(big.Rat).SetString(text)
		want, wantResult := int64(0), integerOK
		switch {
		case !exact.IsInt():
			wantResult = integerFraction
		case exact.Sign() < 0:
			wantResult = integerNegative
		case !exact.Num().IsInt64():
			wantResult = integerOverflow
		default:
			want = exact.Num().Int64()
		}
		if got != want || result != wantResult {
			t.Fatalf("%s: %d (%d), want %d (%d)", text, got, result, want, wantResult)
		}
		seen[result]++
	}
	if slices.Min(seen[:]) < trials/100 {
		t.Errorf("results are too uneven to say much: %v", seen)
	}
}

// randomTime is any instant that a Time can hold, often a round one.
func randomTime(r *rand.Rand) Time {
	t := Time(r.Uint64())
	switch r.IntN(4) {
	case 0:
		t -= t % Time(time.Second)
	case 1:
		t -= t % Time(time.Millisecond)
	case 2:
		t -= t % Time(time.Microsecond)
	}
	return t
}

func TestTimesAreWrittenAsPackageTimeDoes(t *testing.T) {
	r := seeded(t)
	for range trials {
		at := randomTime(r)
		layout := "2006-01-02T15:04:05.000Z"
		switch {
		case at%1e3 != 0:
			layout = "2006-01-02T15:04:05.000000000Z"
		case at%1e6 != 0:
			layout = "2006-01-02T15:04:05.000000Z"
		}
		if got, want := at.String(), at.Std().Format(layout); got != want {
			t.Fatalf("%d: %s, want %s", int64(at), got, want)
		}
	}
}

func TestTimesAreReadAsPackageTimeDoes(t *testing.T) {
	r := seeded(t)
	for range trials {
		at := randomTime(r)
		minutes := r.IntN(2*24*60-1) - (24*60 - 1)
		text := at.Std().In(time.FixedZone("", minutes*60)).Format(time.RFC3339Nano)
		if got, ok := ParseTime(text); !ok || got != at {
			t.Fatalf("%s: %d (%v), want %d", text, got, ok, at)
		}
	}
}

// TestWhatParseTimeTakesPackageTimeTakes changes good times at random: what is
// still taken must be the same instant for package time.
func TestWhatParseTimeTakesPackageTimeTakes(t *testing.T) {
	r := seeded(t)
	taken := 0
	for range trials {
		text := []byte(randomTime(r).Std().In(time.FixedZone("", r.IntN(100)*60)).Format(time.RFC3339Nano))
		for range 1 + r.IntN(2) {
			text[r.IntN(len(text))] = "0123456789:-+.TZtz "[r.IntN(19)]
		}
		if r.IntN(4) == 0 {
			text = text[:r.IntN(len(text)+1)]
		}
		got, ok := ParseTime(string(text))
		if !ok {
			continue
		}
		taken++
		want, err := time.Parse(time.RFC3339Nano, string(text))
		if err != nil {
			t.Fatalf("%s: taken, but %v", text, err)
		}
		switch {
		case got == math.MaxInt64:
			ok = want.Unix() >= math.MaxInt64/1_000_000_000
		case got == math.MinInt64:
			ok = want.Unix() <= math.MinInt64/1_000_000_000
		default:
			ok = want.Equal(got.Std())
		}
		if !ok {
			t.Fatalf("%s: read as %v", text, got)
		}
	}
	if taken < trials/10 {
		t.Errorf("only %d were times", taken)
	}
}

func TestEveryDayOfTheCalendarIsThatOfPackageTime(t *testing.T) {
	for days := int64(-719_528); days < 2_932_897; days++ { // years 0 to 9999
		y, m, d := civil(days)
		if back := daysFromCivil(y, m, d); back != days {
			t.Fatalf("day %d is %d-%d-%d, which is day %d", days, y, m, d, back)
		}
		if days%97 != 0 {
			continue
		}
		if sy, sm, sd := time.Unix(days*86400, 0).UTC().Date(); y != sy || m != int(sm) || d != sd {
			t.Fatalf("day %d is %d-%d-%d, want %d-%d-%d", days, y, m, d, sy, sm, sd)
		}
	}
}

func TestTimeAddSaturates(t *testing.T) {
	for _, test := range []struct {
		t    Time
		d    time.Duration
		want Time
	}{
		{5, 3, 8}, {5, -8, -3}, {math.MaxInt64, 1, math.MaxInt64}, {math.MaxInt64 - 1, 1, math.MaxInt64},
		{math.MinInt64, -1, math.MinInt64}, {math.MinInt64, math.MaxInt64, -1}, {math.MaxInt64, math.MinInt64, -1},
	} {
		if got := test.t.Add(test.d); got != test.want {
			t.Errorf("%d + %d = %d, want %d", int64(test.t), int64(test.d), int64(got), int64(test.want))
		}
	}
}

// randomText is a text of any bytes, most of them characters.
func randomText(r *rand.Rand) string {
	var b []byte
	for range r.IntN(40) {
		switch r.IntN(8) {
		case 0:
			b = append(b, byte(r.Uint32()))
		case 1:
			b = utf8.AppendRune(b, rune(r.IntN(0x110000)))
		case 2:
			b = append(b, "\"\\/\b\f\n\r\t\x00\x7f<>&"[r.IntN(13)])
		case 3:
			b = append(b, []string{"\u0085", "\u2028", "\ufffd", "付", "😀", "\xed\xa0\x80"}[r.IntN(6)]...)
		default:
			b = append(b, ' '+byte(r.IntN(95)))
		}
	}
	return string(b)
}

func TestTextsAreWrittenAsEncodingJSONReadsThem(t *testing.T) {
	r := seeded(t)
	for range trials {
		text := randomText(r)
		written := appendString(nil, text)
		var got, want string
		if err := json.Unmarshal(written, &got); err != nil {
			t.Fatalf("%q is written as %s: %v", text, written, err)
		}
		std, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(std, &want); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Fatalf("%q is written as %s, encoding/json writes %s", text, written, std)
		}
		if !utf8.Valid(written) {
			t.Fatalf("%q is written as %q", text, written)
		}
	}
}

// TestTextsAreReadAsEncodingJSONDoes reads what encoding/json writes, and the
// same with every character as an escape.
func TestTextsAreReadAsEncodingJSONDoes(t *testing.T) {
	r := seeded(t)
	for range trials {
		want := strings.ToValidUTF8(randomText(r), "\ufffd")
		std, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		escaped := []byte{'"'}
		for _, unit := range utf16.Encode([]rune(want)) {
			escaped = fmt.Appendf(escaped, `\u%04x`, unit)
		}
		escaped = append(escaped, '"')
		for _, text := range [][]byte{std, escaped} {
			var s scanner
			s.reset(text)
			got, ok := s.rawString()
			if !ok || got != want || s.pos != len(text) {
				t.Fatalf("%s: read as %q up to %d (%v), want %q", text, got, s.pos, ok, want)
			}
			if ascii := strings.IndexFunc(want, func(c rune) bool { return c < ' ' || c >= 0x7f }) < 0; s.plain && !ascii {
				t.Fatalf("%s: plain", text)
			}
		}
	}
}

func TestFloatsAreWrittenAsEncodingJSONDoes(t *testing.T) {
	r := seeded(t)
	check := func(f float64) {
		t.Helper()
		want, err := json.Marshal(f)
		if err != nil {
			want = []byte("null") // infinite, or no number
		}
		if got := appendFloat(nil, f); string(got) != string(want) {
			t.Fatalf("%v is written as %s, want %s", f, got, want)
		}
	}
	for _, f := range []float64{0, math.Copysign(0, -1), 1e-6, 9.99e-7, 1e-9, 1e20, 1e21, 1e100, -31.2, math.Inf(1), math.Inf(-1), math.NaN(),
		math.MaxFloat64, math.SmallestNonzeroFloat64, 1 << 53} {
		check(f)
	}
	for range trials {
		check(math.Float64frombits(r.Uint64()))
		check((r.Float64() - 0.5) * 360)
	}
}

func TestCurrenciesParseToTheirCodes(t *testing.T) {
	codes := CurrencyCodes()
	if !slices.IsSorted(codes) || len(slices.Compact(slices.Clone(codes))) != len(codes) {
		t.Fatal("the codes are not in order")
	}
	known := map[string]bool{}
	for _, code := range codes {
		known[code] = true
	}
	check := func(code string) {
		c, ok := ParseCurrency(code)
		if ok != known[code] || ok && c.String() != code || !ok && c != 0 {
			t.Fatalf("%q: %v %q", code, ok, c)
		}
	}
	var code [3]byte
	for i := range 26 * 26 * 26 {
		code = [3]byte{'A' + byte(i/676), 'A' + byte(i/26%26), 'A' + byte(i%26)}
		check(string(code[:]))
	}
	r := seeded(t)
	for range trials {
		check(randomText(r))
		check(string([]byte{byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())}))
	}
	for code, digits := range map[string]int{"CNY": 2, "JPY": 0, "KWD": 3, "BHD": 3, "CLF": 4, "UYI": 0} {
		if c, ok := ParseCurrency(code); !ok || c.Digits() != digits {
			t.Errorf("%s has %d digits, want %d", code, c.Digits(), digits)
		}
	}
}

func TestMinorUnitsReadAsPeopleWriteThem(t *testing.T) {
	for _, test := range []struct {
		code  string
		minor int64
		want  string
	}{
		{"CNY", 12850, "128.50"}, {"CNY", 5, "0.05"}, {"CNY", 0, "0.00"}, {"CNY", -5, "-0.05"}, {"JPY", 500, "500"}, {"JPY", 0, "0"},
		{"KWD", 1250, "1.250"}, {"CNY", math.MaxInt64, "92233720368547758.07"}, {"CNY", math.MinInt64, "-92233720368547758.08"},
	} {
		c, _ := ParseCurrency(test.code)
		if got := string(c.AppendMajor(nil, test.minor)); got != test.want {
			t.Errorf("%d %s: %s, want %s", test.minor, test.code, got, test.want)
		}
	}
}

func TestCountriesAreKnownByTheirCodes(t *testing.T) {
	codes := CountryCodes()
	if len(codes) != 250 || !slices.IsSorted(codes) {
		t.Errorf("%d codes", len(codes)) // 249 of ISO 3166-1, and XK
	}
	for _, code := range codes {
		if !KnownCountry(code) {
			t.Errorf("%s is not known", code)
		}
	}
	known := 0
	for i := range 1 << 16 {
		if KnownCountry(string([]byte{byte(i >> 8), byte(i)})) {
			known++
		}
	}
	if known != len(codes) {
		t.Errorf("%d are known, %d listed", known, len(codes))
	}
}
