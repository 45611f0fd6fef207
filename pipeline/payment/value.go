package payment

import (
	"encoding/json"
	"math"
	"strconv"
)

// ValueKind is what a Value holds.
type ValueKind uint8

// The kinds of values. The zero kind is absent: unknown, as NULL in SQL.
const (
	Absent ValueKind = iota
	Int
	Float
	String
	Bool
	Ref // the keyed hash of an identifier: it can be compared, not shown
)

// Value is what a feature reads for one transaction. The zero Value is absent.
type Value struct {
	bits uint64
	str  string
	kind ValueKind
}

// IntValue holds a count, or money in minor units.
func IntValue(v int64) Value { return Value{kind: Int, bits: uint64(v)} }

// FloatValue holds a share, a mean, seconds or a speed. NaN is absent, and there
// is one zero.
func FloatValue(v float64) Value {
	if v != v {
		return Value{}
	}
	if v == 0 {
		v = 0 // not the negative one, which would not read back as it was written
	}
	return Value{kind: Float, bits: math.Float64bits(v)}
}

// SetInt makes an absent value hold a count, or money in minor units.
func (v *Value) SetInt(n int64) { v.bits, v.kind = uint64(n), Int }

// StringValue holds a text.
func StringValue(v string) Value { return Value{kind: String, str: v} }

// BoolValue holds a truth.
func BoolValue(v bool) Value {
	if v {
		return Value{kind: Bool, bits: 1}
	}
	return Value{kind: Bool}
}

// RefValue holds the keyed hash of an identifier.
func RefValue(hash uint64) Value { return Value{kind: Ref, bits: hash} }

// Kind tells what v holds.
func (v *Value) Kind() ValueKind { return v.kind }

// Int returns the value of kind Int.
func (v *Value) Int() int64 { return int64(v.bits) }

// Float returns the value of kind Float.
func (v *Value) Float() float64 { return math.Float64frombits(v.bits) }

// Str returns the value of kind String.
func (v *Value) Str() string { return v.str }

// Bool returns the value of kind Bool.
func (v *Value) Bool() bool { return v.bits != 0 }

// Ref returns the value of kind Ref.
func (v *Value) Ref() uint64 { return v.bits }

// AppendJSON appends the value; an absent one and a Ref are null.
func (v Value) AppendJSON(b []byte) []byte {
	switch v.kind {
	case Int:
		return strconv.AppendInt(b, v.Int(), 10)
	case Float:
		return appendFloat(b, v.Float())
	case String:
		return appendString(b, v.str)
	case Bool:
		return strconv.AppendBool(b, v.Bool())
	}
	return append(b, "null"...)
}

// MarshalJSON implements json.Marshaler.
func (v Value) MarshalJSON() ([]byte, error) { return v.AppendJSON(nil), nil }

// UnmarshalJSON implements json.Unmarshaler. A number without fraction and
// exponent reads as Int.
func (v *Value) UnmarshalJSON(b []byte) error {
	var x any
	if i, err := strconv.ParseInt(string(b), 10, 64); err == nil {
		*v = IntValue(i)
		return nil
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	switch x := x.(type) {
	case float64:
		*v = FloatValue(x)
	case string:
		*v = StringValue(x)
	case bool:
		*v = BoolValue(x)
	default:
		*v = Value{}
	}
	return nil
}
