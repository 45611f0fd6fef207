package payment

import (
	"math"
	"strconv"
	"unicode/utf8"
)

// comma appends the separator that the next field or item needs.
func comma(b []byte) []byte {
	if c := b[len(b)-1]; c == '{' || c == '[' {
		return b
	}
	return append(b, ',')
}

// appendKey appends a separator where needed, and name as a key.
func appendKey(b []byte, name string) []byte {
	b = append(comma(b), '"')
	return append(append(b, name...), '"', ':')
}

func appendName(b []byte, name string, open byte) []byte { return append(appendKey(b, name), open) }

// appendText appends a field that is left out when it is "".
func appendText(b []byte, name, v string) []byte {
	if v == "" {
		return b
	}
	return appendString(appendKey(b, name), v)
}

func appendInt(b []byte, name string, v int64) []byte {
	return strconv.AppendInt(appendKey(b, name), v, 10)
}

// appendTime appends a field that is left out when it is zero.
func appendTime(b []byte, name string, t Time) []byte {
	if t == 0 {
		return b
	}
	return append(t.AppendRFC3339(append(appendKey(b, name), '"')), '"')
}

// appendList appends "name":["a","b"].
func appendList(b []byte, name string, items []string) []byte {
	b = append(append(append(b, '"'), name...), '"', ':', '[')
	for _, item := range items {
		b = appendString(comma(b), item)
	}
	return append(b, ']')
}

// appendFloat writes a finite number as encoding/json does: the shortest text
// that reads back as the same float64.
func appendFloat(b []byte, f float64) []byte {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return append(b, "null"...)
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	b = strconv.AppendFloat(b, f, format, -1, 64)
	if n := len(b); format == 'e' && b[n-4] == 'e' && b[n-3] == '-' && b[n-2] == '0' {
		b = append(b[:n-2], b[n-1]) // e-09 is written e-9
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(appendEscaped(append(b, '"'), s), '"')
}

// appendEscaped appends s as the inside of a JSON string. What is no character
// becomes U+FFFD.
func appendEscaped(b []byte, s string) []byte {
	const hexDigits = "0123456789abcdef"
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(append(b, s[start:i]...), "\ufffd"...)
				start = i + 1
			}
			i += size
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(b, s[start:]...)
}
