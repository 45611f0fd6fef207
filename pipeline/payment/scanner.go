package payment

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// maxDepth bounds the nesting of a record; the contract itself needs three levels.
const maxDepth = 16

// scanner reads one JSON text without allocating: strings point into the text,
// or into scratch where they hold escapes. It notes the first refusal and reads
// on as far as the syntax allows, so that a payment with one wrong field can
// still be identified and answered. After a syntax error it stops (halt).
type scanner struct {
	data    []byte
	pos     int
	depth   int
	halt    bool // the syntax is broken: nothing more can be read
	badUTF8 bool // data holds an invalid sequence somewhere
	plain   bool // the last string read was printable ASCII without escapes
	refusal Refusal
	scratch []byte
	keys    []string          // the names met in the open objects, innermost last
	bases   [maxDepth + 1]int // where the names of each level begin in keys; index 0 is unused
}

func (s *scanner) reset(data []byte) {
	s.data, s.keys = data, s.keys[:0]
	s.pos, s.depth, s.halt, s.badUTF8 = 0, 0, false, false
	s.refusal = Refusal{}
}

// refuse notes a refusal; the first one stands.
func (s *scanner) refuse(reason Reason, field string) {
	if s.refusal.Reason == "" {
		s.refusal = Refusal{reason, field}
	}
}

// broken notes that the text is not JSON and ends the reading.
func (s *scanner) broken() {
	s.refuse(ReasonNotJSON, "")
	s.halt = true
}

// peek moves to the first byte that is not white space and returns it, 0 at the end.
func (s *scanner) peek() byte {
	s.pos = skipSpace(s.data, s.pos)
	return byteAt(s.data, s.pos)
}

// byteAt returns the byte at i, 0 at the end.
func byteAt(data []byte, i int) byte {
	if i < len(data) {
		return data[i]
	}
	return 0
}

func skipSpace(data []byte, i int) int {
	for i < len(data) && data[i] <= ' ' && (data[i] == ' ' || data[i] == '\n' || data[i] == '\r' || data[i] == '\t') {
		i++
	}
	return i
}

// object is the state of one open object.
type object struct {
	base   int    // where its names begin in scanner.keys
	bloom  uint64 // one bit for each name met: tells at once that a name is new
	opened bool   // a first field was read
}

// open goes one level down.
func (s *scanner) open() {
	s.pos++
	s.depth++
	s.bases[s.depth] = len(s.keys)
}

// close goes one level up and forgets the names of the level.
func (s *scanner) close() {
	s.pos++
	s.keys = s.keys[:s.bases[s.depth]]
	s.depth--
}

// enter opens an object. ok is false where the value is null (absent) or
// something else, which is refused as a wrong type and skipped.
func (s *scanner) enter(path string) (o object, ok bool) {
	switch s.peek() {
	case '{':
		s.open()
		return object{base: len(s.keys)}, true
	case 'n':
		s.literal("null")
	default:
		s.wrongType(path)
	}
	return object{}, false
}

// field moves to the next field of o and returns its name; more is false at the
// end of the object. A name that was there before is refused. The position is
// kept in i and not in s on the way: this is where half of the time is spent.
func (s *scanner) field(o *object) (name string, more bool) {
	if s.halt {
		return "", false
	}
	data := s.data
	i := skipSpace(data, s.pos)
	switch c := byteAt(data, i); {
	case c == '}':
		s.pos = i
		if len(s.keys)-o.base > manyNames {
			s.findTwins(s.keys[o.base:])
		}
		s.close()
		return "", false
	case c == ',' && o.opened:
		i = skipSpace(data, i+1)
	case o.opened:
		s.broken()
		return "", false
	}
	o.opened = true
	if byteAt(data, i) != '"' {
		s.broken()
		return "", false
	}
	if end, _ := plainRun(data, i+1); byteAt(data, end) == '"' {
		name, i = view(data[i+1:end]), end+1
	} else {
		s.pos = i
		if name, _ = s.rawString(); s.halt {
			return "", false
		}
		i = s.pos
	}
	if i = skipSpace(data, i); byteAt(data, i) != ':' {
		s.broken()
		return "", false
	}
	s.pos = i + 1
	s.noteName(o, name)
	return name, true
}

// manyNames is how many names of one object are compared as they come. Those of
// a larger one are sorted at its end: no record costs more than n log n.
const manyNames = 64

// noteName remembers a name of the innermost object and refuses it where it
// was there before.
func (s *scanner) noteName(o *object, name string) {
	bit := nameBit(name)
	if o.bloom&bit != 0 && len(s.keys)-o.base < manyNames {
		for _, k := range s.keys[o.base:] {
			if k == name {
				s.refuseTwin(name)
				break
			}
		}
	}
	o.bloom |= bit
	s.keys = append(s.keys, name)
}

// nameFactor is tested to do what nameBit says.
const nameFactor = 0xa61fa47d

// nameBit maps a name to one of 64 bits. The factor was chosen so that no two
// names of one object of the contract share a bit.
func nameBit(name string) uint64 {
	if name == "" {
		return 1
	}
	n := uint32(len(name))
	h := n | uint32(name[0])<<8 | uint32(name[n/2])<<16 | uint32(name[n-1])<<24
	return 1 << (h * nameFactor >> 26)
}

// findTwins sorts the names of an object that ends, and refuses one that comes twice.
func (s *scanner) findTwins(names []string) {
	slices.Sort(names)
	for i := 1; i < len(names); i++ {
		if names[i] == names[i-1] {
			s.refuseTwin(names[i])
			return
		}
	}
}

// refuseTwin names the field by its whole path: at each level above, the name
// that was noted last is the one whose value is being read.
func (s *scanner) refuseTwin(name string) {
	if s.refusal.Reason != "" {
		return
	}
	var path []byte
	for level := 2; level <= s.depth; level++ {
		if at := s.bases[level]; at > s.bases[level-1] {
			path = append(append(path, s.keys[at-1]...), '.')
		}
	}
	s.refuse(ReasonDuplicateKey, string(path)+name)
}

// array opens an array; the same rules as for enter.
func (s *scanner) array(path string) bool {
	switch s.peek() {
	case '[':
		s.open()
		return true
	case 'n':
		s.literal("null")
	default:
		s.wrongType(path)
	}
	return false
}

// item moves to the next item of the array in which n items were read.
func (s *scanner) item(n int) bool {
	if s.halt {
		return false
	}
	c := s.peek()
	if c == ']' {
		s.close()
		return false
	}
	if n > 0 {
		if c != ',' {
			s.broken()
			return false
		}
		s.pos++
		if s.peek() == ']' {
			s.broken()
			return false
		}
	}
	return true
}

// wrongType refuses a value of another type than the field has, and skips it.
func (s *scanner) wrongType(path string) {
	s.skip()
	s.refuse(ReasonWrongType, path)
}

// text reads a string; ok is false for null and for what is refused.
func (s *scanner) text(path string) (v string, ok bool) {
	switch s.peek() {
	case '"':
		return s.rawString()
	case 'n':
		s.literal("null")
	default:
		s.wrongType(path)
	}
	return "", false
}

// rawString reads the string at pos. ok is false when it holds something that
// is no character, or when the text is broken.
func (s *scanner) rawString() (v string, ok bool) {
	start := s.pos + 1
	end, plain := plainRun(s.data, start)
	if end == len(s.data) {
		s.broken()
		return "", false
	}
	switch s.data[end] {
	case '"':
		s.pos, s.plain = end+1, plain
		v = view(s.data[start:end])
		return v, plain || !s.badUTF8 || utf8.ValidString(v)
	case '\\':
		return s.escapedString(start, end)
	}
	s.broken()
	return "", false
}

// plainRun returns the index of the first quote, backslash or control character
// at or after i, and whether all before it is printable ASCII. It looks at eight
// bytes at once.
func plainRun(data []byte, i int) (end int, plain bool) {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	odd := uint64(0) // the top bits of bytes that are DEL or no ASCII
	for ; i+8 <= len(data); i += 8 {
		w := binary.LittleEndian.Uint64(data[i:])
		quote, backslash := w^('"'*ones), w^('\\'*ones)
		// The lowest top bit that is set marks the first byte that ends the run.
		stop := ((quote-ones)&^quote | (backslash-ones)&^backslash | (w-' '*ones)&^w) & tops
		high := (w | (w + ones)) & tops
		if stop != 0 {
			odd |= high & (stop - 1) &^ stop
			return i + bits.TrailingZeros64(stop)/8, odd == 0
		}
		odd |= high
	}
	for i < len(data) && data[i] >= ' ' && data[i] != '"' && data[i] != '\\' {
		if data[i] >= 0x7f {
			odd = 1
		}
		i++
	}
	return i, odd == 0
}

// escapedString continues rawString from the first backslash, at i.
func (s *scanner) escapedString(start, i int) (v string, ok bool) {
	s.plain = false
	data := s.data
	at := len(s.scratch)
	s.scratch = append(s.scratch, data[start:i]...)
	whole := true
	for i < len(data) {
		c := data[i]
		switch {
		case c == '"':
			s.pos = i + 1
			v = view(s.scratch[at:])
			return v, whole && (!s.badUTF8 || utf8.ValidString(v))
		case c < ' ':
			s.broken()
			return "", false
		case c != '\\':
			s.scratch = append(s.scratch, c)
			i++
			continue
		}
		if i+1 >= len(data) {
			break
		}
		i += 2
		switch c = data[i-1]; c {
		case '"', '\\', '/':
			s.scratch = append(s.scratch, c)
		case 'b':
			s.scratch = append(s.scratch, '\b')
		case 'f':
			s.scratch = append(s.scratch, '\f')
		case 'n':
			s.scratch = append(s.scratch, '\n')
		case 'r':
			s.scratch = append(s.scratch, '\r')
		case 't':
			s.scratch = append(s.scratch, '\t')
		case 'u':
			r, ok := hex4(data[i:])
			if !ok {
				s.broken()
				return "", false
			}
			i += 4
			if utf16.IsSurrogate(r) {
				low, ok := rune(0), false
				if i+1 < len(data) && data[i] == '\\' && data[i+1] == 'u' {
					low, ok = hex4(data[i+2:])
				}
				if pair := utf16.DecodeRune(r, low); ok && pair != utf8.RuneError {
					r = pair
					i += 6
				} else {
					s.refuse(ReasonInvalidUTF8, "")
					whole, r = false, utf8.RuneError
				}
			}
			s.scratch = utf8.AppendRune(s.scratch, r)
		default:
			s.broken()
			return "", false
		}
	}
	s.broken()
	return "", false
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// view makes a string of b without copying: b is not changed while the string lives.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// literal consumes word or breaks.
func (s *scanner) literal(word string) {
	if len(s.data)-s.pos < len(word) || view(s.data[s.pos:s.pos+len(word)]) != word {
		s.broken()
		return
	}
	s.pos += len(word)
}

// number reads the token of a number; whole tells that it has neither fraction
// nor exponent. ok is false for null and for what is refused.
func (s *scanner) number(path string) (token string, whole, ok bool) {
	switch c := s.peek(); {
	case c == '-' || c >= '0' && c <= '9':
		return s.rawNumber()
	case c == 'n':
		s.literal("null")
	default:
		s.wrongType(path)
	}
	return "", false, false
}

func (s *scanner) rawNumber() (token string, whole, ok bool) {
	data, i := s.data, s.pos
	digitsFrom := func(i int) int {
		for i < len(data) && data[i]-'0' <= 9 {
			i++
		}
		return i
	}
	at := i
	if data[i] == '-' {
		i++
	}
	from := i
	i = digitsFrom(i)
	if i == from || data[from] == '0' && i > from+1 {
		s.broken()
		return "", false, false
	}
	whole = true
	if i < len(data) && data[i] == '.' {
		whole = false
		from = i + 1
		if i = digitsFrom(from); i == from {
			s.broken()
			return "", false, false
		}
	}
	if i < len(data) && data[i]|0x20 == 'e' {
		whole = false
		from = i + 1
		if from < len(data) && (data[from] == '+' || data[from] == '-') {
			from++
		}
		if i = digitsFrom(from); i == from {
			s.broken()
			return "", false, false
		}
	}
	s.pos = i
	return view(data[at:i]), whole, true
}

// integer is what became of a number that should be an int64.
type integer uint8

const (
	integerOK integer = iota
	integerFraction
	integerNegative
	integerOverflow
)

// wholeNumber gives the value of a JSON number of at most 2^63-1 that is not
// negative. 12.50e2 is the integer 1250, as in JSON Schema.
func wholeNumber(token string, whole bool) (int64, integer) {
	negative := token[0] == '-'
	if negative {
		token = token[1:]
	}
	if !whole {
		var result integer
		if token, result = expand(token); result != integerOK {
			if result == integerOverflow && negative {
				result = integerNegative
			}
			return 0, result
		}
	}
	var v uint64
	for i := 0; i < len(token); i++ {
		hi, lo := bits.Mul64(v, 10)
		sum, carry := bits.Add64(lo, uint64(token[i]-'0'), 0)
		if hi != 0 || carry != 0 || sum > math.MaxInt64 {
			if negative {
				return 0, integerNegative
			}
			return 0, integerOverflow
		}
		v = sum
	}
	if negative && v != 0 {
		return 0, integerNegative
	}
	return int64(v), integerOK
}

// expand writes a number with fraction or exponent as plain digits, where it is whole.
func expand(token string) (string, integer) {
	mantissa, exponent := token, 0
	for i := 0; i < len(token); i++ {
		if token[i]|0x20 == 'e' {
			mantissa = token[:i]
			const beyond = 1 << 30 // more digits than any record has
			var err error
			if exponent, err = strconv.Atoi(token[i+1:]); err != nil || exponent > beyond || exponent < -beyond {
				exponent = beyond
				if token[i+1] == '-' {
					exponent = -beyond
				}
			}
			break
		}
	}
	var all []byte
	for i := 0; i < len(mantissa); i++ {
		if mantissa[i] == '.' {
			exponent -= len(mantissa) - i - 1
			continue
		}
		all = append(all, mantissa[i])
	}
	for len(all) > 0 && all[0] == '0' {
		all = all[1:]
	}
	for len(all) > 0 && all[len(all)-1] == '0' {
		all, exponent = all[:len(all)-1], exponent+1
	}
	switch {
	case len(all) == 0:
		return "0", integerOK
	case exponent < 0:
		return "", integerFraction
	case len(all)+exponent > 19:
		return "", integerOverflow
	}
	for ; exponent > 0; exponent-- {
		all = append(all, '0')
	}
	return string(all), integerOK
}

// skip consumes one value of any kind, and refuses names that come twice in it
// and nesting deeper than maxDepth.
func (s *scanner) skip() {
	switch c := s.peek(); c {
	case '{', '[':
		switch {
		case s.depth == maxDepth:
			s.skipDeep()
		case c == '{':
			o, _ := s.enter("")
			for _, more := s.field(&o); more; _, more = s.field(&o) {
				s.skip()
			}
		default:
			s.array("")
			for n := 0; s.item(n); n++ {
				s.skip()
			}
		}
	default:
		s.scalar(c)
	}
}

// scalar consumes a value that begins with c and holds no other.
func (s *scanner) scalar(c byte) {
	switch {
	case c == '"':
		s.rawString()
	case c == '-' || c >= '0' && c <= '9':
		s.rawNumber()
	case c == 't':
		s.literal("true")
	case c == 'f':
		s.literal("false")
	case c == 'n':
		s.literal("null")
	default:
		s.broken()
	}
}

// skipDeep refuses a value that is nested too deep and passes over it without
// recursion. Its syntax is still checked: a broken text identifies nobody.
func (s *scanner) skipDeep() {
	s.refuse(ReasonTooDeep, "")
	var closers []byte // of what is open, innermost last
	for fresh := false; !s.halt; {
		c := s.peek()
		if n := len(closers); n > 0 && c == closers[n-1] { // an empty one, or after a value
			s.pos++
			if closers = closers[:n-1]; n == 1 {
				return
			}
			fresh = false
			continue
		} else if n > 0 && !fresh {
			if c != ',' {
				s.broken()
				return
			}
			s.pos++
			c = s.peek()
		}
		if n := len(closers); n > 0 && closers[n-1] == '}' {
			if c != '"' {
				s.broken()
				return
			}
			s.rawString()
			if s.halt || s.peek() != ':' {
				s.broken()
				return
			}
			s.pos++
			c = s.peek()
		}
		if fresh = c == '{' || c == '['; fresh {
			s.pos++
			closers = append(closers, c+2) // '{'+2 is '}', '['+2 is ']'
		} else {
			s.scalar(c)
		}
	}
}
